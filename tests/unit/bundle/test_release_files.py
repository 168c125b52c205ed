"""What a release holds for its machine, and that the machine looks for it there."""

from __future__ import annotations

import configparser
import json
from pathlib import Path
from typing import Any

import pytest
from conftest import PROGRAMS, REPOSITORY, release_texts

from bake.bundle import release_files
from bake.config.recipe import Recipe
from bake.config.sections import OPTIONS
from bake.host.programs import run

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


def extras() -> dict[str, str]:
    """What every release for Debian 13 brings in a bundle."""
    return {
        path: file.text
        for name in (*release_files.extras(Recipe()), *release_files.BUNDLE_FEATURES)
        for path, file in release_files.feature_files(name).items()
    }


def test_a_plain_app_s_release_says_little(app: Path) -> None:
    assert release_texts(app, name="hello", wsgi="app:app", requirements=["flask"], static={}) == {
        "recipe.json": '{\n "wsgi": "app:app"\n}\n',
        "settings/env": 'FLASK_APP="app:app"\n',
        **extras(),
    }


def test_what_keeps_certificates_comes_with_apps_that_ask_for_it(app: Path) -> None:
    brought = release_texts(app, wsgi="app:app", certificate={"keep": "/srv/keep"})
    said = json.loads(brought["recipe.json"])
    assert (said["keep"], said["packages"]) == ("/srv/keep", ["age"])
    place = brought["settings/units/app-keep.service.d/60-place.conf"]
    assert "RequiresMountsFor=/srv/keep\n" in place and "ReadWritePaths=-/srv/keep\n" in place
    assert release_files.feature_files("certificate-keep").keys() <= brought.keys()
    # A volume is mounted by the program, in its own view.
    assert not any("place" in name for name in release_texts(app, wsgi="app:app", certificate={"keep": "LABEL=keep"}))
    plain = release_texts(app, wsgi="app:app", certificate={"authority": "staging"})
    assert not any("keep" in name for name in plain)


def test_what_machines_on_ec2_need_comes_with_their_apps_and_with_what_a_bucket_keeps(app: Path) -> None:
    brought = release_files.feature_files("aws").keys()
    assert {"settings/aws.py", "settings/bucket.py", "settings/volume.py"} < brought
    with_aws: list[dict[str, Any]] = [
        {"aws": {}}, {"aws": {"role": True}}, {"certificate": {"keep": "s3://a-bucket/shop"}}
    ]  # fmt: skip
    for recipe in with_aws:
        assert brought <= release_texts(app, **recipe).keys()
    without: list[dict[str, Any]] = [{}, {"certificate": {"keep": "/srv/keep"}}, {"secrets": ["A"]}]
    for recipe in without:
        assert not brought & release_texts(app, **recipe).keys()
    kept = release_texts(app, certificate={"keep": "s3://a-bucket/shop"})
    assert json.loads(kept["recipe.json"])["keep"] == "s3://a-bucket/shop" and "settings/keep.py" in kept
    # What people write into /etc/app has the last word with values that a launch refers to, as with all others.
    lines = kept["settings/units/app.service.d/60-aws.conf"].splitlines()
    sandbox = (REPOSITORY / "cloud-init/rootfs/etc/systemd/system/app.service.d/50-sandbox.conf").read_text()
    assert lines[2] == "EnvironmentFile=-/run/app/secrets.env" and "\n".join(lines[3:]) in sandbox
    for service in ("app-next", "app-job@"):
        assert kept[f"settings/units/{service}.service.d/60-aws.conf"].splitlines() == lines


