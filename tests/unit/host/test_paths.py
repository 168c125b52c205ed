"""Where things are: in a checkout, in an installed copy, and where the environment moves them."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from conftest import REPOSITORY

from bake.errors import PlaceError
from bake.host import cache, paths
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


@pytest.mark.parametrize("mode", [0o777, 0o755, None])
def test_only_its_owner_can_read_the_cache(cache_folder: Path, mode: int | None) -> None:
    if mode:
        cache_folder.mkdir()
        cache_folder.chmod(mode)
    assert paths.cache() == cache_folder
    assert cache_folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a folder of another user")
@pytest.mark.parametrize("is_link", [False, True])
def test_the_cache_of_another_user_is_refused(cache_folder: Path, tmp_path: Path, is_link: bool) -> None:
    if is_link:
        (tmp_path / "mine").mkdir()
        cache_folder.symlink_to(tmp_path / "mine")
    else:
        cache_folder.mkdir()
    os.chown(cache_folder, 65534, 65534, follow_symlinks=False)
    for _ in range(2):
        with pytest.raises(PlaceError, match=r"belongs to another user \(uid 65534\)"):
            paths.cache()


def test_a_cache_that_cannot_be_made_is_an_error_of_what_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BAKE_CACHE", "/sys/none/cache")
    assert paths.cache() == Path("/sys/none/cache")
    with pytest.raises(PlaceError, match="cannot be written"), cache.work_folder():
        pass


def test_outputs_are_below_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert paths.outputs("hello") == tmp_path / "dist" / "hello"
