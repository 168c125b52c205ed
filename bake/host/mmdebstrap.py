"""Run mmdebstrap, which makes a Debian tree from the archive, and explain its failures."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bake.errors import BaseError, NetworkError, ProgramError, RequirementError
from bake.host import files, paths, programs
from bake.host.programs import Argv, stream

#: The keys of the archive. Ubuntu's apt does not trust Debian's, and without gpg, mmdebstrap does not look for them.
KEYRINGS = ("/etc/apt/trusted.gpg.d", "/usr/share/keyrings/debian-archive-keyring.gpg")
#: Lines in mmdebstrap's log that mark its progress, in order.
_STEPS = (
    "I: running apt-get update",
    "I: downloading packages",
    "I: extracting",
    "I: installing",
    "I: cleaning",
    "I: creating tarball",
)
#: Texts of apt if it cannot reach the archive.
_UNREACHABLE = (
    "Could not resolve",
    "Could not connect",
    "Connection failed",
    "Temporary failure",
    "Unable to connect",
    "Network is unreachable",
)


@dataclass(frozen=True)
class Tree:
    """A Debian tree to make: its name in errors, the key of bake.yaml with its packages, and the archive's mirror.

    `scratch` is the beginning of the name of mmdebstrap's own folder, for users other than root.
    """

    name: str
    key: str
    mirror: str | None
    scratch: str

    @property
    def _link(self) -> Path:
        return paths.cache() / f"{self.scratch}.scratch"

    def make_scratch(self) -> Path:
        """Make mmdebstrap's folder for users other than root: its ids from /etc/subuid cannot enter a home.

        Its name is random, because other users could make one that they know. A link in the cache leads to it.
        """
        folder = Path(tempfile.mkdtemp(prefix=f"{self.scratch}-"))
        folder.chmod(0o711)
        self._link.symlink_to(folder)
        return folder

    def reap(self) -> None:
        """Remove the files of a run that was killed. The caller must hold the lock of the tree's cache."""
        if self._link.is_symlink():
            files.remove(self._link.readlink())
            self._link.unlink()


def options(arch: str, packages: tuple[str, ...]) -> list[str]:
    """Return mmdebstrap's options for a small tree with these packages, without manuals and translations."""
    return [
        "--variant=apt", f"--architectures={arch}", "--format=tar",
        "--include=" + ",".join(packages),
        "--aptopt=Apt::Install-Recommends false",
        "--dpkgopt=path-exclude=/usr/share/man/*",
        "--dpkgopt=path-exclude=/usr/share/info/*",
        "--dpkgopt=path-exclude=/usr/share/locale/*",
        "--dpkgopt=path-exclude=/usr/share/doc/*",
        "--dpkgopt=path-include=/usr/share/doc/*/copyright",
    ]  # fmt: skip


def default_mirror(release: str) -> str:
    """Return the mirror that mmdebstrap uses for a release, without a request to it. Raises ProgramError."""
    # The tree stays empty. mmdebstrap sends what a hook prints to its standard error: `deb MIRROR RELEASE main`.
    hook = 'cat "$1/etc/apt/sources.list"'
    words = ["--quiet", "--variant=custom", "--skip=update,cleanup/apt", f"--setup-hook={hook}", release, os.devnull]
    return programs.run(["mmdebstrap", *words]).stderr.partition("deb ")[2].split()[0]


def run(argv: Argv, tree: Tree, work: Path, on_step: Callable[[float, str], None]) -> None:
    """Run an mmdebstrap command. `on_step` gets the completed share, from 0 to 1, and the current step.

    Raises RequirementError for packages that do not exist, NetworkError or BaseError.
    """
    tree.reap()
    scratch = work
    if os.geteuid() != 0:
        scratch = tree.make_scratch()
    log: list[str] = []

    def on_line(text: str) -> None:
        log.append(text)
        step = next((step for step in _STEPS if text.startswith(step)), None)
        if step:
            on_step((_STEPS.index(step) + 1) / (len(_STEPS) + 1), text.removeprefix("I: "))

    try:
        # For users other than root, mmdebstrap creates its own namespaces, which is impossible inside another one.
        stream(
            [argv[0], *(f"--keyring={path}" for path in KEYRINGS), *argv[1:]],
            on_line,
            env={"TMPDIR": str(scratch)},
            namespaces=os.geteuid() == 0,
        )
    except ProgramError as error:
        raise _fault(log, tree) from error
    finally:
        tree.reap()


def _fault(log: list[str], tree: Tree) -> Exception:
    """Return the error that explains mmdebstrap's log."""
    text = "\n".join(log)
    details = "\n".join(log[-25:])
    missing_packages = [line.rsplit(" ", 1)[-1] for line in log if "Unable to locate package" in line]
    if missing_packages:
        return RequirementError(
            f"Debian has no package {', '.join(missing_packages)}", f"Correct `{tree.key}` in bake.yaml."
        )
    if any(word in text for word in _UNREACHABLE):
        return NetworkError(
            f"The Debian archive{f' at {tree.mirror}' if tree.mirror else ''} cannot be reached",
            "Check the network, or set a mirror that you can reach in bake.yaml: `mirror: http://…`.",
            details,
        )
    if "NO_PUBKEY" in text:
        return BaseError(
            "The Debian archive has a signature of a key that this computer does not know",
            f"Update the package debian-archive-keyring ({KEYRINGS[-1]}): it may be older than the Debian version.",
            details,
        )
    return BaseError(
        f"mmdebstrap could not build the {tree.name}",
        "Its last lines are above; `bake doctor` checks this machine.",
        details,
    )
