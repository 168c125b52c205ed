"""Minimal IAM policies, one for each command.

A policy allows changes and deletions only of resources with bake's tag, so that not even a bug in bake affects others.
Tagging is the exception, because a run also tags resources that have no tag yet. A test compares these lists with the
recorded calls of each command.
"""

from __future__ import annotations

import re
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
#: Command to its statements: the id, the actions, and a key of `_RESOURCES`.
STATEMENTS: dict[str, tuple[tuple[str, tuple[str, ...], str], ...]] = {
    "ami": (
        ("Look", _PUBLISH_READS, "any"),
        ("Upload", ("ebs:StartSnapshot", "ebs:PutSnapshotBlock", "ebs:CompleteSnapshot"), "snapshots"),
        ("Register", ("ec2:RegisterImage", "ec2:CopyImage"), "any"),
        ("Tag", ("ec2:CreateTags",), "images"),
        ("Keep", ("ec2:DeleteTags",), "ours"),
        (
            "HandOn",
            ("ec2:ModifyImageAttribute", "ec2:ModifySnapshotAttribute", "ec2:EnableImageDeprecation"),
            "ours",
        ),
        ("Parameter", ("ssm:PutParameter", "ssm:GetParameter"), "any"),
    ),
    "ami-packer": (
        ("Look", _PACKER_READS, "any"),
        (
            "Make",
            (
                "ec2:ImportKeyPair", "ec2:CreateSecurityGroup", "ec2:AuthorizeSecurityGroupIngress", "ec2:RunInstances",
                "ec2:CreateImage", "ec2:CopyImage", "ec2:CreateTags",
            ),
            "any",
        ),
        (
            "Change",
            (
                "ec2:ModifyInstanceMetadataOptions", "ec2:ModifyImageAttribute", "ec2:ModifySnapshotAttribute",
                "ec2:EnableImageDeprecation", "ec2:DeleteTags",
            ),
            "ours",
        ),
        (
            "Remove",
            (
                "ec2:TerminateInstances", "ec2:DeregisterImage", "ec2:DeleteSnapshot", "ec2:DeleteVolume",
                "ec2:DeleteSecurityGroup", "ec2:DeleteKeyPair",
            ),
            "ours",
        ),
        ("Parameter", ("ssm:PutParameter", "ssm:GetParameter"), "any"),
    ),
    "sweep": (
        ("Look", (*_SWEEP_READS, "ec2:DescribeAddresses"), "any"),
        ("Claim", ("ec2:CreateTags",), "images"),
        ("GiveBack", ("ec2:AttachVolume", "ec2:DetachVolume", "ec2:AssociateAddress"), "our-instances"),
        ("WhatIsGiven", ("ec2:AttachVolume", "ec2:DetachVolume", "ec2:AssociateAddress"), "what-is-attached"),
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
        ("Parameter", ("ssm:GetParameter",), "any"),
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
        ("Role", ("iam:PassRole",), "ec2-roles"),
        ("See", ("ec2:GetConsoleOutput",), "ours"),
        ("Attach", ("ec2:AttachVolume", "ec2:DetachVolume", "ec2:AssociateAddress"), "our-instances"),
        ("AttachWhat", ("ec2:AttachVolume", "ec2:DetachVolume", "ec2:AssociateAddress"), "what-is-attached"),
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
#: Actions to use a customer's KMS key (EBS user guide, "Requirements for Amazon EBS encryption").
KEY_ACTIONS = ("kms:DescribeKey", "kms:Decrypt", "kms:GenerateDataKeyWithoutPlaintext", "kms:ReEncrypt*")
#: The ARN of a key. Policies do not accept aliases.
KEY = re.compile(r"arn:aws[a-z-]*:kms:[a-z0-9-]+:\d{12}:key/[\w-]+", re.A)
_HAS_TAG = {"Null": {"aws:ResourceTag/bake:run": "false"}}
_SETS_TAG = {"Null": {"aws:RequestTag/bake:run": "false"}}


def _arns(*kinds: str) -> list[str]:
    """Return the ARNs of EC2 resources of these kinds, in any region and account."""
    return [f"arn:aws:ec2:*:*:{kind}/*" for kind in kinds]


_RESOURCES: dict[str, dict[str, Any]] = {
    "any": {"Resource": ["*"]},
    "images": {"Resource": ["arn:aws:ec2:*::image/*", "arn:aws:ec2:*::snapshot/*"]},
    "snapshots": {"Resource": ["arn:aws:ec2:*::snapshot/*"]},
    "ours": {"Resource": ["*"], "Condition": _HAS_TAG},
    # The call that creates a resource tags it, too.
    "made": {"Resource": _arns("instance", "volume", "network-interface"), "Condition": _SETS_TAG},
    "new-groups": {"Resource": _arns("security-group"), "Condition": _SETS_TAG},
    "as-made": {
        "Resource": _arns("instance", "volume", "network-interface", "security-group"),
        "Condition": {"StringEquals": {"ec2:CreateAction": ["RunInstances", "CreateVolume", "CreateSecurityGroup"]}},
    },
    # Resources that a launch uses but does not change. bake did not create them.
    "ingredients": {"Resource": _arns("image", "subnet", "key-pair", "snapshot")},
    "networks": {"Resource": _arns("vpc")},
    "our-groups": {"Resource": _arns("security-group"), "Condition": _HAS_TAG},
    "our-instances": {"Resource": _arns("instance"), "Condition": _HAS_TAG},
    "what-is-attached": {"Resource": _arns("volume", "elastic-ip", "network-interface")},
    "ec2-roles": {"Resource": ["*"], "Condition": {"StringEquals": {"iam:PassedToService": "ec2.amazonaws.com"}}},
}


def actions(command: str) -> set[str]:
    """Return the IAM actions that a command's policy allows."""
    return {action for _, actions, _ in STATEMENTS[command] for action in actions}


def document(command: str, key: str | None = None, partition: str = "aws") -> dict[str, Any]:
    """Return a command's policy. `key` is the ARN of a KMS key to allow; `partition` is the one of all ARNs."""
    statements = [
        {"Sid": name, "Effect": "Allow", "Action": list(actions), **_restriction(resources, partition)}
        for name, actions, resources in STATEMENTS[command]
    ]
    if key:
        grants = {"Action": ["kms:CreateGrant"], "Condition": {"Bool": {"kms:GrantIsForAWSResource": "true"}}}
        for name, permission in (("Key", {"Action": list(KEY_ACTIONS)}), ("KeyGrant", grants)):
            statements.append({"Sid": name, "Effect": "Allow", "Resource": [key], **permission})
    return {"Version": "2012-10-17", "Statement": statements}


def _restriction(resources: str, partition: str) -> dict[str, Any]:
    """Return the resources and the condition of a statement, with ARNs of a partition."""
    restriction = _RESOURCES[resources]
    return restriction | {"Resource": [arn.replace("arn:aws:", f"arn:{partition}:") for arn in restriction["Resource"]]}


def denial_hint(command: str, action: str) -> str:
    """Return a hint that names the statements of the command's policy that allow the denied action."""
    if action.startswith("kms:"):
        return (
            f"`bake aws-policy {command} --kms-key ARN` prints a policy that allows it. The key's own policy must "
            "allow it as well."
        )
    statements = ", ".join(f'"{name}"' for name, actions, _ in STATEMENTS.get(command, ()) if action in actions)
    permission = f'"Effect": "Allow", "Action": "{action}"'
    return f"`bake aws-policy {command}` prints the policy that the credentials need: " + (
        f"{permission} is in its statement {statements}." if statements else f"{permission}."
    )


def action_of(operation: str) -> str:
    """Return IAM's name of an operation, or the operation itself if no policy here has it."""
    all_actions = {action for command in STATEMENTS for action in actions(command)}
    return next((action for action in sorted(all_actions) if action.endswith(f":{operation}")), operation)
