"""Find the keys that sign sessions: random ones, those in variables, and those in the source."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from bake.app import detect, session_keys
from bake.app.session_keys import SessionKey
from bake.config.recipe import Recipe


def find(tree: ast.Module) -> list[SessionKey]:
    return list(session_keys.find(tree, list(ast.walk(tree))))


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
    assert [key.random for key in find(ast.parse(source))] == [True]


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
    assert not any(key.random for key in find(ast.parse(source)))


@pytest.mark.parametrize(
    ("source", "variable"),
    [
        ("SECRET_KEY = os.environ['SECRET_KEY']", "SECRET_KEY"),
        ("class Config:\n    SECRET_KEY = os.environ.get('KEY') or 'you-will-never-guess'", "KEY"),
        ("app.secret_key = getenv('FLASK_SECRET', 'dev')", "FLASK_SECRET"),
        ("SECRET_KEY = config('SECRET_KEY')", "SECRET_KEY"),
        ("SECRET_KEY = env('DJANGO_SECRET_KEY', default='!!!')", "DJANGO_SECRET_KEY"),
        ("SECRET_KEY = env.str('APP_KEY')", "APP_KEY"),
        ("SECRET_KEY = envsecret('SECRET_KEY', '---')", "SECRET_KEY"),
        ("SECRET_KEY = get_env_variable('KEY')", "KEY"),
        ("def create_app():\n    app.config.from_mapping(SECRET_KEY=os.environ.get('KEY', 'dev'))", "KEY"),
        ("app.config['JWT_SECRET_KEY'] = str(os.environ.get('JWT', ''))", "JWT"),
        ("SECRET_KEY = 'dev' if DEBUG else os.environ['KEY']", "KEY"),
        # Other services give these out.
        ("AWS_SECRET_KEY = os.environ['AWS_SECRET_KEY']", None),
        ("RECAPTCHA_SECRET_KEY = config('RECAPTCHA_SECRET_KEY')", None),
        # Not the environment.
        ("app.secret_key = current_app.config.get('SECRET_KEY')", None),
        ("SECRET_KEY = settings['SECRET_KEY']", None),
    ],
)
def test_a_variable_may_have_the_key(source: str, variable: str | None) -> None:
    assert [key.variable for key in find(ast.parse(source))] == ([variable] if variable else [])


@pytest.mark.parametrize(
    ("source", "literal"),
    [
        ("app.secret_key = 'dev'", True),
        ("app.config.from_mapping(SECRET_KEY='dev', DATABASE=path)", True),
        ("SECRET_KEY = ''", False),
        ("SECRET_KEY = None", False),
        ("SECRET_KEY = read('key.txt')", False),
        ("STRIPE_SECRET_KEY = 'sk'", False),
    ],
)
def test_the_source_may_have_the_key(source: str, literal: bool) -> None:
    assert any(key.literal for key in find(ast.parse(source))) is literal


def test_a_long_chain_of_attributes_is_no_variable() -> None:
    # More than Python's limit of nested calls.
    assert list(find(ast.parse(f"SECRET_KEY = a{'.b' * 2000}('KEY')"))) == []


APP = """
import os
from flask import Flask
app = Flask(__name__)
app.secret_key = os.environ.get("SESSION_KEY", os.urandom(24))
"""


@pytest.mark.parametrize(
    ("recipe", "preload"),
    [
        ({"random_secrets": []}, True),
        ({}, False),
        ({"secrets": ["SESSION_KEY"]}, False),
        ({"env": {"SESSION_KEY": "x"}}, False),
        ({"random_secrets": [], "preload": "off"}, False),
        ({"preload": "on"}, True),
    ],
)
def test_an_app_with_a_random_key_is_loaded_once(tmp_path: Path, recipe: dict[str, object], preload: bool) -> None:
    (tmp_path / "app.py").write_text(APP)
    (tmp_path / "requirements.txt").write_text("flask\n")
    found = detect.complete(tmp_path, Recipe.model_validate(recipe))
    assert found.recipe.preload is preload
    assert any(note.startswith("preload: on (app.py:5 generates") for note in found.notes) is (
        recipe == {"random_secrets": []}
    )


@pytest.mark.parametrize(
    ("recipe", "names"),
    [
        ({}, ("SESSION_KEY",)),
        ({"secrets": ["SESSION_KEY"]}, ()),
        ({"env": {"SESSION_KEY": "x"}}, ()),
        ({"random_secrets": []}, ()),
        ({"random_secrets": ["OTHER"]}, ("OTHER",)),
    ],
)
def test_each_machine_generates_a_key_that_a_variable_has(
    tmp_path: Path, recipe: dict[str, object], names: tuple[str, ...]
) -> None:
    (tmp_path / "app.py").write_text(APP)
    (tmp_path / "requirements.txt").write_text("flask\n")
    found = detect.complete(tmp_path, Recipe.model_validate(recipe))
    assert found.recipe.random_secrets == names
    note = "random_secrets: SESSION_KEY (app.py:5: each machine generates its own session key)"
    assert (note in found.notes) is (not recipe)


def test_a_key_in_the_source_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APP.replace('os.environ.get("SESSION_KEY", os.urandom(24))', '"dev"'))
    (tmp_path / "requirements.txt").write_text("flask\n")
    notes = detect.complete(tmp_path, Recipe()).notes
    assert [note for note in notes if note.startswith("warning: app.py:5 has the session key")]


@pytest.mark.parametrize("keys", [["os.environ['SECRET_KEY']", "'test'"], ["'test'", "os.environ['SECRET_KEY']"]])
def test_a_key_in_the_source_is_no_warning_if_a_variable_has_one(tmp_path: Path, keys: list[str]) -> None:
    classes = [f"class Config{number}:\n    SECRET_KEY = {key}\n" for number, key in enumerate(keys)]
    (tmp_path / "app.py").write_text("".join([APP.rpartition("app.secret_key")[0], *classes]))
    (tmp_path / "requirements.txt").write_text("flask\n")
    completed = detect.complete(tmp_path, Recipe())
    assert completed.recipe.random_secrets == ("SECRET_KEY",)
    assert not [note for note in completed.notes if "has the session key" in note]


def test_a_kind_of_an_enumeration_is_no_key() -> None:
    text = "class Access({}):\n    SECRET = 'secret'\n"
    assert not find(ast.parse(text.format("str, enum.Enum")))
    assert find(ast.parse(text.format("Base")))
