"""Sweeps, where a policy bounds them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NoReturn

import pytest
from botocore.exceptions import ClientError

from bake.aws import cleanup, listing, tags
from bake.aws.session import Cloud
from bake.errors import PolicyError


class DenyingEc2:
    """EC2 with one untagged AMI, which denies tags."""

    def create_tags(self, **parameters: object) -> NoReturn:
        raise ClientError({"Error": {"Code": "UnauthorizedOperation", "Message": "no"}}, "CreateTags")


@pytest.mark.parametrize(("command", "named"), [("sweep", "sweep-packer"), ("ami-packer", "ami-packer")])
def test_a_sweep_names_the_policy_for_the_ami_of_an_interrupted_packer_run(
    monkeypatch: pytest.MonkeyPatch, command: str, named: str
) -> None:
    def images(*words: object) -> Iterator[dict[str, Any]]:
        yield {"ImageId": "ami-1"}

    monkeypatch.setattr(listing, "images", images)
    monkeypatch.setattr(listing, "snapshots", lambda *words: iter(()))
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    cloud = Cloud(None, "eu-central-1", command, None, {("ec2", "eu-central-1"): DenyingEc2()})
    with pytest.raises(PolicyError) as caught:
        cleanup._claim_image(cloud, {tags.AMI_NAME: "shop", tags.RUN: "1"})
    assert f"`bake aws-policy {named}` prints" in caught.value.hint
