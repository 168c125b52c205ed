"""Log in to a machine by ssh and run commands on it as root.

ssh uses the user's own configuration, agent and known hosts.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import SplitResult, quote, urlsplit

from bake.errors import BootError, SetupError, SpaceError
from bake.host import programs, remote_scripts

#: Seconds after which a shared connection ends by itself, if bake could not end it.
PERSISTENCE = 60
#: The longest path for the socket of a shared connection, in bytes. A socket's path has at most 107, and ssh adds 17.
LONGEST_SOCKET = 90
#: The status of ssh itself if it fails. Any other is the status of the command.
SSH_FAILED = 255
#: The status of upload.sh if the disk has no room: ENOSPC.
NO_SPACE = 28
#: OpenSSH's messages about a connection that it cannot make.
UNREACHABLE = re.compile(
    "Could not resolve hostname|Connection refused|timed out|No route to host|Network is unreachable", re.IGNORECASE
)
#: Characters that a user or a host must not have, because a command in ssh_config may pass both to a shell.
UNSAFE = re.compile(r"[\s\x00-\x1f\x7f'\"`$;&<>|(){}]")


def path_value(path: str | Path) -> str:
    """Return a path as a value in ssh's configuration: in quotes where it has a space, as folders of users may have."""
    text = str(path).replace("%", "%%")
    if not re.search(r"[\s\"'\\#]", text):
        return text
    return '"' + re.sub(r'(["\\])', r"\\\1", text) + '"'


def share_options(socket: str) -> list[str]:
    """Return the options of ssh by which commands share a connection, through a socket at this path."""
    settings = ("ControlMaster=auto", f"ControlPersist={PERSISTENCE}", f"ControlPath={path_value(socket)}")
    return [word for setting in settings for word in ("-o", setting)]


def close_shared(socket: str, host: str, cwd: Path | None = None) -> None:
    """Close the connection that commands share through a socket; `cwd` is the folder of a relative path."""
    programs.run(["ssh", *share_options(socket), "-O", "exit", "--", host], cwd=cwd, check=False)


