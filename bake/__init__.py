"""bake: from a Python web app's folder to a running, secured machine."""

__version__ = "0.1.0"
