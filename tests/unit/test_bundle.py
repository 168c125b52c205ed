"""The lock, the wheels and the archive. Some tests ask the package index."""

from __future__ import annotations

import hashlib
import json
import os
import tarfile
import time
from pathlib import Path

import pytest

from bake import bundle
from bake.bundle import Lock
from bake.errors import AppFolderError, BakeError, ConflictError, NetworkError, RequirementError, WheelError
from bake.recipe import Recipe
from bake.target import DEBIAN_13

NO_LOCK = Lock("", "none")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BAKE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def app(tmp_path: Path) -> Path:
    folder = tmp_path / "app"
    folder.mkdir()
    return folder


def resolve(folder: Path, requirements: str, refresh: bool = False, max_age_days: float = 7, **keys: object) -> Lock:
    (folder / "requirements.txt").write_text(requirements)
    recipe = Recipe.model_validate(keys)
    return bundle.resolve(folder, recipe, DEBIAN_13, max_age_days=max_age_days, refresh=refresh)


def fails(kind: type[BakeError], folder: Path, requirements: str, **keys: str) -> BakeError:
    with pytest.raises(kind) as caught:
        resolve(folder, requirements, False, 7, **keys)
    return caught.value


def write(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"this is {name}\n")


def pack(folder: Path, recipe: Recipe | None = None) -> bundle.Bundle:
    return bundle.pack(folder, recipe or Recipe(), NO_LOCK, [], folder.parent / "out" / "bundle.tar")


def members(folder: Path, recipe: Recipe | None = None) -> list[str]:
    with tarfile.open(pack(folder, recipe).path) as archive:
        return [entry.name.removeprefix("source/") for entry in archive if entry.name.startswith("source/")]


# The index is asked.
def test_flask_is_locked_fetched_and_packed(app: Path, cache: Path) -> None:
    recipe = Recipe()
    lock = resolve(app, "flask==3.1.*\n")
    assert "flask==3.1." in lock.text
    assert "#" not in lock.text
    wheels = bundle.wheels(lock, DEBIAN_13, recipe)
    assert any(wheel.name.startswith("markupsafe-") and "cp313" in wheel.name for wheel in wheels)
    before = time.monotonic()
    assert resolve(app, "# said otherwise\nflask==3.1.*   # the same\n") == lock
    assert bundle.wheels(lock, DEBIAN_13, recipe) == wheels
    assert time.monotonic() - before < 0.3
    packed = bundle.pack(app, recipe, lock, wheels, app.parent / "a.tar")
    with tarfile.open(packed.path) as archive:
        inner = archive.extractfile("lock.txt")
        assert inner is not None
        pinned = inner.read().decode()
        assert [f"wheels/{wheel.name}" for wheel in wheels] == [
            n for n in archive.getnames() if n.startswith("wheels/")
        ]
    assert set(bundle.HASH.findall(pinned)) == {hashlib.sha256(wheel.read_bytes()).hexdigest() for wheel in wheels}
    assert pinned.count("==") == len(wheels)

    wheels[0].write_bytes(b"something else")
    with pytest.raises(WheelError, match=wheels[0].name):
        bundle.pack(app, recipe, lock, wheels, app.parent / "b.tar")
    assert not (app.parent / "b.tar").exists()
    assert bundle.wheels(lock, DEBIAN_13, recipe) == wheels
    bundle.pack(app, recipe, lock, wheels, app.parent / "b.tar")


@pytest.mark.parametrize(
    ("text", "kind", "said"),
    [
        (
            "flask\nflask-of-no-such-name\n",
            RequirementError,
            "requirements.txt:2: there is no package flask-of-no-such-name",
        ),
        ("\nflask==99.1\n", RequirementError, "requirements.txt:2: there is no flask==99.1"),
        ("flask>=99\n", RequirementError, "requirements.txt:1: there is no flask>=99"),
        (
            "flask==3.0.0\nWerkzeug<2\n",
            ConflictError,
            "flask==3.0.0 (requirements.txt:1), Werkzeug<2 (requirements.txt:2)",
        ),
        ("flask\nuwsgi\n", WheelError, "requirements.txt:2: uwsgi has no wheel for Python 3.13 on debian-13"),
        (
            f"flask --hash=sha256:{'0' * 64}\n",
            RequirementError,
            "requirements.txt:1: no file of flask on the index has",
        ),
    ],
)
def test_what_cannot_be_resolved_names_its_place(app: Path, text: str, kind: type[BakeError], said: str) -> None:
    error = fails(kind, app, text)
    assert said in error.message
    assert error.hint
    assert not list(app.parent.glob("cache/locks/*.txt"))


