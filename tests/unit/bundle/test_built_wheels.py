"""Wheels that bake builds: the same source gives the same bytes."""

from __future__ import annotations

import shutil
from pathlib import Path

from app_locks import resolve

from bake.bundle import release, release_archive, wheel_cache
from bake.config.debian import DEBIAN_13
from bake.config.recipe import Recipe


def test_a_package_without_a_wheel_is_built_here(app: Path, cache_folder: Path) -> None:
    locked = resolve(app, "docopt==0.6.2\nsix\n")
    assert locked.built_packages == ("docopt",)
    wheels = wheel_cache.wheels(locked, DEBIAN_13, None)
    docopt, _ = wheels
    assert docopt.name == "docopt-0.6.2-py2.py3-none-any.whl"
    packed = release_archive.pack(release.gather(app, Recipe(), locked, wheels), app.parent / "a.tar")
    # The same source, built anew: the same bytes, so that an app that did not change is known again.
    shutil.rmtree(cache_folder)
    again = resolve(app, "docopt==0.6.2\nsix\n")
    assert again.text == locked.text
    wheels = wheel_cache.wheels(again, DEBIAN_13, None)
    assert (
        release_archive.pack(release.gather(app, Recipe(), again, wheels), app.parent / "b.tar").sha256 == packed.sha256
    )
    assert resolve(app, "docopt==0.6.2\nsix\n").built_packages == ()
