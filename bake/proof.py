"""Boots a finished image as two machines and runs every check on it.

The first machine is looked at by `tests/machine`, then hurt and rebooted by `tests/proof`. The
second shows that two machines of one image share no identity, and stops once that is read.
They overlap only while the first is looked at: two emulated machines that boot at once slow
each other down by more than is won.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bake import check, disk, run, userdata, vm
from bake.errors import CheckError
from bake.progress import Phase


def prove(image: Path, raw: Path, work: Path, *, accel: str, port: int | None, phase: Phase) -> int:
    """Check an image, and the raw disk it was made from; the number of checks that passed.

    Raises CheckError with the failing checks, the app's last journal lines and the console's tail.
    """
    work.mkdir()
    key = work / "key"
    run.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "proof", "-f", key])
    phase.progress(0.02, "booting the first machine")
    machines = [_boot(image, work / "first", key, accel, port)]
    first = machines[0]

    def tell(start: float, end: float) -> Callable[[float, str], None]:
        return lambda share, what: phase.progress(start + (end - start) * share, what)

    try:
        sealed = check.run_suites(
            ["proof/test_sealed.py"], host=None, work=work, facts={"BAKE_DISK": disk.root_of(raw)}
        )
        first.await_ssh()
        machines.append(_boot(image, work / "second", key, accel, None))
        with ThreadPoolExecutor(1) as pool:
            # The thread starts only what it waits for itself: see run.py.
            identity = pool.submit(_identity, machines[1])
            try:
                looked = _look(first, ["machine"], work / "first", tell(0.3, 0.5))
                facts = {"BAKE_OTHER": json.dumps(identity.result())}
            except BaseException:
                # Or the pool would wait for a machine that nobody wants any more.
                machines[1].stop()
                raise
        suites = ["proof/test_identity.py", "proof/test_faults.py", "proof/test_reboot.py"]
        hurt = _look(first, suites, work / "first", tell(0.6, 0.95), facts)
        _judge(first, [sealed, looked, hurt])
        return sealed.passed + looked.passed + hurt.passed
    finally:
        for machine in machines:
            machine.stop()


def _boot(image: Path, work: Path, key: Path, accel: str, port: int | None) -> vm.Machine:
    """A machine as a cloud would start it: an instance of its own, a key, no settings."""
    work.mkdir()
    meta_data = userdata.meta_data(
        f"proof-{secrets.token_hex(4)}", work.name, [key.with_suffix(".pub").read_text().strip()]
    )
    seed = vm.make_seed(work / "seed.iso", {"meta-data": meta_data, "user-data": "#cloud-config\n{}\n"})
    return vm.boot(image, seed, work, key, accel=accel, port=port)


def _look(
    machine: vm.Machine,
    suites: list[str],
    work: Path,
    progress: Callable[[float, str], None],
    facts: dict[str, str] | None = None,
) -> check.Outcome:
    config = check.ssh_config(work / "ssh_config", machine.port, vm.USER, machine.private_key, machine.known_hosts)
    host = "ssh://machine?sudo=true"
    return check.run_suites(suites, host=host, work=work, config=config, facts=facts, progress=progress)


def _identity(machine: vm.Machine) -> dict[str, str]:
    """What must differ between machines; the machine is stopped once it is read."""
    machine.await_ssh()
    identity: dict[str, str] = json.loads(machine.ssh("sudo sh -s", stdin=IDENTITY).stdout)
    machine.stop()
    return identity


#: What must differ between two machines of one image, as JSON.
IDENTITY = """
printf '{"machine-id": "%s", "host key": "%s", "random seed": "%s"}' \\
    "$(cat /etc/machine-id)" "$(cut -d ' ' -f 2 /etc/ssh/ssh_host_ed25519_key.pub)" \\
    "$(sha256sum < /var/lib/systemd/random-seed | cut -c 1-64)"
"""


def _judge(machine: vm.Machine, outcomes: list[check.Outcome]) -> None:
    failed = [fault for outcome in outcomes for fault in outcome.failures]
    if not failed:
        return
    journal = machine.ssh("sudo journalctl --no-pager -n 30 -u app -u app-setup -u nginx", check=False).stdout
    shown = [f"--- {name}\n{text}" for name, text in failed]
    shown += [f"--- the app's last journal lines\n{journal}", f"--- the console's tail\n{machine.tail(15)}"]
    names = ", ".join(name.rpartition("::")[2] for name, _ in failed[:5])
    raise CheckError(
        f"{len(failed)} of the checks failed: {names}",
        "No image was made. The checks' own words are above.",
        "\n".join(shown),
    )
