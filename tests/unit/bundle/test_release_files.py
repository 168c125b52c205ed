"""What a release holds for its machine, and that the machine looks for it there."""

from __future__ import annotations

import configparser
import json
import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import PROGRAMS, REPOSITORY

from bake.bundle import release_files
from bake.config.recipe import Recipe
from bake.config.sections import OPTIONS
from bake.host import paths
from bake.host.programs import run, which

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


def files(folder: Path, **recipe: Any) -> dict[str, str]:
    """Path to text, of an app whose whole folder is its source."""
    made = release_files.files(folder, Recipe.model_validate(recipe), sorted(folder.rglob("*")))
    return {name: file.text for name, file in made.items()}


def extras() -> dict[str, str]:
    """What every release brings in a bundle."""
    return {
        path: file.text
        for name in (*release_files.EXTRAS, *release_files.BUNDLE_FEATURES)
        for path, file in release_files.feature_files(name).items()
    }


def test_a_plain_app_s_release_says_little(app: Path) -> None:
    assert files(app, name="hello", wsgi="app:app", requirements=["flask"], static={}) == {
        "recipe.json": '{\n "wsgi": "app:app"\n}\n',
        "settings/env": 'FLASK_APP="app:app"\n',
        **extras(),
    }


def test_what_keeps_certificates_comes_with_apps_that_ask_for_it(app: Path) -> None:
    brought = files(app, wsgi="app:app", certificate={"keep": "/srv/keep"})
    said = json.loads(brought["recipe.json"])
    assert (said["keep"], said["packages"]) == ("/srv/keep", ["age"])
    place = brought["settings/units/app-keep.service.d/60-place.conf"]
    assert "RequiresMountsFor=/srv/keep\n" in place and "ReadWritePaths=-/srv/keep\n" in place
    assert release_files.feature_files("keep").keys() <= brought.keys()
    # A volume is mounted by the program, in its own view.
    assert not any("place" in name for name in files(app, wsgi="app:app", certificate={"keep": "LABEL=keep"}))
    plain = files(app, wsgi="app:app", certificate={"authority": "staging"})
    assert not any("keep" in name for name in plain)


def test_what_machines_on_ec2_need_comes_with_their_apps_and_with_what_a_bucket_keeps(app: Path) -> None:
    brought = release_files.feature_files("aws").keys()
    assert {"settings/aws.py", "settings/bucket.py", "settings/volume.py"} < brought
    with_aws: list[dict[str, Any]] = [
        {"aws": {}}, {"aws": {"role": True}}, {"certificate": {"keep": "s3://a-bucket/shop"}}
    ]  # fmt: skip
    for recipe in with_aws:
        assert brought <= files(app, **recipe).keys()
    without: list[dict[str, Any]] = [{}, {"certificate": {"keep": "/srv/keep"}}, {"secrets": ["A"]}]
    for recipe in without:
        assert not brought & files(app, **recipe).keys()
    kept = files(app, certificate={"keep": "s3://a-bucket/shop"})
    assert json.loads(kept["recipe.json"])["keep"] == "s3://a-bucket/shop" and "settings/keep.py" in kept
    # What people write into /etc/app has the last word with values that a launch refers to, as with all others.
    lines = kept["settings/units/app.service.d/60-aws.conf"].splitlines()
    sandbox = (REPOSITORY / "cloud-init/rootfs/etc/systemd/system/app.service.d/50-sandbox.conf").read_text()
    assert lines[2] == "EnvironmentFile=-/run/app/secrets.env" and "\n".join(lines[3:]) in sandbox
    for service in ("app-next", "app-job@"):
        assert kept[f"settings/units/{service}.service.d/60-aws.conf"].splitlines() == lines


