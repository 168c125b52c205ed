"""Keep app_settings in force where the project's own wsgi.py assigns DJANGO_SETTINGS_MODULE. Runs before that."""

import os

from django.conf import LazySettings

NAME = "DJANGO_SETTINGS_MODULE"


def set_up(settings: LazySettings, name: str | None = None, original: object = LazySettings._setup) -> None:
    """Load app_settings around the module that the project named last."""
    named = os.environ.get(NAME, "app_settings")
    if named != "app_settings":
        os.environ["APP_DJANGO_SETTINGS"] = named
    os.environ[NAME] = "app_settings"
    original(settings, name)


LazySettings._setup = set_up
