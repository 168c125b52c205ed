"""The newest release that an app pins. The package index is a folder of the tests'."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from conftest import Site, publish

from bake.bundle import pin_dates
from bake.bundle.lock import Requirements
from bake.bundle.pin_dates import PinnedRelease
from bake.config.debian import DEBIAN_13
from bake.config.recipe import Recipe
from bake.host import cache
from bake.host.cache import A_WEEK, Age

pytestmark = pytest.mark.usefixtures("cache_folder")


def newest(site: Site, *requirements: str, age: Age = A_WEEK) -> PinnedRelease | None:
    recipe = Recipe(requirements=requirements, index=f"{site.address}/simple/")
    return pin_dates.newest(Requirements.read(Path(), recipe, DEBIAN_13), age)


@pytest.fixture
def index(site: Site) -> Site:
    publish(site, "old", "old-1.0-py3-none-any.whl", "old-1.0.tar.gz", dates=["2019-02-03", "2019-02-02"])
    wheels = ("grown-2.0-cp311-cp311-manylinux_2_17_x86_64.whl", "grown-2.0-cp313-cp313-manylinux_2_17_x86_64.whl")
    publish(site, "grown", *wheels, "grown-2.0.tar.gz", dates=["2022-05-06", "2025-07-08", "2022-05-05"])
    publish(site, "undated", "undated-1.0-py3-none-any.whl")
    return site


def test_a_release_counts_from_its_first_file(index: Site) -> None:
    assert newest(index, "old==1.0", "grown==2.0") == PinnedRelease("grown", "2.0", "2022-05-05")


def test_what_is_pinned_for_other_systems_does_not_count(index: Site) -> None:
    pins = ("old==1.0", "grown==2.0; sys_platform == 'win32'")
    assert newest(index, *pins) == PinnedRelease("old", "1.0", "2019-02-02")


@pytest.mark.parametrize(
    "requirements",
    [
        ("undated==1.0",),
        ("old",),
        ("old>=1.0", "grown", "undated==1.0"),
        ("old==1.*",),
        ("old==3.0",),
        ("absent==1.0",),
        (),
    ],
)
def test_of_no_time(index: Site, requirements: tuple[str, ...]) -> None:
    assert newest(index, *requirements) is None


def test_it_is_asked_again_once_it_is_old(index: Site, cache_folder: Path) -> None:
    first = newest(index, "old==1.0")
    (kept,) = (cache_folder / "locks").glob("*.newest.json")
    cache.keep(kept, '{"name": "old", "version": "1.0", "date": "2018-01-01"}')
    assert newest(index, "old==1.0") == PinnedRelease("old", "1.0", "2018-01-01")
    assert newest(index, "old==1.0", age=Age(refresh=True)) == first
    cache.keep(kept, "{}")
    os.utime(kept, (0, 0))
    assert newest(index, "old==1.0") == first
