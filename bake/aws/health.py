"""Whether a machine is well: its app asked over HTTP as by a visitor, at the machine's address whatever DNS says."""

from __future__ import annotations

import http.client
import re
import socket
import ssl
from dataclasses import dataclass
from urllib.parse import urlsplit

#: Seconds for a connection, and then for the answer, which the app may take its time for. A machine that is being set
#: up answers 503 at once.
CONNECT_PATIENCE, ANSWER_PATIENCE = 15, 60
#: Bytes of an answer that are shown.
SHOWN = 600
#: curl's --connect-to, its host left out: HOST:PORT for all, or :PORT:HOST:PORT for what goes to one port.
CONNECT_TO = re.compile(r"(?::(?P<of>\d{1,5}):)?(?P<host>\[[0-9A-Fa-f:.]+\]|[^:\[\]\s]+):(?P<port>\d{1,5})")

Place = tuple[str, int]


@dataclass(frozen=True)
class Door:
    """Where a machine is asked: its address, unless `instead` names another place for a port, or for all (0)."""

    address: str
    instead: tuple[tuple[int, Place], ...] = ()

    def place(self, port: int) -> Place:
        """The place that stands for a port of the machine's."""
        others = dict(self.instead)
        return others.get(port) or others.get(0) or (self.address, port)


@dataclass(frozen=True)
class Answer:
    """What was asked, and what came: a status, or 0 and why there is none. `trusted` None: it was not HTTPS."""

    url: str
    place: Place
    status: int
    said: str
    trusted: bool | None = None

    def is_well(self, named: bool) -> bool:
        """A path that is named in bake.yaml gives 2xx or 3xx; `/` may be any answer of the app's own."""
        return 0 < self.status < (400 if named else 500)

    def __str__(self) -> str:
        host, port = self.place
        came = f"{self.status} {http.client.responses.get(self.status, '')}".strip() if self.status else "no answer"
        return f"{self.url} (asked at {host}:{port}): {came}\n{self.said}".rstrip()


def instead(text: str) -> tuple[int, Place] | None:
    """`CONNECT_TO` as a Door has it; None for what is none."""
    found = CONNECT_TO.fullmatch(text)
    if not found or not all(0 < int(number) < 65536 for number in (found["port"], found["of"] or "1")):
        return None
    return int(found["of"] or 0), (found["host"].strip("[]"), int(found["port"]))


def ask(door: Door, name: str, path: str) -> Answer:
    """Ask a machine for a path as a visitor of `name`. Where it leads to its own HTTPS, ask there."""
    answer, onward = _get(door.place(80), "http", name, path)
    leads = urlsplit(onward)
    if leads.scheme == "https" and (leads.hostname or "").lower() == name.lower():
        further = leads.path + (f"?{leads.query}" if leads.query else "")
        answer, _ = _get(door.place(leads.port or 443), "https", name, further or "/")
    return answer


def _get(place: Place, scheme: str, name: str, path: str) -> tuple[Answer, str]:
    """An answer, and where it leads on."""
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
    """A connection by TLS, and whether its certificate is trusted: a machine's placeholder is not, at first."""
    try:
        return ssl.create_default_context().wrap_socket(
            socket.create_connection(place, CONNECT_PATIENCE), server_hostname=name
        ), True
    except ssl.SSLCertVerificationError:
        lenient = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        lenient.check_hostname, lenient.verify_mode = False, ssl.CERT_NONE
        return lenient.wrap_socket(socket.create_connection(place, CONNECT_PATIENCE), server_hostname=name), False
