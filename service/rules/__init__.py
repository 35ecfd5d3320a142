"""The rules file, and the endpoints that it names: who is told of a match, where, and how."""