def test_the_app_reaches_the_metadata_service_where_its_role_is_for_it(app: Path) -> None:
    opened = files(app, aws={"role": True})
    closed = files(app, aws={})
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
    made = files(app, certificate={"dns": {"server": "192.0.2.53", "key": "a-key"}}, packages=["libpq5"])
    assert json.loads(made["recipe.json"]) == {
        "dns": {"server": "192.0.2.53", "port": 53, "key": "a-key", "algorithm": "HMAC-SHA256", "wait": 60},
        "packages": ["libpq5", OPTIONS["dns"].package],
    }
    assert made.keys() - extras().keys() == {"recipe.json", "settings/zone.py"}
    assert release_files.keys(
        Recipe.model_validate({"certificate": {"dns": {"server": "192.0.2.53", "key": "a"}}})
    ) == {"DNS_KEY": "dns.key"}


def test_the_exchange_of_workers_brings_its_units() -> None:
    brought = release_files.feature_files("exchange")
    assert set(brought) == {
        "settings/exchange.py", "settings/units/app-next.service", "settings/units/app-next.socket",
        "settings/units/app-next.service.d/50-sandbox.conf",
    }  # fmt: skip
    # What serves meanwhile does so in the app's own sandbox.
    sandbox = REPOSITORY / "cloud-init/rootfs/etc/systemd/system/app.service.d/50-sandbox.conf"
    assert brought["settings/units/app-next.service.d/50-sandbox.conf"].text == sandbox.read_text()


def test_extras_are_told_apart_and_their_hints_are_for_authors() -> None:
    assert len(extras()) == sum(
        len(release_files.feature_files(name)) for name in (*release_files.EXTRAS, *release_files.BUNDLE_FEATURES)
    )
    assert all(text and path.startswith("settings/") for path, text in extras().items())
    assert set(release_files.feature_files("hints")) == {"settings/hooks/watch.py"}


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
    said = files(app, **{**recipe, **more, "check": {"health": "/up", "env": {"KEY": "for the check"}}})
    assert json.loads(said["recipe.json"]) == recipe
    assert "check" not in files(app, check={"env": {"KEY": "for the check"}})["recipe.json"]


def test_the_same_recipe_is_the_same_files(app: Path) -> None:
    values = {"env": {"A": "1", "B": "2"}, "static": {"/a": "a", "/b": "b"}}
    assert files(app, **values) == files(app, **{key: dict(reversed(said.items())) for key, said in values.items()})


@pytest.mark.parametrize(
    ("wsgi", "flask"), [("app:app", "app:app"), ("a.b:make()", "a.b:make()"), ("p.ini", None), ("a:f('x')", None)]
)
def test_the_command_flask_knows_the_app(wsgi: str, flask: str | None) -> None:
    assert release_files.flask(wsgi).get("FLASK_APP") == flask


def understood(app: Path, values: dict[str, str]) -> dict[str, str]:
    """What a shell reads from the file of the environment: systemd.exec(5) has the same rules."""
    (app / "env").write_text(files(app, env=values)["settings/env"])
    said = run(["env", "-i", "sh", "-c", 'set -a; . "$1"; env -0', "sh", app / "env"]).stdout
    found = dict(row.split("=", 1) for row in said.split("\0") if row)
    return {name: value for name, value in found.items() if name in values}


def test_the_environment_is_read_as_it_was_meant(app: Path) -> None:
    assert understood(app, ODD) == ODD


@pytest.mark.parametrize("name", ESCAPED)
def test_what_quotes_would_read_is_escaped(app: Path, name: str) -> None:
    assert understood(app, {name: ESCAPED[name]}) == {name: ESCAPED[name]}


