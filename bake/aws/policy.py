"""Minimal IAM policies, one for each command.

A policy allows changes and deletions only of resources with bake's tag, and allows to set that tag only in the call
that creates a resource, so that the credentials cannot affect others. Packer's AMIs are the exception (decision 115).
Other resources that a command uses, such as a role, have to be named (`Grants`). A test compares these lists with the
recorded calls of each command.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

#: Actions that only read. IAM cannot restrict them to resources (Service Authorization Reference, EC2).
_PUBLISH_READS = ("sts:GetCallerIdentity", "ec2:DescribeImages", "ec2:DescribeSnapshots")
_SWEEP_READS = (
    "ec2:DescribeInstances", "ec2:DescribeImages", "ec2:DescribeSnapshots", "ec2:DescribeVolumes",
    "ec2:DescribeNetworkInterfaces", "ec2:DescribeSecurityGroups", "ec2:DescribeKeyPairs",
)  # fmt: skip
_PRUNE_READS = (
    "ec2:DescribeImages", "ec2:DescribeInstances", "ec2:DescribeLaunchTemplates", "ec2:DescribeLaunchTemplateVersions",
    "autoscaling:DescribeLaunchConfigurations", "autoscaling:DescribeAutoScalingGroups",
)  # fmt: skip
_LAUNCH_READS = (
    "sts:GetCallerIdentity", "ec2:DescribeImages", "ec2:DescribeSubnets", "ec2:DescribeInstances",
    "ec2:DescribeInstanceStatus", "ec2:DescribeVolumes", "ec2:DescribeSecurityGroups", "ec2:DescribeAddresses",
)  # fmt: skip
_PACKER_READS = ("sts:GetCallerIdentity", *_SWEEP_READS)
#: A statement: its id, its actions, and a key of `_RESOURCES` or of `OPTIONS`.
Statement = tuple[str, tuple[str, ...], str]
#: An instance gets a volume and an address, or gives them back. bake did not create all of these.
_ATTACH: tuple[Statement, ...] = (
    ("Attach", ("ec2:AttachVolume", "ec2:DetachVolume", "ec2:AssociateAddress"), "our-instances"),
    ("AttachOurs", ("ec2:AttachVolume", "ec2:DetachVolume", "ec2:AssociateAddress"), "our-volumes"),
    ("Volume", ("ec2:AttachVolume", "ec2:DetachVolume"), "volumes"),
    ("Address", ("ec2:AssociateAddress",), "addresses"),
)
#: Command to its statements.
STATEMENTS: dict[str, tuple[Statement, ...]] = {
    "ami": (
        ("Look", _PUBLISH_READS, "any"),
        ("Begin", ("ebs:StartSnapshot",), "snapshots"),
        ("Upload", ("ebs:PutSnapshotBlock", "ebs:CompleteSnapshot"), "our-images"),
        ("Register", ("ec2:RegisterImage",), "new-images"),
        ("Copy", ("ec2:CopyImage",), "uncreated-images"),
        ("Of", ("ec2:RegisterImage", "ec2:CopyImage"), "our-images"),
        ("Tag", ("ec2:CreateTags",), "images-as-made"),
        ("TagUpload", ("ec2:CreateTags",), "uncreated-snapshots"),
        ("TagAgain", ("ec2:CreateTags",), "our-images"),
        ("Keep", ("ec2:DeleteTags", "ec2:EnableImageDeprecation"), "ours"),
        ("Share", ("ec2:ModifyImageAttribute", "ec2:ModifySnapshotAttribute"), "shared"),
        ("Parameter", ("ssm:PutParameter", "ssm:GetParameter"), "parameters"),
    ),
    "ami-packer": (
        ("Look", _PACKER_READS, "any"),
        (
            "Make",
            ("ec2:ImportKeyPair", "ec2:CreateSecurityGroup", "ec2:RunInstances"),
            "any",
        ),
        ("Open", ("ec2:AuthorizeSecurityGroupIngress",), "our-groups"),
        ("Image", ("ec2:CreateImage",), "images"),
        ("ImageOf", ("ec2:CreateImage",), "our-instances"),
        ("Copy", ("ec2:CopyImage",), "uncreated-images"),
        ("CopyOf", ("ec2:CopyImage",), "our-images"),
        ("Tag", ("ec2:CreateTags",), "as-made"),
        # Packer 1.6.6 tags its AMI and the snapshots only after it has created them.
        ("TagImage", ("ec2:CreateTags",), "images"),
        (
            "Change",
            (
                "ec2:ModifyInstanceMetadataOptions", "ec2:ModifyImageAttribute", "ec2:EnableImageDeprecation",
                "ec2:DeleteTags",
            ),
            "ours",
        ),
        ("Share", ("ec2:ModifySnapshotAttribute",), "shared"),
        (
            "Remove",
            (
                "ec2:TerminateInstances", "ec2:DeregisterImage", "ec2:DeleteSnapshot", "ec2:DeleteVolume",
                "ec2:DeleteSecurityGroup", "ec2:DeleteKeyPair",
            ),
            "ours",
        ),
        ("Parameter", ("ssm:PutParameter", "ssm:GetParameter"), "parameters"),
    ),
    "sweep": (
        ("Look", (*_SWEEP_READS, "ec2:DescribeAddresses"), "any"),
        *_ATTACH,
        ("Exchange", ("ec2:StopInstances", "ec2:StartInstances"), "ours"),
        (
            "Remove",
            (
                "ec2:TerminateInstances", "ec2:DeregisterImage", "ec2:DeleteSnapshot", "ec2:DeleteVolume",
                "ec2:DeleteNetworkInterface", "ec2:DeleteSecurityGroup", "ec2:DeleteKeyPair", "ec2:DeleteTags",
            ),
            "ours",
        ),
    ),
    "prune": (
        ("Look", _PRUNE_READS, "any"),
        ("Parameter", ("ssm:GetParameter",), "parameters"),
        ("Remove", ("ec2:CreateTags", "ec2:DeregisterImage", "ec2:DeleteSnapshot"), "ours"),
    ),
    "launch": (
        ("Look", _LAUNCH_READS, "any"),
        ("Of", ("ec2:RunInstances",), "ingredients"),
        ("Make", ("ec2:RunInstances", "ec2:CreateVolume"), "made"),
        ("In", ("ec2:RunInstances", "ec2:AuthorizeSecurityGroupIngress"), "our-groups"),
        ("Group", ("ec2:CreateSecurityGroup",), "new-groups"),
        ("GroupIn", ("ec2:CreateSecurityGroup",), "networks"),
        ("Tag", ("ec2:CreateTags",), "as-made"),
        ("Role", ("iam:PassRole",), "roles"),
        ("See", ("ec2:GetConsoleOutput",), "ours"),
        *_ATTACH,
        ("Keep", ("ec2:DeleteTags",), "ours"),
        ("Exchange", ("ec2:StopInstances", "ec2:StartInstances"), "ours"),
        ("Undo", ("ec2:TerminateInstances", "ec2:DeleteSecurityGroup", "ec2:DeleteVolume"), "ours"),
    ),
    "ls": (("Look", ("ec2:DescribeInstances", "ec2:DescribeImages"), "any"),),
    "down": (
        ("Look", ("ec2:DescribeInstances", "ec2:DescribeSecurityGroups", "ec2:DescribeVolumes"), "any"),
        ("End", ("ec2:TerminateInstances", "ec2:DeleteSecurityGroup", "ec2:DeleteVolume"), "ours"),
    ),
}  # fmt: skip
#: The policy of a sweep that also removes the AMIs of interrupted Packer runs. It has to tag them first.
STATEMENTS["sweep-packer"] = (*STATEMENTS["sweep"], ("Claim", ("ec2:CreateTags",), "images"))
#: Actions to use a customer's KMS key (EBS user guide, "Requirements for Amazon EBS encryption").
KEY_ACTIONS = ("kms:DescribeKey", "kms:Decrypt", "kms:GenerateDataKeyWithoutPlaintext", "kms:ReEncrypt*")
#: The ARN of a key. Policies do not accept aliases.
KEY = re.compile(r"arn:aws[a-z-]*:kms:[a-z0-9-]+:\d{12}:key/[\w-]+", re.A)
_HAS_TAG = {"Null": {"aws:ResourceTag/bake:run": "false"}}
_SETS_TAG = {"Null": {"aws:RequestTag/bake:run": "false"}}


@dataclass(frozen=True)
class Grants:
    """Resources that a policy allows in addition, by name. Without them, it lacks the statements for them.

    `key` and `roles` are ARNs, `parameters` names such as /apps/shop, `volumes` and `addresses` ids. `shared` allows to
    share AMIs with other accounts.
    """

    key: str | None = None
    roles: tuple[str, ...] = ()
    parameters: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    shared: bool = False


#: The statements' resources that Grants name, and the options of `bake aws-policy` for them.
OPTIONS = {
    "roles": "--role ARN", "parameters": "--parameter /NAME", "volumes": "--volume ID", "addresses": "--address ID",
    "shared": "--share",
}  # fmt: skip


def _arns(*kinds: str) -> list[str]:
    """Return the ARNs of EC2 resources of these kinds, in any region and account."""
    return [f"arn:aws:ec2:*:*:{kind}/*" for kind in kinds]


_RESOURCES: dict[str, dict[str, Any]] = {
    "any": {"Resource": ["*"]},
    "images": {"Resource": ["arn:aws:ec2:*::image/*", "arn:aws:ec2:*::snapshot/*"]},
    "snapshots": {"Resource": ["arn:aws:ec2:*::snapshot/*"]},
    "our-images": {"Resource": ["arn:aws:ec2:*::image/*", "arn:aws:ec2:*::snapshot/*"], "Condition": _HAS_TAG},
    "new-images": {"Resource": ["arn:aws:ec2:*::image/*"], "Condition": _SETS_TAG},
    # `${*}` is a literal asterisk (IAM user guide, policy variables): AWS's name for a resource without an id yet.
    "uncreated-images": {"Resource": ["arn:aws:ec2:*::image/${*}", "arn:aws:ec2:*::snapshot/${*}"]},
    "uncreated-snapshots": {"Resource": ["arn:aws:ec2:*::snapshot/${*}"]},
    "images-as-made": {
        "Resource": ["arn:aws:ec2:*::image/*", "arn:aws:ec2:*::snapshot/*"],
        "Condition": {"StringEquals": {"ec2:CreateAction": ["RegisterImage", "CopyImage", "StartSnapshot"]}},
    },
    "ours": {"Resource": ["*"], "Condition": _HAS_TAG},
    # The call that creates a resource tags it, too.
    "made": {"Resource": _arns("instance", "volume", "network-interface"), "Condition": _SETS_TAG},
    "new-groups": {"Resource": _arns("security-group"), "Condition": _SETS_TAG},
    "as-made": {
        "Resource": _arns("instance", "volume", "network-interface", "security-group", "key-pair"),
        "Condition": {
            "StringEquals": {
                "ec2:CreateAction": ["RunInstances", "CreateVolume", "CreateSecurityGroup", "ImportKeyPair"]
            }
        },
    },
    # Resources that a launch uses but does not change. bake did not create them.
    "ingredients": {"Resource": _arns("image", "subnet", "key-pair", "snapshot")},
    "networks": {"Resource": _arns("vpc")},
    "our-groups": {"Resource": _arns("security-group"), "Condition": _HAS_TAG},
    "our-instances": {"Resource": _arns("instance"), "Condition": _HAS_TAG},
    "our-volumes": {"Resource": _arns("volume", "network-interface"), "Condition": _HAS_TAG},
}


def actions(command: str) -> set[str]:
    """Return the IAM actions that a command's policy allows."""
    return {action for _, actions, _ in STATEMENTS[command] for action in actions}


