"""The commands of `instructerc-train`."""
