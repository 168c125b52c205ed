"""Check the network during a proof: nobody reaches the computer that runs QEMU, and the app only its own machine.

With `check: {network: on}` the app reaches all else.
"""

import json
import os
import time

import pytest

#: Whether the app's network is closed. The value is a name of Network in bake/document/cloud_config.py.
CLOSED = os.environ["BAKE_NETWORK"] == "CLOSED"
AS_APP = "setpriv --reuid=app --regid=app --clear-groups "
#: Addresses of QEMU's network lead to the loopback address of the computer that runs QEMU. The others lead outside.
HOST = ["10.0.2.2", "10.0.2.3", "10.0.2.99", "255.255.255.255", "fec0::2", "fec0::3", "ff02::1"]
OUTSIDE = ["192.0.2.1", "2001:db8::1"]
#: Sends a datagram to each address, and prints the errors: EPERM if the firewall rejects it, 0 if it is sent.
SEND = """
import json, socket, sys
def sent(address, port):
    kind = socket.AF_INET6 if ':' in address else socket.AF_INET
    with socket.socket(kind, socket.SOCK_DGRAM) as client:
        if kind == socket.AF_INET:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        try:
            client.sendto(b'x', (address, port))
        except OSError as error:
            return error.errno
    return 0
print(json.dumps([sent(address, int(sys.argv[1])) for address in sys.argv[2:]]))
"""
REFUSED = 1


def send(host, port, addresses, prefix=""):
    words = " ".join(addresses)
    result = host.run(f"{prefix}python3 -c %s {port} {words}", SEND)
    assert result.rc == 0, result.stderr
    return dict(zip(addresses, json.loads(result.stdout), strict=True))


def test_nobody_reaches_the_computer_that_runs_the_machine(host):
    as_root = send(host, 9, HOST)
    # There is a route, because the name server answers at two of these addresses. So the firewall rejects the others.
    assert as_root["10.0.2.2"] == as_root["fec0::2"] == REFUSED
    assert 0 not in as_root.values()
    assert send(host, 9, HOST, AS_APP) == as_root
    assert set(send(host, 53, ["10.0.2.3", "fec0::3"]).values()) == {0}


def test_a_connection_of_root_s_is_refused_at_once(host):
    begin = time.monotonic()
    assert host.run("curl -s --max-time 20 -o /dev/null http://10.0.2.2:9/").rc == 7
    assert time.monotonic() - begin < 10


def test_the_app_reaches_the_world_only_where_the_recipe_says_so(host):
    as_root, as_app = send(host, 9, OUTSIDE), send(host, 9, OUTSIDE, AS_APP)
    # Without outside access, QEMU announces no IPv4 router, but the machine still has an IPv6 route.
    assert as_root["2001:db8::1"] == 0
    assert as_app == ({address: error or REFUSED for address, error in as_root.items()} if CLOSED else as_root)


def test_the_app_s_questions_for_names_stay_on_the_machine(host):
    resolved = ["127.0.0.53", "127.0.0.54"]
    assert set(send(host, 53, resolved).values()) == {0}
    assert set(send(host, 53, resolved, AS_APP).values()) == {REFUSED if CLOSED else 0}


@pytest.mark.parametrize("address", ["10.0.2.2", "192.0.2.1"])
def test_a_connection_of_the_app_s_is_refused_at_once(host, address):
    if not CLOSED and address == "192.0.2.1":
        pytest.skip("the recipe opens the network")
    begin = time.monotonic()
    # curl exits with 7 if the connection is refused. 28 would be a timeout, after the request left the machine.
    assert host.run(f"{AS_APP}curl -s --max-time 20 -o /dev/null http://{address}:9/").rc == 7
    assert time.monotonic() - begin < 10


def test_the_app_reaches_its_own_machine(host):
    machine_address = next(address for address in host.run("hostname -I").stdout.split() if "." in address)
    for address in ("127.0.0.1", machine_address):
        assert host.run(f"{AS_APP}curl -s --max-time 20 -o /dev/null http://{address}/").rc in (0, 52)
