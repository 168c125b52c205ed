"""`bake ami`, `sweep` and `prune` against moto's server and our rules of snapshots, alone in a network namespace."""

import base64
import hashlib
import json
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import amazon
import boto3
import pytest
from amazon.blocks import BLOCK

from bake.aws import policy

REPOSITORY = Path(__file__).parents[2]
#: Bytes of the disks here, but for those that are long.
SIZE = 64 << 20


pytestmark = amazon.inside


@pytest.fixture
def call(tmp_path):
    """`bake`, as a user calls it; `kill` gets the process when it has begun."""

    def call(*words, begun=lambda process: None, **env):
        process = subprocess.Popen(
            [sys.executable, "-m", "bake", *map(str, words)], cwd=tmp_path, text=True, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env={**os.environ, "BAKE_CACHE": str(tmp_path / "cache"), "PYTHONPATH": str(REPOSITORY), **env},
        )  # fmt: skip
        begun(process)
        stdout, stderr = process.communicate(timeout=300)
        sys.stderr.write(stderr)
        assert "Traceback" not in stderr
        return subprocess.CompletedProcess(words, process.returncode, stdout, stderr)

    return call


@pytest.fixture
def image(tmp_path):
    """Write a small disk, block by block, and what a bake says of an image beside it; its path."""

    def write(blocks, name="shop", **facts):
        path = tmp_path / "dist" / f"{name}.raw"
        path.parent.mkdir(exist_ok=True)
        path.unlink(missing_ok=True)
        with path.open("wb") as stream:
            stream.truncate(max(SIZE, (max(blocks) + 1) * BLOCK))
            for index, data in blocks.items():
                stream.seek(index * BLOCK)
                stream.write(data)
        said = {
            "name": name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "checks": 101,
            "release": "debian-13", "base_date": "2026-11-20", "document": "d" * 64, "version": "1.2",
            "commit": "c" * 40, "health": "/healthz", **facts,
        }  # fmt: skip
        path.with_name(f"{name}.raw.json").write_text(json.dumps(said))
        return path

    return write


def block(letter):
    return letter.encode() * BLOCK


#: A disk, and the same with one block changed, one emptied and one more.
FIRST = {0: block("a"), 3: block("b"), 70: block("c"), 120: block("d")}
SECOND = {0: block("a"), 3: block("B"), 71: block("e"), 120: block("d")}


def registered(ec2, name):
    (found,) = ec2.describe_images(ImageIds=[name])["Images"]
    (mapping,) = found["BlockDeviceMappings"]
    return found, mapping["Ebs"]


def read_back(snapshot, into):
    """The disk that a snapshot holds, by the EBS direct APIs; each block's checksum is verified."""
    ebs = boto3.client("ebs")
    asked: dict[str, Any] = {"SnapshotId": snapshot}
    with into.open("wb") as stream:
        while True:
            listed = ebs.list_snapshot_blocks(**asked)
            for each in listed["Blocks"]:
                got = ebs.get_snapshot_block(
                    SnapshotId=snapshot, BlockIndex=each["BlockIndex"], BlockToken=each["BlockToken"]
                )
                data = got["BlockData"].read()
                assert base64.b64encode(hashlib.sha256(data).digest()).decode() == got["Checksum"]
                stream.seek(each["BlockIndex"] * BLOCK)
                stream.write(data)
            if not listed.get("NextToken"):
                # A volume is of whole GiB; the rest of it is empty.
                stream.truncate(max(SIZE, stream.tell()))
                return into
            asked["NextToken"] = listed["NextToken"]


def digest(path):
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def tags_of(thing):
    return {tag["Key"]: tag["Value"] for tag in thing.get("Tags", ())}


