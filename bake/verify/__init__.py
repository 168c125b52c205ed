"""Check a machine, and compare the responses of its app with those of the author's server."""
