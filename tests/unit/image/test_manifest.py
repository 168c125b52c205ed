"""The manifest of an image: written, read back, and read as older versions of bake wrote it."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path

import pytest

from bake.errors import ProgramError, RecipeError
from bake.image import manifest
from bake.image.manifest import ImageManifest, ObservedPaths

FULL = ImageManifest(
    name="shop", sha256="a" * 64, size=3, seconds={"bake": 1.5}, checks=101, app="compared, 41 addresses",
    pages=("a table",), made="2026-01-02T03:04:05Z", base_date="2026-01-01",
    security_url="https://archive.example/s", release="debian-13", bundle="b" * 64,
    document="d" * 64, health="/up", domains=("shop.example",), keep="LABEL=keep", secrets=("KEY",),
    packages={"nginx": "1.26"}, sources={"nginx": ("1.26", "1.27")}, wheels={"flask": "3.1"},
    observed=ObservedPaths({"logs": True, "a.db": False}, ("static",), ("app.py",)),
    notes=("a note",), commit="c" * 40, version="1.2",
)  # fmt: skip
#: As bake wrote it before manifests had a version.
OLD = {
    "name": "shop", "sha256": "a" * 64, "size": 3, "seconds": {"bake": 1.5}, "checks": 101, "app": "compared",
    "pages": [], "made": "2026-01-02T03:04:05Z", "base_date": "2026-01-01", "release": "debian-13", "bundle": "b",
    "document": "d", "health": None, "domains": [], "keep": None, "secrets": [], "packages": {"nginx": "1.26"},
    "observed": {"data": {"logs": True}, "fresh": [], "refused": []}, "notes": [], "version": "1.2",
}  # fmt: skip


def test_a_manifest_reads_back() -> None:
    assert all(getattr(FULL, each.name) != each.default for each in fields(FULL))
    assert ImageManifest.from_json(FULL.to_json()) == FULL
    assert ImageManifest.from_json(ImageManifest().to_json()) == ImageManifest()


def test_a_manifest_has_the_keys_that_it_had_before_it_had_a_version() -> None:
    old = ImageManifest.from_json(json.dumps(OLD))
    assert (old.version, old.health, old.observed) == ("1.2", None, ObservedPaths({"logs": True}))
    assert json.loads(old.to_json()) == {"manifest_version": manifest.VERSION, **OLD}
    assert json.loads(replace(old, observed=None, version="").to_json())["observed"] == {}


def test_a_value_that_is_missing_or_of_another_type_has_its_default() -> None:
    text = json.dumps({"checks": "many", "pages": "a", "observed": [], "new": 1, "name": "shop"})
    assert ImageManifest.from_json(text) == ImageManifest(name="shop")


def test_the_manifest_is_beside_the_image(tmp_path: Path) -> None:
    assert manifest.path_of(tmp_path / "shop.qcow2").name == "shop.json"
    assert manifest.path_of(tmp_path / "shop.raw").name == "shop.raw.json"


def test_the_paths_that_the_app_wrote_are_those_of_its_image(tmp_path: Path) -> None:
    image = tmp_path / "shop.qcow2"
    image.touch()
    manifest.path_of(image).write_text(FULL.to_json())
    assert manifest.observed_paths(image) == ("logs", "a.db")
    for text in (replace(FULL, observed=None).to_json(), "[]", "not JSON"):
        manifest.path_of(image).write_text(text)
        with pytest.raises(RecipeError, match=r"shop\.json does not list"):
            manifest.observed_paths(image)


def test_an_image_of_a_newer_bake_is_refused_with_the_next_step(tmp_path: Path) -> None:
    image = tmp_path / "shop.qcow2"
    image.touch()
    manifest.path_of(image).write_text('{"manifest_version": 99}')
    with pytest.raises(ProgramError, match=r"shop\.json has the unknown version 99") as caught:
        manifest.observed_paths(image)
    assert caught.value.hint


def test_the_newest_proof_of_a_release_is_reported(cache_folder: Path) -> None:
    newer = replace(FULL, made="2026-03-04T05:06:07Z", checks=7)
    texts = {"old": FULL.to_json(), "new": newer.to_json(), "unknown": '{"manifest_version": 99}', "broken": "{"}
    for name, text in texts.items():
        (cache_folder / "image" / name).mkdir(parents=True)
        (cache_folder / "image" / name / manifest.FILE_NAME).write_text(text)
    assert manifest.proof_of("b" * 64) == "2026-03-04, 7 checks passed, app compared, 41 addresses"
    assert manifest.proof_of("other") == ""
