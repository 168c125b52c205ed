"""A program that serves by itself: its bake, a push with visitors, HTTPS, and a port that the firewall closes."""

import os
import shlex
import time

import pytest
from conftest import baked_machine
from server_faults import LIMIT, assert_faults_end, page
from test_push import VISITORS, host, visited  # noqa: F401

pytestmark = pytest.mark.long

#: A server of Python's standard library that listens at all addresses. It starts slowly.
APP = """
import http.server, os, time
from urllib.parse import parse_qs, urlsplit

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        query = parse_qs(urlsplit(self.path).query)
        time.sleep(float(query.get("seconds", ["0"])[0]))
        if "memory" in query:
            len(b"x" * (int(query["memory"][0]) << 20))
        body = f"{os.getpid()} {self.headers['X-Forwarded-Proto']} version-one".encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

if __name__ == "__main__":
    time.sleep(5)
    http.server.ThreadingHTTPServer(("", int(os.environ["PORT"])), Handler).serve_forever()
"""
#: Prints the statuses of the program's port and of nginx, as another host gets them, and then that of the port without
#: the firewall. systemd-networkd would take the interface over, and remove its address: it configures any Ethernet.
FROM_ELSEWHERE = """
set -eu
printf '[Match]\\nName=visitor0\\n[Link]\\nUnmanaged=yes\\n' > /run/systemd/network/10-visitor.network
networkctl reload
ip netns add visitor
ip link add visitor0 type veth peer name visitor1 netns visitor
ip address add 192.0.2.1/30 dev visitor0
ip link set visitor0 up
ip -n visitor address add 192.0.2.2/30 dev visitor1
ip -n visitor link set visitor1 up
visit() { ip netns exec visitor curl -s -m 10 -o /dev/null -w '%{http_code} ' "http://192.0.2.1:$1/" || true; }
visit 8001
visit 80
nft insert rule inet app input tcp dport 8001 accept
visit 8001
systemctl reload nftables
ip netns delete visitor
rm /run/systemd/network/10-visitor.network
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The program, with a line of its own so that no cache answers."""
    folder = tmp_path_factory.mktemp("apps") / "own-server"
    folder.mkdir()
    base = os.environ.get("BAKE_TEST_BASE", "debian-13")
    (folder / "bake.yaml").write_text(f"base: {base}\nrun: python3 app.py\nlimits: {{request: {LIMIT}s}}\n")
    (folder / "app.py").write_text(f"{APP}\n# {os.urandom(8).hex()}\n")
    return folder


@pytest.fixture(scope="module")
def machine(folder, bake, tmp_path_factory):
    """A machine of the program's image, which its proof has compared with the same program without a machine."""
    with baked_machine(bake, folder, tmp_path_factory.mktemp("run")) as (booted, _):
        yield booted


def test_a_program_serves_over_https_and_the_firewall_closes_its_port(machine):
    assert page(machine)[1:] == ["https", "version-one"]
    assert machine.ssh("ss -Hlnt sport = :8001").stdout.split()[3] == "0.0.0.0:8001"
    assert machine.ssh(f"sudo sh -c {shlex.quote(FROM_ELSEWHERE)}").stdout.split() == ["000", "200", "200"]


def test_a_push_and_a_restart_fail_no_request(machine, host, folder, bake):  # noqa: F811
    source = folder / "app.py"
    source.write_text(source.read_text().replace("version-one", "version-two"))
    with visited(machine, VISITORS) as seen:
        pushed = bake("push", *host, folder)
        machine.ssh("sudo systemctl restart app", timeout=300)
    assert pushed.code == 0, pushed.stderr
    assert set(seen) == {"200"} and seen["200"] >= 100, seen
    assert page(machine)[1:] == ["https", "version-two"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("raise RuntimeError('broken on purpose')\n", "broken on purpose"),
        (APP.replace('int(os.environ["PORT"])', "5001"), "port: 5001"),
    ],
)
def test_a_release_that_does_not_serve_is_refused_with_its_reason(machine, host, folder, bake, text, message):  # noqa: F811
    source = folder / "app.py"
    whole = source.read_text()
    source.write_text(text)
    with visited(machine, VISITORS) as seen:
        pushed = bake("push", *host, folder)
    source.write_text(whole)
    assert pushed.code == 43 and message in pushed.stderr, pushed.stderr
    assert set(seen) == {"200"}, seen


def test_a_push_of_a_release_that_takes_60_s_to_start_fails_no_request(machine, host, folder, bake):  # noqa: F811
    source = folder / "app.py"
    source.write_text(source.read_text().replace("sleep(5)", "sleep(60)"))
    with visited(machine, VISITORS) as seen:
        pushed = bake("push", *host, folder)
    source.write_text(source.read_text().replace("sleep(60)", "sleep(5)"))
    assert pushed.code == 0, pushed.stderr
    assert set(seen) == {"200"}, seen
    assert bake("push", *host, folder).code == 0


def test_its_faults_end_with_the_request(machine, host, folder, bake):  # noqa: F811
    assert_faults_end(machine)
    source = folder / "app.py"
    # A program that can answer one request at a time is stuck, and starts again.
    source.write_text(source.read_text().replace("ThreadingHTTPServer", "HTTPServer"))
    assert bake("push", *host, folder).code == 0
    before = page(machine)
    machine.ssh("curl -sk -m 200 -o /dev/null 'https://127.0.0.1/?seconds=999'", timeout=240)
    time.sleep(3 * LIMIT)
    assert page(machine)[0] != before[0] and page(machine)[1:] == before[1:]
    assert "answers nothing within" in machine.ssh("sudo journalctl --namespace=* -u app -b -o cat").stdout
    source.write_text(source.read_text().replace("http.server.HTTPServer", "http.server.ThreadingHTTPServer"))


def test_a_program_with_its_own_port_is_pushed(machine, host, folder, bake):  # noqa: F811
    recipe, source = folder / "bake.yaml", folder / "app.py"
    recipe.write_text(f"{recipe.read_text()}port: 5001\n")
    source.write_text(source.read_text().replace('int(os.environ["PORT"])', "5001"))
    # The program of the release before had another port, so nothing is in the way of the new one.
    assert bake("push", *host, folder).code == 0
    source.write_text(source.read_text().replace("version-two", "version-three"))
    with visited(machine, VISITORS) as seen:
        pushed = bake("push", *host, folder)
    assert pushed.code == 0, pushed.stderr
    # Nothing can be exchanged, but visitors wait in the socket.
    assert set(seen) == {"200"}, seen
    assert page(machine)[1:] == ["https", "version-three"]
