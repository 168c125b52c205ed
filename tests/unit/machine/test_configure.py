"""The machine's program that writes nginx's and uWSGI's settings, run on a tree of its own."""

from __future__ import annotations

import json
import re
import shutil
import stat
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import trustme
from conftest import PROGRAMS, Fake
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from bake.bundle.release_files import feature_files, files
from bake.config.debian import TARGETS
from bake.config.recipe import Recipe
from bake.config.sections import Limits
from bake.document import machine_files
from bake.host import paths
from bake.host.programs import run

MIB = 1 << 20


@pytest.fixture
def configure(program: Callable[[str], ModuleType]) -> ModuleType:
    return program("configure")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tree(tmp_path / "root")


def tree(root: Path) -> Path:
    """What configure reads of a machine's own files."""
    (root / "usr/lib/app/nginx").mkdir(parents=True)
    (root / "usr/lib/app/nginx/tls-listener").write_text("ssl http2\n")
    return root


def release(root: Path, **recipe: object) -> None:
    (root / "srv/app/current/settings").mkdir(parents=True, exist_ok=True)
    shutil.copy(paths.features() / "certificate/issued.py", root / "srv/app/current/settings")
    (root / "srv/app/current/recipe.json").write_text(json.dumps({"wsgi": "app:app", **recipe}))


def domains(root: Path, text: str) -> None:
    (root / "etc/app").mkdir(parents=True, exist_ok=True)
    (root / "etc/app/domains").write_text(text)


def run_on(root: Path) -> str:
    return run([sys.executable, PROGRAMS / "configure", root]).stdout


def nginx(root: Path, name: str = "server.conf") -> str:
    return (root / "run/app/nginx" / name).read_text()


def environment(root: Path) -> list[str]:
    return (root / "run/app/env").read_text().splitlines()


def test_a_machine_without_a_release_is_configured_all_the_same(root: Path) -> None:
    assert run_on(root) == "configured: any name; certificate placeholder\n"
    assert "server_name localhost;" in nginx(root)
    assert nginx(root, "unknown-hosts.conf") == ""
    assert "listen 443 ssl http2 default_server;" in nginx(root)
    assert 'APP_DOMAINS=""' in environment(root)
    assert (root / "run/app/names").read_text() == ""


def test_a_release_is_configured_as_its_recipe_asks(root: Path) -> None:
    release(root, domains=["one.example", "two.example"], limits={"request": 90, "workers": 3, "threads": 2})
    assert re.fullmatch(r"configured: one\.example,? two\.example; certificate placeholder\n", run_on(root))
    server = nginx(root)
    assert "server_name one.example two.example;" in server
    assert "default_server" not in server
    assert "default_server" in nginx(root, "unknown-hosts.conf")
    assert 'APP_DOMAINS="one.example two.example"' in environment(root)
    assert (root / "run/app/names").read_text() == "one.example\ntwo.example\n"
    (root / "srv/app/releases").mkdir()
    (root / "srv/app/current").rename(root / "srv/app/releases/12ab")
    (root / "srv/app/current").symlink_to("releases/12ab")
    run_on(root)
    # Not by `current`, which leads elsewhere while the next release is tried.
    assert {"APP_RELEASE=/srv/app/releases/12ab", "APP_WORKERS=3"} <= set(environment(root))


def test_uwsgi_is_given_all_that_its_settings_leave_open(root: Path) -> None:
    run_on(root)
    given = {line.partition("=")[0] for line in environment(root)}
    asked = set(re.findall(r"\$\((\w+)\)", (PROGRAMS / "uwsgi.ini").read_text()))
    assert asked and asked <= given


@pytest.mark.parametrize(("workers", "more"), [(1, 1), (2, 2), (7, 2)])
def test_while_workers_are_exchanged_there_are_two_more_at_most(root: Path, workers: int, more: int) -> None:
    release(root, limits={"workers": workers})
    run_on(root)
    assert {f"APP_WORKERS={workers}", f"APP_NEXT={more}"} <= set(environment(root))


