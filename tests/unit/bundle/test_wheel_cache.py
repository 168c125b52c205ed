"""The wheels of a lock: fetched once, verified, and shared by apps."""

from __future__ import annotations

import hashlib
import tarfile
import time
from pathlib import Path

import pytest
from app_locks import resolve
from conftest import Site, publish

from bake.app.requirement_line import HASH
from bake.bundle import lock, release, release_archive, wheel_cache
from bake.config.debian import DEBIAN_13
from bake.config.recipe import Recipe
from bake.errors import WheelError
from bake.host.cache import Age

pytestmark = pytest.mark.usefixtures("cache_folder")


@pytest.mark.parametrize("file", [None, "no-such-thing-as-this==0\n"])
def test_no_requirements_are_an_empty_lock(app: Path, file: str | None) -> None:
    # Whatever lies there: an empty list is what bake.yaml says.
    if file:
        (app / "requirements.txt").write_text(file)
    recipe = Recipe.model_validate({"requirements": []})
    locked = lock.resolve(lock.Requirements.read(app, recipe, DEBIAN_13), Age())
    assert locked.text.strip() == ""
    assert wheel_cache.wheels(locked, DEBIAN_13, recipe.index) == []


def test_flask_is_locked_fetched_and_packed(app: Path, cache_folder: Path) -> None:
    recipe = Recipe()
    locked = resolve(app, "flask==3.1.*\n")
    assert "flask==3.1." in locked.text
    assert "#" not in locked.text
    wheels = wheel_cache.wheels(locked, DEBIAN_13, recipe.index)
    assert any(wheel.name.startswith("markupsafe-") and "cp313" in wheel.name for wheel in wheels)
    before = time.process_time()
    assert resolve(app, "# said otherwise\nflask==3.1.*   # the same\n") == locked
    assert wheel_cache.wheels(locked, DEBIAN_13, recipe.index) == wheels
    assert time.process_time() - before < 0.5
    packed = release_archive.pack(release.gather(app, recipe, locked, wheels), app.parent / "a.tar")
    with tarfile.open(packed.path) as archive:
        inner = archive.extractfile("lock.txt")
        assert inner is not None
        pinned = inner.read().decode()
        assert [f"wheels/{wheel.name}" for wheel in wheels] == [
            n for n in archive.getnames() if n.startswith("wheels/")
        ]
    assert set(HASH.findall(pinned)) == {hashlib.sha256(wheel.read_bytes()).hexdigest() for wheel in wheels}
    assert pinned.count("==") == len(wheels)

    wheels[0].write_bytes(b"something else")
    with pytest.raises(WheelError, match=wheels[0].name):
        release_archive.pack(release.gather(app, recipe, locked, wheels), app.parent / "b.tar")
    assert not (app.parent / "b.tar").exists()
    assert wheel_cache.wheels(locked, DEBIAN_13, recipe.index) == wheels
    release_archive.pack(release.gather(app, recipe, locked, wheels), app.parent / "b.tar")


def test_apps_with_the_same_wheel_do_not_fetch_it_in_turn(app: Path, site: Site) -> None:
    index = f"{site.address}/simple/"
    for name in ("a", "b"):
        publish(site, name, f"{name}-1.0-py3-none-any.whl")
    one, both = (resolve(app, text, index=index) for text in ("a==1.0\n", "a==1.0\nb==1.0\n"))
    for locked in (one, both):
        wheel_cache.wheels(locked, DEBIAN_13, index)
    asked = len(site.asked)
    assert [wheel.name for wheel in wheel_cache.wheels(one, DEBIAN_13, index)] == ["a-1.0-py3-none-any.whl"]
    assert len(site.asked) == asked
