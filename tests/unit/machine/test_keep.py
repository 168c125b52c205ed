"""The machine's program that has certificates outlive it, with the real age and tar, below a folder of the test's."""

from __future__ import annotations

import fcntl
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest
import trustme
from conftest import REPOSITORY, Fake

pytestmark = pytest.mark.skipif(not shutil.which("age"), reason="Debian's package age is not here")

RELEASE = REPOSITORY / "cloud-init/features"


@dataclass
class Machine:
    """A machine below a folder of the test's; the program is loaded for it."""

    program: ModuleType
    root: Path
    capsys: pytest.CaptureFixture[str]
    patch: pytest.MonkeyPatch

    @property
    def certbot(self) -> Path:
        """certbot's folder."""
        return self.root / "etc/letsencrypt"

    @property
    def orders(self) -> Path:
        """When something was ordered."""
        return self.root / "var/lib/app-certificate/orders.json"

    def issue(self, name: str = "a.example", number: int = 1) -> bytes:
        """A certificate as certbot keeps it: live leads into archive; the certificate."""
        made = trustme.CA().issue_cert(name)
        live, archive = self.certbot / "live/app", self.certbot / "archive/app"
        for folder in (live, archive, self.certbot / "renewal", self.certbot / "accounts/x"):
            folder.mkdir(parents=True, exist_ok=True)
        (self.certbot / "archive").chmod(0o700)
        made.cert_chain_pems[0].write_to_path(archive / f"fullchain{number}.pem")
        made.private_key_pem.write_to_path(archive / f"privkey{number}.pem")
        (archive / f"privkey{number}.pem").chmod(0o600)
        for part in ("fullchain", "privkey"):
            (live / f"{part}.pem").unlink(missing_ok=True)
            (live / f"{part}.pem").symlink_to(f"../../archive/app/{part}{number}.pem")
        (self.certbot / "renewal/app.conf").write_text("[renewalparams]\naccount = x\n")
        (self.certbot / "accounts/x/private_key.json").write_text("{}")
        self.orders.parent.mkdir(parents=True, exist_ok=True)
        self.orders.write_text('{"orders": [1.0]}')
        return self.served

    @property
    def served(self) -> bytes:
        """The certificate that nginx would read; nothing where there is none."""
        path = self.certbot / "live/app/fullchain.pem"
        return path.read_bytes() if path.exists() else b""

    def run(self, *words: str) -> str:
        """Run the program; what it said."""
        self.patch.setattr(sys, "argv", ["keep.py", *words])
        self.program.main()
        return self.capsys.readouterr().out

    def replaced(self) -> None:
        """Another machine, in the place of this one."""
        shutil.rmtree(self.certbot, ignore_errors=True)
        shutil.rmtree(self.orders.parent, ignore_errors=True)
        (self.root / "hooked").unlink(missing_ok=True)
        self.hook()

    def hook(self) -> None:
        """Give it the program that certbot calls when a certificate is new."""
        hook = self.certbot / "renewal-hooks/deploy/app"
        hook.parent.mkdir(parents=True, exist_ok=True)
        hook.write_text(f"#!/bin/sh\necho called >> {self.root}/hooked\n")
        hook.chmod(0o755)

    def key(self) -> None:
        """Give it a key that nobody else has."""
        made = subprocess.run(["age-keygen"], capture_output=True, text=True, check=True).stdout
        self.program.KEY.write_text(made.splitlines()[-1] + "\n")

    @property
    def kept(self) -> dict[str, bytes]:
        """What is in the folder."""
        return {path.name: path.read_bytes() for path in (self.root / "keep").iterdir()}

    @property
    def hooked(self) -> bool:
        """Whether nginx was told."""
        return (self.root / "hooked").exists()


