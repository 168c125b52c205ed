"""Releases as data."""

from __future__ import annotations

import re

import pytest

from bake.config import debian
from bake.config.debian import TARGETS, Target


@pytest.mark.parametrize("name", TARGETS)
def test_a_release_is_found_by_its_own_name(name: str) -> None:
    goal = TARGETS[name]
    assert goal.name == name
    assert re.fullmatch(r"(debian|ubuntu)-[0-9.]+", name)
    assert goal.suite.isalpha()


def test_releases_are_what_their_package_lists_say() -> None:
    goal = debian.DEBIAN_13
    assert (goal.suite, goal.python_version, goal.glibc, goal.arch) == ("trixie", "3.13", (2, 41), "amd64")
    goal = debian.DEBIAN_12
    assert (goal.suite, goal.python_version, goal.glibc, goal.arch) == ("bookworm", "3.11", (2, 36), "amd64")


@pytest.mark.parametrize(
    ("glibc", "platform"), [((2, 36), "2_36"), ((2, 40), "2_40"), ((2, 41), "2_40"), ((3, 0), "2_40")]
)
def test_uv_is_asked_for_no_platform_it_does_not_know(glibc: tuple[int, int], platform: str) -> None:
    assert Target("any", "any", (3, 11), glibc, "2022-10-24").uv_platform == f"x86_64-manylinux_{platform}"


def test_packages_are_named_once() -> None:
    for names in (debian.MACHINE_PACKAGES, debian.BASE_PACKAGES):
        assert len(names) == len(set(names))
        assert all(re.fullmatch(r"[a-z0-9][a-z0-9+.-]+", name) for name in names)
    assert not set(debian.MACHINE_PACKAGES) & set(debian.BASE_PACKAGES)
