"""What goes into a release, and what stays out of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from app_files import gather, write

from bake.config.recipe import Recipe
from bake.errors import AppFolderError

pytestmark = pytest.mark.usefixtures("cache_folder")


def members(folder: Path, recipe: Recipe | None = None) -> list[str]:
    names = (member.name for member in gather(folder, recipe).members)
    return [name.removeprefix("source/") for name in names if name.startswith("source/")]


def test_links_stay_inside(app: Path) -> None:
    write(app, "a/x", "app.py")
    (app / "absolute").symlink_to(app / "a" / "x")
    (app / "a" / "up").symlink_to("../../app/app.py")
    (app / "dangling").symlink_to("nothing")
    (app / "folder").symlink_to("a")
    assert {member.name: member.target for member in gather(app).members if member.target} == {
        "source/a/up": "../app.py",
        "source/absolute": "a/x",
        "source/dangling": "nothing",
        "source/folder": "a",
    }


@pytest.mark.parametrize("target", ["/etc/passwd", "../outside", "..", "/"])
def test_links_that_leave_are_refused(app: Path, target: str) -> None:
    write(app, "app.py")
    (app / "link").symlink_to(target)
    with pytest.raises(AppFolderError, match=r"is a link to .*, outside the app's folder"):
        gather(app)
    (app / ".bakeignore").write_text("link\n")
    assert "link" not in members(app)


def test_a_chain_of_links_that_leaves_is_refused(app: Path) -> None:
    write(app, "a/x", "app.py")
    (app / "up").symlink_to("a/..")
    (app / "first").symlink_to("second")
    (app / "second").symlink_to("up/../outside")
    for name in ("first", "second"):
        (app / ".bakeignore").write_text("first\nsecond\n".replace(f"{name}\n", ""))
        with pytest.raises(AppFolderError, match=rf"{name} is a link to .*, outside the app's folder"):
            gather(app)


def test_a_static_folder_that_is_left_out_is_said(app: Path) -> None:
    write(app, "app.py", "dist/x.whl")
    recipe = Recipe(static={"/static": "dist"})
    with pytest.raises(AppFolderError, match="dist, which is excluded") as caught:
        gather(app, recipe)
    assert "!/dist/" in caught.value.hint
    (app / ".bakeignore").write_text("!/dist/\n")
    assert "dist/x.whl" in members(app, recipe)
