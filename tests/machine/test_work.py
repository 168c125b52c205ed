"""What the recipe asks for besides serving: data that is kept, steps, timers, secrets."""

import pytest

DATA = "/var/lib/app"


def test_what_the_app_writes_is_kept_outside_of_its_release(host, recipe):
    for name in recipe["writable"]:
        place = host.file(f"/srv/app/current/source/{name}")
        assert place.is_symlink
        assert place.linked_to == f"{DATA}/{name}"
        kept = host.file(f"{DATA}/{name}")
        assert not kept.exists or kept.user == "app"


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
