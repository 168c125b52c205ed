"""Names that are proved by their zone: the machine's program for it, and a name server of the test's own."""

from __future__ import annotations

import base64
import socketserver
import stat
import threading
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import dns.flags
import dns.message
import dns.opcode
import dns.query
import dns.rcode
import dns.rrset
import dns.tsig
import dns.update
import pytest

from bake.host import paths

SECRET = base64.b64encode(b"a key of the test's own").decode()
OTHER = base64.b64encode(b"another").decode()
TOKEN = "a-token"


@pytest.fixture
def zone(rooted: Callable[..., ModuleType], monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The program, below a folder of the test's; its key is there."""
    module = rooted("zone.py", paths.features() / "certificate-dns")
    monkeypatch.setattr(module, "PATIENCE", 2)
    module.KEY.write_text(f"{SECRET}\n")
    return module


class NameServer(socketserver.ThreadingTCPServer):
    """Serves the zone shop.example to who has the key, and answers updates with `code`."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.code = dns.rcode.NOERROR
        self.updates: list[dns.message.Message] = []
        key = dns.tsig.Key("a-key", SECRET, "hmac-sha512")
        self.keyring = {key.name: key}


class Answer(socketserver.BaseRequestHandler):
    """One question."""

    server: NameServer

    def handle(self) -> None:
        size = int.from_bytes(self.request.recv(2), "big")
        wire = self.request.recv(size)
        try:
            asked = dns.message.from_wire(wire, keyring=self.server.keyring)
        except (dns.tsig.BadSignature, dns.message.UnknownTSIGKey):
            # BIND says besides what is wrong with the key; not every server does.
            answer = dns.message.make_response(dns.message.from_wire(wire, question_only=True))
            answer.set_rcode(dns.rcode.NOTAUTH)
            self.send(answer.to_wire())
            return
        answer = dns.message.make_response(asked)
        if asked.opcode() == dns.opcode.UPDATE:
            self.server.updates.append(asked)
            answer.set_rcode(self.server.code)
        elif str(asked.question[0].name) == "shop.example.":
            answer.flags |= dns.flags.AA
            answer.answer.append(dns.rrset.from_text("shop.example.", 60, "IN", "SOA", "ns. me. 1 2 3 4 5"))
        else:
            answer.set_rcode(dns.rcode.REFUSED)
        self.send(answer.to_wire())

    def send(self, made: bytes) -> None:
        self.request.sendall(len(made).to_bytes(2, "big") + made)


@pytest.fixture
def server() -> Iterator[NameServer]:
    with NameServer() as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield server
        server.shutdown()


def said(server: NameServer | None = None, **more: object) -> dict[str, Any]:
    port = server.server_address[1] if server else 53
    return {"server": "127.0.0.1", "port": port, "key": "a-key", "algorithm": "HMAC-SHA512", "wait": 5, **more}


def test_a_name_that_a_wildcard_stands_for_is_not_asked_for_beside_it(zone: ModuleType) -> None:
    names = ["shop.example", "*.shop.example", "www.shop.example", "a.b.shop.example", "other.example"]
    assert zone.needed(names) == ["shop.example", "*.shop.example", "a.b.shop.example", "other.example"]


def test_certbot_is_told_of_the_key_by_a_file_that_root_alone_reads(zone: ModuleType) -> None:
    made = zone.Zone(said())
    assert [str(word) for word in made.options] == [
        "--dns-rfc2136", "--dns-rfc2136-credentials", str(zone.CREDENTIALS), "--dns-rfc2136-propagation-seconds", "5",
    ]  # fmt: skip
    assert not any(SECRET in str(word) for word in made.options)
    assert stat.S_IMODE(zone.CREDENTIALS.stat().st_mode) == 0o600
    rows = dict(line.split(" = ", 1) for line in zone.CREDENTIALS.read_text().splitlines())
    assert rows == {
        "dns_rfc2136_server": "127.0.0.1", "dns_rfc2136_port": "53", "dns_rfc2136_algorithm": "HMAC-SHA512",
        "dns_rfc2136_name": "a-key", "dns_rfc2136_secret": SECRET, "dns_rfc2136_sign_query": "true",
    }  # fmt: skip
    before = zone.CREDENTIALS.stat().st_ino
    zone.Zone(said())
    assert zone.CREDENTIALS.stat().st_ino == before
    # Renewals are made with the key that is there now.
    zone.KEY.write_text(OTHER)
    zone.Zone(said())
    assert OTHER in zone.CREDENTIALS.read_text()


def test_without_a_key_nothing_is_asked(zone: ModuleType) -> None:
    zone.KEY.unlink()
    made = zone.Zone(said())
    assert made.refusal("shop.example", TOKEN) == f"shop.example: {zone.KEY} is missing"
    assert not zone.CREDENTIALS.exists()


@pytest.mark.parametrize("name", ["shop.example", "*.shop.example", "a.b.shop.example"])
def test_a_zone_that_takes_updates_is_ready_and_does_not_change(
    zone: ModuleType, server: NameServer, name: str
) -> None:
    assert zone.Zone(said(server)).refusal(name, TOKEN) is None
    (update,) = server.updates
    (row,) = update.sections[2]
    assert str(row.name.derelativize(update.sections[0][0].name)) == f"_acme-challenge.{name.removeprefix('*.')}."
    assert row.deleting == dns.rdataclass.NONE and TOKEN in str(row)


@pytest.mark.parametrize(
    ("more", "secret", "name", "why"),
    [
        ({}, SECRET, "a.example", "it has no zone for _acme-challenge.a.example."),
        ({}, OTHER, "shop.example", "it rejects the key"),
        ({"key": "unknown"}, SECRET, "shop.example", "it rejects the key"),
        ({}, "no key at all", "shop.example", "padding"),
        ({"port": 1}, SECRET, "shop.example", "refused"),
    ],
)
def test_a_zone_that_does_not_says_why(
    zone: ModuleType, server: NameServer, more: dict[str, object], secret: str, name: str, why: str
) -> None:
    zone.KEY.write_text(secret)
    problem = zone.Zone(said(server, **more)).refusal(name, TOKEN)
    assert problem.startswith(f"{name}: the name server 127.0.0.1: ") and why in problem and secret not in problem
    assert server.updates == []


def test_a_key_without_rights_is_told_so(zone: ModuleType, server: NameServer) -> None:
    server.code = dns.rcode.REFUSED
    problem = zone.Zone(said(server)).refusal("shop.example", TOKEN)
    assert problem == "shop.example: the name server 127.0.0.1: update refused: REFUSED"