def ours(ec2):
    """What of ours is there: AMIs, snapshots, by id, with their tags."""
    filters = [{"Name": "tag-key", "Values": ["bake:run"]}]
    return {
        **{one["ImageId"]: tags_of(one) for one in ec2.describe_images(Owners=["self"], Filters=filters)["Images"]},
        **{
            one["SnapshotId"]: tags_of(one)
            for one in ec2.describe_snapshots(OwnerIds=["self"], Filters=filters)["Snapshots"]
        },
    }


def test_the_bytes_that_were_checked_are_published(gate, ec2, call, image, tmp_path):
    disk = image(FIRST)
    called = call("ami", disk)
    assert called.returncode == 0
    name = called.stdout.strip()
    found, root = registered(ec2, name)
    assert digest(read_back(root["SnapshotId"], tmp_path / "back.raw")) == digest(disk)
    assert gate.calls.count(("ebs", "PutSnapshotBlock")) == len(FIRST)
    wanted = {
        "Architecture": "x86_64", "VirtualizationType": "hvm", "BootMode": "uefi-preferred", "ImdsSupport": "v2.0",
        "RootDeviceName": "/dev/xvda",
    }  # fmt: skip
    assert wanted.items() <= found.items() and found["EnaSupport"] in (True, "true")
    assert root["VolumeType"] == "gp3" and root["DeleteOnTermination"]
    (snapshot,) = ec2.describe_snapshots(SnapshotIds=[root["SnapshotId"]])["Snapshots"]
    for tags in (tags_of(found), tags_of(snapshot)):
        assert {
            "Name": "shop", "bake:app": "shop", "bake:version": "1.2", "bake:document": "d" * 64,
            "bake:base": "debian-13 2026-11-20", "bake:commit": "c" * 40, "bake:image": digest(disk),
            "bake:health": "/healthz",
        }.items() <= tags.items()  # fmt: skip
        assert tags["bake:run"] and "bake:expires" not in tags


def test_the_same_image_is_the_same_ami(gate, ec2, call, image):
    disk = image(FIRST)
    first = call("ami", disk)
    gate.clear()
    again = call("ami", disk)
    assert again.stdout == first.stdout and again.returncode == 0
    assert not {action for service, action in gate.calls if service == "ebs"}
    assert "RegisterImage" not in dict(gate.calls).values()
    assert len(ours(ec2)) == 2


def test_only_what_differs_is_sent(gate, ec2, call, image, tmp_path):
    assert call("ami", image(FIRST)).returncode == 0
    gate.clear()
    disk = image(SECOND)
    called = call("ami", disk)
    _, root = registered(ec2, called.stdout.strip())
    assert digest(read_back(root["SnapshotId"], tmp_path / "back.raw")) == digest(disk)
    # One changed, one more, one emptied.
    assert gate.calls.count(("ebs", "PutSnapshotBlock")) == 3
    assert gate.asked("StartSnapshot")[0]["ParentSnapshotId"]
    assert "3 of 4 non-empty blocks" in called.stderr


@pytest.mark.long
@pytest.mark.parametrize(
    "fault",
    ["the list was changed", "the list is gone", "the parent is gone"],
)
def test_without_a_parent_all_is_sent(fault, gate, ec2, call, image, tmp_path):
    assert call("ami", image(FIRST)).returncode == 0
    (known,) = (tmp_path / "dist").glob("shop.*.eu-central-1.json")
    if fault == "the list was changed":
        said = json.loads(known.read_text())
        said["blocks"]["3"] = said["blocks"]["0"]
        known.write_text(json.dumps(said))
    elif fault == "the list is gone":
        known.unlink()
    else:
        (name,) = (name for name in ours(ec2) if name.startswith("ami-"))
        (snapshot,) = (name for name in ours(ec2) if name.startswith("snap-"))
        ec2.deregister_image(ImageId=name)
        ec2.delete_snapshot(SnapshotId=snapshot)
    gate.clear()
    disk = image(SECOND)
    called = call("ami", disk)
    _, root = registered(ec2, called.stdout.strip())
    assert gate.calls.count(("ebs", "PutSnapshotBlock")) == 4
    assert digest(read_back(root["SnapshotId"], tmp_path / "back.raw")) == digest(disk)


