"""An app of the kind that people have: static files of all sorts, and a front page that is no plain 200."""

import os
import random
from pathlib import Path

import pytest
from conftest import settled

from bake.config import contract
from bake.verify import proof

pytestmark = pytest.mark.long

APP = """
import gzip
import os
import socket
import sys
import time

from flask import Flask, Response, abort, jsonify, redirect, request

FRONT = os.environ.get("FRONT", "")
app = Flask(__name__)
# What the journal gets is not always text.
sys.stdout.buffer.write(b"caf\\xe9 \\xff\\n")
# A client's socket looks like a server's: it is bound by the first packet that it sends.
statsd = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
statsd.sendto(b"started:1|c", ("127.0.0.1", 8125))


@app.route("/")
def front():
    if request.method == "HEAD":
        abort(405)
    if FRONT == "redirect":
        return redirect("https://www.example/elsewhere?a=b#c")
    if FRONT.isdigit():
        abort(int(FRONT))
    if FRONT == "json":
        return jsonify(error=None, items=[])
    if FRONT == "slow":
        time.sleep(10)
        return "at last"
    if FRONT == "large":
        return "<p>\\n" * (5 << 18)
    if FRONT == "empty":
        return ""
    if FRONT == "headers":
        response = Response(gzip.compress(b"<p>" * 1000), headers={
            "Content-Encoding": "gzip", "Server": "Shop/1.2.3", "X-Powered-By": "Shop", "X-Frame-Options": "DENY",
            "Strict-Transport-Security": "max-age=60", "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff", "Content-Security-Policy": "img-src " + "x" * 2000,
        })
        response.set_cookie("session", "s" * 4000)
        response.set_cookie("other", "o" * 4000)
        return response
    return "Hello"


@app.route("/static/made-up.js")
def made_up():
    return Response("1;", mimetype="text/javascript")
"""
RECIPE = f"""
name: any-app
static: {{/static: static, /static/more: more}}
writable: [static/uploads]
check: {{env: {{FRONT: slow}}}}
base: {os.environ.get("BAKE_TEST_BASE", "debian-13")}
"""
#: Names that URLs, shells or nginx's configuration read in a way of their own.
NAMES = (
    "with space.txt", "grüße.css", "日本.png", "latin-\udce9", "100%.txt", "%41", "what?.css", "a#b", "it's",
    'say "hi"', "-dash", ".hidden", "a&b=c;d+e", "back\\slash", "new\nline", "[1-3]{a,b}.js", "~", "$host", "x" * 255,
)  # fmt: skip
FRONTS = ("redirect", "401", "403", "404", "json", "slow", "large", "empty", "headers")


@pytest.fixture(scope="module")
def any_app(tmp_path_factory):
    """The folder of the app. The bake's proof asks the slow front page."""
    folder = tmp_path_factory.mktemp("apps") / "any-app"
    static = folder / "static"
    (static / "uploads").mkdir(parents=True)
    (folder / "app.py").write_text(APP)
    (folder / "requirements.txt").write_text("flask\n")
    (folder / "bake.yaml").write_text(RECIPE)
    for name in NAMES:
        (static / name).write_bytes(b"of " + os.fsencode(name))
    (static / "favicon.ico").write_bytes(bytes(range(256)))
    (static / "empty.css").touch()
    (static / "video.mp4").write_bytes(random.Random(1).randbytes(50 << 20))
    (static / "uploads" / "first.jpg").write_bytes(b"\xff\xd8\xff")
    deep = static / ("d" * 200) / ("é" * 100)
    deep.mkdir(parents=True)
    (deep / "deep.js").write_text("deep")
    for name in ("shared", "more"):
        (folder / name).mkdir()
        (folder / name / "logo.svg").write_text(f"<svg>{name}</svg>")
    (static / "shared").symlink_to("../shared")
    (static / "linked.svg").symlink_to("../shared/logo.svg")
    # Its URL is of the other prefix.
    (static / "more").mkdir()
    (static / "more" / "unreachable.css").touch()
    return folder


@pytest.fixture(scope="module")
def booted(any_app, bake, tmp_path_factory):
    """A machine of its image."""
    called = bake("image", any_app, timeout=2400)
    assert called.code == 0, called.stderr
    with settled(Path(called.stdout.strip()), tmp_path_factory.mktemp("any-app"), proof.UserData()) as machine:
        # The author's server showed the slow front page. The cases show others, so nothing is compared with it.
        machine.ssh(f"sudo rm {contract.AUTHOR}")
        yield machine


def show(machine, front):
    """Have the app show another front page."""
    machine.ssh("sudo sh -c 'cat > /etc/app/env; systemctl start app-setup'", stdin=f"FRONT={front}\n", timeout=300)


def failures(machine, suite, work):
    """What a suite of checks says against the machine."""
    work.mkdir()
    return proof.run_checks(machine, [suite], work).failures


@pytest.mark.parametrize("front", FRONTS)
def test_any_front_page_passes_the_checks(booted, front, tmp_path):
    show(booted, front)
    assert failures(booted, "machine", tmp_path / "machine") == ()


def test_a_machine_whose_front_page_is_forbidden_gets_over_faults(booted, tmp_path):
    show(booted, "403")
    assert failures(booted, "proof/test_faults.py", tmp_path / "faults") == ()


def test_what_nginx_lacks_or_may_not_read_the_app_answers(booted):
    photo = "/var/lib/app/static/uploads/photo.jpg"
    booted.ssh(f"sudo sh -c 'umask 077; printf photo > {photo}; chown app: {photo}'")
    ask = "curl -sk -o /tmp/body -w '%{http_code} %{content_type}' https://127.0.0.1"
    for path, status, body in (
        ("/static/uploads/photo.jpg", "200 image/jpeg", "photo"),
        ("/static/made-up.js", "200 text/javascript; charset=utf-8", "1;"),
        ("/static/more/logo.svg", "200 image/svg+xml", "<svg>more</svg>"),
    ):
        assert booted.ssh(f"{ask}{path}").stdout == status
        assert booted.ssh("cat /tmp/body").stdout == body
    assert booted.ssh(f"{ask}/static/none.css").stdout == "404 text/html; charset=utf-8"


def test_another_byte_in_a_static_file_is_seen(booted, tmp_path):
    show(booted, "json")
    script = """
    cp -a /srv/app/current/source/static /srv/app/copy
    printf 'x' | dd of=/srv/app/copy/video.mp4 bs=1 seek=50000000 conv=notrunc
    sed -i 's#/srv/app/current/source/static/;#/srv/app/copy/;#' /srv/app/current/settings/nginx/static.conf
    systemctl reload nginx
    sleep 2
    """
    booted.ssh("sudo sh -s", stdin=script)
    ((name, said),) = failures(booted, "machine", tmp_path / "machine")
    assert "test_static_files_come_from_nginx" in name
    assert "/static/video.mp4: other bytes between" in said
