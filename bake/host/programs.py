"""Run other programs, stream their output, and end them when bake ends.

This is the only module that starts programs. Each child runs under `setpriv
--pdeathsig=KILL` (util-linux), so a kill -9 of bake ends it, too. Programs that
start further processes (Packer, mmdebstrap) get a PID namespace: when its first
process dies, the kernel kills the others. On a system without setpriv and unshare,
or without permission for namespaces, programs start without them; `bake doctor`
reports that such a system cannot bake.

Programs do not start in the user's current folder, which may be that of an app: Packer and mmdebstrap start programs
that lie in the current folder, and QEMU loads the firmware of its machine from there.

The kernel sends that signal when the *thread* that started the child ends, so
start a child in the thread that waits for it.
"""

from __future__ import annotations

import contextlib
import math
import os
import selectors
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NoReturn, TypedDict, Unpack

from bake.errors import ProgramError, ToolError

Argv = Sequence[str | Path]
TAIL_LINES = 40
GRACE_SECONDS = 10.0
#: The most output of a program in bytes. The output of a machine may have no end.
MOST_OUTPUT = 64 * 2**20
#: The longest line in bytes, and how much of it is kept for an error.
LONGEST_LINE, KEPT_LINE = 2**20, 4096
#: Seconds between two calls of a program's `on_wait`, and bytes to read at once.
TICK, CHUNK = 0.25, 2**16


class Surroundings(TypedDict, total=False):
    """The surroundings of a program: its working folder, variables added to bake's, and whether it gets namespaces.

    The default folder is /.
    """

    cwd: Path | None
    env: Mapping[str, str] | None
    namespaces: bool


@dataclass(frozen=True)
class Result:
    """The result of a program: its exit status, its standard output, and its standard error or its last lines."""

    status: int
    stdout: str
    stderr: str


def search_path() -> str:
    """Return PATH with Debian's folders for administrators' tools, which the PATH of other users lacks."""
    return os.environ.get("PATH", os.defpath) + os.pathsep + "/usr/sbin:/sbin"


def as_root() -> list[str]:
    """Return the prefix that runs a command as root of a user namespace with the ids from /etc/subuid."""
    return [] if os.geteuid() == 0 else ["unshare", "--user", "--map-auto", "--map-root-user", "--"]


def which(program: str) -> Path | None:
    """Return the path of a program, or None. Search Debian's folders for administrators' tools, too."""
    path = shutil.which(program, path=search_path())
    return Path(path).absolute() if path else None


def contained_argv(argv: Argv, *, namespaces: bool = False) -> list[str]:
    """Return `argv` with the prefix that ends it when bake dies; with `namespaces`, its children and mounts, too."""
    words = [_program_path(str(argv[0])), *map(str, argv[1:])]
    if namespaces:
        words = [*_namespace_prefix(), *words]
    setpriv = which("setpriv")
    return [str(setpriv), "--pdeathsig=KILL", "--", *words] if setpriv else words


def _namespace_prefix() -> list[str]:
    """Return the prefix for a command in its own namespaces; empty if the system lacks or forbids namespaces."""
    unshare = which("unshare")
    if unshare is None:
        return []
    user_options = [] if os.geteuid() == 0 else ["--user", "--map-current-user"]
    words = [str(unshare), *user_options, "--pid", "--mount", "--fork", "--kill-child", "--"]
    is_allowed = not user_options or not subprocess.run([*words, unshare, "--version"], capture_output=True).returncode
    return words if is_allowed else []


def _program_path(program: str) -> str:
    """Return the path of a program. Raises ToolError if it is not installed."""
    path = which(program)
    if path is None:
        raise ToolError(f"{program} is not installed", "Run `bake doctor`, which names the package to install.")
    return str(path)


def start(
    argv: Argv,
    *,
    stdin: int | IO[bytes] = subprocess.DEVNULL,
    stdout: int | IO[bytes] = subprocess.DEVNULL,
    stderr: int | IO[bytes] = subprocess.DEVNULL,
    **surroundings: Unpack[Surroundings],
) -> subprocess.Popen[bytes]:
    """Start a program and return without waiting; end it with `stop`."""
    folder = surroundings.get("cwd")
    words = argv if folder else [word.absolute() if isinstance(word, Path) else word for word in argv]
    return subprocess.Popen(
        contained_argv(words, namespaces=surroundings.get("namespaces", False)),
        cwd=folder or "/",
        env={**os.environ, "PATH": search_path(), **(surroundings.get("env") or {})},
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
    )


def start_again(*options: str) -> NoReturn:
    """Replace this process by one with the same arguments and further options of Python."""
    os.execv(sys.executable, [sys.executable, *options, *sys.orig_argv[1:]])


def _receiver(process: subprocess.Popen[bytes]) -> int:
    """Return the pid to signal: that of unshare's child, because unshare ignores SIGINT and SIGTERM."""
    proc = Path("/proc") / str(process.pid)
    try:
        if (proc / "comm").read_text() == "unshare\n":
            return int((proc / "task" / str(process.pid) / "children").read_text().split()[0])
    except (OSError, IndexError):
        pass
    return process.pid


