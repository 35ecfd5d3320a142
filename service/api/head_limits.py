"""Limits on what precedes a body: the query, headers, and bytes around chunks."""

# Bytes of a head, of trailers, of what surrounds the chunks of a body, of blank lines.
MOST_BYTES_OUTSIDE_BODIES = 65_536
MOST_HEADERS = 100
LONGEST_HEADER = 8192  # bytes of its value, and of its name
MOST_PARAMETERS = 32
LONGEST_QUERY = 8192  # bytes
