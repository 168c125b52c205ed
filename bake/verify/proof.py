"""Boot a finished image as two machines and run every check on them, in parallel.

The first machine runs `tests/machine`, is compared with the second (two machines of one
image must not share an identity) and is rebooted. The second machine runs the tests that
inject faults, and must recover.
"""

from __future__ import annotations

import secrets
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from bake.config import contract
from bake.diagnosis import diagnosis
from bake.disk import partitions
from bake.document import cloud_config
from bake.errors import CheckError
from bake.host import remote_scripts
from bake.host.progress import Phase
from bake.verify import checks
from bake.verify.checks import Host, Progress, Suites
from bake.vm import qemu
from bake.vm.qemu import VmOptions

#: Prints the journals of the app and of nginx since this boot.
JOURNAL = (
    f"sudo journalctl --namespace='*' --no-pager -b -n 2000 -u {contract.SERVICE} -u {contract.NEXT} "
    f"-u {contract.SETUP} -u '{contract.JOB}*' -u '{contract.PROCESS}*' -u nginx"
)
#: The option of QEMU's network that isolates a machine. Port forwarding still works.
ISOLATED_NETWORK = "restrict=on"


@dataclass(frozen=True)
class ProofResult:
    """The number of checks that passed, the app's answers in a line (`app`), and a table of pages that differ."""

    checks: int
    app: str
    pages: str


@dataclass(frozen=True)
class UserData:
    """The data that a cloud gives a machine: user-data (`user`), and the provider's vendor-data (`vendor`)."""

    user: str = "#cloud-config\n{}\n"
    vendor: str = ""


@dataclass(frozen=True)
class Candidate:
    """An image that bake has not checked yet, and the raw disk it was made from."""

    image: Path
    raw: Path


def prove(
    candidate: Candidate, work: Path, settings: cloud_config.CheckSettings, options: VmOptions, phase: Phase
) -> ProofResult:
    """Check an image, and the raw disk it was made from.

    The machines have no network unless `settings` open it. `options` are those of the first machine.

    Raises CheckError with the failed checks, the app's last journal lines and the last lines of the console.
    """
    work.mkdir()
    key = work / "key"
    qemu.make_key(key, "proof")
    user_data = UserData(vendor=cloud_config.vendor_data(settings))
    options = replace(options, network=ISOLATED_NETWORK if settings.network is cloud_config.Network.CLOSED else "")
    phase.progress(0.02, "booting two machines")
    machines: list[qemu.Machine] = []

    def progress_of(name: str, low: float, high: float) -> Progress:
        return lambda share, activity: phase.progress(low + (high - low) * share, f"{name}: {activity}")

    try:
        machines.append(start(candidate.image, work / "first", key, user_data, options))
        machines.append(start(candidate.image, work / "second", key, user_data, replace(options, port=None, cpus=1)))
        first, second = machines
        facts = {"BAKE_DISK": partitions.root_of(candidate.raw)}
        sealed_outcome = checks.run_suites(Suites(["proof/test_sealed.py"], facts), Host(), work)
        with ThreadPoolExecutor(1) as pool:
            # A child dies with the thread that started it (see programs.py), so this thread waits for its own children.
            second_identity = pool.submit(_identity, second)
            fault_checks = pool.submit(_run_fault_checks, second, work / "second", progress_of("second", 0.4, 0.6))
            try:
                first.await_ssh()
                first_outcome = run_checks(
                    first, ["machine", "proof/test_reach.py"], work / "first",
                    facts={"BAKE_NETWORK": settings.network.name},
                    progress=progress_of("first", 0.4, 0.7),
                )  # fmt: skip
                reboot_outcome = _reboot(
                    first, second_identity.result(), work / "first", progress_of("first", 0.7, 1.0)
                )
            except BaseException:
                # Otherwise the pool would wait until the checks of the second machine end.
                second.stop()
                raise
            fault_outcome = fault_checks.result()
        outcomes = [sealed_outcome, first_outcome, reboot_outcome]
        _require_passed(first, outcomes)
        _require_passed(second, [fault_outcome])
        count = sum(outcome.passed for outcome in [*outcomes, fault_outcome])
        return ProofResult(count, first_outcome.app, first_outcome.pages)
    finally:
        for machine in machines:
            machine.stop()


def start(
    image: Path, work: Path, key: Path, user_data: UserData = UserData(), options: VmOptions | None = None
) -> qemu.Machine:
    """Start a machine as a cloud does, with an instance id, a key and user-data, and return without waiting."""
    work.mkdir()
    meta_data = cloud_config.meta_data(f"{work.name}-{secrets.token_hex(4)}", work.name, [qemu.public_key(key)])
    files = {"meta-data": meta_data, "user-data": user_data.user, "vendor-data": user_data.vendor}
    seed = qemu.make_seed(work / "seed.iso", {name: text for name, text in files.items() if text})
    return qemu.boot(image, seed, work, key, options)


def run_checks(
    machine: qemu.Machine,
    suites: list[str],
    work: Path,
    *,
    progress: Progress = lambda share, activity: None,
    facts: dict[str, str] | None = None,
) -> checks.Outcome:
    """Run suites of checks on a machine that bake booted."""
    return checks.run_suites(Suites(suites, facts or {}), Host.of(machine.access, work), work, progress)


def _reboot(machine: qemu.Machine, other_identity: str, work: Path, progress: Progress) -> checks.Outcome:
    """Compare a machine with the identity of another one of the same image, and with itself after a reboot."""
    progress(0.1, "rebooting")
    facts = {"BAKE_BEFORE": _identity(machine), "BAKE_OTHER": other_identity}
    machine.ssh(f"sudo touch {contract.DATA}/kept")
    machine.reboot()
    return run_checks(machine, ["proof/test_identity.py", "proof/test_reboot.py"], work, facts=facts, progress=progress)


def _run_fault_checks(machine: qemu.Machine, work: Path, progress: Progress) -> checks.Outcome:
    outcome = run_checks(machine, ["proof/test_faults.py"], work, progress=progress)
    machine.stop()
    return outcome


def _identity(machine: qemu.Machine) -> str:
    """Return a machine's identity as JSON."""
    machine.await_ssh()
    return machine.ssh("sudo sh -s", stdin=remote_scripts.text("identity.sh")).stdout


def _require_passed(machine: qemu.Machine, outcomes: list[checks.Outcome]) -> None:
    failures = [fault for outcome in outcomes for fault in outcome.failures]
    if not failures:
        return
    journal = machine.ssh(JOURNAL, check=False).stdout
    check_texts = "\n".join(f"--- {name}\n{text}" for name, text in failures)
    console = f"--- the console's last lines\n{machine.tail(15)}"
    names = ", ".join(name.rpartition("::")[2] for name, _ in failures[:5])
    error = CheckError(
        f"{len(failures)} of the checks failed: {names}",
        f"bake made no image. The output of the checks is above.\n{diagnosis.diagnose(journal).text}".rstrip(),
        f"{check_texts}\n--- the app's last journal lines\n{diagnosis.last_lines(journal)}\n{console}",
    )
    error.log = f"{check_texts}\n--- the app's journal\n{journal}\n{console}"
    raise error
