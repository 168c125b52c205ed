"""Resolve an app's requirements, fetch their wheels, and pack both into the archive of a release."""
