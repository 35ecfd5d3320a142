"""The stages of a request, their times, and the request's trace."""
