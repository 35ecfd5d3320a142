"""Bodies of requests and responses: JSON, and JSON a line."""
