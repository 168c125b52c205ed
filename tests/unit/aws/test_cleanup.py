"""Sweeps, where a policy bounds them."""

from __future__ import annotations

import io
from collections.abc import Iterator
from datetime import datetime
from typing import Any, NoReturn

import pytest
from botocore.exceptions import ClientError

from bake.aws import cleanup, listing, tags
from bake.aws.cleanup import Removal, Resource
from bake.aws.session import Cloud
from bake.errors import PolicyError
from bake.host.progress import Reporter
from bake.host.terminal import Terminal


class DenyingEc2:
    """EC2 with one untagged AMI, which denies tags."""

    def create_tags(self, **parameters: object) -> NoReturn:
        raise ClientError({"Error": {"Code": "UnauthorizedOperation", "Message": "no"}}, "CreateTags")


def key_pair(created: str) -> Any:
    values = {tags.AMI_NAME: "shop", tags.RUN: "1"}
    return {"Tags": tags.to_api(values), "CreateTime": datetime.fromisoformat(created)}


@pytest.mark.parametrize(("command", "named"), [("sweep", "sweep-packer"), ("ami-packer", "ami-packer")])
def test_a_sweep_names_the_policy_for_the_ami_of_an_interrupted_packer_run(
    monkeypatch: pytest.MonkeyPatch, command: str, named: str
) -> None:
    def images(*words: object) -> Iterator[dict[str, Any]]:
        yield {"ImageId": "ami-1", "CreationDate": "2026-11-30T01:00:00.000Z"}

    monkeypatch.setattr(listing, "images", images)
    monkeypatch.setattr(listing, "snapshots", lambda *words: iter(()))
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    cloud = Cloud(None, "eu-central-1", command, None, {("ec2", "eu-central-1"): DenyingEc2()})
    with pytest.raises(PolicyError) as caught:
        cleanup._claim_image(cloud, key_pair("2026-11-30T01:00:00+00:00"))
    # An AMI from before the key pair is not of its run, whatever the key pair's tags say.
    cleanup._claim_image(cloud, key_pair("2026-11-30T01:00:01+00:00"))
    assert f"`bake aws-policy {named}` prints" in caught.value.hint


class BusyEc2:
    """EC2 that answers the removal of a snapshot with an error code, or with success."""

    def __init__(self, code: str) -> None:
        self.code = code

    def delete_snapshot(self, **parameters: object) -> None:
        if self.code:
            raise ClientError({"Error": {"Code": self.code, "Message": "no"}}, "DeleteSnapshot")

    def delete_tags(self, **parameters: object) -> None:
        pass


@pytest.mark.parametrize(
    ("code", "user_tags", "outcome"),
    [
        ("", {}, Removal.REMOVED),
        ("InvalidSnapshot.NotFound", {}, Removal.REMOVED),
        ("InvalidSnapshot.InUse", {tags.EXPIRES: "2026-01-01"}, Removal.IN_USE),
        ("InvalidSnapshot.InUse", {}, Removal.NEEDED),
        ("DependencyViolation", {}, Removal.IN_USE),
    ],
)
def test_a_removal_has_one_of_three_outcomes(
    monkeypatch: pytest.MonkeyPatch, code: str, user_tags: dict[str, str], outcome: Removal
) -> None:
    def images(*words: object) -> Iterator[dict[str, Any]]:
        yield {
            "BlockDeviceMappings": [{"Ebs": {"SnapshotId": "snap-1"}}],
            "Tags": [{"Key": key, "Value": value} for key, value in user_tags.items()],
        }

    monkeypatch.setattr(listing, "images", images)
    cloud = Cloud(None, "eu-central-1", "sweep", None, {("ec2", "eu-central-1"): BusyEc2(code)})
    with Reporter(Terminal(file=io.StringIO())).phase("sweep") as phase:
        assert cleanup._remove(cloud, Resource("snapshot", "snap-1", {}), phase) is outcome
