"""The words that isolate a build, and the archive that comes out. tests/system/test_built_wheels.py builds for real."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import builder_fakes
import pytest
from conftest import Fake

from bake.bundle import isolated_build
from bake.bundle.builder_root import BuilderRoot
from bake.errors import WheelError
from bake.host import paths
from bake.host.programs import run

ROOT = BuilderRoot(Path("/no/root"), "key")


def build(folder: Path) -> Path | None:
    (folder / "source").mkdir()
    source = folder / "source/a-1.0.tar.gz"
    source.write_bytes(b"source")
    return isolated_build.build(ROOT, source, [builder_fakes.wheel(folder, "setuptools-1-py3-none-any.whl")],
                                folder / "log")  # fmt: skip


def test_a_build_has_namespaces_and_an_empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    words = isolated_build.argv(ROOT, Path("/input"))
    assert words[:2] == ["env", "-i"] and not any("BAKE" in word for word in words)
    assert {"--net", "--pid", "--mount", "--ipc", "--uts", "--kill-child"} <= {*words}
    assert words[-3:] == ["/no/root", "/input", str(isolated_build.TIMEOUT)]
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert {"--map-auto", "--map-root-user"} <= {*isolated_build.argv(ROOT, Path("/input"))}


@pytest.mark.parametrize("name", ["enter.sh", "wheel.sh"])
def test_the_scripts_parse(name: str) -> None:
    run(["sh", "-n", paths.builder() / name])


def test_the_wheel_of_a_build_is_returned(fake: Fake, tmp_path: Path) -> None:
    builder_fakes.wheel(tmp_path, "a-1.0-py3-none-any.whl")
    builder_fakes.install(fake, tmp_path, "echo hello >&2; tar --create ./a-1.0-py3-none-any.whl")
    wheel = build(tmp_path)
    assert wheel is not None and wheel.read_bytes() == (tmp_path / "a-1.0-py3-none-any.whl").read_bytes()
    assert (
        builder_fakes.lines(tmp_path, "builds") == ["/a-1.0.tar.gz"]
        or "setuptools-1-py3-none-any.whl" in (tmp_path / "builds").read_text()
    )
    assert (tmp_path / "log").read_text() == "hello\n"


@pytest.mark.parametrize(
    ("script", "text"),
    [("echo no compiler >&2; exit 1", "no compiler"), ("kill -9 $$", "did not end within"), ("echo text", "")],
)
def test_a_build_without_a_wheel_returns_none(fake: Fake, tmp_path: Path, script: str, text: str) -> None:
    builder_fakes.install(fake, tmp_path, script)
    assert build(tmp_path) is None
    assert text in (tmp_path / "log").read_text()


def output(fake: Fake, folder: Path, info: tarfile.TarInfo) -> None:
    """Have the build write an archive with this member alone."""
    with tarfile.open(folder / "out.tar", "w") as tar:
        tar.addfile(info, io.BytesIO())
    builder_fakes.install(fake, folder, "cat out.tar")


def test_a_wheel_cannot_leave_its_folder(fake: Fake, tmp_path: Path) -> None:
    output(fake, tmp_path, tarfile.TarInfo("../../a-1.0-py3-none-any.whl"))
    with pytest.raises(WheelError, match="cannot be read"):
        build(tmp_path)
    assert [path.parent for path in tmp_path.rglob("a-1.0-*.whl")] == [tmp_path / "source"]
    assert not (tmp_path.parent / "a-1.0-py3-none-any.whl").exists()


def test_a_wheel_cannot_be_a_link(fake: Fake, tmp_path: Path) -> None:
    info = tarfile.TarInfo("a-1.0-py3-none-any.whl")
    info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
    output(fake, tmp_path, info)
    assert build(tmp_path) is None


def test_a_wheel_of_another_release_is_refused() -> None:
    isolated_build.require_match(Path("a_b-1.0-py3-none-any.whl"), "a-b", "1.0.0")
    for name in ("c-1.0-py3-none-any.whl", "a_b-2.0-py3-none-any.whl"):
        with pytest.raises(WheelError, match=f"The source of a-b==1.0 builds {name}"):
            isolated_build.require_match(Path(name), "a-b", "1.0")