def test_a_job_may_take_longer_than_usual(app: Path) -> None:
    timers = {"digest": {"run": "true", "when": "daily"}, "report": {"run": "true", "when": "daily", "limit": "2h"}}
    found = files(app, timers=timers, limits={"steps": "40m"}, release=["true"])
    seconds = {"app-job@report": 7200, "app-job@setup": 2400, "app-job@release": 2400, "app-setup": 8400}
    texts = {f"settings/units/{unit}.service.d/60-limit.conf": limit for unit, limit in seconds.items()}
    assert {name: text for name, text in found.items() if "60-limit" in name} == {
        name: f"[Service]\nTimeoutStartSec={limit}\n" for name, limit in texts.items()
    }
    # app-configure installs only units of these names.
    ours = (paths.rootfs() / "usr/lib/app/configure").read_text()
    assert '"ap[pt]*.service.d/?0-*.conf"' in ours
    assert not [name for name in files(app, timers={"digest": timers["digest"]}) if "60-limit" in name]


def test_large_uploads_are_not_kept_in_memory(app: Path) -> None:
    names = [f"settings/units/{unit}.service.d/60-tmp.conf" for unit in ("app", "app-next", "app-job@")]
    found = files(app, limits={"body": "1G"})
    assert [found[name] for name in names] == ["[Service]\nEnvironment=TMPDIR=/var/tmp\n"] * 3
    assert not {*names} & {*files(app, limits={"body": "10M"})}


def test_jobs_and_what_the_sandbox_allows(app: Path) -> None:
    timers = {"digest": {"run": "flask send", "when": "daily"}}
    setup = ["flask db upgrade", "echo 'it is' done"]
    found = files(app, setup=setup, timers=timers, sandbox={"allow": ["jit"]}, secrets=["KEY", "URL"])
    timer = configparser.ConfigParser()
    timer.read_string(found["settings/units/app-digest.timer"])
    assert dict(timer["Timer"]) == {"oncalendar": "daily", "persistent": "yes", "unit": "app-job@digest.service"}
    assert found["settings/units/app.service.d/60-timers.conf"] == "[Unit]\nWants=app-digest.timer\n"
    assert timer["Unit"]["After"] == "app.service", "the app's steps and its start come first"
    assert release_files.feature_files("steps")["settings/secret"].mode == 0o755
    assert release_files.feature_files("steps").keys() <= found.keys()
    for service in ("app", "app-next", "app-job@"):
        allowed = found[f"settings/units/{service}.service.d/60-allow.conf"]
        assert allowed == "[Service]\nMemoryDenyWriteExecute=no\n"
    assert found["settings/jobs/digest"] == "flask send\n"
    (app / "setup").write_text(found["settings/jobs/setup"])
    said = run(["sh", "-e", app / "setup"], check=False, env={"PATH": "/nowhere"})
    assert said.stdout == "step 1 of 2: flask db upgrade\n"
    assert said.status != 0


def opened(app: Path, *doors: str) -> set[str]:
    """The lines that the sandbox gets for these doors."""
    found = files(app, sandbox={"allow": list(doors)})
    names = [f"settings/units/{unit}.service.d/60-allow.conf" for unit in ("app", "app-next", "app-job@")]
    assert len({found.get(name) for name in names}) == 1
    return {*found.get(names[0], "").splitlines()} - {"[Service]"}


def test_a_door_of_the_sandbox_opens_what_it_is_for(app: Path) -> None:
    assert opened(app) == set()
    assert opened(app, "proc") == {"ProcSubset=all"}
    assert opened(app, "nice") == {"SystemCallFilter=@resources"}
    browser = opened(app, "browser")
    assert browser > opened(app, "jit", "proc") and "RestrictNamespaces=user pid net" in browser
    assert opened(app, "nice", "proc") == {"ProcSubset=all", "SystemCallFilter=@resources"}


