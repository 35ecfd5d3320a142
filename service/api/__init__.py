"""HTTP, and nothing else: what requests and answers look like."""
