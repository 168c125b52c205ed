"""The age of AMIs, and the expiry of a snapshot during a slow upload."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws

from bake.aws import tags
from bake.aws.images import blocks, snapshot
from bake.aws.instances import inventory
from bake.aws.session import Cloud
from bake.host.progress import Phase

REGION = "eu-central-1"


class Ebs:
    """EBS takes each block. moto's needs its own snapshot."""

    def put_snapshot_block(self, **parameters: object) -> None:
        pass


@pytest.mark.parametrize(("renewal", "is_renewed"), [(0.0, True), (3600.0, False)])
def test_a_slow_upload_renews_its_expiry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, renewal: float, is_renewed: bool
) -> None:
    monkeypatch.setattr(tags, "RENEWAL", renewal)
    monkeypatch.setattr(snapshot, "IN_FLIGHT", 1)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    disk = tmp_path / "disk"
    disk.write_bytes(b"x" * blocks.SIZE * 3)
    with mock_aws():
        ec2: Any = boto3.client("ec2", REGION)
        volume = ec2.create_volume(AvailabilityZone=f"{REGION}a", Size=1)["VolumeId"]
        name = ec2.create_snapshot(VolumeId=volume)["SnapshotId"]
        ec2.create_tags(Resources=[name], Tags=[{"Key": tags.EXPIRES, "Value": "2026-01-01T00:00:00Z"}])
        cloud = Cloud(None, REGION, "ami", None, {("ec2", REGION): ec2, ("ebs", REGION): Ebs()})
        changes = snapshot.Changes.of(disk, blocks.digests(disk), {})
        destination = snapshot.Destination(cloud, None, {tags.RUN: "1", tags.APP: "shop"})
        snapshot._send(destination, name, changes, snapshot.Journal(tmp_path / "journal"), Phase("upload", None))
        (found,) = ec2.describe_snapshots(SnapshotIds=[name])["Snapshots"]
    expires = tags.read(found)[tags.EXPIRES]
    assert (expires > datetime.now(UTC).strftime(tags.TIME_FORMAT)) == is_renewed
    assert not tags.is_leftover(tags.read(found)) or not is_renewed


@pytest.mark.parametrize(
    ("date", "age"), [(datetime.now(UTC) - timedelta(days=9, hours=1), "9"), (datetime.now(UTC), "0"), (None, "")]
)
def test_the_age_of_an_ami_is_in_days(date: datetime | None, age: str) -> None:
    # As EC2 writes it.
    image: Any = {"CreationDate": date.strftime("%Y-%m-%dT%H:%M:%S.000Z")} if date else {}
    assert inventory.age_of(image) == age