@pytest.mark.skipif(which("systemd-analyze") is None, reason="no systemd here")
def test_systemd_reads_the_doors(app: Path, tmp_path: Path) -> None:
    """systemd itself rates the app's unit with each of them; an unknown word in them would be a warning."""
    ratings = {}
    for door in ("", "jit", "proc", "nice", "browser"):
        root = tmp_path / f"root-{door}"
        units = root / "etc/systemd/system"
        shutil.copytree(paths.rootfs() / "etc/systemd/system", units)
        (root / "usr/lib/systemd/system").mkdir(parents=True)
        allowed = files(app, sandbox={"allow": [door] if door else []})
        (units / "app.service.d/60-allow.conf").write_text(
            allowed.get("settings/units/app.service.d/60-allow.conf", "")
        )
        told = run(["systemd-analyze", "security", "--offline=true", f"--root={root}", "app.service"], check=False)
        assert not re.search("60-allow|50-sandbox|unknown", told.stderr.lower()), told.stderr
        rating = re.search(r"exposure level for app.service: ([\d.]+)", told.stdout)
        assert rating, told.stderr
        ratings[door] = float(rating[1])
    most = {"": 1.2, "jit": 1.3, "proc": 1.2, "nice": 1.4, "browser": 2.0}
    assert all(ratings[door] <= most[door] for door in most), ratings


def test_a_time_zone_and_a_locale_are_those_of_the_app_and_its_timers(app: Path) -> None:
    timers = {
        "a": {"run": "true", "when": "Mon 06:30"}, "b": {"run": "true", "when": "daily UTC"},
        "c": {"run": "true", "when": "Mon..Fri"},
    }  # fmt: skip
    made = files(app, timezone="Europe/Berlin", locale="de_DE.UTF-8", timers=timers, env={"A": "1"})
    assert made["settings/env"].splitlines() == ['A="1"', 'LANG="de_DE.UTF-8"', 'TZ="Europe/Berlin"']
    times = [re.findall("OnCalendar=(.*)", made[f"settings/units/app-{name}.timer"]) for name in timers]
    assert times == [["Mon 06:30 Europe/Berlin"], ["daily UTC"], ["Mon..Fri Europe/Berlin"]]
    recipe = json.loads(made["recipe.json"])
    assert {"locales-all", "tzdata"} <= {*recipe["packages"]} and "timezone" not in recipe
    assert files(app, timezone="Europe/Berlin", env={"TZ": "UTC"})["settings/env"] == 'TZ="UTC"\n'
    assert "settings/env" not in files(app)


def test_a_swap_file_is_made_by_a_unit_that_the_app_wants(app: Path) -> None:
    made = files(app, swap="1G")
    unit = made["settings/units/app-swap.service"]
    assert "ExecStart=/srv/app/current/settings/swap /var/swap 1073741824\n" in unit
    assert "ConditionPathExists=!/run/app-check\n" in unit
    assert made["settings/units/app.service.d/60-swap.conf"] == "[Unit]\nWants=app-swap.service\n"
    assert release_files.feature_files("swap").keys() <= made.keys()
    assert not [name for name in files(app) if "swap" in name]


def test_limits_are_said_where_they_are_not_the_usual_ones(app: Path) -> None:
    # nginx waits longer than uWSGI allows, so that the app's side speaks first.
    assert files(app, limits={"body": "5000", "request": "90s"})["settings/nginx/limits.conf"].splitlines() == [
        "client_max_body_size 5000;",
        "uwsgi_read_timeout 95s;",
        "uwsgi_send_timeout 95s;",
    ]
    said = configparser.ConfigParser()
    said.read_string(files(app, limits={"request": "90s", "threads": "8"})["settings/uwsgi.ini"])
    assert dict(said["uwsgi"]) == {"harakiri": "100", "threads": "8"}
    assert "settings/uwsgi.ini" not in files(app, limits={"body": "5000"})
    assert "settings/nginx/limits.conf" not in files(app, limits={"threads": "8"})


def test_an_asgi_app_s_release_has_its_loader_and_speaks_http(app: Path) -> None:
    keys = {"limits": {"request": "90s"}, "static": {"/static": "static"}, "preload": True}
    made = files(app, asgi="main:app", **keys)
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
    plain = files(app, wsgi="main:app", **keys)
    assert not any("asgi" in name or "@http" in text or "proxy_" in text for name, text in plain.items())


