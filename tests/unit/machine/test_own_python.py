"""A release with an interpreter: the machine's program makes its virtualenv, and gunicorn serves an app with it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import flask
import installer
import pytest
from conftest import PROGRAMS
from interpreters import own_archive
from wsgi_loader import Gunicorn

from bake.host import paths

MINOR = "python{}.{}".format(*sys.version_info)
APP = """
import os, sys
import flask, thing
app = flask.Flask(__name__)

@app.route("/")
def page():
    return {"executable": sys.executable, "prefix": sys.prefix, "os": os.__file__, "thing": thing.__file__}
"""


def write_wheel(folder: Path, marker: Path) -> None:
    """Write a wheel that runs code at each start of a virtualenv's Python."""
    texts = {
        "thing/__init__.py": "", "evil.pth": f"import pathlib; pathlib.Path({str(marker)!r}).touch()\n",
        "thing-1.dist-info/METADATA": "Metadata-Version: 2.1\nName: thing\nVersion: 1\n",
        "thing-1.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "thing-1.dist-info/entry_points.txt": "[console_scripts]\nthing = thing:main\n",
    }  # fmt: skip
    texts["thing-1.dist-info/RECORD"] = "".join(f"{name},,\n" for name in (*texts, "thing-1.dist-info/RECORD"))
    with zipfile.ZipFile(folder / "thing-1-py3-none-any.whl", "w") as archive:
        for name, text in texts.items():
            archive.writestr(name, text)


def build(release: Path, final: Path) -> None:
    """Run the machine's program as app-setup does. Raises CalledProcessError."""
    script = paths.features() / "python/interpreter"
    subprocess.run([script, PROGRAMS / "build-venv", release, final], check=True, capture_output=True)


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """Return a release that the machine's program has built, under its final path."""
    partial, final = tmp_path / ".partial", tmp_path / "release"
    for name in ("source", "wheels", "venv"):
        (partial / name).mkdir(parents=True)
    write_wheel(partial / "wheels", tmp_path / "ran")
    # On a machine, Debian's package has this module for every Python.
    own_archive(partial / "wheels/python.tar.gz", (Path(installer.__file__).parent,))
    build(partial, final)
    partial.rename(final)
    return final


def test_gunicorn_serves_an_app_with_the_interpreter_of_its_release(
    release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    venv = release / "venv"
    assert not (tmp_path / "ran").exists(), "the wheel's own code ran"
    assert (venv / "bin/python").resolve() == venv / f"python/bin/{MINOR}"
    assert (venv / "bin/thing").read_text().startswith(f"#!{venv}/bin/python\n")
    assert ".partial" not in (venv / "pyvenv.cfg").read_text()
    assert f"home = {venv}/python/bin\n" in (venv / "pyvenv.cfg").read_text()
    for folder in (venv / f"lib/{MINOR}/site-packages/thing", venv / f"python/lib/{MINOR}"):
        assert list((folder / "__pycache__").glob("*.pyc"))
    # The interpreter has neither Flask nor gunicorn, so those of the tests stand for the app's wheels.
    packages = os.fspath(Path(flask.__file__).parents[1])
    monkeypatch.setattr(sys, "path", ["", packages])
    monkeypatch.setattr(Gunicorn, "python", str(venv / "bin/python"))
    with Gunicorn(tmp_path, APP) as server:
        server.await_ready()
        facts = json.loads(server.get("/").body)
        assert server.stop() == 0
    assert facts == {
        "executable": f"{venv}/bin/python", "prefix": f"{venv}", "os": f"{venv}/python/lib/{MINOR}/os.py",
        "thing": f"{venv}/lib/{MINOR}/site-packages/thing/__init__.py",
    }  # fmt: skip


def test_an_archive_that_is_not_whole_ends_the_build(tmp_path: Path) -> None:
    (tmp_path / "wheels").mkdir()
    own_archive(tmp_path / "wheels/python.tar.gz")
    archive = tmp_path / "wheels/python.tar.gz"
    archive.write_bytes(archive.read_bytes()[:100_000])
    (tmp_path / "venv").mkdir()
    with pytest.raises(subprocess.CalledProcessError) as caught:
        build(tmp_path, tmp_path)
    assert b"tar" in caught.value.stderr
