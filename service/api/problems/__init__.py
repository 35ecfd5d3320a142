"""Problem documents (RFC 9457): their kinds, and how errors map to them."""
