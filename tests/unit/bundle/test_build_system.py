"""Build requirements are read from a source; nothing of it runs."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from bake.bundle.build_system import DEFAULT, build_requirements
from bake.errors import WheelError

PROJECT = '[build-system]\nrequires = ["flit_core>=3", "cffi"]\nbuild-backend = "flit_core.buildapi"\n'


def archive(folder: Path, files: dict[str, str]) -> Path:
    path = folder / "thing-1.0.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        for name, text in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(text)
            tar.addfile(info, io.BytesIO(text.encode()))
    return path


@pytest.mark.parametrize(
    ("files", "requirements"),
    [
        ({"thing-1.0/pyproject.toml": PROJECT}, ("flit_core>=3", "cffi")),
        ({"./thing-1.0/pyproject.toml": PROJECT}, ("flit_core>=3", "cffi")),
        ({"thing-1.0/setup.py": ""}, DEFAULT),
        ({"thing-1.0/pyproject.toml": "[tool.black]\n"}, DEFAULT),
        ({"thing-1.0/tests/pyproject.toml": PROJECT}, DEFAULT),
    ],
)
def test_the_build_requirements_of_a_source(tmp_path: Path, files: dict[str, str], requirements: tuple[str]) -> None:
    assert build_requirements(archive(tmp_path, files)) == requirements


def test_a_zip_archive_is_read_too(tmp_path: Path) -> None:
    path = tmp_path / "thing-1.0.zip"
    with zipfile.ZipFile(path, "w") as zipped:
        zipped.writestr("thing-1.0/pyproject.toml", PROJECT)
    assert build_requirements(path) == ("flit_core>=3", "cffi")


@pytest.mark.parametrize("name", ["thing-1.0.tar.gz", "thing-1.0.zip"])
def test_a_broken_archive_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"no archive")
    with pytest.raises(WheelError, match=f"The source {name} cannot be read"):
        build_requirements(tmp_path / name)


@pytest.mark.parametrize("text", ["-r /etc/passwd", "--index-url=https://x", "a @ https://x/a.whl", "a\\n-r b", "./a"])
def test_a_build_requirement_that_is_no_release_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(WheelError, match="which is no release on the index"):
        build_requirements(archive(tmp_path, {"thing-1.0/pyproject.toml": f'[build-system]\nrequires = ["{text}"]\n'}))


def test_a_broken_pyproject_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WheelError, match="cannot be read"):
        build_requirements(archive(tmp_path, {"thing-1.0/pyproject.toml": "["}))
