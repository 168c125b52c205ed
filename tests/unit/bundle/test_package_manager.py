"""How packages are installed, by the lock file and package.json."""

from __future__ import annotations

import json

import pytest

from bake.bundle.isolated_assets import BuildCommands
from bake.bundle.package_manager import build_commands
from bake.config.assets import Assets
from bake.errors import AssetsError

PACKAGES = {"devDependencies": {"vite": "5"}}
BERRY = "# lock\n__metadata:\n  version: 8\n"


def order(files: dict[str, str], project: object = PACKAGES, **keys: str) -> BuildCommands:
    assets = Assets.model_validate({"run": "npm run build", "folder": "dist", **keys})
    folder = f"{assets.source}/" if assets.source else ""
    return build_commands(assets, {f"{folder}package.json": json.dumps(project), **files}.get)


@pytest.mark.parametrize(
    ("lock", "text", "project", "install", "tool"),
    [
        ("package-lock.json", "{}", {}, "npm ci", ""),
        ("npm-shrinkwrap.json", "{}", {}, "npm ci", ""),
        ("pnpm-lock.yaml", "lockfileVersion: '9.0'\n", {}, "pnpm install --frozen-lockfile", "pnpm@9"),
        ("pnpm-lock.yaml", "lockfileVersion: '6.0'\n", {}, "pnpm install --frozen-lockfile", "pnpm@8"),
        ("pnpm-lock.yaml", "lockfileVersion: 5.4\n", {}, "pnpm install --frozen-lockfile", "pnpm@7"),
        ("pnpm-lock.yaml", "", {"packageManager": "pnpm@10.2.1+sha512.ab"}, "pnpm install --frozen-lockfile",
         "pnpm@10.2.1"),
        ("yarn.lock", "# yarn lockfile v1\n", {}, "yarn install --frozen-lockfile", "yarn@1.22.22"),
        ("yarn.lock", BERRY, {}, "yarn install --immutable", "@yarnpkg/cli-dist@4"),
        ("yarn.lock", BERRY, {"packageManager": "yarn@3.6.1"}, "yarn install --immutable",
         "@yarnpkg/cli-dist@3.6.1"),
        ("yarn.lock", "", {"packageManager": "yarn@1.22.19"}, "yarn install --frozen-lockfile", "yarn@1.22.19"),
    ],
)  # fmt: skip
def test_the_lock_file_decides(lock: str, text: str, project: dict[str, str], install: str, tool: str) -> None:
    result = order({lock: text}, {**PACKAGES, **project})
    assert (result.install, result.tool) == (install, tool)


def test_package_json_decides_between_two_lock_files() -> None:
    files = {"package-lock.json": "{}", "yarn.lock": "# yarn lockfile v1\n"}
    assert order(files).install == "npm ci"
    assert order(files, {**PACKAGES, "packageManager": "yarn@1.22.0"}).tool == "yarn@1.22.0"


def test_a_project_without_packages_needs_no_installation() -> None:
    assert order({}, {"scripts": {"build": "node build.js"}}).install == ""


def test_files_are_looked_up_in_the_source_folder() -> None:
    assert order({"web/package-lock.json": "{}"}, source="web").install == "npm ci"


def test_install_overrides_the_lock_file() -> None:
    result = order({"package-lock.json": "{}"}, install="npm install --omit=optional")
    assert (result.install, result.tool) == ("npm install --omit=optional", "")


@pytest.mark.parametrize(
    ("files", "project", "keys", "message", "hint"),
    [
        ({}, PACKAGES, {}, "package.json has no lock file beside it", "npm install --package-lock-only"),
        ({}, PACKAGES, {"install": "npm ci"}, "`npm ci` needs package-lock.json", "commit package-lock.json"),
        ({"yarn.lock": ""}, {}, {"install": "npm ci"}, "package-lock.json; it has yarn.lock: remove `install`", ""),
        ({"package.json": "{"}, {}, {}, "package.json is not JSON", "Correct it"),
    ],
)  # fmt: skip
def test_faults(files: dict[str, str], project: object, keys: dict[str, str], message: str, hint: str) -> None:
    with pytest.raises(AssetsError) as caught:
        order(files, project, **keys)
    assert message in caught.value.message and hint in caught.value.hint


def test_a_missing_package_json_is_named_with_the_key_for_its_folder() -> None:
    with pytest.raises(AssetsError, match=r"the app has no package\.json") as caught:
        build_commands(Assets(folder=("dist",), run="make"), lambda name: None)
    assert "`assets: {source: frontend, …}`" in caught.value.hint
