"""What the system cases share: the bake as a user calls it, and a baked image."""

import contextlib
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import amazon
import boto3
import pytest
from xdist.scheduler import LoadScopeScheduling

from bake.document import cloud_config
from bake.verify import proof
from bake.vm import qemu

EXAMPLE = Path(__file__).parents[2] / "examples" / "flask-hello"
#: Waits until systemd has started every unit of the boot. Its exit status is that of cloud-init. cloud-init's command
#: alone polls systemd four times a second, which slows the rest of an emulated boot.
AWAIT_BOOT = "systemctl is-system-running --wait > /dev/null; cloud-init status --wait > /dev/null"


class OneBake(LoadScopeScheduling):  # type: ignore[misc]  # pytest-xdist carries no types
    """Have one process of pytest-xdist run all cases of a baked machine, since they share a bake, and start them first.

    Its own option for groups does not work with pytest 9.2 (xdist 3.8.0).
    """

    def _split_scope(self, nodeid):
        return "machine" if Path(nodeid.partition("::")[0]).stem in ("test_image", "test_push") else nodeid


def pytest_xdist_make_scheduler(config, log):
    return OneBake(config, log)


@dataclass(frozen=True)
class Called:
    """A finished `bake`: exit code, and both outputs."""

    code: int
    stdout: str
    stderr: str


@pytest.fixture(scope="session")
def where(tmp_path_factory):
    """The folder that bakes are called in, and that gets their dist/."""
    return tmp_path_factory.mktemp("called-here")


@pytest.fixture(scope="session")
def bake(where):
    """Call `bake` as a user would: a child process, in a folder of its own."""

    def call(*words, timeout=2400, **env):
        done = subprocess.run(
            [sys.executable, "-m", "bake", *map(str, words)], cwd=where, env={**os.environ, **env},
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout, check=False,
        )  # fmt: skip
        sys.stderr.write(done.stderr)
        return Called(done.returncode, done.stdout, done.stderr)

    return call


def extended(example, folder, recipe, text):
    """Copy an example to a folder with a recipe, and append text to its module. Return the folder."""
    shutil.copytree(example, folder, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "bake.yaml").write_text(recipe)
    (module,) = (path for name in ("app.py", "main.py") if (path := folder / name).exists())
    with module.open("a") as stream:
        stream.write(text)
    return folder


@pytest.fixture
def app(tmp_path):
    """A folder with a small Flask app, to be changed by the case; returns (folder, write)."""
    folder = tmp_path / "small-app"
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("__pycache__"))

    def write(name, text):
        (folder / name).write_text(text)
        return folder

    return folder, write


@pytest.fixture(scope="session")
def amazons(tmp_path_factory):
    """A gate, for all cases."""
    with amazon.standing(tmp_path_factory.mktemp("amazon")) as gate:
        yield gate


@pytest.fixture
def gate(amazons):
    amazons.reset()
    tried = amazon.tries()
    yield amazons
    assert amazon.tries() == tried, "somebody tried to reach a stranger"


@pytest.fixture
def ec2(gate):
    return boto3.client("ec2")


