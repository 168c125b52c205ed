"""Build a front end in a builder root, as a user without privileges and environment, and take its folders.

`cloud-init/builder/assets.sh` has the steps. Only the installation of packages has a network: a proxy to the registry.
"""

from __future__ import annotations

import shutil
import socket
import ssl
import tarfile
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from bake.bundle import isolated_build
from bake.bundle.builder_root import BuilderRoot
from bake.bundle.registry_proxy import RegistryProxy
from bake.config.assets import Assets
from bake.errors import AssetsError
from bake.host import paths, programs

#: The maximum size of the result in bytes, and the maximum number of its files. The largest public front end that was
#: tried has 40 MB.
MAXIMUM, MAXIMUM_FILES = 512 * 1024**2, 50_000
#: The maximum size in bytes of the message with a step's name and a URL.
MESSAGE = 4096


@dataclass
class Outcome:
    """The outcome of a build: its last step, its exit status, and the registry's URL.

    `refused` and `unreachable` are the hosts of `RegistryProxy`. The steps are install, rebuild, run and pack; a build
    without an installation begins with run.
    """

    step: str = ""
    status: int = 0
    registry: str = ""
    refused: set[str] = field(default_factory=set)
    unreachable: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class BuildCommands:
    """The commands of a build: those of `assets`, the command of the installation, and the package of pnpm or yarn."""

    assets: Assets
    install: str
    tool: str

    def write(self, folder: Path) -> None:
        """Write the files that assets.sh reads."""
        texts = {
            "install": self.install, "run": self.assets.run, "tool": self.tool, "source": self.assets.source or ".",
            "registry": self.assets.registry or "", "folders": "".join(f"{name}\0" for name in self.assets.folder),
        }  # fmt: skip
        for name, text in texts.items():
            (folder / name).write_text(text)
        shutil.copyfile(paths.builder() / "assets.sh", folder / "build.sh")
        shutil.copyfile(paths.builder() / "announce.py", folder / "announce.py")
        # The authorities that this computer trusts, which a company may have added to.
        trusted = ssl.get_default_verify_paths().cafile
        shutil.copyfile(trusted, folder / "ca.pem") if trusted else (folder / "ca.pem").touch()


def build(root: BuilderRoot, commands: BuildCommands, folder: Path, log: Path, output: Path) -> Outcome:
    """Run a build of the source in `folder / "app"`, and write its folders to the archive `output`.

    `log` gets the output of the commands.
    """
    commands.write(folder)
    outcome = Outcome()
    log.write_bytes(b"")
    ours, theirs = socket.socketpair()
    with ours, output.open("wb") as stdout, log.open("ab") as stderr:
        with theirs:
            process = programs.start(
                isolated_build.argv(root, folder), stdin=theirs.fileno(), stdout=stdout, stderr=stderr
            )
        try:
            _attend(ours, outcome, log)
            outcome.status = process.wait()
        finally:
            programs.stop(process)
    return outcome


def _attend(connection: socket.socket, outcome: Outcome, log: Path) -> None:
    """Reply to the steps of a build until it ends. Connect its installation to the registry."""
    proxy = None
    try:
        while True:
            message, descriptors, _, _ = socket.recv_fds(connection, MESSAGE, 1)
            if proxy:
                proxy.close()
            if not message:
                return
            outcome.step, _, registry = message.decode().partition(" ")
            if descriptors:
                outcome.registry = registry
                proxy = RegistryProxy(socket.socket(fileno=descriptors[0]), [registry])
                outcome.refused, outcome.unreachable = proxy.refused, proxy.unreachable
            with log.open("ab") as stream:
                stream.write(f"bake: {outcome.step}\n".encode())
            connection.send(b"\n")
    finally:
        if proxy:
            proxy.close()


#: The next steps after a result that bake refuses.
RENAME = "Let the build write other names, or set `folder` to a folder without that file."
COPY = "Let the build copy the file instead, or set `folder` to a folder without it."


def unpack(archive: Path, assets: Assets, folder: Path) -> list[str]:
    """Unpack the result of a build to `folder`, and return the paths of its files. Its content is not to be trusted.

    Raises AssetsError for anything but files and folders in the folders of `assets`, and for too many bytes.
    """
    try:
        with tarfile.open(archive) as tar:
            return _unpack(tar, assets, folder)
    except (tarfile.TarError, FileExistsError, IsADirectoryError, NotADirectoryError) as error:
        raise AssetsError(
            f"assets: the result of the build cannot be read: {error}", "Run the command again."
        ) from None


def _unpack(tar: tarfile.TarFile, assets: Assets, folder: Path) -> list[str]:
    names, size = [], 0
    for member in tar:
        path = PurePosixPath(member.name)
        if not member.name.isprintable() or ".." in path.parts or not assets.contains(member.name):
            raise AssetsError(f"assets: the build wrote {member.name!r}, a name that bake refuses", RENAME)
        if member.isdir():
            (folder / path).mkdir(parents=True, exist_ok=True)
            continue
        if not member.isfile():
            raise AssetsError(f"assets: the build wrote {member.name}, which is a link, a device or a pipe", COPY)
        size += member.size
        names.append(member.name)
        if size > MAXIMUM or len(names) > MAXIMUM_FILES:
            raise AssetsError(
                f"assets: the build wrote more than {MAXIMUM_FILES:,} files or {MAXIMUM >> 20} MB to "
                f"{', '.join(assets.folder)}",
                "Set `folder` to the folder that browsers need, without sources and caches.",
            )
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        stream = tar.extractfile(member)
        assert stream is not None
        with (folder / path).open("xb") as copy:
            shutil.copyfileobj(stream, copy)
    return names
