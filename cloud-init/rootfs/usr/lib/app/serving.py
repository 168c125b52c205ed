"""What serves: starts the app, and asks it how it is."""

import hashlib
import http.client
import socket
import ssl
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

from step import StepError, command, say

RUN = Path("/run/app")
#: Where nginx connects to: a link to the app's socket.
DOOR = RUN / "uwsgi.sock"
APP, SOCKET = "app", RUN / "app.sock"
#: The digest of what is being served, and with which settings.
SERVED = RUN / "served"
#: All that the app is started with, besides its release.
SETTINGS = (
    RUN / "env", RUN / "secrets.env", Path("/run/app-check/env"), RUN / "given.env",
    Path("/run/systemd/system/app.service.d/60-allow.conf"),
)  # fmt: skip
#: The names this machine answers to, as app-configure found them.
NAMES = RUN / "names"
#: Seconds an app may take to be well, and to answer.
HEALTH_PATIENCE = 60


def ask(path: str, host: str) -> int:
    """The status that an HTTPS visitor of this machine gets; 503 is nginx's, too, while the app does not answer."""
    plain = socket.create_connection(("127.0.0.1", 443), HEALTH_PATIENCE)
    connection = http.client.HTTPConnection(host)
    # Whether anybody trusts its certificate is another question.
    connection.sock = ssl._create_unverified_context().wrap_socket(plain, server_hostname=host)
    with connection.sock:
        connection.request("GET", quote(path, bytes(range(33, 127))), headers={"User-Agent": "app-setup"})
        return connection.getresponse().status


def await_health(recipe: dict, ask: Callable[[str, str], int] = ask) -> None:
    """Ask the app, by the machine's own name, until it answers as it should."""
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
        # 503 is the word of an app that needs a moment yet.
        if status != 503 or time.monotonic() > deadline:
            raise StepError(f"unhealthy: {path} {problem}")
        time.sleep(0.5)


def start(name: str) -> None:
    """Start a service of ours, or start it anew."""
    command("systemctl", "start", f"{name}.socket")
    restarting = ["systemctl", "restart", f"{name}.service"]
    if subprocess.run(restarting, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode:
        raise StepError(f"app start failed: see `journalctl -u {name}`")


def runs(name: str) -> bool:
    """Whether a service of ours is up."""
    return subprocess.run(["systemctl", "is-active", "--quiet", f"{name}.service"]).returncode == 0


def settings(release: Path) -> str:
    """The digest of a release and of all that it is started with."""
    texts = [path.read_bytes() if path.exists() else b"" for path in SETTINGS]
    return hashlib.sha256(b"\0".join([release.name.encode(), *texts])).hexdigest()
