"""Write the files, the settings and the app's source of a machine as cloud-init user-data."""
