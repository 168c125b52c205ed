"""The proxy of an installation: one host and no other, and no connection after its end. All hosts are 127.0.0.1.

So the tests of connections switch off the check that refuses this computer.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

import pytest

from bake.bundle import registry_proxy
from bake.bundle.registry_proxy import RegistryProxy, host_of, is_own


@pytest.fixture
def echo() -> Iterator[int]:
    """The port of a server that returns what it gets, one connection after the other."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            with connection:
                while data := connection.recv(1 << 16):
                    connection.sendall(data)

    thread = threading.Thread(target=serve)
    thread.start()
    yield server.getsockname()[1]
    server.shutdown(socket.SHUT_RDWR)
    server.close()
    thread.join()


@pytest.fixture
def proxy(echo: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[RegistryProxy, int]]:
    monkeypatch.setattr(registry_proxy, "is_own", lambda address: False)
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    proxy = RegistryProxy(listener, [f"https://localhost:{echo}/npm/", "https://localhost:1"])
    yield proxy, port
    proxy.close()


def ask(port: int, request: str) -> tuple[socket.socket, str]:
    client = socket.create_connection(("127.0.0.1", port), 10)
    client.sendall(f"{request}\r\nHost: x\r\n\r\n".encode())
    return client, client.recv(1 << 16).decode()


def test_a_url_names_a_host_and_a_port() -> None:
    assert host_of("https://NPM.example/a/") == "npm.example:443"
    assert host_of("https://npm.example:8443") == "npm.example:8443"


def test_the_registry_is_connected_in_both_directions(proxy: tuple[RegistryProxy, int], echo: int) -> None:
    client, reply = ask(proxy[1], f"CONNECT LOCALHOST:{echo} HTTP/1.1")
    assert reply.startswith("HTTP/1.1 200 ")
    content = bytes(range(256)) * 1000

    def send() -> None:
        client.sendall(content)
        client.shutdown(socket.SHUT_WR)

    threading.Thread(target=send).start()
    received = b""
    while data := client.recv(1 << 16):
        received += data
    assert received == content
    client.close()
    assert not proxy[0].refused and not proxy[0].unreachable


@pytest.mark.parametrize(
    ("request_line", "refused"),
    [
        ("CONNECT 127.0.0.1:{port} HTTP/1.1", "127.0.0.1:{port}"),
        ("CONNECT localhost:22 HTTP/1.1", "localhost:22"),
        ("CONNECT localhost.evil.example:{port} HTTP/1.1", "localhost.evil.example:{port}"),
        ("GET http://localhost:{port}/ HTTP/1.1", "a host without HTTPS"),
        ("CONNECT localhost HTTP/1.1", "a host without HTTPS"),
    ],
)
def test_other_hosts_are_refused(proxy: tuple[RegistryProxy, int], echo: int, request_line: str, refused: str) -> None:
    client, reply = ask(proxy[1], request_line.format(port=echo))
    client.close()
    assert reply.startswith("HTTP/1.1 403 ")
    assert proxy[0].refused == {refused.format(port=echo)}


def test_a_registry_at_this_computer_is_refused(echo: int) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    with contextlib.closing(RegistryProxy(listener, [f"https://localhost:{echo}/npm/"])) as proxy:
        client, reply = ask(port, f"CONNECT localhost:{echo} HTTP/1.1")
        client.close()
    assert reply.startswith("HTTP/1.1 403 ")
    assert proxy.refused == {f"localhost:{echo}, which is this computer"}


@pytest.mark.parametrize(
    ("address", "own"),
    [
        ("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("0.0.0.0", True), ("::", True),
        ("::ffff:127.0.0.1", True), ("169.254.169.254", True), ("fe80::1%eth0", True),
        ("192.0.2.1", False), ("10.255.255.1", False), ("2001:db8::1", False), ("::ffff:192.0.2.1", False),
    ],
)  # fmt: skip
def test_the_addresses_of_this_computer_are_known(address: str, own: bool) -> None:
    assert is_own(address) is own


def test_a_registry_that_does_not_answer_is_named(proxy: tuple[RegistryProxy, int]) -> None:
    client, reply = ask(proxy[1], "CONNECT localhost:1 HTTP/1.1")
    client.close()
    assert reply.startswith("HTTP/1.1 502 ") and proxy[0].unreachable == {"localhost:1"}


def test_a_request_without_an_end_is_dropped(proxy: tuple[RegistryProxy, int]) -> None:
    client = socket.create_connection(("127.0.0.1", proxy[1]), 10)
    client.sendall(b"CONNECT " + b"a" * 20_000)
    with pytest.raises(ConnectionError):
        while client.recv(1):
            pass
        raise ConnectionError
    client.close()


def test_the_end_of_the_installation_ends_its_connections(proxy: tuple[RegistryProxy, int], echo: int) -> None:
    client, reply = ask(proxy[1], f"CONNECT localhost:{echo} HTTP/1.1")
    assert reply.startswith("HTTP/1.1 200 ")
    proxy[0].close()
    with contextlib.suppress(ConnectionError):
        assert client.recv(1) == b""
    client.close()
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", proxy[1]), 2)
