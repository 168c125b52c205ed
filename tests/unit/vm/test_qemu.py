"""Machines, without booting one: words, ports, seeds, and QEMUs that fail in chosen ways."""

from __future__ import annotations

import itertools
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from conftest import Fake, Helper, line, running, soon

from bake.errors import BootError, PortError
from bake.host import paths, programs
from bake.verify import proof
from bake.vm import qemu
from bake.vm.qemu import VmOptions

BOOTED = "[    0.000000] Linux version 6.12\n[    0.350000] Freeing SMP alternatives memory: 36K\n"


def test_the_words_for_qemu() -> None:
    argv = qemu.qemu_argv(
        Path("/d.qcow2"), Path("/seed.iso"), Path("/console"), VmOptions("kvm", cpus=3, port=2222, web={80: 8080})
    )
    assert argv[0] == "qemu-system-x86_64"
    assert "-nodefaults" in argv
    pairs = list(itertools.pairwise(argv))
    for pair in (
        ("-accel", "kvm"), ("-smp", "3"), ("-serial", "file:/console"), ("-display", "none"),
        ("-sandbox", qemu.SANDBOX),
        ("-drive", "file=/seed.iso,if=virtio,format=raw,readonly=on"),
        ("-nic", "user,model=virtio-net-pci,hostfwd=tcp:127.0.0.1:2222-:22,hostfwd=tcp:127.0.0.1:8080-:80"),
    ):  # fmt: skip
        assert pair in pairs
    assert sum(word == "-drive" for word in argv) == 2


def test_packers_qemu_has_the_same_sandbox_and_this_qemu_accepts_it() -> None:
    assert f'["-sandbox", "{qemu.SANDBOX}"]' in (paths.tree() / "packer/qemu.pkr.hcl").read_text()
    programs.run(["qemu-system-x86_64", "-sandbox", qemu.SANDBOX, "-version"])


def test_a_machine_without_an_outside_has_its_ports_all_the_same() -> None:
    argv = qemu.qemu_argv(Path("/d"), None, Path("/c"), VmOptions("tcg", port=2222, network=proof.ISOLATED_NETWORK))
    assert argv[argv.index("-nic") + 1] == "user,model=virtio-net-pci,hostfwd=tcp:127.0.0.1:2222-:22,restrict=on"


def test_emulation_uses_every_cpu_and_no_seed_is_no_disk() -> None:
    argv = qemu.qemu_argv(Path("/d.qcow2"), None, Path("/console"), VmOptions("tcg", port=2222))
    assert "tcg,thread=multi" in argv
    assert sum(word == "-drive" for word in argv) == 1


def test_uefi_is_a_flash_chip_that_stays_as_it_is() -> None:
    argv = qemu.qemu_argv(Path("/d"), None, Path("/console"), VmOptions("tcg", port=2222, firmware=Path("/OVMF.fd")))
    assert "if=pflash,unit=0,format=raw,readonly=on,file=/OVMF.fd" in argv


def test_the_words_for_ssh() -> None:
    argv = qemu.ssh_argv(2222, Path("/key"), Path("/known"), "sudo", "true")
    assert argv[-4:] == ["--", "debian@127.0.0.1", "sudo", "true"]
    assert {"-p", "2222", "-i", "/key", "UserKnownHostsFile=/known", "BatchMode=yes"} <= set(argv)
    assert not any("StrictHostKeyChecking=no" in word for word in argv)


def test_a_free_port_can_be_listened_at() -> None:
    port = qemu.free_port()
    with socket.create_server(("127.0.0.1", port)):
        assert port > 1023
    assert qemu.free_port(port) == port


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0"])
def test_a_port_that_is_taken_is_refused(address: str) -> None:
    with socket.create_server((address, 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortError, match=f"Port {port} on 127.0.0.1 is in use"):
            qemu.free_port(port)


def test_a_seed_is_what_cloud_init_looks_for(tmp_path: Path) -> None:
    files = {"user-data": "#cloud-config\n{}\n", "meta-data": "instance-id: x\n"}
    seed = qemu.make_seed(tmp_path / "seed.iso", files)
    content = seed.read_bytes()
    # ISO 9660: the primary volume descriptor is sector 16, its volume identifier 32 bytes at 40.
    assert content[0x8001:0x8006] == b"CD001"
    assert content[0x8028:0x8048].decode().rstrip() == "cidata"
    programs.run(["xorriso", "-osirrox", "on", "-indev", seed, "-extract", "/", tmp_path / "out"])
    assert {path.name: path.read_text() for path in (tmp_path / "out").iterdir()} == files
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "seed.iso"]


