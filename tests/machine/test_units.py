"""Check systemd's units, cloud-init, the sandboxes and the number of workers."""

import json
import re

import pytest

from bake.config import contract

#: The upper limits of systemd-analyze's exposure, which is from 0 (closed) to 10.
EXPOSURE = {
    "app.service": 1.3, "app-next.service": 1.3, "app-job@setup.service": 1.3, "app-process@any.service": 1.3,
    "nginx.service": 4.0, "certbot.service": 3.0, "app-look.service": 3.0, "app-certificate.service": 3.0,
    "app-keep.service": 3.5,
}  # fmt: skip
#: The units that only some releases have.
OPTIONAL = ("app-next", "app-process@", "app-look", "app-certificate", "app-keep")
#: What `sandbox.allow` adds to that of the app: `browser`, and `nice`.
DOORS = {"RestrictNamespaces=": 0.8, "SystemCallFilter=@resources": 0.2}


def test_no_unit_failed(host):
    assert host.run("systemctl list-units --failed --plain --no-legend").stdout == ""


@pytest.mark.parametrize(
    "unit",
    ["app.service", "app.socket", "nginx.service", "nftables.service", "ssh.service",
     "certbot.timer", "apt-daily.timer", "apt-daily-upgrade.timer", "systemd-networkd.service",
     "systemd-timesyncd.service"],
)  # fmt: skip
def test_unit_is_active(host, unit):
    assert host.run("systemctl is-active %s", unit).stdout.strip() == "active"


@pytest.mark.parametrize(
    "unit", ["app-setup.service", "app-configure.service", "nginx.service", "nftables.service", "certbot.timer"]
)
def test_unit_is_enabled(host, unit):
    assert host.run("systemctl is-enabled %s", unit).stdout.strip() == "enabled"


def test_setup_succeeded(host):
    assert host.run("systemctl show --value --property Result app-setup.service").stdout.strip() == "success"


def test_cloud_init_has_no_errors(host):
    result = host.run("cloud-init status --wait --format json")
    status = json.loads(result.stdout)
    assert result.rc == 0, status
    assert status["errors"] == []
    assert not status.get("recoverable_errors")


@pytest.mark.parametrize("unit", EXPOSURE)
def test_sandbox(host, unit):
    # The release that orders certificates has the sandbox of certbot, which does nothing without it.
    if unit == "certbot.service" and not host.file("/srv/app/current/settings/certificate.py").exists:
        pytest.skip("this release orders no certificates")
    name = re.sub("@.*", "@", unit).removesuffix(".service")
    if name in OPTIONAL and not host.file(f"/run/systemd/system/{name}.service").exists:
        pytest.skip("this release does not have the unit")
    line = host.run("systemd-analyze security --no-pager %s | tail -n 1", unit).stdout
    limit = EXPOSURE[unit]
    if limit == EXPOSURE["app.service"]:
        allowed = host.run("cat /run/systemd/system/app.service.d/60-allow.conf 2> /dev/null").stdout
        limit += sum(more for setting, more in DOORS.items() if setting in allowed)
    assert float(line.split(":", 1)[1].split()[0]) <= limit, line


def test_the_app_has_no_needless_system_calls(host):
    calls = host.run("systemctl show --value --property SystemCallFilter app.service").stdout.split()
    assert "read" in calls
    assert not {"io_uring_setup", "keyctl", "add_key", "userfaultfd", "mount", "ptrace"} & {*calls}


@pytest.fixture(scope="module")
def mounts(host):
    """Return the rows of the mounts that the app sees."""
    master = host.run("systemctl show --value --property MainPID app.service").stdout.strip()
    return [row.split() for row in host.file(f"/proc/{master}/mountinfo").content_string.splitlines()]


def test_the_app_cannot_write_into_run(mounts):
    # systemd 257 leaves /run writable if ProtectKernelTunables= is set beside ProtectSystem=strict.
    options = {row[4]: row[5].split(",") for row in mounts if f"{row[4]}/".startswith("/run/")}
    assert "/run" in options
    assert [place for place, words in options.items() if "ro" not in words] == []


@pytest.mark.parametrize("folder", ["/var/lib/apt", "/var/cache/debconf"])
def test_the_app_cannot_lock_the_files_of_updates(mounts, folder):
    assert [row[3] for row in mounts if row[4] == folder] == ["/systemd/inaccessible/dir"]


def test_systemd_restarts_the_app_without_limit(host):
    output = host.run(
        "systemctl show app.service --property Restart,StartLimitIntervalUSec,OOMPolicy,RestartUSec"
    ).stdout
    assert set(output.split()) == {"Restart=always", "StartLimitIntervalUSec=0", "OOMPolicy=continue", "RestartUSec=2s"}


def test_the_app_s_server_gives_up_before_nginx_does(host, recipe):
    limit = recipe.get("limits", {}).get("request", contract.REQUEST)
    protocol = "proxy" if recipe.keys() & {"asgi", "run", "server"} else "uwsgi"
    # nginx -T prints a file before the files that it includes, so the release's value is the last one.
    dump = "nginx -T -c /usr/lib/app/nginx/nginx.conf -e stderr 2>/dev/null"
    timeout = host.run(f"{dump} | sed -n 's/.*{protocol}_read_timeout \\([0-9]*\\)s;/\\1/p' | tail -n 1").stdout
    assert 0 < limit < int(timeout)
    if protocol == "uwsgi":
        # uWSGI kills a worker only after nginx has answered with a page that does not reload itself.
        files = "/usr/lib/app/uwsgi.ini /srv/app/current/settings/uwsgi.ini"
        harakiri = host.run(f"cat {files} 2>/dev/null | sed -n 's/^harakiri = //p' | tail -n 1").stdout
        assert int(timeout) < int(harakiri) == limit + contract.SERVER_MARGIN


def test_workers_fit_the_machine(host, recipe):
    configured = int(host.run("sed -n 's/^APP_WORKERS=//p' /run/app/env").stdout)
    # Count the children of the unit's first process. An app that forks at import has more.
    if recipe.get("server") == "waitress":
        pytest.skip("waitress has one process")
    program = "python" if recipe.keys() & {"asgi", "server"} else "uwsgi"
    if "run" in recipe:
        # bake starts the app's own server once.
        program, configured = ".", 1
    master = host.run("systemctl show --value --property MainPID app.service").stdout.strip()
    assert int(host.run("pgrep -c -P %s %s", master, program).stdout) >= configured
