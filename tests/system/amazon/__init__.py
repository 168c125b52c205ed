"""Amazon, as far as a test can have it: moto's real server, our gate in front of it, and a network of its own.

    with amazon.moto(folder) as upstream, amazon.Gate(upstream, folder).open() as gate:
        run([...], env=amazon.environment(gate.url, folder))

What needs no look inside: `gate.calls`, `gate.fault`, `gate.after`, `gate.ours`. What only AWS can prove, none of
this does: `ours.Rules` says which of its rules are Amazon's words and which are a guess.
"""

import contextlib
import http.client
import json
import os
import signal
import sys
import tempfile
import time
import urllib.parse
from pathlib import Path

import pytest

from bake.host.programs import run, start, stop
from bake.vm import qemu

from .account import ACCOUNT
from .gate import Gate, read

__all__ = [
    "ACCOUNT", "DEBIAN", "IMAGES", "INSIDE", "REGION", "Gate", "alone", "environment", "inside", "loopback", "moto",
    "read", "reset", "tries",
]  # fmt: skip

#: moto knows it.
REGION = "eu-central-1"
#: In the environment of tests that run in a namespace of their own.
INSIDE = "BAKE_TEST_AMAZON_ALONE"
#: The mark of a file whose tests ask moto: `pytestmark = amazon.inside`. test_alone.py finds it by that, and runs it.
inside = pytest.mark.skipif(False, reason="")
if INSIDE not in os.environ:
    inside = pytest.mark.skip(reason="test_alone.py runs it in a network namespace")
#: Who publishes Debian's own images (wiki.debian.org/Cloud/AmazonEC2Image), and somebody else.
DEBIAN, SOMEBODY = "136693071363", "210987654321"
#: Seconds. It takes two to seven on two busy cores.
PATIENCE = 90


def _image(number, owner, name, created):
    """A stock image as moto reads it. Its content is nothing: moto has none of any."""
    return {
        "ami_id": f"ami-{number:017x}", "owner_id": owner, "name": name, "image_location": f"{owner}/{name}",
        "creation_date": created, "description": name, "public": True, "state": "available", "image_type": "machine",
        "architecture": "arm64" if "arm64" in name else "x86_64", "virtualization_type": "hvm", "hypervisor": "xen",
        "root_device_type": "ebs", "root_device_name": "/dev/xvda", "sriov": "simple", "boot_mode": "uefi-preferred",
    }  # fmt: skip


#: The stock images: the newest of Debian 13's is neither the first nor the last, and the newest of that name is not
#: Debian's. moto's own are 600, and take seconds.
IMAGES = [
    _image(1, DEBIAN, "debian-13-amd64-20250814-2204", "2025-08-14T22:10:00.000Z"),
    _image(2, DEBIAN, "debian-13-amd64-20251006-2257", "2025-10-06T23:05:00.000Z"),
    _image(3, DEBIAN, "debian-13-arm64-20251117-2299", "2025-11-17T22:10:00.000Z"),
    _image(4, DEBIAN, "debian-12-amd64-20251112-2294", "2025-11-12T22:10:00.000Z"),
    _image(5, DEBIAN, "debian-13-amd64-20250911-2232", "2025-09-11T22:10:00.000Z"),
    _image(6, SOMEBODY, "debian-13-amd64-20990101-9999", "2026-01-01T00:00:00.000Z"),
]


@contextlib.contextmanager
def moto(folder, **settings):
    """moto's server with no more than `IMAGES` in it; its address. Its log is in `folder`.

    `settings` go into its environment.
    """
    port, images = qemu.free_port(), Path(folder) / "images.json"
    images.write_text(json.dumps(IMAGES))
    words = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    log = Path(folder) / "moto.log"
    with log.open("wb") as stream:
        env = {"MOTO_PORT": str(port), "MOTO_AMIS_PATH": str(images), **settings}
        process = start(words, env=env, stdout=stream, stderr=stream)
    try:
        end = time.monotonic() + PATIENCE
        while not _answers(port):
            if process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"moto does not answer:\n{log.read_text()[-2000:]}")
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        stop(process, signal.SIGKILL)


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


@contextlib.contextmanager
def standing(folder):
    """moto and its gate, alone in the namespace, and asked by whoever inherits this environment."""
    loopback()
    with (
        moto(folder) as url,
        Gate(url, folder, delay=0.3).open() as gate,
        pytest.MonkeyPatch.context() as patch,
    ):
        for name, value in environment(gate.url, folder).items():
            patch.setenv(name, value)
        yield gate


def alone(chosen, *options, **more):
    """Run tests (`file`, `file::name`) again in a network namespace with nobody else in it; what pytest said.

    A stranger cannot be reached there. `more` goes into the environment.
    """
    namespaces = ["unshare", "--net", *([] if os.geteuid() == 0 else ["--user", "--map-root-user"])]
    # A profile of who runs this is not for the tests.
    theirs = [word for name in os.environ if name.startswith("AWS_") for word in ("-u", name)]
    words = ["env", *theirs, sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *options, str(chosen)]
    # Who is root only there would come upon the folders of the real one.
    with tempfile.TemporaryDirectory() as folder:
        env = {INSIDE: "1", "PYTEST_DEBUG_TEMPROOT": folder, **more}
        done = run([*namespaces, *words], env=env, check=False, cwd=Path(__file__).parents[3])
    assert done.status == 0, done.stdout[-8000:] + done.stderr[-2000:]
    return done.stdout


def loopback():
    """Give the namespace its loopback: what a fixture does first."""
    assert INSIDE in os.environ, "this is the computer's own network"
    run(["ip", "link", "set", "lo", "up"])


def tries():
    """How often anybody in this namespace has tried to reach a stranger: packets and connections without a route.

    The kernel's own count (proc_net_snmp, RFC 4293's ipSystemStatsOutNoRoutes), a namespace each. It counts also
    those who caught the error and went on.
    """
    lines = [line.split() for line in Path("/proc/net/snmp").read_text().splitlines() if line.startswith("Ip:")]
    six = dict(line.split() for line in Path("/proc/net/snmp6").read_text().splitlines())
    return int(dict(zip(*lines, strict=True))["OutNoRoutes"]) + int(six["Ip6OutNoRoutes"])