def test_the_app_reaches_the_metadata_service_where_its_role_is_for_it(app: Path) -> None:
    opened = release_texts(app, aws={"role": True})
    closed = release_texts(app, aws={})
    assert opened.keys() - closed.keys() == {
        "settings/role.nft",
        *(f"settings/units/{name}.service.d/60-role.conf" for name in ("app", "app-next", "app-job@")),
    }  # fmt: skip
    assert json.loads(opened["recipe.json"]) == {"aws": {"role": True}} and json.loads(closed["recipe.json"]) == {}
    assert (
        opened["settings/units/app.service.d/60-role.conf"]
        == "[Service]\nIPAddressAllow=169.254.169.254 fd00:ec2::254\n"
    )
    # EC2's own, on its port, before the firewall rejects; systemd looks at what is allowed first.
    assert opened["settings/role.nft"] == (
        "meta skuid 800 ip daddr 169.254.169.254 tcp dport 80 accept\n"
        "meta skuid 800 ip6 daddr fd00:ec2::254 tcp dport 80 accept\n"
    )
    firewall = (PROGRAMS / "firewall.nft").read_text()
    includes = [firewall.index(f'include "{place}/*.nft"') for place in ("/run/app-check", "/srv/app/current/settings")]
    # What a bake forbids, then what a release allows, then what every machine refuses.
    assert sorted(includes) == includes and includes[-1] < firewall.index(" reject\n")


def test_what_a_zone_proves_names_with_comes_where_it_is_asked_for(app: Path) -> None:
    made = release_texts(app, certificate={"dns": {"server": "192.0.2.53", "key": "a-key"}}, packages=["libpq5"])
    assert json.loads(made["recipe.json"]) == {
        "dns": {"server": "192.0.2.53", "port": 53, "key": "a-key", "algorithm": "HMAC-SHA256", "wait": 60},
        "packages": ["libpq5", OPTIONS["dns"].package],
    }
    assert made.keys() - extras().keys() == {"recipe.json", "settings/zone.py"}
    assert release_files.keys(
        Recipe.model_validate({"certificate": {"dns": {"server": "192.0.2.53", "key": "a"}}})
    ) == {"DNS_KEY": "dns.key"}


def test_the_exchange_of_workers_brings_its_units() -> None:
    brought = release_files.feature_files("zero-downtime")
    assert set(brought) == {
        "settings/exchange.py", "settings/units/app-next.service", "settings/units/app-next.socket",
        "settings/units/app-next.service.d/50-sandbox.conf",
    }  # fmt: skip
    # What serves meanwhile does so in the app's own sandbox.
    sandbox = REPOSITORY / "cloud-init/rootfs/etc/systemd/system/app.service.d/50-sandbox.conf"
    assert brought["settings/units/app-next.service.d/50-sandbox.conf"].text == sandbox.read_text()


def test_extras_are_told_apart_and_their_hints_are_for_authors() -> None:
    assert len(extras()) == sum(
        len(release_files.feature_files(name))
        for name in (*release_files.extras(Recipe()), *release_files.BUNDLE_FEATURES)
    )
    assert all(text and path.startswith("settings/") for path, text in extras().items())
    assert set(release_files.feature_files("read-only-hints")) == {"settings/hooks/watch.py"}


def test_the_recipe_is_what_is_read_on_the_machine(app: Path) -> None:
    recipe = {
        "wsgi": "app:app", "domains": ["one.example"], "static": {"/s": "s"}, "writable": ["instance"],
        "setup": ["true"], "timers": {"tidy": {"run": "true", "when": "daily"}}, "packages": ["libpq5"],
        "django": {"settings": "site.settings"}, "limits": {"request": 90}, "check": {"health": "/up"},
        "secrets": ["KEY"], "email": "me@one.example",
    }  # fmt: skip
    more: dict[str, Any] = {
        "name": "x", "index": "https://packages.example/simple", "mirror": "https://archive.example/debian",
        "env": {"A": "b"}, "base": "debian-12",
    }  # fmt: skip
    said = release_texts(app, **{**recipe, **more, "check": {"health": "/up", "env": {"KEY": "for the check"}}})
    assert json.loads(said["recipe.json"]) == recipe
    assert "check" not in release_texts(app, check={"env": {"KEY": "for the check"}})["recipe.json"]


