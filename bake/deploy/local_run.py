"""Boot an image on this computer to try it: print its URL, open a shell, stop it with Ctrl-C."""

from __future__ import annotations

import http.client
import secrets
import time
from collections.abc import Callable
from pathlib import Path

from bake.config import contract
from bake.document import cloud_config
from bake.errors import BootError, PortError
from bake.host import cache, programs
from bake.host.progress import Reporter
from bake.host.sockets import time_limit
from bake.host.templates import render
from bake.image import archive_comparison, manifest
from bake.verify import proof
from bake.vm import qemu

#: The default port. If it is in use, bake chooses a free one.
PORT = 8080
#: Seconds to wait for the app's front page: the default limit of a request, which nginx extends.
ANSWER_PATIENCE = float(contract.REQUEST + contract.TIMEOUT_MARGIN)


def run(image: Path, port: int | None, shell: bool, report: Reporter, print_url: Callable[[str], None]) -> None:
    """Run an image until it is stopped, or until the shell ends, if `shell` is true. The image does not change.

    Call `print_url` with the URL when the app answers and, for a shell, SSH accepts a login. Without a `port`, bake
    uses 8080, or a free port if 8080 is in use. Raises PortError and BootError.
    """
    port = _port(port, report)
    path = manifest.path_of(image)
    facts = manifest.ImageManifest.read(path) if path.is_file() else manifest.ImageManifest()
    names = facts.secrets
    if facts.days:
        report.note(f"the image is {facts.days} days old; a new bake has today's security updates")
        if line := archive_comparison.missing_updates(facts):
            report.note(line)
    with cache.work_folder() as work:
        key = work / "key"
        qemu.make_key(key, "bake-run")
        random_secrets = {name: secrets.token_urlsafe(32) for name in names}
        vendor_data = cloud_config.vendor_data(cloud_config.CheckSettings(random_secrets, cloud_config.Network.OPEN))
        user_data = proof.UserData(render("user-data/run.yaml.j2"), vendor_data)
        machine = proof.start(image, work / "bake-run", key, user_data, qemu.VmOptions(web={80: port}))
        try:
            with report.phase("boot") as phase:
                _await_answer(machine, port, lambda line: phase.progress(activity=line))
                if shell:
                    phase.progress(activity="waiting for SSH")
                    machine.await_ssh()
            if names:
                report.note(f"random values replace these secrets: {', '.join(names)}")
            print_url(f"http://127.0.0.1:{port}/")
            if shell:
                argv = qemu.ssh_argv(machine.port, key, machine.known_hosts)
                programs.start([argv[0], "-t", *argv[1:]], stdin=0, stdout=1, stderr=2).wait()
            else:
                report.note("press Ctrl-C to stop the machine")
                machine.process.wait()
                raise BootError("The machine stopped by itself", "The console's last lines are above.", machine.tail())
        finally:
            machine.stop()


def _port(port: int | None, report: Reporter) -> int:
    """Return `port`, or else 8080, or a free one. Raises PortError if `port` is in use."""
    if port:
        return qemu.free_port(port)
    try:
        return qemu.free_port(PORT)
    except PortError as error:
        free_port = qemu.free_port()
        report.note(f"{error.message}; using port {free_port} instead")
        return free_port


def _await_answer(machine: qemu.Machine, port: int, progress: Callable[[str], None]) -> None:
    """Wait until nginx answers with a response of the app, which is any but its own 503. Raises BootError."""
    deadline = time.monotonic() + qemu.BOOT_PATIENCE
    while time.monotonic() < deadline:
        if machine.process.poll() is not None:
            raise BootError(
                "QEMU ended while the machine was booting", "The console's last lines are above.", machine.tail()
            )
        progress(machine.tail(1))
        # Probe with a short timeout until nginx listens (see Machine._greets), then give the app time to answer.
        if _status(port, "/.well-known/acme-challenge/", qemu.GREETING_PATIENCE):
            patience = max(min(ANSWER_PATIENCE, deadline - time.monotonic()), qemu.GREETING_PATIENCE)
            if _status(port, "/", patience) not in (0, http.client.SERVICE_UNAVAILABLE):
                return
        time.sleep(0.5)
    raise BootError(
        f"The app did not answer within {qemu.BOOT_PATIENCE:.0f} s",
        "The console's last lines are above.",
        machine.tail(),
    )


def _status(port: int, path: str, patience: float) -> int:
    """Return the status of nginx's answer at a path, or 0 if there is none within `patience` seconds.

    nginx answers ACME challenges itself, even if the app is down.
    """
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=patience)
    try:
        connection.connect()
        with time_limit(connection.sock, patience):
            connection.request("GET", path)
            return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()
