"""Boots an image here for a person to look at: a URL, a shell, and an end with Ctrl-C."""

from __future__ import annotations

import contextlib
import http.client
import json
import secrets
import time
from collections.abc import Callable
from pathlib import Path

from bake import proof, run, store, userdata, vm
from bake.errors import BootError
from bake.image import facts_of
from bake.progress import Reporter

#: Here the app answers to any name, whatever its domains are: nobody's DNS points at this machine.
USER_DATA = """#cloud-config
write_files:
- {path: /etc/app/domains, content: ""}
"""


def show(image: Path, port: int, shell: bool, report: Reporter, tell: Callable[[str], None]) -> None:
    """Run an image until it is stopped, or until the shell ends. `tell` gets its URL, once it answers.

    The image stays as it is. Raises PortError and BootError.
    """
    vm.free_port(port)
    facts = facts_of(image)
    names = json.loads(facts.read_text()).get("secrets", []) if facts.is_file() else []
    with store.work_folder() as work:
        key = work / "key"
        vm.make_key(key, "bake-run")
        vendor_data = userdata.stand_ins({name: secrets.token_urlsafe(32) for name in names})
        machine = proof.start(
            image, work / "bake-run", key, vendor_data, accel=vm.accelerator(), user_data=USER_DATA, web={80: port}
        )
        try:
            with report.phase("boot") as phase:
                _await_answer(machine, port, lambda what: phase.progress(what=what))
            if names:
                report.note(f"random stand-ins are in the place of: {', '.join(names)}")
            tell(f"http://127.0.0.1:{port}/")
            if shell:
                machine.await_ssh()
                argv = vm.ssh_argv(machine.port, key, machine.known_hosts)
                run.start([argv[0], "-t", *argv[1:]], stdin=0, stdout=1, stderr=2).wait()
            else:
                report.note("Ctrl-C stops it")
                machine.process.wait()
                raise BootError("The machine stopped by itself", details=machine.tail())
        finally:
            machine.stop()


def _await_answer(machine: vm.Machine, port: int, progress: Callable[[str], None]) -> None:
    """Return when nginx answers with something of the app's: anything but its own 503."""
    deadline, patience = time.monotonic() + vm.BOOT_PATIENCE, vm.GREETING_PATIENCE
    while time.monotonic() < deadline:
        if machine.process.poll() is not None:
            raise BootError("QEMU ended while the machine was starting", details=machine.tail())
        progress(next(iter(machine.tail(1).splitlines()), "")[:60])
        try:
            with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=patience)) as connection:
                connection.request("GET", "/")
                with connection.getresponse() as answer:
                    if answer.status != http.client.SERVICE_UNAVAILABLE:
                        return
        except TimeoutError:
            # QEMU accepts connections before the machine does, so the first tries are short. A page may be slow.
            patience *= 2
        except (OSError, http.client.HTTPException):
            pass
        time.sleep(0.5)
    raise BootError(f"The app did not answer within {vm.BOOT_PATIENCE:.0f} s", details=machine.tail())
