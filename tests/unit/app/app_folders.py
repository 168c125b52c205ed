"""Write an app's folder and detect its recipe, for tests."""

from __future__ import annotations

import ast
from pathlib import Path, PurePosixPath

import pytest
from conftest import write

from bake.app.detect import Detection, complete
from bake.app.scopes import Module
from bake.config.recipe import Recipe
from bake.errors import BakeError

IMPORT = "from flask import Flask\n"
MAIN = 'if __name__ == "__main__":\n'
FACTORY = IMPORT + "def create_app():\n    app = Flask(__name__)\n    return app\n"
FLASK = IMPORT + "app = Flask(__name__)\n"


SETTINGS = """
SECRET_KEY = 'django-insecure-1234'
INSTALLED_APPS = ['django.contrib.admin', 'django.contrib.staticfiles']
STATIC_URL = 'static/'
"""
DJANGO = {
    "manage.py": "import os\nos.environ.setdefault('DJANGO_SETTINGS_MODULE', 'site1.settings')\n",
    "site1/settings.py": SETTINGS,
    "site1/wsgi.py": "from django.core.wsgi import get_wsgi_application\napplication = get_wsgi_application()\n",
}


def find(folder: Path, files: dict[str, str], **keys: object) -> Detection:
    return complete(write(folder, {"requirements.txt": "flask\n", **files}), Recipe.model_validate(keys))


def fails(kind: type[BakeError], folder: Path, files: dict[str, str], **keys: object) -> BakeError:
    with pytest.raises(kind) as caught:
        find(folder, files, **keys)
    return caught.value


def needed_variables(source: str) -> dict[str, int]:
    """Return the variables that a module needs, each with the line."""
    return Module("app", PurePosixPath("app.py"), ast.parse(source)).variables.reads
