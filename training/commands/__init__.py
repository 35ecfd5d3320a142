"""What `instructerc-train` can be told to do."""
