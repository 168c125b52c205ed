"""What the machine gets over by itself."""

import time

#: Seconds within which a killed app answers again: systemd waits 2 s, an emulated machine starts slowly.
PATIENCE = 60


def eventually(true, patience=PATIENCE):
    deadline = time.monotonic() + patience
    while not true() and time.monotonic() < deadline:
        time.sleep(1)
    return true()


def test_a_killed_app_comes_back(host, healthy):
    before = host.run("systemctl show --value --property MainPID app.service").stdout.strip()
    assert host.run("kill -KILL %s", before).rc == 0
    assert eventually(healthy)
    assert host.run("systemctl show --value --property MainPID app.service").stdout.strip() != before


def test_a_killed_web_server_comes_back(host, healthy):
    assert host.run("systemctl kill --signal KILL nginx.service").rc == 0
    assert eventually(healthy)


def test_an_app_that_is_down_is_told_to_visitors(host, fetch, healthy):
    assert host.run("systemctl stop app.socket app.service").rc == 0
    answer = fetch("/", "https")
    assert answer.status == 503
    assert answer.headers["retry-after"] == "10"
    assert "One moment" in answer.body
    assert host.run("systemctl start app-setup.service").rc == 0
    assert eventually(healthy)


def test_the_app_cannot_write_where_it_should_not(host):
    # In the app's own sandbox, as its own user: what systemd was told is what the kernel does.
    command = (
        "systemd-run --quiet --pipe --wait --collect -p User=app -p ProtectSystem=strict -p StateDirectory=app "
        "sh -c 'touch /var/lib/app/probe && rm /var/lib/app/probe && ! touch /srv/app/current/source/probe'"
    )
    assert host.run(command).rc == 0
