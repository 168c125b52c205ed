"""A file from a web server, and servers that do not keep their word."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request

import pytest
from conftest import Site

from bake.errors import NetworkError
from bake.host import download as module
from bake.host.download import CHUNK, download, fetch

Speaker = Callable[[bytes], str]


@pytest.fixture
def speaker() -> Iterator[Speaker]:
    """A server that says these bytes to whoever asks, then hangs up; its address."""
    sockets: list[socket.socket] = []

    def speak(said: bytes) -> str:
        listening = socket.create_server(("127.0.0.1", 0))
        sockets.append(listening)

        def serve() -> None:
            with listening.accept()[0] as visitor:
                visitor.recv(65536)
                visitor.sendall(said)
                if not said:
                    visitor.recv(1)

        threading.Thread(target=serve, daemon=True).start()
        return f"http://127.0.0.1:{listening.getsockname()[1]}/file"

    yield speak
    for listening in sockets:
        listening.close()


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_a_file_arrives_with_its_digest(site: Site, tmp_path: Path, algorithm: str) -> None:
    content = bytes(range(256)) * 10_000
    (site.folder / "file").write_bytes(content)
    shares: list[float] = []
    found = download(f"{site.address}/file", tmp_path / "out", algorithm, shares.append)
    assert (tmp_path / "out").read_bytes() == content
    assert found == hashlib.new(algorithm, content).hexdigest()
    assert len(shares) > len(content) // CHUNK
    assert all(one <= other for one, other in itertools.pairwise(shares))
    assert shares[-1] == 1


def test_an_empty_file_is_one(site: Site, tmp_path: Path) -> None:
    (site.folder / "file").touch()
    assert download(f"{site.address}/file", tmp_path / "out", "sha256") == hashlib.sha256().hexdigest()
    assert (tmp_path / "out").read_bytes() == b""


def test_a_server_need_not_say_how_much_it_is(speaker: Speaker, tmp_path: Path) -> None:
    shares: list[float] = []
    download(speaker(b"HTTP/1.0 200 OK\r\n\r\nthe file"), tmp_path / "out", "sha256", shares.append)
    assert (tmp_path / "out").read_bytes() == b"the file"
    assert shares == [1]


def test_a_file_that_ends_early_is_no_file(speaker: Speaker, tmp_path: Path) -> None:
    address = speaker(b"HTTP/1.0 200 OK\r\nContent-Length: 100\r\n\r\nthe file")
    with pytest.raises(NetworkError, match="8 of 100 bytes"):
        download(address, tmp_path / "out", "sha256")


@pytest.mark.parametrize("said", [b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.0 what\r\n\r\n", b"HTTP/1.1 200 OK\r\n"])
def test_what_speaks_something_else_is_said_so(speaker: Speaker, tmp_path: Path, said: bytes) -> None:
    address = speaker(said + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n" if b"200" in said else said)
    with pytest.raises(NetworkError, match=f"{address} cannot be fetched"):
        download(address, tmp_path / "out", "sha256")


def test_a_server_may_be_silent_for_so_long(speaker: Speaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TIMEOUT", 0.2)
    with pytest.raises(NetworkError, match="timed out"):
        download(speaker(b""), tmp_path / "out", "sha256")


def redirect(address: str) -> bytes:
    """Return the answer that redirects to an address."""
    return f"HTTP/1.1 302 Found\r\nLocation: {address}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode()


@pytest.mark.parametrize("address", ["http://127.0.0.1:1/file", "ftp://127.0.0.1/file", "file:///etc/hostname"])
def test_https_does_not_lead_to_anything_else(tmp_path: Path, address: str) -> None:
    request = Request("https://packages.example/file")
    with pytest.raises(ConnectionError, match="without HTTPS"):
        module._Redirects().redirect_request(request, None, 302, "Found", {}, address)


def test_http_may_lead_to_http_but_not_to_files(speaker: Speaker, site: Site, tmp_path: Path) -> None:
    (site.folder / "file").write_text("content")
    download(speaker(redirect(speaker(redirect(f"{site.address}/file")))), tmp_path / "out", "sha256")
    assert (tmp_path / "out").read_text() == "content"
    with pytest.raises(NetworkError, match="ftp"):
        download(speaker(redirect("ftp://127.0.0.1/file")), tmp_path / "out", "sha256")


@pytest.mark.parametrize("address", ["file:///etc/hostname", "ftp://127.0.0.1/file", "data:,text"])
def test_no_file_of_this_computer_is_a_download(tmp_path: Path, address: str) -> None:
    with pytest.raises(NetworkError, match="not an address of HTTP"):
        download(address, tmp_path / "out", "sha256")
    with pytest.raises(NetworkError, match="not an address of HTTP"):
        fetch(address, 1)


@pytest.mark.parametrize("status", [403, 404, 500])
def test_an_answer_that_is_no_file_is_said_so(site: Site, tmp_path: Path, status: int) -> None:
    site.statuses = [status]
    with pytest.raises(NetworkError, match=f"{site.address}/file cannot be fetched.*{status}") as caught:
        download(f"{site.address}/file", tmp_path / "out", "sha256")
    assert caught.value.hint
    # urllib's own, which holds the connection; it warns where nobody closes it.
    if isinstance(answer := caught.value.__context__, HTTPError):
        answer.close()


def test_a_server_that_nobody_vouches_for_is_not_believed(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (site.folder / "file").touch()
    monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(NetworkError, match="certificate"):
        download(f"{site.address}/file", tmp_path / "out", "sha256")
    assert site.asked == []


def test_nobody_listens(tmp_path: Path) -> None:
    with pytest.raises(NetworkError, match="refused"):
        download("https://127.0.0.1:1/file", tmp_path / "out", "sha256")


def test_an_address_that_http_cannot_send_is_refused_without_its_query(site: Site, tmp_path: Path) -> None:
    address = f"{site.address}/simpl\xe9/foo-1.0.zip?token=s3cret"
    for attempt in (lambda: download(address, tmp_path / "out", "sha256"), lambda: fetch(address, 5)):
        with pytest.raises(NetworkError, match=r"foo-1.0.zip cannot be fetched: .*ascii") as caught:
            attempt()
        assert "s3cret" not in caught.value.message


def test_a_small_file_has_to_be_small_and_quick(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    (site.folder / "file").write_bytes(bytes(1000))
    assert fetch(f"{site.address}/file", 5) == bytes(1000)
    monkeypatch.setattr(module, "LARGEST", 999)
    with pytest.raises(NetworkError, match="it has more than"):
        fetch(f"{site.address}/file", 5)


def test_a_server_that_sends_a_byte_now_and_then_is_left_in_time() -> None:
    def drip(listening: socket.socket) -> None:
        with listening.accept()[0] as visitor, contextlib.suppress(OSError):
            visitor.recv(65536)
            visitor.sendall(b"HTTP/1.0 200 OK\r\n\r\n")
            for _ in range(100):
                visitor.sendall(b"x")
                time.sleep(0.2)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=drip, args=(listening,), daemon=True).start()
        begun = time.monotonic()
        with pytest.raises(NetworkError, match="no complete answer within 1 s"):
            fetch(f"http://127.0.0.1:{listening.getsockname()[1]}/file", 1)
        assert time.monotonic() - begun < 5
