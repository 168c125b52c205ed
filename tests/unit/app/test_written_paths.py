"""Which paths a module is seen to write."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from bake.app import detect
from bake.app.written_paths import find
from bake.config.recipe import Recipe


@pytest.mark.parametrize(
    ("source", "path", "beside"),
    [
        ("os.mkdir('logs')", "logs", False),
        ("os.makedirs('var/data', exist_ok=True)", "var/data", False),
        ("Path('exports').mkdir()", "exports", False),
        ("RotatingFileHandler('logs/microblog.log', maxBytes=10240)", "logs", False),
        ("logging.basicConfig(filename='app.log')", "app.log", False),
        ("logging.FileHandler(filename='x/y.log')", "x", False),
        ("app.config['UPLOAD_FOLDER'] = 'static/uploads'", "static/uploads", False),
        ("UPLOAD_FOLDER = './uploads'", "uploads", False),
        ("db = sqlite3.connect('site.db')", "site.db", False),
        ("URI = os.environ.get('URL') or 'sqlite:///app.db'", "app.db", False),
        ("URI = 'sqlite:///' + os.path.join(basedir, 'app.db')", "app.db", True),
    ],
)
def test_a_plain_write_is_found(source: str, path: str, beside: bool) -> None:
    assert [(str(write.path), write.is_module_relative) for write in find(ast.walk(ast.parse(source)))] == [
        (path, beside)
    ]


@pytest.mark.parametrize(
    "source",
    [
        "os.mkdir('/data')", "os.makedirs('../out')", "os.makedirs(folder)", "'sqlite://'",
        "sqlite3.connect(':memory:')", "URI = 'sqlite:///:memory:'",
        "connect('example')", "UPLOAD_FOLDER = '/srv/x'", "URI = 'sqlite:////var/x.db'", "mkdir()", "basicConfig('x')",
        "URI = 'sqlite:///%s%s' % (home, path)", "URI = 'sqlite:///{}.db'.format(name)",
    ],
)  # fmt: skip
def test_other_expressions_write_no_plain_path(source: str) -> None:
    assert list(find(ast.walk(ast.parse(source)))) == []


APP = """
from flask import Flask
import os
app = Flask(__name__)
os.makedirs("logs", exist_ok=True)
os.makedirs("static", exist_ok=True)
os.makedirs("uploads/pictures", exist_ok=True)
os.makedirs("with space", exist_ok=True)
URI = "sqlite:///shop.db"
"""


@pytest.mark.parametrize(
    ("more", "recipe", "paths"),
    [
        ("", {}, ("logs", "uploads/pictures", "shop.db")),
        ("import flask_sqlalchemy\n", {}, ("logs", "uploads/pictures", "instance")),
        ("", {"writable": ["uploads"]}, ("uploads", "logs", "shop.db")),
        ("", {"writable": {"observe": "off", "paths": ["uploads"]}}, ("uploads",)),
    ],
)
def test_what_an_app_plainly_writes_is_kept(
    tmp_path: Path, more: str, recipe: dict[str, object], paths: tuple[str, ...]
) -> None:
    (tmp_path / "app.py").write_text(more + APP)
    (tmp_path / "requirements.txt").write_text("flask\n")
    (tmp_path / "static").mkdir()
    (tmp_path / "static/style.css").touch()
    (tmp_path / "uploads/pictures").mkdir(parents=True)
    (tmp_path / "uploads/pictures/.gitkeep").touch()
    found = detect.complete(tmp_path, Recipe.model_validate(recipe))
    assert found.recipe.writable.paths == paths
    assert [note.split()[1] for note in found.notes if note.startswith("writable: ")] == [
        path for path in paths if path not in str(recipe)
    ]
