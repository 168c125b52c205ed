"""The version of a framework decides whether its app is a WSGI app."""

from __future__ import annotations

from pathlib import Path

import pytest
from app_folders import find

FLASK_APP = "import connexion\napp = connexion.FlaskApp('x')\n"
WSGI_APP = f"{FLASK_APP}application = app.app\n"
FACTORY = "from connexion import App\ndef create_app():\n    app = App('x')\n    return app.app\n"
ASYNC_APP = "from connexion import AsyncApp\napp = AsyncApp('x')\n"
LOCK = """[[package]]
name = "connexion"
version = "2.14.2"
"""
PROJECT = """[tool.poetry.dependencies]
python = ">=3.11"
connexion = "*"
"""


@pytest.mark.parametrize(
    ("source", "requirements", "wsgi", "asgi"),
    [
        (FLASK_APP, "connexion[flask]", None, "app:app"),
        (FLASK_APP, "connexion>=2.14", None, "app:app"),
        (FLASK_APP, "connexion==3.2.0", None, "app:app"),
        (FLASK_APP, "connexion==2.14.2", "app:app.app", None),
        (FLASK_APP, "connexion[swagger-ui]<3", "app:app.app", None),
        (FLASK_APP, "connexion>=2.6,<3.0", "app:app.app", None),
        (FLASK_APP, "flask", None, "app:app"),
        (WSGI_APP, "connexion~=2.7", "app:application", None),
        (WSGI_APP, "connexion", None, "app:app"),
        (FACTORY, "connexion<3", "app:create_app()", None),
        (ASYNC_APP, "connexion", None, "app:app"),
    ],
)
def test_an_app_of_connexion_is_an_asgi_app_since_version_3(
    tmp_path: Path, source: str, requirements: str, wsgi: str | None, asgi: str | None
) -> None:
    recipe = find(tmp_path, {"app.py": source, "requirements.txt": f"{requirements}\n"}).recipe
    assert (recipe.wsgi, recipe.asgi) == (wsgi, asgi)


def test_a_lock_and_the_recipe_have_the_version_as_well(tmp_path: Path) -> None:
    files = {"app.py": FLASK_APP, "requirements.txt": "", "poetry.lock": LOCK, "pyproject.toml": PROJECT}
    recipe = find(tmp_path, files, requirements="poetry.lock").recipe
    assert recipe.wsgi == "app:app.app"
    assert find(tmp_path, {}, requirements=["connexion<3"]).recipe.wsgi == "app:app.app"
    # The faults of a file are reported later.
    assert find(tmp_path, {"requirements.txt": "connexion==\n"}).recipe.asgi == "app:app"


def test_the_requirements_may_be_beside_the_app(tmp_path: Path) -> None:
    files = {"api/app.py": FLASK_APP, "api/requirements.txt": "connexion<3\n"}
    assert find(tmp_path, {**files, "requirements.txt": ""}).recipe.wsgi == "api.app:app.app"