def document(command: str, grants: Grants | None = None, partition: str = "aws") -> dict[str, Any]:
    """Return a command's policy. `partition` is the one of all ARNs."""
    grants = grants or Grants()
    resources = _RESOURCES | _named_resources(grants)
    statements = [
        {"Sid": name, "Effect": "Allow", "Action": list(actions), **_in_partition(resources[kind], partition)}
        for name, actions, kind in STATEMENTS[command]
        if kind in resources
    ]
    if grants.key:
        use = {"Action": ["kms:CreateGrant"], "Condition": {"Bool": {"kms:GrantIsForAWSResource": "true"}}}
        for name, permission in (("Key", {"Action": list(KEY_ACTIONS)}), ("KeyGrant", use)):
            statements.append({"Sid": name, "Effect": "Allow", "Resource": [grants.key], **permission})
    return {"Version": "2012-10-17", "Statement": statements}


def _named_resources(grants: Grants) -> dict[str, dict[str, Any]]:
    """Return the resources of the statements that `grants` adds."""
    to_ec2 = {"Condition": {"StringEquals": {"iam:PassedToService": "ec2.amazonaws.com"}}}
    named = {
        "roles": (list(grants.roles), to_ec2),
        "parameters": ([f"arn:aws:ssm:*:*:parameter{name}" for name in grants.parameters], {}),
        "volumes": ([f"arn:aws:ec2:*:*:volume/{name}" for name in grants.volumes], {}),
        "addresses": ([f"arn:aws:ec2:*:*:elastic-ip/{name}" for name in grants.addresses], {}),
        "shared": (["*"] if grants.shared else [], {"Condition": _HAS_TAG}),
    }
    return {kind: {"Resource": arns, **condition} for kind, (arns, condition) in named.items() if arns}


