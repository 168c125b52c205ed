"""An app that starts its own server at import is refused with the lines to write."""

from __future__ import annotations

from pathlib import Path

import pytest
from app_folders import FLASK, MAIN, fails, find
from conftest import write

from bake.app.detect import complete
from bake.config.recipe import Recipe
from bake.errors import NoAppError

BOTTLE = "from bottle import route, run\n@route('/')\ndef index(): return 'hello'\n"


@pytest.mark.parametrize(
    ("files", "location", "call"),
    [
        ({"app.py": FLASK + "app.run(\n    port=8080)\n"}, "app.py:3: app.run()", "app.run(\n        port=8080)"),
        ({"app.py": BOTTLE + "run(port=8080)\n"}, "app.py:4: run()", "run(port=8080)"),
        ({"shop.py": FLASK + "app.run()\n", "wsgi.py": "from shop import app\n"}, "shop.py:3: app.run()", "app.run()"),
        ({"app.py": FLASK + "with app.app_context():\n    app.run()\n"}, "app.py:4: app.run()", "app.run()"),
        ({"app.py": FLASK + "try:\n    x = app.run()\nfinally: ...\n"}, "app.py:4: app.run()", "x = app.run()"),
        ({"app.py": FLASK + "if True:\n    app.run()\n"}, "app.py:4: app.run()", "app.run()"),
        ({"app.py": FLASK + "def main():\n    app.run()\nmain()\n"}, "app.py:4: app.run()", "app.run()"),
        ({"app.py": FLASK + "from waitress import serve\nserve(app)\n"}, "app.py:4: serve()", "serve(app)"),
        ({"app.py": FLASK + "from x import S\ns = S(app)\ns.run(app)\n"}, "app.py:5: s.run()", "s.run(app)"),
        (
            {"app.py": FLASK + "from x import run_simple\nrun_simple('', 80, app)\n"},
            "app.py:4: run_simple()", "run_simple('', 80, app)",
        ),
        (
            {"app.py": FLASK + "from x import Server\nServer(app).serve_forever()\n"},
            "app.py:4: serve_forever()", "Server(app).serve_forever()",
        ),
    ],
)  # fmt: skip
def test_an_unguarded_server_is_refused_with_the_guard(
    tmp_path: Path, files: dict[str, str], location: str, call: str
) -> None:
    error = fails(NoAppError, tmp_path, files)
    assert error.message == f"{location} starts a server when the file is imported"
    assert error.details == f'if __name__ == "__main__":\n    {call}'


@pytest.mark.parametrize(
    "files",
    [
        {"app.py": FLASK + MAIN + "    app.run()\n"},
        {"app.py": FLASK + "def main():\n    app.run()\n"},
        {"app.py": FLASK + "import tasks\ntasks.run()\n", "tasks.py": "def run(): ...\n"},
        {"app.py": FLASK, "dev.py": "from app import app\napp.run()\n"},
        {"app.py": FLASK + "import sys\nif len(sys.argv) > 1:\n    app.run()\n"},
        {"app.py": FLASK + "import subprocess\nsubprocess.run('date')\n"},
        {"app.py": FLASK + "def f(): ...\nf.serve(1)\ndef f():\n    f()\n    app.run\nf()\n"},
    ],
)
def test_a_server_that_does_not_start_at_import_is_no_obstacle(tmp_path: Path, files: dict[str, str]) -> None:
    assert find(tmp_path, files).recipe.wsgi == "app:app"


def test_a_file_in_another_encoding_has_its_line(tmp_path: Path) -> None:
    text = f"# coding: latin-1\n{FLASK}app.run('caf\xe9')\n"
    write(tmp_path, {"requirements.txt": "flask\n"})
    (tmp_path / "app.py").write_text(text, encoding="latin-1")
    with pytest.raises(NoAppError) as caught:
        complete(tmp_path, Recipe())
    assert caught.value.details.endswith("app.run('caf\xe9')")
