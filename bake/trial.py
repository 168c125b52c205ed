"""Boots an image here for a person to look at: a URL, a shell, and an end with Ctrl-C."""

from __future__ import annotations

import http.client
import json
import secrets
import time
from collections.abc import Callable
from pathlib import Path

from bake import proof, run, store, userdata, vm
from bake.errors import BootError, PortError
from bake.image import facts_of
from bake.progress import Reporter

#: The port that is tried first.
PORT = 8080
#: Seconds for the app's front page: as long as a request may take by default (60 s), and nginx's 5 s more.
ANSWER_PATIENCE = 65.0
#: Here the app answers to any name, whatever its domains are: nobody's DNS points at this machine.
USER_DATA = """#cloud-config
write_files:
- {path: /etc/app/domains, content: ""}
"""


def show(image: Path, port: int | None, shell: bool, report: Reporter, tell: Callable[[str], None]) -> None:
    """Run an image until it is stopped, or until the shell ends. `tell` gets its URL once it answers, and to SSH too
    where a shell is asked for.

    Without a `port`, a busy 8080 leads to a free one. The image stays as it is. Raises PortError and BootError.
    """
    port = _port(port, report)
    facts = facts_of(image)
    names = json.loads(facts.read_text()).get("secrets", []) if facts.is_file() else []
    with store.work_folder() as work:
        key = work / "key"
        vm.make_key(key, "bake-run")
        random = {name: secrets.token_urlsafe(32) for name in names}
        vendor_data = userdata.stand_ins(userdata.CheckSettings(random, userdata.Network.OPEN))
        machine = proof.start(
            image, work / "bake-run", key, vendor_data, accel=vm.accelerator(), user_data=USER_DATA, web={80: port}
        )
        try:
            with report.phase("boot") as phase:
                _await_answer(machine, port, lambda what: phase.progress(what=what))
                if shell:
                    phase.progress(what="waiting for SSH")
                    machine.await_ssh()
            if names:
                report.note(f"random stand-ins are in the place of: {', '.join(names)}")
            tell(f"http://127.0.0.1:{port}/")
            if shell:
                argv = vm.ssh_argv(machine.port, key, machine.known_hosts)
                run.start([argv[0], "-t", *argv[1:]], stdin=0, stdout=1, stderr=2).wait()
            else:
                report.note("Ctrl-C stops it")
                machine.process.wait()
                raise BootError("The machine stopped by itself", details=machine.tail())
        finally:
            machine.stop()


def _port(wanted: int | None, report: Reporter) -> int:
    """Return the port that is asked for, or 8080, or a free one. Raises PortError where the first is in use."""
    if wanted:
        return vm.free_port(wanted)
    try:
        return vm.free_port(PORT)
    except PortError as error:
        port = vm.free_port()
        report.note(f"{error.message}: the app gets port {port}")
        return port


def _await_answer(machine: vm.Machine, port: int, progress: Callable[[str], None]) -> None:
    """Return when nginx answers with something of the app's: anything but its own 503. Raises BootError."""
    deadline = time.monotonic() + vm.BOOT_PATIENCE
    while time.monotonic() < deadline:
        if machine.process.poll() is not None:
            raise BootError("QEMU ended while the machine was starting", details=machine.tail())
        progress(machine.tail(1))
        # An app may think for long, and a machine that does not listen yet is asked anew soon: see Machine.await_ssh.
        if _status(port, "/.well-known/acme-challenge/", vm.GREETING_PATIENCE):
            patience = max(min(ANSWER_PATIENCE, deadline - time.monotonic()), vm.GREETING_PATIENCE)
            if _status(port, "/", patience) not in (0, http.client.SERVICE_UNAVAILABLE):
                return
        time.sleep(0.5)
    raise BootError(f"The app did not answer within {vm.BOOT_PATIENCE:.0f} s", details=machine.tail())


def _status(port: int, path: str, patience: float) -> int:
    """Return the status of nginx's answer at a path, or 0 where none comes within `patience` seconds.

    Challenges it answers itself, whether the app is there or not.
    """
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=patience)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()
