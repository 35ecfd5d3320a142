"""The headers of requests: what each asks for, and whether it is understood."""
