"""What one does with this project: `nox -s bake`, `nox -s tests`, and the parts of the latter."""

import datetime
import hashlib
import os
import re
import shutil
from pathlib import Path

import nox

nox.options.default_venv_backend = "uv"
nox.options.reuse_venv = "yes"
nox.options.sessions = ["tests"]

#: Percent of the package that the unit tests must reach: one less than they reached (2026-11-29, a765b25). Raise it.
FLOOR = 82
#: Unit tests that hold a limit of CPU time.
TIMED = ["app/test_scopes.py"]


def set_up(session: nox.Session, lock: str) -> None:
    """Install the lock and this project, unless this environment has them already."""
    inputs = [Path(lock), Path("pyproject.toml")]
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in inputs)).hexdigest()
    stamp = Path(session.virtualenv.location) / "made-from"
    if not stamp.exists() or stamp.read_text() != digest:
        session.install("--quiet", "--require-hashes", "--requirement", lock)
        session.install("--quiet", "--no-deps", "--editable", ".")
        stamp.write_text(digest)


def install_programs(session: nox.Session) -> None:
    """Install the programs that a bake needs, and those that only the tests need, such as the authority pebble."""
    session.run("bake", "doctor", "--install")
    missing = [program for program in ("age", "curl", "git", "pebble") if not shutil.which(program)]
    if missing:
        session.run("python", "-c", f"from bake.image import host_requirements; host_requirements.install({missing})")


#: Fetches Debian's nginx, uWSGI and nft with their libraries, and unpacks them here. Lists of packages that are missing
#: or old are fetched first.
UNPACK_SERVERS = """
servers='nginx nginx-common uwsgi-core uwsgi-plugin-python3 nftables libnftables1 libedit2 libbsd0'
fetch() {
    libraries=$(apt-cache depends --important $servers | grep -o ' lib[a-z].*' | grep -v '^ libc6')
    apt-get -q download $servers $libraries
}
fetch || { [ "$(id -u)" = 0 ] || set -- sudo; "$@" apt-get -q update; fetch; }
for package in *.deb; do dpkg-deb --extract "$package" .; done
# An installation would make this link.
cd usr/lib/uwsgi/plugins
[ -e python3_plugin.so ] || ln -s python3[0-9]*_plugin.so python3_plugin.so
"""


def unpack_servers(session: nox.Session) -> None:
    """Unpack nginx, uWSGI and nft for the unit tests, unless they are there. nginx's package would serve on port 80."""
    place = Path(session.virtualenv.location) / "servers"
    path = f"{session.bin}:{os.environ['PATH']}:/usr/sbin"
    if all(shutil.which(program, path=path) for program in ("nginx", "uwsgi-core", "nft")):
        return
    if not shutil.which("apt-get"):
        session.error("nginx, uWSGI or nft is missing: the unit tests run the machine's settings. Install them.")
    place.mkdir(exist_ok=True)
    with session.chdir(place):
        session.run("sh", "-euc", UNPACK_SERVERS, external=True)
    for program in ("sbin/nginx", "bin/uwsgi-core", "sbin/nft"):
        link_program(session, place / "usr" / program)


def link_program(session: nox.Session, program: Path) -> None:
    """Make a program available under its name in the session's environment."""
    link = Path(session.bin) / program.name
    link.unlink(missing_ok=True)
    link.symlink_to(program)


def install_scanners(session: nox.Session) -> None:
    """Install programs that judge a machine. They have their own environment, because they need older libraries."""
    lock, place = "locks/scanners.txt", Path(session.virtualenv.location) / "scanners"
    python = place / "bin" / "python"
    session.run("uv", "venv", "--quiet", "--clear", place)
    # Some come as source: what builds them is held to the lock too.
    hashed = ("--require-hashes", "--requirement", lock, "--build-constraint", lock)
    session.run("uv", "pip", "install", "--quiet", "--python", python, *hashed)
    for name in ("gixy", "ssh-audit", "sslyze"):
        link_program(session, place / "bin" / name)


@nox.session
def bake(session: nox.Session) -> None:
    """Bake an app's folder (the example, if none is named): nox -s bake -- PATH."""
    set_up(session, "locks/bake.txt")
    # nox would mix standard error into standard output, which carries the image's path alone.
    session.run("bake", "image", "--install", *(session.posargs or ["examples/flask-hello"]), stderr=None)


@nox.session
def tests(session: nox.Session) -> None:
    """Run everything that fits half an hour: lint, unit tests, and a real bake with its faults."""
    set_up(session, "locks/dev.txt")
    check_style(session)
    install_programs(session)
    unpack_servers(session)
    # Apart, since each folder has fixtures of its own; and one after the other, since two cores are too few for both.
    session.run("pytest", "-n", "auto", "--durations=10", "tests/unit")
    # One process bakes and boots, case after case. The cases of the other three mostly wait for moto.
    session.run("pytest", "-n", "4", "tests/system", "-m", "not long", *session.posargs)


@nox.session
def unit(session: nox.Session) -> None:
    """Run the unit tests: 4 to 6 minutes on two cores (b2c879b, 942ef9f)."""
    set_up(session, "locks/dev.txt")
    unpack_servers(session)
    session.run("pytest", "-n", "auto", "tests/unit", *session.posargs)


@nox.session
def system(session: nox.Session) -> None:
    """Run every real boot, or one: nox -s system -- NAME. The machine's behaviour also runs on debian-12."""
    set_up(session, "locks/dev.txt")
    install_programs(session)
    install_scanners(session)
    chosen = ["-k", session.posargs[0], *session.posargs[1:]] if session.posargs else []
    session.run("pytest", "tests/system", *chosen)
    machines = [f"tests/system/test_{name}.py" for name in ("machine", "push", "launch", "certificate")]
    # 5: no case of these has that name.
    session.run("pytest", *machines, *chosen, env={"BAKE_TEST_BASE": "debian-12"}, success_codes=[0, 5])


