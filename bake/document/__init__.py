"""What makes a machine: its files as cloud-init user-data, its settings, and the source of its app."""
