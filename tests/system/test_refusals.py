"""Bad input: a short error that names the file or key and the way out, its own exit code, no traceback."""

import functools
import os
import shlex
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

FLASK = "from flask import Flask\napp = Flask(__name__)\n"


@pytest.fixture(scope="module")
def bake(bake, tmp_path_factory):
    """Call `bake` with a cache of this file's own: it waits for no bake of another process."""
    return functools.partial(bake, BAKE_CACHE=str(tmp_path_factory.mktemp("cache")))


def refused(called, code, *words):
    """The call failed with `code`, said `words`, and printed nothing else."""
    assert called.code == code, called.stderr
    assert called.stdout == ""
    assert "Traceback" not in called.stderr
    assert "error: " in called.stderr
    for word in words:
        assert word in called.stderr


def test_missing_folder(bake):
    refused(bake("image", "no-such-folder"), 10, "no-such-folder")


def test_no_wsgi_callable(app, bake):
    folder, write = app
    write("app.py", "print('hello')\n")
    refused(bake("image", folder), 11, "wsgi")


def test_two_callables(app, bake):
    folder, write = app
    write("other.py", FLASK)
    refused(bake("image", folder), 12, "app.py:3", "other.py:2", "wsgi: ")


def test_syntax_error(app, bake):
    folder, write = app
    write("app.py", FLASK + "def broken(:\n")
    refused(bake("image", folder), 13, "app.py:3")


def test_asgi_app_under_the_other_key(app, bake):
    folder, write = app
    write("app.py", "from fastapi import FastAPI\n\napp = FastAPI()\n")
    write("bake.yaml", "wsgi: app:app\n")
    refused(bake("image", folder), 14, "app.py:3", "asgi: app:app")


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("limits: {threads: many}\n", "limits.threads"),
        ("domians: [example.com]\n", "did you mean"),
        ("domains: [not a domain]\n", "domains[0]"),
        ("domains: [-]\nlimits: {request: soon}\nenvv: {}\n", "limits.request"),
    ],
)
def test_faults_of_the_recipe(app, bake, text, word):
    folder, write = app
    write("bake.yaml", text)
    refused(bake("image", folder), 15, "bake.yaml", word)


def test_all_faults_of_the_recipe_at_once(app, bake):
    folder, write = app
    write("bake.yaml", "domains: [-]\nlimits: {request: soon}\nenvv: {}\n")
    refused(bake("image", folder), 15, "domains[0]", "limits.request", "envv")


def test_requirement_that_does_not_exist(app, bake):
    folder, write = app
    write("requirements.txt", "flask\nno-such-package-of-anybodys==1.0\n")
    refused(bake("image", folder), 20, "requirements.txt:2", "no-such-package-of-anybodys")


def test_conflicting_requirements(app, bake):
    folder, write = app
    write("requirements.txt", "flask==3.0.0\nwerkzeug<2\n")
    refused(bake("image", folder), 21, "werkzeug")


def test_dependency_without_a_wheel(app, bake):
    folder, write = app
    write("requirements.txt", "flask\nMySQL-python==1.2.5\n")
    write("bake.yaml", "build: off\n")
    refused(bake("image", folder), 22, "requirements.txt:2", "mysql-python")


def test_no_network_to_the_index(app, bake, tmp_path):
    folder, write = app
    write("bake.yaml", "index: https://127.0.0.1:9/simple\n")
    refused(bake("image", folder, UV_HTTP_RETRIES="0", UV_CACHE_DIR=str(tmp_path / "uv")), 32, "127.0.0.1:9")


def test_no_network_to_the_archive(app, bake):
    folder, write = app
    write("bake.yaml", "mirror: http://127.0.0.1:9/debian\n")
    refused(bake("image", folder), 32, "127.0.0.1:9")


def test_no_such_debian_package(app, bake):
    folder, write = app
    write("bake.yaml", "packages: [no-such-debian-package]\n")
    refused(bake("image", folder), 20, "no-such-debian-package", "packages")


def path_with(tmp_path, **programs):
    """A PATH whose only packer is the one given, or none."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for place in map(Path, os.environ["PATH"].split(os.pathsep)):
        for program in place.iterdir() if place.is_dir() else ():
            # A link that leads nowhere is there, too.
            if program.name != "packer" and not os.path.lexists(folder / program.name):
                (folder / program.name).symlink_to(program)
    for name, script in programs.items():
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(stat.S_IRWXU)
    return str(folder)


def test_packer_missing(app, bake, tmp_path):
    folder, _ = app
    refused(bake("image", folder, PATH=path_with(tmp_path)), 30, "packer", "bake doctor")


def test_packer_too_old(app, bake, tmp_path):
    folder, _ = app
    refused(bake("image", folder, PATH=path_with(tmp_path, packer="echo Packer v1.4.5")), 30, "1.4.5", "1.6")


def test_port_in_use(app, bake):
    folder, _ = app
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused(bake("image", "--ssh-port", port, folder), 33, str(port))


def test_no_disk_space(app, where, tmp_path):
    # A cache on a disk of 32 MB, in a mount namespace of the test's own.
    folder, _ = app
    small = tmp_path / "small-disk"
    small.mkdir()
    bake = f"BAKE_CACHE={small}/cache exec {sys.executable} -m bake image {shlex.quote(str(folder))}"
    script = f"mount -t tmpfs -o size=32m tmpfs {small} && {bake}"
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script],
        cwd=where,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 31, done.stderr
    assert done.stdout == ""
    assert "small-disk" in done.stderr and "Traceback" not in done.stderr
