"""A cached base disk and the security archive: served here, over HTTP."""

from __future__ import annotations

import functools
import hashlib
import http.server
import io
import lzma
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from bake.disk import security_updates
from bake.disk.base_manifest import FILE_NAME, BaseManifest
from bake.host.progress import Reporter
from bake.host.terminal import Terminal

SOURCES = """\
Types: deb
URIs: http://archive.example/debian
Suites: trixie trixie-updates

Types: deb
URIs: http://archive.example/security/
Suites: trixie-security
Components: main
"""
INSTALLED = {"nginx": "1.26.3-3+deb13u1", "libssl3t64": "3.5.1-1", "zlib1g": "1:1.3.1-1"}


@dataclass
class Archive:
    """A security archive, a base disk in the cache, and what was asked for and printed."""

    folder: Path
    entry: Path
    url: str
    asked: list[str] = field(default_factory=list)
    console: io.StringIO = field(default_factory=io.StringIO)

    def publish(self, **packages: str) -> None:
        text = "".join(
            f"Package: {name}\nSource: x\nArchitecture: amd64\nVersion: {version}\nDescription: {name}\n\n"
            for name, version in packages.items()
        )
        index = lzma.compress(text.encode())
        place = self.folder / security_updates.INDEX
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(index)
        rows = f" {'0' * 64} 12 main/binary-arm64/Packages.xz\n {hashlib.sha256(index).hexdigest()}  {len(index)} "
        (self.folder / "InRelease").write_text(f"Suite: stable-security\nSHA256:\n{rows}{security_updates.INDEX}\n")

    def covers(self) -> bool:
        return security_updates.covers(self.entry, Reporter(Terminal(file=self.console, width=300)))


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    for name in ("archive", "entry"):
        (tmp_path / name).mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *words: object) -> None:
            made.asked.append(self.path.lstrip("/"))

    handler = functools.partial(Handler, directory=str(tmp_path / "archive"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        made = Archive(tmp_path / "archive", tmp_path / "entry", f"http://127.0.0.1:{server.server_port}")
        manifest = BaseManifest(1.0, "2026-01-02", "debian-13", INSTALLED, made.url)
        (made.entry / FILE_NAME).write_text(manifest.to_json())
        yield made
        server.shutdown()


def test_the_sources_name_the_security_suite() -> None:
    assert security_updates.url_of(SOURCES) == "http://archive.example/security/dists/trixie-security"
    assert security_updates.url_of(SOURCES.partition("\n\n")[0]) == security_updates.url_of("") == ""


def test_a_base_with_all_updates_is_used_and_costs_one_small_request_later(archive: Archive) -> None:
    # An older version than the installed one, the same one, and a package that is not installed.
    archive.publish(nginx="1.26.3-3", zlib1g="1:1.3.1-1", chromium="140")
    assert archive.covers() and archive.asked == ["InRelease", security_updates.INDEX]
    assert archive.covers() and archive.asked[2:] == ["InRelease"]
    assert archive.console.getvalue() == ""
    manifest = BaseManifest.read(archive.entry)
    assert manifest and (manifest.packages, manifest.date) == (INSTALLED, "2026-01-02")


def test_a_base_without_an_update_is_built_again(archive: Archive) -> None:
    archive.publish(nginx="1.26.3-3+deb13u1")
    assert archive.covers()
    archive.publish(nginx="1.26.3-3+deb13u2", libssl3t64="3.5.1-1+deb13u1", zlib1g="1:1.3.1-1")
    assert not archive.covers()
    said = archive.console.getvalue()
    assert "the base of 2026-01-02 lacks security updates of libssl3t64, nginx; building it again" in said
    # Until it is built.
    assert not archive.covers()


@pytest.mark.parametrize("fault", ["no answer", "no index", "another index", "not xz"])
def test_a_bake_goes_on_without_the_archive(archive: Archive, fault: str) -> None:
    archive.publish(nginx="9")
    match fault:
        case "no answer":
            (archive.folder / "InRelease").unlink()
        case "no index":
            (archive.folder / security_updates.INDEX).unlink()
        case "another index":
            (archive.folder / security_updates.INDEX).write_bytes(b"new")
        case _:
            (archive.folder / security_updates.INDEX).write_bytes(b"text")
            digest = hashlib.sha256(b"text").hexdigest()
            (archive.folder / "InRelease").write_text(f" {digest} 4 {security_updates.INDEX}\n")
    assert archive.covers()
    assert "the base of 2026-01-02 is not compared with the security archive: " in archive.console.getvalue()


def test_a_base_from_elsewhere_is_not_compared(archive: Archive, tmp_path: Path) -> None:
    (archive.entry / FILE_NAME).write_text(BaseManifest.now("debian-12").to_json())
    assert archive.covers() and security_updates.covers(tmp_path, Reporter(Terminal(file=archive.console)))
    assert archive.asked == []


def test_an_index_that_unpacks_to_far_more_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(security_updates, "LARGEST", 2**20)
    assert security_updates.unpack(lzma.compress(b"Package: nginx\n")) == "Package: nginx\n"
    for packed in (lzma.compress(bytes(2**24)), lzma.compress(b"Package: nginx\n")[:-9], b""):
        with pytest.raises(lzma.LZMAError):
            security_updates.unpack(packed)