def test_the_same_recipe_is_the_same_files(app: Path) -> None:
    values = {"env": {"A": "1", "B": "2"}, "static": {"/a": "a", "/b": "b"}}
    assert release_texts(app, **values) == release_texts(
        app, **{key: dict(reversed(said.items())) for key, said in values.items()}
    )


@pytest.mark.parametrize(
    ("wsgi", "flask"), [("app:app", "app:app"), ("a.b:make()", "a.b:make()"), ("p.ini", None), ("a:f('x')", None)]
)
def test_the_command_flask_knows_the_app(wsgi: str, flask: str | None) -> None:
    assert release_files.flask(wsgi).get("FLASK_APP") == flask


def understood(app: Path, values: dict[str, str]) -> dict[str, str]:
    """What a shell reads from the file of the environment: systemd.exec(5) has the same rules."""
    (app / "env").write_text(release_texts(app, env=values)["settings/env"])
    said = run(["env", "-i", "sh", "-c", 'set -a; . "$1"; env -0', "sh", app / "env"]).stdout
    found = dict(row.split("=", 1) for row in said.split("\0") if row)
    return {name: value for name, value in found.items() if name in values}


def test_the_environment_is_read_as_it_was_meant(app: Path) -> None:
    assert understood(app, ODD) == ODD


@pytest.mark.parametrize("name", ESCAPED)
def test_what_quotes_would_read_is_escaped(app: Path, name: str) -> None:
    assert understood(app, {name: ESCAPED[name]}) == {name: ESCAPED[name]}


def test_an_asgi_app_s_release_has_its_loader_and_speaks_http(app: Path) -> None:
    keys = {"limits": {"request": "90s"}, "static": {"/static": "static"}, "preload": True}
    made = release_texts(app, asgi="main:app", **keys)
    assert json.loads(made["recipe.json"])["asgi"] == "main:app"
    assert made["settings/env"] == 'APP_PRELOAD="1"\n'
    for unit in ("app", "app-next"):
        drop_in = made[f"settings/units/{unit}.service.d/60-asgi.conf"]
        assert "ExecStart=\nExecStart=/usr/bin/env" in drop_in and "/settings/asgi.py\n" in drop_in
    assert made["settings/asgi.py"] == (REPOSITORY / "cloud-init/features/asgi/asgi.py").read_text()
    assert "proxy_read_timeout 95s;\n" in made["settings/nginx/limits.conf"]
    assert "error_page 403 404 = @http;" in made["settings/nginx/static.conf"]
    assert "location @http {" in made["settings/nginx/http.conf"]
    assert "settings/uwsgi.ini" not in made
    # A WSGI app's release has none of it.
    plain = release_texts(app, wsgi="main:app", **keys)
    assert not any("asgi" in name or "@http" in text or "proxy_" in text for name, text in plain.items())


def test_a_program_s_release_has_its_launcher_and_unbuffered_http(app: Path) -> None:
    made = release_texts(app, run="python3 app.py")
    assert json.loads(made["recipe.json"])["run"] == "python3 app.py"
    for unit, port in (("app", 8001), ("app-next", 8002)):
        drop_in = made[f"settings/units/{unit}.service.d/60-run.conf"]
        assert "ExecStart=\nExecStart=/usr/bin/env" in drop_in and f"/settings/run.py {port}\n" in drop_in
    assert "proxy_buffering off;\n" in made["settings/nginx/http.conf"] and "settings/uwsgi.ini" not in made
    assert "proxy_buffering" not in release_texts(app, asgi="main:app")["settings/nginx/http.conf"]


@pytest.mark.parametrize("server", ["gunicorn", "waitress"])
def test_another_wsgi_server_s_release_has_its_program_and_speaks_http(app: Path, server: str) -> None:
    made = release_texts(app, wsgi="main:app", server=server, preload="on")
    assert json.loads(made["recipe.json"])["server"] == server
    for unit in ("app", "app-next"):
        drop_in = made[f"settings/units/{unit}.service.d/60-wsgi.conf"]
        assert "ExecStart=\nExecStart=/usr/bin/env" in drop_in and "/settings/wsgi_server.py" in drop_in
    assert made["settings/env"].splitlines() == ['APP_PRELOAD="1"', 'FLASK_APP="main:app"']
    assert "location @http {" in made["settings/nginx/http.conf"] and "settings/uwsgi.ini" not in made


