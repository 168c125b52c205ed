"""`bake ami --builder packer` from start to end: moto's EC2, and a machine in QEMU that is the instance.

It boots with exactly the user-data that RunInstances was given, from an EC2-style metadata service, in a network
namespace with nobody else in it: so its disk is one that holds the packages already.
"""

import base64
import os
import sys
import threading
from pathlib import Path

import amazon
import boto3
import metadata
import pytest
import servers
from amazon import ACCOUNT

from bake.aws import policy, tags
from bake.config.debian import TARGETS
from bake.disk import base_disk, partitions
from bake.host import cache
from bake.host.programs import run
from bake.host.progress import Reporter
from bake.vm import qemu

pytestmark = pytest.mark.long

#: This file runs itself again in a namespace, with this in its environment.
THERE = "BAKE_TEST_BUILDER"
APP = "def app(environ, start_response):\n    start_response('200 OK', [])\n    return [b'here']\n"
RECIPE = "name: shop\nsecrets: [SECRET_KEY]\ncheck: {health: /}\n"


@pytest.mark.skipif(THERE in os.environ, reason="this is the outside")
def test_it_is_baked_there(tmp_path):
    goal = TARGETS["debian-13"]
    ground = base_disk.find(base_disk.key(goal, (), None), cache.A_WEEK)
    if ground is None:
        with cache.lock(lambda pid: None), cache.work_folder() as work, Reporter().phase("base") as phase:
            ground = base_disk.build(goal, (), None, work, phase)
    given = f"{ground.disk} {tmp_path} {qemu.accelerator(ground.kernel)}"
    said = amazon.alone(f"{__file__}::test_inside", **{THERE: given})
    assert "1 passed" in said, said[-8000:]


class Instance:
    """Becomes what RunInstances asks for: boots the disk, and tells EC2 when it has powered off."""

    def __init__(self, gate, ground, accel, work, port):
        self.gate, self.ground, self.accel, self.work, self.port = gate, ground, accel, work, port
        self.asked, self.machine, self.overlay, self.image_came_late = {}, None, work / "vm" / "overlay.qcow2", False

    def run(self):
        """Wait for the call; then be it, until it is off."""
        while not (calls := self.gate.asked("RunInstances")):
            threading.Event().wait(0.2)
        self.asked = calls[0]
        (pair,) = self.gate.asked("ImportKeyPair")
        key = base64.b64decode(pair["PublicKeyMaterial"]).decode().strip()
        service, words = metadata.ec2(base64.b64decode(self.asked["UserData"]), key)
        with servers.serve(metadata.server(service)):
            self.machine = qemu.boot(
                self.ground, None, self.work / "vm", self.work / "no-key",
                qemu.VmOptions(self.accel, port=self.port, network=metadata.NETWORK, arguments=words),
            )  # fmt: skip
            self.machine.process.wait()
        ec2 = boto3.client("ec2")
        (reservation,) = ec2.describe_instances()["Reservations"]
        # It is off, and only then an AMI is made of it.
        self.image_came_late = "CreateImage" not in {action for _, action in self.gate.calls}
        ec2.stop_instances(InstanceIds=[reservation["Instances"][0]["InstanceId"]])