@pytest.fixture
def image(tmp_path: Path) -> Path:
    programs.run(["qemu-img", "create", "-q", "-f", "qcow2", tmp_path / "image.qcow2", "1M"])
    return tmp_path / "image.qcow2"


def boot(image: Path) -> qemu.Machine:
    return qemu.boot(image, None, image.parent / "machine", image.parent / "key", VmOptions("tcg"))


def test_a_machine_writes_to_an_overlay_and_stops_when_asked(fake: Fake, image: Path, marker: str) -> None:
    fake("qemu-system-x86_64", f'echo "$*" > {image.parent}/words; exec sleep {marker}')
    before = image.read_bytes()
    machine = boot(image)
    assert soon(lambda: running(marker, "sleep"))
    said = (image.parent / "words").read_text()
    assert f"file={image.parent}/machine/overlay.qcow2" in said
    assert f"127.0.0.1:{machine.port}-:22" in said
    assert str(image) in programs.run(["qemu-img", "info", image.parent / "machine/overlay.qcow2"]).stdout
    machine.stop()
    assert not running(marker)
    assert image.read_bytes() == before


def test_a_port_that_is_taken_starts_no_machine(fake: Fake, image: Path) -> None:
    fake("qemu-system-x86_64", f"touch {image.parent}/started")
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(PortError):
        qemu.boot(image, None, image.parent / "m", image.parent / "key", VmOptions("tcg", port=taken.getsockname()[1]))
    assert not (image.parent / "started").exists()


def test_a_qemu_that_ends_is_noticed_at_once(fake: Fake, image: Path) -> None:
    console = image.parent / "machine" / "console"
    fake("qemu-system-x86_64", f"seq 50 > {console}; echo Kernel panic >> {console}")
    fake("ssh", "exit 255")
    machine = boot(image)
    started = time.monotonic()
    with pytest.raises(BootError, match="QEMU ended") as caught:
        machine.await_ssh(30)
    assert time.monotonic() - started < 5
    assert caught.value.details.splitlines() == [*map(str, range(22, 51)), "Kernel panic"]


