"""Check an instance's health: request its app over HTTP as a visitor does, at its address instead of by DNS."""

from __future__ import annotations

import http.client
import re
import socket
import ssl
from dataclasses import dataclass
from urllib.parse import urlsplit

from bake.config import contract
from bake.host.sockets import time_limit

#: Seconds to wait for a connection, and then for the app's answer. A machine during its setup answers 503 at once.
CONNECT_PATIENCE, ANSWER_PATIENCE = 15, 60
#: The number of bytes of an answer's body to show.
MAX_BODY = 600
#: curl's --connect-to without its first host: HOST:PORT for all connections, or :PORT:HOST:PORT for one port.
CONNECT_TO = re.compile(r"(?::(?P<machine_port>\d{1,5}):)?(?P<host>\[[0-9A-Fa-f:.]+\]|[^:\[\]\s]+):(?P<port>\d{1,5})")

Endpoint = tuple[str, int]


@dataclass(frozen=True)
class Endpoints:
    """The address of a machine, unless `connect_to` has another endpoint for a port, or for all ports (0)."""

    address: str
    connect_to: tuple[tuple[int, Endpoint], ...] = ()

    def endpoint(self, port: int) -> Endpoint:
        """Return the host and port to connect to for a port of the machine."""
        overrides = dict(self.connect_to)
        return overrides.get(port) or overrides.get(0) or (self.address, port)


@dataclass(frozen=True)
class Answer:
    """The answer to a request: status and body, or 0 and the error. `is_trusted` is None if it was not HTTPS."""

    url: str
    endpoint: Endpoint
    status: int
    text: str
    is_trusted: bool | None = None

    def is_healthy(self, has_path: bool) -> bool:
        """Return whether the app is healthy: status 2xx or 3xx for the path in bake.yaml, any below 500 for `/`."""
        return contract.is_healthy(self.status, has_path)

    def __str__(self) -> str:
        host, port = self.endpoint
        status = f"{self.status} {http.client.responses.get(self.status, '')}".strip() if self.status else "no answer"
        return f"{self.url} (at {host}:{port}): {status}\n{self.text}".rstrip()


def parse_connect_to(text: str) -> tuple[int, Endpoint] | None:
    """Parse a text of the form `CONNECT_TO` for `Endpoints.connect_to`, or return None if it is invalid."""
    match = CONNECT_TO.fullmatch(text)
    if not match or not all(0 < int(number) < 65536 for number in (match["port"], match["machine_port"] or "1")):
        return None
    return int(match["machine_port"] or 0), (match["host"].strip("[]"), int(match["port"]))


def ask(endpoints: Endpoints, name: str, path: str) -> Answer:
    """Request a path of a machine as a visitor of `name`, and follow a redirect to its own HTTPS."""
    answer, redirect = _request(endpoints.endpoint(80), "http", name, path)
    location = urlsplit(redirect)
    if location.scheme == "https" and (location.hostname or "").lower() == name.lower():
        redirect_path = location.path + (f"?{location.query}" if location.query else "")
        answer, _ = _request(endpoints.endpoint(location.port or 443), "https", name, redirect_path or "/")
    return answer


def _request(endpoint: Endpoint, scheme: str, name: str, path: str) -> tuple[Answer, str]:
    """Return an answer and the location that it redirects to."""
    url, is_trusted = f"{scheme}://{name}{path}", None
    try:
        if scheme == "https":
            stream, is_trusted = _connect_tls(endpoint, name)
        else:
            stream = socket.create_connection(endpoint, CONNECT_PATIENCE)
        with stream, time_limit(stream, ANSWER_PATIENCE):
            stream.settimeout(ANSWER_PATIENCE)
            connection = http.client.HTTPConnection(name)
            connection.sock = stream
            connection.request("GET", path, headers={"Host": name, "User-Agent": "bake", "Connection": "close"})
            response = connection.getresponse()
            text = response.read(MAX_BODY).decode(errors="replace")
            return Answer(url, endpoint, response.status, text, is_trusted), response.headers.get("Location") or ""
    except (OSError, http.client.HTTPException) as error:
        return Answer(url, endpoint, 0, str(error) or type(error).__name__, is_trusted), ""


def _connect_tls(endpoint: Endpoint, name: str) -> tuple[socket.socket, bool]:
    """Return a TLS connection and whether its certificate is trusted. A new machine's self-signed one is not."""
    try:
        return ssl.create_default_context().wrap_socket(
            socket.create_connection(endpoint, CONNECT_PATIENCE), server_hostname=name
        ), True
    except ssl.SSLCertVerificationError:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return context.wrap_socket(socket.create_connection(endpoint, CONNECT_PATIENCE), server_hostname=name), False
