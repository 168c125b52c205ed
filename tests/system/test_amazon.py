"""The servers that stand in for Amazon: what they take, refuse and write down; real boto3 asks them.

test_alone.py runs them in a network namespace, as everything that asks moto: the addresses that it invents belong to
strangers.
"""

import base64
import errno
import hashlib
import json
import os
import socket
import sys
import threading
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import amazon
import boto3
import pytest
from amazon.blocks import BLOCK
from botocore.client import BaseClient
from botocore.config import Config
from botocore.exceptions import ClientError, ConnectionClosedError

from bake.host.programs import run, start, stop

pytestmark = amazon.inside

#: One try, so that a fault is seen as it is.
ONCE = Config(retries={"total_max_attempts": 1})


@pytest.fixture(scope="session")
def amazons(tmp_path_factory):
    """A gate and its clients, for all cases."""
    clients: dict[tuple[str, ...], BaseClient] = {}
    with amazon.standing(tmp_path_factory.mktemp("amazon")) as gate:
        yield gate, clients


@pytest.fixture
def gate(amazons):
    amazons[0].reset()
    return amazons[0]


@pytest.fixture
def ask(amazons):
    """Clients that try once."""

    def client(service, **options):
        key = (service, *options.values())
        if key not in amazons[1]:
            amazons[1][key] = boto3.client(service, config=ONCE, **options)
        return amazons[1][key]

    return client


def sha(data):
    return base64.b64encode(hashlib.sha256(data).digest()).decode()


def block(letter):
    return letter.encode() * BLOCK


def put(ebs, snapshot, index, data, **other):
    words = {"DataLength": BLOCK, "Checksum": sha(data), "ChecksumAlgorithm": "SHA256", **other}
    return ebs.put_snapshot_block(SnapshotId=snapshot, BlockIndex=index, BlockData=data, **words)


def snapshot(ebs, blocks, **options):
    """A complete snapshot of these blocks."""
    name = ebs.start_snapshot(VolumeSize=1, **options)["SnapshotId"]
    for index, data in blocks.items():
        put(ebs, name, index, data)
    digests = b"".join(hashlib.sha256(blocks[index]).digest() for index in sorted(blocks))
    ebs.complete_snapshot(
        SnapshotId=name, ChangedBlocksCount=len(blocks), Checksum=sha(digests), ChecksumAlgorithm="SHA256",
        ChecksumAggregationMethod="LINEAR",
    )  # fmt: skip
    return name


def contents(ebs, name):
    """What a snapshot is read as, a letter a block."""
    listed = ebs.list_snapshot_blocks(SnapshotId=name)
    assert listed["BlockSize"] == BLOCK and listed["VolumeSize"] == 1
    read = {}
    for each in listed["Blocks"]:
        answer = ebs.get_snapshot_block(SnapshotId=name, **each)
        data = answer["BlockData"].read()
        assert answer["Checksum"] == sha(data) and answer["DataLength"] == len(data) == BLOCK
        read[each["BlockIndex"]] = data[:1]
    return read


def refused(code, call, *words, **options):
    with pytest.raises(ClientError) as caught:
        call(*words, **options)
    assert caught.value.response["Error"]["Code"] == code
    return caught.value.response


def state(ec2, name):
    return ec2.describe_snapshots(SnapshotIds=[name])["Snapshots"][0]["State"]


# Strangers


def test_a_stranger_cannot_be_reached_and_who_tries_is_counted(gate):
    before = amazon.tries()
    for family, address in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
        with socket.socket(family) as tried, pytest.raises(OSError) as caught:
            tried.connect((address, 80))
        assert caught.value.errno in (errno.ENETUNREACH, errno.EADDRNOTAVAIL)
    assert amazon.tries() == before + 2
    # A child that says nothing of it, and one that leaves strangers alone.
    run([sys.executable, "-c", "import socket; socket.socket(2, 2).connect_ex(('54.214.1.1', 53))"])
    assert amazon.tries() == before + 3
    run([sys.executable, "-c", "import boto3; boto3.client('ec2').describe_vpcs()"])
    assert amazon.tries() == before + 3