def test_no_network(app: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    error = fails(NetworkError, app, "flask\n", index="https://127.0.0.1:9/simple")
    assert "https://127.0.0.1:9" in error.message
    monkeypatch.setenv("PIP_RETRIES", "1")
    lock = Lock(f"nowhere==1.0 \\\n    --hash=sha256:{'0' * 64}\n", "key")
    with pytest.raises(NetworkError):
        bundle.wheels(lock, DEBIAN_13, Recipe(index="https://127.0.0.1:9/simple"))


# From here on nothing leaves this machine.
def test_a_lock_is_kept_for_its_age(app: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    nowhere = "https://127.0.0.1:9/simple"
    empty = resolve(app, "# nothing\n", index=nowhere)
    assert empty.text == ""
    kept = cache / "locks" / f"{empty.key}.txt"
    kept.write_text("kept\n")
    assert resolve(app, "", index=nowhere).text == "kept\n"
    assert resolve(app, "", index=nowhere, refresh=True).text == ""
    kept.write_text("kept\n")
    os.utime(kept, (0, 0))
    assert resolve(app, "", index=nowhere).text == ""
    assert resolve(app, "").key != empty.key


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("flask\n==1.0\n", "requirements.txt:2: '==1.0' cannot be used"),
        ("flask\nfoo bar\n", "requirements.txt:2: 'foo bar' cannot be used"),
        ("flask \\\n  >=3\n-e .\n", "requirements.txt:3: '-e .' cannot be used"),
        ("./lib\n", "requirements.txt:1: './lib' cannot be used"),
        ("git+https://code.example/x.git\n", "requirements.txt:1: "),
        ("x @ https://code.example/x.whl\n", "requirements.txt:1: "),
        ("--extra-index-url https://packages.example/\n", "requirements.txt:1: "),
        ("--frobnicate\n", "requirements.txt:1: "),
        ("-r missing.txt\n", "requirements.txt:1: missing.txt cannot be read: No such file"),
        ("-r requirements.txt\n", "requirements.txt:1: the file includes itself"),
        ("-r more/base.txt\n", "more/base.txt:2: '-e ..' cannot be used"),
    ],
)
def test_lines_that_are_not_taken(app: Path, text: str, said: str) -> None:
    write(app, "more/base.txt")
    (app / "more" / "base.txt").write_text("flask\n-e ..\n")
    error = fails(RequirementError, app, text)
    assert error.message.startswith(said)


def test_requirements_that_are_no_text(app: Path) -> None:
    (app / "requirements.txt").write_text("flask\n", encoding="utf-16")
    with pytest.raises(RequirementError, match="is not UTF-8"):
        bundle.requirement_lines(app, "requirements.txt", DEBIAN_13)


def test_included_files_and_constraints(app: Path) -> None:
    write(app, "more/x")
    (app / "requirements.txt").write_text(
        "\ufeff-r more/base.txt\n--prefer-binary\n-c more/limits.txt\nredis[hiredis]>=5 # why\n"
    )
    (app / "more" / "base.txt").write_text('Flask; python_version > "3"\n')
    (app / "more" / "limits.txt").write_text("werkzeug<4\n")
    lines = bundle.requirement_lines(app, "requirements.txt", DEBIAN_13)
    assert [(line.text, line.place, line.constraint) for line in lines] == [
        ('Flask; python_version > "3"', "more/base.txt:1", False),
        ("werkzeug<4", "more/limits.txt:1", True),
        ("redis[hiredis]>=5", "requirements.txt:4", False),
    ]


