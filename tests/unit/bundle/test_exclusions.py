"""Which files of an app's folder stay out of a release."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from app_files import write

from bake.bundle import exclusions
from bake.config.debian import DEBIAN_12, DEBIAN_13
from bake.document import cloud_config
from bake.document.launch_settings import Settings

pytestmark = pytest.mark.usefixtures("cache_folder")


def members(folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in sorted(exclusions.walk(folder, []))]


def notes(folder: Path) -> tuple[str, ...]:
    excluded: list[tuple[str, str]] = []
    list(exclusions.walk(folder, excluded))
    return tuple(f"{name} ({reason})" for name, reason in excluded)


def test_what_never_goes_in(app: Path) -> None:
    names = """
        app.py keys.py environment.py static/dist/site.js
        .git/config .env .env.local env/pyvenv.cfg env/lib/x.py .venv/x a/__pycache__/b.pyc c.pyc node_modules/x/y
        notes.db db.sqlite3 key.pem sub/id_rsa .aws/credentials dist/x build/y .DS_Store
        prod.env sub/.pgpass sub/credentials.json client_secret.json client_secret_1a.apps.json credentials.py
    """
    write(app, *names.split())
    os.mkfifo(app / "pipe")
    left_out = notes(app)
    assert left_out == (
        ".DS_Store (Finder metadata)",
        ".aws/ (secrets)",
        ".env (secrets)",
        ".env.local (secrets)",
        ".git/ (version control)",
        ".venv/ (virtual environment)",
        "a/__pycache__/ (cache)",
        "build/ (build output)",
        "c.pyc (cache)",
        "client_secret.json (secrets)",
        "client_secret_1a.apps.json (secrets)",
        "db.sqlite3 (database)",
        "dist/ (build output)",
        "env/ (virtual environment)",
        "key.pem (secrets)",
        "node_modules/ (Node packages)",
        "notes.db (database)",
        "pipe (neither a file nor a folder)",
        "prod.env (secrets)",
        "sub/.pgpass (secrets)",
        "sub/credentials.json (secrets)",
        "sub/id_rsa (secrets)",
    )
    assert members(app) == [
        "a",
        "app.py",
        "credentials.py",
        "environment.py",
        "keys.py",
        "static",
        "static/dist",
        "static/dist/site.js",
        "sub",
    ]


DOCUMENTS = {
    "plain": lambda: cloud_config.plain([], DEBIAN_12),
    "packed": lambda: cloud_config.packed([], DEBIAN_13, stripped=False),
    "stripped": lambda: cloud_config.packed([], DEBIAN_13, stripped=True),
    "launch": lambda: cloud_config.launch(Settings(secrets={"KEY": "x"}).files),
    "gzipped": lambda: cloud_config.gzipped([], DEBIAN_13),
    "nothing": lambda: cloud_config.launch([]),
}


@pytest.mark.parametrize("form", list(DOCUMENTS))
def test_what_bake_printed_stays_out_wherever_it_lies(app: Path, form: str) -> None:
    text = DOCUMENTS[form]().text
    write(app, "app.py", "sub/other.yaml")
    for name in ("user-data", "sub/notes.txt", "sub/kept.yaml"):
        (app / name).write_text(text)
    (app / "sub/other.yaml").write_text("#cloud-config\npackages: [nginx]\n")
    (app / "sub/quoted.md").write_text(f"As bake prints it:\n{text}")
    (app / ".gitignore").write_text("!sub/notes.txt\n")
    (app / "sub/.bakeignore").write_text("!kept.yaml\n")
    assert members(app) == [".gitignore", "app.py", "sub", *(f"sub/{name}" for name in (
        ".bakeignore", "kept.yaml", "other.yaml", "quoted.md"
    ))]  # fmt: skip
    assert notes(app) == ("sub/notes.txt (user-data from bake)", "user-data (user-data from bake)")


def test_ignore_files_nest_and_bakeignore_has_the_last_word(app: Path) -> None:
    write(
        app,
        "app.py",
        "a.log",
        "sub/a.log",
        "sub/keep.log",
        "sub/deep/b.tmp",
        "b.tmp",
        "out/x",
        "secret.pem",
        "big/x",
        "only/here",
        "sub/only/y",
    )
    (app / ".gitignore").write_text("*.log\nout/\n!app.py\n/only/\n!.env\n")
    (app / "sub" / ".gitignore").write_text("!keep.log\n*.tmp\n")
    (app / ".bakeignore").write_text("# ours\nbig/\n!out/\n!secret.pem\n")
    write(app, ".env")
    kept = """
        .bakeignore .gitignore app.py b.tmp out out/x secret.pem
        sub sub/.gitignore sub/deep sub/keep.log sub/only sub/only/y
    """
    assert members(app) == kept.split()
    assert notes(app) == (
        ".env (secrets)",
        "a.log (.gitignore)",
        "big/ (.bakeignore)",
        "only/ (.gitignore)",
        "sub/a.log (.gitignore)",
        "sub/deep/b.tmp (sub/.gitignore)",
    )