def test_services_are_given_all_that_they_ask_for(root: Path) -> None:
    run_on(root)
    given = {line.partition("=")[0] for line in environment(root)}
    services = [
        *(paths.rootfs() / "etc/systemd/system").glob("app*.service"),
        *paths.features().glob("*/units/*.service"),
    ]
    asked = {name for path in services for name in re.findall(r"\$\{(\w+)\}", path.read_text())}
    assert asked and asked <= given


def units(root: Path, files: dict[str, str]) -> None:
    """A release's units, and no others of an earlier one."""
    folder = root / "srv/app/current/settings/units"
    shutil.rmtree(folder, ignore_errors=True)
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def test_systemd_gets_the_release_s_units_and_is_told_of_a_change_alone(root: Path, fake: Fake, tmp_path: Path) -> None:
    fake("systemctl", f'echo "$*" >> {tmp_path}/words')
    given = {"app-digest.timer": "", "app-process@.service": "", "app.service.d/60-allow.conf": "[Service]\n"}
    units(root, given)
    there = root / "run/systemd/system"
    for _ in range(2):
        run_on(root)
        assert {name: (there / name).read_text() for name in given} == given
        assert (tmp_path / "words").read_text() == "daemon-reload\ntry-reload-or-restart nftables.service\n"
    units(root, {})
    run_on(root)
    assert [path for path in there.rglob("*") if path.is_file()] == []
    assert (tmp_path / "words").read_text().splitlines()[2:] == [
        "stop app-digest.timer", "stop app-process@*.service", "daemon-reload",
        "try-reload-or-restart nftables.service",
    ]  # fmt: skip


def test_no_unit_of_a_release_s_is_overlooked(root: Path, fake: Fake, app: Path) -> None:
    fake("systemctl", "exit 0")
    recipe = {
        "timers": {"digest": {"run": "true", "when": "daily"}}, "sandbox": {"allow": ["jit"]},
        "certificate": {"keep": "/srv/keep"}, "processes": {"queue": {"run": "true", "memory": "1G"}},
    }  # fmt: skip
    made = files(app, Recipe.model_validate(recipe), [])
    given = {name: file.text for name, file in made.items() if name.startswith("settings/units/")}
    assert given.keys() & feature_files("zero-downtime").keys()
    units(root, {name.removeprefix("settings/units/"): text for name, text in given.items()})
    run_on(root)
    there = root / "run/systemd/system"
    assert {f"settings/units/{path.relative_to(there)}" for path in there.rglob("*.*") if path.is_file()} == set(given)


def test_an_app_without_units_costs_no_reload(root: Path, fake: Fake, tmp_path: Path) -> None:
    fake("systemctl", f"touch {tmp_path}/called")
    release(root)
    run_on(root)
    assert not (tmp_path / "called").exists()


def test_every_include_of_ours_is_written_or_in_the_tree(root: Path) -> None:
    release(root, domains=["one.example"])
    run_on(root)
    texts = [path.read_text() for path in (root / "run/app/nginx").iterdir()]
    texts += [path.read_text() for path in (PROGRAMS / "nginx").glob("*.conf")]
    ours = set(re.findall(r"^\s*include (/(?:run|usr/lib)/app/\S+);", "\n".join(texts), re.MULTILINE))
    assert len(ours) > 4
    for path in ours:
        if path.startswith("/run"):
            assert (root / path[1:]).is_file(), path
        else:
            assert all(path in {file.path for file in machine_files.files(goal)} for goal in TARGETS.values()), path


def test_people_have_the_last_word_on_domains(root: Path) -> None:
    release(root, domains=["recipe.example"])
    domains(root, "# ours\nMine.Example\nmine.example\n\n  other.example  # with a remark\n")
    assert re.match(r"configured: mine\.example,? other\.example;", run_on(root))
    domains(root, "\n# none\n")
    assert run_on(root).startswith("configured: any name;")


def faults(root: Path) -> list[str]:
    return (root / "run/app/faults").read_text().splitlines()