def test_a_program_s_release_has_its_launcher_and_unbuffered_http(app: Path) -> None:
    made = files(app, run="python3 app.py")
    assert json.loads(made["recipe.json"])["run"] == "python3 app.py"
    for unit, port in (("app", 8001), ("app-next", 8002)):
        drop_in = made[f"settings/units/{unit}.service.d/60-run.conf"]
        assert "ExecStart=\nExecStart=/usr/bin/env" in drop_in and f"/settings/run.py {port}\n" in drop_in
    assert "proxy_buffering off;\n" in made["settings/nginx/http.conf"] and "settings/uwsgi.ini" not in made
    assert "proxy_buffering" not in files(app, asgi="main:app")["settings/nginx/http.conf"]


@pytest.mark.parametrize("server", ["gunicorn", "waitress"])
def test_another_wsgi_server_s_release_has_its_program_and_speaks_http(app: Path, server: str) -> None:
    made = files(app, wsgi="main:app", server=server, preload="on")
    assert json.loads(made["recipe.json"])["server"] == server
    for unit in ("app", "app-next"):
        drop_in = made[f"settings/units/{unit}.service.d/60-wsgi.conf"]
        assert "ExecStart=\nExecStart=/usr/bin/env" in drop_in and "/settings/wsgi_server.py" in drop_in
    assert made["settings/env"].splitlines() == ['APP_PRELOAD="1"', 'FLASK_APP="main:app"']
    assert "location @http {" in made["settings/nginx/http.conf"] and "settings/uwsgi.ini" not in made


def test_a_program_with_its_own_port_is_not_exchanged(app: Path) -> None:
    with_port, without = (files(app, run="python3 app.py", **keys) for keys in ({"port": "5000"}, {}))
    assert json.loads(with_port["recipe.json"])["port"] == 5000
    assert "settings/exchange.py" in without and "settings/exchange.py" not in with_port
    assert set(without) - set(with_port) == set(release_files.feature_files("exchange"))


@pytest.mark.parametrize(("prefix", "folder"), [("/static", "static"), ("/static/", "static/")])
def test_static_folders_end_in_one_slash(app: Path, prefix: str, folder: str) -> None:
    text = files(app, static={prefix: folder})["settings/nginx/static.conf"]
    assert "location ^~ /static/ {" in text
    assert "alias /srv/app/current/source/static/;" in text
    assert text.count("{") == text.count("}") == 2
    # Uploads that only the app may read, and files that it makes up, have a page at the app.
    server = (PROGRAMS / "nginx/server.conf").read_text()
    assert "error_page 403 404 = @app;" in text and "location @app {" in server and "try_files /none @app;" in server


def test_django_s_settings_and_static_files(app: Path) -> None:
    found = files(app, wsgi="site.wsgi:application", django={"settings": "site.settings"})
    assert 'DJANGO_SETTINGS_MODULE="app_settings"\n' in found["settings/env"]
    assert 'APP_DJANGO_SETTINGS="site.settings"\n' in found["settings/env"]
    static = found["settings/static-location"]
    assert "location ^~ STATIC_URL/ {" in static and "STATIC_URL" not in static.replace("^~ STATIC_URL/", "")
    assert "alias /var/cache/app/static/;" in static
    assert "    disable_symlinks if_not_owner from=/var/cache/app/static;\n" in static
    assert "collect.py" in found["settings/jobs/static"] and "collectstatic" in found["settings/collect.py"]
    assert "APP_DJANGO_SETTINGS" in found["settings/django/app_settings.py"]
    assert "APP_DJANGO_SETTINGS" in found["settings/hooks/settings.py"]
    assert not any("DJANGO" in text or "collectstatic" in text for text in files(app, django="off").values())


