"""`python`: an interpreter that Debian 13 does not have, from a list and a server on this computer, on a machine.

It is that of Debian 12, because uv's builds are out of reach here: an archive of the same layout, from a builder root.
"""

import hashlib
import json
import tarfile
import zipfile
from pathlib import Path, PurePosixPath

import pytest
import servers
from conftest import EXAMPLE, extended, settled
from test_built_wheels import sdist
from test_push import host  # noqa: F401

from bake.bundle import builder_root
from bake.bundle.wheel_builder import WheelBuilder
from bake.config.debian import DEBIAN_12, DEBIAN_13
from bake.config.recipe import Recipe
from bake.host import cache
from bake.host.progress import Reporter
from bake.verify import proof

pytestmark = pytest.mark.long

VERSION, MINOR = DEBIAN_12.python_full_version, f"python{DEBIAN_12.python_version}"
PAGE = """
import sys

@app.route("/python")
def python():
    return {"version": list(sys.version_info[:3]), "prefix": sys.base_prefix, "text": "first"}
"""
#: Every kind of command says which Python runs it.
TELL = "python3 -c \"import sys; open('/var/lib/app/{}', 'w').write(sys.base_prefix)\""
#: Tells which Python builds it.
SETUP = """
import pathlib, platform, sys
from setuptools import setup

pathlib.Path("told.py").write_text(f"PREFIX = '{sys.base_prefix} {platform.python_version()}'\\n")
setup(name="told", version="1.0", py_modules=["told"])
"""
RECIPE = f"""
base: debian-13
python: {VERSION}
check: {{pages: [/python]}}
setup: [{json.dumps(TELL.format("setup"))}]
timers: {{tell: {{run: {json.dumps(TELL.format("timer"))}, when: daily}}}}
processes: {{tell: {json.dumps(TELL.format("process") + "; exec sleep infinity")}}}
"""


def pack(usr, path):
    """Write the interpreter below a folder `usr` to an archive with the layout install_only."""

    def kept(entry):
        is_outside = entry.issym() and PurePosixPath(entry.linkname).is_absolute()
        return None if is_outside or Path(entry.name).name in ("__pycache__", "test") else entry

    with tarfile.open(path, "w:gz", compresslevel=1) as tar:
        tar.add(usr / "bin" / MINOR, f"python/bin/{MINOR}")
        tar.add(usr / "lib" / MINOR, f"python/lib/{MINOR}", filter=kept)
        # uv's builds have it too. bake builds wheels with it.
        tar.add(usr / "lib/python3/dist-packages/pip", "python/lib/python3/dist-packages/pip", filter=kept)
        link = tarfile.TarInfo("python/bin/python3")
        link.type, link.linkname = tarfile.SYMTYPE, MINOR
        tar.addfile(link)


def write_list(path, archive, address):
    """Write a list of downloads, as uv reads it, with this archive alone."""
    major, minor, patch = map(int, VERSION.split("."))
    row = {
        "name": "cpython", "arch": {"family": "x86_64", "variant": None}, "os": "linux", "libc": "gnu",
        "major": major, "minor": minor, "patch": patch, "prerelease": "", "variant": None, "build": None,
        "url": f"{address}/{archive.name}", "sha256": hashlib.sha256(archive.read_bytes()).hexdigest(),
    }  # fmt: skip
    path.write_text(json.dumps({f"cpython-{VERSION}-linux-x86_64-gnu": row}))


@pytest.fixture(scope="module")
def downloads(tmp_path_factory):
    """A folder with the interpreter and a list of downloads, and the variables that make uv read it."""
    folder = tmp_path_factory.mktemp("downloads")
    root = builder_root.obtain(DEBIAN_12, (), None, cache.A_WEEK, Reporter())
    pack(root.folder / "usr", folder / "python.tar.gz")
    with servers.files(folder) as port:
        write_list(folder / "downloads.json", folder / "python.tar.gz", f"http://127.0.0.1:{port}")
        yield folder, {"UV_PYTHON_DOWNLOADS_JSON_URL": str(folder / "downloads.json")}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An app that tells its Python."""
    return extended(EXAMPLE, tmp_path_factory.mktemp("apps") / "own-python", RECIPE, PAGE)


@pytest.fixture(scope="module")
def machine(bake, downloads, folder, tmp_path_factory):
    """A machine of the app's image, which its proof has compared with the author's server."""
    called = bake("image", folder, **downloads[1])
    assert called.code == 0, called.stderr
    assert "server: gunicorn" in called.stderr
    with settled(Path(called.stdout.strip()), tmp_path_factory.mktemp("python"), proof.UserData()) as booted:
        yield booted


def page(machine):
    """The page that tells the app's Python."""
    return json.loads(machine.ssh("curl -sk https://127.0.0.1/python").stdout)


def test_the_interpreter_builds_wheels_in_the_builder_root(downloads, tmp_path, monkeypatch):
    for name, value in downloads[1].items():
        monkeypatch.setenv(name, value)
    source = sdist(tmp_path, "told", {"setup.py": SETUP})
    wheel = WheelBuilder(Recipe(), DEBIAN_13.with_python(VERSION), cache.Age(), Reporter()).build(source)
    with zipfile.ZipFile(wheel.path) as archive:
        assert archive.read("told.py").decode() == f"PREFIX = '/tmp/python {VERSION}'\n"


def test_an_app_and_its_commands_run_on_the_interpreter_of_the_release(machine, downloads):
    release = machine.ssh("readlink -f /srv/app/current").stdout.strip()
    python = f"{release}/venv/python"
    parts = [int(part) for part in VERSION.split(".")]
    assert page(machine) == {"version": parts, "prefix": python, "text": "first"}
    machine.ssh("sudo systemctl start app-job@tell.service")
    for name in ("setup", "timer", "process"):
        assert machine.ssh(f"sudo cat /var/lib/app/{name}").stdout == python
    # Nothing of it belongs to the app or to the user that unpacked it, and the modules are compiled.
    assert machine.ssh(rf"find {python} ! -type l \( ! -user root -o -perm /6022 \)").stdout == ""
    assert machine.ssh(f"ls {python}/lib/{MINOR}/__pycache__").stdout.count(".pyc") > 100
    record = json.loads(machine.ssh(f"cat {release}/python.json").stdout)
    assert record["sha256"] == hashlib.sha256((downloads[0] / "python.tar.gz").read_bytes()).hexdigest()


def test_a_push_brings_the_interpreter_again(machine, host, folder, bake, downloads):  # noqa: F811
    (folder / "app.py").write_text((folder / "app.py").read_text().replace('"first"', '"second"'))
    pushed = bake("push", *host, folder, **downloads[1])
    assert pushed.code == 0, pushed.stderr
    assert page(machine)["text"] == "second"
    assert machine.ssh("readlink -f /srv/app/current").stdout.strip() in page(machine)["prefix"]
