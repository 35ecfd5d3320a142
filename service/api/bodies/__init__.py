"""Bodies of requests and responses: JSON and NDJSON."""
