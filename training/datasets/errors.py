"""What corpus loaders refuse."""


class DatasetError(ValueError):
    """A corpus file is not what its loader expects; the message names file and line."""
