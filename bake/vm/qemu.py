"""Boot an image on this computer with QEMU.

A machine runs on an overlay of its image, so the image does not change. Its only
network is QEMU's user network, which forwards a port of the loopback address to SSH.
"""

from __future__ import annotations

import errno
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from bake.errors import BootError, PortError
from bake.host import cache, files, paths, programs
from bake.host.terminal import printable
from bake.vm.ssh import close_shared, path_value, share_options

#: Seconds to wait for the first lines of a kernel, which takes well under a second under KVM.
PROBE_PATIENCE = 8.0
#: Seconds to wait for a boot. An emulated first boot takes 40 to 90 s on two idle cores, and over 280 s on busy ones.
BOOT_PATIENCE = 600.0
#: Seconds to wait for an SSH server's banner. An emulated server sends it within one second.
GREETING_PATIENCE = 2.0
#: The user that cloud-init creates for the SSH login.
USER = "debian"
MEMORY_MIB = 1024
#: System calls that QEMU does not need, as libvirt denies them. packer/qemu.pkr.hcl has the same.
SANDBOX = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"


def ssh_argv(port: int, private_key: Path, known_hosts: Path, *command: str) -> list[str]:
    """Return the ssh command for a machine that bake booted."""
    return [
        "ssh", "-q", "-i", str(private_key), "-p", str(port), "-o", "BatchMode=yes", "-o",
        "StrictHostKeyChecking=accept-new",
        "-o", f"UserKnownHostsFile={path_value(known_hosts)}", "-o", "ConnectTimeout=10", "-o", "IdentitiesOnly=yes",
        # A machine that stops does not close its connections. An emulated one on a busy computer may not answer for
        # half a minute.
        "-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=4",
        "--", f"{USER}@127.0.0.1", *command,
    ]  # fmt: skip


def accelerator(kernel: Path | None = None) -> str:
    """Return `kvm` if a kernel boots under KVM, else `tcg`.

    On nested clouds and CI runners, /dev/kvm may exist and answer without being able to run
    a guest. So bake boots a kernel and waits for its first lines. The result is cached until
    this host reboots.
    """
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "tcg"
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    cache_file = paths.cache() / "accelerator"
    kept_boot, _, kept_result = (cache.kept(cache_file) or "").partition(" ")
    if kept_boot == boot_id:
        return kept_result
    if kernel is None:
        return "tcg"
    result = "kvm" if _runs_under_kvm(kernel) else "tcg"
    cache.keep(cache_file, f"{boot_id} {result}")
    return result


