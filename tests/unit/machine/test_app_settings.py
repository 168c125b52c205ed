"""Django's settings on a machine, around a project's own. No Django is needed to read them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from bake.host import paths
from bake.host.programs import run

SETTINGS = str(paths.features() / "django/django/app_settings.py")


@pytest.fixture
def settings(program: Callable[[str], ModuleType]) -> ModuleType:
    return program(SETTINGS)


def test_a_new_project_is_made_fit_for_a_server(settings: ModuleType, tmp_path: Path) -> None:
    beside = {"ENGINE": "django.db.backends.sqlite3", "NAME": settings.SOURCE / "db.sqlite3"}
    theirs = {"DEBUG": True, "ALLOWED_HOSTS": [], "DATABASES": {"default": beside}, "STATIC_URL": "static/"}
    changed = settings.served(theirs, {"APP_DOMAINS": "a.example b.example", "SECRET_KEY": "from the machine"})
    assert changed == {
        "DEBUG": False,
        "ALLOWED_HOSTS": ["a.example", "b.example"],
        "CSRF_TRUSTED_ORIGINS": ["https://a.example", "https://b.example"],
        "SECURE_PROXY_SSL_HEADER": ("HTTP_X_FORWARDED_PROTO", "https"),
        "SECURE_SSL_REDIRECT": False,
        "MIDDLEWARE": ["app_settings.machine"],
        "STATIC_ROOT": "/var/cache/app/static",
        "LOGGING": settings.TO_THE_JOURNAL,
        "SECRET_KEY": "from the machine",
        "DATABASES": {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "/var/lib/app/db.sqlite3"}},
    }


@pytest.mark.parametrize(
    ("theirs", "name", "value"),
    [
        ({"ALLOWED_HOSTS": ["mine.example"]}, "ALLOWED_HOSTS", ["mine.example", "*"]),
        ({"MIDDLEWARE": ("a.b",)}, "MIDDLEWARE", ["app_settings.machine", "a.b"]),
        ({}, "ALLOWED_HOSTS", ["*"]),
        ({"DATABASES": {"default": {"ENGINE": "x.postgresql", "NAME": "shop"}}}, "DATABASES",
         {"default": {"ENGINE": "x.postgresql", "NAME": "shop"}}),
        ({"DATABASES": {"default": {"ENGINE": "x.sqlite3", "NAME": "/data/x.db"}}}, "DATABASES",
         {"default": {"ENGINE": "x.sqlite3", "NAME": "/data/x.db"}}),
        ({"MEDIA_ROOT": "media/"}, "MEDIA_ROOT", "/var/lib/app/media"),
        ({"MEDIA_ROOT": "/data/media"}, "MEDIA_ROOT", None),
        ({"SECRET_KEY": "theirs"}, "SECRET_KEY", None),
        ({"LOGGING": {"version": 1}}, "LOGGING", None),
    ],
)  # fmt: skip
def test_what_a_project_says_well_stays(settings: ModuleType, theirs: dict[str, Any], name: str, value: object) -> None:
    assert settings.served(theirs, {}).get(name) == value


def test_the_module_is_the_project_s_with_ours_on_top(
    program: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "their_settings.py").write_text("DEBUG = True\nROOT_URLCONF = 'site.urls'\nhelper = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("APP_DJANGO_SETTINGS", "their_settings")
    module = program(SETTINGS)
    assert (module.DEBUG, module.ROOT_URLCONF) == (False, "site.urls")
    assert not hasattr(module, "helper")
    sys.modules.pop("their_settings")


def test_the_author_s_server_answers_at_its_own_address_and_is_the_project_else(
    program: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    theirs = "DEBUG = False\nALLOWED_HOSTS = ['shop.example']\nSECURE_SSL_REDIRECT = True\nMIDDLEWARE = ['a.b']\n"
    (tmp_path / "author_settings.py").write_text(theirs)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("APP_DJANGO_SETTINGS", "author_settings")
    monkeypatch.setenv("APP_DJANGO_AUTHOR", "1")
    module = program(SETTINGS)
    assert (module.DEBUG, module.MIDDLEWARE, module.SECURE_SSL_REDIRECT) == (False, ["a.b"], False)
    assert module.ALLOWED_HOSTS == ["shop.example", "localhost", "127.0.0.1", "[::1]"]
    # A manifest of static files is among the collected ones.
    assert module.STATIC_ROOT == module.COLLECTED
    sys.modules.pop("author_settings")


def test_errors_reach_the_journal(settings: ModuleType) -> None:
    program = f"import logging.config; logging.config.dictConfig({settings.TO_THE_JOURNAL!r}); " + (
        "logging.getLogger('django.request').error('Internal Server Error: /x')"
    )
    assert run([sys.executable, "-c", program]).stderr == "Internal Server Error: /x\n"


def test_a_wildcard_is_written_as_django_reads_it(settings: ModuleType) -> None:
    changed = settings.served({}, {"APP_DOMAINS": "a.example *.a.example"})
    assert changed["ALLOWED_HOSTS"] == ["a.example", ".a.example"]
    assert changed["CSRF_TRUSTED_ORIGINS"] == ["https://a.example", "https://*.a.example"]
