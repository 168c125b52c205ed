"""Run uv, which resolves requirements for a target. It never builds a package, not even for its metadata."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uv

from bake.bundle.package_index import index_env
from bake.config.debian import Target
from bake.host.programs import Result, run


@dataclass(frozen=True)
class CompileOptions:
    """Options of a resolution: the folders with further wheels, and the newest upload date, as YYYY-MM-DD."""

    refresh: bool = False
    wheel_folders: tuple[Path, ...] = ()
    newest: str = ""


def run_uv(argv: list[str], index: str | None, work: Path) -> Result:
    """Run a uv command in `work`. `index` is that of bake.yaml."""
    return run(argv, cwd=work, check=False, env={"NO_COLOR": "1", **index_env(index)})


def target_argv(target: Target) -> list[str]:
    """Return uv's options that choose a target's Python and platform."""
    return [f"--python-version={target.python_version}", f"--python-platform={target.uv_platform}"]


def listed_packages(
    options: Sequence[str], files: Sequence[str], index: str | None, work: Path
) -> list[dict[str, Any]] | None:
    """Return the packages that uv lists for requirements files in `work`, or None if it fails."""
    result = run_uv(listing_argv(options, files), index, work)
    if result.status:
        return None
    packages: list[dict[str, Any]] = tomllib.loads(result.stdout).get("packages", [])
    return packages


def listing_argv(target_options: Sequence[str], files: Sequence[str]) -> list[str]:
    """Return uv's command that lists the files of each requirement as a pylock.toml, without dependencies.

    It allows sources, so that it lists releases without a matching wheel. Without dependencies, uv reads only the
    index: it downloads no wheel and builds nothing.
    """
    options = "--quiet --no-config --no-python-downloads --no-sources --no-deps --format=pylock.toml"
    return [uv.find_uv_bin(), "pip", "compile", *options.split(), f"--python={sys.executable}", *target_options, *files]


def oldest_with_wheel(name: str, after: str, target: Target, index: str | None, work: Path) -> str:
    """Return the oldest version of a package after another version that has a wheel for a target, or "" if none has."""
    (work / "newer.txt").write_text(f"{name}>{after}\n")
    words = "--quiet --no-config --no-python-downloads --no-sources --no-deps --only-binary=:all: --no-header"
    words += " --no-annotate --resolution=lowest"
    options = [f"--python={sys.executable}", *target_argv(target)]
    result = run_uv([uv.find_uv_bin(), "pip", "compile", *words.split(), *options, "newer.txt"], index, work)
    return "" if result.status else result.stdout.strip().partition("==")[2].partition(" ")[0]


def newest_of(day: str, newer: str, target: Target, index: str | None, work: Path) -> str:
    """Return the newest version on a `day` (YYYY-MM-DD) for a requirement such as `a>1.0`, or "" if there is none."""
    (work / "newest.txt").write_text(f"{newer}\n")
    packages = listed_packages([*target_argv(target), f"--exclude-newer={day}"], ["newest.txt"], index, work)
    return str(packages[0]["version"]) if packages else ""


def compile_argv(target: Target, options: CompileOptions) -> list[str]:
    """Return uv's command that resolves requirements.txt and constraints.txt in its working folder to wheels."""
    words = "--quiet --no-config --no-python-downloads --no-sources --only-binary=:all: --generate-hashes"
    words += " --no-header --no-annotate --no-emit-index-url"
    target_options = [f"--python={sys.executable}", *target_argv(target)]
    further_options = ["--refresh"] if options.refresh else []
    further_options += [f"--find-links={folder}" for folder in options.wheel_folders]
    further_options += [f"--exclude-newer={options.newest}"] if options.newest else []
    files = ["--constraints=constraints.txt", "requirements.txt"]
    return [uv.find_uv_bin(), "pip", "compile", *words.split(), *target_options, *further_options, *files]