@pytest.mark.skipif(THERE not in os.environ, reason="test_it_is_baked_there runs it in a namespace")
def test_inside(tmp_path_factory, monkeypatch):
    ground, place, accel = os.environ[THERE].split()
    work = Path(place)
    amazon.loopback()
    folder = work / "shop"
    folder.mkdir()
    (folder / "app.py").write_text(APP)
    (folder / "requirements.txt").touch()
    (folder / "bake.yaml").write_text(RECIPE)
    port = qemu.free_port()
    # Short: Packer's plugins listen at Unix sockets in there.
    cache = tmp_path_factory.mktemp("c")
    with amazon.moto(work) as url, amazon.Gate(url, work).open() as gate:
        for name, value in amazon.environment(gate.url, work).items():
            monkeypatch.setenv(name, value)
        instance = Instance(gate, Path(ground), accel, work, port)
        thread = threading.Thread(target=instance.run, daemon=True)
        thread.start()
        env = {
            "BAKE_CACHE": str(cache), "PKR_VAR_ssh_host": "127.0.0.1", "PKR_VAR_ssh_port": str(port),
            "PKR_VAR_username": qemu.USER, "PKR_VAR_ssh_timeout": "20m", "AWS_POLL_DELAY_SECONDS": "2",
        }  # fmt: skip
        words = [sys.executable, "-m", "bake", "ami", str(folder), "--builder", "packer"]
        words += ["--share", "210987654321", "--deprecate", "9", "--parameter", "/apps/shop", "--copy-to", "eu-west-1"]
        try:
            done = run(words, env=env, cwd=work, check=False)
        finally:
            if instance.machine:
                instance.machine.stop()
        console = instance.machine.tail(60) if instance.machine else ""
        assert done.status == 0, f"{done.stderr}\n{console}"
        thread.join(30)
        assert instance.image_came_late
        needs = {":".join(pair) for pair in gate.needs} - {"ec2:StopInstances"}
        ec2 = boto3.client("ec2")
        is_told(ec2, done.stdout.strip(), gate)
        is_all(ec2, done.stdout.strip())
        is_sealed(instance.overlay, work, gate)
        # What was asked for is what the policy says, but for the removal of what a failed one leaves.
        assert needs <= policy.actions("ami-packer"), needs - policy.actions("ami-packer")
        spare = policy.actions("ami-packer") - needs
        assert spare <= {"ec2:DeregisterImage", "ec2:DeleteSnapshot", "ec2:DeleteVolume"}, spare
        # The same document on the same AMI is the same AMI.
        gate.clear()
        # Not before: the instance has looked for names and the time through QEMU, in vain.
        tried = amazon.tries()
        again = run(words, env=env, cwd=work)
        assert again.stdout == done.stdout
        assert not {"RunInstances", "CreateImage", "ImportKeyPair"} & {action for _, action in gate.calls}
        assert amazon.tries() == tried


def is_told(ec2, name, gate):
    """The AMI and its snapshot say what they are, stay, and are IMDSv2's alone."""
    (found,) = ec2.describe_images(ImageIds=[name])["Images"]
    assert found["ImdsSupport"] == "v2.0" and found["OwnerId"] == ACCOUNT
    (mapping,) = found["BlockDeviceMappings"]
    (snapshot,) = ec2.describe_snapshots(SnapshotIds=[mapping["Ebs"]["SnapshotId"]])["Snapshots"]
    for one in (found, snapshot):
        said = tags.read(one)
        assert {"Name": "shop", "bake:app": "shop", "bake:health": "/"}.items() <= said.items()
        assert said["bake:base"] == "debian-13-amd64-20251006-2257"
        assert said["bake:document"] and said["bake:run"] and tags.EXPIRES not in said
    assert gate.asked("ModifyInstanceMetadataOptions")[0]["HttpTokens"] == "required"
    led = boto3.client("ssm").get_parameter(Name="/apps/shop")["Parameter"]
    assert led["Value"] == name


def is_all(ec2, name):
    """Nothing else is there."""
    reservations = ec2.describe_instances()["Reservations"]
    assert {one["State"]["Name"] for each in reservations for one in each["Instances"]} == {"terminated"}
    assert ec2.describe_key_pairs()["KeyPairs"] == [] and ec2.describe_volumes()["Volumes"] == []
    assert {one["GroupName"] for one in ec2.describe_security_groups()["SecurityGroups"]} == {"default"}
    assert [one["ImageId"] for one in ec2.describe_images(Owners=["self"])["Images"]] == [name]


def is_sealed(overlay, work, gate):
    """The disk that was left holds the release, and nothing of this one machine and bake."""
    raw = work / "left.raw"
    partitions.to_raw(overlay, raw)
    root = partitions.root_of(raw)

    def listed(path):
        said = run(["debugfs", "-R", f"ls -p {path}", root], check=False).stdout
        return {row.split("/")[5] for row in said.splitlines() if row.count("/") > 5} - {".", ".."}

    assert listed("/srv/app/releases") and "current" in listed("/srv/app")
    assert not listed("/var/lib/app-incoming") and not listed("/tmp") and not listed("/home")
    assert not listed("/var/lib/cloud") and not {one for one in listed("/etc/ssh") if one.startswith("ssh_host")}
    assert run(["debugfs", "-R", "cat /etc/machine-id", root], check=False).stdout == ""
    users = run(["debugfs", "-R", "cat /etc/passwd", root]).stdout
    assert "\nroot:" in f"\n{users}" and "\ndebian:" not in users
    raw.unlink()
