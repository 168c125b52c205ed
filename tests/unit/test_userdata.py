"""The document: what a YAML reader makes of it is the machine's files, byte for byte."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from bake import machine, run, userdata
from bake.machine import File
from bake.target import DEBIAN_13

SOURCE = machine.source(DEBIAN_13, "ab" * 32)


def written(files: list[File]) -> dict[str, tuple[int, str]]:
    """What cloud-init would write: path to mode and text."""
    document = yaml.safe_load(userdata.document(files, SOURCE, DEBIAN_13))
    assert list(document) == ["write_files"]
    rows = document["write_files"]
    assert [row["path"] for row in rows[-2:]] == [SOURCE.path, userdata.BOOT.path]
    return {row["path"]: (int(row["permissions"], 8), row["content"]) for row in rows}


def test_the_document_is_the_files_byte_for_byte() -> None:
    files = machine.files(DEBIAN_13)
    assert written(files) == {file.path: (file.mode, file.text) for file in [*files, SOURCE, userdata.BOOT]}


def test_the_document_is_a_cloud_config() -> None:
    text = userdata.document(machine.files(DEBIAN_13), SOURCE, DEBIAN_13)
    assert text.startswith("#cloud-config\n")
    assert text.endswith("\n")
    assert "debian-13" in text.splitlines()[1]


def test_the_document_is_the_same_every_time() -> None:
    files = machine.files(DEBIAN_13)
    assert userdata.document(files, SOURCE, DEBIAN_13) == userdata.document(files, SOURCE, DEBIAN_13)


@pytest.mark.parametrize(
    "text",
    [
        "{{ not jinja's }} {% nor this %}\n",
        "a: b\n# comment\n- '\"\n",
        "first\n\n\n  indented\n\ttab\nlast\n",
        "trailing spaces  \n   \nend\n",
        "ünïcödé ☃\n",
        "%YAML\n---\n...\n",
        "\n\nstarts empty\n",
        "",
    ],
)
def test_text_that_looks_like_something_else_stays_text(text: str) -> None:
    assert written([File("/tmp/any", 0o600, text)])["/tmp/any"] == (0o600, text)


@pytest.mark.parametrize("text", ["  starts indented\n", "no newline", "two newlines\n\n", "form\ffeed\n"])
def test_text_with_unusual_ends_stays_as_it_is(text: str) -> None:
    assert written([File("/tmp/any", 0o644, text)])["/tmp/any"] == (0o644, text)


def test_the_boot_script_runs_at_every_boot() -> None:
    assert userdata.BOOT.path.startswith("/var/lib/cloud/scripts/per-boot/")
    assert userdata.BOOT.mode == 0o755
    called = userdata.BOOT.text.split()[-1]
    assert called in {file.path for file in machine.files(DEBIAN_13) if file.mode == 0o755}


def test_cloud_init_accepts_the_document(tmp_path: Path) -> None:
    if run.which("cloud-init") is None:
        pytest.skip("cloud-init is not installed")
    (tmp_path / "user-data").write_text(userdata.document(machine.files(DEBIAN_13), SOURCE, DEBIAN_13))
    run.run(["cloud-init", "schema", "--config-file", tmp_path / "user-data"])


def test_meta_data_names_instance_host_and_keys() -> None:
    keys = ["ssh-ed25519 AAAA bake", "ssh-ed25519 BBBB other"]
    assert yaml.safe_load(userdata.meta_data("proof-1a", "first", keys)) == {
        "instance-id": "proof-1a",
        "local-hostname": "first",
        "public-keys": keys,
    }


@pytest.mark.parametrize("name", ["on", "12", "0x1f", "null"])
def test_a_host_may_have_any_name_that_a_recipe_may_have(name: str) -> None:
    assert yaml.safe_load(userdata.meta_data(name, name, []))["local-hostname"] == name


ODD = {"URL": "sqlite:////var/lib/app/x.db", "QUOTE": 'it\'s "quoted" $HOME `id` \\ %s', "EMPTY": ""}


def test_stand_ins_reach_a_file_in_memory(tmp_path: Path) -> None:
    data = yaml.safe_load(userdata.stand_ins(ODD))
    (argv,) = data["bootcmd"]
    script = argv[-1].replace("/run/app-check", str(tmp_path / "there"))
    run.run([*argv[:-1], script])
    file = tmp_path / "there" / "env"
    assert file.stat().st_mode & 0o777 == 0o600
    # Read as systemd reads an EnvironmentFile: within double quotes, a backslash protects what follows.
    lines = (line.partition("=") for line in file.read_text().splitlines())
    assert {name: re.sub(r"\\(.)", r"\1", value[1:-1]) for name, _, value in lines} == ODD


def test_no_stand_ins_are_no_command() -> None:
    assert yaml.safe_load(userdata.stand_ins({})) == {}
