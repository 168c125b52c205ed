"""The workflows, the action that bakes in somebody's CI, the hooks and the changelog."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import REPOSITORY

import bake
from bake.host.programs import run

WORKFLOWS = sorted((REPOSITORY / ".github/workflows").glob("*.yml"))
PINNED = re.compile(r"[\w.-]+/[\w.-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+")


def load(path: Path) -> dict[str, Any]:
    """Return a YAML file; YAML 1.1 reads the key `on` as True."""
    return {str(key): value for key, value in yaml.safe_load(path.read_text()).items()}


@pytest.mark.parametrize("path", [*WORKFLOWS, REPOSITORY / "action.yml"], ids=lambda path: path.name)
def test_an_action_of_others_is_pinned_by_its_commit(path: Path) -> None:
    for used in re.findall(r"uses: (.+)", path.read_text()):
        assert PINNED.fullmatch(used), used


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_may_only_read_and_runs_sessions_that_exist(path: Path) -> None:
    assert load(path)["permissions"] == {"contents": "read"}
    noxfile = (REPOSITORY / "noxfile.py").read_text()
    sessions = re.findall(r"nox -s ([\w-]+)", path.read_text())
    assert sessions and all(f"\ndef {name}(session" in noxfile for name in sessions)


def test_the_tools_of_the_hooks_are_those_of_the_lock() -> None:
    hooks = load(REPOSITORY / ".pre-commit-config.yaml")["repos"]
    lock = (REPOSITORY / "locks/dev.txt").read_text()
    for hook in hooks[0]["hooks"]:
        program = re.fullmatch(r"\.nox/lint/bin/([\w-]+)( .*)?", hook["entry"])
        assert program and re.search(rf"^{program[1]}(-py)?==", lock, re.M)
    assert all(re.fullmatch(r"[0-9a-f]{40}", each["rev"]) for each in hooks[1:])


def act(tmp_path: Path, status: int) -> tuple[int, str, str]:
    """Run the action's step with stand-ins for its programs: its status, its outputs, and bake's arguments."""
    action, output = tmp_path / "action", tmp_path / "output"
    (step,) = load(REPOSITORY / "action.yml")["runs"]["steps"]
    scripts = {
        "setup.sh": "", ".venv/bin/nox": f"echo log; echo nox $* > {tmp_path}/words",
        ".nox/bake/bin/bake": f"echo $* >> {tmp_path}/words; echo /srv/ci/dist/shop/shop.raw; exit {status}",
    }  # fmt: skip
    for name, script in scripts.items():
        (action / name).parent.mkdir(parents=True, exist_ok=True)
        (action / name).write_text(f"#!/bin/sh\n{script}\n")
        (action / name).chmod(0o755)
    output.touch()
    env = {"ACTION": str(action), "APP": "my shop", "FORMAT": "raw", "GITHUB_OUTPUT": str(output)}
    assert env.keys() - {"GITHUB_OUTPUT"} == step["env"].keys()
    done = run(["sh", "-e", "-c", step["run"]], env=env, check=False)
    return done.status, output.read_text(), (tmp_path / "words").read_text()


def test_the_action_bakes_a_folder_and_gives_the_image_s_path(tmp_path: Path) -> None:
    status, outputs, words = act(tmp_path, 0)
    assert (status, outputs) == (0, "image=/srv/ci/dist/shop/shop.raw\n")
    assert words == "nox -s bake --install-only\nimage --install --format raw -- my shop\n"


def test_the_action_fails_when_the_bake_fails(tmp_path: Path) -> None:
    status, outputs, _ = act(tmp_path, 43)
    assert (status, outputs) == (43, "")


def test_the_newest_section_of_the_changelog_is_no_later_version() -> None:
    text = (REPOSITORY / "CHANGELOG.md").read_text()
    headings = re.findall(r"^## (.+)$", text, re.M)
    assert headings[0] == "Unreleased" or headings[0].startswith(f"{bake.__version__} - ")
    assert all(re.fullmatch(r"\d+\.\d+\.\d+ - \d{4}-\d\d-\d\d", each) for each in headings[1:])
