"""Boots a finished image as two machines and runs every check on it.

The first machine is looked at by `tests/machine` and hurt by `tests/proof`; the second is
rebooted meanwhile, and shows that two machines of one image share no identity.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from bake import check, disk, run, userdata, vm
from bake.errors import BakeError, CheckError
from bake.progress import Phase


def prove(image: Path, raw: Path, work: Path, *, accel: str, port: int | None, phase: Phase) -> int:
    """Check an image, and the raw disk it was made from; the number of checks that passed.

    Raises CheckError with the failing checks, the app's last journal lines and the console's tail.
    """
    work.mkdir()
    key = work / "key"
    run.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "proof", "-f", key])
    phase.progress(0.02, "booting two machines")
    machines = [
        _boot(image, work / name, key, accel, port if name == "first" else None) for name in ("first", "second")
    ]
    first, second = machines
    try:
        # A worker thread starts only what it waits for itself: see run.py.
        with ThreadPoolExecutor(2) as pool:
            sealed = pool.submit(
                check.run_suites, ["proof/test_sealed.py"], host=None, work=work, facts={"BAKE_DISK": disk.root_of(raw)}
            )
            identity: Future[dict[str, str]] = Future()
            rebooted = pool.submit(_second_life, second, work / "second", identity)
            first.await_ssh()
            phase.progress(0.4, "booted")

            def tell(share: float, what: str) -> None:
                phase.progress(0.4 + 0.5 * share, what)

            looked = _look(first, ["machine"], work / "first", tell)
            facts = {"BAKE_OTHER": json.dumps(identity.result())}
            hurt = _look(first, ["proof/test_identity.py", "proof/test_faults.py"], work / "first", facts=facts)
            phase.progress(0.95, "waiting for the second machine's reboot")
            outcomes = [(first, looked), (first, sealed.result()), (first, hurt), (second, rebooted.result())]
        _judge(outcomes)
        return sum(outcome.passed for _, outcome in outcomes)
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
    progress: Callable[[float, str], None] | None = None,
    facts: dict[str, str] | None = None,
) -> check.Outcome:
    config = check.ssh_config(work / "ssh_config", machine.port, vm.USER, machine.private_key, machine.known_hosts)
    return check.run_suites(
        suites,
        host="ssh://machine?sudo=true",
        work=work,
        config=config,
        facts=facts,
        progress=progress or (lambda share, what: None),
    )


def _second_life(machine: vm.Machine, work: Path, identity: Future[dict[str, str]]) -> check.Outcome:
    """Tell the second machine's identity, and how it comes out of a reboot."""
    try:
        machine.await_ssh()
        identity.set_result(json.loads(machine.ssh("sudo sh -s", stdin=IDENTITY).stdout))
    except BakeError as error:
        identity.set_exception(error)
        raise
    return _look(machine, ["proof/test_reboot.py"], work)


#: What must differ between two machines of one image, as JSON.
IDENTITY = """
printf '{"machine-id": "%s", "host key": "%s", "random seed": "%s"}' \\
    "$(cat /etc/machine-id)" "$(cut -d ' ' -f 2 /etc/ssh/ssh_host_ed25519_key.pub)" \\
    "$(sha256sum < /var/lib/systemd/random-seed | cut -c 1-64)"
"""


def _judge(outcomes: list[tuple[vm.Machine, check.Outcome]]) -> None:
    failed = [(machine, fault) for machine, outcome in outcomes for fault in outcome.failures]
    if not failed:
        return
    machine = failed[0][0]
    journal = machine.ssh("sudo journalctl --no-pager -n 30 -u app -u app-setup -u nginx", check=False).stdout
    shown = [f"--- {name}\n{text}" for _, (name, text) in failed]
    shown += [f"--- the app's last journal lines\n{journal}", f"--- the console's tail\n{machine.tail(15)}"]
    names = ", ".join(name.rpartition("::")[2] for _, (name, _) in failed[:5])
    raise CheckError(
        f"{len(failed)} of the checks failed: {names}",
        "No image was made. The checks' own words are above.",
        "\n".join(shown),
    )
