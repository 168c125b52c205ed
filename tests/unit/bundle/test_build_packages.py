"""The Debian packages of builder roots."""

from __future__ import annotations

import re

from packaging.utils import canonicalize_name

from bake.bundle import build_packages


def test_a_root_has_compilers_known_headers_and_the_recipe_s_packages() -> None:
    packages = build_packages.builder_packages(("libmagic-dev", "gcc"))
    assert {"gcc", "python3-dev", "libpq-dev", "libmagic-dev"} <= {*packages}
    assert list(packages) == sorted(set(packages))


def test_the_names_of_the_table_are_canonical() -> None:
    assert all(name == canonicalize_name(name) for name in build_packages.HEADERS)
    assert all(re.fullmatch(r"[a-z0-9][a-z0-9+.-]+", name) for name in build_packages.builder_packages(()))
