"""The machine's program that writes nginx's and uWSGI's settings, run on a tree of its own."""

from __future__ import annotations

import configparser
import json
import re
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from conftest import PROGRAMS, Fake

from bake import machine
from bake.errors import ProgramError
from bake.run import run
from bake.target import TARGETS

MIB = 1 << 20
ODD = {
    "PLAIN": "info",
    "EMPTY": "",
    "SPACES": "  two  words  ",
    "HASH": "a # b ; c",
    "PERCENT": "100%",
    "APOSTROPHE": "it's",
    "UNICODE": "grüße ☃",
}
ESCAPED = {"QUOTE": 'say "hello"', "BACKSLASH": r"C:\new\\", "DOLLAR": "$HOME ${HOME}", "BACKTICK": "`id`"}


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
    (root / "srv/app/current").mkdir(parents=True, exist_ok=True)
    (root / "srv/app/current/recipe.json").write_text(json.dumps({"wsgi": "app:app", **recipe}))


def domains(root: Path, text: str) -> None:
    (root / "etc/app").mkdir(parents=True, exist_ok=True)
    (root / "etc/app/domains").write_text(text)


def run_on(root: Path) -> str:
    return run([sys.executable, PROGRAMS / "configure", root]).stdout


def nginx(root: Path, name: str = "servers.conf") -> str:
    return (root / "run/app/nginx" / name).read_text()


def test_a_machine_without_a_release_is_configured_all_the_same(root: Path) -> None:
    assert run_on(root) == "configured: any name; certificate placeholder\n"
    assert "server_name _;" in nginx(root)
    assert "unknown-hosts.conf" not in nginx(root)
    assert "listen 443 ssl http2 default_server;" in nginx(root, "listen.conf")
    assert (root / "run/app/env").read_text() == (root / "run/app/secrets").read_text() == ""


def test_a_release_is_configured_as_its_recipe_asks(root: Path) -> None:
    release(
        root, domains=["one.example", "two.example"], env={"A": "b"}, static={"/static": "static"},
        limits={"body": 5000, "request": 90, "workers": 3, "threads": 2},
    )  # fmt: skip
    assert run_on(root) == "configured: one.example, two.example; certificate placeholder\n"
    server = nginx(root)
    assert "server_name one.example two.example;" in server
    assert "client_max_body_size 5000;" in server
    # nginx waits longer than uWSGI allows, so that the app's side speaks first.
    assert "uwsgi_read_timeout 95s;" in server
    assert "unknown-hosts.conf" in server
    assert "default_server" not in nginx(root, "listen.conf")
    assert "default_server" in nginx(root, "listen-default.conf")
    (root / "srv/app/releases").mkdir()
    (root / "srv/app/current").rename(root / "srv/app/releases/12ab")
    (root / "srv/app/current").symlink_to("releases/12ab")
    run_on(root)
    settings = (root / "run/app/uwsgi.ini").read_text().splitlines()
    assert settings[:4] == ["[uwsgi]", "processes = 3", "threads = 2", "harakiri = 90"]
    # Not by `current`, which leads elsewhere while the next release is tried.
    assert "virtualenv = /srv/app/releases/12ab/venv" in settings
    assert "chdir = /srv/app/releases/12ab/source" in settings
    assert "processes = 2" in (root / "run/app/uwsgi-next.ini").read_text()


JOBS = {
    "setup": ["flask db upgrade", "echo 'it is' done"],
    "timers": {"digest": {"run": "flask send", "when": "daily"}},
    "sandbox": {"allow": ["jit"]}, "secrets": ["KEY", "URL"],
}  # fmt: skip


def test_jobs_and_what_the_sandbox_allows(root: Path, fake: Fake, tmp_path: Path) -> None:
    fake("systemctl", f'echo "$*" >> {tmp_path}/words')
    release(root, **JOBS)
    run_on(root)
    units = root / "run/systemd/system"
    timer = configparser.ConfigParser()
    timer.read(units / "app-digest.timer")
    assert dict(timer["Timer"]) == {"oncalendar": "daily", "persistent": "yes", "unit": "app-job@digest.service"}
    for service in ("app", "app-next", "app-job@"):
        allowed = (units / f"{service}.service.d/60-allow.conf").read_text()
        assert allowed == "[Service]\nMemoryDenyWriteExecute=no\n"
    assert (root / "run/app/jobs/digest").read_text() == "flask send\n"
    said = run(["sh", "-e", root / "run/app/jobs/setup"], check=False, env={"PATH": "/nowhere"})
    assert said.stdout == "step 1 of 2: flask db upgrade\n"
    assert said.status != 0
    assert (root / "run/app/secrets").read_text() == "KEY\nURL\n"
    assert (tmp_path / "words").read_text() == "daemon-reload\n"
    # Nothing changed: systemd, whose reload takes seconds on a small machine, is left alone.
    run_on(root)
    assert (tmp_path / "words").read_text() == "daemon-reload\n"
    release(root)
    run_on(root)
    assert list(units.rglob("*.timer")) == list(units.rglob("*.conf")) == []
    assert (tmp_path / "words").read_text().splitlines()[1:] == ["stop app-digest.timer", "daemon-reload"]


