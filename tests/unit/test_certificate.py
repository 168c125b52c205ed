"""The machine's program that orders its first certificate: when, for which names, and what it says meanwhile."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable
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
    program: Callable[..., ModuleType], fake: Fake, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> ModuleType:
    """The program, below a folder of the test's, on a machine with the address 192.0.2.1."""
    fake("hostname", "echo 192.0.2.1 2001:db8::1")
    fake("systemctl", f'echo "$@" >> {tmp_path}/systemctl')
    fake("certbot", "exit 0")
    module = program("certificate.py", REPOSITORY / "cloud-init/release/certificate")
    for name, path in {
        "CERTBOT": "etc/letsencrypt", "NAMES": "names", "STATE": "orders.json", "CHALLENGES": "http/x/y",
        "LOGS": "logs", "INSTANCE": "instance.json", "HOOK": "hook", "RECIPE": "recipe.json", "EMAIL": "email",
        "AUTHORITY": "authority",
    }.items():  # fmt: skip
        monkeypatch.setattr(module, name, tmp_path / path)
    monkeypatch.setattr("sys.argv", ["certificate.py", "look"])
    module.HOOK.write_text(f"#!/bin/sh\necho called >> {tmp_path}/hooked\n")
    module.HOOK.chmod(0o755)
    return module


def names(module: ModuleType, *given: str) -> None:
    module.NAMES.write_text("".join(f"{name}\n" for name in given))


def dns(fake: Fake, **addresses: str) -> None:
    """What resolvectl says of names (their first labels); of others, that there are none."""
    rows = "".join(
        f"{name}.example) echo '{name}.example: {found}   -- link: eth0' ;;\n" for name, found in addresses.items()
    )
    fake("resolvectl", f'for name; do :; done\ncase "$name" in\n{rows}*) echo "$name: not found" >&2; exit 1 ;;\nesac')


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


#: A certbot whose order succeeds: what `lineage` made below `new` becomes the machine's.
ISSUES = "mkdir -p ROOT/etc/letsencrypt; cp -r ROOT/new/etc/letsencrypt/. ROOT/etc/letsencrypt/"


def look(module: ModuleType, capsys: pytest.CaptureFixture[str]) -> str:
    """One look; what it said."""
    module.main()
    return capsys.readouterr().out


def ordered(tmp_path: Path) -> list[list[str]]:
    """The words certbot was called with."""
    path = tmp_path / "called"
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


@pytest.fixture
def certbot(fake: Fake, tmp_path: Path) -> Callable[[str], None]:
    """A certbot that notes its words, then does as it is told."""

    def put(script: str) -> None:
        fake("certbot", f'echo "$@" >> {tmp_path}/called\nmkdir -p {tmp_path}/logs\n{script}')

    return put


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


