"""The policies: they allow the calls of their commands, and no way from there to what bake did not create."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pytest
from click.testing import CliRunner
from policy_simulator import Request, Resource, allows

from bake.aws import policy
from bake.aws.policy import Grants
from bake.cli import aws_images

REGION, ACCOUNT = "eu-central-1", "123456789012"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/shop"
NAMED = Grants(
    roles=(ROLE,), parameters=("/apps/shop",), volumes=("vol-0123456789abcdef0",), addresses=("eipalloc-0123456789",),
    shared=True,
)  # fmt: skip
#: Policies that a person may attach to one user, together.
BOUND = [command for command in policy.STATEMENTS if "packer" not in command]


def arn(kind: str, name: str = "*") -> str:
    """Return the ARN of an EC2 resource. AWS uses `*` as the id of one that does not exist yet."""
    owner = "" if kind in ("image", "snapshot") else ACCOUNT
    return f"arn:aws:ec2:{REGION}:{owner}:{kind}/{name}"


def new(kind: str, action: str = "") -> Resource:
    """Return a resource that a call creates, with bake's tag in the call; `action` names the call for CreateTags."""
    context = {"aws:RequestTag/bake:run": "x"}
    return Resource(arn(kind), context=context | ({"ec2:CreateAction": action} if action else {}))


def ours(kind: str) -> Resource:
    return Resource(arn(kind, f"{kind}-ours"), is_ours=True, context={"aws:RequestTag/bake:run": "x"})


def foreign(kind: str, name: str = "") -> Resource:
    """Return a resource of the account that bake did not create. The request has bake's tag, if it has tags."""
    return Resource(arn(kind, name or f"{kind}-foreign"), context={"aws:RequestTag/bake:run": "x"})


def parameter(name: str) -> Resource:
    return Resource(f"arn:aws:ssm:{REGION}:{ACCOUNT}:parameter{name}")


def role(name: str) -> Resource:
    return Resource(name, context={"iam:PassedToService": "ec2.amazonaws.com"})


def ec2(action: str, *resources: Resource) -> Request:
    return Request(f"ec2:{action}", resources)


def together(commands: Iterable[str], grants: Grants | None = None) -> dict[str, Any]:
    """Return the policies of several commands as one."""
    return {"Statement": [row for name in commands for row in policy.document(name, grants)["Statement"]]}


PUBLISH = [
    Request("ebs:StartSnapshot", (new("snapshot"),)),
    Request("ebs:PutSnapshotBlock", (ours("snapshot"),)),
    Request("ebs:CompleteSnapshot", (ours("snapshot"),)),
    ec2("CreateTags", Resource(arn("snapshot"))),
    ec2("CreateTags", new("snapshot", "StartSnapshot")),
    ec2("CreateTags", ours("snapshot")),
    ec2("RegisterImage", new("image"), ours("snapshot")),
    ec2("CreateTags", new("image", "RegisterImage")),
    ec2("DeleteTags", ours("image")),
    ec2("CopyImage", Resource(arn("image")), Resource(arn("snapshot")), ours("image"), ours("snapshot")),
    ec2("CreateTags", new("image", "CopyImage")),
    ec2("CreateTags", new("snapshot", "CopyImage")),
    ec2("EnableImageDeprecation", ours("image")),
    ec2("ModifyImageAttribute", ours("image")),
    ec2("ModifySnapshotAttribute", ours("snapshot")),
    Request("ssm:PutParameter", (parameter("/apps/shop"),)),
]
ATTACH = [
    ec2("AttachVolume", ours("instance"), ours("volume")),
    ec2("DetachVolume", ours("instance"), foreign("volume", "vol-0123456789abcdef0")),
    ec2("AttachVolume", ours("instance"), foreign("volume", "vol-0123456789abcdef0")),
    ec2("AssociateAddress", ours("instance"), ours("network-interface"), foreign("elastic-ip", "eipalloc-0123456789")),
]
#: The calls of each command, with the resources that AWS checks.
CALLS = {
    "ami": PUBLISH,
    "ami-packer": [
        ec2("ImportKeyPair", new("key-pair")),
        ec2("CreateTags", new("key-pair", "ImportKeyPair")),
        ec2("CreateTags", new("security-group", "CreateSecurityGroup")),
        ec2("AuthorizeSecurityGroupIngress", ours("security-group")),
        ec2("RunInstances", new("instance"), foreign("image"), ours("key-pair")),
        ec2("CreateTags", new("instance", "RunInstances")),
        ec2("CreateImage", Resource(arn("image")), Resource(arn("snapshot")), ours("instance")),
        ec2("CreateTags", foreign("image")),
        ec2("TerminateInstances", ours("instance")),
        *(call for call in PUBLISH if "ebs:" not in call.action and "Register" not in str(call)
          and "StartSnapshot" not in str(call)),
    ],
    "launch": [
        ec2("CreateSecurityGroup", new("security-group"), foreign("vpc")),
        ec2("CreateTags", new("security-group", "CreateSecurityGroup")),
        ec2("AuthorizeSecurityGroupIngress", ours("security-group")),
        ec2("CreateVolume", new("volume")),
        ec2("RunInstances", new("instance"), new("volume"), new("network-interface"), foreign("image"),
            foreign("subnet"), ours("security-group")),
        ec2("CreateTags", new("instance", "RunInstances")),
        Request("iam:PassRole", (role(ROLE),)),
        *ATTACH,
        ec2("TerminateInstances", ours("instance")),
    ],
    "sweep": [*ATTACH, ec2("DeregisterImage", ours("image")), ec2("DeleteKeyPair", ours("key-pair"))],
    "sweep-packer": [ec2("CreateTags", foreign("image")), ec2("CreateTags", foreign("snapshot"))],
    "prune": [
        ec2("CreateTags", ours("snapshot")),
        ec2("DeregisterImage", ours("image")),
        Request("ssm:GetParameter", (parameter("/apps/shop"),)),
    ],
    "down": [ec2("TerminateInstances", ours("instance")), ec2("DeleteVolume", ours("volume"))],
    "ls": [],
}  # fmt: skip