@pytest.mark.long
def test_encrypted_it_has_no_parent(gate, ec2, call, image):
    assert call("ami", image(FIRST)).returncode == 0
    gate.clear()
    key = "arn:aws:kms:eu-central-1:123456789012:key/11111111-2222-3333-4444-555555555555"
    called = call("ami", image(SECOND), "--kms-key", key)
    assert called.returncode == 0
    (asked,) = gate.asked("StartSnapshot")
    assert asked["Encrypted"] and asked["KmsKeyArn"] == key and "ParentSnapshotId" not in asked
    # Another key is another AMI.
    assert call("ami", image(SECOND), "--name", "plain").stdout != called.stdout


@pytest.mark.long
def test_an_account_that_encrypts_by_default_is_sent_what_differs_as_well(gate, ec2, call, image, tmp_path):
    assert call("ami", image(FIRST)).returncode == 0
    gate.ours.encrypts = True
    gate.clear()
    # What was sent before is not encrypted: nobody's parent any more.
    assert call("ami", image(SECOND)).returncode == 0
    assert ["ParentSnapshotId" in asked for asked in gate.asked("StartSnapshot")] == [True, False]
    gate.clear()
    disk = image({**SECOND, 0: b"\x09"})
    called = call("ami", disk)
    assert ["ParentSnapshotId" in asked for asked in gate.asked("StartSnapshot")] == [True], called.stderr
    assert gate.calls.count(("ebs", "PutSnapshotBlock")) == 1
    _, root = registered(ec2, called.stdout.strip())
    assert digest(read_back(root["SnapshotId"], tmp_path / "back.raw")) == digest(disk)


@pytest.mark.long
def test_what_aws_learns_late_is_waited_for(gate, ec2, call, image, tmp_path):
    gate.ours.lag = 3
    first = call("ami", image(FIRST))
    assert first.returncode == 0
    disk = image(SECOND)
    second = call("ami", disk, "--parameter", "/apps/shop")
    _, root = registered(ec2, second.stdout.strip())
    assert digest(read_back(root["SnapshotId"], tmp_path / "back.raw")) == digest(disk)
    assert not any("bake:expires" in said for said in ours(ec2).values())
    assert call("prune", "--keep", 1, "--yes").stdout == first.stdout
    assert set(ours(ec2)) == {second.stdout.strip(), root["SnapshotId"]}
    # A sweep does not take a snapshot for one that stays, while AWS still lets go of its AMI.
    ec2.create_tags(Resources=list(ours(ec2)), Tags=[{"Key": "bake:expires", "Value": "2026-01-01T00:00:00Z"}])
    swept = call("sweep")
    assert (
        swept.returncode == 0 and "run `bake sweep` again" in swept.stderr and list(ours(ec2)) == [root["SnapshotId"]]
    )
    for _ in range(3):
        call("sweep")
    assert ours(ec2) == {}


@pytest.mark.long
def test_what_a_run_has_not_finished_is_nobody_s_newest(gate, ec2, call, image):
    whole, half = (call("ami", image(blocks)).stdout.strip() for blocks in (FIRST, SECOND))
    later = {"Key": "bake:expires", "Value": "2099-01-01T00:00:00Z"}
    ec2.create_tags(Resources=[half], Tags=[later])
    assert [one["id"] for one in json.loads(call("ls", "--amis", "--json").stdout)["amis"]] == [whole]
    assert call("prune", "--keep", 1, "--yes").stdout == "" and whole in ours(ec2)