def _in_partition(restriction: dict[str, Any], partition: str) -> dict[str, Any]:
    """Return the resources and the condition of a statement, with ARNs of a partition."""
    return restriction | {"Resource": [arn.replace("arn:aws:", f"arn:{partition}:") for arn in restriction["Resource"]]}


def denial_hint(command: str, action: str) -> str:
    """Return a hint that names the statements of the command's policy that allow the denied action."""
    if action.startswith("kms:"):
        return (
            f"`bake aws-policy {command} --kms-key ARN` prints a policy that allows it. The key's own policy must "
            "allow it as well."
        )
    matches = [(name, kind) for name, actions, kind in STATEMENTS.get(command, ()) if action in actions]
    statements = ", ".join(f'"{name}"' for name, _ in matches)
    permission = f'"Effect": "Allow", "Action": "{action}"'
    options = "".join(f" {OPTIONS[kind]}" for _, kind in matches if kind in OPTIONS)
    return f"`bake aws-policy {command}{options}` prints the policy that the credentials need: " + (
        f"{permission} is in its statement {statements}." if statements else f"{permission}."
    )


def action_of(operation: str) -> str:
    """Return IAM's name of an operation, or the operation itself if no policy here has it."""
    all_actions = {action for command in STATEMENTS for action in actions(command)}
    return next((action for action in sorted(all_actions) if action.endswith(f":{operation}")), operation)
