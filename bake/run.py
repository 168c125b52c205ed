"""The one door to other programs: argv in, output streamed, children die with us.

Every child is started through `setpriv --pdeathsig=KILL` (util-linux), so a
kill -9 of this process ends it too. Programs that start processes of their own
(Packer, mmdebstrap) get a PID namespace besides: when its first process dies,
the kernel kills the rest. Where a system lacks setpriv and unshare, or refuses
namespaces, programs start without them; `doctor` refuses to bake there.

A parent-death signal fires when the *thread* that started the child ends:
start a child from the thread that waits for it.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from bake.errors import ProgramError, ToolError

Argv = Sequence[str | Path]
TAIL_LINES = 40
GRACE_SECONDS = 10.0


@dataclass(frozen=True)
class Result:
    """A finished program: its exit status, its standard output, and the tail of its standard error."""

    status: int
    stdout: str
    stderr: str


def search_path() -> str:
    """PATH, and where Debian keeps administrators' tools, which other users' PATH leaves out."""
    return os.environ.get("PATH", os.defpath) + os.pathsep + "/usr/sbin:/sbin"


def as_root() -> list[str]:
    """What makes a command see itself as root: of nothing but the ids that /etc/subuid gives us."""
    return [] if os.geteuid() == 0 else ["unshare", "--user", "--map-auto", "--map-root-user", "--"]


def which(program: str) -> Path | None:
    """Where a program is, looking also where Debian keeps administrators' tools."""
    found = shutil.which(program, path=search_path())
    return Path(found) if found else None


def contained(argv: Argv, *, namespaces: bool = False) -> list[str]:
    """`argv` with what makes it die when we die; with `namespaces`, all that it starts and mounts too."""
    words = [_found(str(argv[0])), *map(str, argv[1:])]
    if namespaces:
        words = [*_own_namespaces(), *words]
    setpriv = which("setpriv")
    return [str(setpriv), "--pdeathsig=KILL", "--", *words] if setpriv else words


def _own_namespaces() -> list[str]:
    """Return what gives a command namespaces of its own: nothing on a system that lacks them or refuses them to us."""
    unshare = which("unshare")
    if unshare is None:
        return []
    own_user = [] if os.geteuid() == 0 else ["--user", "--map-current-user"]
    words = [str(unshare), *own_user, "--pid", "--mount", "--fork", "--kill-child", "--"]
    allowed = not own_user or not subprocess.run([*words, unshare, "--version"], capture_output=True).returncode
    return words if allowed else []


def _found(program: str) -> str:
    path = which(program)
    if path is None:
        raise ToolError(f"{program} is not installed", "Run `bake doctor`: it says which package brings it.")
    return str(path)


def start(
    argv: Argv,
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: int | IO[bytes] = subprocess.DEVNULL,
    stdout: int | IO[bytes] = subprocess.DEVNULL,
    stderr: int | IO[bytes] = subprocess.DEVNULL,
    namespaces: bool = False,
    pass_fds: Sequence[int] = (),
) -> subprocess.Popen[bytes]:
    """Start a program and return at once; stop it with `stop`. `env` is added to ours."""
    return subprocess.Popen(
        contained(argv, namespaces=namespaces),
        cwd=cwd,
        env={**os.environ, "PATH": search_path(), **(env or {})},
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        pass_fds=pass_fds,
    )


def _receiver(process: subprocess.Popen[bytes]) -> int:
    """Who is to be asked to end: unshare ignores SIGINT and SIGTERM, and passes neither on."""
    proc = Path("/proc") / str(process.pid)
    try:
        if (proc / "comm").read_text() == "unshare\n":
            return int((proc / "task" / str(process.pid) / "children").read_text().split()[0])
    except (OSError, IndexError):
        pass
    return process.pid


def stop(process: subprocess.Popen[bytes], sig: int = signal.SIGTERM, grace: float = GRACE_SECONDS) -> None:
    """Ask a program to end, wait `grace` seconds, then kill it. Returns when it is gone, its pipes closed."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(_receiver(process), sig)
        try:
            process.wait(grace)
        except subprocess.TimeoutExpired:
            process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()


def run(
    argv: Argv,
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: str | None = None,
    on_line: Callable[[str], None] | None = None,
    check: bool = True,
    timeout: float | None = None,
    namespaces: bool = False,
    cancel: int = signal.SIGTERM,
) -> Result:
    """Run a program to its end.

    `on_line` gets each line of both streams as it comes; otherwise standard output is
    returned whole and standard error apart; it takes no `stdin`. `timeout` is in seconds; `cancel` is
    the signal that asks the program to end when we are interrupted.
    Raises ProgramError for a status other than 0 when `check`, and for a timeout always.
    """
    stream = on_line is not None
    process = start(
        argv,
        cwd=cwd,
        env=env,
        stdin=subprocess.PIPE if stdin is not None else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT if stream else subprocess.PIPE,
        namespaces=namespaces,
    )
    expired = threading.Event()

    def expire() -> None:
        expired.set()
        process.kill()

    clock = threading.Timer(timeout, expire) if stream and timeout is not None else None
    try:
        if on_line is not None:
            if clock:
                clock.start()
            assert process.stdout is not None
            tail: deque[str] = deque(maxlen=TAIL_LINES)
            for raw in process.stdout:
                line = raw.decode(errors="replace").rstrip("\r\n")
                tail.append(line)
                on_line(line)
            out, err = "", "\n".join(tail)
            process.wait()
            if expired.is_set():
                raise subprocess.TimeoutExpired([str(word) for word in argv], timeout or 0)
        else:
            raw_out, raw_err = process.communicate(stdin.encode() if stdin is not None else None, timeout)
            out, err = raw_out.decode(errors="replace"), raw_err.decode(errors="replace")
    except subprocess.TimeoutExpired:
        raise ProgramError(
            f"{argv[0]} did not end within {timeout:.0f} s", details=shlex.join(map(str, argv))
        ) from None
    finally:
        if clock:
            clock.cancel()
        stop(process, cancel)
    if check and process.returncode != 0:
        raise ProgramError(
            f"{argv[0]} failed with exit status {process.returncode}",
            details="\n".join((shlex.join(map(str, argv)), *(err or out).splitlines()[-TAIL_LINES:])),
        )
    return Result(process.returncode, out, err)
