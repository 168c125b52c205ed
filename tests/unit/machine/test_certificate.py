"""`app-certificate` orders a machine's first certificate: when, for which names, and what it prints."""

from __future__ import annotations

import itertools
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType

import pytest
import trustme
from conftest import REPOSITORY, Fake

HOUR, DAY = 3600, 86400
#: Any moment.
NOW = 1_800_000_000.0
#: About how often the timer looks. Seconds.
LOOK = 50


@pytest.fixture
def certificate(
    rooted: Callable[..., ModuleType], fake: Fake, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> ModuleType:
    """The program, below a folder of the test's, on a machine with the address 192.0.2.1."""
    fake("hostname", "echo 192.0.2.1 2001:db8::1")
    fake("systemctl", f'echo "$@" >> {tmp_path}/systemctl')
    fake("certbot", "exit 0")
    module = rooted("certificate.py", REPOSITORY / "cloud-init/features/certificate")
    for folder in (module.RECIPE.parent, module.STATE.parent):
        folder.mkdir()
    monkeypatch.setattr("sys.argv", ["certificate.py", "look"])
    module.HOOK.write_text(f"#!/bin/sh\necho called >> {tmp_path}/hooked\n")
    module.HOOK.chmod(0o755)
    return module


CONF = "version = 4.0.0\n[renewalparams]\n"


def lineage(root: Path, given: list[str], days: float = 90, age: float = 0) -> Path:
    """A certificate as certbot keeps it, of a life of some days, so many days old; where it is."""
    folder = root / "etc/letsencrypt/live/app"
    folder.mkdir(parents=True, exist_ok=True)
    (root / "etc/letsencrypt/renewal").mkdir(exist_ok=True)
    (root / "etc/letsencrypt/renewal/app.conf").write_text(f"# renew_before_expiry = 30 days\n{CONF}")
    begin = datetime.now(UTC) - timedelta(days=age)
    made = trustme.CA().issue_cert(*given, not_before=begin, not_after=begin + timedelta(days=days))
    made.cert_chain_pems[0].write_to_path(folder / "fullchain.pem")
    made.private_key_pem.write_to_path(folder / "privkey.pem")
    return folder


@dataclass
class Machine:
    """The program on a machine whose DNS and certbot are told what to do."""

    program: ModuleType
    fake: Fake
    root: Path
    capsys: pytest.CaptureFixture[str]

    def names(self, *given: str, **recipe: object) -> None:
        """The names it answers to, and what its release asks for."""
        self.program.NAMES.write_text("".join(f"{name}\n" for name in given))
        self.program.RECIPE.write_text(json.dumps(recipe))
        self.program.EMAIL.write_text(str(recipe.get("email", "")))

    def dns(self, **addresses: str) -> None:
        """What resolvectl says of names (their first labels); of others, that there are none."""
        rows = "".join(
            f"{name}.example) echo '{name}.example: {found}   -- link: eth0' ;;\n" for name, found in addresses.items()
        )
        others = '*) echo "$name: not found" >&2; exit 1 ;;'
        self.fake("resolvectl", f'for name; do :; done\ncase "$name" in\n{rows}{others}\nesac')

    def certbot(self, script: str) -> None:
        """A certbot that notes its words, then does as it is told."""
        self.fake("certbot", f'echo "$@" >> {self.root}/called\nmkdir -p {self.program.LOGS}\n{script}')

    @property
    def issues(self) -> str:
        """What a certbot does whose order succeeds: what `lineage` made below `new` becomes the machine's."""
        place = self.root / "etc/letsencrypt"
        return f"mkdir -p {place}; cp -r {self.root}/new/etc/letsencrypt/. {place}/"

    def look(self) -> str:
        """One look; what it said."""
        self.program.main()
        return self.capsys.readouterr().out

    def ordered(self) -> list[list[str]]:
        """The words certbot was called with."""
        path = self.root / "called"
        return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


@pytest.fixture
def machine(certificate: ModuleType, fake: Fake, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Machine:
    return Machine(certificate, fake, tmp_path, capsys)


def simulate(module: ModuleType, seconds: float, ready: Callable[[float], list[str]]) -> list[float]:
    """When orders would be made, in seconds from the beginning, if all of them failed."""
    state, made, now = dict(module.NOTHING), [], NOW
    while now < NOW + seconds:
        names = ready(now - NOW)
        if names and module.pause(state, names, now, asked=False) <= 0:
            state = module.note(state, names, now, asked=False)
            made.append(now - NOW)
        now += LOOK
    return made


def most_in(made: list[float], window: float) -> int:
    """The most orders in any window of so many seconds."""
    return max(sum(begin <= then < begin + window for then in made) for begin in made)


def test_failing_orders_are_four_an_hour_then_one_a_day(certificate: ModuleType) -> None:
    made = simulate(certificate, 30 * DAY, lambda now: ["a.example"])
    assert made[0] == 0
    assert most_in(made, HOUR) == 4
    assert 20 <= sum(then < 6 * HOUR for then in made) <= 24
    pauses = [later - sooner for sooner, later in itertools.pairwise(made) if sooner > 6.5 * HOUR]
    assert all(later >= sooner - LOOK for sooner, later in itertools.pairwise(pauses))
    assert DAY <= pauses[-1] < DAY + LOOK
    assert len(made) < 24 + 7 + 30


def test_a_name_that_comes_later_is_tried_at_once(certificate: ModuleType) -> None:
    made = simulate(certificate, 3 * DAY, lambda now: ["a.example", "b.example"] if now > 2.5 * DAY else ["a.example"])
    assert any(2.5 * DAY < then <= 2.5 * DAY + 2 * LOOK for then in made)


def test_names_that_come_and_go_do_not_make_orders_frequent(certificate: ModuleType) -> None:
    both = ["a.example", "b.example"]
    made = simulate(certificate, 5 * DAY, lambda now: both if now // 300 % 2 else both[:1])
    assert most_in(made, HOUR) <= 4
    assert sum(then > 4 * DAY for then in made) <= 2


def test_a_person_s_word_ends_the_pause_but_not_the_limit(certificate: ModuleType) -> None:
    state = dict(certificate.NOTHING)
    for number in range(4):
        assert certificate.pause(state, ["a.example"], NOW + number, asked=True) <= 0
        state = certificate.note(state, ["a.example"], NOW + number, asked=True)
    assert certificate.pause(state, ["a.example"], NOW + 4, asked=True) == HOUR - 4


def test_a_clock_that_was_years_ahead_holds_nobody_up(certificate: ModuleType) -> None:
    late = NOW + 14 * 365 * DAY
    state = certificate.note(certificate.NOTHING, ["a.example"], late, asked=False)
    state["until"] = late + HOUR
    assert certificate.pause(state, ["a.example"], NOW, asked=False) <= 0


def test_an_authority_s_word_is_obeyed(certificate: ModuleType) -> None:
    state = {**certificate.NOTHING, "until": NOW + 5 * HOUR}
    assert certificate.pause(state, ["a.example"], NOW, asked=True) == 5 * HOUR


def test_without_names_there_is_nothing_to_look_for(machine: Machine, tmp_path: Path) -> None:
    machine.names()
    assert machine.look() == "no domains: using the placeholder\n"
    assert "stop app-look.timer" in (tmp_path / "systemctl").read_text()


def test_a_name_that_is_not_ready_costs_no_order(machine: Machine) -> None:
    machine.names("a.example", "b.example", "c.example")
    machine.certbot("exit 0")
    machine.dns(a="127.0.0.2", c="")
    said = machine.look()
    assert "waiting: a.example resolves to 127.0.0.2, not to this machine\n" in said
    assert "waiting: b.example: not found\n" in said
    assert "waiting: c.example has no address\n" in said
    assert machine.ordered() == []
    assert list(machine.program.CHALLENGES.iterdir()) == []


@pytest.mark.parametrize("address", ["192.0.2.1", "2001:db8::1", "203.0.113.9"])
def test_ready_names_are_ordered_together(machine: Machine, tmp_path: Path, address: str) -> None:
    machine.names("a.example", "b.example", "c.example", email="me@a.example")
    # The provider's word, where the machine itself knows only a private address.
    machine.program.INSTANCE.write_text('{"public_ipv4": "203.0.113.9"}')
    lineage(tmp_path / "new", ["a.example", "c.example"])
    machine.certbot(machine.issues)
    machine.dns(a=address, c=address)
    assert "ordering a certificate for a.example c.example\n" in machine.look()
    (words,) = machine.ordered()
    assert words[-2:] == ["--domains", "a.example,c.example"] and "--email me@a.example" in " ".join(words)
    assert f"--webroot -w {tmp_path}/var/lib/letsencrypt/http --email" in " ".join(words)
    assert (tmp_path / "hooked").read_text() == "called\n"
    assert "renew_before_expiry = 43200 minutes" in (tmp_path / "etc/letsencrypt/renewal/app.conf").read_text()
    # The third joins when it comes, whoever is to be written to by then.
    machine.program.EMAIL.write_text("you@a.example\n")
    machine.dns(a=address, b=address, c=address)
    lineage(tmp_path / "new", ["a.example", "b.example", "c.example"])
    machine.look()
    assert "--email you@a.example" in " ".join(machine.ordered()[-1])
    assert machine.look() == "every name has its certificate\n"


def test_all_names_have_theirs(machine: Machine, tmp_path: Path) -> None:
    machine.names("a.example", "b.example")
    machine.certbot("exit 0")
    lineage(tmp_path, ["a.example", "b.example"], 90)
    assert machine.look() == "every name has its certificate\n"
    assert "stop app-look.timer" in (tmp_path / "systemctl").read_text()
    assert machine.ordered() == []


def test_a_certificate_that_could_not_be_renewed_is_ordered_anew_for_those_who_are_here(
    machine: Machine, tmp_path: Path
) -> None:
    machine.names("a.example", "gone.example")
    machine.certbot(machine.issues)
    machine.dns(a="192.0.2.1")
    lineage(tmp_path, ["a.example", "gone.example"], 90, age=80)
    lineage(tmp_path / "new", ["a.example"])
    assert "ordering a certificate for a.example\n" in machine.look()


@pytest.mark.parametrize(
    ("said", "wait", "orders"),
    [
        ("", 120, 0),
        ('{"identifiers"', 0, 1),
        ('{\\n  "identifiers" Retry-After: 5 Retry-After: 7200', 7200, 1),
        ('{"identifiers" {"identifiers"', 0, 2),
        ('{"identifiers" urn:ietf:params:acme:error:rateLimited', 3600, 1),
        ("urn:ietf:params:acme:error:rateLimited Retry-After: 86400", 86400, 0),
    ],
)
def test_what_comes_of_a_failed_order(machine: Machine, tmp_path: Path, said: str, wait: float, orders: int) -> None:
    machine.names("a.example")
    machine.dns(a="192.0.2.1")
    machine.certbot(f"echo '{said}' > {machine.program.LOGS}/letsencrypt.log; echo no luck; exit 1")
    with pytest.raises(Exception, match="no luck"):
        machine.program.main()
    state = json.loads(machine.program.STATE.read_text())
    assert len(state["orders"]) == orders
    assert wait - 5 <= state["until"] - time.time() <= wait * 1.1


@pytest.mark.parametrize(("days", "minutes"), [(160 / 24, 3200), (45, 21600), (64, 30720), (90, 43200)])
def test_a_certificate_is_renewed_after_two_thirds_of_its_life(
    certificate: ModuleType, tmp_path: Path, days: float, minutes: int
) -> None:
    lineage(tmp_path, ["a.example"], days)
    for _ in range(2):
        certificate.pace("app", certificate.kept("app"))
        text = (tmp_path / "etc/letsencrypt/renewal/app.conf").read_text()
        assert text == f"renew_before_expiry = {minutes} minutes\n{CONF}"


def test_staging_has_a_lineage_of_its_own(machine: Machine, tmp_path: Path) -> None:
    machine.names("a.example", authority="staging")
    machine.dns(a="192.0.2.1")
    machine.certbot("exit 1")
    lineage(tmp_path, ["a.example"], 90)
    with pytest.raises(Exception, match="certbot"):
        machine.program.main()
    said = " ".join(machine.ordered()[0])
    assert "--staging" in said and "--cert-name staging" in said


def test_another_authority_is_asked(machine: Machine) -> None:
    machine.names("a.example", authority="https://acme.example/dir")
    machine.dns(a="192.0.2.1")
    machine.certbot("exit 1")
    for wanted in ("https://acme.example/dir", "https://other.example/dir"):
        with pytest.raises(Exception, match="certbot"):
            machine.program.main()
        assert f"--server {wanted}" in " ".join(machine.ordered()[-1])
        machine.program.AUTHORITY.write_text("https://other.example/dir\n")
        machine.program.STATE.unlink()


def test_a_covered_name_that_hiccups_is_not_dropped_for_a_new_one(machine: Machine, tmp_path: Path) -> None:
    machine.names("a.example", "b.example", "c.example")
    machine.certbot("exit 0")
    lineage(tmp_path, ["a.example", "b.example"])
    machine.dns(a="192.0.2.1", c="192.0.2.1")
    assert "waiting: b.example" in machine.look()
    assert machine.ordered() == []


def test_what_is_over_when_it_comes_is_not_ordered_for_ever(machine: Machine, tmp_path: Path) -> None:
    """By a clock that is months ahead each order succeeds, and none is of use."""
    machine.names("one.example")
    machine.dns(one="192.0.2.1")
    lineage(tmp_path / "new", ["one.example"], days=90, age=100)
    machine.certbot(machine.issues)
    assert "ordering" in machine.look()
    assert "the next order is possible in 15 min" in machine.look()
    assert len(machine.ordered()) == 1


@pytest.mark.parametrize("damaged", ["live/app/fullchain.pem", "live/app/privkey.pem", "renewal/app.conf"])
def test_what_a_power_cut_left_is_ordered_anew(machine: Machine, tmp_path: Path, damaged: str) -> None:
    machine.names("a.example", "b.example")
    machine.dns(a="192.0.2.1", b="192.0.2.1")
    lineage(tmp_path / "new", ["a.example", "b.example"])
    # certbot would take another lineage where it finds remains of this one.
    remains = f"ls {tmp_path}/etc/letsencrypt/live/app {tmp_path}/etc/letsencrypt/renewal/app.conf"
    machine.certbot(f"{remains} > {tmp_path}/remains 2> /dev/null\n{machine.issues}")
    lineage(tmp_path, ["a.example"])
    (tmp_path / "etc/letsencrypt" / damaged).write_text("")
    account = tmp_path / "etc/letsencrypt/accounts/acme.example/directory/12ab"
    account.mkdir(parents=True)
    (account / "regr.json").touch()
    machine.look()
    assert (tmp_path / "remains").read_text() == ""
    assert not account.exists()
    assert machine.look() == "every name has its certificate\n"


def test_an_order_that_comes_to_nothing_is_a_failed_one(machine: Machine, tmp_path: Path) -> None:
    machine.names("a.example")
    machine.dns(a="192.0.2.1")
    machine.certbot(f"echo '{{\"identifiers\"' > {machine.program.LOGS}/log.log")
    with pytest.raises(Exception, match="issued no readable certificate"):
        machine.program.main()
    assert machine.program.main() is None
    assert len(machine.ordered()) == 1


def test_who_was_stopped_before_nginx_knew_tells_it_later(machine: Machine, tmp_path: Path) -> None:
    machine.names("a.example")
    machine.dns(a="192.0.2.1")
    lineage(tmp_path / "new", ["a.example"])
    machine.certbot(machine.issues)
    machine.program.HOOK.write_text("#!/bin/sh\nexit 1\n")
    with pytest.raises(Exception, match="hook"):
        machine.program.main()
    machine.program.HOOK.write_text(f"#!/bin/sh\necho called >> {tmp_path}/hooked\n")
    for _ in range(2):
        machine.look()
    assert (tmp_path / "hooked").read_text() == "called\n"
    assert len(machine.ordered()) == 1


def test_a_first_certificate_does_not_wait_for_a_name_that_is_refused(machine: Machine, tmp_path: Path) -> None:
    machine.names("a.example", "b.example")
    machine.dns(a="192.0.2.1", b="192.0.2.1")
    machine.certbot(f"echo '{{\"identifiers\"' > {machine.program.LOGS}/log.log; exit 1")
    with pytest.raises(Exception, match="certbot"):
        machine.program.main()
    later = json.loads(machine.program.STATE.read_text())
    early = {**later, "since": later["since"] - HOUR, "orders": [then - HOUR for then in later["orders"]]}
    machine.program.STATE.write_text(json.dumps(early))
    lineage(tmp_path / "new", ["a.example"])
    machine.certbot(f"echo '{{\"identifiers\"' > {machine.program.LOGS}/log.log; {machine.issues}")
    machine.look()
    assert "--allow-subset-of-names" in machine.ordered()[-1]
    # With a certificate for the others, the refused one's turn comes as rarely as ever.
    assert "the next order is possible in" in machine.look()
    assert json.loads(machine.program.STATE.read_text())["tried"] == ["a.example", "b.example"]


def test_a_state_that_cannot_be_read_waits_an_hour(machine: Machine) -> None:
    machine.names("a.example")
    machine.dns(a="192.0.2.1")
    machine.certbot("exit 0")
    machine.program.STATE.write_text("")
    assert "the next order is possible in 60 min" in machine.look()
    assert machine.ordered() == []


@pytest.fixture
def zone(machine: Machine, rooted: Callable[..., ModuleType], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A release whose names are proved by their zone; where the key belongs. The name server takes every record."""
    module: ModuleType = rooted("zone.py", REPOSITORY / "cloud-init/features/certificate-dns")
    monkeypatch.setattr(module.Zone, "tried", lambda self, record, token: None)
    monkeypatch.setitem(sys.modules, "zone", module)
    machine.fake("resolvectl", f"touch {tmp_path}/looked")
    return Path(module.KEY)


IN_ZONE = {"server": "192.0.2.53", "port": 53, "key": "a-key", "algorithm": "HMAC-SHA256", "wait": 30}


def test_names_that_lead_nowhere_are_ordered_by_their_zone(machine: Machine, zone: Path, tmp_path: Path) -> None:
    machine.names("a.example", "*.a.example", "www.a.example", dns=IN_ZONE)
    machine.certbot(machine.issues)
    lineage(tmp_path / "new", ["a.example", "*.a.example"])
    said = machine.look()
    assert f"waiting: a.example: {zone} is missing" in said and f"waiting: *.a.example: {zone} is missing" in said
    assert machine.ordered() == []
    zone.write_text("c2VjcmV0")
    assert "ordering a certificate for a.example *.a.example\n" in machine.look()
    (words,) = machine.ordered()
    said = " ".join(words)
    assert "--webroot" not in words and "c2VjcmV0" not in said
    credentials = tmp_path / "etc/letsencrypt/dns.ini"
    assert f"--dns-rfc2136 --dns-rfc2136-credentials {credentials} --dns-rfc2136-propagation-seconds 30" in said
    # Boulder refuses an order for both a wildcard and a name that it stands for.
    assert words[-2:] == ["--domains", "a.example,*.a.example"]
    (tmp_path / "systemctl").unlink(missing_ok=True)
    assert machine.look() == "every name has its certificate\n"
    assert (tmp_path / "systemctl").read_text() == "stop app-look.timer\n"
    assert not (tmp_path / "looked").exists() and len(machine.ordered()) == 1
    # A new key is certbot's too, before it is needed.
    zone.write_text("b3RoZXI=")
    machine.look()
    assert "b3RoZXI=" in (tmp_path / "etc/letsencrypt/dns.ini").read_text()


def test_a_zone_that_takes_nothing_costs_no_order(
    machine: Machine, zone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules["zone"].Zone, "tried", lambda self, record, token: "it says REFUSED")
    zone.write_text("c2VjcmV0")
    machine.names("*.a.example", dns=IN_ZONE)
    machine.certbot("exit 0")
    assert machine.look() == "waiting: *.a.example: the name server 192.0.2.53: it says REFUSED\n"
    assert machine.ordered() == []
