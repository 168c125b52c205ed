"""Define the keys of bake.yaml and their types, and the Debian versions and providers that they name."""
