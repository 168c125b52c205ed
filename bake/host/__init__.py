"""This computer: other programs, paths, files, the cache, downloads, git, the terminal."""
