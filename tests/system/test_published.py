"""An app's folder goes to AWS by `bake launch`: what was checked is published, boots as the instance, and is checked.

moto is EC2; its instance is a machine in QEMU that boots what the AMI's snapshot holds, read back from there, with
exactly the user-data and the key pair of RunInstances, from a metadata service as EC2's.
"""

import base64
import json
import os
import sys
import threading
from pathlib import Path

import amazon
import boto3
import metadata
import pytest
import servers
from conftest import AWAIT_BOOT
from test_ami import digest, read_back, registered

from bake.aws import tags
from bake.aws.instances import inventory
from bake.disk import partitions
from bake.host.programs import run
from bake.vm import qemu

pytestmark = pytest.mark.long

#: This file runs itself again in a namespace, with this in its environment.
THERE = "BAKE_TEST_PUBLISHED"
NAME = "shop.example"
APP = """
import os

def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [os.environ.get("MOOD", "none").encode()]
"""
RECIPE = f"name: shop\nbase: {os.environ.get('BAKE_TEST_BASE', 'debian-13')}\ncheck: {{health: /mood}}\n"


@pytest.mark.skipif(THERE in os.environ, reason="this is the outside")
def test_the_bytes_that_were_tested_are_launched(bake, tmp_path):
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "app.py").write_text(f"# {os.urandom(8).hex()}\n{APP}")
    (folder / "requirements.txt").touch()
    (folder / "bake.yaml").write_text(RECIPE)
    # Here, since it wants packages; there, `bake launch` finds it baked.
    called = bake("image", folder)
    assert called.code == 0, called.stderr
    given = {"image": called.stdout.strip(), "place": str(tmp_path), "accelerator": qemu.accelerator()}
    said = amazon.alone(f"{__file__}::test_inside", "-s", **{THERE: json.dumps(given)})
    assert "1 passed" in said, said[-12000:]
    print(said[-4000:])


class Instance:
    """Becomes what RunInstances asks for, of the disk that its AMI's snapshot holds."""

    def __init__(self, gate, work, accel, pair):
        self.gate, self.work, self.accel, self.pair = gate, work, accel, pair
        self.ports = {port: qemu.free_port() for port in (22, 80, 443)}
        self.back, self.asked = work / "back.raw", {}
        self.machine: qemu.Machine | None = None

    @property
    def instead(self):
        """Where it is asked: no address of moto's is anybody's."""
        places = (f":{port}:127.0.0.1:{here}" for port, here in self.ports.items())
        return [word for place in places for word in ("--connect-to", place)]

    def run(self):
        """Wait for the call; then be it."""
        while not (calls := self.gate.asked("RunInstances")):
            threading.Event().wait(0.2)
        self.asked = calls[0]
        ec2 = boto3.client("ec2")
        _, root = registered(ec2, self.asked["ImageId"])
        read_back(root["SnapshotId"], self.back)
        (snapshot,) = ec2.describe_snapshots(SnapshotIds=[root["SnapshotId"]])["Snapshots"]
        # What it ends with holds nothing.
        os.truncate(self.back, snapshot["VolumeSize"] << 30)
        service, words = metadata.ec2(base64.b64decode(self.asked["UserData"]).decode(), self.pair)
        with servers.serve(metadata.server(service)):
            self.machine = qemu.boot(
                self.back, None, self.work / "vm", self.work / "key",
                qemu.VmOptions(
                    self.accel, port=self.ports[22], web={port: self.ports[port] for port in (80, 443)},
                    network=metadata.NETWORK, arguments=words,
                ),
            )  # fmt: skip
            self.machine.process.wait()


@pytest.mark.skipif(THERE not in os.environ, reason="the other case runs it in a namespace")
def test_inside(monkeypatch):
    given = json.loads(os.environ[THERE])
    image, work = Path(given["image"]), Path(given["place"])
    amazon.loopback()
    qemu.make_key(work / "key", "pair")
    pair = qemu.public_key(work / "key")
    with amazon.moto(work) as url, amazon.Gate(url, work).open() as gate:
        for name, value in amazon.environment(gate.url, work).items():
            monkeypatch.setenv(name, value)
        ec2 = boto3.client("ec2")
        ec2.import_key_pair(KeyName="ops", PublicKeyMaterial=pair.encode())
        instance = Instance(gate, work, given["accelerator"], pair)
        threading.Thread(target=instance.run, daemon=True).start()

        def launch(what, patience):
            words = [
                sys.executable, "-m", "bake", "launch", *what, "--domain", NAME, "--env", "MOOD=good",
                "--key-pair", "ops", "--ssh-from", "192.0.2.7/32", "--check", "-i", work / "key", *instance.instead,
                "--patience", str(patience),
            ]  # fmt: skip
            return run(words, cwd=work, check=False, timeout=1500)

        try:
            done = launch([work / "shop"], 600)
            print(done.stderr)
            assert done.status == 0, f"{done.stderr}\n{instance.machine and instance.machine.tail(60)}"
            assert " checks passed" in done.stderr
            name = done.stdout.strip()
            assert alive(ec2) == [name] and instance.asked["KeyName"] == "ops"
            is_the_same(ec2, instance, image)
            assert instance.machine
            is_as_it_was_told(instance.machine, pair)
            # Broken, it would not have been taken: the check's name is told, and what was started goes.
            instance.machine.ssh("sudo systemctl disable --now certbot.timer app-look.timer")
            again = launch(["shop", "--published"], 60)
            print(again.stderr)
            assert again.status == 46 and not again.stdout, again.stderr
            assert "timer" in again.stderr and "Traceback (most" not in again.stderr.splitlines()[0]
            assert alive(ec2) == [name] and len(gate.asked("RunInstances")) == 2
            over = [one for one in ec2.describe_volumes()["Volumes"] if tags.EXPIRES in tags.read(one)]
            assert over == [] and len(ours(ec2)) == 1
        finally:
            if instance.machine:
                instance.machine.stop()


def alive(ec2):
    """The instances that have not ended."""
    filters = [{"Name": "instance-state-name", "Values": list(inventory.ALIVE)}]
    reservations = ec2.describe_instances(Filters=filters)["Reservations"]
    return [one["InstanceId"] for each in reservations for one in each["Instances"]]


def ours(ec2):
    """The security groups of launches."""
    return ec2.describe_security_groups(Filters=tags.filters(run=""))["SecurityGroups"]


def is_the_same(ec2, instance, image):
    """The instance's disk is the checked image, byte for byte, and AWS starts it with IMDSv2 alone."""
    found, _ = registered(ec2, instance.asked["ImageId"])
    assert found["ImdsSupport"] == "v2.0"
    raw = instance.work / "checked.raw"
    partitions.to_raw(image, raw)
    assert digest(raw) == digest(instance.back)
    raw.unlink()


def is_as_it_was_told(machine, pair):
    """cloud-init took it for EC2; key pair and settings have arrived."""
    assert machine.ssh(AWAIT_BOOT, check=False, timeout=900).status == 0
    assert machine.ssh("cloud-id").stdout.strip() == "aws"
    assert pair in machine.ssh("cat ~/.ssh/authorized_keys").stdout
    assert machine.ssh("cat /etc/app/domains").stdout == f"{NAME}\n"
    assert machine.ssh(f"curl -s -H 'Host: {NAME}' http://127.0.0.1/mood").stdout == "good"