def test_django_s_settings_and_static_files(root: Path) -> None:
    release(root, wsgi="site.wsgi:application", domains=["a.example"],
            django={"settings": "site.settings", "static_url": "/static"})  # fmt: skip
    run_on(root)
    environment = (root / "run/app/env").read_text().splitlines()
    assert 'DJANGO_SETTINGS_MODULE="app_settings"' in environment
    assert {'APP_DJANGO_SETTINGS="site.settings"', 'APP_DOMAINS="a.example"'} <= set(environment)
    assert "location ^~ /static/ {" in nginx(root, "static.conf")
    assert "alias /var/cache/app/static/;" in nginx(root, "static.conf")
    assert "collectstatic" in (root / "run/app/jobs/static").read_text()
    release(root, django="off")
    run_on(root)
    assert "DJANGO" not in (root / "run/app/env").read_text()


def test_an_app_without_jobs_costs_no_reload(root: Path, fake: Fake, tmp_path: Path) -> None:
    fake("systemctl", f"touch {tmp_path}/called")
    release(root)
    run_on(root)
    assert not (tmp_path / "called").exists()


@pytest.mark.parametrize(
    ("wsgi", "flask"), [("app:app", "app:app"), ("a.b:make()", "a.b:make()"), ("p.ini", None), ("a:f('x')", None)]
)
def test_the_command_flask_knows_the_app(configure: ModuleType, wsgi: str, flask: str | None) -> None:
    assert configure.flask(wsgi).get("FLASK_APP") == flask


@pytest.mark.parametrize(
    ("have", "missing"), [({}, "KEY URL"), ({"KEY": "x", "URL": ""}, "URL"), ({"KEY": "x", "URL": "y"}, "")]
)
def test_missing_secrets_are_named(root: Path, tmp_path: Path, have: dict[str, str], missing: str) -> None:
    program = (PROGRAMS / "look-for-secrets").read_text().replace("/run/app/secrets", str(tmp_path / "secrets"))
    assert run(["sh", "-c", program], check=False).status == 0
    (tmp_path / "secrets").write_text("KEY\nURL\n")
    done = run(["sh", "-c", program], check=False, env=have)
    assert (done.status, done.stdout) == (0, "") if not missing else done.status == 1
    assert f"<3>missing secrets: {missing}." in done.stdout or not missing


def test_every_include_of_ours_is_written_or_in_the_tree(root: Path) -> None:
    release(root, domains=["one.example"], static={"/static": "static"})
    run_on(root)
    texts = [path.read_text() for path in (root / "run/app/nginx").iterdir()]
    texts += [path.read_text() for path in (PROGRAMS / "nginx").glob("*.conf")]
    ours = set(re.findall(r"^\s*include (/(?:run|usr/lib)/app/\S+);", "\n".join(texts), re.MULTILINE))
    assert len(ours) > 4
    for path in ours:
        if path.startswith("/run"):
            assert (root / path[1:]).is_file(), path
        else:
            assert all(path in {file.path for file in machine.files(goal)} for goal in TARGETS.values()), path


def test_people_have_the_last_word_on_domains(root: Path) -> None:
    release(root, domains=["recipe.example"])
    domains(root, "# ours\nMine.Example\n\n  other.example  # with a remark\n")
    assert run_on(root).startswith("configured: mine.example, other.example;")
    domains(root, "\n# none\n")
    assert run_on(root).startswith("configured: any name;")


@pytest.mark.parametrize(
    "name", ["two words", "http://x.example", "x.example;", "-x.example", "localhost", "1.2.3.4", "*.x.example"]
)
def test_a_name_that_is_none_is_refused_and_nothing_changes(root: Path, name: str) -> None:
    domains(root, "good.example\n")
    run_on(root)
    before = nginx(root)
    domains(root, f"good.example\n{name}\n")
    with pytest.raises(ProgramError) as caught:
        run_on(root)
    assert f"not a domain name: {name.lower()}." in caught.value.details
    assert "Traceback" not in caught.value.details
    assert nginx(root) == before


