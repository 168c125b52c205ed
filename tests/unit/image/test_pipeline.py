"""The pipeline up to the first program that needs a machine; tests/system runs the rest."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest

from bake.bundle import release_archive
from bake.bundle.app_source import AppSource
from bake.bundle.release import Release
from bake.bundle.release_archive import Bundle
from bake.bundle.wheel_builder import LockOptions
from bake.config.debian import DEBIAN_12, DEBIAN_13, Target
from bake.config.recipe import Recipe
from bake.config.sections import BaseImage
from bake.disk import base_disk, security_updates
from bake.disk.base_disk import Base
from bake.host.cache import Age
from bake.host.progress import Reporter
from bake.host.terminal import Terminal
from bake.image import build, pipeline
from bake.image.manifest import ImageManifest


class Stop(Exception):
    """The test has seen enough."""


@pytest.mark.parametrize("target", [DEBIAN_12, DEBIAN_13])
def test_an_app_on_a_cloud_image_gets_the_wheels_for_the_debian_version_of_the_image(
    app: Path, cache_folder: Path, monkeypatch: pytest.MonkeyPatch, target: Target
) -> None:
    base = Base(app / "disk.qcow2", app / "vmlinuz", "key", 0, "2026-11-28", target.name)
    collected: list[Target] = []

    def collect(app: AppSource, out: Path, report: Reporter, options: LockOptions) -> None:
        collected.append(app.recipe.target)
        raise Stop

    monkeypatch.setattr(base_disk, "find", lambda key, age: base)
    monkeypatch.setattr(release_archive, "collect", collect)
    monkeypatch.chdir(app.parent)
    recipe = Recipe(name="shop", base=BaseImage(image="stock.qcow2", sha512="0" * 128))
    with pytest.raises(Stop):
        pipeline.bake(AppSource(app, recipe), pipeline.Options(), Reporter(Terminal(file=io.StringIO())))
    assert collected == [target]


def test_the_base_disk_has_the_libraries_of_the_wheels_that_bake_built(
    app: Path, cache_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys: list[str] = []

    def find(key: str, age: Age) -> None:
        keys.append(key)
        raise Stop

    def collect(app: AppSource, out: Path, report: Reporter, options: LockOptions) -> Bundle:
        return Bundle(out, "0" * 64, 0, Release((), ()), ("git", "libpq5"))

    monkeypatch.setattr(base_disk, "find", find)
    monkeypatch.setattr(release_archive, "collect", collect)
    monkeypatch.chdir(app.parent)
    recipe = Recipe(name="shop", packages=("git",))
    with pytest.raises(Stop):
        pipeline.bake(AppSource(app, recipe), pipeline.Options(), Reporter(Terminal(file=io.StringIO())))
    built = Recipe(name="shop", packages=("git", "libpq5"))
    assert keys == [base_disk.key(DEBIAN_13, built.debian_packages, None)]


@pytest.mark.parametrize(("is_covered", "step"), [(False, "base"), (True, "build")])
def test_a_cached_base_disk_is_built_again_if_it_lacks_security_updates(
    app: Path, cache_folder: Path, monkeypatch: pytest.MonkeyPatch, is_covered: bool, step: str
) -> None:
    base = Base(cache_folder / "base/key/disk.qcow2", app / "vmlinuz", "key", 0, "2026-11-28", DEBIAN_13.name)
    compared: list[Path] = []

    def covers(entry: Path, report: Reporter) -> bool:
        compared.append(entry)
        return is_covered

    def stop(step: str) -> Callable[..., None]:
        def begin(*words: object) -> None:
            raise Stop(step)

        return begin

    bundle = Bundle(app / "bundle.tar", "0" * 64, 0, Release((), ()))
    monkeypatch.setattr(release_archive, "collect", lambda *words: bundle)
    monkeypatch.setattr(base_disk, "find", lambda key, age: base)
    monkeypatch.setattr(security_updates, "covers", covers)
    monkeypatch.setattr(base_disk, "build", stop("base"))
    monkeypatch.setattr(build.Build, "of", stop("build"))
    monkeypatch.chdir(app.parent)
    with pytest.raises(Stop, match=step):
        pipeline.bake(AppSource(app, Recipe(name="shop")), pipeline.Options(), Reporter(Terminal(file=io.StringIO())))
    assert compared == [base.disk.parent]


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"manifest_version": 99, "sha256": "0"}'])
def test_an_image_whose_manifest_is_damaged_is_baked_again(tmp_path: Path, content: str) -> None:
    assert not pipeline._is_finished(tmp_path)
    (tmp_path / "image.json").write_text(ImageManifest(sha256="0").to_json())
    assert pipeline._is_finished(tmp_path)
    (tmp_path / "image.json").write_text(content)
    assert not pipeline._is_finished(tmp_path)