def test_moto_is_empty_at_first_and_after_a_reset(gate, ask):
    ec2 = ask("ec2")
    ec2.allocate_address()
    assert len(ec2.describe_addresses()["Addresses"]) == 1
    amazon.reset(f"http://{gate.upstream}")
    assert ec2.describe_addresses()["Addresses"] == []


def test_a_child_finds_all_it_needs_in_the_environment(gate, tmp_path):
    program = "import boto3; print(boto3.client('sts').get_caller_identity()['Account'])"
    done = run([sys.executable, "-c", program], env=amazon.environment(gate.url, tmp_path))
    assert done.stdout.strip() == amazon.ACCOUNT
    assert gate.calls == [("sts", "GetCallerIdentity")]


# Snapshots


def test_a_snapshot_and_its_child(gate, ask):
    ebs, ec2 = ask("ebs"), ask("ec2")
    tags = [{"Key": "app", "Value": "shop"}]
    started = ebs.start_snapshot(VolumeSize=1, Tags=tags, Description="first", Timeout=10)
    parent = started["SnapshotId"]
    told = {"Status": "pending", "BlockSize": BLOCK, "VolumeSize": 1, "Tags": tags, "Description": "first"}
    assert told.items() <= started.items() and started["OwnerId"] == amazon.ACCOUNT
    assert state(ec2, parent) == "pending"
    refused("ValidationException", ebs.list_snapshot_blocks, SnapshotId=parent)
    for index, letter in ((0, "a"), (5, "b"), (2047, "c")):
        assert put(ebs, parent, index, block(letter))["Checksum"] == sha(block(letter))
    put(ebs, parent, 5, block("B"))
    assert ebs.complete_snapshot(SnapshotId=parent, ChangedBlocksCount=3)["Status"] == "completed"
    assert state(ec2, parent) == "completed"
    assert contents(ebs, parent) == {0: b"a", 5: b"B", 2047: b"c"}

    child = snapshot(ebs, {5: block("d"), 7: block("e"), 2047: block("\0")}, ParentSnapshotId=parent)
    assert contents(ebs, child) == {0: b"a", 5: b"d", 7: b"e", 2047: b"\0"}
    changed = ebs.list_changed_blocks(FirstSnapshotId=parent, SecondSnapshotId=child)["ChangedBlocks"]
    assert [each["BlockIndex"] for each in changed] == [5, 7, 2047]
    assert ["FirstBlockToken" in each for each in changed] == [True, False, True]
    other = snapshot(ebs, {})
    refused("ValidationException", ebs.list_changed_blocks, FirstSnapshotId=other, SecondSnapshotId=child)

    ec2.delete_snapshot(SnapshotId=parent)
    refused("ResourceNotFoundException", ebs.list_snapshot_blocks, SnapshotId=parent)
    refused("InvalidSnapshot.NotFound", ec2.describe_snapshots, SnapshotIds=[parent])
    assert contents(ebs, child)[0] == b"a"
    assert ec2.describe_volumes()["Volumes"] == []