#: What the example gets besides: one of everything that a recipe can ask for and a machine can show.
MORE = """
import contextlib
import ctypes
import mmap
import os
import socket
import sqlite3
import threading
import time
from pathlib import Path

from flask import Response, request

KEY = os.environ["SECRET_KEY"]
CALLS = {"io_uring_setup": 425, "add_key": 248, "keyctl": 250, "userfaultfd": 323}
# Only a bake sees these writes; nothing in the source names the files. A machine from a document refuses them.
with contextlib.suppress(OSError):
    with Path(__file__).with_name("sta" + "rts").open("a") as starts:
        starts.write("started\\n")
    # A file that the app makes beside one that a release ships.
    Path(__file__).with_name("wo" + "rds").joinpath("count").write_text("1")

# While it is baked and proved, and then alone, it reaches nothing outside: or there is no image.
if "CLOSED" in os.environ:
    # Rejected by the firewall, or without a route where QEMU lets nothing out.
    with contextlib.suppress(OSError), socket.socket(type=socket.SOCK_DGRAM) as wire:
        wire.sendto(b"x", ("192.0.2.1", 9))
        raise RuntimeError("the app reaches the network")

@app.after_request
def say_who(response):
    response.headers["Server"] = "Small/1.2.3"
    return response

@app.route("/steps")
def steps():
    return Path("instance/steps").read_text()

@app.route("/words")
def words():
    return Path("words/list.txt").read_text() + Path("words/count").read_text()

@app.route("/vain")
def vain():
    Path(request.args["folder"]).mkdir()
    return "made"

# Made at import: a fork that came later would share the socket and the database, and leave the thread behind.
IMPORTED_BY, TICKS = os.getpid(), []
ENDS = socket.socketpair()
DATABASE = sqlite3.connect(":memory:", check_same_thread=False)

def echo():
    while data := ENDS[1].recv(99):
        ENDS[1].sendall(data)

def tick():
    while True:
        time.sleep(0.1)
        TICKS.append(1)

LOCK = threading.Lock()
for work in (echo, tick):
    threading.Thread(target=work, daemon=True).start()

@app.route("/import/<visitor>")
def imported(visitor):
    with LOCK:
        ENDS[0].sendall(visitor.encode())
        echoed = ENDS[0].recv(99).decode()
        (stored,) = DATABASE.execute("SELECT ?", [visitor]).fetchone()
    return {"pid": os.getpid(), "imported by": IMPORTED_BY, "ticks": len(TICKS), "answers": [echoed, stored]}

@app.route("/jit")
def jit():
    mmap.mmap(-1, 4096, prot=mmap.PROT_WRITE | mmap.PROT_EXEC)
    return "written and run"

@app.route("/cookies")
def cookies():
    return str(len(request.headers["Cookie"]))

@app.route("/upload", methods=["POST"])
def upload():
    return str(sum(len(chunk) for chunk in iter(lambda: request.stream.read(65536), b"")))

@app.route("/slow")
def slow():
    time.sleep(70)
    return "at last"

@app.route("/page")
def page():
    return "<p>the same again</p>" * 100

@app.route("/calls")
def calls():
    libc = ctypes.CDLL(None, use_errno=True)
    return {name: libc.syscall(number, 0, 0, 0) and ctypes.get_errno() for name, number in CALLS.items()}

@app.route("/late")
def late():
    time.sleep(120)
    return "too late"

@app.route("/events")
def events():
    def told():
        for number in range(3):
            yield f"data: {number}\\n\\n"
            time.sleep(5)
    return Response(told(), mimetype="text/event-stream")
"""
RECIPE = """
secrets: [SECRET_KEY, SPARE_KEY]
writable: [instance]
setup: ["date >> instance/steps"]
timers: {tick: {run: date >> instance/ticks, when: "*:*:0/20", limit: 2h}}
sandbox: {allow: [jit]}
limits: {body: 40M, request: 90s, steps: 20m}
check: {health: /steps, env: {SPARE_KEY: "it's \\"spare\\" $HOME", CLOSED: "yes"}}
"""
#: `nox -s system` runs the cases of a machine once more on another release.
RECIPE += f"base: {os.environ.get('BAKE_TEST_BASE', 'debian-13')}\n"
#: Vendor-data with what stands in for its secrets.
STAND_INS = proof.UserData(
    vendor=cloud_config.vendor_data(cloud_config.CheckSettings({"SECRET_KEY": "a", "SPARE_KEY": "b"}))
)


@pytest.fixture(scope="session")
def example(tmp_path_factory):
    """The folder of the example and more, with a line of its own so that no cache answers."""
    text = f"{MORE}\n# {os.urandom(8).hex()}\n"
    folder = extended(EXAMPLE, tmp_path_factory.mktemp("apps") / "flask-hello", RECIPE, text)
    # What apps have and text editors do not show: bytes that are no text, no byte at all, a name that URLs encode.
    (folder / "static" / "favicon.ico").write_bytes(bytes(range(256)))
    (folder / "static" / "empty.css").touch()
    (folder / "static" / "grüße aus köln.txt").write_text("Hallo!\n")
    (folder / "words").mkdir()
    (folder / "words" / "list.txt").write_text("of the first release ")
    return folder


@pytest.fixture(scope="session")
def baked(example, bake):
    """That folder, its image, and how the bake was: once for all cases."""
    called = bake("image", example)
    assert called.code == 0, called.stderr
    return example, Path(called.stdout.strip()), called


@contextlib.contextmanager
def settled(image, work, user_data, options=None):
    """A machine of an image, booted and settled, with its key and its disk in a folder. `options` are QEMU's."""
    key = work / "key"
    qemu.make_key(key, "case")
    booted = proof.start(image, work / "vm", key, user_data, options)
    try:
        booted.await_ssh()
        booted.ssh(AWAIT_BOOT, check=False, timeout=900)
        yield booted
    finally:
        booted.stop()


@contextlib.contextmanager
def baked_machine(bake, folder, work):
    """A machine of an app's image, booted and settled, and what its bake printed."""
    called = bake("image", folder)
    assert called.code == 0, called.stderr
    with settled(Path(called.stdout.strip()), work, proof.UserData()) as booted:
        yield booted, called.stderr


@pytest.fixture
def machine(baked, tmp_path):
    """The baked image, booted and settled, with stand-ins for its secrets as in a proof."""
    with settled(baked[1], tmp_path, STAND_INS) as booted:
        yield booted