@nox.session
def bench(session: nox.Session) -> None:
    """Measure the machine's servers beside others, about 8 minutes: nox -s bench [-- --pairs]. Run nothing else."""
    set_up(session, "locks/dev.txt")
    unpack_servers(session)
    if not shutil.which("wrk"):
        session.error("wrk is missing, which makes the load. Install it: apt-get install wrk")
    place = Path(session.virtualenv.location) / "bench"
    # uWSGI has Debian's Python, so the other servers get it too.
    session.run("uv", "venv", "--quiet", "--clear", "--python", "/usr/bin/python3", place)
    python = place / "bin" / "python"
    session.run("uv", "pip", "install", "--quiet", "--python", python, "--require-hashes", "-r", "locks/bench.txt")
    session.run("python", "tests/bench/bench.py", place, *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Run ruff, mypy, shellcheck, codespell and zizmor."""
    set_up(session, "locks/dev.txt")
    check_style(session)


def check_style(session: nox.Session) -> None:
    """Check rules, format and types of Python, the machine's included, shell scripts, spelling, and CI's workflows."""
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy")
    session.run("mypy", "tests/system")
    # JSON has no types in the machine's programs: `typing` would take bytes of the document.
    untyped = ("--allow-any-generics", "--no-warn-return-any")
    session.run("mypy", "--scripts-are-modules", "--disallow-untyped-defs", *untyped, *machine_programs())
    session.run("shellcheck", *shell_scripts())
    session.run("codespell")
    session.run("zizmor", "--offline", "--quiet", "action.yml", ".github/workflows")


def machine_programs() -> list[str]:
    """Return the machine's Python programs; those that a unit starts have no suffix."""
    files = [path for path in Path("cloud-init").rglob("*") if path.is_file() and not path.is_symlink()]
    scripts = (path for path in files if path.read_bytes().startswith(b"#!/usr/bin/python3"))
    return sorted(str(path) for path in {*scripts, *(path for path in files if path.suffix == ".py")})


def shell_scripts() -> list[str]:
    """Return the shell scripts of this project; few of them have a suffix."""
    places = [Path("setup.sh"), *(path for name in (".ci", "cloud-init", "packer") for path in Path(name).rglob("*"))]
    return sorted(str(path) for path in places if path.is_file() and path.read_bytes().startswith(b"#!/bin/sh"))


@nox.session
def coverage(session: nox.Session) -> None:
    """Run the unit tests with their coverage of the package, which has a floor. Apart from `unit`: it is slower."""
    set_up(session, "locks/dev.txt")
    unpack_servers(session)
    shown = ("--cov", "--cov-report=term:skip-covered", f"--cov-fail-under={FLOOR}")
    # Tracing exceeds their limits.
    timed = [f"--deselect=tests/unit/{name}" for name in TIMED]
    session.run("pytest", "-n", "auto", *shown, *timed, "tests/unit", *session.posargs)


@nox.session(venv_backend="none")
def release(session: nox.Session) -> None:
    """Check that version, changelog and commit agree, build sdist and wheel into dist, print the tag. No upload."""
    match = re.search(r'^__version__ = "(.+)"$', Path("bake/__init__.py").read_text(), re.M)
    version = match[1] if match else session.error("bake/__init__.py has no __version__")
    newest = re.search(r"^## (?!Unreleased)(\S+) - \d{4}-\d\d-\d\d$", Path("CHANGELOG.md").read_text(), re.M)
    if newest is None or newest[1] != version:
        section = f"## {version} - {datetime.date.today()}"
        session.error(
            f"bake/__init__.py has {version}, and the newest section of CHANGELOG.md is "
            f"{newest[1] if newest else 'Unreleased'}. Change one of them; a section begins like this: {section}"
        )
    if session.run("git", "status", "--porcelain", external=True, silent=True):
        session.error("some files are not committed. Commit them: the tag names a commit")
    session.run("uv", "build", "--quiet", "--out-dir", "dist", external=True)
    session.log(f"built dist/bake-{version}.tar.gz and dist/bake-{version}-py3-none-any.whl")
    session.log(f"now tag this commit: git tag --annotate v{version} --message 'bake {version}'")


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation into docs/_build/html. A warning is an error."""
    set_up(session, "locks/docs.txt")
    # --fresh-env: the reference is generated from code that Sphinx does not watch.
    strict = ("--fail-on-warning", "--keep-going", "--nitpicky", "--fresh-env", "--quiet")
    session.run("sphinx-build", *strict, "--builder", "html", "docs", "docs/_build/html", *session.posargs)


@nox.session
def lock(session: nox.Session) -> None:
    """Resolve the locks anew: after a change of pyproject.toml, or for newer versions."""
    compile_lock = ("uv", "pip", "compile", "-q", "--universal", "--python-version", "3.11", "--generate-hashes")
    quiet = ("--no-header", "--no-annotate", "--no-emit-index-url", "--upgrade")
    Path("locks").mkdir(exist_ok=True)
    session.run(*compile_lock, *quiet, "pyproject.toml", "-o", "locks/bake.txt", external=True)
    session.run(*compile_lock, *quiet, "pyproject.toml", "--group", "dev", "-o", "locks/dev.txt", external=True)
    session.run(*compile_lock, *quiet, "pyproject.toml", "--group", "docs", "-o", "locks/docs.txt", external=True)
    for group in ("nox", "scanners", "bench"):
        session.run(*compile_lock, *quiet, "--group", group, "-o", f"locks/{group}.txt", external=True)
