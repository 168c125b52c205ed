"""Start the app, and check its health."""

import hashlib
import http.client
import socket
import ssl
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

from step import NotStarted, Unhealthy, command, say

RUN = Path("/run/app")
#: The socket that nginx connects to: a link to that of the app.
DOOR = RUN / "uwsgi.sock"
APP, SOCKET = "app", RUN / "app.sock"
#: The digest of the release and the settings that are being served.
SERVED = RUN / "served"
#: The files that the app starts with, besides its release.
SETTINGS = (
    RUN / "env", RUN / "secrets.env", Path("/run/app-check/env"), RUN / "given.env",
    Path("/run/systemd/system/app.service.d/60-allow.conf"),
)  # fmt: skip
#: The names that this machine answers to, written by app-configure.
NAMES = RUN / "names"
#: Seconds for the app to become healthy, and for one answer.
HEALTH_PATIENCE = 60


def ask(path: str, host: str) -> int:
    """Return the HTTP status that this machine answers over HTTPS. nginx answers 503 while the app does not answer.

    Raises OSError or HTTPException if there is no answer.
    """
    plain = socket.create_connection(("127.0.0.1", 443), HEALTH_PATIENCE)
    connection = http.client.HTTPConnection(host)
    # The placeholder certificate is not trusted, and the app can still be healthy.
    connection.sock = ssl._create_unverified_context().wrap_socket(plain, server_hostname=host)
    with connection.sock:
        connection.request("GET", quote(path, bytes(range(33, 127))), headers={"User-Agent": "app-setup"})
        return connection.getresponse().status


def await_health(recipe: dict, ask: Callable[[str, str], int] = ask) -> None:
    """Ask for the health path under the machine's name until the app is healthy.

    A status below 400 is healthy; below 500 if the recipe has no health path. Raises Unhealthy for other statuses, and
    after HEALTH_PATIENCE for 503 and failed connections.
    """
    named = (recipe.get("check") or {}).get("health")
    path, host = named or "/", (NAMES.read_text().split() or ["localhost"])[0].replace("*", "www")
    deadline = time.monotonic() + HEALTH_PATIENCE
    while True:
        try:
            status = ask(path, host)
            if status < (400 if named else 500):
                say(f"{path} answers {status}")
                return
            problem = f"answers {status}"
        except (OSError, http.client.HTTPException) as error:
            problem = f"does not answer: {error}"
            status = 503
        # 503 means that the app is still starting.
        if status != 503 or time.monotonic() > deadline:
            raise Unhealthy(f"{path} {problem}")
        time.sleep(0.5)


def start(name: str) -> None:
    """Start or restart a service and its socket. Raises NotStarted if the service does not start."""
    command("systemctl", "start", f"{name}.socket")
    service = f"{name}.service"
    # Longer than its unit allows. An intruder in the old app could have systemd wait without end (EXTEND_TIMEOUT_USEC).
    if subprocess.run(["timeout", "240", "systemctl", "restart", service], stderr=subprocess.DEVNULL).returncode:
        subprocess.run(["systemctl", "kill", "-sKILL", service], stderr=subprocess.DEVNULL)
        raise NotStarted(f"{name} does not start: see `systemctl status {name}`")


def runs(name: str) -> bool:
    """Return whether a service is active."""
    return subprocess.run(["systemctl", "is-active", "--quiet", f"{name}.service"]).returncode == 0


def settings(release: Path) -> str:
    """Return the digest of a release and of the files in SETTINGS."""
    texts = [path.read_bytes() if path.exists() else b"" for path in SETTINGS]
    return hashlib.sha256(b"\0".join([release.name.encode(), *texts])).hexdigest()
