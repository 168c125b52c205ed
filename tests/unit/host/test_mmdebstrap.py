"""mmdebstrap's progress and failures. tests/unit/disk/test_base_disk.py has more, for base disks."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from conftest import Fake

from bake.errors import BakeError, BaseError, NetworkError, RequirementError
from bake.host import mmdebstrap

TREE = mmdebstrap.Tree("builder root", "build_packages", "http://mirror.example/debian", "bake-test")


def test_the_steps_are_reported(fake: Fake, tmp_path: Path) -> None:
    fake("mmdebstrap", 'echo "I: extracting archives..."; echo "I: cleaning up"')
    steps: list[tuple[float, str]] = []
    mmdebstrap.run(["mmdebstrap"], TREE, tmp_path, lambda share, text: steps.append((share, text)))
    assert [text for _, text in steps] == ["extracting archives...", "cleaning up"]
    assert 0 < steps[0][0] < steps[1][0] < 1


def test_the_folder_of_a_run_that_was_killed_is_removed_by_the_next_one(
    tmp_path: Path, cache_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    folder = TREE.make_scratch()
    (folder / "file").touch()
    # Other users may enter it, since mmdebstrap's ids are others, but not know its name before it exists.
    assert folder.stat().st_mode & 0o777 == 0o711 and folder.parent == tmp_path
    TREE.reap()
    TREE.reap()
    assert not folder.exists() and list(cache_folder.iterdir()) == []
    assert TREE.make_scratch() != folder


def test_debian_s_keys_verify_the_archive_on_any_host(fake: Fake, tmp_path: Path) -> None:
    fake("mmdebstrap", f'echo "$*" > {tmp_path}/words')
    mmdebstrap.run(["mmdebstrap", "--variant=apt", "trixie"], TREE, tmp_path, lambda share, text: None)
    assert "--keyring=/usr/share/keyrings/debian-archive-keyring.gpg" in (tmp_path / "words").read_text()


@pytest.mark.parametrize(
    ("line", "kind", "text"),
    [
        ("E: Unable to locate package libnone-dev", RequirementError, "Debian has no package libnone-dev"),
        ("Err: Could not resolve 'mirror.example'", NetworkError, "The Debian archive at http://mirror.example/debian"),
        (
            "  The following signatures couldn't be verified: NO_PUBKEY 6ED0",
            BaseError,
            "a key that this computer does not",
        ),
        ("E: something else", BaseError, "mmdebstrap could not build the builder root"),
    ],
)
def test_a_failure_has_its_kind(fake: Fake, tmp_path: Path, line: str, kind: type[BakeError], text: str) -> None:
    fake("mmdebstrap", f'echo "{line}"; exit 1')
    with pytest.raises(kind, match=text) as caught:
        mmdebstrap.run(["mmdebstrap"], TREE, tmp_path, lambda share, step: None)
    assert "build_packages" in caught.value.hint or kind is not RequirementError


def test_a_tree_is_small_and_has_its_packages() -> None:
    words = mmdebstrap.options("amd64", ("a", "b"))
    assert {"--include=a,b", "--architectures=amd64", "--aptopt=Apt::Install-Recommends false"} <= {*words}
