"""Problem documents (RFC 9457): their kinds, and what errors become."""
