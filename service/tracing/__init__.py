"""Where the time of a request goes: its stages, and the trace that it belongs to."""
