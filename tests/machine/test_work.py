"""Check the recipe's other parts: data, steps, timers, secrets."""

import json
from pathlib import Path

import pytest

DATA = "/var/lib/app"
#: Seconds for which a process that systemd restarted must have run.
STEADY = 60


def instances(recipe):
    """Return the names of the app's processes, with their numbers."""
    processes = recipe["processes"].items()
    return [f"{name}-{number + 1}" for name, process in processes for number in range(process.get("count", 1))]


@pytest.fixture(scope="module")
def observed(host):
    """Return the paths that the app wrote during the bake."""
    content = host.run("cat /var/lib/app-observed.json").stdout
    return json.loads(content) if content else {"data": {}, "fresh": []}


def test_the_app_s_data_is_outside_of_its_release(host, recipe, observed):
    release = host.run("basename $(readlink -f /srv/app/current)").stdout.strip()
    folders = dict.fromkeys(observed["fresh"], f"/var/cache/app/fresh/{release}")
    # A folder of `writable` contains all that is inside of it.
    outer = set(recipe["writable"])
    folders = {name: place for name, place in folders.items() if outer.isdisjoint(map(str, Path(name).parents))}
    folders |= dict.fromkeys([*recipe["writable"], *observed["data"]], DATA)
    for name, folder in folders.items():
        file = host.file(f"{folder}/{name}")
        # The path to a folder below a fresh one has two links.
        assert host.run("readlink -m %s", f"/srv/app/current/source/{name}").stdout.strip() == file.path
        assert not file.exists or file.user == "app"


def test_the_app_writes_to_no_read_only_folder(host):
    journal = host.run("journalctl --namespace='*' -b -q -o cat -u app.service -u 'app-job@*'").stdout.splitlines()
    hints = {line for line in journal if "cannot be written: the app's folder is read-only" in line}
    assert hints == set()


def test_the_steps_before_the_start_succeeded(host, recipe):
    if recipe["setup"]:
        output = host.run("systemctl show --property Result,ExecMainStatus app-job@setup.service").stdout
        assert set(output.split()) == {"Result=success", "ExecMainStatus=0"}
        # The success must be that of this boot.
        assert host.run("journalctl --namespace='*' -b -q -u app-job@setup.service").stdout


def test_the_swap_file_is_in_use(host):
    unit = host.file("/run/systemd/system/app-swap.service")
    if not unit.exists or host.file("/run/app-check").exists:
        pytest.skip("the app has no swap file, or the machine is only checked")
    assert "/var/swap" in host.run("swapon --noheadings --show=NAME").stdout.split()


def test_the_app_s_timers_wait_for_their_time(host, recipe):
    for name in recipe["timers"]:
        assert host.run("systemctl is-active %s", f"app-{name}.timer").stdout.strip() == "active"
        assert host.run("systemctl show --value --property Result %s", f"app-job@{name}").stdout.strip() == "success"


def test_no_timer_is_left_of_another_release(host, recipe):
    timers = set(host.run("cd /run/systemd/system && ls app-*.timer 2>/dev/null").stdout.split())
    assert sorted(timers - {"app-look.timer"}) == sorted(f"app-{name}.timer" for name in recipe["timers"])


def test_the_app_s_processes_run_and_do_not_restart(host, recipe):
    """A process that systemd restarted may need a minute to fail again."""
    untried = host.run("cat /run/app-check/notes 2>/dev/null").stdout
    uptime = float(host.run("cut -d ' ' -f 1 /proc/uptime").stdout)
    faults = []
    for name in instances(recipe):
        unit = f"app-process@{name}"
        properties = "ActiveState,SubState,NRestarts,ActiveEnterTimestampMonotonic"
        lines = host.run("systemctl show --property %s %s", properties, unit).stdout.splitlines()
        state = dict(line.split("=", 1) for line in lines)
        age = uptime - int(state["ActiveEnterTimestampMonotonic"]) / 1e6
        runs = state["ActiveState"] == "active" and (state["NRestarts"] == "0" or age >= STEADY)
        if not runs and f"process {name} is not tried here" not in untried:
            log = host.run("journalctl --namespace='*' -b -q -o cat -n 15 -u %s", unit).stdout
            restarts = f"{state['SubState']}, restarted {state['NRestarts']} times"
            faults.append(f"the process {name} of bake.yaml is {restarts}; the last lines of its log:\n{log}")
    assert not faults, "\n".join(faults)


def test_no_process_is_left_of_another_release(host, recipe):
    listed = host.run("systemctl list-units --plain --no-legend 'app-process@*'").stdout.splitlines()
    units = {line.split()[0] for line in listed}
    assert units <= {f"app-process@{name}.service" for name in instances(recipe)}


def test_no_line_of_the_machine_s_settings_is_wrong(host):
    """The machine ignores an invalid line of /etc/app and keeps serving. This check reports it."""
    assert host.run("cat /run/app/faults").stdout == ""


@pytest.mark.parametrize("path", ["/etc/app/secrets.env", "/run/app-check/env", "/run/app/env", "/run/app/given.env"])
def test_secrets_are_root_s_alone(host, path):
    file = host.file(path)
    assert not file.exists or (file.user, file.mode & 0o077) == ("root", 0)
