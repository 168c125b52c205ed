"""An ssh login on somebody's machine, and root's commands there.

ssh is the person's own: their configuration, their agent, their known hosts.
"""

from __future__ import annotations

import contextlib
import re
import shlex
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, quote

from bake import run
from bake.errors import BootError, SetupError

#: Bytes at a time of what is uploaded.
CHUNK = 256 * 1024
#: Characters that ssh refuses in a user and a host, too: a command in ssh_config may give both to a shell.
UNSAFE = re.compile(r"[\s\x00-\x1f\x7f'\"`$;&<>|(){}]")


@dataclass(frozen=True)
class Login:
    """Where and as whom: ssh://user@host:port, and a private key's file.

    Raises ValueError, with the reason, for an address that is none or that ssh could take for an option.
    """

    address: SplitResult
    identity: Path | None = None

    def __post_init__(self) -> None:
        address = self.address
        words = [word for word in (address.username, address.hostname) if word]
        if any(word.startswith("-") for word in words):
            raise ValueError("its user or host begins with a dash, which ssh would take for an option")
        if address.scheme != "ssh" or not address.hostname or address.port == 0:
            raise ValueError("it looks like ssh://user@host or ssh://user@host:port")
        if address.password is not None:
            raise ValueError("it has a password: ssh takes a key, or asks an agent for one")
        if address.path not in ("", "/") or address.query or address.fragment:
            raise ValueError("nothing follows the host and its port: ssh://user@host:port")
        if any(UNSAFE.search(word) for word in words):
            raise ValueError("the user or the host has a character that a shell could act on")

    @property
    def is_root(self) -> bool:
        """Whether no sudo is needed."""
        return self.address.username == "root"

    def argv(self, *command: str, by_hand: bool = False) -> list[str]:
        """A command as root there; `by_hand` is how a person would type it."""
        patience = ["-o", "ConnectTimeout=10", "-o", "ServerAliveInterval=15"]
        options = [] if by_hand else ["-o", "BatchMode=yes", *patience, "--"]
        key = ["-i", str(self.identity)] if self.identity else []
        port = ["-p", str(self.address.port)] if self.address.port else []
        where = f"{self.address.username}@{self.address.hostname}" if self.address.username else self.host
        return ["ssh", *key, *port, *options, where, *([] if self.is_root else ["sudo", "-n"]), *command]

    @property
    def host(self) -> str:
        """The machine's name or address."""
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
        """Log in and use sudo. Raises BootError with ssh's words and what to type."""
        done = run.run(self.argv("true"), check=False)
        if done.status:
            raise BootError(
                f"Nobody can log in to {self.host} and use sudo there",
                f"This should work without a question: {shlex.join(self.argv('true', by_hand=True))}",
                done.stderr,
            )

    def script(self, text: str) -> run.Result:
        """Run a shell script as root there, whatever its status."""
        return run.run(self.argv("sh", "-s"), stdin=text, check=False)

    def upload(self, path: Path, place: str, progress: Callable[[float], None]) -> None:
        """Put a file at a path there, whole or not at all, for root alone. `progress` gets the share that is there.

        Raises BootError for a connection that ended, SetupError for a machine that cannot take it.
        """
        sent, size = 0, path.stat().st_size
        whole = f'[ "$(stat -c %s {place}.partial)" = {size} ]'
        script = f"umask 077; mkdir -p {Path(place).parent} && cat > {place}.partial && {whole} && "
        script += f"mv {place}.partial {place}"
        with tempfile.TemporaryFile() as said:
            argv = self.argv("sh", "-c", shlex.quote(script))
            process = run.start(argv, stdin=subprocess.PIPE, stderr=said)
            try:
                assert process.stdin is not None
                with contextlib.suppress(BrokenPipeError), path.open("rb") as stream, process.stdin as pipe:
                    while chunk := stream.read(CHUNK):
                        pipe.write(chunk)
                        sent += len(chunk)
                        progress(sent / size)
                process.wait()
            finally:
                run.stop(process)
            said.seek(0)
            details = said.read().decode(errors="replace").strip()
        # ssh's own status; any other is the command's.
        if process.returncode == 255:
            raise BootError(f"The connection to {self.host} was lost during the upload", "Run it again.", details)
        if process.returncode:
            raise SetupError(f"{self.host} could not take the upload", "Its words are above.", details)
