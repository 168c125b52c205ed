"""The limits of connections: Debian's nft and the kernel, in a network namespace with the machine's own rules."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import pytest
from conftest import PROGRAMS

from bake.bundle import release_files
from bake.config import contract
from bake.config.recipe import Recipe
from bake.host import programs

#: Configures the loopback device, loads the rules with the command argv[3:], and prints how many connections to port
#: argv[1] succeed: argv[2] of one address, and some of others.
CLIENT = """
import contextlib, fcntl, json, resource, socket, struct, subprocess, sys, time
port, tries, command = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
with socket.socket() as ipv4, socket.socket(socket.AF_INET6) as ipv6:
    fcntl.ioctl(ipv4, 0x8914, struct.pack("16sH14x", b"lo", 0x41))
    for address in ("fd00::1", "fd00::2", "fd00:0:0:1::1"):
        fcntl.ioctl(ipv6, 0x8916, socket.inet_pton(socket.AF_INET6, address) + struct.pack("Ii", 128, 1))
# A reload replaces the rules.
for _ in range(2):
    subprocess.run(command, check=True)

def connects(family, server, client, patience=0.2):
    with socket.socket(family) as stream:
        stream.settimeout(patience)
        stream.bind((client, 0))
        return stream.connect_ex((server, port)) == 0

def at_once(family, server, client):
    with contextlib.ExitStack() as stack:
        streams = [stack.enter_context(socket.socket(family)) for _ in range(tries)]
        for stream in streams:
            stream.setblocking(False)
            stream.bind((client, 0))
            stream.connect_ex((server, port))
        time.sleep(0.2)
        # A second call returns EISCONN if the first one succeeded.
        return sum(stream.connect_ex((server, port)) in (0, 106) for stream in streams)

resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
results = {}
for family, server, same, neighbour, other in (
    (socket.AF_INET, "127.0.0.1", "127.0.0.2", "127.0.0.2", "127.0.0.3"),
    (socket.AF_INET6, "::1", "fd00::1", "fd00::2", "fd00:0:0:1::1"),
):
    listener = socket.create_server((server, port), family=family, backlog=2000)
    results[family.name] = {
        "at once": at_once(family, server, same),
        "neighbour": sum(connects(family, server, neighbour) for _ in range(5)),
        "other": sum(connects(family, server, other) for _ in range(5)),
        "patient": connects(family, server, same, 20),
    }
print(json.dumps(results))
"""


def nft() -> Path:
    """Return the path of nft: the system's, or the one that `nox -s unit` unpacked beside this Python."""
    beside = str(Path(sys.executable).parent)
    path = shutil.which("nft", path=os.pathsep.join([beside, programs.search_path(), "/usr/sbin"]))
    if not path:
        pytest.skip("nft is not installed; `nox -s unit` unpacks Debian's")
    return Path(path).resolve()


def in_namespace(script: str, *words: str | Path) -> str:
    """Return what a script prints in a network namespace of its own. The last words are nft and its arguments."""
    own_user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    libraries = str(next(iter(nft().parents[1].glob("lib/*-linux-gnu")), ""))
    done = programs.run(
        ["unshare", *own_user, "--net", sys.executable, "-c", script, *words],
        env={**os.environ, "LD_LIBRARY_PATH": libraries}, check=False, timeout=120,
    )  # fmt: skip
    if "unshare:" in done.stderr or "Operation not supported" in done.stderr:
        pytest.skip(f"no firewall in a network namespace here: {done.stderr}")
    assert done.status == 0, done.stderr
    return done.stdout.strip()


def connections(feature: str, port: int, tries: int, work: Path) -> dict[str, dict[str, int]]:
    """Return how many connections succeed, for IPv4 and IPv6, with the rules of a feature."""
    (work / "settings").mkdir()
    for name, file in release_files.feature_files(feature).items():
        (work / name).write_text(file.text)
    rules = (PROGRAMS / "firewall.nft").read_text().replace(contract.CURRENT, str(work))
    (work / "rules").write_text(rules)
    words = (str(port), str(tries), nft(), "-f", work / "rules")
    counts: dict[str, dict[str, int]] = json.loads(in_namespace(CLIENT, *words))
    return counts


def test_an_address_waits_after_sixty_ssh_connections(tmp_path: Path) -> None:
    for family, result in connections("ssh-limit", 22, 66, tmp_path).items():
        # A connection more is allowed every two seconds, also during the test.
        assert 60 <= result["at once"] < 66 and result["neighbour"] < 5, (family, result)
        assert result["other"] == 5 and result["patient"], (family, result)


def test_an_address_waits_after_a_thousand_web_connections(tmp_path: Path) -> None:
    """Many more are allowed each second, also during the test."""
    for family, result in connections("web-limit", 443, 2000, tmp_path).items():
        assert 1000 <= result["at once"] < 2000, (family, result)
        assert result["other"] == 5 and result["patient"], (family, result)


def test_machines_without_penalties_of_sshd_have_the_limit(app: Path) -> None:
    limited, by_sshd = (Recipe.model_validate({"wsgi": "app:app", "base": base}) for base in ("debian-12", "debian-13"))
    assert "settings/ssh.nft" in release_files.files(app, limited, [])
    assert "settings/ssh.nft" not in release_files.files(app, by_sshd, [])
