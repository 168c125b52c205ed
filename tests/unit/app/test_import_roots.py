"""An app whose imports resolve from a subfolder is baked from there."""

from __future__ import annotations

from pathlib import Path

import pytest
from app_folders import DJANGO, FACTORY, FLASK, fails, find
from conftest import write

from bake.app import import_roots, requirements_files, scaffold
from bake.app.detect import complete
from bake.bundle.lock import Requirements
from bake.config import loader
from bake.config.recipe import Recipe
from bake.errors import NoAppError, RequirementError

FLAT = {"backend/app.py": FLASK + "from models import NAMES\n", "backend/models.py": "NAMES = []\n"}


def test_an_app_with_flat_imports_names_the_folder_to_bake(tmp_path: Path) -> None:
    error = fails(NoAppError, tmp_path, {**FLAT, "backend/requirements.txt": "flask\n"})
    assert error.message == "backend/app.py:3 imports models, which Python finds only from the folder backend"
    assert error.hint.startswith(f"Bake that folder: {tmp_path / 'backend'}. If")
    assert complete(tmp_path / "backend", Recipe()).recipe.wsgi == "app:app"


def test_an_import_in_a_factory_counts(tmp_path: Path) -> None:
    factory = "from flask import Flask\ndef create_app():\n    from models import x\n    return Flask('x')\n"
    error = fails(NoAppError, tmp_path, {"backend/app.py": factory, "backend/models.py": "x = 1\n"})
    assert error.message.startswith("backend/app.py:3 imports models")


def test_requirements_above_the_folder_need_one_line(tmp_path: Path) -> None:
    hint = fails(NoAppError, tmp_path, FLAT).hint
    line = "requirements: ../requirements.txt"
    assert f"Bake that folder: {tmp_path / 'backend'}, with a bake.yaml in it that has the line `{line}`." in hint
    folder = tmp_path / "backend"
    with pytest.raises(RequirementError) as caught:
        complete(folder, loader.read(folder))
    assert caught.value.details.splitlines()[0] == line
    notes: list[str] = []
    scaffold.write(folder, notes)
    assert notes == [f"{folder} has no requirements.txt or other file that lists the app's requirements, but "
                     "../requirements.txt: check `requirements`"]  # fmt: skip
    recipe = complete(folder, loader.read(folder)).recipe
    assert recipe.wsgi == "app:app"
    assert [row.location for row in Requirements.read(folder, recipe, recipe.target).lines] == ["../requirements.txt:1"]


def test_the_files_above_a_repository_are_not_proposed(tmp_path: Path) -> None:
    write(tmp_path, {"requirements.txt": "flask\n", "shop/app.py": FLASK, "shop/.git/HEAD": ""})
    assert requirements_files.file_above(tmp_path / "shop") == ""


def test_a_package_with_imports_of_python_2_is_told_the_import_to_write(tmp_path: Path) -> None:
    files = {"shop/__init__.py": FLASK + "from models import x\n", "shop/models.py": "x = 1\n"}
    error = fails(NoAppError, tmp_path, {**files, "run.py": "from shop import app\n"})
    assert error.message.startswith("shop/__init__.py:3 imports models")
    assert error.hint == "Python 3 does not search a package's own folder: write `from shop.models import …`."


def test_a_django_project_in_a_subfolder_names_the_folder_to_bake(tmp_path: Path) -> None:
    files = {f"backend/{name}": text for name, text in DJANGO.items()}
    files["backend/site1/wsgi.py"] += "import os\nos.environ.setdefault('DJANGO_SETTINGS_MODULE', 'site1.settings')\n"
    error = fails(NoAppError, tmp_path, files)
    assert error.message == (
        "backend/site1/wsgi.py sets DJANGO_SETTINGS_MODULE to site1.settings, "
        "which Python finds only from the folder backend"
    )


def test_the_sandbox_of_a_package_needs_the_package_itself(tmp_path: Path) -> None:
    """The project's file above lists only what the package needs."""
    settings = "from oscar.defaults import *\nMIDDLEWARE = ['whitenoise.middleware.WhiteNoiseMiddleware']\n"
    files = {
        "sandbox/wsgi.py": f"import os\nos.environ['DJANGO_SETTINGS_MODULE'] = 'settings'\n{DJANGO['site1/wsgi.py']}",
        "sandbox/settings.py": f"{settings}INSTALLED_APPS = ['django.contrib.admin', 'oscar', 'taggit', 'mine']\n",
        "pyproject.toml": "[project]\nname = 'django-oscar'\nversion = '1'\ndependencies = ['purl']\n",
        "src/oscar/__init__.py": "",
    }
    write(tmp_path, files)
    with pytest.raises(NoAppError) as wrong_folder:
        complete(tmp_path, Recipe())
    assert wrong_folder.value.hint.startswith(f"Bake that folder: {tmp_path / 'sandbox'}. If")
    with pytest.raises(RequirementError) as caught:
        complete(tmp_path / "sandbox", Recipe())
    assert caught.value.details == "requirements: [django, django-oscar, django-taggit, whitenoise]"
    assert caught.value.hint.endswith("bake does not know which packages contain mine.")


def test_a_named_app_with_flat_imports_is_a_warning(tmp_path: Path) -> None:
    completed = find(tmp_path, FLAT, wsgi="backend.app:app")
    assert any(note.startswith("warning: backend/app.py:3 imports models") for note in completed.notes)


