"""An image and the security archive, which is served here, over HTTP."""

from __future__ import annotations

import http.server
import lzma
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from bake.disk import security_updates
from bake.host import paths
from bake.host.files import digest
from bake.image import archive_comparison, manifest
from bake.image.manifest import ImageManifest

pytestmark = pytest.mark.usefixtures("cache_folder")

IMAGE = ImageManifest(packages={"nginx": "1.26.3-3+deb13u1", "libssl3t64": "3.5.1-1", "zlib1g": "1:1.3.1-1"})


@dataclass
class Archive:
    """An archive: its address, its index, the paths that were asked for, and the seconds between two bytes."""

    address: str = ""
    index: bytes = b""
    asked: list[str] = field(default_factory=list)
    pause: float = 0

    def publish(self, **packages: str) -> None:
        rows = (f"Package: {name}\nArchitecture: amd64\nVersion: {version}\n\n" for name, version in packages.items())
        self.index = lzma.compress("".join(rows).encode())

    def missing(self) -> str:
        return archive_comparison.missing_updates(replace(IMAGE, security_url=self.address))

    def copy(self) -> Path:
        return paths.cache() / "security" / f"{digest([self.address])}.xz"


@pytest.fixture
def archive() -> Iterator[Archive]:
    made = Archive()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            made.asked.append(self.path)
            self.send_response(200 if made.index else 404)
            self.send_header("Content-Length", str(len(made.index)))
            self.end_headers()
            for byte in made.index:
                self.wfile.write(bytes([byte]))
                time.sleep(made.pause)

        def log_message(self, *words: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        made.address = f"http://127.0.0.1:{server.server_port}"
        yield made
        made.pause = 0
        server.shutdown()


def test_the_packages_without_security_updates_are_named_and_an_answer_is_used_for_an_hour(archive: Archive) -> None:
    # Newer, the same, and not installed.
    archive.publish(nginx="1.26.3-3+deb13u2", zlib1g="1:1.3.1-1", chromium="140", libssl3t64="3.5.1-1+deb13u1")
    line = "the image lacks security updates of libssl3t64, nginx"
    assert [archive.missing(), archive.missing()] == [line, line]
    assert archive.asked == [f"/{security_updates.INDEX}"]
    os.utime(archive.copy(), (0, time.time() - archive_comparison.AN_HOUR - 1))
    archive.publish(nginx="1.26.3-3")
    assert archive.missing() == "the security archive has no newer versions of the image's packages"
    assert len(archive.asked) == 2


def test_an_archive_that_does_not_answer_is_reported_and_nothing_is_claimed(archive: Archive) -> None:
    line = "the image is not compared with the security archive: "
    assert archive.missing().startswith(line)
    archive.index = b"no archive"
    assert archive.missing().startswith(line)
    assert not archive.copy().exists()


def test_an_answer_that_comes_byte_by_byte_does_not_delay_the_command(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive_comparison, "PATIENCE", 1)
    archive.publish(nginx="9")
    archive.pause = 0.5
    begin = time.monotonic()
    assert archive.missing().endswith("no complete answer within 1 s")
    assert time.monotonic() - begin < len(archive.index) * archive.pause / 2


def test_an_image_of_unknown_packages_or_archive_is_not_compared(archive: Archive) -> None:
    assert archive_comparison.missing_updates(ImageManifest(security_url=archive.address)) == ""
    assert archive_comparison.missing_updates(ImageManifest(packages={"nginx": "1"})) == ""
    assert archive.asked == []


def test_the_cache_knows_the_packages_of_an_image_by_its_digest() -> None:
    path: Path = paths.cache() / "image/key" / manifest.FILE_NAME
    path.parent.mkdir(parents=True)
    path.write_text(ImageManifest(sha256="ab", packages={"nginx": "1"}).to_json())
    assert manifest.of_digest("ab").packages == {"nginx": "1"}
    assert manifest.of_digest("cd") == manifest.of_digest("") == ImageManifest()