def test_what_a_start_refuses(gate, ask):
    ebs, ec2 = ask("ebs"), ask("ec2")
    begin = ebs.start_snapshot
    parent = snapshot(ebs, {0: block("a")})
    for option in ({"Encrypted": True}, {"Encrypted": False}, {"KmsKeyArn": "arn:aws:kms:eu-central-1:1:key/k"}):
        refused("ValidationException", begin, VolumeSize=1, ParentSnapshotId=parent, **option)
    refused("ResourceNotFoundException", begin, VolumeSize=1, ParentSnapshotId="snap-0123456789abcdef0")
    elsewhere = ask("ebs", region_name="eu-west-1").start_snapshot
    refused("ResourceNotFoundException", elsewhere, VolumeSize=1, ParentSnapshotId=parent)
    big = begin(VolumeSize=2)["SnapshotId"]
    refused("ValidationException", begin, VolumeSize=2, ParentSnapshotId=big)
    ebs.complete_snapshot(SnapshotId=big, ChangedBlocksCount=0)
    answer = refused("ValidationException", begin, VolumeSize=1, ParentSnapshotId=big)
    assert answer["Reason"] == "INVALID_VOLUME_SIZE"
    assert begin(VolumeSize=3, ParentSnapshotId=big)["ParentSnapshotId"] == big
    secret = begin(VolumeSize=1, Encrypted=True)
    assert (
        secret["KmsKeyArn"] and ec2.describe_snapshots(SnapshotIds=[secret["SnapshotId"]])["Snapshots"][0]["Encrypted"]
    )
    # boto3 holds what it sends to Amazon's bounds itself: 10 to 4320 minutes; a curl does not.
    unbound = boto3.client("ebs", config=ONCE.merge(Config(parameter_validation=False)))
    for bad in ({"VolumeSize": 0}, {"VolumeSize": 65537}, {"VolumeSize": 1, "Timeout": 9}):
        refused("ValidationException", unbound.start_snapshot, **bad)


def test_the_same_token_is_the_same_snapshot(gate, ask):
    begin = ask("ebs").start_snapshot
    first = begin(VolumeSize=1, ClientToken="t", Description="d")
    again = begin(VolumeSize=1, ClientToken="t", Description="d")
    assert first["SnapshotId"] == again["SnapshotId"]
    assert len(ask("ec2").describe_snapshots(OwnerIds=["self"])["Snapshots"]) == 1
    refused("ConflictException", begin, VolumeSize=1, ClientToken="t", Description="other")
    assert begin(VolumeSize=1, ClientToken="u", Description="d")["SnapshotId"] != first["SnapshotId"]


def test_a_snapshot_that_nothing_is_put_into_times_out(gate, ask):
    ebs, ec2, now = ask("ebs"), ask("ec2"), [1_000_000.0]
    gate.ours.now = lambda: now[0]
    name = ebs.start_snapshot(VolumeSize=1, Timeout=10)["SnapshotId"]
    other = ebs.start_snapshot(VolumeSize=1)["SnapshotId"]
    now[0] += 599
    put(ebs, name, 0, block("a"))
    now[0] += 599
    assert state(ec2, name) == "pending"
    now[0] += 2
    assert (state(ec2, name), state(ec2, other)) == ("error", "pending")
    refused("ValidationException", put, ebs, name, 1, block("a"))
    refused("ValidationException", ebs.complete_snapshot, SnapshotId=name, ChangedBlocksCount=1)
    named = ec2.describe_snapshots(Filters=[{"Name": "status", "Values": ["error"]}], OwnerIds=["self"])["Snapshots"]
    assert [each["SnapshotId"] for each in named] == [name]
    now[0] += 3600
    assert state(ec2, other) == "error"


def test_what_a_put_and_an_end_refuse(gate, ask):
    ebs = ask("ebs")
    name = ebs.start_snapshot(VolumeSize=1)["SnapshotId"]
    wrong = [
        {"index": 0, "data": block("a"), "Checksum": sha(b"b")},
        {"index": 0, "data": b"short"},
        {"index": 0, "data": b"short", "DataLength": 5},
        {"index": 2048, "data": block("a")},
    ]
    for words in wrong:
        refused("ValidationException", put, ebs, name, **words)
    put(ebs, name, 3, block("x"))
    put(ebs, name, 1, block("y"))
    end = ebs.complete_snapshot
    for count in (1, 3):
        refused("ValidationException", end, SnapshotId=name, ChangedBlocksCount=count)
    digests = [hashlib.sha256(block(letter)).digest() for letter in "yx"]
    how = {"ChecksumAlgorithm": "SHA256", "ChecksumAggregationMethod": "LINEAR"}
    in_order, by_time = (sha(b"".join(each)) for each in (digests, digests[::-1]))
    refused("ValidationException", end, SnapshotId=name, ChangedBlocksCount=2, Checksum=by_time, **how)
    refused("ValidationException", end, SnapshotId=name, ChangedBlocksCount=2, Checksum=in_order)
    assert end(SnapshotId=name, ChangedBlocksCount=2, Checksum=in_order, **how)["Status"] == "completed"
    refused("ValidationException", put, ebs, name, 3, block("x"))
    refused("ValidationException", end, SnapshotId=name, ChangedBlocksCount=2)
    refused("ResourceNotFoundException", put, ebs, "snap-0123456789abcdef0", 3, block("x"))


