"""Connections under HTTP: how many, how long, and how their bytes are taken."""
