"""Archives of interpreters, as uv's downloads have them, and a list of them on the tests' own server."""

from __future__ import annotations

import hashlib
import io
import json
import sys
import sysconfig
import tarfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import Site

#: Parts of the standard library that no test needs.
SKIPPED = ("__pycache__", "ensurepip", "idlelib", "lib2to3", "site-packages", "dist-packages", "test", "tkinter")
#: uv requires this comment.
SETTINGS = "# system configuration generated and used by the sysconfig module\nbuild_time_vars = {}\n"
#: A program that notes that it was executed.
PROGRAM = "#!/bin/sh\ntouch {marker}\n"


def fake_archive(path: Path, version: str, marker: Path) -> bytes:
    """Write an archive of the layout install_only, whose programs only note that they were executed."""
    minor = version.rpartition(".")[0]
    texts = {
        f"python/bin/python{minor}": PROGRAM.format(marker=marker),
        f"python/lib/python{minor}/os.py": "",
        f"python/lib/python{minor}/_sysconfigdata__linux_x86_64-linux-gnu.py": SETTINGS,
    }
    with tarfile.open(path, "w:gz") as tar:
        for name, text in texts.items():
            entry = tarfile.TarInfo(name)
            entry.mode, entry.size = 0o755, len(text)
            tar.addfile(entry, io.BytesIO(text.encode()))
        for name in ("python3", "python"):
            entry = tarfile.TarInfo(f"python/bin/{name}")
            entry.type, entry.linkname = tarfile.SYMTYPE, f"python{minor}"
            tar.addfile(entry)
    return path.read_bytes()


def own_archive(path: Path, packages: tuple[Path, ...] = ()) -> None:
    """Write an archive with the Python of the tests, and further packages in its standard library.

    Debian's Python does not look for packages in site-packages.
    """
    minor = "python{}.{}".format(*sys.version_info)
    program = Path(sys.base_prefix) / "bin" / minor
    library = Path(sysconfig.get_path("stdlib"))

    def kept(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
        return None if Path(entry.name).name in SKIPPED and entry.name.count("/") < 5 else entry

    with tarfile.open(path, "w:gz", compresslevel=1) as tar:
        tar.add(program.resolve(), f"python/bin/{minor}")
        tar.add(library, f"python/lib/{minor}", filter=kept)
        for package in packages:
            tar.add(package, f"python/lib/{minor}/{package.name}")
        for name in ("python3", "python"):
            entry = tarfile.TarInfo(f"python/bin/{name}")
            entry.type, entry.linkname = tarfile.SYMTYPE, minor
            tar.addfile(entry)


@dataclass
class Mirror:
    """A list of downloads at a `Site`. `marker` exists if one of its programs was executed."""

    site: Site
    marker: Path
    monkeypatch: pytest.MonkeyPatch

    @property
    def list_path(self) -> Path:
        """The file with the list."""
        return self.site.folder / "downloads.json"

    def publish(self, *versions: str) -> list[bytes]:
        """Publish archives of these versions, and return their contents."""
        self.monkeypatch.setenv("UV_PYTHON_DOWNLOADS_JSON_URL", f"{self.site.address}/downloads.json")
        self.monkeypatch.setenv("UV_HTTP_RETRIES", "0")
        contents, rows = [], {}
        for version in versions:
            file = self.archive(version)
            contents.append(fake_archive(file, version, self.marker))
            major, minor, patch = map(int, version.split("."))
            rows[f"cpython-{version}-linux-x86_64-gnu"] = {
                "name": "cpython", "arch": {"family": "x86_64", "variant": None}, "os": "linux", "libc": "gnu",
                "major": major, "minor": minor, "patch": patch, "prerelease": "", "variant": None, "build": "20260101",
                "url": f"{self.site.address}/{file.name}", "sha256": hashlib.sha256(contents[-1]).hexdigest(),
            }  # fmt: skip
        self.list_path.write_text(json.dumps(rows))
        return contents

    def archive(self, version: str) -> Path:
        """Return the path of the archive of a version."""
        return self.site.folder / f"cpython-{version}-x86_64-unknown-linux-gnu-install_only_stripped.tar.gz"