def test_copied_shared_deprecated_and_led_to(gate, ec2, call, image):
    words = ("--copy-to", "eu-west-1", "--share", "210987654321", "--deprecate", 90, "--parameter", "/apps/shop")
    called = call("ami", image(FIRST), *words)
    assert called.returncode == 0
    name = called.stdout.strip()
    there = boto3.client("ec2", region_name="eu-west-1")
    (copy,) = there.describe_images(Owners=["self"])["Images"]
    assert tags_of(copy)["bake:app"] == "shop" and copy["ImageId"] in called.stderr
    for region, one in (("eu-central-1", name), ("eu-west-1", copy["ImageId"])):
        client = boto3.client("ec2", region_name=region)
        shared = client.describe_image_attribute(ImageId=one, Attribute="launchPermission")
        assert shared["LaunchPermissions"] == [{"UserId": "210987654321"}]
        (found,) = client.describe_images(ImageIds=[one])["Images"]
        (mapping,) = found["BlockDeviceMappings"]
        allowed = client.describe_snapshot_attribute(
            SnapshotId=mapping["Ebs"]["SnapshotId"], Attribute="createVolumePermission"
        )
        assert allowed["CreateVolumePermissions"] == [{"UserId": "210987654321"}]
        assert found["DeprecationTime"]
        led = boto3.client("ssm", region_name=region).get_parameter(Name="/apps/shop")["Parameter"]
        assert led["Value"] == one and led["DataType"] == "aws:ec2:image"
    gate.clear()
    assert call("ami", image(FIRST), *words).stdout == called.stdout
    assert not {"StartSnapshot", "RegisterImage", "CopyImage"} & {action for _, action in gate.calls}


def puts(gate):
    return gate.calls.count(("ebs", "PutSnapshotBlock"))


