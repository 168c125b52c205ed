"""Which environment variables the import of a module needs."""

from __future__ import annotations

import ast
from pathlib import Path, PurePosixPath

import pytest

from bake.app import detect
from bake.app.scopes import Module
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
    assert reads(source) == needed


def reads(source: str) -> dict[str, int]:
    return Module("app", PurePosixPath("app.py"), ast.parse(source)).variables.reads


DJANGO_ENVIRON = "import environ\nenv = environ.Env(DEBUG=(bool, False), NAME=str)\n"
ENVIRONS = "from environs import Env\nenv = Env()\nenv.read_env()\n"
STARLETTE = "from starlette.config import Config\nconfig = Config('.env')\n"


@pytest.mark.parametrize(
    ("source", "needed"),
    [
        (DJANGO_ENVIRON + 'KEY = env("KEY")', {"KEY": 3}),
        (DJANGO_ENVIRON + 'KEY, X = env.str("KEY"), env("X", str)', {"KEY": 3, "X": 3}),
        (DJANGO_ENVIRON + 'DATABASES = {"default": env.db(), "x": env.db("X_URL")}', {"DATABASE_URL": 3, "X_URL": 3}),
        (DJANGO_ENVIRON + 'NAME = env("NAME")\nif env.bool("LOCAL"):\n    X = env("X")', {"NAME": 3, "LOCAL": 4}),
        (DJANGO_ENVIRON + 'DEBUG, X, Y = env("DEBUG"), env("X", default=""), env.str("Y", "")', {}),
        (DJANGO_ENVIRON + 'X = env.db("DATABASE_URL", default="sqlite:///x")\nY = env("Y", str, "")', {}),
        (DJANGO_ENVIRON + 'env.read_env(".env")\nX = env.get_value("X", **options)', {}),
        ('import environ\nenv = environ.Env(**scheme)\nX = env("X")', {}),
        ('from environ import Env\nX = Env()("X")', {"X": 2}),
        (ENVIRONS + 'X, Y = env.str("X"), env("Y")', {"X": 4, "Y": 4}),
        (ENVIRONS + 'X, Y, Z = env.str("X", "x"), env("Y", None), env.int("Z", default=1)', {}),
        (ENVIRONS + 'with env.prefixed("SHOP_"):\n    X = env("X")', {}),
        (ENVIRONS + 'def late():\n    return env("X")', {}),
        ('from environs import env\nX = env.url("X")', {"X": 2}),
        ('from environs import Env\nenv = Env(eager=False)\nX = env("X")', {}),
        (STARLETTE + 'X, Y = config("X"), config("Y", cast=bool)', {"X": 3, "Y": 3}),
        (STARLETTE + 'X = config("X", cast=bool, default=False)\nY = config("Y", str, "")', {}),
        ("from starlette.config import Config\nX = Config()('X')", {"X": 2}),
        ("from shop import env\nX = env('X')", {}),
    ],
)
def test_the_objects_of_libraries_read_variables(source: str, needed: dict[str, int]) -> None:
    assert reads(source) == needed


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
    assert "".join(reads(f"import os, sys\n{source}")) == names


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


def test_an_object_that_another_module_creates_reads_variables(tmp_path: Path) -> None:
    files = {
        "app.py": "import settings.production\n" + FLASK,
        "settings/__init__.py": "",
        "settings/base.py": DJANGO_ENVIRON,
        "settings/more.py": "from .base import *\nfrom .base import other\nother('OTHER')\n",
        "settings/production.py": "from .more import env\nHOST = env('MAIL_HOST')\nDEBUG = env.bool('DEBUG')\n",
    }
    assert [note.partition(";")[0] for note in notes(tmp_path, files)] == [
        "warning: settings/production.py:2 needs the variable MAIL_HOST"
    ]


def test_the_function_that_creates_the_app_reads_variables_with_the_object_of_its_module(tmp_path: Path) -> None:
    factory = "def create_app():\n    app = Flask(__name__)\n    env('HOST')\n    return app\n"
    (note,) = notes(tmp_path, {"app.py": f"from flask import Flask\n{ENVIRONS}{factory}"})
    assert note.startswith("warning: app.py:7 needs the variable HOST;")


def test_a_file_of_the_release_that_a_library_loads_has_its_variables(tmp_path: Path) -> None:
    app = f'from decouple import config\n{FLASK}X, Y = config("X"), config("Y")\n'
    files = {"app.py": app, "settings.ini": "[settings]\nX = 1\n", ".env": "Y=1\n"}
    # bake excludes .env from the release.
    (note,) = notes(tmp_path, files)
    assert note.startswith("warning: app.py:5 needs the variable Y;")
    assert notes(tmp_path, {**files, ".bakeignore": "!.env\n"}) == []
