"""Which secret keys are seen to be made at random."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from bake.app import detect
from bake.app.random_keys import find
from bake.config.recipe import Recipe


@pytest.mark.parametrize(
    "source",
    [
        "app.secret_key = os.urandom(24)",
        "app.config['SECRET_KEY'] = secrets.token_hex()",
        "SECRET_KEY = get_random_secret_key()",
        "SECRET_KEY = str(uuid.uuid4())",
        "SECRET_KEY: str = token_urlsafe(32)",
        "class Config:\n    SECRET_KEY = os.environ.get('SECRET_KEY') or os.urandom(32)",
        "def create_app():\n    app = Flask(__name__)\n    app.config.from_mapping(SECRET_KEY=os.urandom(16))",
        "def create_app():\n    app.config.update({'JWT_SECRET_KEY': secrets.token_bytes(32)})",
        "app.config.setdefault('SECRET_KEY', Fernet.generate_key())",
        "key = os.urandom(24)\napp.secret_key = key",
        "application = Application(cookie_secret=uuid4().hex)",
    ],
)
def test_a_key_made_at_random_is_found(source: str) -> None:
    assert [key.line for key in find(ast.parse(source))]


@pytest.mark.parametrize(
    "source",
    [
        "app.secret_key = 'dev'",
        "SECRET_KEY = os.environ['SECRET_KEY']",
        "def reset(user):\n    secret_key = os.urandom(8)\n    user.reset_token = secrets.token_hex()",
        "salt = os.urandom(8)",
        "SECRET_KEY = read(os.path.join(urandom, 'key'))",
    ],
)
def test_other_values_are_no_random_keys(source: str) -> None:
    assert list(find(ast.parse(source))) == []


APP = """
import os
from flask import Flask
app = Flask(__name__)
app.secret_key = os.environ.get("SESSION_KEY", os.urandom(24))
"""


@pytest.mark.parametrize(
    ("recipe", "preload"),
    [({}, True), ({"secrets": ["SESSION_KEY"]}, False), ({"env": {"SESSION_KEY": "x"}}, False),
     ({"preload": "off"}, False), ({"preload": "on"}, True)],
)  # fmt: skip
def test_an_app_with_a_random_key_is_loaded_once(tmp_path: Path, recipe: dict[str, object], preload: bool) -> None:
    (tmp_path / "app.py").write_text(APP)
    (tmp_path / "requirements.txt").write_text("flask\n")
    found = detect.complete(tmp_path, Recipe.model_validate(recipe))
    assert found.recipe.preload is preload
    assert any(note.startswith("preload: on (app.py:5 generates") for note in found.notes) is (not recipe)
