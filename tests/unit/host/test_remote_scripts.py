"""The scripts that bake runs on a machine over SSH."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import REPOSITORY, write

from bake.host import remote_scripts
from bake.host.programs import run

FOLDER = REPOSITORY / "cloud-init" / "remote"
NAMES = sorted(path.name for path in FOLDER.iterdir())


def test_a_script_gets_its_arguments_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = write(tmp_path, {"cloud-init/remote/show.sh": '#!/bin/sh\nprintf "%s|" "$@"\n'})
    monkeypatch.setattr("bake.host.paths.tree", lambda: script)
    arguments = ("it's", "-x", '{\n "a": "$HOME `id`"\n}', "")
    for argv in (["sh", "-s"], ["sh", "-c", remote_scripts.text("show.sh", *arguments)]):
        done = run(argv, stdin=remote_scripts.text("show.sh", *arguments))
        assert done.stdout == "".join(f"{argument}|" for argument in arguments)
    assert run(["sh", "-s"], stdin=remote_scripts.text("show.sh")).stdout == "|"


def test_a_script_contains_the_one_that_it_includes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"one.sh": 'set -eu\n. ./two.sh\ngreet "$1"\n', "two.sh": 'greet() { echo "hello, $1"; }\n'}
    folder = write(tmp_path, {f"cloud-init/remote/{name}": text for name, text in files.items()})
    monkeypatch.setattr("bake.host.paths.tree", lambda: folder)
    assert run(["sh", "-s"], stdin=remote_scripts.text("one.sh", "two words")).stdout == "hello, two words\n"


@pytest.mark.parametrize("name", NAMES)
def test_each_script_is_in_use_and_on_the_map(name: str) -> None:
    calls = any(f'remote_scripts.text("{name}"' in path.read_text() for path in (REPOSITORY / "bake").rglob("*.py"))
    assert calls or any(f"\n. ./{name}\n" in path.read_text() for path in FOLDER.iterdir())
    assert f"| `{name}` |" in (REPOSITORY / "cloud-init/README.md").read_text()


@pytest.mark.parametrize("name", NAMES)
def test_each_script_parses_ends_at_its_first_error_and_begins_with_its_purpose(name: str) -> None:
    run(["sh", "-n", FOLDER / name])
    assert (FOLDER / name).read_text().startswith("#!/bin/sh\n# ")
    assert "\nset -eu\n" in (FOLDER / name).read_text()


def test_an_identity_is_json(tmp_path: Path) -> None:
    files = {
        "etc/machine-id": "ab12\n", "etc/ssh/ssh_host_ed25519_key.pub": "ssh-ed25519 AAAA root@shop\n",
        "var/lib/systemd/random-seed": "", "srv/app/releases/12ab/recipe.json": "{}",
    }  # fmt: skip
    root = write(tmp_path, files)
    (root / "srv/app/current").symlink_to("releases/12ab")
    script = remote_scripts.text("identity.sh")
    for folder in ("/etc/", "/var/", "/srv/"):
        script = script.replace(f" {folder}", f" {root}{folder}")
    assert json.loads(run(["sh", "-s"], stdin=script).stdout) == {
        "machine-id": "ab12", "host key": "AAAA", "release": "releases/12ab",
        "random seed": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    }  # fmt: skip
