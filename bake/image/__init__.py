"""The pipeline from an app's folder to a checked image."""