def stop(process: subprocess.Popen[bytes], sig: int = signal.SIGTERM, grace: float = GRACE_SECONDS) -> None:
    """Send `sig` to a program, kill it after `grace` seconds, wait until it ends, and close its pipes."""
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


def bound_file(process: subprocess.Popen[bytes], path: Path) -> None:
    """Keep a file that a program writes from filling the disk, while the program runs.

    When the file takes more than MOST_OUTPUT, a thread frees its space. The program goes on behind a hole, so the last
    lines stay those of the file.
    """

    def free() -> None:
        while process.poll() is None:
            time.sleep(TICK)
            # The program may not have created it yet. st_blocks counts 512 bytes.
            with contextlib.suppress(OSError):
                if path.stat().st_blocks * 512 > MOST_OUTPUT:
                    os.truncate(path, 0)

    threading.Thread(target=free, daemon=True).start()


def run(
    argv: Argv,
    *,
    stdin: str | IO[bytes] = "",
    check: bool = True,
    timeout: float = math.inf,
    on_wait: Callable[[], None] = lambda: None,
    **surroundings: Unpack[Surroundings],
) -> Result:
    """Run a program, wait until it ends, and return both streams completely.

    `timeout` is in seconds. `on_wait` is called at least every TICK seconds, and at the end. Raises ProgramError after
    a timeout, for more than MOST_OUTPUT in a stream and, if `check` is true, for a status other than 0.
    """
    with _file_of(stdin) if isinstance(stdin, str) else contextlib.nullcontext(stdin) as source:
        process = start(argv, stdin=source, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **surroundings)
        try:
            out, err = _outputs(argv, process, timeout, on_wait)
        finally:
            stop(process)
    on_wait()
    result = Result(process.returncode, out.decode(errors="replace"), err.decode(errors="replace"))
    return _checked(argv, result) if check else result


def _file_of(text: str) -> IO[bytes]:
    """Return a file with a text, so that nobody has to write while the program runs. Linux keeps it in memory."""
    number = os.memfd_create("stdin") if sys.platform == "linux" else _unnamed_file()
    file = os.fdopen(number, "w+b")
    file.write(text.encode())
    file.seek(0)
    return file


def _unnamed_file() -> int:
    number, path = tempfile.mkstemp()
    Path(path).unlink()
    return number


def _outputs(
    argv: Argv, process: subprocess.Popen[bytes], timeout: float, on_wait: Callable[[], None]
) -> tuple[bytearray, bytearray]:
    """Return both streams of a program when it has ended. Raises ProgramError for one that has to be stopped."""
    assert process.stdout is not None and process.stderr is not None
    deadline, command = time.monotonic() + timeout, shlex.join(map(str, argv))
    late = ProgramError(f"{argv[0]} did not end within {timeout:.0f} s", details=command)
    contents = {process.stdout.fileno(): bytearray(), process.stderr.fileno(): bytearray()}
    with selectors.DefaultSelector() as selector:
        for descriptor in contents:
            selector.register(descriptor, selectors.EVENT_READ)
        while selector.get_map():
            for key, _ in selector.select(TICK):
                content, chunk = contents[key.fd], os.read(key.fd, CHUNK)
                content += chunk
                if not chunk:
                    selector.unregister(key.fd)
                if len(content) > MOST_OUTPUT:
                    raise ProgramError(f"{argv[0]} printed more than {MOST_OUTPUT >> 20} MB", details=command)
            if time.monotonic() > deadline:
                raise late
            on_wait()
    try:
        process.wait(None if timeout == math.inf else max(deadline - time.monotonic(), 0))
    except subprocess.TimeoutExpired:
        raise late from None
    out, err = contents.values()
    return out, err


def lines(process: subprocess.Popen[bytes]) -> Iterator[str]:
    """Yield the lines of a program's standard output as they arrive. One that exceeds LONGEST_LINE becomes several."""
    assert process.stdout is not None
    while raw := process.stdout.readline(LONGEST_LINE):
        yield raw.decode(errors="replace").rstrip("\r\n")


def stream(
    argv: Argv,
    on_line: Callable[[str], None],
    *,
    check: bool = True,
    cancel: int = signal.SIGTERM,
    **surroundings: Unpack[Surroundings],
) -> Result:
    """Run a program, and call `on_line` with each line of both streams as it arrives.

    The result has the last lines as standard error. `cancel` is the signal for the program when bake is interrupted.
    Raises ProgramError for a status other than 0 if `check` is true.
    """
    process = start(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **surroundings)
    tail: deque[str] = deque(maxlen=TAIL_LINES)
    try:
        for line in lines(process):
            tail.append(line[:KEPT_LINE])
            on_line(line)
        process.wait()
    finally:
        stop(process, cancel)
    result = Result(process.returncode, "", "\n".join(tail))
    return _checked(argv, result) if check else result


def _checked(argv: Argv, result: Result) -> Result:
    """Return the result of a program. Raises ProgramError for a status other than 0."""
    if result.status != 0:
        lines = (result.stderr or result.stdout).splitlines()[-TAIL_LINES:]
        raise ProgramError(
            f"{argv[0]} failed with exit status {result.status}",
            details="\n".join((shlex.join(map(str, argv)), *lines)),
        )
    return result
