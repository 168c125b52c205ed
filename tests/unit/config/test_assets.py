"""`assets`: its forms, the installation at the head of `run`, and folders that the build is yet to make."""

from __future__ import annotations

from pathlib import Path

import pytest

from bake.config import loader
from bake.config.assets import Assets
from bake.config.recipe import Recipe
from bake.errors import RecipeError


def read(app: Path, text: str) -> Recipe:
    (app / "bake.yaml").write_text(text)
    return loader.read(app)


@pytest.mark.parametrize(
    ("run", "install", "rest"),
    [
        ("npm ci && npm run build", "npm ci", "npm run build"),
        ("npm ci --legacy-peer-deps&&npx vite build", "npm ci --legacy-peer-deps", "npx vite build"),
        ("pnpm i && pnpm build && true", "pnpm i", "pnpm build && true"),
        ("yarn && yarn build", "yarn", "yarn build"),
        ("npm run build && npm ci", None, "npm run build && npm ci"),
        ("npm run lint && npm run build", None, "npm run lint && npm run build"),
        ("yarn lint && yarn build", None, "yarn lint && yarn build"),
        ("npm ci", None, "npm ci"),
    ],
)  # fmt: skip
def test_an_installation_at_the_head_of_run_becomes_install(run: str, install: str | None, rest: str) -> None:
    assets = Assets.model_validate({"run": run, "folder": "static/dist"})
    assert (assets.install, assets.run) == (install, rest)


def test_one_folder_and_several(app: Path) -> None:
    assert read(app, "assets: {run: make, folder: static/dist/}").assets == Assets(folder=("static/dist",), run="make")
    assert read(app, "assets: {run: make, folder: [a, b/c]}").assets == Assets(folder=("a", "b/c"), run="make")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("assets: {folder: dist}", "assets.run: field required"),
        ("assets: {run: make}", "assets.folder: field required"),
        ("assets: {run: make, folder: ../dist}", "'../dist' is not a path inside the app's folder"),
        ("assets: {run: make, folder: .}", "'.' is not a path inside the app's folder"),
        ("assets: {run: make, folder: []}", "assets.folder: "),
        ("assets: {run: npm ci && make, install: npm ci, folder: a}", "assets: `run` begins with an installation"),
        ("assets: {run: make, folder: a, registry: 'http://npm.example/'}", "is not an https URL"),
        ("assets: {run: make, folder: a, command: x}", "assets.command: is not a key (folder, run, install"),
        ("app: {package: 'flask==3'}\nwsgi: a:b\nassets: {run: make, folder: a}", "flask==3 is a package, which"),
    ],
)  # fmt: skip
def test_faults(app: Path, text: str, fault: str) -> None:
    with pytest.raises(RecipeError) as caught:
        read(app, text)
    assert fault in caught.value.details


def test_static_may_name_a_folder_that_the_build_makes(app: Path) -> None:
    text = (
        "assets: {run: make, folder: static/dist}\nstatic: {/static: static, /dist: static/dist, /js: static/dist/js}\n"
    )
    assert list(read(app, text).static or ()) == ["/static", "/dist", "/js"]
    with pytest.raises(RecipeError, match="a fault"):
        read(app, "assets: {run: make, folder: static/dist}\nstatic: {/x: static/other}\n")
