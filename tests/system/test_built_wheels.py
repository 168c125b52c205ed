"""Wheels that bake builds: in real builder roots of both Debian versions, made by mmdebstrap from Debian's archive.

No case boots a machine. The builder roots are made once for all cases, in about a minute each on an idle computer.
"""

import contextlib
import hashlib
import io
import json
import os
import socket
import subprocess
import sys
import tarfile
import time
import zipfile
from pathlib import Path

import pytest

from bake.app.direct_reference import DirectReference
from bake.app.requirement_line import Line
from bake.bundle import builder_root, direct_sources, isolated_build, release_archive
from bake.bundle.app_source import AppSource
from bake.bundle.source import Source
from bake.bundle.wheel_builder import WheelBuilder
from bake.config.debian import TARGETS
from bake.config.recipe import Recipe
from bake.errors import BuildError
from bake.host import cache, git
from bake.host.progress import Reporter

pytestmark = pytest.mark.long
#: A setup.py that tries everything that a build could want, and puts what it learns into the wheel.
HOSTILE = """
import ctypes, json, os, pathlib, socket
from setuptools import setup

CLONE_NEWUSER = 0x10000000

def attempt(action):
    try:
        return repr(action())
    except BaseException as error:
        return type(error).__name__

learned = {
    "uid": [os.getuid(), os.geteuid(), os.getgid(), os.getgroups()],
    "privileges": [line for line in open("/proc/self/status") if line.startswith(("NoNewPrivs", "CapEff", "CapBnd"))],
    "environment": sorted(os.environ),
    "home": [os.environ["HOME"], os.listdir(os.environ["HOME"])],
    "processes": sorted(name for name in os.listdir("/proc") if name.isdigit()),
    "interfaces": socket.if_nameindex(),
    "host": [name for name in HOST if os.path.exists(name)],
    "devices": sorted(os.listdir("/dev")),
    "connect": attempt(lambda: socket.create_connection(("127.0.0.1", PORT), 2)),
    "resolve": attempt(lambda: socket.getaddrinfo("localhost.test", 80)),
    "root": attempt(lambda: os.setuid(0)),
    "chroot": attempt(lambda: os.chroot("/tmp")),
    "kill": attempt(lambda: os.kill(1, 9)),
    "write": [attempt(lambda: open(f"{folder}/marker", "w")) for folder in ("/", "/usr", "/etc", "/var/tmp", "/mnt")],
    "host_write": attempt(lambda: open(f"{HOST[0]}/marker", "w")),
}
pathlib.Path("learned.json").write_text(json.dumps(learned))
setup(name="hostile", version="1.0", py_modules=[], data_files=[("learned", ["learned.json"])])
"""


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory):
    """A cache for these cases. BAKE_TEST_BUILDERS names one that stays."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BAKE_CACHE", os.environ.get("BAKE_TEST_BUILDERS") or str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(params=sorted(TARGETS))
def target(request):
    return TARGETS[request.param]


@pytest.fixture
def report():
    return Reporter()


def sdist(folder, name, files):
    """Make the source `name` 1.0 of these files, text by path."""
    archive = folder / f"{name}-1.0.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        for path, text in {"PKG-INFO": f"Metadata-Version: 1.0\nName: {name}\nVersion: 1.0\n", **files}.items():
            info = tarfile.TarInfo(f"{name}-1.0/{path}")
            info.size = len(text.encode())
            tar.addfile(info, io.BytesIO(text.encode()))
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    return Source(name, "1.0", archive.as_uri(), digest, "", "reqs.txt:1", archive)


def collected(folder, requirements, target, report, **keys):
    """Bundle an app with these requirements; the bundle, and the names of its wheels."""
    folder.mkdir(exist_ok=True)
    (folder / "app.py").write_text("def app(environ, start_response): ...\n")
    recipe = Recipe.model_validate(
        {"name": "small", "wsgi": "app:app", "base": target.name, "requirements": requirements, **keys}
    )
    bundle = release_archive.collect(AppSource(folder, recipe), folder.parent / "b.tar", report)
    wheels = [member.source for member in bundle.release.members if isinstance(member.source, Path)]
    return bundle, {path.name.partition("-")[0]: path for path in wheels if path.suffix == ".whl"}


def imported(target, wheels, code, folder, report):
    """Run Python code in the target's builder root, which has the libraries as well; the wheels are unpacked there."""
    root = builder_root.obtain(target, (), None, cache.A_WEEK, report)
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder)
    script = 'mount --bind "$1" "$2/mnt"; exec env -i PYTHONPATH=/mnt /usr/sbin/chroot "$2" /usr/bin/python3 -c "$3"'
    words = ["unshare", "--mount", "sh", "-euc", script, "sh", folder, root.folder, code]
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()


