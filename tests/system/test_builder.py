"""`bake ami --builder packer` against moto's server, as far as no instance answers: what is asked for, cut and left.

test_builder_instance.py has one that answers.
"""

import base64
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import amazon
import pytest

from bake.aws import tags
from bake.vm import qemu

REPOSITORY = Path(__file__).parents[2]
pytestmark = amazon.inside
#: Needs nothing of an index: such a namespace has no way out.
APP = "def app(environ, start_response):\n    start_response('200 OK', [])\n    return [b'here']\n"


@pytest.fixture
def app(tmp_path):
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "app.py").write_text(APP)
    (folder / "requirements.txt").touch()
    return folder


@pytest.fixture
def call(tmp_path, tmp_path_factory):
    """`bake`, as a user calls it, its instance a port where nobody listens; `begun` gets the process."""
    port = qemu.free_port()
    # Short: Packer's plugins listen at Unix sockets in there, whose paths have 107 bytes at most.
    cache = tmp_path_factory.mktemp("c")

    def call(*words, begun=lambda process: None, **env):
        process = subprocess.Popen(
            [sys.executable, "-m", "bake", *map(str, words)], cwd=tmp_path, text=True, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env={**os.environ, "BAKE_CACHE": str(cache), "PYTHONPATH": str(REPOSITORY),
                 "PKR_VAR_ssh_host": "127.0.0.1", "PKR_VAR_ssh_port": str(port), "PKR_VAR_ssh_timeout": "3s",
                 "AWS_POLL_DELAY_SECONDS": "1", **env},
        )  # fmt: skip
        begun(process)
        stdout, stderr = process.communicate(timeout=300)
        sys.stderr.write(stderr)
        assert "Traceback" not in stderr
        return subprocess.CompletedProcess(words, process.returncode, stdout, stderr)

    return call


