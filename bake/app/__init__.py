"""Read an app's folder without running its code: the entry, the requirements, and the paths that the app writes."""