@pytest.mark.parametrize(
    ("command", "call"),
    [(name, call) for name, calls in CALLS.items() for call in calls],
    ids=lambda value: str(value)[:60],
)
def test_a_policy_allows_the_calls_of_its_command(command: str, call: Request) -> None:
    assert call.action in policy.actions(command)
    assert allows(policy.document(command, NAMED), call)


TAGS = [ec2("CreateTags", foreign(kind)) for kind in ("image", "snapshot", "volume", "instance", "security-group")]
#: Ways to reach what bake did not create. Each single call of a way has to be refused, or the last one of a chain.
ESCALATIONS = {
    "tag a foreign image": [TAGS[0]],
    "tag a foreign snapshot": [TAGS[1]],
    "tag a foreign volume": [TAGS[2]],
    "tag a foreign instance": [TAGS[3]],
    "tag a foreign security group": [TAGS[4]],
    "pretend to create while tagging": [
        ec2("CreateTags", Resource(arn("snapshot", "snap-1"), context={"ec2:CreateAction": "CreateTags"}))
    ],
    "share a foreign snapshot": [ec2("ModifySnapshotAttribute", foreign("snapshot"))],
    "write into the upload of another program": [Request("ebs:PutSnapshotBlock", (foreign("snapshot"),))],
    "end the upload of another program": [Request("ebs:CompleteSnapshot", (foreign("snapshot"),))],
    "read a foreign snapshot as a volume": [ec2("CreateVolume", new("volume"), foreign("snapshot"))],
    "share a foreign image": [ec2("ModifyImageAttribute", foreign("image"))],
    "share a copy of a foreign image": [
        ec2("CopyImage", Resource(arn("image")), Resource(arn("snapshot")), foreign("image"), foreign("snapshot"))
    ],
    "share a foreign snapshot as an image": [ec2("RegisterImage", new("image"), foreign("snapshot"))],
    "share an image of a foreign instance": [ec2("CreateImage", new("image"), foreign("instance"))],
    "end a foreign instance": [ec2("TerminateInstances", foreign("instance"))],
    "stop a foreign instance": [ec2("StopInstances", foreign("instance"))],
    "delete a foreign volume": [ec2("DeleteVolume", foreign("volume"))],
    "delete a foreign snapshot": [ec2("DeleteSnapshot", foreign("snapshot"))],
    "deregister a foreign image": [ec2("DeregisterImage", foreign("image"))],
    "detach a foreign volume": [ec2("DetachVolume", foreign("volume"))],
    "read a foreign volume": [ec2("AttachVolume", ours("instance"), foreign("volume"))],
    "take a foreign address": [ec2("AssociateAddress", ours("instance"), foreign("elastic-ip"))],
    "open a foreign security group": [ec2("AuthorizeSecurityGroupIngress", foreign("security-group"))],
    "become another role": [Request("iam:PassRole", (role(f"arn:aws:iam::{ACCOUNT}:role/admin"),))],
    "pass the role to another service": [
        Request("iam:PassRole", (Resource(ROLE, context={"iam:PassedToService": "lambda.amazonaws.com"}),))
    ],
    "overwrite another parameter": [Request("ssm:PutParameter", (parameter("/apps/shop2"),))],
    "read another parameter": [Request("ssm:GetParameter", (parameter("/secrets/db"),))],
    "give itself a policy": [Request("iam:PutUserPolicy", (Resource(f"arn:aws:iam::{ACCOUNT}:user/ci"),))],
}


