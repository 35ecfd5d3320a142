"""The embedded demonstration store: Qdrant Edge in this process, data in one folder."""
