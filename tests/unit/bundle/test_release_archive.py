"""The archive: what goes in, what stays out, the same bytes each time."""

from __future__ import annotations

import hashlib
import os
import tarfile
from importlib.metadata import Distribution
from pathlib import Path

import pytest

from bake.bundle import release_archive, release_files
from bake.bundle.lock import Lock
from bake.config.debian import DEBIAN_12, DEBIAN_13
from bake.config.recipe import Recipe
from bake.document import cloud_config
from bake.document.launch_settings import Settings
from bake.errors import AppFolderError

NO_LOCK = Lock("", "none")


pytestmark = pytest.mark.usefixtures("cache_folder")


def write(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"this is {name}\n")


def pack(folder: Path, recipe: Recipe | None = None) -> release_archive.Bundle:
    return release_archive.pack(folder, recipe or Recipe(), NO_LOCK, [], folder.parent / "out" / "bundle.tar")


def members(folder: Path, recipe: Recipe | None = None) -> list[str]:
    with tarfile.open(pack(folder, recipe).path) as archive:
        return [entry.name.removeprefix("source/") for entry in archive if entry.name.startswith("source/")]


def test_two_packs_are_the_same_bytes(app: Path) -> None:
    write(app, "app.py", "b/x.txt", "a.txt", "é ü.txt", "long/" + "n" * 200 + ".txt")
    (app / "empty").mkdir()
    (app / "run.sh").touch(mode=0o755)
    (app / "link").symlink_to("b/x.txt")
    first = pack(app)
    old = os.umask(0o077)
    try:
        for path in app.rglob("*"):
            os.utime(path, (5, 5), follow_symlinks=False)
        (app / "a.txt").chmod(0o600)
        (app / "b").chmod(0o700)
        second = pack(app)
    finally:
        os.umask(old)
    assert (first.sha256, first.size, first.files) == (second.sha256, second.size, 7 - 1 + 1)
    assert second.size == second.path.stat().st_size
    assert second.sha256 == hashlib.sha256(second.path.read_bytes()).hexdigest()
    (app / "a.txt").write_text("changed")
    assert pack(app).sha256 != first.sha256


def test_what_the_archive_holds(app: Path) -> None:
    write(app, "app.py", "pkg/x.py")
    (app / "run.sh").touch(mode=0o744)
    (app / "pyproject.toml").write_text('[project]\nname = "x"\n[project.scripts]\nserve = "app:main"\n')
    with tarfile.open(pack(app, Recipe(name="x", wsgi="app:app")).path) as archive:
        entries = {entry.name: entry for entry in archive}
    extras = [name for extra in (*release_files.EXTRAS, *release_files.BUNDLED) for name in release_files.extra(extra)]
    assert list(entries) == [
        "lock.txt",
        "source",
        "source/app.py",
        "source/pkg",
        "source/pkg/x.py",
        "source/pyproject.toml",
        "source/run.sh",
        "recipe.json",
        *sorted(["settings/bin/serve", "settings/env", *extras]),
        "source/x-unknown.dist-info/METADATA",
        "source/x-unknown.dist-info/entry_points.txt",
    ]
    assert {(entry.uid, entry.gid, entry.mtime, entry.uname) for entry in entries.values()} == {(0, 0, 0, "")}
    modes = {name: entry.mode for name, entry in entries.items()}
    programs = {"source", "source/pkg", "source/run.sh", "settings/bin/serve", "settings/secret"}
    assert modes == {name: 0o755 if name in programs else 0o644 for name in modes}


