"""Keep app_settings active if the project's wsgi.py assigns DJANGO_SETTINGS_MODULE. Runs before wsgi.py."""

import os

from django.conf import LazySettings

NAME = "DJANGO_SETTINGS_MODULE"


def set_up(settings: LazySettings, name: str | None = None, original: object = LazySettings._setup) -> None:
    """Load app_settings, which wraps the module that the project assigned last."""
    named = os.environ.get(NAME, "app_settings")
    if named != "app_settings":
        os.environ["APP_DJANGO_SETTINGS"] = named
    os.environ[NAME] = "app_settings"
    original(settings, name)  # type: ignore[operator]


LazySettings._setup = set_up
