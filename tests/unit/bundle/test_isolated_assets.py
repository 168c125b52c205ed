"""The result of a front end's build, which is not to be trusted, and the files that assets.sh reads.

tests/system/test_assets.py builds for real.
"""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest
from conftest import names

from bake.bundle import isolated_assets
from bake.bundle.isolated_assets import BuildCommands
from bake.config.assets import Assets
from bake.errors import AssetsError
from bake.host import paths
from bake.host.programs import run

ASSETS = Assets(folder=("static/dist", "js"), run="npm run build")


def member(
    name: str, kind: bytes = tarfile.REGTYPE, target: str = "", size: int = 0, mode: int = 0o644
) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size, info.mode = kind, target, size, mode
    return info


def unpack(folder: Path, *members: tarfile.TarInfo) -> list[str]:
    with tarfile.open(folder / "assets.tar", "w") as tar:
        for info in members:
            tar.addfile(info, io.BytesIO(b"x" * info.size))
    return isolated_assets.unpack(folder / "assets.tar", ASSETS, folder / "files")


def test_files_and_folders_are_unpacked_without_their_modes(tmp_path: Path) -> None:
    members = [
        member("static/dist", tarfile.DIRTYPE),
        member("static/dist/a/é.js", size=3, mode=0o6777),
        member("js/b"),
    ]
    assert unpack(tmp_path, *members) == ["static/dist/a/é.js", "js/b"]
    path = tmp_path / "files/static/dist/a/é.js"
    assert path.read_bytes() == b"xxx" and not path.stat().st_mode & 0o7111


@pytest.mark.parametrize(
    "name", ["app.py", "static/dist/../../app.py", "/static/dist/a", "static/distant", "static/dist/a\nb", "js/../../a"]
)
def test_a_name_outside_of_the_folders_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(AssetsError, match="a name that bake refuses"):
        unpack(tmp_path, member(name))
    assert names(tmp_path) == ["assets.tar"]


@pytest.mark.parametrize(
    ("kind", "target"),
    [
        (tarfile.SYMTYPE, "/etc/passwd"), (tarfile.SYMTYPE, "b.js"), (tarfile.LNKTYPE, "js/b.js"),
        (tarfile.FIFOTYPE, ""), (tarfile.CHRTYPE, ""),
    ],
)  # fmt: skip
def test_links_and_devices_are_refused(tmp_path: Path, kind: bytes, target: str) -> None:
    with pytest.raises(AssetsError, match=r"js/a\.js, which is a link, a device or a pipe") as caught:
        unpack(tmp_path, member("js/b.js"), member("js/a.js", kind, target))
    assert "copy the file" in caught.value.hint


def test_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolated_assets, "MAXIMUM", 2_000_000)
    with pytest.raises(AssetsError, match=r"more than 50,000 files or 1 MB"):
        unpack(tmp_path, *(member(f"js/{number}", size=1_000_000) for number in range(3)))
    monkeypatch.setattr(isolated_assets, "MAXIMUM_FILES", 1)
    with pytest.raises(AssetsError, match="more than 1 files"):
        unpack(tmp_path, member("static/dist/a"), member("static/dist/b"))


def test_an_archive_that_ends_early_is_refused(tmp_path: Path) -> None:
    unpack(tmp_path, member("js/a", size=100_000))
    archive = tmp_path / "assets.tar"
    archive.write_bytes(archive.read_bytes()[:50_000])
    with pytest.raises(AssetsError, match="cannot be read"):
        isolated_assets.unpack(archive, ASSETS, tmp_path / "again")


@pytest.mark.parametrize("other", [member("js/a"), member("js/a", tarfile.DIRTYPE), member("js/a/b")])
def test_two_members_with_one_name_are_refused(tmp_path: Path, other: tarfile.TarInfo) -> None:
    with pytest.raises(AssetsError, match="cannot be read"):
        unpack(tmp_path, member("js/a"), other)


def test_the_order_is_written_for_the_script(tmp_path: Path) -> None:
    BuildCommands(ASSETS, "npm ci", "").write(tmp_path)
    texts = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert texts.keys() == {
        "announce.py", "build.sh", "ca.pem", "folders", "install", "registry", "run", "source", "tool"
    }  # fmt: skip
    assert texts["folders"] == "static/dist\0js\0" and texts["source"] == "."
    assert texts["build.sh"] == (paths.tree() / "cloud-init/builder/assets.sh").read_text()


def test_the_script_parses() -> None:
    run(["sh", "-n", paths.builder() / "assets.sh"])
