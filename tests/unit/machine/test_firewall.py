"""The firewall's rules, by Debian's nft and the kernel, in a network namespace of the test's own."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import PROGRAMS, REPOSITORY
from test_connection_limits import in_namespace, nft

from bake.config import contract

#: Configures the loopback device, loads the rules with the command argv[1:], opens 50 connections to each of two ports,
#: and prints the number of rows in the kernel's table of connections.
CLIENT = """
import fcntl, socket, struct, subprocess, sys
with socket.socket() as ipv4:
    fcntl.ioctl(ipv4, 0x8914, struct.pack("16sH14x", b"lo", 0x41))
subprocess.run(sys.argv[1:], check=True)
kept = []
for port in (80, 8000):
    listener = socket.create_server(("127.0.0.1", port), backlog=128)
    kept += [listener, *(socket.create_connection(("127.0.0.1", port), 5) for _ in range(50))]
print(open("/proc/sys/net/netfilter/nf_conntrack_count").read())
"""


def test_connections_to_this_machine_are_in_no_table(tmp_path: Path) -> None:
    rules = tmp_path / "rules"
    rules.write_text((PROGRAMS / "firewall.nft").read_text().replace(contract.CURRENT, str(tmp_path)))
    assert int(in_namespace(CLIENT, nft(), "-f", rules)) == 0


#: Rules as those of an older bake, which track all connections, and rules that track none. Both read the state of a
#: connection, or the kernel would begin anew.
OLDER = """
table inet t
delete table inet t
table inet t {
    chain input {
        type filter hook input priority filter
        ct state established accept
        ct state invalid drop
    }
}
"""
NEWER = """
table inet t
delete table inet t
table inet t {
    chain from {
        type filter hook prerouting priority raw
        notrack
    }
    chain to {
        type filter hook output priority raw
        notrack
    }
    chain input {
        type filter hook input priority filter
        ct state established accept
    }
}
"""
#: Opens a connection under the rules argv[1], sends an answer on it under the rules argv[2], and prints whether the
#: next request arrives under the first rules. argv[3] is the value of the kernel's setting argv[4]; argv[5] is nft.
RETURN = """
import fcntl, socket, struct, subprocess, sys
older, newer, value, setting, nft = sys.argv[1:]
with socket.socket() as ipv4:
    fcntl.ioctl(ipv4, 0x8914, struct.pack("16sH14x", b"lo", 0x41))
def load(rules):
    subprocess.run([nft, "-f", "-"], input=rules, text=True, check=True)
load(older)
with socket.create_server(("127.0.0.1", 80)) as listener, socket.create_connection(("127.0.0.1", 80), 5) as client:
    server, _ = listener.accept()
    load(newer)
    server.sendall(b"an answer")
    client.recv(99)
    with open(setting, "w") as stream:
        stream.write(value)
    load(older)
    client.sendall(b"a request")
    server.settimeout(3)
    try:
        print(server.recv(99) == b"a request")
    except TimeoutError:
        print(False)
"""


@pytest.mark.parametrize(("setting", "arrives"), [("0", False), ("1", True)])
def test_an_open_connection_survives_the_return_to_rules_that_track_it(setting: str, arrives: bool) -> None:
    # `bake upgrade` writes 1 before it puts the rules of an older bake back.
    path = "/proc/sys/net/netfilter/nf_conntrack_tcp_be_liberal"
    assert f'Path("{path[1:]}")' in (REPOSITORY / "cloud-init/upgrade/renew.py").read_text()
    assert in_namespace(RETURN, OLDER, NEWER, setting, path, nft()) == str(arrives)