@pytest.mark.parametrize(
    "name",
    [
        "a" * 60 + "." + ("b" * 61 + ".") * 3 + "example",
        "two words",
        "http://x.example",
        "x.example;",
        "-x.example",
        "localhost",
        "1.2.3.4",
        "*.*.x.example",
    ],
)
def test_a_wrong_name_is_left_out_and_the_others_are_served(root: Path, name: str) -> None:
    domains(root, f"good.example\n\n{name}\nother.example\n")
    said = run_on(root)
    assert (root / "run/app/names").read_text() == "good.example\nother.example\n"
    assert "server_name good.example other.example;" in nginx(root)
    fault = "/etc/app/domains, line 3: not a domain name, so ignored"
    assert faults(root) == [fault] and f"<3>{fault}\n" in said


def test_where_no_name_is_right_the_recipes_names_stay(root: Path) -> None:
    release(root, domains=["recipe.example"])
    domains(root, "shop,example\n")
    run_on(root)
    assert (root / "run/app/names").read_text() == "recipe.example\n"
    assert len(faults(root)) == 1


@pytest.mark.parametrize("content", [b"\xef\xbb\xbfgood.example\r\n", b"good.example\n\xff\xfe\n", b"\0\ngood.example"])
def test_bytes_that_are_no_text_take_nothing_down(root: Path, content: bytes) -> None:
    domains(root, "")
    (root / "etc/app/domains").write_bytes(content)
    run_on(root)
    assert (root / "run/app/names").read_text() == "good.example\n"


def test_a_folder_in_the_place_of_a_file_is_reported(root: Path) -> None:
    release(root, domains=["recipe.example"])
    for name in ("domains", "env", "secrets.env", "email"):
        (root / "etc/app" / name).mkdir(parents=True)
    run_on(root)
    assert (root / "run/app/names").read_text() == "recipe.example\n"
    assert faults(root) == [f"/etc/app/{name}: Is a directory" for name in ("domains", "email", "env", "secrets.env")]


def given(root: Path, text: str | bytes, name: str = "env") -> str:
    """What the app is given of an EnvironmentFile that a person wrote."""
    (root / "etc/app").mkdir(parents=True, exist_ok=True)
    (root / "etc/app" / name).write_bytes(text.encode() if isinstance(text, str) else text)
    run_on(root)
    return (root / "run/app/given.env").read_text()


RIGHT = """\
A=1
B = two words
C="quoted $x \\" # ` and
over two lines, D=no"
E='single'
F=it's "here"
I='it'"'"'s'
G=
H=continued \\
here
"""


def test_assignments_stay_as_they_are_written(root: Path) -> None:
    assert given(root, f"# a comment\n\n; another\n{RIGHT}") == RIGHT
    assert faults(root) == []
    assert (root / "run/app/given.env").stat().st_mode & 0o777 == 0o600


def test_secrets_have_the_last_word(root: Path) -> None:
    given(root, "A=env\n")
    assert given(root, "A=secret\n", "secrets.env") == "A=env\nA=secret\n"


@pytest.mark.parametrize(
    "line",
    [b"no assignment", b"export A=1", b"1A=x", b'A="no end', b"A='no end", b"A=\xff", b"APP_WORKERS=many", b"=x",
     b"A-B=x", b"A=\0", b'A="x" "', b"A=1\rAPP_RELEASE=/no"],
)  # fmt: skip
def test_a_wrong_line_is_left_out_without_its_value(root: Path, line: bytes) -> None:
    content = b"FIRST=1\n" + line + b'\nKEY="a\nb"\nLAST=2'
    for name in ("env", "secrets.env"):
        assert given(root, content, name).endswith('FIRST=1\nKEY="a\nb"\nLAST=2\n')
    told = faults(root)
    places = [f"/etc/app/{name}, line 2" for name in ("env", "secrets.env")]
    assert [fault.partition(": ")[0] for fault in told] == places
    assert "no end" not in str(told) and "many" not in str(told)


