"""Django projects: their settings for production, and their secret key."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest
from app_folders import DJANGO, FLASK, SETTINGS, fails, find

from bake.app.name_resolution import Reader
from bake.app.scopes import Module
from bake.config.sections import Django
from bake.errors import NoAppError


def test_a_django_project_gets_settings_around_its_own(tmp_path: Path) -> None:
    found = find(tmp_path, DJANGO, secrets=["API_KEY"])
    assert found.recipe.wsgi == "site1.wsgi:application"
    assert found.recipe.django == Django(settings="site1.settings")
    assert (found.recipe.secrets, found.recipe.random_secrets) == (("API_KEY",), ("SECRET_KEY",))
    assert any("DEBUG off" in note and "`django: off`" in note for note in found.notes)
    off = find(tmp_path, {}, django="off").recipe
    assert (off.django, off.random_secrets) == ("off", ())


def test_a_settings_package_and_a_key_from_elsewhere(tmp_path: Path) -> None:
    files = {
        "site1/settings/__init__.py": "from .dev import *\n",
        "site1/settings/dev.py": "from .base import *\nDEBUG = True\n",
        "site1/settings/base.py": SETTINGS.replace("'django-insecure-1234'", "os.environ['KEY']").replace(
            "static/", "/x/"
        ),
    }
    found = find(tmp_path, {name: text for name, text in {**DJANGO, **files}.items() if name != "site1/settings.py"})
    assert found.recipe.django == Django(settings="site1.settings")
    assert found.recipe.random_secrets == ("KEY",)


def test_the_settings_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []

    def tree(reader: Reader, module: Module) -> ast.Module:
        read.append(module.name)
        return original(reader, module)

    original = Reader.tree
    monkeypatch.setattr(Reader, "tree", tree)
    find(tmp_path, DJANGO)
    assert read.count("site1.settings") == 1


def test_the_settings_are_those_of_the_wsgi_module(tmp_path: Path) -> None:
    """As templates have it: manage.py names settings for development, wsgi.py those for a server."""
    files = {
        **DJANGO,
        "manage.py": "import os\nos.environ.setdefault('DJANGO_SETTINGS_MODULE', 'site1.settings.local')\n",
        "site1/settings/__init__.py": "",
        "site1/settings/local.py": SETTINGS,
        "site1/settings/production.py": "from .local import *\nSECRET_KEY: str = 'django-insecure-annotated'\n",
    }
    del files["site1/settings.py"]
    for line in (
        "os.environ.setdefault('DJANGO_SETTINGS_MODULE', 'site1.settings.production')",
        "os.environ['DJANGO_SETTINGS_MODULE'] = 'site1.settings.production'",
    ):
        found = find(tmp_path, {**files, "site1/wsgi.py": f"import os\n{line}\n{DJANGO['site1/wsgi.py']}"}).recipe
        assert found.django == Django(settings="site1.settings.production")
        assert found.random_secrets == ("SECRET_KEY",)
    found = find(tmp_path, {}, env={"DJANGO_SETTINGS_MODULE": "site1.settings.local"}).recipe
    assert found.django == Django(settings="site1.settings.local")


@pytest.mark.parametrize(
    ("key", "recipe", "names"),
    [
        ("os.environ.get('KEY', 'django-insecure-1234')", {}, ("KEY",)),
        ("os.environ.get('KEY', 'django-insecure-1234')", {"secrets": ["KEY"]}, ()),
        ("os.environ.get('KEY', 'django-insecure-1234')", {"env": {"KEY": "x"}}, ()),
        ("envsecret('SECRET_KEY', '---')", {}, ("SECRET_KEY",)),
        ("'django-insecure-1234'", {"secrets": ["SECRET_KEY"]}, ()),
        ("'only the author knows it'", {}, ()),
        ("read('key.txt')", {}, ()),
    ],
)
def test_each_machine_generates_the_project_s_key(
    tmp_path: Path, key: str, recipe: dict[str, Any], names: tuple[str, ...]
) -> None:
    settings = SETTINGS.replace("'django-insecure-1234'", key)
    found = find(tmp_path, {**DJANGO, "site1/settings.py": settings}, **recipe)
    assert found.recipe.random_secrets == names
    warned = any(note.startswith("warning: site1.settings has the session key") for note in found.notes)
    assert warned is ("only the author" in key)


def test_uploads_are_served_where_the_author_s_server_does(tmp_path: Path) -> None:
    urls = "from django.conf.urls.static import static\nif settings.DEBUG:\n    urlpatterns += static(settings.%s)\n"
    found = find(tmp_path, {**DJANGO, "site1/urls.py": urls % "MEDIA_URL, document_root=settings.MEDIA_ROOT"})
    assert found.recipe.django == Django(settings="site1.settings", media=True)
    assert find(tmp_path, {"site1/urls.py": urls % "STATIC_URL"}).recipe.django == Django(settings="site1.settings")


def test_a_site_without_domains_is_told_of_those_in_its_settings(tmp_path: Path) -> None:
    hosts = f"{SETTINGS}ALLOWED_HOSTS = ['127.0.0.1', '.shop.example', 'shop.example']\n"
    note = "domains: not set, so the site accepts any host name; ALLOWED_HOSTS suggests  domains: [shop.example]"
    assert note in find(tmp_path, {**DJANGO, "site1/settings.py": hosts}).notes
    assert note not in find(tmp_path, {}, domains=["a.example"]).notes


def test_no_django_no_settings(tmp_path: Path) -> None:
    assert find(tmp_path, {"app.py": FLASK}).recipe.django is None


def test_a_proposed_domain_is_a_public_one(tmp_path: Path) -> None:
    hosts = 'ALLOWED_HOSTS = ["localhost", "127.0.0.1", "shop.example"]\n'
    wsgi = "import os\nfrom django.core.wsgi import get_wsgi_application\n"
    wsgi += 'os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings")\napplication = get_wsgi_application()\n'
    found = find(tmp_path, {"wsgi.py": wsgi, "settings.py": hosts})
    (note,) = [note for note in found.notes if "ALLOWED_HOSTS suggests" in note]
    assert note.endswith("domains: [shop.example]")
    joined = hosts.replace('", "', " ").replace('["', '"').replace('"]', '".split()')
    assert note in find(tmp_path, {"settings.py": joined}).notes
    joined = joined.replace(" shop.example", "")
    assert not [note for note in find(tmp_path, {"settings.py": joined}).notes if "ALLOWED_HOSTS suggests" in note]
    found = find(tmp_path, {"settings.py": hosts.replace(', "shop.example"', "")})
    assert not [note for note in found.notes if "ALLOWED_HOSTS suggests" in note]


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("Dockerfile", "RUN DJANGO_SETTINGS_MODULE=site1.build make\nENV A=1 \\\n DJANGO_SETTINGS_MODULE=site1.live\n"),
        ("Procfile", "web: gunicorn site1.wsgi --env DJANGO_SETTINGS_MODULE=site1.live\n"),
        ("render.yaml", "services:\n- envVars:\n  - key: DJANGO_SETTINGS_MODULE\n    value: site1.live\n"),
        ("app.json", '{"env": {"DJANGO_SETTINGS_MODULE": {"value": "site1.live"}}}'),
        ("fly.toml", '[env]\nDJANGO_SETTINGS_MODULE = "site1.live"\n'),
    ],
)  # fmt: skip
def test_the_settings_for_another_host_come_before_those_of_the_wsgi_module(
    tmp_path: Path, file: str, text: str
) -> None:
    detection = find(tmp_path, {**DJANGO, "site1/live.py": SETTINGS, "site1/build.py": SETTINGS, file: text})
    assert detection.recipe.django == Django(settings="site1.live")
    assert any(f"based on site1.live ({file}): DEBUG off" in note for note in detection.notes)


def test_settings_for_development_are_a_warning_with_the_line_for_production(tmp_path: Path) -> None:
    files = {**DJANGO, "site1/settings/dev.py": SETTINGS, "site1/settings/prod.py": SETTINGS}
    del files["site1/settings.py"]
    files["site1/wsgi.py"] += "import os\nos.environ.setdefault('DJANGO_SETTINGS_MODULE', 'site1.settings.dev')\n"
    line = "env: {DJANGO_SETTINGS_MODULE: site1.settings.prod}"
    notes = find(tmp_path, files).notes
    assert f"warning: site1.settings.dev is for development; to use site1.settings.prod, write  {line}" in notes
    named = find(tmp_path, {}, env={"DJANGO_SETTINGS_MODULE": "site1.settings.prod"})
    assert named.recipe.django == Django(settings="site1.settings.prod")


WSGI = "import os\nos.environ.setdefault('DJANGO_SETTINGS_MODULE', 'site1.settings')\n" + DJANGO["site1/wsgi.py"]


@pytest.mark.parametrize(
    ("example", "step"),
    [
        ("settings.py.example", "Copy site1/settings.py.example to site1/settings.py, and adapt it."),
        ("settings_template.py", "Copy site1/settings_template.py to site1/settings.py, and adapt it."),
        ("urls.py", "Create site1/settings.py."),
    ],
)
def test_missing_settings_are_refused_with_the_file_to_copy(tmp_path: Path, example: str, step: str) -> None:
    files = {"site1/wsgi.py": WSGI, f"site1/{example}": ""}
    error = fails(NoAppError, tmp_path, files)
    assert error.message.endswith("DJANGO_SETTINGS_MODULE to site1.settings, and site1/settings.py does not exist")
    assert error.hint.startswith(step)
    assert find(tmp_path, files, env={"DJANGO_SETTINGS_MODULE": "elsewhere.settings"}).recipe.django is None


def test_settings_of_an_installed_package_are_not_missing(tmp_path: Path) -> None:
    wsgi = WSGI.replace("site1.settings", "installed.settings")
    assert find(tmp_path, {"site1/wsgi.py": wsgi}).recipe.wsgi == "site1.wsgi:application"


def test_settings_that_git_ignores_are_refused_with_the_line_that_includes_them(tmp_path: Path) -> None:
    files = {"site1/wsgi.py": WSGI, "site1/settings.py": SETTINGS, ".gitignore": "settings.py\n"}
    error = fails(NoAppError, tmp_path, files)
    assert error.message.endswith("and an ignore file excludes site1/settings.py")
    assert error.hint.startswith("Add the line `!/site1/settings.py` to .bakeignore")
    found = find(tmp_path, {**files, ".bakeignore": "!/site1/settings.py\n"})
    assert found.recipe.django == Django(settings="site1.settings")
