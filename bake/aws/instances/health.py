"""Check an instance's health: request its app over HTTP as a visitor does, at its address instead of by DNS."""

from __future__ import annotations

import http.client
import re
import socket
import ssl
from dataclasses import dataclass
from urllib.parse import urlsplit

#: Seconds to wait for a connection, and then for the app's answer. A machine during its setup answers 503 at once.
CONNECT_PATIENCE, ANSWER_PATIENCE = 15, 60
#: The number of bytes of an answer to show.
SHOWN = 600
#: curl's --connect-to without its first host: HOST:PORT for all connections, or :PORT:HOST:PORT for one port.
CONNECT_TO = re.compile(r"(?::(?P<of>\d{1,5}):)?(?P<host>\[[0-9A-Fa-f:.]+\]|[^:\[\]\s]+):(?P<port>\d{1,5})")

Place = tuple[str, int]


@dataclass(frozen=True)
class Door:
    """The address of a machine, unless `instead` has another place for a port, or for all ports (0)."""

    address: str
    instead: tuple[tuple[int, Place], ...] = ()

    def place(self, port: int) -> Place:
        """Return the host and port to connect to for a port of the machine."""
        others = dict(self.instead)
        return others.get(port) or others.get(0) or (self.address, port)


@dataclass(frozen=True)
class Answer:
    """A request and its result: a status, or 0 and the reason. `trusted` is None if the request was not HTTPS."""

    url: str
    place: Place
    status: int
    said: str
    trusted: bool | None = None

    def is_well(self, named: bool) -> bool:
        """Return whether the app is healthy: status 2xx or 3xx for the path in bake.yaml, any below 500 for `/`."""
        return 0 < self.status < (400 if named else 500)

    def __str__(self) -> str:
        host, port = self.place
        came = f"{self.status} {http.client.responses.get(self.status, '')}".strip() if self.status else "no answer"
        return f"{self.url} (at {host}:{port}): {came}\n{self.said}".rstrip()


def instead(text: str) -> tuple[int, Place] | None:
    """Parse a text of the form `CONNECT_TO` for a Door, or return None if it is invalid."""
    found = CONNECT_TO.fullmatch(text)
    if not found or not all(0 < int(number) < 65536 for number in (found["port"], found["of"] or "1")):
        return None
    return int(found["of"] or 0), (found["host"].strip("[]"), int(found["port"]))


def ask(door: Door, name: str, path: str) -> Answer:
    """Request a path of a machine as a visitor of `name`, and follow a redirect to its own HTTPS."""
    answer, onward = _get(door.place(80), "http", name, path)
    leads = urlsplit(onward)
    if leads.scheme == "https" and (leads.hostname or "").lower() == name.lower():
        further = leads.path + (f"?{leads.query}" if leads.query else "")
        answer, _ = _get(door.place(leads.port or 443), "https", name, further or "/")
    return answer


def _get(place: Place, scheme: str, name: str, path: str) -> tuple[Answer, str]:
    """Return an answer and the location that it redirects to."""
    url, trusted = f"{scheme}://{name}{path}", None
    try:
        if scheme == "https":
            stream, trusted = _secured(place, name)
        else:
            stream = socket.create_connection(place, CONNECT_PATIENCE)
        with stream:
            stream.settimeout(ANSWER_PATIENCE)
            connection = http.client.HTTPConnection(name)
            connection.sock = stream
            connection.request("GET", path, headers={"Host": name, "User-Agent": "bake", "Connection": "close"})
            came = connection.getresponse()
            said = came.read(SHOWN).decode(errors="replace")
            return Answer(url, place, came.status, said, trusted), came.headers.get("Location") or ""
    except (OSError, http.client.HTTPException) as error:
        return Answer(url, place, 0, str(error) or type(error).__name__, trusted), ""


def _secured(place: Place, name: str) -> tuple[socket.socket, bool]:
    """Return a TLS connection and whether its certificate is trusted. A new machine's self-signed one is not."""
    try:
        return ssl.create_default_context().wrap_socket(
            socket.create_connection(place, CONNECT_PATIENCE), server_hostname=name
        ), True
    except ssl.SSLCertVerificationError:
        lenient = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        lenient.check_hostname, lenient.verify_mode = False, ssl.CERT_NONE
        return lenient.wrap_socket(socket.create_connection(place, CONNECT_PATIENCE), server_hostname=name), False
