"""Connections under HTTP: how many, for how long, and how their bytes are read."""
