"""An app that starts its own server at import is refused with the lines to write."""

from __future__ import annotations

from pathlib import Path

import pytest
from app_folders import FLASK, MAIN, fails, find

from bake.errors import NoAppError

BOTTLE = "from bottle import route, run\n@route('/')\ndef index(): return 'hello'\n"


@pytest.mark.parametrize(
    ("files", "location", "call"),
    [
        ({"app.py": FLASK + "app.run(\n    port=8080)\n"}, "app.py:3: app.run()", "app.run(\n        port=8080)"),
        ({"app.py": BOTTLE + "run(port=8080)\n"}, "app.py:4: run()", "run(port=8080)"),
        ({"shop.py": FLASK + "app.run()\n", "wsgi.py": "from shop import app\n"}, "shop.py:3: app.run()", "app.run()"),
    ],
)
def test_an_unguarded_server_is_refused_with_the_guard(
    tmp_path: Path, files: dict[str, str], location: str, call: str
) -> None:
    error = fails(NoAppError, tmp_path, files)
    assert error.message == f"{location} starts the development server when the file is imported"
    assert error.details == f'if __name__ == "__main__":\n    {call}'


@pytest.mark.parametrize(
    "files",
    [
        {"app.py": FLASK + MAIN + "    app.run()\n"},
        {"app.py": FLASK + "def main():\n    app.run()\n"},
        {"app.py": FLASK + "import tasks\ntasks.run()\n", "tasks.py": "def run(): ...\n"},
        {"app.py": FLASK, "dev.py": "from app import app\napp.run()\n"},
        {"app.py": FLASK + "import sys\nif len(sys.argv) > 1:\n    app.run()\n"},
    ],
)
def test_a_server_that_does_not_start_at_import_is_no_obstacle(tmp_path: Path, files: dict[str, str]) -> None:
    assert find(tmp_path, files).recipe.wsgi == "app:app"
