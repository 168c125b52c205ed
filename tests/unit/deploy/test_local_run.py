"""`bake run` on a QEMU that is a small program: its ports answer as a booting machine's do, and its console talks."""

from __future__ import annotations

import contextlib
import lzma
import os
import re
import select
import socket
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import PIPE, Popen

import pytest
from conftest import REPOSITORY, Fake

from bake.errors import PortError
from bake.host import programs
from bake.host.files import digest
from bake.image.manifest import ImageManifest

#: A machine: nginx answers at once, with its own 503 for two requests; the app's front page takes FRONT seconds.
#: SSH greets after SSH seconds, and `greeted` tells when it did.
MACHINE = f"""#!{sys.executable}
import http.server, os, re, socket, sys, threading, time
words = " ".join(sys.argv)
ports = {{int(there): int(here) for here, there in re.findall(r"hostfwd=tcp:127.0.0.1:(\\d+)-:(\\d+)", words)}}
folder = os.path.dirname(re.search(r"-serial file:(\\S+)", words)[1])
with open(os.environ["WORDS"], "w") as stream:
    stream.write(words)
with open(f"{{folder}}/console", "w") as stream:
    stream.write("\\x1b[2J\\x1b[1;1HGRUB\\r\\n[ OK ] Started \\x1b[32mnginx\\x1b[0m\\r\\n\\x1b[5A\\x1b[2K\\r\\n")

def ssh():
    time.sleep(float(os.environ["SSH"]))
    server = socket.create_server(("127.0.0.1", ports[22]))
    open(os.environ["WORDS"] + ".greeted", "w").close()
    while True:
        server.accept()[0].sendall(b"SSH-2.0-fake\\r\\n")

waiting = [503, 503]
class Nginx(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        status = 404 if "acme" in self.path else waiting.pop() if waiting else 200
        if status == 200:
            time.sleep(float(os.environ["FRONT"]))
        self.send_response(status)
        self.end_headers()
    def log_message(self, *words):
        pass

threading.Thread(target=ssh, daemon=True).start()
http.server.ThreadingHTTPServer(("127.0.0.1", ports[80]), Nginx).serve_forever()
"""
Start = Callable[..., Popen[str]]


@pytest.fixture
def bake_run(fake: Fake, tmp_path: Path) -> Iterator[Start]:
    """Start `bake run` on an image, with options, as a person does."""
    fake("qemu-system-x86_64", "").write_text(MACHINE)
    # Which boot it is, and the shell that a person asked for.
    fake("ssh", 'case "$*" in *boot_id*) echo a-boot;; *) echo "a shell: $*";; esac')
    programs.run(["qemu-img", "create", "-q", "-f", "qcow2", tmp_path / "image.qcow2", "1M"])
    started: list[Popen[str]] = []

    def start(*words: str, front: float = 0, ssh: float = 0) -> Popen[str]:
        environment = {
            **os.environ, "FRONT": str(front), "SSH": str(ssh), "WORDS": str(tmp_path / "words"),
            "BAKE_CACHE": str(tmp_path / "cache"), "PYTHONPATH": str(REPOSITORY),
        }  # fmt: skip
        argv = [sys.executable, "-m", "bake", "run", str(tmp_path / "image.qcow2"), *words]
        started.append(Popen(argv, cwd=tmp_path, env=environment, stdout=PIPE, stderr=PIPE, text=True))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def first_line(process: Popen[str], patience: float = 90) -> str:
    """The first line of a program's standard output; empty where none comes within `patience` seconds."""
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], patience)
    return process.stdout.readline().strip() if ready else ""


def end(process: Popen[str]) -> str:
    """Stop it as Ctrl-C does; what it said to a person."""
    process.terminate()
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    return said


def test_a_slow_front_page_is_an_answer(bake_run: Start) -> None:
    # Longer than a machine that does not listen yet is waited for.
    process = bake_run(front=3)
    url = first_line(process)
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/", url)
    with urllib.request.urlopen(url, timeout=10) as answer:
        assert answer.status == 200
    assert "press Ctrl-C to stop the machine" in end(process)


def test_the_age_of_the_image_is_printed(bake_run: Start, tmp_path: Path) -> None:
    (tmp_path / "image.json").write_text('{"made": "2026-01-02T03:04:05Z"}')
    process = bake_run()
    assert first_line(process).startswith("http")
    assert re.search(r"the image is \d+ days old; a new bake has today's security updates", end(process))


def test_the_security_updates_that_the_image_lacks_are_printed(bake_run: Start, tmp_path: Path) -> None:
    url = "https://archive.example/s"
    facts = ImageManifest(made="2026-01-02T03:04:05Z", security_url=url, packages={"nginx": "1.26.3-3"})
    (tmp_path / "image.json").write_text(facts.to_json())
    index = tmp_path / f"cache/security/{digest([url])}.xz"
    index.parent.mkdir(parents=True)
    index.write_bytes(lzma.compress(b"Package: nginx\nVersion: 1.26.3-4\n\n"))
    process = bake_run()
    assert first_line(process).startswith("http")
    assert "the image lacks security updates of nginx\n" in end(process)


def test_a_busy_8080_leads_to_a_free_port_and_a_note(bake_run: Start) -> None:
    with contextlib.ExitStack() as taken:
        # Somebody else may have it already.
        with contextlib.suppress(OSError):
            taken.enter_context(socket.create_server(("127.0.0.1", 8080)))
        process = bake_run()
        url = first_line(process)
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/", url) and not url.endswith(":8080/")
        port = url.rstrip("/").rpartition(":")[2]
        assert f"Port 8080 on 127.0.0.1 is in use; using port {port} instead\n" in end(process)


def test_a_busy_port_that_is_asked_for_is_refused_with_the_way_out(bake_run: Start, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process = bake_run("--port", str(port))
        out, said = process.communicate(timeout=60)
    assert (process.returncode, out) == (PortError.code, "")
    assert f"error: Port {port} on 127.0.0.1 is in use\n" in said
    assert "omit the option: bake then finds a free one" in said
    assert not (tmp_path / "words").exists()


def test_the_url_waits_for_ssh_where_a_shell_is_asked_for(bake_run: Start, tmp_path: Path) -> None:
    begun = time.monotonic()
    process = bake_run("--ssh", ssh=3)
    url = first_line(process)
    assert url.startswith("http://127.0.0.1:")
    assert (tmp_path / "words.greeted").exists() and time.monotonic() - begun > 3
    assert process.stdout is not None
    # What readline has read ahead is not lost to this.
    assert process.stdout.read().startswith("a shell: -t ")
    assert process.wait(20) == 0


def test_a_console_s_last_line_that_says_something_is_told(bake_run: Start, tmp_path: Path) -> None:
    fake_qemu = tmp_path / "fakes" / "qemu-system-x86_64"
    fake_qemu.write_text(MACHINE.replace("threading.Thread(target=ssh", "sys.exit(1)\nthreading.Thread(target=ssh"))
    process = bake_run()
    _, said = process.communicate(timeout=60)
    assert process.returncode == 45
    *_, first, second, error, hint = said.splitlines()
    assert [first, second, error, hint] == [
        "GRUB",
        "[ OK ] Started nginx",
        "error: QEMU ended while the machine was booting",
        "The console's last lines are above.",
    ]