def test_a_hostile_build_reaches_nothing(target, report, tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "stolen")
    host = [str(tmp_path), os.environ["BAKE_CACHE"], str(Path(__file__).parent), str(Path.home() / ".cache"),
            "/etc/resolv.conf", "/etc/hostname", "/run/systemd"]  # fmt: skip
    with socket.create_server(("127.0.0.1", 0)) as server:
        text = f"HOST = {host!r}\nPORT = {server.getsockname()[1]}\n{HOSTILE}"
        wheel = WheelBuilder(Recipe(), target, cache.Age(), report).build(
            sdist(tmp_path, "hostile", {"setup.py": text})
        )
    with zipfile.ZipFile(wheel.path) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith("learned.json")]
        learned = json.loads(archive.read(name))
    assert learned["uid"] == [65000, 65000, 65000, []]
    assert learned["privileges"] == ["CapEff:\t0000000000000000\n", "CapBnd:\t0000000000000000\n", "NoNewPrivs:\t1\n"]
    # pip adds its own variables.
    assert not {name for name in learned["environment"] if name.startswith(("AWS", "BAKE", "SSH", "XDG", "http"))}
    assert learned["home"] == ["/tmp/home", []]
    # Only its own: the first process has paths of the host in its arguments.
    assert len(learned["processes"]) <= 6 and "1" not in learned["processes"]
    assert [name for _, name in learned["interfaces"]] == ["lo"]
    assert learned["host"] == []
    assert learned["devices"] == ["fd", "full", "null", "random", "shm", "urandom", "zero"]
    assert learned["connect"] == "OSError" or "Refused" in learned["connect"] or "Unreachable" in learned["connect"]
    assert learned["resolve"] == "gaierror"
    assert {learned[name] for name in ("root", "chroot", "kill")} <= {"PermissionError", "None"}
    assert learned["root"] == learned["chroot"] == "PermissionError"
    assert set(learned["write"]) <= {"PermissionError", "OSError"}
    assert learned["host_write"] == "FileNotFoundError"
    assert not list(tmp_path.glob("marker")) and not Path("/marker").exists()


def test_known_packages_are_built_and_their_libraries_become_packages(target, report, tmp_path):
    requirements = ["markupsafe==1.1.1", "psycopg2==2.9.10", "mysqlclient==2.2.7", "python-ldap==3.4.4"]
    bundle, wheels = collected(tmp_path / "app", requirements, target, report)
    ldap = {"debian-12": "libldap-2.5-0", "debian-13": "libldap2"}[target.name]
    assert set(bundle.packages) == {"libpq5", "libmariadb3", ldap}
    assert {wheel.name.rpartition("-")[2] for wheel in wheels.values()} == {"linux_x86_64.whl", "any.whl"}
    code = "import markupsafe._speedups, psycopg2, MySQLdb, ldap; print(psycopg2.__libpq_version__ > 0)"
    assert imported(target, wheels.values(), code, tmp_path / "unpacked", report) == "True"
    # Again, from the cache: nothing is built.
    start = time.monotonic()
    again, _ = collected(tmp_path / "app", requirements, target, report)
    assert again.sha256 == bundle.sha256 and time.monotonic() - start < 10


def test_an_old_source_is_built_with_an_old_setuptools(report, tmp_path):
    _, wheels = collected(tmp_path / "app", ["anyjson==0.3.3"], TARGETS["debian-12"], report)
    assert [*wheels] == ["anyjson"]