def test_blocks_come_by_pages_and_tokens(gate, ask):
    ebs = ask("ebs")
    name = snapshot(ebs, {index: block("a") for index in range(0, 240, 2)})
    first = ebs.list_snapshot_blocks(SnapshotId=name, MaxResults=100)
    second = ebs.list_snapshot_blocks(SnapshotId=name, MaxResults=100, NextToken=first["NextToken"])
    assert "NextToken" not in second
    pages = [[each["BlockIndex"] for each in page["Blocks"]] for page in (first, second)]
    assert pages == [list(range(0, 200, 2)), list(range(200, 240, 2))]
    rest = ebs.list_snapshot_blocks(SnapshotId=name, StartingBlockIndex=237)["Blocks"]
    assert [each["BlockIndex"] for each in rest] == [238]
    token = first["Blocks"][1]["BlockToken"]
    refused("ValidationException", ebs.get_snapshot_block, SnapshotId=name, BlockIndex=0, BlockToken=token)
    refused("ValidationException", ebs.list_snapshot_blocks, SnapshotId=name, NextToken="made-up")


def test_a_snapshot_may_stay_pending_for_some_looks(gate, ask):
    gate.ours.pending_looks = 2
    name = snapshot(ask("ebs"), {0: block("a")})
    assert [state(ask("ec2"), name) for _ in range(3)] == ["pending", "pending", "completed"]


def test_a_copy_has_the_blocks(gate, ask):
    name = snapshot(ask("ebs"), {4: block("a")})
    there = {"region_name": "eu-west-1"}
    copied = ask("ec2", **there).copy_snapshot(SourceSnapshotId=name, SourceRegion=amazon.REGION)["SnapshotId"]
    assert contents(ask("ebs", **there), copied) == {4: b"a"}


# Images


def register(ec2, name, snap, **other):
    device = {"DeviceName": "/dev/xvda", "Ebs": {"SnapshotId": snap, "VolumeType": "gp3", "DeleteOnTermination": True}}
    return ec2.register_image(
        Name=name, Architecture="x86_64", VirtualizationType="hvm", EnaSupport=True, BootMode="uefi-preferred",
        ImdsSupport="v2.0", RootDeviceName="/dev/xvda", BlockDeviceMappings=[device], **other,
    )["ImageId"]  # fmt: skip