@pytest.mark.parametrize(
    ("recipe", "served"),
    [
        ({}, False), ({"django": {"settings": "s", "media": "on"}}, True), ({"static": {"/media": "s"}}, False),
        ({"static": {"/media": "s"}, "writable": ["s"]}, True),
    ],
)  # fmt: skip
def test_uploads_that_nginx_may_not_read_are_served_by_django(app: Path, recipe: dict[str, Any], served: bool) -> None:
    found = files(app, **{"django": {"settings": "s"}, **recipe})
    assert ('APP_DJANGO_MEDIA="1"' in found["settings/env"]) is served


def test_release_steps_are_recorded_with_the_app_s_data(app: Path, tmp_path: Path) -> None:
    script = files(app, release=["echo migrated", "test -e allowed"])["settings/jobs/release"]
    assert (
        "settings/steps.py" in files(app, release=["true"]) and "release" not in files(app, release=[])["recipe.json"]
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
    said.read_string(files(app, preload="on")["settings/uwsgi.ini"])
    assert dict(said["uwsgi"]) == {"lazy-apps": "false"}
    assert "settings/uwsgi.ini" not in files(app, preload="off")


def write(folder: Path, name: str, text: str) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)


def test_the_app_s_own_commands_are_made(app: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    points = """
        [gui]
        w = shop:cli
        [console_scripts]
        shop = shop:cli.main [extra]
        ../x = shop:cli
        .. = shop:cli
        module = shop
        bad = ?
        none
        [other]
        y = shop:cli
    """
    write(app, "src/shop.egg-info/entry_points.txt", "\n".join(line.strip() for line in points.splitlines()))
    write(app, "src/shop.py", "class cli:\n    main = staticmethod(lambda: 3)\n")
    write(app, "vendored/x.egg-info/entry_points.txt", "[console_scripts]\nother = x:y\n")
    made = release_files.files(app, Recipe(), sorted(app.rglob("*")))
    assert [name for name in made if name.startswith("settings/bin/")] == ["settings/bin/shop"]
    command = made["settings/bin/shop"]
    (app / "shop").write_text(command.text)
    (app / "shop").chmod(command.mode)
    # As the units have it, the virtualenv's folder stands first.
    (app / "bin").mkdir()
    (app / "bin/python").symlink_to(sys.executable)
    monkeypatch.setenv("PATH", f"{app}/bin{os.pathsep}{os.environ['PATH']}")
    done = run([app / "shop"], env={"PYTHONPATH": str(app / "src")}, check=False)
    assert done.status == 3, done.stderr


PROJECT = '[project]\nname = "My.App"\nversion = "1.2"\n[project.scripts]\nserve = "app:main"\n'


def test_a_project_s_commands_are_made_of_what_it_says(app: Path) -> None:
    write(app, "pyproject.toml", PROJECT)
    assert "from app import main\n" in files(app)["settings/bin/serve"]
    # Of a packaged app's folder nothing is looked at.
    packaged = files(app, app={"package": "x==1"}, wsgi="x:x")
    assert not [name for name in packaged if name.startswith(("source/", "settings/bin/"))]


def test_a_version_that_is_computed_stays_unknown(app: Path) -> None:
    write(app, "pyproject.toml", PROJECT.replace('version = "1.2"', 'dynamic = ["version"]'))
    known = release_files.distribution(app, [])
    assert "serve = app:main" in known["my_app-unknown.dist-info/entry_points.txt"]
    assert "\nVersion:" not in known["my_app-unknown.dist-info/METADATA"]
    for unknown in ("[project]\nname = 'x'\ndynamic = ['version']\n", "[tool.black]\n"):
        write(app, "pyproject.toml", unknown)
        assert release_files.distribution(app, []) == {}


def test_a_project_that_was_built_keeps_what_the_build_said(app: Path) -> None:
    write(app, "pyproject.toml", PROJECT)
    write(app, "x.egg-info/PKG-INFO", "")
    assert release_files.distribution(app, [app / "x.egg-info"]) == {}
    # One that .gitignore keeps out of the release says nothing there.
    assert "my_app-1.2.dist-info/METADATA" in release_files.distribution(app, [])


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