def test_what_never_goes_in(app: Path) -> None:
    names = """
        app.py keys.py environment.py static/dist/site.js
        .git/config .env .env.local env/pyvenv.cfg env/lib/x.py .venv/x a/__pycache__/b.pyc c.pyc node_modules/x/y
        notes.db db.sqlite3 key.pem sub/id_rsa .aws/credentials dist/x build/y .DS_Store
        prod.env sub/.pgpass sub/credentials.json client_secret.json client_secret_1a.apps.json credentials.py
    """
    write(app, *names.split())
    os.mkfifo(app / "pipe")
    packed = pack(app)
    assert packed.left_out == (
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
    assert packed.files == 5


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
    assert pack(app).left_out == ("sub/notes.txt (user-data from bake)", "user-data (user-data from bake)")


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
    assert pack(app).left_out == (
        ".env (secrets)",
        "a.log (.gitignore)",
        "big/ (.bakeignore)",
        "only/ (.gitignore)",
        "sub/a.log (.gitignore)",
        "sub/deep/b.tmp (sub/.gitignore)",
    )


def test_links_stay_inside(app: Path) -> None:
    write(app, "a/x", "app.py")
    (app / "absolute").symlink_to(app / "a" / "x")
    (app / "a" / "up").symlink_to("../../app/app.py")
    (app / "dangling").symlink_to("nothing")
    (app / "folder").symlink_to("a")
    with tarfile.open(pack(app).path) as archive:
        links = {entry.name: entry.linkname for entry in archive if entry.issym()}
    assert links == {
        "source/a/up": "../app.py",
        "source/absolute": "a/x",
        "source/dangling": "nothing",
        "source/folder": "a",
    }


@pytest.mark.parametrize("target", ["/etc/passwd", "../outside", "..", "/"])
def test_links_that_leave_are_refused(app: Path, target: str) -> None:
    write(app, "app.py")
    (app / "link").symlink_to(target)
    with pytest.raises(AppFolderError, match=r"is a link to .*, outside the app's folder"):
        pack(app)
    (app / ".bakeignore").write_text("link\n")
    assert "link" not in members(app)


def test_a_chain_of_links_that_leaves_is_refused(app: Path) -> None:
    write(app, "a/x", "app.py")
    (app / "up").symlink_to("a/..")
    (app / "first").symlink_to("second")
    (app / "second").symlink_to("up/../outside")
    for name in ("first", "second"):
        (app / ".bakeignore").write_text("first\nsecond\n".replace(f"{name}\n", ""))
        with pytest.raises(AppFolderError, match=rf"{name} is a link to .*, outside the app's folder"):
            pack(app)


def test_a_folder_may_be_named_by_a_link(app: Path) -> None:
    write(app, "app.py")
    named = app.parent / "named"
    named.symlink_to(app)
    assert pack(named).sha256 == pack(app).sha256


def test_a_static_folder_that_is_left_out_is_said(app: Path) -> None:
    write(app, "app.py", "dist/x.js")
    recipe = Recipe(static={"/static": "dist"})
    with pytest.raises(AppFolderError, match="dist, which is excluded") as caught:
        pack(app, recipe)
    assert "!/dist/" in caught.value.hint
    (app / ".bakeignore").write_text("!/dist/\n")
    assert "dist/x.js" in members(app, recipe)


def test_the_archive_does_not_hold_itself_or_the_cache(app: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(app, "app.py", "c/wheels/x")
    monkeypatch.setenv("BAKE_CACHE", str(app / "c"))
    first = release_archive.pack(app, Recipe(), NO_LOCK, [], app / "out.tar")
    second = release_archive.pack(app, Recipe(), NO_LOCK, [], app / "out.tar")
    assert first.sha256 == second.sha256
    assert first.left_out == ("c/ (the cache of bake)",)


def test_a_file_nobody_may_read(app: Path) -> None:
    write(app, "app.py", "closed.py")
    (app / "closed.py").chmod(0)
    if os.access(app / "closed.py", os.R_OK):
        pytest.skip("root reads everything")
    with pytest.raises(AppFolderError, match=r"closed\.py cannot be read"):
        pack(app)


def test_an_app_that_is_a_project_is_known_by_its_name(app: Path) -> None:
    project = '[project]\nname = "My.App"\nversion = "1.2"\n[project.scripts]\nserve = "app:main"\n'
    write(app, "app.py")
    (app / "pyproject.toml").write_text(project)
    with tarfile.open(pack(app).path) as archive:
        archive.extractall(app.parent / "there", filter="data")
    found = next(iter(Distribution.discover(name="my-app", path=[str(app.parent / "there" / "source")])))
    assert (found.name, found.version) == ("My.App", "1.2")
    assert [(point.name, point.group) for point in found.entry_points] == [("serve", "console_scripts")]


def test_of_a_packaged_app_s_folder_nothing_goes_in(app: Path) -> None:
    write(app, "app.py", "bake.yaml")
    packaged = Recipe.model_validate({"app": {"package": "x==1"}, "check": {"env": {"KEY": "for the check"}}})
    assert members(app, packaged) == []
    # Nor does what stands in for secrets.
    assert b"for the check" not in pack(app, packaged).path.read_bytes()
