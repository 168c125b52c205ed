"""Which environment variables the import of a module needs."""

from __future__ import annotations

from pathlib import Path

import pytest
from app_folders import needed_variables

from bake.app import detect
from bake.config.recipe import Recipe

FLASK = "import os\nfrom flask import Flask\napp = Flask(__name__)\n"


@pytest.mark.parametrize(
    ("source", "needed"),
    [
        ('KEY = os.environ["KEY"]', {"KEY": 1}),
        ('from os import environ as env\nKEY = env["KEY"]', {"KEY": 2}),
        ('import os as system\nif system.environ["KEY"] == "1":\n    pass', {"KEY": 2}),
        ('X = os.environ["KEY"] or "x"', {"KEY": 1}),
        ('import os\nclient = Client(key=os.environ["KEY"])', {"KEY": 2}),
        ('from os import environ\napp.config["KEY"] = environ["KEY"]', {"KEY": 2}),
        ('class Config:\n    KEY: str = os.environ["KEY"]', {"KEY": 2}),
        ('with open("x") as file:\n    KEY = os.environ["KEY"]', {"KEY": 2}),
        ('from decouple import config\nKEY, PORT = config("KEY"), config("PORT", cast=int)', {"KEY": 2, "PORT": 2}),
        ('from decouple import config\nKEY = config("KEY", default="")\nX = config("X", "")', {}),
        ('from shop import config\nKEY = config("KEY")', {}),
        ('KEY = os.environ.get("KEY")', {}),
        ('KEY = os.getenv("KEY")', {}),
        ('KEY = os.environ["KEY"] if local else ""', {}),
        ('KEY = local and os.environ["KEY"]', {}),
        ('keys = lambda: os.environ["KEY"]', {}),
        ('def key():\n    return os.environ["KEY"]', {}),
        ('if "KEY" in os.environ:\n    KEY = os.environ["KEY"]', {}),
        ('try:\n    KEY = os.environ["KEY"]\nexcept KeyError:\n    KEY = ""', {}),
        ('with suppress(KeyError):\n    KEY = os.environ["KEY"]', {}),
        ("KEY = os.environ[name]", {}),
        ('KEY = request.environ["KEY"]', {}),
    ],
)
def test_a_variable_is_needed_where_the_import_always_reads_it(source: str, needed: dict[str, int]) -> None:
    assert needed_variables(source) == needed


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("X = os.getenv('X')\nif not X:\n    print('no X')\n    raise ValueError('X')", "X"),
        ("from os import getenv\nX = getenv('X')\nif X is None:\n    raise ValueError", "X"),
        ("X, Y = 1, 2\nX = os.environ.get('X')\nY = os.getenv('Y')\nif not X or not Y:\n    sys.exit(1)", "XY"),
        ("X = os.getenv('X')\nY = os.getenv('Y')\nif not (X and Y):\n    exit()", "XY"),
        ("X = os.getenv('X')\nY = os.getenv('Y')\nif not all([X, Y]):\n    raise ValueError", "XY"),
        ("if not (x := os.getenv('X')):\n    raise ValueError", "X"),
        ("if 'X' not in os.environ:\n    raise ValueError", "X"),
        ("X = os.getenv('X')\nY = os.getenv('Y')\nif not X and not Y:\n    raise ValueError", ""),
        ("X = os.getenv('X')\nif not X and production:\n    raise ValueError", ""),
        ("X = os.getenv('X', 'x')\nif not X:\n    raise ValueError", ""),
        ("X = os.getenv('X')\nif not X:\n    X = 'x'", ""),
        ("X = os.getenv('X')\nif debug:\n    X = 'x'\nif not X:\n    raise ValueError", ""),
        ("X = os.getenv('X')\nX = X or 'x'\nif not X:\n    raise ValueError", ""),
    ],
)
def test_a_variable_is_needed_if_the_app_ends_without_it(source: str, names: str) -> None:
    assert "".join(needed_variables(f"import os, sys\n{source}")) == names


@pytest.mark.parametrize(
    "source",
    ['os.environ["KEY"] = "x"', 'os.environ.setdefault("KEY", "x")', 'os.environ.update({"KEY": "x"})'],
)
def test_a_variable_that_the_app_sets_itself_is_not_needed(tmp_path: Path, source: str) -> None:
    assert notes(tmp_path, {"app.py": f'import os\n{source}\nX = os.environ["KEY"]\n' + FLASK}) == []


def notes(folder: Path, files: dict[str, str], **keys: object) -> list[str]:
    for name, text in {"requirements.txt": "flask\n", **files}.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    found = detect.complete(folder, Recipe.model_validate(keys))
    return [note for note in found.notes if "needs the variable" in note]


def test_a_needed_variable_is_reported_before_anything_is_built(tmp_path: Path) -> None:
    files = {
        "app.py": FLASK + 'STRIPE = os.environ["STRIPE_KEY"]\nSITE, HOME = os.environ["SITE"], os.environ["HOME"]\n'
    }
    assert notes(tmp_path, files) == [
        "warning: app.py:4 needs the variable STRIPE_KEY; unless a launch sets it, write  secrets: [STRIPE_KEY]",
        "warning: app.py:5 needs the variable SITE; unless a launch sets it, write  env: {SITE: …}",
    ]
    assert notes(tmp_path, files, secrets=["STRIPE_KEY"], env={"SITE": "x"}) == []


def test_only_modules_that_the_app_imports_count(tmp_path: Path) -> None:
    files = {
        "app.py": "import shop.settings\n" + FLASK,
        "shop/__init__.py": "",
        "shop/settings.py": "from .more import X\n",
        "shop/more.py": 'from decouple import config\nX = config("X")\n',
        "backup.py": 'import os\nBUCKET = os.environ["BUCKET"]\n',
    }
    (note,) = notes(tmp_path, files)
    assert note.startswith("warning: shop/more.py:2 needs the variable X;")


def test_the_settings_of_a_django_project_count(tmp_path: Path) -> None:
    wsgi = "import os\nfrom django.core.wsgi import get_wsgi_application\n"
    wsgi += 'os.environ.setdefault("DJANGO_SETTINGS_MODULE", "site.settings")\napplication = get_wsgi_application()\n'
    files = {
        "site/__init__.py": "",
        "site/wsgi.py": wsgi,
        "site/settings.py": 'import os\nAPI_KEY = os.environ["API_KEY"]\n',
    }
    (note,) = notes(tmp_path, files)
    assert "site/settings.py:2 needs the variable API_KEY;" in note and note.endswith("  secrets: [API_KEY]")


def test_a_file_of_the_release_that_a_library_loads_has_its_variables(tmp_path: Path) -> None:
    app = f'from decouple import config\n{FLASK}X, Y = config("X"), config("Y")\n'
    files = {"app.py": app, "settings.ini": "[settings]\nX = 1\n", ".env": "Y=1\n"}
    # bake excludes .env from the release.
    (note,) = notes(tmp_path, files)
    assert note.startswith("warning: app.py:5 needs the variable Y;")
    assert notes(tmp_path, {**files, ".bakeignore": "!.env\n"}) == []
