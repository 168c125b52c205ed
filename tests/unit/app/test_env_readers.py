"""Which variables the objects of libraries need."""

from __future__ import annotations

from pathlib import Path

import pytest
from app_folders import FLASK, IMPORT, find, needed_variables

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
    assert needed_variables(source) == needed


def notes(folder: Path, files: dict[str, str]) -> list[str]:
    return [note for note in find(folder, files).notes if "needs the variable" in note]


def test_an_object_that_another_module_creates_reads_variables(tmp_path: Path) -> None:
    files = {
        "app.py": f"import settings.production\n{FLASK}",
        "settings/__init__.py": "",
        "settings/base.py": DJANGO_ENVIRON,
        "settings/more.py": "from .base import *\nfrom .base import other\nother('OTHER')\n",
        "settings/production.py": "from .more import env\nHOST = env('MAIL_HOST')\nDEBUG = env.bool('DEBUG')\n",
    }
    (note,) = notes(tmp_path, files)
    assert note.startswith("warning: settings/production.py:2 needs the variable MAIL_HOST;")


def test_the_function_that_creates_the_app_reads_variables_with_the_object_of_its_module(tmp_path: Path) -> None:
    factory = "def create_app():\n    app = Flask(__name__)\n    env('HOST')\n    return app\n"
    (note,) = notes(tmp_path, {"app.py": f"{IMPORT}{ENVIRONS}{factory}"})
    assert note.startswith("warning: app.py:7 needs the variable HOST;")