@dataclass(frozen=True)
class Login:
    """The address ssh://user@host:port, and the file of a private key.

    Raises ValueError with the reason for an address that is invalid or that ssh could take for an option.
    """

    address: SplitResult
    identity: Path | None = None
    #: The socket of the connection that all commands share; None: each command logs in.
    socket: Path | None = None

    @classmethod
    def at(cls, text: str, identity: Path | None = None) -> Login:
        """Return the login for ssh://user@host:port, user@host or host. Raises ValueError, also for a path or a URL."""
        if "://" not in text and re.fullmatch(r"([^@/:]+@)?[^@/:]+", text) and not Path(text).exists():
            text = f"ssh://{text}"
        return cls(urlsplit(text), identity)

    def __post_init__(self) -> None:
        address = self.address
        parts = [part for part in (address.username, address.hostname) if part]
        if any(part.startswith("-") for part in parts):
            raise ValueError("the user or the host begins with a dash, so ssh would take it for an option")
        if address.scheme != "ssh" or not address.hostname or address.port == 0:
            raise ValueError("the form is ssh://user@host or ssh://user@host:port")
        if address.password is not None:
            raise ValueError("it contains a password; use a key file or an ssh agent instead")
        if address.path not in ("", "/") or address.query or address.fragment:
            raise ValueError("nothing may follow the host and the port: ssh://user@host:port")
        if any(UNSAFE.search(part) for part in parts):
            raise ValueError("the user or the host contains a space or a character that is special to shells")

    @property
    def is_root(self) -> bool:
        """Return whether the user is root, who needs no sudo."""
        return self.address.username == "root"

    def argv(self, *command: str, by_hand: bool = False) -> list[str]:
        """Return the ssh command that runs a command as root; with `by_hand`, the form to type in a terminal."""
        patience = ["-o", "ConnectTimeout=10", "-o", "ServerAliveInterval=15"]
        options = [] if by_hand else ["-o", "BatchMode=yes", *patience, "--"]
        if self.socket and not by_hand:
            options = [*share_options(str(self.socket)), *options]
        key = ["-i", str(self.identity if by_hand else self.identity.absolute())] if self.identity else []
        port = ["-p", str(self.address.port)] if self.address.port else []
        destination = f"{self.address.username}@{self.address.hostname}" if self.address.username else self.host
        return ["ssh", *key, *port, *options, destination, *([] if self.is_root else ["sudo", "-n"]), *command]

    @contextlib.contextmanager
    def connected(self) -> Iterator[Login]:
        """Yield this login with a connection that all commands share: the user confirms, or touches a key, only once.

        The connection ends with the block.
        """
        with tempfile.TemporaryDirectory(prefix="bake-") as folder:
            path = Path(folder) / "ssh"
            login = replace(self, socket=path if len(os.fsencode(path)) <= LONGEST_SOCKET else None)
            try:
                yield login
            finally:
                if path.exists():
                    close_shared(str(path), self.host)

    @property
    def host(self) -> str:
        """Return the machine's name or address."""
        return str(self.address.hostname)

    def spec(self) -> str:
        """Return the login as testinfra names it, for its option --hosts."""
        user = f"{quote(self.address.username, safe='')}@" if self.address.username else ""
        host = f"[{quote(self.host, safe=':')}]" if ":" in self.host else quote(self.host, safe="")
        port = f":{self.address.port}" if self.address.port else ""
        options = [] if self.is_root else ["sudo=true"]
        if self.identity:
            options.append(f"ssh_identity_file={quote(str(self.identity.absolute()), safe='/')}")
        return f"ssh://{user}{host}{port}" + (f"?{'&'.join(options)}" if options else "")

    def require(self) -> None:
        """Log in and use sudo. Raises BootError with ssh's output and a command to try."""
        result = programs.run(self.argv("true"), check=False)
        if not result.status:
            return
        hint = f"This command must succeed without a prompt: {shlex.join(self.argv('true', by_hand=True))}"
        if result.status != SSH_FAILED:
            problem = f"Cannot use sudo without a password on {self.host}"
        elif UNREACHABLE.search(result.stderr):
            problem = f"Cannot reach {self.host}"
            hint = f"Check the name, the port, and the machine's firewall. {hint}"
        else:
            problem = f"Cannot log in to {self.host}"
        raise BootError(problem, hint, result.stderr)

    def script(self, text: str) -> programs.Result:
        """Run a shell script as root on the machine and return its result, also for a status other than 0."""
        return programs.run(self.argv("sh", "-s"), stdin=text, check=False)

    def upload(self, path: Path, remote_path: str, progress: Callable[[float], None]) -> None:
        """Upload a file to `remote_path`, atomically and readable only by root. `progress` gets the uploaded share.

        Raises BootError if the connection is lost, SpaceError if the machine has no room for a release of this size,
        and SetupError if it cannot store the file.
        """
        size = path.stat().st_size
        script = remote_scripts.text("upload.sh", remote_path, str(size))
        with path.open("rb") as stream:
            # ssh reads the file itself, and moves the position that both have in it.
            result = programs.run(
                self.argv("sh", "-c", shlex.quote(script)), stdin=stream, check=False,
                on_wait=lambda: progress(os.lseek(stream.fileno(), 0, os.SEEK_CUR) / size),
            )  # fmt: skip
        details = result.stderr.strip()
        if result.status == SSH_FAILED:
            raise BootError(
                f"The connection to {self.host} was lost during the upload", "Run the same command again.", details
            )
        if result.status == NO_SPACE:
            raise SpaceError(
                f"{self.host} has too little free space for the release",
                "Free some there: `sudo du -xh / | sort -h | tail` lists the largest folders. Or make a machine with a "
                "larger disk.",
                details,
            )
        if result.status:
            raise SetupError(
                f"{self.host} could not store the upload in {Path(remote_path).parent}",
                "Its output is above. Check the free space there: `df -h`.",
                details,
            )
