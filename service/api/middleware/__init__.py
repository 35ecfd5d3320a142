"""Middleware: what happens around every request before it reaches its route."""
