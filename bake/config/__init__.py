"""What a person writes: the keys of bake.yaml and their types, with the Debian versions and providers they name."""