@pytest.mark.parametrize(
    "files",
    [
        {"shop/app.py": FLASK + "from shop.models import x\nfrom . import models\n", "shop/models.py": ""},
        {"shop/app.py": FLASK + "import redis\n", "shop/redis.py": "", "requirements.txt": "flask\nredis\n"},
        {"shop/app.py": FLASK + "import json\n", "shop/json.py": ""},
        {"shop/app.py": FLASK + "import celery\n", "shop/celery.py": ""},
        {"shop/redis.py": FLASK + "import redis\n"},
        {"src/app.py": FLASK + "import models\n", "src/models.py": ""},
        {"src/__init__.py": "", "src/app.py": FLASK + "import models\n", "src/models.py": ""},
    ],
)
def test_imports_that_resolve_are_no_obstacle(tmp_path: Path, files: dict[str, str]) -> None:
    assert find(tmp_path, {**files}).recipe.wsgi


def test_an_app_in_a_folder_with_a_hyphen_is_named(tmp_path: Path) -> None:
    error = fails(NoAppError, tmp_path, {"my-app/app.py": FLASK, "web/old-site/x.py": "y = 1\n"})
    assert error.message == f"bake found no WSGI or ASGI app in {tmp_path}, but one in its folder my-app"
    assert error.hint == f"Bake that folder: {tmp_path / 'my-app'}."
    assert list(import_roots.other_folders(tmp_path)) == ["my-app"]


def test_the_requirements_beside_the_app_count(tmp_path: Path) -> None:
    write(tmp_path, {"backend/app.py": FLASK, "backend/requirements.txt": "flask\n"})
    assert complete(tmp_path, Recipe()).recipe.requirements == "backend/requirements.txt"


VIEWS = "from flask import Blueprint\nbp = Blueprint('x', __name__)\n"


@pytest.mark.parametrize(
    ("files", "place"),
    [
        ({"__init__.py": FLASK + "from . import views\n", "views.py": VIEWS}, "__init__.py:3 imports from ."),
        ({"__init__.py": "", "main.py": FLASK + "from .views import bp\n", "views.py": VIEWS},
         "main.py:3 imports from .views"),
        (
            {"__init__.py": FACTORY.replace("():\n", "():\n    from . import views\n"), "views.py": VIEWS},
            "__init__.py:3 imports from .",
        ),
        ({"__init__.py": "", "main.py": FLASK + "import shop.views\n", "views.py": VIEWS}, "main.py:3 imports shop"),
        (
            {"__init__.py": "", "main.py": FLASK + "import web.views\n", "web/__init__.py": "",
             "web/views.py": "from ..models import x\n", "models.py": ""}, "web/views.py:1 imports from ..models",
        ),
    ],
)  # fmt: skip
def test_a_folder_that_is_itself_the_package_is_named(tmp_path: Path, files: dict[str, str], place: str) -> None:
    folder = tmp_path / "shop"
    error = fails(NoAppError, folder, files)
    assert error.message.startswith(f"{place}, so the app's folder is itself a package")
    assert f"Bake the folder above: {tmp_path}." in error.hint and "Rename" not in error.hint
    assert str(complete(tmp_path, Recipe()).recipe.wsgi).startswith("shop")
    folder.rename(tmp_path / "my-shop")
    if "imports shop" not in place:
        assert " Rename my-shop " in fails(NoAppError, tmp_path / "my-shop", files).hint


def test_a_relative_import_with_an_alternative_is_no_obstacle(tmp_path: Path) -> None:
    text = "try:\n    from .views import bp\nexcept ImportError:\n    from views import bp\n"
    assert find(tmp_path, {"app.py": FLASK + text, "views.py": VIEWS}).recipe.wsgi == "app:app"
    text = "from . import views\n"
    files = {"src/shop/__init__.py": FLASK + text, "src/shop/views.py": VIEWS, "app.py": "", "views.py": ""}
    assert find(tmp_path, files).recipe.wsgi == "shop:app"


def test_settings_that_only_a_subfolder_finds_name_it_even_if_their_file_is_missing(tmp_path: Path) -> None:
    wsgi = "import os\nos.environ.setdefault('DJANGO_SETTINGS_MODULE', 'shop.conf.settings')\n"
    wsgi += DJANGO["site1/wsgi.py"]
    files = {"web/shop/wsgi.py": wsgi, "web/shop/conf/base.py": "", "web/shop/conf/settings.py.example": ""}
    error = fails(NoAppError, tmp_path, files)
    assert error.message.startswith("web/shop/wsgi.py sets DJANGO_SETTINGS_MODULE to shop.conf.settings, which")
    assert str(tmp_path / "web") in error.hint


def test_the_package_of_a_django_project_names_the_folder_above(tmp_path: Path) -> None:
    wsgi = "import os\nos.environ.setdefault('DJANGO_SETTINGS_MODULE', 'site1.settings')\n" + DJANGO["site1/wsgi.py"]
    write(tmp_path, {**DJANGO, "site1/wsgi.py": wsgi, "site1/__init__.py": "", "shop/models.py": ""})
    with pytest.raises(NoAppError) as caught:
        complete(tmp_path / "site1", Recipe())
    assert caught.value.message.startswith("wsgi.py sets DJANGO_SETTINGS_MODULE to site1.settings, so the app's folder")
    assert caught.value.hint == f"Bake the folder above: {tmp_path}."
    with pytest.raises(NoAppError) as caught:
        complete(tmp_path / "shop", Recipe())
    assert caught.value.hint == f"Bake the project's folder: {tmp_path}."


def test_a_folder_with_the_name_of_the_framework_is_baked_itself(tmp_path: Path) -> None:
    error = fails(NoAppError, tmp_path, {"flask/app.py": FLASK})
    assert error.message == "flask/app.py:1 imports flask, which Python finds only from the folder flask"
    assert f"Bake that folder: {tmp_path / 'flask'}" in error.hint
    assert find(tmp_path / "other", {"web/app.py": f"from web.names import x\n{FLASK}", "web/names.py": "x = 1\n"})
