"""The servers that the benchmark measures: the machine's, and others behind nginx as their documentation shows it."""

from __future__ import annotations

import os
import shutil
import socket
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from importlib.machinery import SourceFileLoader
from pathlib import Path
from subprocess import DEVNULL, Popen

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent / "unit"), str(HERE.parent / "unit" / "machine")]

from asgi_loader import Loader  # noqa: E402
from conftest import PROGRAMS, soon  # noqa: E402
from machine_nginx import MachineNginx, program  # noqa: E402
from machine_uwsgi import MachineUwsgi  # noqa: E402
from run_launcher import Launcher, free_port  # noqa: E402
from wsgi_loader import Gunicorn, Waitress  # noqa: E402

from bake.bundle import release_files  # noqa: E402
from bake.config.contract import THREADS  # noqa: E402
from bake.config.recipe import Recipe  # noqa: E402
from bake.host import programs  # noqa: E402

#: Seconds until a server answers.
PATIENCE = 30
#: Starts a server with its files in a folder that does not exist yet, and yields the port of its nginx.
Start = Callable[[Path], AbstractContextManager[int]]


def workers() -> int:
    """Return the number of workers that a machine like this computer has, by the machine's own rule."""
    sys.path.append(str(PROGRAMS))
    configure = SourceFileLoader("configure", str(PROGRAMS / "configure")).load_module()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    count: int = configure.workers(len(os.sched_getaffinity(0)), memory, configure.WORKER_MEMORY)
    return count


@contextmanager
def machine(folder: Path, venv: Path) -> Iterator[int]:
    """Start the machine's nginx and uWSGI."""
    folder.joinpath("release").mkdir(parents=True)
    folder.joinpath("release/venv").symlink_to(venv)
    with MachineNginx(folder / "root") as nginx:
        nginx.app.close()
        text = (HERE / "app.py").read_text()
        with MachineUwsgi(folder, text, nginx.root / "run/app/uwsgi.sock", workers()) as uwsgi:
            uwsgi.await_ready(workers())
            yield nginx.http


@contextmanager
def launched(folder: Path, venv: Path, kind: type[Loader], app: str) -> Iterator[int]:
    """Start the machine's nginx, and behind it a server that the recipe asks for with the keys of `kind`."""
    folder.mkdir()
    recipe = Recipe.model_validate(kind.keys, context={"folder": folder})
    settings = {
        f"srv/app/current/{name}": file.text
        for name, file in release_files.files(folder, recipe, []).items()
        if name.startswith("settings/nginx/")
    }

    class Server(Loader):
        """The server, with the libraries of the benchmark instead of those of the tests."""

        feature, passing, keys, python = kind.feature, kind.passing, kind.keys, f"{venv}/bin/python"

    class Program(Launcher):
        """A program with its own server, with the same libraries."""

        python = f"{venv}/bin/python"

    search_path = f"{venv}/bin:{os.environ['PATH']}"
    chosen: type[Loader] = Program if kind is Launcher else Server
    with MachineNginx(folder / "root", files=settings) as nginx:
        text, door = (HERE / app).read_text(), nginx.socket_of_app()
        if kind is Launcher:
            os.environ["PATH"] = search_path
        with chosen(folder / "app", text, workers(), door) as server:
            server.await_ready()
            yield nginx.http


@contextmanager
def documented(
    folder: Path, argv: Sequence[str | Path], app: str, environment: Mapping[str, str] | None = None, port: int = 0
) -> Iterator[int]:
    """Start a server, and nginx in front of it. It listens at `port`, or else at app.sock in its folder."""
    folder.mkdir()
    shutil.copy(HERE / app, folder)
    address = f"127.0.0.1:{port}" if port else f"unix:{folder}/app.sock"
    front_port = free_port()
    text = (HERE / "nginx.conf").read_text().replace("PORT", str(front_port)).replace("ADDRESS", address)
    (folder / "nginx.conf").write_text(text)
    front: list[str | Path] = [program(), "-p", folder, "-c", folder / "nginx.conf", "-e", folder / "error.log"]
    commands = [argv, [*front, "-g", "daemon off; master_process off;"]]

    def is_serving() -> bool:
        with socket.socket(socket.AF_INET if port else socket.AF_UNIX) as probe:
            return probe.connect_ex(("127.0.0.1", port) if port else f"{folder}/app.sock") == 0

    with ExitStack() as stack, (folder / "log").open("wb") as log:
        for command in commands:
            process = Popen(
                programs.contained_argv(command), cwd=folder, env={**os.environ, **(environment or {})},
                stdin=DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
            stack.callback(process.wait)
            stack.callback(process.terminate)
            if command is argv:
                assert soon(is_serving, PATIENCE), (folder / "log").read_text()
        yield front_port


def gunicorn(venv: Path, *options: object) -> Start:
    """Return the start of gunicorn with options."""
    argv = [f"{venv}/bin/gunicorn", "--bind", "unix:app.sock", *map(str, options), "app:app"]
    return lambda folder: documented(folder, argv, "app.py")


def wsgi(venv: Path) -> dict[str, Start]:
    """Return servers of one WSGI app: the machine's uWSGI, and others."""
    cpus, count = len(os.sched_getaffinity(0)), workers()
    granian = [f"{venv}/bin/granian", "--interface", "wsgi", "--uds", "app.sock", "--no-ws"]
    threads = ["--workers", f"{count}", "--blocking-threads", f"{THREADS}", "app:app"]
    return {
        f"bake: uWSGI, {count * THREADS} slots": lambda folder: machine(folder, venv),
        # The number of workers that gunicorn's documentation recommends.
        f"gunicorn sync, {2 * cpus + 1} slots": gunicorn(venv, "--workers", 2 * cpus + 1),
        f"gunicorn gthread, {count * THREADS} slots": gunicorn(
            venv, "--worker-class", "gthread", "--workers", count, "--threads", THREADS
        ),
        f"granian, {count * THREADS} slots": lambda folder: documented(folder, [*granian, *threads], "app.py"),
    }


def pairs(venv: Path) -> dict[str, Start]:
    """Return each other server that a recipe can name, on the machine, and as its documentation sets it up."""
    count, port = workers(), free_port()
    uvicorn = [f"{venv}/bin/uvicorn", "--uds", "app.sock", "--workers", f"{count}", "--proxy-headers"]
    return {
        "bake: gunicorn": lambda folder: launched(folder, venv, Gunicorn, "app.py"),
        "gunicorn": gunicorn(venv, "--worker-class", "gthread", "--workers", count, "--threads", THREADS),
        "bake: waitress": lambda folder: launched(folder, venv, Waitress, "app.py"),
        "waitress": lambda folder: documented(
            folder, [f"{venv}/bin/waitress-serve", "--unix-socket=app.sock", "app:app"], "app.py"
        ),
        "bake: uvicorn": lambda folder: launched(folder, venv, Loader, "asgi_app.py"),
        "uvicorn": lambda folder: documented(
            folder, [*uvicorn, "--no-access-log", "--forwarded-allow-ips", "*", "asgi_app:app"], "asgi_app.py"
        ),
        "bake: run, aiohttp": lambda folder: launched(folder, venv, Launcher, "own_server.py"),
        "aiohttp": lambda folder: documented(
            folder, [f"{venv}/bin/python", "own_server.py"], "own_server.py", {"PORT": f"{port}"}, port
        ),
    }
