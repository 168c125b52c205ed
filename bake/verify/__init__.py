"""Whether a machine is right, and whether its app answers as it does for its author."""