def test_a_console_without_an_end_does_not_fill_the_disk(
    fake: Fake, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(programs, "MOST_OUTPUT", 1 << 20)
    console = image.parent / "machine" / "console"
    fake(
        "qemu-system-x86_64",
        f"(head -c 8M /dev/zero | tr '\\0' x; sleep 2; echo; echo login:) > {console}; exec sleep 60",
    )
    machine = boot(image)
    assert soon(lambda: machine.tail(1) == "login:")
    assert console.stat().st_size > 8 << 20 and console.stat().st_blocks * 512 < 1 << 20
    machine.stop()


def test_patience_with_a_machine_ends(fake: Fake, image: Path, marker: str) -> None:
    fake("qemu-system-x86_64", f"echo login: > {image.parent}/machine/console; exec sleep {marker}")
    fake("ssh", "exit 255")
    machine = boot(image)
    with pytest.raises(BootError, match="did not accept an SSH login") as caught:
        machine.await_ssh(0.3)
    assert caught.value.details == "login:"
    machine.stop()


@contextmanager
def greeting(port: int, silent: int = 0) -> Iterator[None]:
    """A server that takes connections at a machine's port: the first `silent` of them hear nothing."""
    with socket.create_server(("127.0.0.1", port)) as server, ExitStack() as taken:

        def serve() -> None:
            for number in itertools.count():
                try:
                    client = taken.enter_context(server.accept()[0])
                except OSError:
                    return
                if number >= silent:
                    client.sendall(b"SSH-2.0-OpenSSH\r\n")

        threading.Thread(target=serve, daemon=True).start()
        try:
            yield
        finally:
            server.shutdown(socket.SHUT_RDWR)


def test_a_machine_that_lets_somebody_in_is_up(fake: Fake, image: Path, marker: str) -> None:
    fake("qemu-system-x86_64", f"exec sleep {marker}")
    fake("ssh", f'if [ -e {image.parent}/tried ]; then cat; echo "$*"; else touch {image.parent}/tried; exit 255; fi')
    machine = boot(image)
    # QEMU takes the first connections before the machine listens.
    with greeting(machine.port, silent=1):
        assert f"-p {machine.port} " in machine.await_ssh(20)
    said = machine.ssh("cat", stdin="hello\n").stdout
    assert said.startswith("hello\n")
    machine.stop()


def test_a_machine_is_not_asked_to_log_in_before_it_greets(fake: Fake, image: Path, marker: str) -> None:
    fake("qemu-system-x86_64", f"exec sleep {marker}")
    fake("ssh", f"touch {image.parent}/tried")
    machine = boot(image)
    with greeting(machine.port, silent=100), pytest.raises(BootError, match="did not accept an SSH login"):
        machine.await_ssh(0.1)
    assert not (image.parent / "tried").exists()
    machine.stop()


LISTEN = """
import os, socket, sys
os.setuid(65534)
with socket.create_server(("127.0.0.1", int(sys.argv[1]))) as server:
    print("listening", flush=True)
    while True:
        server.accept()[0].sendall(b"SSH-2.0-OpenSSH\\r\\n")
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
def test_the_port_of_a_machine_is_not_one_of_another_user(fake: Fake, image: Path, marker: str, helper: Helper) -> None:
    fake("qemu-system-x86_64", f"exec sleep {marker}")
    fake("ssh", f"touch {image.parent}/tried")
    machine = boot(image)
    assert line(helper(LISTEN, machine.port)) == "listening"
    with pytest.raises(BootError, match="did not accept an SSH login"):
        machine.await_ssh(1)
    assert not (image.parent / "tried").exists()
    machine.stop()


def test_a_reboot_ends_when_another_boot_lets_somebody_in(fake: Fake, image: Path, marker: str) -> None:
    fake("qemu-system-x86_64", f"exec sleep {marker}")
    # Which boot it is; after the order to reboot it goes on for one more login.
    boots = image.parent / "boots"
    boots.write_text("one\n")
    fake(
        "ssh",
        f'case "$*" in *reboot) printf "one\\ntwo\\n" > {boots};; '
        f"*) head -n 1 {boots}; [ $(wc -l < {boots}) = 1 ] || sed -i 1d {boots};; esac",
    )
    machine = boot(image)
    with greeting(machine.port):
        machine.reboot()
        assert boots.read_text() == "two\n"
        with pytest.raises(BootError, match="did not accept an SSH login"):
            machine.await_ssh(0.3, rebooted_since="two")
    machine.stop()


@pytest.mark.parametrize(
    ("script", "runs"),
    [
        (f"printf '{BOOTED}'; exec sleep 5", True),
        # It answers, prints a line, and crawls: nested clouds do that.
        ("echo '[    0.000000] Linux version 6.12'; exec sleep 5", False),
        ("exec sleep 5", False),
        ("echo 'failed to initialize kvm' >&2; exit 1", False),
    ],
)
def test_kvm_is_believed_when_a_kernel_has_run(
    fake: Fake, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, script: str, runs: bool
) -> None:
    monkeypatch.setattr(qemu, "PROBE_PATIENCE", 0.3)
    fake("qemu-system-x86_64", script)
    assert qemu._runs_under_kvm(tmp_path / "vmlinuz") == runs


@pytest.mark.skipif(not os.access("/dev/kvm", os.R_OK | os.W_OK), reason="/dev/kvm is not here, or not ours")
def test_the_answer_about_kvm_is_kept_until_the_next_boot(
    fake: Fake, cache_folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(qemu, "PROBE_PATIENCE", 0.3)
    assert qemu.accelerator() == "tcg"
    assert not (cache_folder / "accelerator").exists()
    fake("qemu-system-x86_64", f"echo >> {tmp_path}/asked; printf '{BOOTED}'; exec sleep 5")
    assert [qemu.accelerator(tmp_path / "vmlinuz") for _ in range(2)] == ["kvm", "kvm"]
    assert qemu.accelerator() == "kvm"
    assert (tmp_path / "asked").read_text() == "\n"
    (cache_folder / "accelerator").write_text("another-boot tcg\n")
    assert qemu.accelerator(tmp_path / "vmlinuz") == "kvm"
    assert (tmp_path / "asked").read_text() == "\n\n"


@pytest.mark.skipif(os.access("/dev/kvm", os.R_OK | os.W_OK), reason="/dev/kvm is here")
def test_without_kvm_machines_are_emulated(cache_folder: Path, tmp_path: Path) -> None:
    assert qemu.accelerator(tmp_path / "vmlinuz") == "tcg"