def test_pyproject(app: Path) -> None:
    project = '[project]\nname = "x"\nrequires-python = ">=3.9"\ndependencies = [\n  "flask>=3",\n]\n'
    (app / "pyproject.toml").write_text(project)
    lines = bundle.requirement_lines(app, "pyproject.toml", DEBIAN_13)
    assert [(line.text, line.place) for line in lines] == [("flask>=3", "pyproject.toml:5")]
    for addition, said in (
        (project.replace(">=3.9", "<3.12"), "requires-python"),
        (project + '[tool.uv.sources]\nFlask = { path = "../flask" }\n', "sources"),
        (project + "[x\n", "line 7"),
    ):
        (app / "pyproject.toml").write_text(addition)
        with pytest.raises(RequirementError, match=said):
            bundle.requirement_lines(app, "pyproject.toml", DEBIAN_13)


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
    recipe = Recipe(name="x", wsgi="app:app")
    build = {"index": "https://packages.example/simple", "mirror": "https://archive.example/debian"}
    with tarfile.open(pack(app, Recipe.model_validate(recipe.model_dump() | build)).path) as archive:
        entries = {entry.name: entry for entry in archive}
        dump = archive.extractfile("recipe.json")
        assert dump is not None
        assert Recipe.model_validate(json.load(dump)) == recipe
    assert list(entries) == [
        "lock.txt",
        "recipe.json",
        "source",
        "source/app.py",
        "source/pkg",
        "source/pkg/x.py",
        "source/run.sh",
    ]
    assert {(entry.uid, entry.gid, entry.mtime, entry.uname) for entry in entries.values()} == {(0, 0, 0, "")}
    modes = {name: entry.mode for name, entry in entries.items()}
    assert (modes["source"], modes["source/pkg"], modes["source/app.py"], modes["source/run.sh"]) == (
        0o755,
        0o755,
        0o644,
        0o755,
    )


def test_what_never_goes_in(app: Path) -> None:
    names = """
        app.py keys.py environment.py static/dist/site.js
        .git/config .env .env.local env/pyvenv.cfg env/lib/x.py .venv/x a/__pycache__/b.pyc c.pyc node_modules/x/y
        notes.db db.sqlite3 key.pem sub/id_rsa .aws/credentials dist/x build/y x.egg-info/y .DS_Store
    """
    write(app, *names.split())
    os.mkfifo(app / "pipe")
    packed = pack(app)
    assert packed.left_out == (
        ".DS_Store (Finder's notes)",
        ".aws/ (secrets)",
        ".env (secrets)",
        ".env.local (secrets)",
        ".git/ (version control)",
        ".venv/ (virtual environment)",
        "a/__pycache__/ (cache)",
        "build/ (build output)",
        "c.pyc (cache)",
        "db.sqlite3 (database)",
        "dist/ (build output)",
        "env/ (virtual environment)",
        "key.pem (secrets)",
        "node_modules/ (Node's packages)",
        "notes.db (database)",
        "pipe (neither file nor folder)",
        "sub/id_rsa (secrets)",
        "x.egg-info/ (build output)",
    )
    assert members(app) == [
        "a",
        "app.py",
        "environment.py",
        "keys.py",
        "static",
        "static/dist",
        "static/dist/site.js",
        "sub",
    ]
    assert packed.files == 4


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
    with pytest.raises(AppFolderError, match="points out of the app's folder"):
        pack(app)
    (app / ".bakeignore").write_text("link\n")
    assert "link" not in members(app)


def test_a_static_folder_that_is_left_out_is_said(app: Path) -> None:
    write(app, "app.py", "dist/x.js")
    recipe = Recipe(static={"/static": "dist"})
    with pytest.raises(AppFolderError, match="dist, which is left out") as caught:
        pack(app, recipe)
    assert "!/dist/" in caught.value.hint
    (app / ".bakeignore").write_text("!/dist/\n")
    assert "dist/x.js" in members(app, recipe)


def test_the_archive_does_not_hold_itself_or_the_cache(app: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(app, "app.py", "c/wheels/x")
    monkeypatch.setenv("BAKE_CACHE", str(app / "c"))
    first = bundle.pack(app, Recipe(), NO_LOCK, [], app / "out.tar")
    second = bundle.pack(app, Recipe(), NO_LOCK, [], app / "out.tar")
    assert first.sha256 == second.sha256
    assert first.left_out == ("c/ (bake's cache)",)


def test_a_file_nobody_may_read(app: Path) -> None:
    write(app, "app.py", "closed.py")
    (app / "closed.py").chmod(0)
    if os.access(app / "closed.py", os.R_OK):
        pytest.skip("root reads everything")
    with pytest.raises(AppFolderError, match=r"closed\.py cannot be read"):
        pack(app)


def test_the_words_for_uv_and_pip() -> None:
    recipe = Recipe(index="https://packages.example/simple")
    words = bundle.compile_argv(recipe, DEBIAN_13, refresh=True)
    assert {"--python-version=3.13", "--default-index=https://packages.example/simple", "--refresh"} <= set(words)
    words = bundle.download_argv(recipe, DEBIAN_13)
    assert {"--abi=cp313", "--require-hashes", "--only-binary=:all:", "--platform=manylinux_2_41_x86_64"} <= set(words)
    assert "--platform=manylinux_2_42_x86_64" not in words