def test_a_folder_of_the_app_and_a_repository_are_built(report, tmp_path, monkeypatch):
    target = TARGETS["debian-12"]
    project = '[build-system]\nrequires = ["setuptools", "setuptools-scm"]\n[project]\nname = "greet"\n'
    # A repository without a network, whose version setuptools-scm would ask git for.
    monkeypatch.setitem(git.ANONYMOUS, "GIT_ALLOW_PROTOCOL", "file")
    greet = tmp_path / "greet"
    greet.mkdir()
    (greet / "pyproject.toml").write_text(f'{project}dynamic = ["version"]\n[tool.setuptools_scm]\n')
    (greet / "greet.py").write_text("text = 'hello'\n")
    identity = ("-c", "user.name=A", "-c", "user.email=a@a.example")
    for words in (("init", "-q"), ("add", "."), (*identity, "commit", "-qm", "one"), ("tag", "v1.4")):
        subprocess.run(["git", "-C", greet, *words], check=True)
    line = Line("greet", "reqs.txt:1", "greet", reference=DirectReference(git=greet.as_uri(), commit="v1.4"))
    source = direct_sources.fetch(line, tmp_path, tmp_path / "work")
    assert WheelBuilder(Recipe(), target, cache.Age(), report).build(source).name == "greet-1.4-py3-none-any.whl"
    # A folder of the app, with C code.
    lib = tmp_path / "app/libs/fast"
    lib.mkdir(parents=True)
    (lib / "setup.py").write_text(
        "from setuptools import Extension, setup\n"
        "setup(name='fast', version='2.0', ext_modules=[Extension('fast', ['fast.c'])])\n"
    )
    (lib / "fast.c").write_text(
        '#include <Python.h>\nstatic struct PyModuleDef fast = {PyModuleDef_HEAD_INIT, "fast"};\n'
        "PyObject *PyInit_fast(void) { return PyModule_Create(&fast); }\n"
    )
    (tmp_path / "app/requirements.txt").write_text("-e ./libs/fast\nsix==1.17.0\n")
    _, wheels = collected(tmp_path / "app", "requirements.txt", target, report)
    assert imported(target, wheels.values(), "import fast, six; print(fast.__name__)", tmp_path / "u", report) == "fast"


def test_a_build_without_its_header_fails_and_build_packages_adds_it(report, tmp_path):
    target = TARGETS["debian-13"]
    setup = (
        "from setuptools import Extension, setup\n"
        "setup(name='sniff', version='1.0', ext_modules=[Extension('sniff', ['sniff.c'], libraries=['magic'])])\n"
    )
    code = "#include <magic.h>\nint PyInit_sniff(void) { return magic_version(); }\n"
    source = sdist(tmp_path, "sniff", {"setup.py": setup, "sniff.c": code})
    with pytest.raises(BuildError) as caught:
        WheelBuilder(Recipe(), target, cache.Age(), report).build(source)
    assert caught.value.message == (
        "reqs.txt:1: sniff==1.0 has no wheel for Python 3.13 on debian-13, and its build from source failed because "
        "magic.h is missing"
    )
    assert "build_packages" in caught.value.hint and "sniff-1.0-debian-13.log" in caught.value.hint
    assert "fatal error: magic.h" in caught.value.details
    recipe = Recipe(build_packages=("libmagic-dev",))
    wheel = WheelBuilder(recipe, target, cache.Age(), report).build(source)
    assert wheel.libraries == {"libmagic.so.1": "libmagic1t64"}


def test_a_build_that_does_not_end_is_killed(report, tmp_path, monkeypatch):
    monkeypatch.setattr(isolated_build, "TIMEOUT", 15)
    source = sdist(tmp_path, "endless", {"setup.py": "import time\ntime.sleep(1000)\n"})
    with pytest.raises(BuildError) as caught:
        WheelBuilder(Recipe(), TARGETS["debian-13"], cache.Age(), report).build(source)
    assert "it did not end within 15 s" in caught.value.details


def test_no_process_of_a_build_outlives_a_kill_of_bake(report, tmp_path):
    target = TARGETS["debian-13"]
    builder_root.obtain(target, (), None, cache.A_WEEK, report)
    marker = f"1000.{os.getpid()}"
    source = sdist(tmp_path, "slow", {"setup.py": f"import os; os.system('sleep {marker}')\n"})
    code = (
        "from bake.bundle.source import Source\nfrom bake.bundle.wheel_builder import WheelBuilder\n"
        "from bake.config.debian import DEBIAN_13\nfrom bake.config.recipe import Recipe\n"
        "from bake.host import cache\nfrom bake.host.progress import Reporter\n"
        f"WheelBuilder(Recipe(), DEBIAN_13, cache.Age(), Reporter()).build({source!r})\n"
    )

    def is_running():
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                if marker.encode() in path.read_bytes().split(b"\0"):
                    return True
        return False

    def becomes(value, seconds):
        deadline = time.monotonic() + seconds
        while is_running() != value and time.monotonic() < deadline:
            time.sleep(0.2)
        return is_running() == value

    process = subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parents[2])
    try:
        assert becomes(True, 120)
    finally:
        process.kill()
        process.wait()
    assert becomes(False, 10)