def test_a_certificate_is_used_once_it_is_there_and_names_are_known(root: Path) -> None:
    live = root / "etc/letsencrypt/live/app"
    live.mkdir(parents=True)
    (live / "fullchain.pem").touch()
    release(root)
    assert "certificate placeholder" in run_on(root)
    release(root, domains=["one.example"])
    assert "certificate issued" in run_on(root)
    used = f"ssl_certificate {live}/fullchain.pem;\nssl_certificate_key {live}/privkey.pem;\n"
    assert nginx(root, "certificate.conf") == used
    assert "return 301 https://$host$request_uri;" in nginx(root, "redirect.conf")
    assert 'Strict-Transport-Security "max-age=63072000"' in nginx(root)


def test_nothing_promises_https_before_there_is_a_certificate(root: Path) -> None:
    release(root, domains=["one.example"])
    run_on(root)
    assert nginx(root, "redirect.conf") == ""
    assert "Strict-Transport-Security" not in nginx(root)
    assert f"ssl_certificate {root}/run/app/tls/fullchain.pem;" in nginx(root, "certificate.conf")


def test_the_placeholder_is_a_certificate_and_its_key_stays_the_machines(root: Path) -> None:
    domains(root, "one.example\n")
    run_on(root)
    tls = root / "run/app/tls"
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
    one, two = ((tmp_path / name / "run/app/tls/privkey.pem").read_text() for name in ("one", "two"))
    assert one != two


@pytest.mark.parametrize(
    ("cpus", "memory", "count"),
    [(1, 256, 2), (1, 512, 2), (2, 1024, 4), (4, 1024, 6), (2, 8192, 4), (16, 4096, 30), (64, 65536, 128)],
)
def test_workers_go_by_cpus_and_memory(configure: ModuleType, cpus: int, memory: int, count: int) -> None:
    assert configure.workers(cpus, memory * MIB) == count


def test_workers_may_be_set(configure: ModuleType) -> None:
    wanted = {"wsgi": "a:b", "limits": {"workers": 7}}
    assert "processes = 7\n" in configure.uwsgi(wanted, "/r", 2, 1024 * MIB)
    assert "processes = 4\n" in configure.uwsgi({"wsgi": "a:b", "limits": {"workers": "auto"}}, "/r", 2, 1024 * MIB)
    assert "threads = 4\nharakiri = 60\n" in configure.uwsgi(wanted, "/r", 2, 1024 * MIB)


def understood(root: Path, values: dict[str, str]) -> dict[str, str]:
    """What a shell reads from the file of the environment: systemd.exec(5) has the same rules."""
    release(root, env=values)
    run_on(root)
    script = 'set -a; . "$1"; env -0'
    said = run(["env", "-i", "sh", "-c", script, "sh", root / "run/app/env"]).stdout
    found = dict(row.split("=", 1) for row in said.split("\0") if row)
    return {name: value for name, value in found.items() if name in values}


def test_the_environment_is_read_as_it_was_meant(root: Path) -> None:
    assert understood(root, ODD) == ODD


@pytest.mark.parametrize("name", ESCAPED)
def test_what_quotes_would_read_is_escaped(root: Path, name: str) -> None:
    assert understood(root, {name: ESCAPED[name]}) == {name: ESCAPED[name]}


def test_only_root_reads_the_environment(root: Path) -> None:
    release(root, env=ODD)
    run_on(root)
    assert stat.S_IMODE((root / "run/app/env").stat().st_mode) == 0o600
    assert stat.S_IMODE((root / "run/app/uwsgi.ini").stat().st_mode) == 0o644


@pytest.mark.parametrize(
    ("ipv6", "default", "lines"),
    [
        (False, False, ["listen 80;", "listen 443 ssl;"]),
        (False, True, ["listen 80 default_server;", "listen 443 ssl default_server;"]),
        (True, False, ["listen 80;", "listen 443 ssl;", "listen [::]:80;", "listen [::]:443 ssl;"]),
    ],
)
def test_nginx_listens_where_the_machine_has_addresses(
    configure: ModuleType, ipv6: bool, default: bool, lines: list[str]
) -> None:
    assert configure.listen(ipv6, "ssl", default).splitlines() == lines


@pytest.mark.parametrize(("prefix", "folder"), [("/static", "static"), ("/static/", "static/")])
def test_static_folders_end_in_one_slash(configure: ModuleType, prefix: str, folder: str) -> None:
    # An alias whose slash does not match its location's lets visitors out of the folder.
    text = configure.static({"static": {prefix: folder}, "django": None})
    assert "location ^~ /static/ {" in text
    assert "alias /srv/app/current/source/static/;" in text
    assert text.count("{") == text.count("}") == 1


def test_files_are_replaced_whole(configure: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "sub" / "file"
    configure.write(path, "one")
    (tmp_path / "sub" / ".file.partial").write_text("left by a power cut")
    before = path.stat().st_ino
    configure.write(path, "two", 0o600)
    assert path.read_text() == "two"
    assert path.stat().st_ino != before
    assert [path.name for path in path.parent.iterdir()] == ["file"]