@pytest.fixture
def machine(
    rooted: Callable[..., ModuleType],
    fake: Fake,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> Machine:
    fake("udevadm", "exit 0")
    ordering = rooted("certificate.py", RELEASE / "certificate")
    monkeypatch.setitem(sys.modules, "certificate", ordering)
    module = rooted("keep.py", RELEASE / "certificate-keep")
    ordering.RECIPE.parent.mkdir()
    ordering.RECIPE.write_text(json.dumps({"keep": str(tmp_path / "keep")}))
    (tmp_path / "keep").mkdir()
    made = Machine(module, tmp_path, capsys, monkeypatch)
    made.hook()
    made.key()
    return made


def fails(machine: Machine, said: str, *words: str) -> None:
    with pytest.raises(sys.modules["step"].StepError, match=said):
        machine.run(*words)


def test_what_one_machine_has_the_next_one_gets(machine: Machine) -> None:
    issued = machine.issue()
    assert "kept in" in machine.run()
    sealed = machine.kept["certificate.age"]
    assert sealed.startswith(b"age-encryption.org/v1") and b"PRIVATE" not in sealed
    assert (machine.root / "keep/certificate.age").stat().st_mode & 0o777 == 0o600
    machine.replaced()
    assert "restored a certificate" in machine.run("restore")
    # app-configure goes on, and nginx has not begun.
    assert machine.served == issued and not machine.hooked
    assert machine.orders.read_text() == '{"orders": [1.0]}'
    assert (machine.certbot / "archive/app/privkey1.pem").stat().st_mode & 0o777 == 0o600
    assert (machine.certbot / "archive").stat().st_mode & 0o777 == 0o700
    assert (machine.certbot / "live/app/privkey.pem").is_symlink()
    assert (machine.certbot / "accounts/x/private_key.json").exists()
    assert not (machine.certbot / ".kept").exists()
    # Nothing has changed by that.
    assert machine.run() == ""
    assert machine.kept == {"certificate.age": sealed}


def test_a_machine_that_serves_already_is_told_of_what_came_back(machine: Machine) -> None:
    issued = machine.issue()
    machine.run()
    assert not machine.hooked
    machine.replaced()
    machine.run()
    assert machine.served == issued and machine.hooked


def test_six_replacements_leave_one_order(machine: Machine) -> None:
    issued = machine.issue()
    machine.run()
    for _ in range(6):
        machine.replaced()
        machine.run("restore")
        machine.run()
        assert machine.served == issued
        assert json.loads(machine.orders.read_text()) == {"orders": [1.0]}
    assert list(machine.kept) == ["certificate.age"]


def test_a_renewal_is_kept_and_the_one_before_stays(machine: Machine) -> None:
    machine.issue()
    machine.run()
    first = machine.kept["certificate.age"]
    second = machine.issue(number=2)
    machine.run()
    assert machine.kept["certificate.age.before"] == first
    machine.replaced()
    machine.run("restore")
    assert machine.served == second


def test_a_machine_with_a_certificate_takes_none_back(machine: Machine) -> None:
    machine.issue()
    machine.run()
    own = machine.issue("b.example", 2)
    assert machine.run("restore") == ""
    machine.run()
    assert machine.served == own


@pytest.mark.parametrize("damage", ["conf", "key"])
def test_what_a_power_cut_left_of_a_certificate_is_none(machine: Machine, damage: str) -> None:
    issued = machine.issue()
    machine.run()
    (machine.certbot / {"conf": "renewal/app.conf", "key": "archive/app/privkey1.pem"}[damage]).unlink()
    machine.run("restore")
    assert machine.served == issued and machine.program.has()


def test_another_key_s_is_neither_taken_nor_replaced(machine: Machine) -> None:
    machine.issue()
    machine.run()
    before, right = machine.kept, machine.program.KEY.read_text()
    machine.replaced()
    machine.key()
    fails(machine, "cannot decrypt the kept certificates.*no identity matched", "restore")
    assert not machine.program.has()
    machine.issue("b.example")
    for _ in range(2):
        fails(machine, "so none is changed or kept")
    assert machine.kept == before
    # With its own key again, it is what it was.
    machine.replaced()
    machine.program.KEY.write_text(right)
    machine.run("restore")
    assert machine.program.has()


def test_what_is_no_key_is_said_and_not_shown(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    machine.issue()
    machine.program.KEY.write_text("hunter2\n")
    with pytest.raises(sys.modules["step"].StepError) as caught:
        machine.run()
    assert "age failed" in str(caught.value) and "hunter2" not in str(caught.value) + capsys.readouterr().out
    assert machine.program.has()
    assert "certificate.age" not in machine.kept


def test_without_a_key_nothing_is_kept_and_that_is_said(machine: Machine) -> None:
    machine.issue()
    machine.program.KEY.unlink()
    for words in ((), ("restore",)):
        assert "certificates are not kept" in machine.run(*words)
    assert machine.kept == {}


def test_without_anything_there_is_nothing_to_keep(machine: Machine) -> None:
    assert machine.run("restore") + machine.run() == ""
    assert machine.kept == {} and not machine.hooked


def test_orders_that_failed_outlive_the_machine_too(machine: Machine) -> None:
    machine.orders.parent.mkdir()
    machine.orders.write_text('{"orders": [1.0, 2.0]}')
    machine.run()
    machine.replaced()
    assert "back" not in machine.run("restore")
    assert machine.orders.read_text() == '{"orders": [1.0, 2.0]}'
    # This machine's own are newer.
    machine.orders.write_text('{"orders": [3.0]}')
    machine.run("restore")
    assert machine.orders.read_text() == '{"orders": [3.0]}'


def test_a_damaged_file_gives_way_to_the_one_before(machine: Machine) -> None:
    first = machine.issue()
    machine.run()
    machine.issue(number=2)
    machine.run()
    path = machine.root / "keep/certificate.age"
    path.write_bytes(path.read_bytes()[:-100])
    machine.replaced()
    assert "<4>certificate.age: age failed" in machine.run("restore")
    assert machine.served == first
    # It is the damaged one that is replaced.
    good = machine.kept["certificate.age.before"]
    machine.issue(number=3)
    machine.run()
    assert machine.kept["certificate.age.before"] == good
    machine.replaced()
    assert "<4>" not in machine.run("restore")


@pytest.mark.parametrize("rest", [b"", b"not at all age's", None])
def test_a_file_that_nothing_opens_stays(machine: Machine, rest: bytes | None) -> None:
    machine.issue()
    machine.run()
    path = machine.root / "keep/certificate.age"
    path.write_bytes(path.read_bytes()[:-1] if rest is None else rest)
    before = machine.kept
    fails(machine, "so none is changed or kept")
    machine.replaced()
    fails(machine, "so none is changed or kept", "restore")
    assert machine.kept == before and not machine.served


def test_what_opens_and_is_no_archive_changes_nothing(machine: Machine) -> None:
    machine.program.save(machine.root / "keep", b"no archive", rotate=False)
    fails(machine, "tar failed", "restore")
    assert not machine.program.has()


def test_a_power_cut_while_it_is_kept_leaves_the_one_before(machine: Machine) -> None:
    issued = machine.issue()
    machine.run()
    (machine.root / "keep/.certificate.age.partial").write_bytes(b"half")
    machine.replaced()
    machine.run("restore")
    assert machine.served == issued
    # Another one, between the two names.
    folder = machine.root / "keep"
    (folder / "certificate.age").rename(folder / "certificate.age.before")
    machine.replaced()
    machine.run("restore")
    assert machine.served == issued
    machine.issue(number=2)
    machine.run()
    assert set(machine.kept) == {"certificate.age", "certificate.age.before"}


def test_a_power_cut_while_it_comes_back_leaves_it_to_the_next_boot(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    issued = machine.issue()
    machine.run()
    for moves in range(3):
        machine.replaced()
        left, real = [moves], Path.rename

        def rename(self: Path, target: Path, left: list[int] = left, real: Callable[[Path, Path], Path] = real) -> Path:
            if ".kept" in self.parts:
                left[0] -= 1
                if left[0] < 0:
                    raise KeyboardInterrupt
            return real(self, target)

        with monkeypatch.context() as patch:
            patch.setattr(Path, "rename", rename)
            with pytest.raises(KeyboardInterrupt):
                machine.run("restore")
        assert not machine.program.has()
        machine.run("restore")
        assert machine.served == issued and machine.program.has()
        assert not (machine.certbot / ".kept").exists()


def test_an_account_that_came_meanwhile_stays_and_nothing_is_put_back_for_nothing(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def register(name: str) -> None:
        place = machine.certbot / "accounts" / name
        place.mkdir(parents=True)
        (place / "regr.json").write_text("{}")

    # Orders that fail leave accounts alone.
    register("one")
    machine.run()
    register("two")
    put_back: list[str] = []
    with monkeypatch.context() as patch:
        patch.setattr(machine.program, "put_back", put_back.append)
        machine.run()
    assert put_back == []
    assert {path.name for path in (machine.certbot / "accounts").iterdir()} == {"one", "two"}
    machine.replaced()
    register("three")
    machine.issue()
    machine.run()
    machine.replaced()
    register("four")
    machine.run()
    found = {path.name for path in (machine.certbot / "accounts").iterdir()}
    assert machine.program.has() and {"three", "four"} <= found


def test_a_full_disk_leaves_what_is_kept(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.issue()
    machine.run()
    before = machine.kept["certificate.age"]
    machine.issue(number=2)

    def full(self: Path, content: bytes) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(OSError, match="No space"):
            machine.run()
    assert machine.kept["certificate.age"] == before
    machine.run()
    assert machine.kept["certificate.age.before"] == before


def test_a_machine_that_is_only_checked_does_neither(machine: Machine) -> None:
    machine.issue()
    machine.run()
    before = machine.kept
    machine.program.CHECKED.mkdir()
    machine.issue(number=2)
    assert machine.run() == "" and machine.kept == before
    machine.replaced()
    assert machine.run("restore") == "" and not machine.served


def test_while_somebody_orders_nothing_is_touched(machine: Machine) -> None:
    machine.issue()
    with sys.modules["certificate"].LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert machine.run() == "an order is running; this runs again after it\n"
    assert machine.kept == {}
    assert "kept in" in machine.run()


def test_a_folder_that_is_not_there_is_said_so(machine: Machine) -> None:
    machine.issue()
    (machine.root / "keep").rmdir()
    fails(machine, "keep is missing")


@pytest.fixture
def volume(machine: Machine, fake: Fake) -> Path:
    """A volume's label, whose volume is not attached; mount and umount stand in for theirs by a link."""
    mounted, there = machine.program.MOUNTED, machine.root / "keep"
    sys.modules["certificate"].RECIPE.write_text('{"keep": "LABEL=vault"}')
    fake("mount", f'echo "$@" >> {machine.root}/mounts; rmdir {mounted}; ln -s {there} {mounted}')
    fake("umount", f'echo umount "$@" >> {machine.root}/mounts; rm {mounted}')
    machine.program.LABELS.mkdir(parents=True)
    return Path(machine.program.LABELS, "vault")


def test_a_volume_is_mounted_for_as_long_as_it_takes(machine: Machine, volume: Path) -> None:
    issued = machine.issue()
    volume.touch()
    machine.run()
    machine.replaced()
    machine.run("restore")
    assert machine.served == issued
    there = f"-o nosuid,nodev,noexec {volume} {machine.program.MOUNTED}\numount {machine.program.MOUNTED}\n"
    assert (machine.root / "mounts").read_text() == 2 * there


def test_a_volume_is_unmounted_after_a_problem(machine: Machine, volume: Path) -> None:
    machine.issue()
    volume.touch()
    (machine.root / "keep/certificate.age").write_text("nothing of ours")
    fails(machine, "so none is changed or kept")
    assert "umount" in (machine.root / "mounts").read_text()


def test_a_volume_that_is_not_attached_is_said_so(
    machine: Machine, volume: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # nginx does not wait for it.
    monkeypatch.setattr(machine.program, "PATIENCE", time.monotonic() + 1000)
    fails(machine, "no volume with the label vault is attached", "restore")
    machine.issue()
    # There is nothing to wait for.
    fails(machine, "no volume with the label vault")


def test_orders_wait_a_little_for_a_volume(machine: Machine, volume: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    issued = machine.issue()
    volume.touch()
    machine.run()
    machine.replaced()
    volume.unlink()
    monkeypatch.setattr(machine.program, "PATIENCE", time.monotonic() + 1000)
    monkeypatch.setattr(machine.program.time, "sleep", lambda seconds: volume.touch())
    machine.run()
    assert machine.served == issued
    monkeypatch.setattr(machine.program, "PATIENCE", time.monotonic() - 1)
    machine.replaced()
    volume.unlink()
    fails(machine, "no volume with the label vault")
