"""Which files of an app's folder stay out of a release."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path, PurePosixPath

import pytest
from app_files import write

from bake.app import python_files
from bake.bundle import exclusions
from bake.config.debian import DEBIAN_12, DEBIAN_13
from bake.document import cloud_config
from bake.document.launch_settings import Settings
from bake.host.files import CHUNK

pytestmark = pytest.mark.usefixtures("cache_folder")


def members(folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in sorted(exclusions.walk(folder, []))]


def git(folder: Path, *words: str) -> None:
    subprocess.run(["git", "-C", folder, *words], check=True)


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


SECRETS = """
    .git-credentials .npmrc .pypirc pip.conf .envrc secrets.yaml secrets.yml .streamlit/secrets.toml
    service-account.json shop.p12 shop.pfx shop.jks shop.ppk shop.kdbx id_dsa id_ecdsa .kube/config
    .docker/config.json terraform.tfstate .vault_pass .htpasswd .bash_history .env~ secrets.env.bak .env
    .env.local prod.env server.pem server.key id_rsa id_ed25519.pub .ssh/config .aws/credentials .netrc .pgpass
    client_secret_1.json credentials.json .python_history .env-prod .env_prod .dockercfg .s3cfg .boto rclone.conf
    office.ovpn
"""


@pytest.mark.parametrize("name", SECRETS.split())
def test_a_file_of_secrets_stays_out_in_any_case(app: Path, name: str) -> None:
    names = [f"a/{name}", f"b/{name.upper()}", f"c/{name.title()}"]
    write(app, "app.py", "a/x.py", *names)
    assert not {*names} & {*members(app)}
    assert all("(secrets)" in note for note in notes(app)) and len(notes(app)) == 3


def test_a_database_stays_out_in_any_case(app: Path) -> None:
    names = [f"{name}.{ending}" for name in ("a", "B") for ending in ("db", "DB", "Sqlite3", "DUMP", "db-WAL")]
    write(app, "app.py", *names)
    assert members(app) == ["app.py"]


def test_names_that_resemble_secrets_go_in(app: Path) -> None:
    names = """
        secrets.py app.py credentials.py environment.py keys.py pip.py history.py schema.sql .streamlit/config.toml
        requirements.dump.txt package.json Dockerfile docker/config.json token.html env.js public.crt
    """
    write(app, *names.split())
    assert {*names.split()} <= {*members(app)}


DUMPS = {
    "pg_dump": "--\n-- PostgreSQL database dump\n--\nSET x = 0;\nCOPY public.users (id) FROM stdin;\n1\n\\.\n",
    "mysqldump": "-- MySQL dump 10.13\n--\nINSERT INTO `users` VALUES (1);\n",
    "mariadb-dump": "/*M!999999\\- sandbox */ \n-- MariaDB dump 10.19\nINSERT INTO `users` VALUES (1);\n",
    "phpMyAdmin": "-- phpMyAdmin SQL Dump\n-- version 5\n\nINSERT INTO `users` VALUES (1);\n",
    "sqlite3": "PRAGMA foreign_keys=OFF;\nBEGIN TRANSACTION;\nINSERT INTO users VALUES(1);\nCOMMIT;\n",
}


def test_a_large_dump_is_read_in_parts(app: Path) -> None:
    for shift in range(14):
        (app / "backup.sql").write_text(f"-- MySQL dump 10.13\n{'x' * (480 + CHUNK - shift)}\nINSERT INTO users")
        assert notes(app) == ("backup.sql (database)",)


def test_a_file_larger_than_the_memory_is_not_read(app: Path) -> None:
    with (app / "seed.sql").open("wb") as stream:
        stream.truncate(1 << 42)
    assert members(app) == ["seed.sql"]


@pytest.mark.parametrize("program", DUMPS)
def test_a_dump_stays_out_and_a_schema_goes_in(app: Path, program: str) -> None:
    write(app, "old.dump")
    (app / "backup.SQL").write_text(DUMPS[program])
    schema = [line for line in DUMPS[program].splitlines() if not line.startswith(("INSERT", "COPY"))]
    (app / "schema.sql").write_text("\n".join([*schema, "CREATE TABLE users (id int);"]))
    (app / "seed.sql").write_text("CREATE TABLE colours (name text);\nINSERT INTO colours VALUES ('red');\n")
    assert members(app) == ["schema.sql", "seed.sql"]
    assert notes(app) == ("backup.SQL (database)", "old.dump (database)")


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


def test_gitignore_does_not_apply_to_committed_files(app: Path) -> None:
    """As taiga-back's `static/`, which has a picture, and graphite-web's package `custom`."""
    write(app, "site/app.py", "site/static/img/none.png", "site/static/new.png", "site/custom/__init__.py", ".env")
    (app / "site/.gitignore").write_text("static\ncustom/*\n.env\n")
    git(app, "init", "-q")
    git(app, "add", "-f", "site/static/img/none.png", "site/custom/__init__.py", ".env")
    for folder, prefix in ((app, "site/"), (app / "site", "")):
        kept = members(folder)
        assert {f"{prefix}static/img/none.png", f"{prefix}custom/__init__.py"} < set(kept)
        assert f"{prefix}static/new.png" not in kept
        assert PurePosixPath(f"{prefix}custom/__init__.py") in python_files.find(folder)
    # Secrets stay outside all the same, and so does what .bakeignore names.
    (app / ".bakeignore").write_text("static/\n")
    assert {".env", "site/static"}.isdisjoint(members(app))
    # A repository that git cannot read tells nothing.
    (app / ".git/index").write_bytes(b"broken")
    assert "site/custom/__init__.py" not in members(app)


@pytest.mark.parametrize("name", ["build/index.html", "dist/main.js", "dist/site.css"])
def test_a_front_end_that_the_app_serves_is_no_build_output(app: Path, name: str) -> None:
    write(app, name, "dist/more/x.whl")
    assert name in members(app) and not [note for note in notes(app) if note.startswith(name.partition("/")[0])]


def test_a_name_that_is_not_utf_8_goes_in_and_can_be_excluded(tmp_path: Path) -> None:
    for name in (b"caf\xe9.txt", b"caf\xe9.log"):
        (tmp_path / os.fsdecode(name)).touch()
    (tmp_path / ".gitignore").write_text("*.log\n")
    excluded: list[tuple[str, str]] = []
    assert os.fsdecode(b"caf\xe9.txt") in [path.name for path in exclusions.walk(tmp_path, excluded)]
    assert excluded == [(os.fsdecode(b"caf\xe9.log"), ".gitignore")]
