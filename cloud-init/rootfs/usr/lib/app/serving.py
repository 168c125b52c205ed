"""What serves: starts the app, asks it how it is, exchanges its workers with no visitor noticing.

nginx connects to DOOR, a link to app.service's socket. While that one is exchanged, the link leads
to app-next.service's, which runs the same. Both sockets are systemd's: whoever has connected is
answered, by whoever has the socket next.
"""

import hashlib
import http.client
import socket
import struct
import subprocess
import time
from pathlib import Path
from urllib.parse import unquote

from step import StepError, command, link, say

RUN = Path("/run/app")
DOOR = RUN / "uwsgi.sock"
APP, NEXT = "app", "app-next"
#: The digest of what is being served, and with which settings.
SERVED = RUN / "served"
#: All that the app is started with, besides its release.
SETTINGS = (
    RUN / "env", Path("/run/app-check/env"), Path("/etc/app/env"), Path("/etc/app/secrets.env"),
    Path("/run/systemd/system/app.service.d/60-allow.conf"),
)  # fmt: skip
#: The names this machine answers to, as app-configure found them.
NAMES = RUN / "names"
#: Seconds an app may take to be well, and the most that visitors of one that goes are waited for.
HEALTH_PATIENCE = 60
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
        client.settimeout(20)
        client.connect(str(socket_of(name)))
        client.sendall(struct.pack("<BHB", 0, len(packet), 0) + packet)
        answer = http.client.HTTPResponse(client)
        answer.begin()
        return answer.status


def await_health(name: str, recipe: dict) -> None:
    """Ask a service, by the machine's own name, until it answers as it should."""
    named = (recipe.get("check") or {}).get("health")
    path, host = named or "/", (NAMES.read_text().split() or ["localhost"])[0]
    deadline = time.monotonic() + HEALTH_PATIENCE
    while True:
        try:
            status = ask(name, path, host)
            if status < (400 if named else 500):
                say(f"{path} answers {status}")
                return
            problem = f"answers {status}"
        except (OSError, http.client.HTTPException) as error:
            problem = f"does not answer: {error}"
            status = 503
        # 503 is the word of an app that needs a moment yet.
        if status != 503 or time.monotonic() > deadline:
            raise StepError(f"unhealthy: {path} {problem}")
        time.sleep(0.5)


def start(name: str) -> None:
    """Start a service of ours, or start it anew."""
    command("systemctl", "start", f"{name}.socket")
    restarting = ["systemctl", "restart", f"{name}.service"]
    if subprocess.run(restarting, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode:
        raise StepError(f"app start failed: `journalctl -u {name}` says why")


def runs(name: str) -> bool:
    """Whether a service of ours is up."""
    return subprocess.run(["systemctl", "is-active", "--quiet", f"{name}.service"]).returncode == 0


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
        await_health(NEXT, recipe)
        lead(NEXT)
        await_idle(APP, patience)
        SERVED.unlink(missing_ok=True)
        start(APP)
        await_health(APP, recipe)
        lead(APP)
        await_idle(NEXT, patience)
    finally:
        lead(APP)
        command("systemctl", "stop", f"{NEXT}.socket", f"{NEXT}.service")


def settings(release: Path) -> str:
    """The digest of a release and of all that it is started with."""
    texts = [path.read_bytes() if path.exists() else b"" for path in SETTINGS]
    return hashlib.sha256(b"\0".join([release.name.encode(), *texts])).hexdigest()