def test_nul_in_a_further_line_of_a_value_hides_no_other_setting(root: Path) -> None:
    # systemd would ignore the whole file.
    assert given(root, b'FIRST=1\nA="x\n\0y"\nLAST=2\n') == "FIRST=1\nLAST=2\n"
    assert len(faults(root)) == 2


def test_a_wrong_address_leaves_the_recipes(root: Path) -> None:
    release(root, email="me@recipe.example")
    for text, email in (("you@a.example\n", "you@a.example"), ("you at a.example\n", "me@recipe.example"), ("", "")):
        domains(root, "")
        (root / "etc/app/email").write_text(text)
        run_on(root)
        assert (root / "run/app/email").read_text() == email
    (root / "etc/app/email").unlink()
    run_on(root)
    assert (root / "run/app/email").read_text() == "me@recipe.example"


def test_a_wildcard_that_no_zone_proves_is_left_out(root: Path) -> None:
    # A release that is gone back to may be of before `certificate.dns`.
    domains(root, "*.x.example\nx.example\n")
    said = run_on(root)
    assert "<3>" in said and "wildcards are ignored; they need `certificate.dns`" in said
    assert (root / "run/app/names").read_text() == "x.example\n"


def write_certificate(folder: Path, number: int, begin: datetime, end: datetime) -> None:
    """Write a version of a certificate as certbot numbers it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "one.example")])
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), number, begin, end)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("one.example")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    (folder / f"fullchain{number}.pem").write_bytes(made.public_bytes(encoding))
    private = key.private_bytes(encoding, form, serialization.NoEncryption())
    (folder / f"privkey{number}.pem").write_bytes(private)


def issue(root: Path, lineage: str, *names: str) -> Path:
    """A certificate as certbot keeps it."""
    folder = root / "etc/letsencrypt/live" / lineage
    folder.mkdir(parents=True, exist_ok=True)
    made = trustme.CA().issue_cert(*names)
    made.cert_chain_pems[0].write_to_path(folder / "fullchain.pem")
    made.private_key_pem.write_to_path(folder / "privkey.pem")
    return folder


def test_a_certificate_is_used_for_the_names_it_has(root: Path) -> None:
    live = issue(root, "app", "one.example")
    release(root)
    assert "certificate placeholder" in run_on(root)
    release(root, domains=["one.example", "two.example"])
    assert "certificate trusted for one.example\n" in run_on(root)
    used = f"ssl_certificate {live}/fullchain.pem;\nssl_certificate_key {live}/privkey.pem;\n"
    assert nginx(root, "certificate.conf") == used
    assert nginx(root, "secured.conf") == "one.example max-age=3600;\n"


@pytest.mark.parametrize(
    ("first", "begin", "end", "recipe", "expected"),
    [
        (0, 0, 90, {}, 3600),
        # Another name came on the same day.
        (-0.5, 0, 90, {}, 3600),
        (-60, 0, 90, {}, 63072000),
        (-150, -91, -1, {}, 0),
        (0, 0, 90, {"hsts": 2592000}, 2592000),
        (-60, 0, 90, {"hsts": 0}, 0),
    ],
)
def test_browsers_insist_on_https_for_an_hour_until_a_renewal(
    root: Path, first: float, begin: float, end: float, recipe: dict[str, Any], expected: int
) -> None:
    live, archive = issue(root, "app", "one.example"), root / "etc/letsencrypt/archive/app"
    archive.mkdir(parents=True)
    for number, (start, stop) in enumerate(((first, first + 90), (begin, end)), 1):
        days = [datetime.now(UTC) + timedelta(days) for days in (start, stop)]
        write_certificate(archive, number, *days)
    for name in ("fullchain", "privkey"):
        (live / f"{name}.pem").unlink()
        (live / f"{name}.pem").symlink_to(f"../../archive/app/{name}2.pem")
    release(root, domains=["one.example"], **recipe)
    run_on(root)
    assert nginx(root, "secured.conf") == f"one.example max-age={expected};\n"


def test_a_release_of_an_older_bake_still_redirects(root: Path) -> None:
    issue(root, "app", "one.example")
    release(root, domains=["one.example"])
    path = root / "srv/app/current/settings/issued.py"
    path.write_text(path.read_text().replace("def hsts", "def other"))
    run_on(root)
    assert nginx(root, "secured.conf") == "one.example max-age=3600;\n"


def test_a_kept_certificate_is_back_before_it_is_looked_for(root: Path, tmp_path: Path) -> None:
    live = issue(root, "app", "one.example")
    live.rename(tmp_path / "kept")
    release(root, domains=["one.example"])
    program = root / "srv/app/current/settings/keep.py"
    program.write_text(
        f"import pathlib, sys\nassert sys.argv[1:] == ['restore']\npathlib.Path('{tmp_path}/kept').rename('{live}')\n"
    )
    assert "certificate trusted for one.example\n" in run_on(root)
    # A machine whose kept one does not come goes on as others do.
    assert "certificate trusted for one.example\n" in run_on(root)


DNS = {"server": "192.0.2.53", "port": 53, "key": "a-key", "algorithm": "HMAC-SHA256", "wait": 60}


def test_a_wildcard_is_for_one_level_of_names(root: Path) -> None:
    release(root, domains=["one.example", "*.one.example"], dns=DNS)
    run_on(root)
    assert "server_name one.example ~^[\\w-]+\\.one\\.example$;" in nginx(root)
    assert nginx(root, "secured.conf") == ""
    assert (root / "run/app/names").read_text() == "one.example\n*.one.example\n"
    assert 'APP_DOMAINS="one.example *.one.example"' in environment(root)
    issue(root, "app", "one.example", "*.one.example")
    assert "trusted for one.example *.one.example\n" in run_on(root)
    assert nginx(root, "secured.conf") == "one.example max-age=3600;\n~^[\\w-]+\\.one\\.example$ max-age=3600;\n"
    # What people say is held to the same.
    domains(root, "two.example\n*.two.example\nwww.one.example\na.b.one.example\n")
    assert "trusted for www.one.example\n" in run_on(root)
    domains(root, "*two.example\none.example\n")
    run_on(root)
    assert (root / "run/app/names").read_text() == "one.example\n" and len(faults(root)) == 1


def test_a_placeholder_may_be_a_wildcard(root: Path) -> None:
    release(root, domains=["*.one.example"], dns=DNS)
    run_on(root)
    path = root / "run/app/placeholder/fullchain.pem"
    assert "DNS:*.one.example" in run(["openssl", "x509", "-noout", "-ext", "subjectAltName", "-in", path]).stdout


def test_nothing_promises_https_before_there_is_a_certificate(root: Path) -> None:
    release(root, domains=["one.example"])
    run_on(root)
    assert nginx(root, "secured.conf") == ""
    assert f"ssl_certificate {root}/run/app/placeholder/fullchain.pem;" in nginx(root, "certificate.conf")


def test_a_staging_certificate_is_served_and_promises_nothing(root: Path) -> None:
    live = issue(root, "staging", "one.example")
    release(root, domains=["one.example"])
    assert "certificate staging\n" in run_on(root)
    assert f"ssl_certificate {live}/fullchain.pem;" in nginx(root, "certificate.conf")
    assert nginx(root, "secured.conf") == ""
    issue(root, "app", "one.example")
    assert "trusted for one.example" in run_on(root)


@pytest.mark.parametrize("damaged", ["fullchain.pem", "privkey.pem"])
def test_a_certificate_that_nginx_would_not_read_is_none(root: Path, damaged: str) -> None:
    (issue(root, "app", "one.example") / damaged).write_text("")
    release(root, domains=["one.example"])
    assert "certificate placeholder" in run_on(root)


def test_the_placeholder_is_a_certificate_and_its_key_stays_the_machines(root: Path) -> None:
    domains(root, "one.example\n")
    run_on(root)
    tls = root / "run/app/placeholder"
    said = run(
        ["openssl", "x509", "-in", tls / "fullchain.pem", "-noout", "-subject", "-ext", "subjectAltName", "-pubkey"]
    )
    assert "CN = one.example" in said.stdout.replace("CN=", "CN = ")
    assert "DNS:one.example" in said.stdout
    public = run(["openssl", "pkey", "-in", tls / "privkey.pem", "-pubout"]).stdout
    assert public in said.stdout
    assert stat.S_IMODE((tls / "privkey.pem").stat().st_mode) == 0o600
    before = (tls / "fullchain.pem").read_bytes()
    run_on(root)
    assert (tls / "fullchain.pem").read_bytes() == before


def test_two_machines_have_two_placeholders(tmp_path: Path) -> None:
    for name in ("one", "two"):
        run_on(tree(tmp_path / name))
    one, two = ((tmp_path / name / "run/app/placeholder/privkey.pem").read_text() for name in ("one", "two"))
    assert one != two


@pytest.mark.parametrize(
    ("cpus", "memory", "worker", "count"),
    [
        (1, 240, 128, 1), (1, 512, 128, 2), (2, 1024, 128, 2), (4, 1024, 128, 4), (8, 1024, 128, 6),
        (32, 4096, 128, 30), (64, 65536, 128, 64), (1, 960, 512, 1), (4, 2048, 512, 3), (2, 480, 40, 2),
    ],
)  # fmt: skip
def test_workers_go_by_cpus_and_memory(configure: ModuleType, cpus: int, memory: int, worker: int, count: int) -> None:
    assert configure.workers(cpus, memory * MIB, worker * MIB) == count


def test_workers_go_by_the_memory_that_one_was_measured_to_take(root: Path) -> None:
    release(root)
    run_on(root)
    usual = int(next(line for line in environment(root) if line.startswith("APP_WORKERS=")).partition("=")[2])
    (root / "srv/app/current/worker-memory").write_text(f"{1 << 40}\n")
    run_on(root)
    assert usual > 1 and "APP_WORKERS=1" in environment(root)


@pytest.mark.parametrize("limits", [{"workers": "auto"}, {}, Limits().model_dump()])
def test_workers_may_be_set(root: Path, limits: dict[str, object]) -> None:
    release(root, limits={"workers": 7})
    run_on(root)
    assert "APP_WORKERS=7" in environment(root)
    release(root)
    run_on(root)
    usual = environment(root)
    release(root, limits=limits)
    run_on(root)
    assert environment(root) == usual and "APP_WORKERS=7" not in usual


def test_only_root_reads_the_environment(root: Path) -> None:
    run_on(root)
    assert stat.S_IMODE((root / "run/app/env").stat().st_mode) == 0o600
    assert stat.S_IMODE((root / "run/app/names").stat().st_mode) == 0o644


@pytest.mark.parametrize(
    ("ipv6", "default", "lines"),
    [
        (False, False, ["listen 80;", "listen 443 ssl;"]),
        (False, True, ["listen 80 default_server;", "listen 443 ssl default_server;"]),
        (True, False, ["listen 80;", "listen 443 ssl;", "listen [::]:80;", "listen [::]:443 ssl;"]),
    ],
)
def test_nginx_listens_where_the_machine_has_addresses(
    rooted: Callable[[str], ModuleType], ipv6: bool, default: bool, lines: list[str]
) -> None:
    configure = rooted("configure")
    if ipv6:
        configure.IPV6.parent.mkdir(parents=True)
        configure.IPV6.touch()
    assert configure.listen("ssl", " default_server" if default else "").splitlines() == lines


def test_files_are_replaced_whole(configure: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "sub" / "file"
    configure.write(path, "one")
    (tmp_path / "sub" / ".file.partial").write_text("left by a power cut")
    before = path.stat().st_ino
    configure.write(path, "two", 0o600)
    assert path.read_text() == "two"
    assert path.stat().st_ino != before
    assert [path.name for path in path.parent.iterdir()] == ["file"]


def test_two_cpus_and_a_gigabyte_have_16_slots(configure: ModuleType) -> None:
    assert configure.workers(2, 1000 * MIB, configure.WORKER_MEMORY) * Limits().threads == 16
