"""Run the machine's uWSGI with an app, as app.service does.

    with MachineUwsgi(tmp_path, APP, nginx.root / "run/app/uwsgi.sock", limits={"request": 3}) as uwsgi:
        uwsgi.await_ready()

The settings and the loader are the machine's, byte for byte, but for paths. Unless there is a virtualenv at
`release/venv`, the app has only the standard library of Debian's Python. `nox -s unit` unpacks Debian's uWSGI beside
the tests' Python.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import sys
from pathlib import Path
from subprocess import DEVNULL, STDOUT, Popen

from asgi_loader import PASS, PATIENCE, listen
from conftest import PROGRAMS

from bake.bundle import release_files
from bake.config.contract_files import MachineRecipe
from bake.config.recipe import Recipe
from bake.host import programs

#: Where Debian's uWSGI finds its plugins.
PLUGINS = "/usr/lib/uwsgi/plugins"


def program() -> Path:
    """Return the path of uWSGI: the system's, or the one that `nox -s unit` unpacked beside this Python."""
    beside = str(Path(sys.executable).parent)
    path = shutil.which("uwsgi-core", path=os.pathsep.join([beside, programs.search_path()]))
    assert path, "uWSGI is not installed. `nox -s unit` unpacks Debian's; elsewhere, install uwsgi-plugin-python3."
    return Path(path).resolve()


class MachineUwsgi:
    """A running uWSGI with the release of an app. Its socket is at `door`. `keys` are those of the recipe."""

    def __init__(self, folder: Path, text: str, door: Path, workers: int = 2, **keys: object) -> None:
        """Lay out the release below `folder` and start uWSGI. It may not serve yet."""
        self.release, self.log = folder / "release", folder / "log"
        (self.release / "source").mkdir(parents=True)
        (self.release / "source/app.py").write_text(text)
        recipe = Recipe.model_validate({"wsgi": "app:app", **keys}, context={"folder": self.release / "source"})
        for name, file in {
            **release_files.files(self.release / "source", recipe, []),
            "recipe.json": release_files.File(MachineRecipe.of(recipe).to_json()),
        }.items():
            path = self.release / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(file.text)
        self.notified = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notified.bind(str(folder / "notify"))
        self.listener = listen(door)
        self._start(folder, workers)

    def _start(self, folder: Path, workers: int) -> None:
        uwsgi = program()
        (folder / "tmp").mkdir()
        loader = (PROGRAMS / "wsgi.py").read_text().replace("/tmp/", f"{folder}/tmp/")
        (folder / "wsgi.py").write_text(loader.replace("/run/systemd/notify", str(folder / "notify")))
        settings = (PROGRAMS / "uwsgi.ini").read_text()
        settings = settings.replace("/usr/lib/app/wsgi.py", str(folder / "wsgi.py"))
        settings = settings.replace("/srv/app/current", str(self.release))
        settings = settings.replace(PLUGINS, str(uwsgi.parents[2]) + PLUGINS)
        if not (self.release / "venv").exists():
            settings = re.sub(r"(?m)^virtualenv = .*\n", "", settings)
        (folder / "uwsgi.ini").write_text(settings)
        # As systemd does: the socket is descriptor 3, and LISTEN_PID names the process.
        descriptor = str(self.listener.fileno())
        environment = {
            "PATH": os.environ["PATH"], "APP_RELEASE": str(self.release), "APP_WORKERS": str(workers),
            "LISTEN_FDS": "1",
            # Debian 12 has some libraries in /lib, which is a folder of its own in an unpacked tree.
            "LD_LIBRARY_PATH": os.pathsep.join(
                str(path) for tree in (uwsgi.parents[1], uwsgi.parents[2]) for path in tree.glob("lib/*-linux-gnu")
            ),
        }  # fmt: skip
        command = f"import os; os.environ['LISTEN_PID'] = str(os.getpid()); {PASS}"
        argv = [sys.executable, "-c", command, descriptor, str(uwsgi), "--ini", str(folder / "uwsgi.ini")]
        with self.log.open("wb") as log:
            self.process = Popen(
                programs.contained_argv(argv), env=environment, stdin=DEVNULL, stdout=log, stderr=STDOUT,
                pass_fds=[self.listener.fileno()],
            )  # fmt: skip

    def await_ready(self, workers: int = 1) -> None:
        """Wait until so many workers have loaded the app."""
        self.notified.settimeout(PATIENCE)
        try:
            for _ in range(workers):
                assert self.notified.recv(100) == b"READY=1"
        except TimeoutError:
            raise AssertionError(f"uWSGI does not start: {self.log.read_text()}") from None

    def __enter__(self) -> MachineUwsgi:
        return self

    def __exit__(self, *problem: object) -> None:
        # systemd would send SIGTERM; SIGQUIT stops the master and its workers at once.
        self.process.send_signal(signal.SIGQUIT)
        try:
            self.process.wait(PATIENCE)
        finally:
            self.process.kill()
            self.process.wait()
            self.notified.close()
            self.listener.close()
