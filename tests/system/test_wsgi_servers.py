"""A WSGI app under gunicorn and waitress: pushes between them and uWSGI with visitors, and their faults."""

import os
import re

import pytest
from conftest import baked_machine
from server_faults import LIMIT, assert_faults_end, page
from test_push import VISITORS, host, visited  # noqa: F401

pytestmark = pytest.mark.long

APP = """
import os, time
from urllib.parse import parse_qs

time.sleep(0)

def app(environ, start_response):
    query = parse_qs(environ["QUERY_STRING"])
    time.sleep(float(query.get("seconds", ["0"])[0]))
    if "memory" in query:
        len(b"x" * (int(query["memory"][0]) << 20))
    name = "uwsgi" if "uwsgi.version" in environ else environ["SERVER_SOFTWARE"]
    words = [str(os.getpid()), name, environ["wsgi.url_scheme"], environ["REMOTE_ADDR"], "version 0"]
    body = " ".join(words).encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
"""
RECIPE = f"wsgi: app:app\nrequirements: []\nlimits: {{request: {LIMIT}s}}\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The app, with a line of its own so that no cache answers."""
    folder = tmp_path_factory.mktemp("apps") / "servers"
    folder.mkdir()
    base = os.environ.get("BAKE_TEST_BASE", "debian-13")
    (folder / "bake.yaml").write_text(f"base: {base}\n{RECIPE}server: gunicorn\n")
    (folder / "app.py").write_text(f"{APP}\n# {os.urandom(8).hex()}\n")
    return folder


@pytest.fixture(scope="module")
def machine(folder, bake, tmp_path_factory):
    with baked_machine(bake, folder, tmp_path_factory.mktemp("servers")) as (booted, _):
        yield booted


def set_server(folder, server, version, start=0):
    """Write the next version, which takes `start` seconds to load."""
    recipe, source = folder / "bake.yaml", folder / "app.py"
    line = "" if server == "uwsgi" else f"server: {server}\n"
    recipe.write_text(f"{recipe.read_text().splitlines()[0]}\n{RECIPE}{line}")
    text = re.sub(r"(?m)^time.sleep\(\d+\)", f"time.sleep({start})", source.read_text())
    source.write_text(text.replace(f"version {version - 1}", f"version {version}"))


def test_the_image_has_the_server_of_the_recipe(machine):
    _, server, *words = page(machine)
    assert server.startswith("gunicorn") and words == ["https", "127.0.0.1", "version", "0"]


@pytest.mark.parametrize(
    ("server", "version", "start", "failed"),
    [
        ("gunicorn", 1, 60, 0),
        ("waitress", 2, 0, 0),
        ("waitress", 3, 60, 0),
        # nginx changes its protocol before the new workers serve (docs/reference/limitations.md).
        ("uwsgi", 4, 0, 0.01),
        ("uwsgi", 5, 60, 0),
        ("gunicorn", 6, 0, 0.01),
    ],
)
def test_a_push_fails_at_most_a_share_of_the_requests(machine, host, folder, bake, server, version, start, failed):  # noqa: F811
    set_server(folder, server, version, start)
    with visited(machine, VISITORS) as seen:
        pushed = bake("push", *host, folder)
    assert pushed.code == 0, pushed.stderr
    assert seen["200"] >= max(1000, (1 - failed) * sum(seen.values())), seen
    words = page(machine)
    assert words[1].startswith(server) and words[2:] == ["https", "127.0.0.1", "version", str(version)]


@pytest.mark.parametrize(("server", "version"), [("gunicorn", 7), ("waitress", 8), ("uwsgi", 9)])
def test_its_faults_end_with_the_request(machine, host, folder, bake, server, version):  # noqa: F811
    set_server(folder, server, version)
    assert bake("push", *host, folder).code == 0
    assert_faults_end(machine)
