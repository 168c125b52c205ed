"""Check that the machine recovers from faults by itself, and that its limits hold."""

import json
import shlex
import time

import pytest

from bake.config import contract
from bake.config.providers import AWS_METADATA_SERVICES, METADATA_SERVICES

#: Seconds within which a killed app answers again, with the time that it needs to start: systemd waits 2 s, and a page
#: may take 60 s.
PATIENCE = 180


def eventually(condition, patience=PATIENCE):
    """Return the value of `condition()`, called each second until it is true or `patience` seconds have passed."""
    deadline = time.monotonic() + patience
    while not (value := condition()) and time.monotonic() < deadline:
        time.sleep(1)
    return value


@pytest.fixture
def patience(host):
    """Seconds within which the app answers again. Some apps load for minutes on an emulated machine."""
    names = ("InactiveExitTimestampMonotonic", "ActiveEnterTimestampMonotonic")
    begin, end = (int(host.run(f"systemctl show --value --property {name} app.service").stdout) for name in names)
    assert 0 < begin < end
    return PATIENCE + 3 * (end - begin) / 1_000_000


def test_a_killed_app_comes_back(host, healthy, patience):
    before = host.run("systemctl show --value --property MainPID app.service").stdout.strip()
    assert before != "0"
    assert host.run("kill -KILL %s", before).rc == 0
    assert eventually(healthy, patience)
    assert host.run("systemctl show --value --property MainPID app.service").stdout.strip() != before


def test_a_killed_web_server_comes_back(host, healthy, patience):
    assert host.run("systemctl kill --signal KILL nginx.service").rc == 0
    assert eventually(healthy, patience)


def test_visitors_get_a_page_with_status_503_while_the_app_is_down(host, fetch, healthy, patience):
    assert host.run("systemctl stop app.socket app.service").rc == 0
    try:
        answer = fetch("/", "https", body=True)
        assert answer.status == 503
        assert answer.headers["retry-after"] == "10"
        assert b"One moment" in answer.body
    finally:
        assert host.run("systemctl restart app-setup.service").rc == 0
    assert eventually(healthy, patience)


def test_a_setup_that_succeeds_reports_no_error(host):
    assert json.loads(host.run(f"cat {contract.RESULT}").stdout) == {"step": "app"}


def test_a_challenge_is_answered_and_text_compressed(host, fetch):
    folder = "/var/lib/letsencrypt/http/.well-known/acme-challenge"
    host.run(f"mkdir -p {folder} && seq 1000 > {folder}/probe")
    answer = fetch("/.well-known/acme-challenge/probe", options="--compressed", body=True)
    host.run("rm -r /var/lib/letsencrypt/http/.well-known")
    assert answer.body.split() == [b"%d" % number for number in range(1, 1001)]
    assert answer.headers["content-encoding"] == "gzip"


#: Sends half a request, and then nothing. Prints the seconds until the server closes the connection.
SLOW_CLIENT = """
import contextlib, socket, time
started = time.monotonic()
client = socket.create_connection(('127.0.0.1', 80))
client.sendall(b'GET / HTTP/1.1\\r\\nHost: ')
with contextlib.suppress(ConnectionResetError):
    client.recv(1)
print(time.monotonic() - started)
"""


def test_a_slow_client_is_disconnected(host):
    # nginx's client_header_timeout is 5 s.
    assert 4 < float(host.run("timeout 30 python3 -c %s", SLOW_CLIENT).stdout) < 15


def test_names_given_on_the_machine_are_the_only_ones_answered(host, fetch):
    host.run("echo only.example > /etc/app/domains")
    try:
        assert host.run("systemctl restart app-configure && systemctl reload nginx && sleep 1").rc == 0
        # nginx answers this path without the app, which may be slow.
        for scheme in ("http", "https"):
            assert fetch("/.well-known/acme-challenge/none", scheme, as_name="only.example").status == 404
        # 52 and 56: the server closed without an answer; 35: the TLS handshake was refused.
        assert fetch("/", "http", as_name="stranger.example").headers["curl"] in ("52", "56")
        assert fetch("/", "https", as_name="stranger.example").headers == {"curl": "35"}
    finally:
        host.run("rm /etc/app/domains; systemctl restart app-configure; systemctl reload nginx")


#: Addresses of the providers' metadata services; a link-local one of IPv6 needs the name of its link.
METADATA = tuple(
    f"{address}%lo" if address.startswith("fe80:") else address
    for services in METADATA_SERVICES.values()
    for address in services
)
#: Connects to ports 80 and 22 of each address concurrently, and prints a JSON list of the successful targets.
CONNECT = """
import concurrent.futures, json, socket, sys
def connects(target):
    try:
        socket.create_connection(target, 4).close()
        return target
    except OSError:
        return None
targets = [(address, port) for address in sys.argv[1:] for port in (80, 22)]
with concurrent.futures.ThreadPoolExecutor(len(targets)) as pool:
    print(json.dumps([target for target in pool.map(connects, targets) if target]))
"""


def test_the_app_reaches_no_metadata_service_that_answers(host, recipe):
    """nginx and sshd answer at each address, but the app's user and unit cannot connect."""
    plain = " ".join(address.removesuffix("%lo") for address in METADATA)
    limits = host.run("systemctl show --property IPAddressDeny --property IPAddressAllow app.service").stdout
    unit = ["systemd-run", "--quiet", "--pipe", "--wait", "--collect"]
    unit += [word for line in limits.splitlines() if not line.endswith("=") for word in ("-p", line)]
    user = ["setpriv", "--reuid=app", "--regid=app", "--clear-groups"]
    host.run(f"for address in {plain}; do ip address add $address dev lo; done")

    def reached(*before):
        command = shlex.join([*before, "python3", "-c", CONNECT, *METADATA])
        return {tuple(target) for target in json.loads(host.run(command).stdout)}

    try:
        # root without the unit's limits reaches all of them, so only the limits can refuse the others.
        assert reached() == {(address, port) for address in METADATA for port in (80, 22)}
        opened = {*AWS_METADATA_SERVICES} if recipe.get("aws", {}).get("role") else set()
        assert reached(*user) == {(address, 80) for address in opened}
        assert reached(*unit) == {(address, port) for address in opened for port in (80, 22)}
    finally:
        host.run(f"for address in {plain}; do ip address delete $address dev lo; done")


def test_the_app_can_write_only_its_data(host):
    # Run as the app's user in a part of its sandbox, to check the effect of systemd's directives in the kernel.
    command = (
        "systemd-run --quiet --pipe --wait --collect -p User=app -p ProtectSystem=strict "
        "-p StateDirectory=app -p StateDirectoryMode=0750 "
        "sh -c 'touch /var/lib/app/probe && rm /var/lib/app/probe && ! touch /srv/app/current/source/probe'"
    )
    assert host.run(command).rc == 0
