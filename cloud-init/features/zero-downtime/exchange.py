"""Exchange the app's workers without an interruption for visitors. app-setup loads it from the release.

nginx connects to DOOR, a link to the socket of app.service. While that service restarts, the link leads to the socket
of app-next.service, which runs the same release. systemd owns both sockets, so each connection is answered, if
necessary by the next process that has the socket. Part of a release's settings.
"""

import http.client
import signal
import socket
import struct
import time
from functools import partial
from pathlib import Path
from urllib.parse import unquote

from serving import APP, DOOR, HEALTH_PATIENCE, RUN, SERVED, await_health, start
from step import command, link

NEXT = "app-next"
#: The longest time in seconds to wait for the visitors of a service that is about to stop.
IDLE_PATIENCE = 300


def socket_of(name: str) -> Path:
    """Return the socket of a service."""
    return RUN / f"{name}.sock"


def ask(name: str, path: str, host: str) -> int:
    """Return the HTTP status of a service, asked in uwsgi's protocol as nginx does for an HTTPS visitor.

    It does not ask nginx, which might answer with a redirect. Raises OSError or HTTPException if there is no answer.
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


def ask_in_time(name: str, path: str, host: str) -> int:
    """Return the status of `ask`. Raises TimeoutError if the answer takes longer than HEALTH_PATIENCE as a whole.

    nginx waits for all headers of an answer, but here the app could send a byte now and then, without an end.
    """

    def end(*_: object) -> None:
        raise TimeoutError("timed out")

    signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, HEALTH_PATIENCE)
    try:
        return ask(name, path, host)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def lead(name: str) -> None:
    """Send new connections to a service."""
    link(DOOR, socket_of(name))


def busy(name: str, table: Path = Path("/proc/net/unix")) -> bool:
    """Return whether a service's socket has a connection, waiting ones included."""
    # Num RefCount Protocol Flags Type St Inode Path. The flag marks the listening socket itself.
    # Socket names of other programs may contain any bytes.
    rows = (line.split() for line in table.read_text(errors="replace").splitlines())
    return any(len(row) == 8 and row[7] == str(socket_of(name)) and row[3] != "00010000" for row in rows)


def await_idle(name: str, patience: float) -> None:
    """Wait until a service has no more connections, for at most `patience` seconds."""
    deadline = time.monotonic() + patience
    # An nginx worker may have read the link just before it changed.
    time.sleep(0.2)
    while busy(name) and time.monotonic() < deadline:
        time.sleep(0.1)


def hand_over(recipe: dict) -> None:
    """Restart app.service with the current release and settings, after app-next.service with the same is healthy.

    If that one is unhealthy, visitors stay with the old workers. Raises StepError.
    """
    patience = min((recipe.get("limits") or {}).get("request", 60) + 5, IDLE_PATIENCE)
    try:
        start(NEXT)
        await_health(recipe, partial(ask_in_time, NEXT))
        lead(NEXT)
        await_idle(APP, patience)
        SERVED.unlink(missing_ok=True)
        start(APP)
        await_health(recipe, partial(ask_in_time, APP))
        lead(APP)
        await_idle(NEXT, patience)
    finally:
        lead(APP)
        command("systemctl", "stop", f"{NEXT}.socket", f"{NEXT}.service")
