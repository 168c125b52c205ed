"""A builder root and builds for tests: fake programs that make a small tree, and wheels from a script."""

from __future__ import annotations

import hashlib
import io
import tarfile
import zipfile
from pathlib import Path

from conftest import Fake, Site

from bake.bundle.source import Source

#: Makes the archive that mmdebstrap is asked for, and counts the calls.
MMDEBSTRAP = """
echo "$@" >> {folder}/mmdebstrap.calls
for word; do case $word in *.tar) archive=$word;; esac; done
tar --create --file="$archive" --directory={folder}/tree .
"""
#: Instead of the namespaces: hands the input to a script of the test's. The last words are root, input and seconds.
UNSHARE = """
case "$*" in *enter.sh*) ;; *) exec /usr/bin/unshare "$@";; esac
while [ $# -gt 3 ]; do shift; done
ls "$2/source" "$2/wheels" | tr '\\n' ' ' >> {folder}/builds
echo >> {folder}/builds
cd {folder}
. {folder}/build.sh
"""


def install(fake: Fake, folder: Path, script: str) -> None:
    """Install fakes of mmdebstrap and unshare. `script` writes a build's tar archive; `$2` is its input."""
    tree = folder / "tree"
    (tree / "var/lib/dpkg/info").mkdir(parents=True)
    (tree / "var/lib/dpkg/info/libpq5:amd64.list").write_text("/.\n/usr/lib/x86_64-linux-gnu/libpq.so.5\n")
    (tree / "dev").mkdir()
    (folder / "build.sh").write_text(script)
    fake("mmdebstrap", MMDEBSTRAP.format(folder=folder))
    fake("unshare", UNSHARE.format(folder=folder))


def lines(folder: Path, name: str) -> list[str]:
    """The lines of a file that the fakes wrote."""
    path = folder / name
    return path.read_text().splitlines() if path.exists() else []


def wheel(folder: Path, name: str) -> Path:
    """Write an empty wheel with this file name."""
    stem = "-".join(name.split("-")[:2])
    with zipfile.ZipFile(folder / name, "w") as archive:
        project, version = stem.split("-")
        archive.writestr(f"{stem}.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {project}\nVersion: {version}\n")
        archive.writestr(f"{stem}.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\n")
        archive.writestr(f"{stem}.dist-info/RECORD", "")
    return folder / name


def sdist(name: str, files: dict[str, str]) -> bytes:
    """Return the source `name` 1.0 of these files, text by path."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        for path, text in files.items():
            info = tarfile.TarInfo(f"{name}-1.0/{path}")
            info.size = len(text.encode())
            tar.addfile(info, io.BytesIO(text.encode()))
    return stream.getvalue()


def publish_source(
    site: Site, name: str, requires: str = "", published: str = "", *, wheels: str = "", setup: str = ""
) -> Source:
    """Put a source on the site and its index, beside wheels that cannot be had; return it.

    `setup` is its setup.py.
    """
    files = {"pyproject.toml": f"[build-system]\nrequires = [{requires}]\n", "setup.py": setup}
    content = sdist(name, files)
    folder = site.folder / "files"
    folder.mkdir(exist_ok=True)
    (folder / f"{name}-1.0.tar.gz").write_bytes(content)
    url = f"{site.address}/files/{name}-1.0.tar.gz"
    page = site.folder / "simple" / name / "index.html"
    page.parent.mkdir(parents=True, exist_ok=True)
    digests = {f"{name}-1.0.tar.gz": hashlib.sha256(content).hexdigest(), **dict.fromkeys(wheels.split(), "0" * 64)}
    page.write_text("".join(f'<a href="/files/{file}#sha256={value}">{file}</a>\n' for file, value in digests.items()))
    return Source(name, "1.0", url, hashlib.sha256(content).hexdigest(), published, "requirements.txt:1")