def _runs_under_kvm(kernel: Path) -> bool:
    process = programs.start(
        [
            "qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", "-accel", "kvm", "-cpu", "max",
            "-m", "256", "-serial", "stdio", "-kernel", kernel, "-append", "console=ttyS0 panic=-1", "-no-reboot",
        ],
        stdout=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    os.set_blocking(process.stdout.fileno(), False)
    deadline, output = time.monotonic() + PROBE_PATIENCE, b""
    try:
        while time.monotonic() < deadline and process.poll() is None:
            output += process.stdout.read() or b""
            # Wait for a line that follows the start of the CPUs. A guest that hardly runs may also print earlier lines.
            if b"Freeing SMP alternatives" in output or b"smpboot: Total" in output or b"Kernel panic" in output:
                return True
            time.sleep(0.1)
        output += process.stdout.read() or b""
        return b"Kernel panic" in output
    finally:
        programs.stop(process, grace=2)


@dataclass(frozen=True)
class VmOptions:
    """How QEMU runs a machine.

    `accelerator` is `kvm` or `tcg`. `memory` is in MiB. `port` is the local port for SSH (default: a free one); `web`
    maps further ports, {80: 8080}. `firmware` is UEFI's (default: the machine boots by BIOS). `network` has further
    options of QEMU's user network, `arguments` further arguments of QEMU.
    """

    accelerator: str = field(default_factory=accelerator)
    cpus: int = 2
    memory: int = MEMORY_MIB
    port: int | None = None
    web: Mapping[int, int] = field(default_factory=dict)
    firmware: Path | None = None
    network: str = ""
    arguments: tuple[str, ...] = ()


def qemu_argv(disk: Path, seed: Path | None, console: Path, options: VmOptions) -> list[str]:
    """Return the QEMU command for a machine. `options.port` must be set.

    `-nodefaults` excludes every device that is not listed here.
    """
    ports = {22: options.port, **options.web}
    forwards = "".join(f",hostfwd=tcp:127.0.0.1:{local}-:{remote}" for remote, local in ports.items())
    network = f",{options.network}" if options.network else ""
    thread = ",thread=multi" if options.accelerator == "tcg" else ""
    argv = [
        "qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", "-sandbox", SANDBOX,
        "-accel", f"{options.accelerator}{thread}", "-cpu", "max", "-smp", str(options.cpus), "-m", str(options.memory),
        "-serial", f"file:{console}", "-device", "virtio-rng-pci",
        "-drive", f"file={disk},if=virtio,format=qcow2,discard=unmap,cache=unsafe",
        "-nic", f"user,model=virtio-net-pci{forwards}{network}",
    ]  # fmt: skip
    if options.firmware:
        # Without storage for its variables, UEFI finds the disk's boot loader on each boot.
        argv += ["-drive", f"if=pflash,unit=0,format=raw,readonly=on,file={options.firmware}"]
    if seed:
        argv += ["-drive", f"file={seed},if=virtio,format=raw,readonly=on"]
    return [*argv, *options.arguments]


def free_port(port: int | None = None) -> int:
    """Return the TCP `port` of the loopback address, or any free one. Raises PortError if `port` is in use."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port or 0))
        except OSError as error:
            reason = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be opened: {error.strerror}"
            raise PortError(
                f"Port {port} on 127.0.0.1 {reason}",
                "Choose another port, or omit the option: bake then finds a free one.",
            ) from error
        return int(probe.getsockname()[1])


def _is_own_listener(port: int) -> bool:
    """Return whether a process of this user listens on a TCP port of the loopback address."""
    address = f"0100007F:{port:04X}"
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()]
    # The columns are local_address, state (0A: it listens) and uid (the kernel's proc_net_tcp.rst).
    return any(row[1] == address and row[3] == "0A" and row[7] == str(os.geteuid()) for row in rows)


def make_key(path: Path, comment: str) -> str:
    """Create an ed25519 key pair without a passphrase at `path` and `path`.pub, and return the public key's line."""
    programs.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", path])
    return public_key(path)


def public_key(private: Path) -> str:
    """Return the public key of a key pair as one line."""
    return private.with_suffix(".pub").read_text().strip()


def make_seed(path: Path, files: dict[str, str]) -> Path:
    """Create a NoCloud seed disk, an ISO 9660 image with the label `cidata`, and return its path."""
    folder = path.with_suffix(".files")
    folder.mkdir()
    for name, text in files.items():
        (folder / name).write_text(text)
    programs.run(["xorriso", "-as", "mkisofs", "-quiet", "-V", "cidata", "-J", "-r", "-o", path, folder])
    shutil.rmtree(folder)
    return path


@dataclass(frozen=True)
class Access:
    """The way to log in to a machine that bake created. `known_hosts` gets its host key at the first login."""

    port: int
    private_key: Path
    known_hosts: Path
    address: str = "127.0.0.1"
    user: str = USER


#: The socket of the connection that commands share, relative to the folder in which ssh runs. A full path may be longer
#: than the 107 bytes that a socket's path can have. A login takes an emulated machine 3 s, another command 1 s.
CONTROL = "ssh.control"


@dataclass
class Machine:
    """A running machine. `stop` ends it; it also dies with this process.

    After `await_ssh`, its commands share one connection.
    """

    process: subprocess.Popen[bytes]
    port: int
    console: Path
    private_key: Path
    known_hosts: Path
    shares_connection: bool = False

    @property
    def access(self) -> Access:
        """Return the way to log in."""
        return Access(self.port, self.private_key, self.known_hosts)

    def ssh(self, *command: str, stdin: str = "", check: bool = True, timeout: float = 120) -> programs.Result:
        """Run a command in a shell on the machine. `timeout` is in seconds."""
        argv = ssh_argv(self.port, self.private_key, self.known_hosts, *command)
        if self.shares_connection:
            argv[1:1] = share_options(CONTROL)
        return programs.run(argv, cwd=self.console.parent, stdin=stdin, check=check, timeout=timeout)

    def disconnect(self) -> None:
        """Close the connection that commands share, so that the next one logs in again."""
        if self.shares_connection:
            close_shared(CONTROL, "127.0.0.1", self.console.parent)
        self.shares_connection = False

    def await_ssh(self, patience: float = BOOT_PATIENCE, *, rebooted_since: str = "") -> str:
        """Wait until an SSH login succeeds, and return the boot's id. A boot with the id `rebooted_since` is skipped.

        Raises BootError with the console's last lines after `patience` seconds.
        """
        deadline = time.monotonic() + patience
        # The connection to an earlier boot does not end with that boot.
        self.disconnect()
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise BootError(
                    "QEMU ended while the machine was booting", "The console's last lines are above.", self.tail()
                )
            if self._greets():
                result = self.ssh("cat /proc/sys/kernel/random/boot_id", check=False)
                if result.status == 0 and result.stdout.strip() != rebooted_since:
                    self.shares_connection = True
                    return result.stdout.strip()
            time.sleep(0.5)
        raise BootError(
            f"The machine did not accept an SSH login within {patience:.0f} s",
            "The console's last lines are above.",
            self.tail(),
        )

    def _greets(self) -> bool:
        """Return whether an SSH server sends its banner.

        QEMU accepts a connection before the machine does, and then tries to reach the machine only
        after 6, 12 and 24 s. A new connection every half second finds the server sooner.
        Another user, who can read the port in QEMU's arguments, may listen there first. QEMU then ends.
        """
        if not _is_own_listener(self.port):
            return False
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=GREETING_PATIENCE) as client:
                return client.recv(4) == b"SSH-"
        except OSError:
            return False

    def reboot(self) -> None:
        """Reboot the machine from within and wait until a login succeeds again."""
        boot_id = self.await_ssh()
        # Without waiting, because the machine may not close the connection.
        self.ssh("sudo systemd-run --quiet --on-active=1 systemctl reboot")
        self.await_ssh(rebooted_since=boot_id)

    def tail(self, lines: int = 30) -> str:
        """Return the console's last printable lines, without blank ones."""
        text = files.end(self.console) if self.console.exists() else ""
        return "\n".join([line for line in printable(text).splitlines() if line.strip()][-lines:])

    def stop(self) -> None:
        """End QEMU without a shutdown of the machine, because nothing uses its overlay afterwards."""
        self.disconnect()
        programs.stop(self.process, grace=5)


def boot(image: Path, seed: Path | None, work: Path, private_key: Path, options: VmOptions | None = None) -> Machine:
    """Start a machine from an image and return without waiting. `work` gets its overlay and its console's output.

    Raises PortError if the port of the options is in use.
    """
    work.mkdir(parents=True, exist_ok=True)
    overlay = work / "overlay.qcow2"
    programs.run(
        ["qemu-img", "create", "-q", "-f", "qcow2", "-b", image.absolute(), "-F", _image_format(image), overlay]
    )
    options = options or VmOptions()
    port, console = free_port(options.port), work / "console"
    with (work / "qemu.log").open("wb") as log:
        argv = qemu_argv(overlay, seed, console, replace(options, port=port))
        process = programs.start(argv, stderr=log)
    programs.bound_file(process, console)
    return Machine(process, port, console, private_key, work / "known_hosts")


def _image_format(image: Path) -> str:
    """Return the format of an image by its first bytes.

    QEMU must not guess it: a guest could write another format's header to its raw disk.
    """
    with image.open("rb") as stream:
        return "qcow2" if stream.read(4) == b"QFI\xfb" else "raw"