def test_a_program_with_its_own_port_is_not_exchanged(app: Path) -> None:
    with_port, without = (release_texts(app, run="python3 app.py", **keys) for keys in ({"port": "5000"}, {}))
    assert json.loads(with_port["recipe.json"])["port"] == 5000
    assert "settings/exchange.py" in without and "settings/exchange.py" not in with_port
    assert set(without) - set(with_port) == set(release_files.feature_files("zero-downtime"))


@pytest.mark.parametrize(
    ("recipe", "served"),
    [
        ({}, False), ({"django": {"settings": "s", "media": "on"}}, True), ({"static": {"/media": "s"}}, False),
        ({"static": {"/media": "s"}, "writable": ["s"]}, True),
    ],
)  # fmt: skip
def test_uploads_that_nginx_may_not_read_are_served_by_django(app: Path, recipe: dict[str, Any], served: bool) -> None:
    found = release_texts(app, **{"django": {"settings": "s"}, **recipe})
    assert ('APP_DJANGO_MEDIA="1"' in found["settings/env"]) is served


def test_release_steps_are_recorded_with_the_app_s_data(app: Path, tmp_path: Path) -> None:
    script = release_texts(app, release=["echo migrated", "test -e allowed"])["settings/jobs/release"]
    assert (
        "settings/steps.py" in release_texts(app, release=["true"])
        and "release" not in release_texts(app, release=[])["recipe.json"]
    )
    script = script.replace("/var/lib/app", str(tmp_path))

    def migrated(release: str) -> bool:
        done = run(["sh", "-e", "-c", script], env={"APP_RELEASE": release}, cwd=tmp_path, check=False)
        return "migrated\n" in done.stdout

    assert [migrated("one"), migrated("one")] == [True, True], "a step that failed is tried again"
    (tmp_path / "allowed").touch()
    assert [migrated(name) for name in ("one", "one", "two", "two", "one")] == [True, False, True, False, False]
    (tmp_path / ".released").unlink()
    assert migrated("two"), "other data has not seen them"


def test_an_app_can_be_loaded_before_its_workers_are_made(app: Path) -> None:
    said = configparser.ConfigParser()
    said.read_string(release_texts(app, preload="on")["settings/uwsgi.ini"])
    assert dict(said["uwsgi"]) == {"lazy-apps": "false"}
    assert "settings/uwsgi.ini" not in release_texts(app, preload="off")


@pytest.mark.parametrize(
    ("reader", "line"),
    [
        ("etc/systemd/system/app.service.d/50-sandbox.conf", "EnvironmentFile=-{}/env"),
        ("etc/systemd/system/app.service.d/50-sandbox.conf", "Environment=PATH=/srv/app/current/venv/bin:{}/bin:"),
        ("etc/systemd/system/app-job@.service", "ExecStart=/bin/sh -e {}/jobs/%i"),
        ("etc/systemd/system/app-job@.service", ":{}/django"),
        ("usr/lib/app/nginx/server.conf", "include {}/nginx/*.conf;"),
    ],
)
def test_the_machine_reads_them_in_the_release_in_place(reader: str, line: str) -> None:
    text = (REPOSITORY / "cloud-init/rootfs" / reader).read_text()
    assert line.format("/srv/app/current/settings") in text


def test_the_machine_has_the_last_word_on_the_environment() -> None:
    unit = (REPOSITORY / "cloud-init/rootfs/etc/systemd/system/app.service.d/50-sandbox.conf").read_text()
    places = [
        unit.index(f"\nEnvironmentFile=-{path}\n")
        for path in ("/srv/app/current/settings/env", "/run/app/env", "/run/app-check/env", "/run/app/given.env")
    ]
    assert places == sorted(places)
