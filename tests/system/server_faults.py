"""The faults that the server of an app must get over, whichever it is."""

import time

#: Seconds for one request of the apps that are tried.
LIMIT = 20
#: Statuses of a visitor whose request takes more memory than the machine has.
OUT_OF_MEMORY = {"500", "502", "503", "504"}


def page(machine, path="/", query=""):
    """The words that a page shows. Its app waits for `seconds` of the query, and takes so many MiB of `memory`."""
    return machine.ssh(f"curl -sk -m 200 'https://127.0.0.1{path}?{query}'", timeout=240).stdout.split()


def assert_faults_end(machine, path="/", stuck=1):
    """Stop the app during a long request, exceed its limit `stuck` times at once, take its memory, kill its process.

    `path` shows the process first and the version last.
    """
    *_, version = page(machine, path)
    status = f"curl -sk -m 200 -o /dev/null -w '%{{http_code}} ' 'https://127.0.0.1{path}?"
    # A stop finishes a long request, and visitors wait for the next start.
    machine.ssh(f"{status}seconds=5' > /tmp/status &")
    time.sleep(2)
    machine.ssh("sudo systemctl restart app", timeout=240)
    assert page(machine, path)[-1] == version
    assert machine.ssh("cat /tmp/status").stdout == "200 "
    late = f"for visit in $(seq {stuck}); do {status}seconds=99' & done; wait"
    assert machine.ssh(late, timeout=240).stdout == "504 " * stuck
    assert page(machine, path)[-1] == version
    assert machine.ssh(f"{status}memory=4000'", timeout=240).stdout.strip() in OUT_OF_MEMORY
    assert page(machine, path)[-1] == version
    machine.ssh(f"sudo kill -KILL {page(machine, path)[0]}")
    # nginx shows the machine's page while a program starts again.
    deadline = time.monotonic() + 120
    while (words := page(machine, path))[-1:] != [version] and time.monotonic() < deadline:
        time.sleep(1)
    assert words[-1] == version
