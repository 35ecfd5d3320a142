"""Makes the merged models that the service loads. Imports the service, never the reverse."""
