"""Exchanges the app's workers with no visitor noticing; app-setup has it of bundles' releases.

nginx connects to DOOR, a link to app.service's socket. While that one is exchanged, the link leads
to app-next.service's, which runs the same. Both sockets are systemd's: whoever has connected is
answered, by whoever has the socket next. Lies in a release beside its settings.
"""

import http.client
import socket
import struct
import time
from functools import partial
from pathlib import Path
from urllib.parse import unquote

from serving import APP, DOOR, HEALTH_PATIENCE, RUN, SERVED, await_health, start
from step import command, link

NEXT = "app-next"
#: The most that visitors of an app that goes are waited for. Seconds.
IDLE_PATIENCE = 300


def socket_of(name: str) -> Path:
    """Where a service of ours listens."""
    return RUN / f"{name}.sock"


def ask(name: str, path: str, host: str) -> int:
    """The status with which a service answers; asked in uwsgi's protocol, as nginx would on behalf of an HTTPS visitor.

    Not through nginx, which would answer for the app with a redirect.
    """
    plain, _, query = path.partition("?")
    variables = {
        "REQUEST_METHOD": "GET", "REQUEST_URI": path, "PATH_INFO": unquote(plain), "QUERY_STRING": query,
        "SERVER_PROTOCOL": "HTTP/1.1", "SERVER_NAME": host, "SERVER_PORT": "443", "REMOTE_ADDR": "127.0.0.1",
        "HTTPS": "on", "UWSGI_SCHEME": "https", "HTTP_HOST": host, "HTTP_USER_AGENT": "app-setup",
        "HTTP_X_FORWARDED_PROTO": "https", "HTTP_X_FORWARDED_HOST": host,
    }  # fmt: skip
    words = [word.encode() for pair in variables.items() for word in pair]
    packet = b"".join(struct.pack("<H", len(word)) + word for word in words)
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(HEALTH_PATIENCE)
        client.connect(str(socket_of(name)))
        client.sendall(struct.pack("<BHB", 0, len(packet), 0) + packet)
        answer = http.client.HTTPResponse(client)
        answer.begin()
        return answer.status


def lead(name: str) -> None:
    """Lead visitors to a service, from the next one on."""
    link(DOOR, socket_of(name))


def busy(name: str, table: Path = Path("/proc/net/unix")) -> bool:
    """Whether a visitor is with a service: one connection to its socket, waiting ones included."""
    # Num RefCount Protocol Flags Type St Inode Path; the flag is that of the listening socket itself.
    # Whoever has a socket may give it a name of any bytes.
    rows = (line.split() for line in table.read_text(errors="replace").splitlines())
    return any(len(row) == 8 and row[7] == str(socket_of(name)) and row[3] != "00010000" for row in rows)


def await_idle(name: str, patience: float) -> None:
    """Wait until the visitors of a service are gone; at most `patience` seconds."""
    deadline = time.monotonic() + patience
    # A worker of nginx may have read the link just before it changed.
    time.sleep(0.2)
    while busy(name) and time.monotonic() < deadline:
        time.sleep(0.1)


def hand_over(recipe: dict) -> None:
    """Exchange app.service for one with the release and the settings of now, which must be well first.

    An app that is not is seen by nobody but us: StepError, and visitors stay where they were.
    """
    patience = min((recipe.get("limits") or {}).get("request", 60) + 5, IDLE_PATIENCE)
    try:
        start(NEXT)
        await_health(recipe, partial(ask, NEXT))
        lead(NEXT)
        await_idle(APP, patience)
        SERVED.unlink(missing_ok=True)
        start(APP)
        await_health(recipe, partial(ask, APP))
        lead(APP)
        await_idle(NEXT, patience)
    finally:
        lead(APP)
        command("systemctl", "stop", f"{NEXT}.socket", f"{NEXT}.service")
