"""A WSGI app under gunicorn and waitress: pushes between them and uWSGI with visitors, and their faults."""

import os
import time

import pytest
from conftest import baked_machine
from test_push import VISITORS, host, visited  # noqa: F401

pytestmark = pytest.mark.long

APP = """
import os, time
from urllib.parse import parse_qs

def app(environ, start_response):
    query = parse_qs(environ["QUERY_STRING"])
    time.sleep(float(query.get("seconds", ["0"])[0]))
    if "memory" in query:
        len(b"x" * (int(query["memory"][0]) << 20))
    name = "uwsgi" if "uwsgi.version" in environ else environ["SERVER_SOFTWARE"]
    body = " ".join([name, environ["wsgi.url_scheme"], environ["REMOTE_ADDR"], str(os.getpid()), "version 0"]).encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
"""
#: Seconds for one request.
LIMIT = 10
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


def page(machine, path="/"):
    """The words that a page shows: the server, the scheme, the visitor, the process and the version."""
    return machine.ssh(f"curl -sk -m 150 'https://127.0.0.1{path}'", timeout=200).stdout.split()


def set_server(folder, server, version):
    recipe, source = folder / "bake.yaml", folder / "app.py"
    line = "" if server == "uwsgi" else f"server: {server}\n"
    recipe.write_text(f"{recipe.read_text().splitlines()[0]}\n{RECIPE}{line}")
    source.write_text(source.read_text().replace(f"version {version - 1}", f"version {version}"))


def test_the_image_has_the_server_of_the_recipe(machine):
    server, scheme, visitor, _, *version = page(machine)
    assert server.startswith("gunicorn") and (scheme, visitor) == ("https", "127.0.0.1") and version[-1] == "0"


@pytest.mark.parametrize(
    ("server", "version", "failed"),
    [
        ("gunicorn", 1, 0),
        ("waitress", 2, 0),
        ("waitress", 3, 0),
        # nginx changes its protocol before the new workers serve (docs/reference/limitations.md).
        ("uwsgi", 4, 0.01),
        ("gunicorn", 5, 0.01),
    ],
)
def test_a_push_fails_at_most_a_share_of_the_requests(machine, host, folder, bake, server, version, failed):  # noqa: F811
    set_server(folder, server, version)
    with visited(machine, VISITORS) as seen:
        pushed = bake("push", *host, folder)
    assert pushed.code == 0, pushed.stderr
    assert seen["200"] >= max(1000, (1 - failed) * sum(seen.values())), seen
    words = page(machine)
    assert words[0].startswith(server) and words[1:3] == ["https", "127.0.0.1"] and words[-1] == str(version)


@pytest.mark.parametrize(("server", "version"), [("gunicorn", 6), ("waitress", 7)])
def test_its_faults_end_with_the_request(machine, host, folder, bake, server, version):  # noqa: F811
    set_server(folder, server, version)
    assert bake("push", *host, folder).code == 0
    # A stop finishes a long request, and visitors wait for the next start.
    machine.ssh("curl -sk -m 90 -o /tmp/long -w '%{http_code}' 'https://127.0.0.1/?seconds=5' > /tmp/status &")
    time.sleep(2)
    machine.ssh("sudo systemctl restart app", timeout=200)
    assert page(machine)[-1] == str(version)
    assert machine.ssh("cat /tmp/status").stdout == "200"
    # A request that exceeds its limit, and one that takes more memory than the machine has.
    status = "curl -sk -m 150 -o /dev/null -w '%{http_code}' 'https://127.0.0.1"
    assert machine.ssh(f"{status}/?seconds=99'", timeout=200).stdout == "504"
    assert machine.ssh(f"{status}/?memory=4000'", timeout=200).stdout in ("500", "502", "503", "504")
    assert page(machine)[-1] == str(version)
    # A process that is killed.
    machine.ssh(f"sudo kill -KILL {page(machine)[3]}")
    assert page(machine)[-1] == str(version)