def test_without_names_there_is_nothing_to_look_for(
    certificate: ModuleType, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    names(certificate)
    certificate.RECIPE.write_text("{}")
    assert look(certificate, capsys) == "no domain is given: the placeholder stays\n"
    assert "stop app-look.timer" in (tmp_path / "systemctl").read_text()


def test_a_name_that_is_not_ready_costs_no_order(
    certificate: ModuleType,
    capsys: pytest.CaptureFixture[str],
    fake: Fake,
    certbot: Callable[[str], None],
    tmp_path: Path,
) -> None:
    names(certificate, "a.example", "b.example", "c.example")
    certificate.RECIPE.write_text("{}")
    certbot("exit 0")
    dns(fake, a="127.0.0.2", c="")
    said = look(certificate, capsys)
    assert "waiting: a.example leads to 127.0.0.2, which is not this machine\n" in said
    assert "waiting: b.example: not found\n" in said
    assert "waiting: c.example has no address\n" in said
    assert ordered(tmp_path) == []
    assert list(certificate.CHALLENGES.iterdir()) == []


@pytest.mark.parametrize("address", ["192.0.2.1", "2001:db8::1", "203.0.113.9"])
def test_ready_names_are_ordered_together(
    certificate: ModuleType,
    capsys: pytest.CaptureFixture[str],
    fake: Fake,
    certbot: Callable[[str], None],
    tmp_path: Path,
    address: str,
) -> None:
    names(certificate, "a.example", "b.example", "c.example")
    certificate.RECIPE.write_text(json.dumps({"email": "me@a.example"}))
    # The provider's word, where the machine itself knows only a private address.
    certificate.INSTANCE.write_text('{"public_ipv4": "203.0.113.9"}')
    lineage(tmp_path / "new", ["a.example", "c.example"])
    certbot(ISSUES.replace("ROOT", str(tmp_path)))
    dns(fake, a=address, c=address)
    assert "ordering a certificate for a.example c.example\n" in look(certificate, capsys)
    (words,) = ordered(tmp_path)
    assert words[-2:] == ["--domains", "a.example,c.example"] and "--email me@a.example" in " ".join(words)
    assert (tmp_path / "hooked").read_text() == "called\n"
    assert "renew_before_expiry = 43200 minutes" in (tmp_path / "etc/letsencrypt/renewal/app.conf").read_text()
    # The third joins when it comes, whoever is to be written to by then.
    certificate.EMAIL.write_text("you@a.example\n")
    dns(fake, a=address, b=address, c=address)
    lineage(tmp_path / "new", ["a.example", "b.example", "c.example"])
    look(certificate, capsys)
    assert "--email you@a.example" in " ".join(ordered(tmp_path)[-1])
    assert look(certificate, capsys) == "every name has its certificate\n"


def test_all_names_have_theirs(
    certificate: ModuleType, capsys: pytest.CaptureFixture[str], certbot: Callable[[str], None], tmp_path: Path
) -> None:
    names(certificate, "a.example", "b.example")
    certificate.RECIPE.write_text("{}")
    certbot("exit 0")
    lineage(tmp_path, ["a.example", "b.example"], 90)
    assert look(certificate, capsys) == "every name has its certificate\n"
    assert "stop app-look.timer" in (tmp_path / "systemctl").read_text()
    assert ordered(tmp_path) == []


def test_a_certificate_that_could_not_be_renewed_is_ordered_anew_for_those_who_are_here(
    certificate: ModuleType,
    capsys: pytest.CaptureFixture[str],
    fake: Fake,
    certbot: Callable[[str], None],
    tmp_path: Path,
) -> None:
    names(certificate, "a.example", "gone.example")
    certificate.RECIPE.write_text("{}")
    certbot(ISSUES.replace("ROOT", str(tmp_path)))
    dns(fake, a="192.0.2.1")
    lineage(tmp_path, ["a.example", "gone.example"], 90, age=80)
    lineage(tmp_path / "new", ["a.example"])
    assert "ordering a certificate for a.example\n" in look(certificate, capsys)


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
def test_what_comes_of_a_failed_order(
    certificate: ModuleType,
    fake: Fake,
    certbot: Callable[[str], None],
    tmp_path: Path,
    said: str,
    wait: float,
    orders: int,
) -> None:
    names(certificate, "a.example")
    certificate.RECIPE.write_text("{}")
    dns(fake, a="192.0.2.1")
    certbot(f"echo '{said}' > {tmp_path}/logs/letsencrypt.log; echo no luck; exit 1")
    with pytest.raises(Exception, match="no luck"):
        certificate.main()
    state = json.loads(certificate.STATE.read_text())
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


def test_staging_has_a_lineage_of_its_own(
    certificate: ModuleType,
    capsys: pytest.CaptureFixture[str],
    fake: Fake,
    certbot: Callable[[str], None],
    tmp_path: Path,
) -> None:
    names(certificate, "a.example")
    certificate.RECIPE.write_text(json.dumps({"authority": "staging"}))
    dns(fake, a="192.0.2.1")
    certbot("exit 1")
    lineage(tmp_path, ["a.example"], 90)
    with pytest.raises(Exception, match="certbot"):
        certificate.main()
    said = " ".join(ordered(tmp_path)[0])
    assert "--staging" in said and "--cert-name staging" in said


def test_another_authority_is_asked(
    certificate: ModuleType,
    capsys: pytest.CaptureFixture[str],
    fake: Fake,
    certbot: Callable[[str], None],
    tmp_path: Path,
) -> None:
    names(certificate, "a.example")
    certificate.RECIPE.write_text(json.dumps({"authority": "https://acme.example/dir"}))
    dns(fake, a="192.0.2.1")
    certbot("exit 1")
    for wanted in ("https://acme.example/dir", "https://other.example/dir"):
        with pytest.raises(Exception, match="certbot"):
            certificate.main()
        assert f"--server {wanted}" in " ".join(ordered(tmp_path)[-1])
        certificate.AUTHORITY.write_text("https://other.example/dir\n")
        certificate.STATE.unlink()


def test_a_covered_name_that_hiccups_is_not_dropped_for_a_new_one(
    certificate: ModuleType,
    capsys: pytest.CaptureFixture[str],
    fake: Fake,
    certbot: Callable[[str], None],
    tmp_path: Path,
) -> None:
    names(certificate, "a.example", "b.example", "c.example")
    certificate.RECIPE.write_text("{}")
    certbot("exit 0")
    lineage(tmp_path, ["a.example", "b.example"])
    dns(fake, a="192.0.2.1", c="192.0.2.1")
    assert "waiting: b.example" in look(certificate, capsys)
    assert ordered(tmp_path) == []


@pytest.mark.parametrize("damaged", ["live/app/fullchain.pem", "live/app/privkey.pem", "renewal/app.conf"])
def test_what_a_power_cut_left_is_ordered_anew(
    certificate: ModuleType,
    capsys: pytest.CaptureFixture[str],
    fake: Fake,
    certbot: Callable[[str], None],
    tmp_path: Path,
    damaged: str,
) -> None:
    names(certificate, "a.example", "b.example")
    certificate.RECIPE.write_text("{}")
    dns(fake, a="192.0.2.1", b="192.0.2.1")
    lineage(tmp_path / "new", ["a.example", "b.example"])
    # certbot would take another lineage where it finds remains of this one.
    remains = f"ls {tmp_path}/etc/letsencrypt/live/app {tmp_path}/etc/letsencrypt/renewal/app.conf"
    certbot(f"{remains} > {tmp_path}/remains 2> /dev/null\n{ISSUES.replace('ROOT', str(tmp_path))}")
    lineage(tmp_path, ["a.example"])
    (tmp_path / "etc/letsencrypt" / damaged).write_text("")
    account = tmp_path / "etc/letsencrypt/accounts/acme.example/directory/12ab"
    account.mkdir(parents=True)
    (account / "regr.json").touch()
    look(certificate, capsys)
    assert (tmp_path / "remains").read_text() == ""
    assert not account.exists()
    assert look(certificate, capsys) == "every name has its certificate\n"


def test_an_order_that_comes_to_nothing_is_a_failed_one(
    certificate: ModuleType, fake: Fake, certbot: Callable[[str], None], tmp_path: Path
) -> None:
    names(certificate, "a.example")
    certificate.RECIPE.write_text("{}")
    dns(fake, a="192.0.2.1")
    certbot(f"echo '{{\"identifiers\"' > {tmp_path}/logs/log.log")
    with pytest.raises(Exception, match="issued no certificate"):
        certificate.main()
    assert certificate.main() is None
    assert len(ordered(tmp_path)) == 1


def test_who_was_stopped_before_nginx_knew_tells_it_later(
    certificate: ModuleType,
    capsys: pytest.CaptureFixture[str],
    fake: Fake,
    certbot: Callable[[str], None],
    tmp_path: Path,
) -> None:
    names(certificate, "a.example")
    certificate.RECIPE.write_text("{}")
    dns(fake, a="192.0.2.1")
    lineage(tmp_path / "new", ["a.example"])
    certbot(ISSUES.replace("ROOT", str(tmp_path)))
    certificate.HOOK.write_text("#!/bin/sh\nexit 1\n")
    with pytest.raises(Exception, match="hook"):
        certificate.main()
    certificate.HOOK.write_text(f"#!/bin/sh\necho called >> {tmp_path}/hooked\n")
    for _ in range(2):
        look(certificate, capsys)
    assert (tmp_path / "hooked").read_text() == "called\n"
    assert len(ordered(tmp_path)) == 1


def test_a_first_certificate_does_not_wait_for_a_name_that_is_refused(
    certificate: ModuleType,
    capsys: pytest.CaptureFixture[str],
    fake: Fake,
    certbot: Callable[[str], None],
    tmp_path: Path,
) -> None:
    names(certificate, "a.example", "b.example")
    certificate.RECIPE.write_text("{}")
    dns(fake, a="192.0.2.1", b="192.0.2.1")
    certbot(f"echo '{{\"identifiers\"' > {tmp_path}/logs/log.log; exit 1")
    with pytest.raises(Exception, match="certbot"):
        certificate.main()
    later = json.loads(certificate.STATE.read_text())
    early = {**later, "since": later["since"] - HOUR, "orders": [then - HOUR for then in later["orders"]]}
    certificate.STATE.write_text(json.dumps(early))
    lineage(tmp_path / "new", ["a.example"])
    certbot(f"echo '{{\"identifiers\"' > {tmp_path}/logs/log.log; {ISSUES.replace('ROOT', str(tmp_path))}")
    look(certificate, capsys)
    assert "--allow-subset-of-names" in ordered(tmp_path)[-1]
    # With a certificate for the others, the refused one's turn comes as rarely as ever.
    assert "the next order may be made in" in look(certificate, capsys)
    assert json.loads(certificate.STATE.read_text())["tried"] == ["a.example", "b.example"]


def test_a_state_that_cannot_be_read_waits_an_hour(
    certificate: ModuleType,
    capsys: pytest.CaptureFixture[str],
    fake: Fake,
    certbot: Callable[[str], None],
    tmp_path: Path,
) -> None:
    names(certificate, "a.example")
    certificate.RECIPE.write_text("{}")
    dns(fake, a="192.0.2.1")
    certbot("exit 0")
    certificate.STATE.write_text("")
    assert "the next order may be made in 60 min" in look(certificate, capsys)
    assert ordered(tmp_path) == []
