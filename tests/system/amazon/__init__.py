"""Amazon, as far as a test can have it: moto's real server, our gate in front of it, and a network of its own.

    with amazon.moto(folder) as upstream, amazon.Gate(upstream, folder).open() as gate:
        run([...], env=amazon.environment(gate.url, folder))

What needs no look inside: `gate.calls`, `gate.fault`, `gate.after`, `gate.ours`. What only AWS can prove, none of
this does: `ours.Rules` says which of its rules are Amazon's words and which are a guess.
"""

import contextlib
import http.client
import os
import sys
import time
import urllib.parse
from pathlib import Path

import pytest

from bake import vm
from bake.run import run, start, stop

from .gate import Gate, read

__all__ = ["ACCOUNT", "INSIDE", "REGION", "Gate", "alone", "environment", "loopback", "moto", "read", "reset", "tries"]

#: moto's only account, and a region that it knows.
ACCOUNT, REGION = "123456789012", "eu-central-1"
#: A file of tests runs itself again in a namespace, with this in its environment.
INSIDE = "BAKE_TEST_AMAZON_ALONE"
#: Seconds. It takes three to seven on two busy cores.
PATIENCE = 90


@contextlib.contextmanager
def moto(folder, **settings):
    """moto's server, empty, its log in `folder`; its address. `settings` are its environment (MOTO_AMIS_PATH=…)."""
    port = vm.free_port()
    words = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    log = Path(folder) / "moto.log"
    with log.open("wb") as stream:
        process = start(words, env={"MOTO_PORT": str(port), **settings}, stdout=stream, stderr=stream)
    try:
        end = time.monotonic() + PATIENCE
        while not _answers(port):
            if process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"moto does not answer:\n{log.read_text()[-2000:]}")
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        stop(process)


def _answers(port):
    with contextlib.suppress(OSError):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        connection.request("GET", "/moto-api/")
        return connection.getresponse().status == 200
    return False


def reset(url):
    """Empty moto, as it was when it started: in milliseconds, not seconds."""
    connection = http.client.HTTPConnection(urllib.parse.urlsplit(url).netloc)
    connection.request("POST", "/moto-api/reset")
    assert connection.getresponse().status == 200


def environment(url, home):
    """What makes boto3 ask `url`, and read nothing of this computer's own; `home` is a folder."""
    nowhere = Path(home) / "no-such-file"
    return {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": "AKIAMADEUPMADEUPMADE",
        "AWS_SECRET_ACCESS_KEY": "made-up",
        "AWS_DEFAULT_REGION": REGION,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": str(nowhere),
        "AWS_SHARED_CREDENTIALS_FILE": str(nowhere),
    }


def alone(chosen, *options):
    """Run tests (`file`, `file::name`) again in a network namespace with nobody else in it; what pytest said.

    They call `loopback` first, in a fixture, which skips them outside. A stranger cannot be reached there.
    """
    namespaces = ["unshare", "--net", *([] if os.geteuid() == 0 else ["--user", "--map-root-user"])]
    # A profile of who runs this is not for the tests.
    theirs = [word for name in os.environ if name.startswith("AWS_") for word in ("-u", name)]
    words = ["env", *theirs, sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *options, str(chosen)]
    done = run([*namespaces, *words], env={INSIDE: "1"}, check=False, cwd=Path(__file__).parents[3])
    assert done.status == 0, done.stdout[-8000:] + done.stderr[-2000:]
    return done.stdout


def loopback():
    """Give the namespace its loopback; outside of one, skip what asks for it."""
    if INSIDE not in os.environ:
        pytest.skip("runs in a network namespace of its own")
    run(["ip", "link", "set", "lo", "up"])


def tries():
    """How often anybody in this namespace has tried to reach a stranger: packets and connections without a route.

    The kernel's own count (proc_net_snmp, RFC 4293's ipSystemStatsOutNoRoutes), a namespace each. It counts also
    those who caught the error and went on.
    """
    lines = [line.split() for line in Path("/proc/net/snmp").read_text().splitlines() if line.startswith("Ip:")]
    six = dict(line.split() for line in Path("/proc/net/snmp6").read_text().splitlines())
    return int(dict(zip(*lines, strict=True))["OutNoRoutes"]) + int(six["Ip6OutNoRoutes"])
