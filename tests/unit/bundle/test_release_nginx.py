"""nginx's settings of a release: limits and static files."""

from __future__ import annotations

import configparser
from pathlib import Path

import pytest
from conftest import PROGRAMS, release_texts


def test_limits_are_said_where_they_are_not_the_usual_ones(app: Path) -> None:
    # nginx waits longer than uWSGI allows, so that the app's side speaks first.
    assert release_texts(app, limits={"body": "5000", "request": "90s"})["settings/nginx/limits.conf"].splitlines() == [
        "client_max_body_size 5000;",
        "uwsgi_read_timeout 95s;",
        "uwsgi_send_timeout 95s;",
    ]
    said = configparser.ConfigParser()
    said.read_string(release_texts(app, limits={"request": "90s", "threads": "4"})["settings/uwsgi.ini"])
    assert dict(said["uwsgi"]) == {"harakiri": "100", "threads": "4"}
    assert "settings/uwsgi.ini" not in release_texts(app, limits={"body": "5000"})
    assert "settings/nginx/limits.conf" not in release_texts(app, limits={"threads": "4"})


@pytest.mark.parametrize(("prefix", "folder"), [("/static", "static"), ("/static/", "static/")])
def test_static_folders_end_in_one_slash(app: Path, prefix: str, folder: str) -> None:
    text = release_texts(app, static={prefix: folder})["settings/nginx/static.conf"]
    assert "location ^~ /static/ {" in text
    assert "alias /srv/app/current/source/static/;" in text
    assert text.count("{") == text.count("}") == 2
    # Uploads that only the app may read, and files that it makes up, have a page at the app.
    server = (PROGRAMS / "nginx/server.conf").read_text()
    assert "error_page 403 404 = @app;" in text and "location @app {" in server and "try_files /none @app;" in server


def test_django_s_settings_and_static_files(app: Path) -> None:
    found = release_texts(app, wsgi="site.wsgi:application", django={"settings": "site.settings"})
    assert 'DJANGO_SETTINGS_MODULE="app_settings"\n' in found["settings/env"]
    assert 'APP_DJANGO_SETTINGS="site.settings"\n' in found["settings/env"]
    static = found["settings/static-location"]
    assert "location ^~ STATIC_URL/ {" in static and "STATIC_URL" not in static.replace("^~ STATIC_URL/", "")
    assert "alias /var/cache/app/static/;" in static
    assert "    disable_symlinks if_not_owner from=/var/cache/app;\n" in static
    assert "collect.py" in found["settings/jobs/static"] and "collectstatic" in found["settings/collect.py"]
    assert "APP_DJANGO_SETTINGS" in found["settings/django/app_settings.py"]
    assert "APP_DJANGO_SETTINGS" in found["settings/hooks/settings.py"]
    assert not any("DJANGO" in text or "collectstatic" in text for text in release_texts(app, django="off").values())
