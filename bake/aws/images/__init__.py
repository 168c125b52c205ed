"""AMIs: upload an image as a snapshot and register it, or bake at AWS with Packer."""