def test_an_image_is_described_as_it_was_registered(gate, ask):
    ec2, ebs = ask("ec2"), ask("ebs")
    snap = ebs.start_snapshot(VolumeSize=1)["SnapshotId"]
    refused("IncorrectState", register, ec2, "shop", snap)
    ebs.complete_snapshot(SnapshotId=snap, ChangedBlocksCount=0)
    refused("InvalidSnapshot.NotFound", register, ec2, "shop", "snap-0123456789abcdef0")
    tags = [{"Key": "app", "Value": "shop"}]
    name = register(ec2, "shop", snap, TagSpecifications=[{"ResourceType": "image", "Tags": tags}])
    [image] = ec2.describe_images(Owners=["self"], Filters=[{"Name": "tag:app", "Values": ["shop"]}])["Images"]
    told = {
        "ImageId": name, "Name": "shop", "Architecture": "x86_64", "VirtualizationType": "hvm", "EnaSupport": True,
        "BootMode": "uefi-preferred", "ImdsSupport": "v2.0", "RootDeviceName": "/dev/xvda", "RootDeviceType": "ebs",
        "State": "available", "Tags": tags,
    }  # fmt: skip
    assert told.items() <= image.items()
    [device] = image["BlockDeviceMappings"]
    assert device["DeviceName"] == "/dev/xvda"
    assert {"SnapshotId": snap, "VolumeType": "gp3", "DeleteOnTermination": True}.items() <= device["Ebs"].items()
    # Nothing else was made.
    assert [each["SnapshotId"] for each in ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"]] == [snap]
    refused("InvalidAMIName.Duplicate", register, ec2, "shop", snap)
    refused("InvalidSnapshot.InUse", ec2.delete_snapshot, SnapshotId=snap)
    there = ask("ec2", region_name="eu-west-1")
    copied = there.copy_image(Name="shop", SourceImageId=name, SourceRegion=amazon.REGION)["ImageId"]
    [copy] = there.describe_images(ImageIds=[copied])["Images"]
    assert copy["ImdsSupport"] == "v2.0"
    [own] = there.describe_snapshots(OwnerIds=["self"])["Snapshots"]
    assert copy["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"] == own["SnapshotId"] != snap
    ec2.deregister_image(ImageId=name)
    ec2.delete_snapshot(SnapshotId=snap)
    assert ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"] == []
    register(ec2, "shop", snapshot(ebs, {}))


def test_debian_s_newest_is_found_by_owner_and_name(gate, ask):
    named = [{"Name": "name", "Values": ["debian-13-amd64-*"]}]
    found = ask("ec2").describe_images(Owners=[amazon.DEBIAN], Filters=named)["Images"]
    assert len(found) == 3 and {each["RootDeviceType"] for each in found} == {"ebs"}
    assert max(found, key=lambda each: each["CreationDate"])["Name"] == "debian-13-amd64-20251006-2257"
    assert len(ask("ec2").describe_images(Filters=named)["Images"]) == 4
    assert ask("ec2").describe_images(Owners=["self"])["Images"] == []


def test_what_packer_makes_is_tagged_and_told_of_imds(gate, ask):
    ec2 = ask("ec2")
    made = ec2.run_instances(ImageId=amazon.IMAGES[0]["ami_id"], MinCount=1, MaxCount=1)["Instances"][0]["InstanceId"]
    tags = [{"Key": "app", "Value": "shop"}]
    both = [{"ResourceType": kind, "Tags": tags} for kind in ("image", "snapshot")]
    name = ec2.create_image(InstanceId=made, Name="packed", TagSpecifications=both)["ImageId"]
    ec2.modify_image_attribute(ImageId=name, ImdsSupport={"Value": "v2.0"})
    [image] = ec2.describe_images(Filters=[{"Name": "tag:app", "Values": ["shop"]}])["Images"]
    assert (image["ImageId"], image["ImdsSupport"], image["RootDeviceType"]) == (name, "v2.0", "ebs")
    [snap] = ec2.describe_snapshots(Filters=[{"Name": "tag:app", "Values": ["shop"]}])["Snapshots"]
    assert image["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"] == snap["SnapshotId"]


def test_an_image_is_found_by_what_it_was_registered_with_and_deprecated(gate, ask):
    ec2, ebs = ask("ec2"), ask("ebs")
    first, second = snapshot(ebs, {}), snapshot(ebs, {0: block("a")})
    images = [register(ec2, "one", first), register(ec2, "two", second)]

    def found(**filters):
        named = [{"Name": name.replace("_", "-"), "Values": [value]} for name, value in filters.items()]
        return [each["ImageId"] for each in ec2.describe_images(Owners=["self"], Filters=named)["Images"]]

    assert found(architecture="x86_64", virtualization_type="h*") == images
    assert found(architecture="arm64") == found(name="one", root_device_type="instance-store") == []
    assert found(name="two", architecture="x86_64", state="available") == images[1:]
    assert found(**{"block-device-mapping.snapshot-id": first}) == images[:1]
    ec2.enable_image_deprecation(ImageId=images[0], DeprecateAt="2030-01-01T00:00:00Z")
    assert ec2.describe_images(ImageIds=images[:1])["Images"][0]["DeprecationTime"].startswith("2030-01-01T00:00:00")
    ec2.disable_image_deprecation(ImageId=images[0])
    assert "DeprecationTime" not in ec2.describe_images(ImageIds=images[:1])["Images"][0]
    refused("InvalidAMIID.NotFound", ec2.disable_image_deprecation, ImageId="ami-0123456789abcdef0")


# Other services


def test_parameters_secrets_objects_and_instances_arrive(gate, ask, tmp_path):
    ssm, s3, ec2 = ask("ssm"), ask("s3"), ask("ec2")
    ssm.put_parameter(Name="/shop/ami", Value="ami-1", Type="String", Tags=[{"Key": "a", "Value": "b"}])
    assert ssm.get_parameter(Name="/shop/ami")["Parameter"]["Value"] == "ami-1"
    ask("secretsmanager").create_secret(Name="key", SecretString="s")
    s3.create_bucket(Bucket="kept", CreateBucketConfiguration={"LocationConstraint": amazon.REGION})
    data = os.urandom(100_000)
    s3.put_object(Bucket="kept", Key="a/b", Body=data)
    assert s3.get_object(Bucket="kept", Key="a/b")["Body"].read() == data
    assert s3.head_object(Bucket="kept", Key="a/b")["ContentLength"] == len(data)
    assert s3.list_objects_v2(Bucket="kept")["KeyCount"] == 1
    s3.delete_object(Bucket="kept", Key="a/b")
    image = ec2.describe_images()["Images"][0]["ImageId"]
    tags = [{"ResourceType": "instance", "Tags": [{"Key": "a", "Value": "b"}]}]
    ec2.run_instances(ImageId=image, MinCount=1, MaxCount=1, UserData="#cloud-config", TagSpecifications=tags)
    assert gate.calls == [
        ("ssm", "PutParameter"), ("ssm", "GetParameter"), ("secretsmanager", "CreateSecret"), ("s3", "CreateBucket"),
        ("s3", "PutObject"), ("s3", "GetObject"), ("s3", "GetObject"), ("s3", "ListBucket"), ("s3", "DeleteObject"),
        ("ec2", "DescribeImages"), ("ec2", "RunInstances"),
    ]  # fmt: skip
    assert gate.needs == {*gate.calls, ("ssm", "AddTagsToResource"), ("ec2", "CreateTags")}
    [asked] = gate.asked("RunInstances")
    assert base64.b64decode(asked["UserData"]) == b"#cloud-config"
    gate.write(tmp_path / "calls")
    assert (tmp_path / "calls").read_text().splitlines()[-1] == "ec2:RunInstances"


# Faults

CODES = {
    "throttle": "RequestLimitExceeded RequestThrottledException ThrottlingException Throttling SlowDown",
    "500": "InternalError InternalServerException InternalServerError InternalFailure InternalError",
    "denied": "UnauthorizedOperation AccessDeniedException AccessDeniedException AccessDenied AccessDenied",
    "expired": "RequestExpired ExpiredTokenException ExpiredTokenException ExpiredToken ExpiredToken",
    "unknown-key": "AuthFailure UnrecognizedClientException UnrecognizedClientException InvalidClientTokenId "
    "InvalidAccessKeyId",
    "quota": "InstanceLimitExceeded ServiceQuotaExceededException ParameterLimitExceeded LimitExceeded TooManyBuckets",
}


@pytest.mark.parametrize("kind", CODES)
def test_a_fault_looks_as_in_each_protocol(gate, ask, kind):
    gate.fault = lambda service, action, nth: kind
    data = block("a")
    asking = [
        lambda: ask("ec2").run_instances(ImageId="ami-1", MinCount=1, MaxCount=1),
        lambda: put(ask("ebs"), "snap-0123456789abcdef0", 0, data),
        lambda: ask("ssm").put_parameter(Name="/a", Value="b", Type="String"),
        lambda: ask("sts").get_caller_identity(),
        lambda: ask("s3").put_object(Bucket="kept", Key="a", Body=b"b"),
    ]
    answers = [refused(code, call) for code, call in zip(CODES[kind].split(), asking, strict=True)]
    if kind == "denied":
        assert "ec2:RunInstances" in answers[0]["Error"]["Message"]
        assert "ebs:PutSnapshotBlock" in answers[1]["Error"]["Message"]


def test_a_dropped_call_is_not_done_or_done_without_a_word(gate, ask):
    ssm = ask("ssm")
    for kind, known in (("drop", 0), ("drop-after", 1)):
        gate.fault = lambda service, action, nth, kind=kind: kind if action == "PutParameter" else None
        with pytest.raises(ConnectionClosedError):
            ssm.put_parameter(Name="/a", Value="b", Type="String")
        assert len(ssm.describe_parameters()["Parameters"]) == known


def test_boto3_tries_again_by_itself(gate):
    gate.fault = lambda service, action, nth: {1: "throttle", 2: "500", 3: "drop", 4: "delay"}.get(nth)
    patient = Config(retries={"mode": "standard", "total_max_attempts": 5})
    boto3.client("ec2", config=patient).describe_vpcs()
    assert gate.calls == [("ec2", "DescribeVpcs")] * 4


def test_what_was_done_without_a_word_is_not_done_twice(gate, ask):
    gate.fault = lambda service, action, nth: "drop-after" if nth == 1 else None
    patient = Config(retries={"mode": "standard", "total_max_attempts": 3})
    started = boto3.client("ebs", config=patient).start_snapshot(VolumeSize=1)["SnapshotId"]
    ec2, image = boto3.client("ec2", config=patient), amazon.IMAGES[0]["ami_id"]
    made = ec2.run_instances(ImageId=image, MinCount=1, MaxCount=1)["Instances"][0]["InstanceId"]
    asked = [("ebs", "StartSnapshot")] * 2 + [("ec2", "RunInstances")] * 2
    assert gate.calls == asked
    assert [each["SnapshotId"] for each in ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"]] == [started]
    listed = ec2.describe_instances()["Reservations"]
    assert [each["InstanceId"] for group in listed for each in group["Instances"]] == [made]
    once = {"ImageId": image, "MinCount": 1, "ClientToken": "t"}
    ec2.run_instances(MaxCount=1, **once)
    refused("IdempotentParameterMismatch", ec2.run_instances, MaxCount=2, **once)


def test_faults_are_planned_from_another_process(gate, ask):
    orders = [{"service": "ssm", "action": "GetParameters", "nth": [2], "fault": "denied"}]
    told = urllib.request.Request(f"{gate.url}/-/faults", json.dumps(orders).encode(), method="POST")
    urllib.request.urlopen(told).close()
    get = ask("ssm").get_parameters
    get(Names=["/a"])
    refused("AccessDeniedException", get, Names=["/a"])
    get(Names=["/a"])
    with urllib.request.urlopen(f"{gate.url}/-/calls") as answer:
        assert json.load(answer) == [["ssm", "GetParameters"]] * 3


def test_who_asks_is_killed_after_a_call(gate, ask):
    program = """
import boto3
ec2 = boto3.client("ec2")
for number in range(5):
    ec2.create_key_pair(KeyName=f"k{number}")
"""
    child = start([sys.executable, "-c", program])
    gate.after(3, child.kill)
    try:
        assert child.wait(60) == -9
    finally:
        stop(child)
    names = [each["KeyName"] for each in ask("ec2").describe_key_pairs()["KeyPairs"]]
    assert names == ["k0", "k1", "k2"] and gate.calls.count(("ec2", "CreateKeyPair")) == 3


def test_a_callback_may_come_after_the_answer(gate, ask):
    done = threading.Event()
    gate.after(1, done.set, sent=True)
    ask("ec2").describe_vpcs()
    assert done.wait(10)


def test_blocks_go_through_in_parallel(gate, ask):
    ebs = ask("ebs")
    name = ebs.start_snapshot(VolumeSize=1)["SnapshotId"]
    blocks = {index: os.urandom(BLOCK) for index in range(48)}
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda item: put(ebs, name, *item), blocks.items()))
    ebs.complete_snapshot(SnapshotId=name, ChangedBlocksCount=48)
    assert len(ebs.list_snapshot_blocks(SnapshotId=name)["Blocks"]) == 48