def left(ec2):
    """What there is besides what an account begins with."""
    instances = [
        instance["InstanceId"]
        for reservation in ec2.describe_instances()["Reservations"]
        for instance in reservation["Instances"]
        if instance["State"]["Name"] != "terminated"
    ]
    groups = [
        one["GroupId"] for one in ec2.describe_security_groups()["SecurityGroups"] if one["GroupName"] != "default"
    ]
    keys = [one["KeyName"] for one in ec2.describe_key_pairs()["KeyPairs"]]
    volumes = [one["VolumeId"] for one in ec2.describe_volumes()["Volumes"]]
    images = [one["ImageId"] for one in ec2.describe_images(Owners=["self"])["Images"]]
    snapshots = [one["SnapshotId"] for one in ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"]]
    return [*instances, *groups, *keys, *volumes, *images, *snapshots]


def specified(asked, kind):
    """The tags that a call gives to a kind of thing."""
    found = {}
    for name, value in asked.items():
        if name.startswith("TagSpecification") and name.endswith("ResourceType") and value == kind:
            start = name.removesuffix("ResourceType") + "Tag."
            rows = {key.removeprefix(start): text for key, text in asked.items() if key.startswith(start)}
            for key, text in rows.items():
                if key.endswith(".Key"):
                    found[text] = rows[key.removesuffix("Key") + "Value"]
    return found


def test_what_is_asked_for_and_that_nothing_stays(gate, ec2, call, app):
    called = call("ami", app, "--builder", "packer", "--ssh-from", "198.51.100.7/32")
    assert called.returncode == 41 and called.stdout == "" and "Timeout waiting for SSH" in called.stderr
    (launched,) = gate.asked("RunInstances")
    # The newest of Debian's own, of that release and architecture.
    assert launched["ImageId"] == amazon.IMAGES[1]["ami_id"]
    (pair,), (group,) = gate.asked("ImportKeyPair"), gate.asked("CreateSecurityGroup")
    assert launched["KeyName"] == pair["KeyName"]
    for asked, kind in (
        (launched, "instance"), (launched, "volume"), (pair, "key-pair"), (group, "security-group"),
    ):  # fmt: skip
        given = specified(asked, kind)
        assert given[tags.APP] == "shop" and given[tags.RUN] and given[tags.EXPIRES], kind
    assert specified(pair, "key-pair")[tags.AMI_NAME].startswith("shop-")
    assert base64.b64decode(pair["PublicKeyMaterial"]).startswith(b"ssh-ed25519 ")
    (opened,) = gate.asked("AuthorizeSecurityGroupIngress")
    assert "198.51.100.7/32" in opened.values()
    document = base64.b64decode(launched["UserData"])
    assert len(document) <= 16384 and document.startswith(b"#cloud-config\n")
    (bound,) = gate.asked("ModifyInstanceMetadataOptions")
    assert bound["HttpTokens"] == "required"
    # Packer asks for no key pair and no group of its own.
    assert not {"CreateKeyPair", "CreateImage"} & {action for _, action in gate.calls}
    assert left(ec2) == []


@pytest.mark.long
@pytest.mark.parametrize(
    "moment",
    ["ImportKeyPair", "CreateSecurityGroup", "AuthorizeSecurityGroupIngress", "RunInstances",
     "ModifyInstanceMetadataOptions", "TerminateInstances"],
)  # fmt: skip
def test_killed_it_leaves_what_a_sweep_finds(moment, gate, ec2, call, app):
    theirs = ec2.create_key_pair(KeyName="theirs")["KeyName"]

    def begun(process):
        gate.fault = lambda service, action, nth: process.kill() if action == moment else None

    killed = call("ami", app, "--builder", "packer", begun=begun)
    assert killed.returncode == -signal.SIGKILL
    # What was under way is done.
    time.sleep(1)
    gate.fault = lambda *words: None
    assert left(ec2) != [theirs] or moment == "TerminateInstances"
    swept = call("sweep")
    assert swept.returncode == 0 and left(ec2) == [theirs]


@pytest.mark.long
def test_packer_itself_is_killed(gate, ec2, call, app):
    """Both its outer process and what it starts: bake removes what is left."""

    def begun(process):
        def kill(service, action, nth):
            if action == "ModifyInstanceMetadataOptions":
                for path in Path("/proc").glob("[0-9]*"):
                    # One of this network namespace's: nobody else's is ever meant.
                    with contextlib.suppress(OSError):
                        here = path.joinpath("ns/net").readlink() == Path("/proc/self/ns/net").readlink()
                        if here and b"packer\0build" in path.joinpath("cmdline").read_bytes():
                            os.kill(int(path.name), signal.SIGKILL)

        gate.fault = kill

    called = call("ami", app, "--builder", "packer", begun=begun, PKR_VAR_ssh_timeout="5m")
    assert called.returncode == 41
    assert left(ec2) == []


@pytest.mark.long
def test_cancelled(gate, ec2, call, app):
    def begun(process):
        def soon(service, action, nth):
            if action == "ModifyInstanceMetadataOptions":
                threading.Timer(1, process.send_signal, [signal.SIGINT]).start()

        gate.fault = soon

    called = call("ami", app, "--builder", "packer", begun=begun, PKR_VAR_ssh_timeout="5m")
    assert called.returncode == 130
    assert left(ec2) == []


def test_an_ami_that_packer_could_not_tag_is_swept(gate, ec2, call, tmp_path):
    """Packer has asked for it, and all dies before it is tagged: its run's key pair names it."""
    marks = [{"Key": tags.RUN, "Value": "ffff"}, {"Key": tags.APP, "Value": "shop"}]
    late = [*marks, {"Key": tags.EXPIRES, "Value": "2026-01-01T00:00:00Z"}]
    images = {}
    for number, name in enumerate(("shop-1", "finished", "never-made", "older")):
        if name == "older":
            # An image with the name of a later run is another one.
            made = ec2.run_instances(ImageId=amazon.IMAGES[1]["ami_id"], MinCount=1, MaxCount=1)["Instances"][0]
            images[name] = ec2.create_image(InstanceId=made["InstanceId"], Name=name)["ImageId"]
            time.sleep(1.1)
        making = [*late, {"Key": tags.AMI_NAME, "Value": name}]
        ec2.create_key_pair(KeyName=f"bake-{number}", TagSpecifications=[{"ResourceType": "key-pair", "Tags": making}])
    for name in ("shop-1", "theirs", "finished"):
        made = ec2.run_instances(ImageId=amazon.IMAGES[1]["ami_id"], MinCount=1, MaxCount=1)["Instances"][0]
        images[name] = ec2.create_image(InstanceId=made["InstanceId"], Name=name)["ImageId"]
    ec2.create_tags(Resources=[images["finished"]], Tags=marks)
    snapshots = len(ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"])
    swept = call("sweep")
    assert swept.returncode == 0 and images["shop-1"] in swept.stdout
    there = [one["ImageId"] for one in ec2.describe_images(Owners=["self"])["Images"]]
    assert sorted(there) == sorted([images["theirs"], images["finished"], images["older"]])
    assert ec2.describe_key_pairs()["KeyPairs"] == []
    assert len(ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"]) == snapshots - 1


@pytest.mark.long
@pytest.mark.parametrize(("fault", "code"), [("denied", 61), ("quota", 62)])
@pytest.mark.parametrize("moment", ["ImportKeyPair", "RunInstances"])
def test_refused(moment, fault, code, gate, ec2, call, app):
    gate.fault = lambda service, action, nth: fault if action == moment else None
    called = call("ami", app, "--builder", "packer")
    assert called.returncode == code and called.stdout == ""
    if fault == "denied":
        assert f"ec2:{moment}" in called.stderr and "bake aws-policy" in called.stderr
    assert left(ec2) == []


@pytest.mark.long
def test_mistakes(gate, ec2, call, app, tmp_path):
    assert call("ami", tmp_path / "x.qcow2", "--builder", "packer").returncode == 2
    assert call("ami", app, "--builder", "packer", "--ssh-from", "me").returncode == 2
    key = "arn:aws:kms:eu-central-1:123456789012:key/11111111-2222-3333-4444-555555555555"
    assert call("ami", app, "--builder", "packer", "--kms-key", key).returncode == 2
    made = ec2.run_instances(ImageId=amazon.IMAGES[1]["ami_id"], MinCount=1, MaxCount=1)["Instances"][0]
    ec2.create_image(InstanceId=made["InstanceId"], Name="taken")
    called = call("ami", app, "--builder", "packer", "--name", "taken")
    assert called.returncode == 63 and "--name" in called.stderr
    (app / "bake.yaml").write_text(json.dumps({"base": {"image": "disk.qcow2", "sha512": "0" * 128}}))
    called = call("ami", app, "--builder", "packer")
    assert called.returncode == 63 and "--builder" in called.stderr
