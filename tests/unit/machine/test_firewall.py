"""The firewall's rules, by Debian's nft and the kernel, in a network namespace of the test's own."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from conftest import PROGRAMS
from test_connection_limits import nft

from bake.config import contract
from bake.host import programs

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
    program = nft()
    (tmp_path / "rules").write_text((PROGRAMS / "firewall.nft").read_text().replace(contract.CURRENT, str(tmp_path)))
    own_user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    libraries = str(next(iter(program.parents[1].glob("lib/*-linux-gnu")), ""))
    done = programs.run(
        ["unshare", *own_user, "--net", sys.executable, "-c", CLIENT, program, "-f", tmp_path / "rules"],
        env={**os.environ, "LD_LIBRARY_PATH": libraries}, check=False, timeout=120,
    )  # fmt: skip
    if "unshare:" in done.stderr or "Operation not supported" in done.stderr:
        pytest.skip(f"no firewall in a network namespace here: {done.stderr}")
    assert done.status == 0, done.stderr
    assert int(done.stdout) == 0
