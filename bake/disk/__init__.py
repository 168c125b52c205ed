"""Make the disk that a bake starts from: Debian's packages on a new disk, or a cloud image."""
