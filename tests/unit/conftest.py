"""What the unit tests share: a cache of their own, fakes that are real programs, and a look at what still runs."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import DEVNULL, PIPE, Popen
from types import ModuleType

import pytest

REPOSITORY = Path(__file__).parents[2]
PROGRAMS = REPOSITORY / "cloud-init" / "rootfs" / "usr" / "lib" / "app"

Fake = Callable[[str, str], Path]
Helper = Callable[..., Popen[str]]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache; it does not exist yet."""
    monkeypatch.setenv("BAKE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """An app's folder, empty."""
    folder = tmp_path / "app"
    folder.mkdir()
    return folder


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fake:
    """Put a shell script on PATH, before the program whose name it takes: fake("packer", "exit 1")."""
    folder = tmp_path / "fakes"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    def put(name: str, script: str) -> Path:
        program = folder / name
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        return program

    return put


@pytest.fixture
def helper() -> Iterator[Helper]:
    """Start a Python process with some code and arguments; whatever is left of it is killed at the end."""
    started: list[Popen[str]] = []

    def start(code: str, *words: object) -> Popen[str]:
        process = Popen(
            [sys.executable, "-c", code, *map(str, words)], stdin=DEVNULL, stdout=PIPE, text=True, cwd=REPOSITORY
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def marker() -> Iterator[str]:
    """A time to `sleep` that nobody else sleeps; whoever still does at the end is killed."""
    word = f"1000.{os.getpid()}{time.monotonic_ns()}"
    yield word
    for pid in running(word):
        os.kill(pid, signal.SIGKILL)


def running(word: str, name: str = "") -> list[int]:
    """The processes that have `word` as an argument, and run the program `name` where one is given."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) != os.getpid():
            try:
                words = (folder / "cmdline").read_bytes().split(b"\0")
                comm = (folder / "comm").read_text().strip()
            except OSError:
                continue
            if word.encode() in words and name in ("", comm):
                found.append(int(folder.name))
    return found


def soon(true: Callable[[], object], patience: float = 10.0) -> bool:
    """Whether something comes true within `patience` seconds."""
    deadline = time.monotonic() + patience
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A folder for PYTHONPATH that holds the package with its files inside, as a wheel lays them out."""
    there = tmp_path / "installed"
    shutil.copytree(REPOSITORY / "bake", there / "bake", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("cloud-init", "packer", "tests/machine", "tests/proof"):
        shutil.copytree(REPOSITORY / name, there / "bake/tree" / name, ignore=shutil.ignore_patterns("__pycache__"))
    return there


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """One of the machine's programs as a module: program("configure")."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    # What they import of each other is beside them, and made anew for each test.
    monkeypatch.syspath_prepend(PROGRAMS)
    for shared in ("serving", "step"):
        monkeypatch.delitem(sys.modules, shared, raising=False)

    def load(name: str) -> ModuleType:
        loader = importlib.machinery.SourceFileLoader(f"machine_{name}", str(PROGRAMS / name))
        spec = importlib.util.spec_from_loader(loader.name, loader)
        assert spec is not None
        module = importlib.util.module_from_spec(spec)
        loader.exec_module(module)
        return module

    return load
