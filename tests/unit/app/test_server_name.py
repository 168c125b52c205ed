"""Flask's SERVER_NAME is noted, because the app may answer other names with 404."""

from __future__ import annotations

from pathlib import Path

import pytest
from app_folders import FLASK, find

TEXT = "before version 3.1 Flask answers requests for other names with 404"


@pytest.mark.parametrize(
    ("line", "step"),
    [
        ("app.config['SERVER_NAME'] = 'localhost:5000'", "set the site's domain there"),
        ("SERVER_NAME = os.environ.get('HOST_NAME', 'app.docker')", "write  env: {HOST_NAME: DOMAIN}"),
        ("app.config.update(SERVER_NAME='shop.example')", "set the site's domain there"),
    ],
)
def test_a_server_name_is_noted(tmp_path: Path, line: str, step: str) -> None:
    files = {"app.py": f"import os\n{FLASK}{line}\n"}
    (note,) = (note for note in find(tmp_path, files).notes if TEXT in note)
    assert note.startswith("warning: app.py:4 sets SERVER_NAME to '") and note.endswith(f"; {step}")
    is_set = any(TEXT in note for note in find(tmp_path, files, env={"HOST_NAME": "shop.example"}).notes)
    assert is_set is ("HOST_NAME" not in line)


@pytest.mark.parametrize("line", ["SERVER_NAME = None", "SERVER_NAME = os.getenv('SERVER_NAME')", "x = 'SERVER_NAME'"])
def test_no_server_name_is_not_noted(tmp_path: Path, line: str) -> None:
    assert not any(TEXT in note for note in find(tmp_path, {"app.py": f"import os\n{FLASK}{line}\n"}).notes)
