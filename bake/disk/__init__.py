"""The disks that a bake starts from: Debian's packages on a new disk, or somebody's cloud image."""
