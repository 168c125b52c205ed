"""The words for uv."""

from __future__ import annotations

from pathlib import Path

from bake.bundle.uv_resolver import CompileOptions, compile_argv, listing_argv, target_argv
from bake.config.debian import DEBIAN_12, DEBIAN_13


def test_uv_resolves_for_the_target_and_never_builds() -> None:
    words = compile_argv(DEBIAN_13, CompileOptions(refresh=True, wheel_folders=(Path("/a"),), newest="2021-01-01"))
    assert {"--python-version=3.13", "--only-binary=:all:", "--refresh"} <= {*words}
    assert {"--find-links=/a", "--exclude-newer=2021-01-01"} <= {*words}
    assert not any(word.startswith("--no-binary") for word in words)
    plain = compile_argv(DEBIAN_12, CompileOptions())
    assert not {"--refresh", "--exclude-newer="} & {*plain} and "--python-version=3.11" in plain


def test_a_listing_reads_only_the_index() -> None:
    words = listing_argv(target_argv(DEBIAN_13), ["a.txt"])
    assert {"--no-deps", "--format=pylock.toml", "--python-version=3.13", "a.txt"} <= {*words}
