"""Connect an installation in a builder root to the package registry, and to nothing else.

The builder root has no network. It passes bake a socket that listens in its own network namespace. Package managers
take that as their proxy for HTTPS: they ask it to connect to a host (RFC 9110, CONNECT), and then speak TLS with that
host. So bake sees the host's name and no content.

The author of an app chooses the registry and the commands of the installation. So bake does not connect them to this
computer itself, whose services often trust every program on it, nor to a link-local address.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import re
import socket
import threading
from collections.abc import Iterable, Sequence
from urllib.parse import urlsplit

#: The maximum size of a request in bytes.
MAXIMUM = 8192
#: The request for a connection: the host and the port.
CONNECT = re.compile(rb"CONNECT ([A-Za-z0-9._-]+):(\d{1,5}) HTTP/1\.[01]\r\n")
CHUNK = 1 << 16


def host_of(url: str) -> str:
    """Return the host and port of an https URL."""
    parts = urlsplit(url)
    return f"{parts.hostname}:{parts.port or 443}"


def is_own(address: str) -> bool:
    """Return whether an IP address is one of this computer, or link-local as those of metadata services are."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    ip = getattr(ip, "ipv4_mapped", None) or ip
    if ip.is_link_local or ip.is_loopback or ip.is_unspecified:
        return True
    # A datagram socket sends nothing when it connects. The way to an own address begins there, too.
    with socket.socket(socket.AF_INET6 if ip.version == 6 else socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((str(ip), 443))
        except OSError:
            return False
        return bool(probe.getsockname()[0] == str(ip))


class RegistryProxy:
    """A proxy at a listening socket that connects to the hosts of some URLs. `close` ends all connections.

    `refused` are the other hosts that were asked for, and a registry at this computer. `unreachable` are hosts that did
    not answer.
    """

    def __init__(self, listener: socket.socket, urls: Iterable[str]) -> None:
        self._hosts = {host_of(url) for url in urls}
        self.refused: set[str] = set()
        self.unreachable: set[str] = set()
        self._loop = asyncio.new_event_loop()
        self._end = asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=[self._serve(listener)])
        self._thread.start()

    def close(self) -> None:
        """End all connections, and accept no more. Do nothing if they have ended."""
        if self._loop.is_closed():
            return
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join()
        self._loop.close()

    async def _serve(self, listener: socket.socket) -> None:
        connections: set[asyncio.Task[None]] = set()

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = self._loop.create_task(self._connect(reader, writer))
            connections.add(task)
            task.add_done_callback(connections.discard)

        server = await asyncio.start_server(accept, sock=listener, limit=MAXIMUM)
        await self._end.wait()
        server.close()
        for task in (*connections,):
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer a request for a connection, and copy both directions until one side ends."""
        with (
            contextlib.closing(writer),
            contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError),
        ):
            match = CONNECT.match(await reader.readuntil(b"\r\n\r\n"))
            host = f"{match[1].decode().lower()}:{int(match[2])}" if match else "a host without HTTPS"
            if host not in self._hosts:
                self.refused.add(host)
                writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
                return
            name, _, port = host.partition(":")
            try:
                rows = await self._loop.getaddrinfo(name, int(port), type=socket.SOCK_STREAM)
                addresses = list(dict.fromkeys(str(row[4][0]) for row in rows))
                if any(map(is_own, addresses)):
                    self.refused.add(f"{host}, which is this computer")
                    writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
                    return
                far_reader, far_writer = await _connected(addresses, int(port))
            except OSError:
                self.unreachable.add(host)
                writer.write(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
                return
            with contextlib.closing(far_writer):
                writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
                await asyncio.gather(_copy(reader, far_writer), _copy(far_reader, writer))


async def _connected(addresses: Sequence[str], port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect to the first address that answers. Raises OSError if none does."""
    for address in addresses[:-1]:
        with contextlib.suppress(OSError):
            return await asyncio.open_connection(address, port)
    return await asyncio.open_connection(addresses[-1], port)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy all data of one direction, and pass its end on."""
    while data := await reader.read(CHUNK):
        writer.write(data)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()
