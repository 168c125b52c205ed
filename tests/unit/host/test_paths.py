"""Where things are: in a checkout, in an installed copy, and where the environment moves them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from conftest import REPOSITORY

from bake.host import paths
from bake.host.programs import run


def test_a_checkout_is_its_own_tree() -> None:
    assert paths.tree() == REPOSITORY
    assert (paths.rootfs() / "usr/lib/app/setup").is_file()
    assert (paths.base_disk_rootfs() / "etc/fstab").is_file()
    assert (paths.features() / "django/django/app_settings.py").is_file()


def test_an_installed_copy_has_its_tree_inside(installed: Path) -> None:
    show = "from bake.host import paths as p; print(p.tree(), p.rootfs().is_dir(), p.base_disk_rootfs().is_dir())"
    said = run([sys.executable, "-c", show], cwd=installed, env={"PYTHONPATH": str(installed)}).stdout
    assert said.split() == [str(installed / "bake/tree"), "True", "True"]


def test_the_cache_can_be_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BAKE_CACHE", str(tmp_path / "here"))
    assert paths.cache() == tmp_path / "here"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BAKE_CACHE", "relative")
    assert paths.cache() == tmp_path / "relative"


def test_the_cache_is_where_the_system_keeps_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BAKE_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert paths.cache() == tmp_path / "bake"


def test_outputs_are_below_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert paths.outputs("hello") == tmp_path / "dist" / "hello"
