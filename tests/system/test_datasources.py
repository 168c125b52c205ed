"""The same document from a disk, from EC2 (IMDSv2) and from Hetzner, in a network namespace with nobody else in it."""

import base64
import os
import sys
from pathlib import Path

import metadata
import pytest
import servers
from conftest import AWAIT_BOOT

from bake.config.debian import TARGETS
from bake.disk import base_disk
from bake.document import cloud_config
from bake.host import cache
from bake.host.programs import run
from bake.host.progress import Reporter
from bake.verify import proof
from bake.vm import qemu

pytestmark = pytest.mark.long

#: This file runs itself again in a namespace, with this in its environment.
INSIDE = "BAKE_TEST_NAMESPACE"
#: Needs nothing of an index: such a namespace has no way out.
APP = """
def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"Hello from " + environ["SERVER_NAME"].encode()]
"""
on_both = pytest.mark.parametrize("release", ["debian-13", "debian-12"])


@pytest.fixture
def ground(release):
    """A disk that holds the packages already, with nothing of ours besides."""
    goal = TARGETS[release]
    found = base_disk.find(base_disk.key(goal, (), None), cache.A_WEEK)
    if found:
        return found
    with cache.lock(lambda pid: None), cache.work_folder() as work, Reporter().phase("base") as phase:
        return base_disk.build(goal, (), None, work, phase)


@on_both
@pytest.mark.parametrize("cloud", ["nocloud", "ec2", "ec2-gzip", "hetzner"])
@pytest.mark.skipif(INSIDE in os.environ, reason="this is the outside")
def test_it_arrives(ground, release, cloud, bake, tmp_path):
    folder = tmp_path / "plain"
    folder.mkdir()
    (folder / "app.py").write_text(APP)
    (folder / "requirements.txt").touch()
    options: tuple[str, ...] = ()
    if cloud == "ec2-gzip":
        # What does not shrink, and makes the text too long.
        (folder / "noise.txt").write_text(os.urandom(900).hex())
        options = ("--provider", "aws")
    called = bake("render", folder, "--inline", "--release", release, *options)
    assert called.code == 0, called.stderr
    assert ("gzipped" in called.stderr) == (cloud == "ec2-gzip")
    (tmp_path / "document").write_text(called.stdout)
    accelerator = qemu.accelerator(ground.kernel)
    namespaces = ["unshare", "--net", *([] if os.geteuid() == 0 else ["--user", "--map-root-user"])]
    done = run(
        [*namespaces, sys.executable, "-m", "pytest", "-p", "no:cacheprovider", f"{__file__}::test_inside"],
        env={INSIDE: f"{cloud} {ground.disk} {tmp_path} {accelerator}"}, check=False, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert done.status == 0 and "1 passed" in done.stdout, done.stdout[-6000:]


@pytest.mark.skipif(INSIDE not in os.environ, reason="test_it_arrives runs it in a namespace")
def test_inside():
    cloud, disk, place, accel = os.environ[INSIDE].split()
    work = Path(place)
    document = (work / "document").read_text()
    run(["ip", "link", "set", "lo", "up"])
    qemu.make_key(work / "key", "cloud")
    key = qemu.public_key(work / "key")
    (work / "vm").mkdir()
    seed, words, service = None, (), metadata.Pages({})
    if cloud == "nocloud":
        files = {"meta-data": cloud_config.meta_data("i-1", "pasted", [key]), "user-data": document}
        seed = qemu.make_seed(work / "seed.iso", files)
    else:
        told = base64.b64decode(document) if cloud == "ec2-gzip" else document
        service, words = getattr(metadata, cloud.partition("-")[0])(told, key)
    with servers.serve(metadata.server(service)):
        machine = qemu.boot(
            Path(disk),
            seed,
            work / "vm",
            work / "key",
            qemu.VmOptions(accel, network=metadata.NETWORK, arguments=words),
        )
        try:
            machine.await_ssh()
            waited = machine.ssh(f"{AWAIT_BOOT}; cloud-init status --long", check=False, timeout=900)
            assert waited.status == 0, waited.stdout
            source = machine.ssh("cloud-id").stdout.strip()
            assert source == {"nocloud": "nocloud", "hetzner": "hetzner"}.get(cloud, "aws")
            assert key in machine.ssh("cat ~/.ssh/authorized_keys").stdout
            assert machine.ssh("curl -s http://127.0.0.1/").stdout.startswith("Hello from")
            failures = proof.run_checks(machine, ["machine"], work / "vm").failures
            assert [name for name, _ in failures] == []
            if cloud.startswith("ec2"):
                # The app's user cannot ask where the secrets of a launch may be.
                token = "-H 'X-aws-ec2-metadata-token-ttl-seconds: 60' http://169.254.169.254/latest/api/token"
                ask = f"curl -s -m 5 -X PUT {token}"
                assert machine.ssh(ask).stdout
                as_app = "sudo setpriv --reuid=app --regid=app --clear-groups"
                assert machine.ssh(f"{as_app} {ask}", check=False).status == 7
        finally:
            machine.stop()