@pytest.mark.parametrize("grants", [Grants(), NAMED], ids=["default", "named"])
@pytest.mark.parametrize("way", ESCALATIONS)
def test_no_way_leads_to_what_bake_did_not_create(way: str, grants: Grants) -> None:
    """The policies are attached to one user, with and without named resources."""
    assert not all(allows(together(BOUND, grants), call) for call in ESCALATIONS[way])


@pytest.mark.parametrize("command", policy.STATEMENTS)
def test_nothing_is_shared_by_default(command: str) -> None:
    calls = [ec2("ModifySnapshotAttribute", ours("snapshot")), ec2("ModifyImageAttribute", ours("image"))]
    # Packer cannot create an AMI that requires IMDSv2, so bake changes this attribute of it.
    expected = [False, command == "ami-packer"]
    assert [allows(policy.document(command), call) for call in calls] == expected
    assert [allows(policy.document(command, NAMED), call) for call in calls] == (
        [True, True] if command.startswith("ami") else [False, False]
    )


@pytest.mark.parametrize("command", ["ami-packer", "sweep-packer"])
def test_packer_needs_to_tag_images_and_nothing_else(command: str) -> None:
    """Known and documented: Packer 1.6.6 creates its AMI without tags, so these policies reach each AMI."""
    document = policy.document(command, NAMED)
    reached = {way for way, calls in ESCALATIONS.items() if all(allows(document, call) for call in calls)}
    assert reached == {"tag a foreign image", "tag a foreign snapshot", "pretend to create while tagging"}


@pytest.mark.parametrize("command", policy.STATEMENTS)
def test_a_policy_has_each_action_of_its_command_if_all_is_named(command: str) -> None:
    document = policy.document(command, NAMED)
    assert {action for row in document["Statement"] for action in row["Action"]} == policy.actions(command)
    assert len({row["Sid"] for row in document["Statement"]}) == len(document["Statement"])


def test_the_command_line_names_resources() -> None:
    words = ["launch", "--role", ROLE, "--volume", "vol-0123456789abcdef0", "--address", "eipalloc-0123456789"]
    printed = json.loads(CliRunner().invoke(aws_images.policy_command, words).output)
    assert printed == policy.document("launch", NAMED)
    words = ["ami", "--parameter", "/apps/*", "--share"]
    printed = json.loads(CliRunner().invoke(aws_images.policy_command, words).output)
    assert printed == policy.document("ami", Grants(parameters=("/apps/*",), shared=True))
    assert allows(printed, Request("ssm:PutParameter", (parameter("/apps/shop"),)))
    assert not allows(printed, Request("ssm:PutParameter", (parameter("/other/shop"),)))
    for wrong in (["--role", "admin"], ["--parameter", "*"], ["--volume", "*"], ["--address", "*"]):
        assert CliRunner().invoke(aws_images.policy_command, ["launch", *wrong]).exit_code == 2


def test_a_denial_names_the_option_that_allows_it() -> None:
    assert "`bake aws-policy prune --parameter /NAME` prints" in policy.denial_hint("prune", "ssm:GetParameter")
    assert "`bake aws-policy launch --role ARN` prints" in policy.denial_hint("launch", "iam:PassRole")
    assert "`bake aws-policy launch` prints" in policy.denial_hint("launch", "ec2:TerminateInstances")
