"""Request headers, parsed and checked."""
