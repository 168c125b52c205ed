"""Work with this computer: other programs, paths, files, the cache, downloads, git and the terminal."""
