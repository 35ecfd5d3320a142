"""Limits on what precedes a body: the query, headers, and bytes around chunks."""

# Bytes of the head, trailers, chunk framing and blank lines.
MOST_BYTES_OUTSIDE_BODIES = 65_536
MOST_HEADERS = 100
LONGEST_HEADER = 8192  # bytes of the value, and of the name
MOST_PARAMETERS = 32
LONGEST_QUERY = 8192  # bytes
