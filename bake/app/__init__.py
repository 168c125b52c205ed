"""What an app's folder says, read and never run: its entry, its requirements, what it writes."""