def test_an_upload_that_was_killed_goes_on(gate, ec2, call, image, tmp_path):
    many = {index: index.to_bytes(4) * (BLOCK // 4) for index in range(1, 200)}
    disk = image(many)
    at = 100
    killed = call("ami", disk, begun=lambda process: gate.after(at, process.kill))
    assert killed.returncode == -signal.SIGKILL
    before = puts(gate)
    assert 0 < before < len(many)
    (snapshot,) = ours(ec2)
    called = call("ami", disk)
    assert called.returncode == 0
    _, root = registered(ec2, called.stdout.strip())
    assert root["SnapshotId"] == snapshot
    # What was under way when it was killed may be sent twice.
    assert len(many) <= puts(gate) <= len(many) + 32
    assert digest(read_back(snapshot, tmp_path / "back.raw")) == digest(disk)
    assert "bake:expires" not in ours(ec2)[snapshot]


@pytest.mark.long
def test_one_that_aws_gave_up_begins_anew(gate, ec2, call, image):
    many = {index: index.to_bytes(4) * (BLOCK // 4) for index in range(1, 100)}
    disk = image(many)
    call("ami", disk, begun=lambda process: gate.after(50, process.kill))
    (first,) = ours(ec2)
    later = gate.ours.now() + 3700
    gate.ours.now = lambda: later
    called = call("ami", disk)
    assert called.returncode == 0
    _, root = registered(ec2, called.stdout.strip())
    assert root["SnapshotId"] != first


@pytest.mark.long
def test_killed_after_each_call_nothing_is_left_that_sweep_does_not_find(gate, ec2, call, image, tmp_path):
    call("ami", image({5: block("x")}, "other"))
    theirs = ec2.create_volume(AvailabilityZone="eu-central-1a", Size=1)["VolumeId"]
    others = ours(ec2)
    assert len(others) == 2
    disk, number, outcomes = image(FIRST), 0, set()

    def kill(number, process):
        gate.after(number, process.kill)

    while True:
        number += 1
        gate.clear()
        killed = call("ami", disk, "--parameter", "/apps/shop", begun=partial(kill, number))
        if killed.returncode == 0:
            break
        assert killed.returncode == -signal.SIGKILL
        swept = call("sweep")
        assert swept.returncode == 0
        left = {name: tags for name, tags in ours(ec2).items() if name not in others}
        assert all("bake:expires" not in tags for tags in left.values())
        # All of it, or nothing.
        assert [name[:4] for name in sorted(left)] in ([], ["ami-", "snap"])
        outcomes.add(bool(left))
        # Each kill meets an AMI that has to be made.
        for name in sorted(left):
            if name.startswith("ami-"):
                ec2.deregister_image(ImageId=name)
        for name in left:
            if name.startswith("snap-"):
                ec2.delete_snapshot(SnapshotId=name)
        for journal in (tmp_path / "cache" / "uploads").glob("*"):
            journal.unlink()
    assert number > 10 and outcomes == {True, False}
    assert others.items() <= ours(ec2).items()
    assert ec2.describe_volumes(VolumeIds=[theirs])["Volumes"]


def test_sweep_leaves_a_run_that_is_at_work(gate, ec2, call, image):
    many = {index: index.to_bytes(4) * (BLOCK // 4) for index in range(1, 60)}
    swept = []

    def begun(process):
        gate.after(20, lambda: swept.append(call("sweep")))

    called = call("ami", image(many), begun=begun)
    assert called.returncode == 0 and swept[0].returncode == 0
    assert swept[0].stdout == ""


@pytest.mark.long
def test_what_has_expired_is_swept_from_anywhere(gate, ec2, call, image, tmp_path):
    marks = [{"Key": "bake:run", "Value": "ffff"}, {"Key": "bake:expires", "Value": "2026-01-01T00:00:00Z"}]
    later = [{"Key": "bake:run", "Value": "ffff"}, {"Key": "bake:expires", "Value": "2126-01-01T00:00:00Z"}]

    def tagged(kind, tags):
        return [{"ResourceType": kind, "Tags": tags}]

    def make(tags):
        volume = ec2.create_volume(AvailabilityZone="eu-central-1a", Size=1, TagSpecifications=tagged("volume", tags))[
            "VolumeId"
        ]
        group = ec2.create_security_group(
            GroupName=f"g-{len(made)}", Description="x", TagSpecifications=tagged("security-group", tags)
        )["GroupId"]
        key = ec2.create_key_pair(KeyName=f"k-{len(made)}", TagSpecifications=tagged("key-pair", tags))["KeyName"]
        started = ec2.run_instances(
            ImageId=amazon.IMAGES[0]["ami_id"], MinCount=1, MaxCount=1, SecurityGroupIds=[group],
            TagSpecifications=tagged("instance", tags),
        )  # fmt: skip
        made.append((volume, group, key, started["Instances"][0]["InstanceId"]))
        return made[-1]

    made = []
    over, still, not_ours = make(marks), make(later), make([{"Key": "Name", "Value": "theirs"}])
    swept = call("sweep")
    assert swept.returncode == 0
    assert all(name in swept.stdout for name in over)
    assert not [name for name in (*still, *not_ours) if name in swept.stdout]
    states = {
        instance["InstanceId"]: instance["State"]["Name"]
        for reservation in ec2.describe_instances()["Reservations"]
        for instance in reservation["Instances"]
    }
    assert states[over[3]] == "terminated" and states[still[3]] == states[not_ours[3]] == "running"
    there = {volume["VolumeId"] for volume in ec2.describe_volumes()["Volumes"]}
    assert over[0] not in there and {still[0], not_ours[0]} <= there
    assert call("sweep").stdout == ""


#: What a person can do about each, as the exit code says it.
FAULTS = {"denied": 61, "expired": 60, "unknown-key": 60, "quota": 62}


@pytest.mark.parametrize(
    "fault", ["denied", *(pytest.param(one, marks=pytest.mark.long) for one in FAULTS if one != "denied")]
)
@pytest.mark.parametrize(
    "action",
    ["RegisterImage", *(pytest.param(one, marks=pytest.mark.long) for one in ("StartSnapshot", "PutSnapshotBlock"))],
)
def test_refused(fault, action, gate, ec2, call, image):
    gate.fault = lambda service, asked, nth: fault if asked == action else None
    called = call("ami", image(FIRST))
    assert called.returncode == FAULTS[fault] and called.stdout == ""
    assert "error: " in called.stderr and len(called.stderr.splitlines()) < 12
    if fault == "denied":
        assert f":{action}" in called.stderr and "bake aws-policy" in called.stderr
    gate.fault = lambda *words: None
    assert call("sweep").returncode == 0
    assert ours(ec2) == {}


@pytest.mark.long
@pytest.mark.parametrize(
    "fault",
    ["drop-after", "throttle", "500", "drop", "delay"],
)
def test_every_call_fails_once(fault, gate, ec2, call, image, tmp_path):
    gate.fault = lambda service, action, nth: fault if nth == 1 else None
    disk = image(FIRST)
    called = call("ami", disk, "--parameter", "/apps/shop")
    assert called.returncode == 0
    _, root = registered(ec2, called.stdout.strip())
    assert digest(read_back(root["SnapshotId"], tmp_path / "back.raw")) == digest(disk)
    gate.fault = lambda *words: None
    call("sweep")
    assert len(ours(ec2)) == 2


@pytest.mark.long
def test_mistakes(gate, ec2, call, image, tmp_path):
    disk = image(FIRST)
    for env in ({"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, {"AWS_PROFILE": "nobody"}):
        called = call("ami", disk, **env)
        assert called.returncode == 60 and ("AWS_PROFILE" in called.stderr or "nobody" in called.stderr)
    called = call("ami", disk, AWS_DEFAULT_REGION="")
    assert called.returncode == 69 and "--region" in called.stderr
    called = call("ami", disk, AWS_ENDPOINT_URL="http://127.0.0.1:9")
    assert called.returncode == 69 and "AWS is unreachable" in called.stderr
    # Of the regions to copy to, too, before anything is sent.
    called = call("ami", disk, "--copy-to", "nowhere-1")
    assert called.returncode == 69 and not called.stdout and ours(ec2) == {}
    taken = call("ami", disk, "--name", "one")
    assert taken.returncode == 0
    called = call("ami", image(SECOND), "--name", "one")
    assert called.returncode == 63 and "--name" in called.stderr
    called = call("ami", image(FIRST, checks=0))
    assert called.returncode == 63 and "is not a checked image" in called.stderr and "bake image PATH" in called.stderr
    called = call("ami", tmp_path / "x.raw")
    assert called.returncode == 63 and "x.raw does not exist" in called.stderr
    lone = disk.rename(tmp_path / "lone.raw")
    called = call("ami", lone)
    assert called.returncode == 63 and "missing" in called.stderr
    changed = image(FIRST)
    changed.write_bytes(b"other")
    called = call("ami", changed)
    assert called.returncode == 63 and "has changed" in called.stderr
    assert call("ami", disk, "--share", "12").returncode == 2
    assert call("ami", disk, "--parameter", "shop").returncode == 2


@pytest.mark.long
def test_memory_is_bounded(gate, call, image):
    many = {index: os.urandom(BLOCK) for index in range(600)}
    peaks = []

    def begun(process):
        status = Path(f"/proc/{process.pid}/status")
        gate.after(590, lambda: peaks.append(status.read_text()))

    assert call("ami", image(many), begun=begun).returncode == 0
    (line,) = (line for line in peaks[0].splitlines() if line.startswith("VmHWM"))
    print(line)
    assert int(line.split()[1]) < 200_000


@pytest.mark.long
def test_policies_are_what_is_called(gate, ec2, call, image):
    """The least: every action of a policy is used, and nothing else is asked for."""
    assert call("ami", image(FIRST)).returncode == 0
    assert call("ami", image(SECOND), "--share", "210987654321", "--deprecate", 9, "--parameter", "/a",
                "--copy-to", "eu-west-1").returncode == 0  # fmt: skip
    assert {":".join(pair) for pair in gate.needs} == policy.actions("ami")


@pytest.mark.long
def test_prune(gate, ec2, call, image):
    names = []
    for number in range(5):
        names.append(call("ami", image({number: block("x")}, sha=str(number))).stdout.strip())
        gate.ours.now()
    other = call("ami", image({9: block("y")}, "other")).stdout.strip()
    ec2.run_instances(ImageId=names[0], MinCount=1, MaxCount=1)
    ec2.create_launch_template(LaunchTemplateName="t", LaunchTemplateData={"ImageId": names[1]})
    gate.clear()
    shown = call("prune", "--keep", 1)
    assert shown.returncode == 0 and "--yes" in shown.stderr
    assert set(shown.stdout.split()) == set(names[2:4])
    assert len(ours(ec2)) == 12
    pruned = call("prune", "--keep", 1, "--yes")
    assert pruned.returncode == 0 and pruned.stdout == shown.stdout
    assert f"{names[0]}" in pruned.stderr and "launch template t" in pruned.stderr
    left = ours(ec2)
    assert {name for name in left if name.startswith("ami-")} == {names[0], names[1], names[4], other}
    assert len(left) == 8


# Who we are, and what we may


OTHERS = {"ls": "DescribeInstances", "sweep": "DescribeKeyPairs", "down shop": "DescribeInstances",
          "prune --keep 1": "DescribeImages"}  # fmt: skip


@pytest.mark.long
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("words", OTHERS)
def test_each_command_says_what_is_refused(words, fault, gate, call):
    gate.fault = lambda service, action, nth: fault
    called = call(*words.split())
    assert (called.returncode, called.stdout) == (FAULTS[fault], "")
    assert "error: " in called.stderr and len(called.stderr.splitlines()) < 8
    if fault == "denied":
        line = f'"Action": "ec2:{OTHERS[words]}" is in its statement "Look"'
        assert f"`bake aws-policy {words.split()[0]}`" in called.stderr and line in called.stderr


CONFIG = """
[profile there]
region = eu-west-1
credential_process = {program}
[profile role]
region = eu-north-1
role_arn = arn:aws:iam::123456789012:role/deploy
source_profile = there
[profile over]
region = eu-central-1
sso_session = ours
sso_account_id = 123456789012
sso_role_name = deploy
[sso-session ours]
sso_region = eu-central-1
sso_start_url = https://ours.awsapps.example/start
"""


@pytest.mark.long
def test_profiles_are_boto3_s(gate, call, tmp_path, monkeypatch):
    """A program that gives credentials, a role that is assumed, a login that is over, an endpoint of one service."""
    made = {"Version": 1, "AccessKeyId": "AKIAFROMAPROGRAM", "SecretAccessKey": "s"}
    (tmp_path / "program").write_text(f"#!/bin/sh\necho '{json.dumps(made)}'\n")
    (tmp_path / "program").chmod(0o755)
    (tmp_path / "config").write_text(CONFIG.format(program=tmp_path / "program"))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name)
    own = {"AWS_CONFIG_FILE": str(tmp_path / "config"), "HOME": str(tmp_path)}
    assert call("ls", "--profile", "there", **own).returncode == 0
    assert call("ls", AWS_PROFILE="role", **own).returncode == 0
    # An endpoint of EC2's own goes before that of all.
    own |= {"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_ENDPOINT_URL_EC2": gate.url}
    assert call("ls", "--profile", "there", **own).returncode == 0
    seen = [
        (one.action, one.region, one.headers["Authorization"].split("Credential=")[1][:16]) for one in gate.requests
    ]
    program = "AKIAFROMAPROGRAM"
    assert seen[:2] == [("DescribeInstances", "eu-west-1", program), ("AssumeRole", "eu-north-1", program)]
    action, region, key = seen[2]
    assert (action, region) == ("DescribeInstances", "eu-north-1") and key != program
    assert seen[3:] == [("DescribeInstances", "eu-west-1", program)]
    over = call("ls", "--profile", "over", **own)
    assert over.returncode == 60 and "aws sso login" in over.stderr
