"""What the recipe asks for besides serving: data that is kept, steps, timers, secrets."""

import json

import pytest

DATA = "/var/lib/app"


@pytest.fixture(scope="module")
def observed(host):
    """Return what the app was seen to write while its image was made."""
    seen = host.run("cat /var/lib/app-observed.json").stdout
    return json.loads(seen) if seen else {"data": {}, "fresh": []}


def test_what_the_app_writes_is_kept_outside_of_its_release(host, recipe, observed):
    release = host.run("basename $(readlink -f /srv/app/current)").stdout.strip()
    folders = dict.fromkeys(observed["fresh"], f"/var/cache/app/fresh/{release}")
    folders |= dict.fromkeys([*recipe["writable"], *observed["data"]], DATA)
    for name, folder in folders.items():
        kept = host.file(f"{folder}/{name}")
        # A folder below a fresh one is reached by two links.
        assert host.run("readlink -m %s", f"/srv/app/current/source/{name}").stdout.strip() == kept.path
        assert not kept.exists or kept.user == "app"


def test_the_app_writes_nothing_in_vain(host):
    told = host.run("journalctl -b -q -o cat -u app.service -u 'app-job@*'").stdout.splitlines()
    refused = {line for line in told if "cannot be written: the app's folder is read-only" in line}
    assert refused == set()


def test_the_steps_before_the_start_succeeded(host, recipe):
    if recipe["setup"]:
        shown = host.run("systemctl show --property Result,ExecMainStatus app-job@setup.service").stdout
        assert set(shown.split()) == {"Result=success", "ExecMainStatus=0"}
        # Each boot runs them, and none runs before them.
        assert host.run("journalctl -b -q -u app-job@setup.service").stdout


def test_the_app_s_timers_wait_for_their_time(host, recipe):
    for name in recipe["timers"]:
        assert host.run("systemctl is-active %s", f"app-{name}.timer").stdout.strip() == "active"
        assert host.run("systemctl show --value --property Result %s", f"app-job@{name}").stdout.strip() == "success"


def test_no_timer_is_left_of_another_release(host, recipe):
    there = set(host.run("cd /run/systemd/system && ls app-*.timer 2>/dev/null").stdout.split())
    assert sorted(there - {"app-look.timer"}) == sorted(f"app-{name}.timer" for name in recipe["timers"])


def test_no_line_of_the_machine_s_settings_is_wrong(host):
    """The machine leaves a wrong line of /etc/app out and serves the rest: this is where a person learns of it."""
    assert host.run("cat /run/app/faults").stdout == ""


@pytest.mark.parametrize("path", ["/etc/app/secrets.env", "/run/app-check/env", "/run/app/env", "/run/app/given.env"])
def test_secrets_are_root_s_alone(host, path):
    file = host.file(path)
    assert not file.exists or (file.user, file.mode & 0o077) == ("root", 0)
