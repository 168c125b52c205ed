"""The archive: what goes in, what stays out, the same bytes each time."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from importlib.metadata import Distribution
from pathlib import Path

import builder_fakes
import pytest
from app_files import gather, write

from bake.bundle import built_wheels, release_archive, release_files
from bake.bundle.app_source import AppSource
from bake.bundle.lock import Requirements
from bake.config.recipe import Recipe
from bake.errors import AppFolderError
from bake.host import cache
from bake.host.programs import run
from bake.host.progress import Reporter
from bake.host.terminal import Terminal

pytestmark = pytest.mark.usefixtures("cache_folder")


def pack(folder: Path, recipe: Recipe | None = None) -> release_archive.Bundle:
    return release_archive.pack(gather(folder, recipe), folder.parent / "out" / "bundle.tar")


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
    assert (first.sha256, first.size) == (second.sha256, second.size)
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
    extras = [
        name
        for extra in (*release_files.extras(Recipe()), *release_files.BUNDLE_FEATURES)
        for name in release_files.feature_files(extra)
    ]
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
    programs = {"source", "source/pkg", "source/run.sh", "settings/bin/serve", "settings/secret", "settings/updates"}
    assert modes == {name: 0o755 if name in programs else 0o644 for name in modes}


def test_a_folder_may_be_named_by_a_link(app: Path) -> None:
    write(app, "app.py")
    named = app.parent / "named"
    named.symlink_to(app)
    assert pack(named).sha256 == pack(app).sha256


def test_the_archive_does_not_hold_itself_or_the_cache(app: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(app, "app.py", "c/wheels/x")
    monkeypatch.setenv("BAKE_CACHE", str(app / "c"))
    first = release_archive.pack(gather(app), app / "c" / "out.tar")
    second = release_archive.pack(gather(app), app / "c" / "out.tar")
    assert first.sha256 == second.sha256
    assert first.release.exclusion_notes == ("c/ (the cache of bake)",)


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
    (app.parent / "there").mkdir()
    run(["tar", "-C", app.parent / "there", "-xf", pack(app).path])
    found = next(iter(Distribution.discover(name="my-app", path=[str(app.parent / "there" / "source")])))
    assert (found.name, found.version) == ("My.App", "1.2")
    assert [(point.name, point.group) for point in found.entry_points] == [("serve", "console_scripts")]


def test_of_a_packaged_app_s_folder_nothing_goes_in(app: Path) -> None:
    write(app, "app.py", "bake.yaml")
    packaged = Recipe.model_validate({"app": {"package": "x==1"}, "check": {"env": {"KEY": "for the check"}}})
    assert members(app, packaged) == []
    # Nor does what stands in for secrets.
    assert b"for the check" not in pack(app, packaged).path.read_bytes()


def test_libraries_of_wheels_that_bake_built_become_packages_of_the_machine(
    app: Path, tmp_path: Path, cache_folder: Path
) -> None:
    (app / "app.py").write_text("")
    recipe = Recipe.model_validate({"name": "small", "wsgi": "app:app", "requirements": [], "packages": ["libpq5"]})
    wheel = builder_fakes.wheel(tmp_path, "a-1.0-py3-none-any.whl")
    libraries = {"libpq.so.5": "libpq5", "libldap.so.2": "libldap2", "libunknown.so.1": ""}
    built = built_wheels.keep(wheel, "key", 0, libraries)
    lock_file = cache_folder / "locks" / f"{Requirements.read(app, recipe, recipe.target).key}.txt"
    cache.keep(lock_file, f"a==1.0 --hash=sha256:{built.sha256}\n")
    stream = io.StringIO()
    bundle = release_archive.collect(
        AppSource(app, recipe), tmp_path / "b.tar", Reporter(Terminal(file=stream, width=1000))
    )
    assert bundle.packages == ("libpq5", "libldap2")
    assert "packages: libldap2 (libraries of the wheels that bake built)" in stream.getvalue()
    (recipe_file,) = [member for member in bundle.release.members if member.name.endswith("recipe.json")]
    with recipe_file.open() as content:
        assert json.load(content)["packages"] == ["libpq5", "libldap2"]
