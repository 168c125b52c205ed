"""An app's files as modules, and where a name in them ends. What is made of it: test_detect.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from bake.app import python_files
from bake.app.name_resolution import Reader
from bake.errors import AppSyntaxError

FLASK = "from flask import Flask\napp = Flask(__name__)\n"


def read(folder: Path, files: dict[str, str]) -> Reader:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return Reader(folder, (3, 13))


def test_a_name_is_followed_to_where_the_app_is_made(tmp_path: Path) -> None:
    files = {
        "web/__init__.py": "from .made import site as app\n",
        "web/made.py": "import flask as f\nsite = f.Flask('x')\n",
        "wsgi.py": "import web\napplication = web.app\n",
    }
    found = {app.target: app.root.location for app in read(tmp_path, files).apps}
    assert found == dict.fromkeys(("web:app", "web.made:site", "wsgi:application"), "web/made.py:2")


def test_what_is_no_part_of_the_app_is_not_read(tmp_path: Path) -> None:
    broken = "def (:\n"
    names = ("tests/x.py", "test_a.py", "conftest.py", "docs/conf.py", ".hidden/x.py", "node_modules/x/y.py",
             "build/x.py", "dist/x.py", "setup.py", "noxfile.py", "env/lib/x.py", "venv/x.py", "migrations/env.py",
             "my-notes.py", "site/project_template/wsgi.py")  # fmt: skip
    assert set(read(tmp_path, {"app.py": FLASK, "env/pyvenv.cfg": "", **dict.fromkeys(names, broken)}).modules) == {
        "app"
    }


def test_a_syntax_error_has_its_place_and_line(tmp_path: Path) -> None:
    reader = read(tmp_path, {"app.py": FLASK, "views.py": "x = 1\nprint 'hello'\n"})
    with pytest.raises(AppSyntaxError) as caught:
        python_files.require_valid(reader.faults)
    assert caught.value.message.startswith("views.py:2: ")
    assert caught.value.details == "views.py:2: print 'hello'"


@pytest.mark.parametrize("text", [b"x = '\0'\n", b"# coding: nonsense\n", b"x = '\xff'\n"])
def test_bytes_that_are_no_source(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "odd.py").write_bytes(text)
    reader = read(tmp_path, {"app.py": FLASK})
    assert [str(path) for path in reader.faults] == ["odd.py"]
    assert reader.modules["odd"].skip_reason
