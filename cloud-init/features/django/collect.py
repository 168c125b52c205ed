"""Collect and compress the static files of a Django project, and write the path of their URL into a file.

Runs as the app. The file stays empty if the project does not use staticfiles, or if another host serves the files.
"""

from pathlib import Path

import django
from django.apps import apps
from django.conf import settings
from django.core.management import call_command

URL = Path("/var/cache/app/static-url")

if __name__ == "__main__":
    django.setup()  # type: ignore[attr-defined]
    URL.write_text("")
    url = settings.STATIC_URL or ""
    if apps.is_installed("django.contrib.staticfiles") and "//" not in url:
        call_command("collectstatic", interactive=False, clear=True)
        URL.write_text("/" + url.strip("/"))
        # With COMPRESS_OFFLINE, django-compressor answers 500 for pages whose files are not compressed in advance.
        if apps.is_installed("compressor") and settings.COMPRESS_ENABLED and settings.COMPRESS_OFFLINE:
            call_command("compress")
