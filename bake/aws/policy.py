"""The least that each command needs at AWS, as an IAM policy.

What is destroyed or changed must carry our tag, so that even a fault of ours touches nothing else. A test records the
calls of each command and holds this list to them.
"""

from __future__ import annotations

from typing import Any

#: Actions of EC2 that only list, and which IAM cannot bind to anything (Service Authorization Reference, EC2).
_PUBLISH_LOOKS = ("sts:GetCallerIdentity", "ec2:DescribeImages", "ec2:DescribeSnapshots")
_SWEEP_LOOKS = (
    "ec2:DescribeInstances", "ec2:DescribeImages", "ec2:DescribeSnapshots", "ec2:DescribeVolumes",
    "ec2:DescribeNetworkInterfaces", "ec2:DescribeSecurityGroups", "ec2:DescribeKeyPairs",
)  # fmt: skip
_PRUNE_LOOKS = (
    "ec2:DescribeImages", "ec2:DescribeInstances", "ec2:DescribeLaunchTemplates", "ec2:DescribeLaunchTemplateVersions",
    "autoscaling:DescribeLaunchConfigurations", "autoscaling:DescribeAutoScalingGroups",
)  # fmt: skip
#: Command to its statements: the id, actions, and which things they may touch.
STATEMENTS: dict[str, tuple[tuple[str, tuple[str, ...], str], ...]] = {
    "ami": (
        ("Look", _PUBLISH_LOOKS, "any"),
        ("Upload", ("ebs:StartSnapshot", "ebs:PutSnapshotBlock", "ebs:CompleteSnapshot"), "snapshots"),
        ("Register", ("ec2:RegisterImage", "ec2:CopyImage"), "any"),
        ("Tag", ("ec2:CreateTags",), "any"),
        ("Keep", ("ec2:DeleteTags",), "ours"),
        (
            "HandOn",
            ("ec2:ModifyImageAttribute", "ec2:ModifySnapshotAttribute", "ec2:EnableImageDeprecation"),
            "ours",
        ),
        ("Parameter", ("ssm:PutParameter",), "any"),
    ),
    "sweep": (
        ("Look", _SWEEP_LOOKS, "any"),
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
        ("Look", _PRUNE_LOOKS, "any"),
        ("Parameter", ("ssm:GetParameter",), "any"),
        ("Remove", ("ec2:CreateTags", "ec2:DeregisterImage", "ec2:DeleteSnapshot"), "ours"),
    ),
}  # fmt: skip
_RESOURCES: dict[str, dict[str, Any]] = {
    "any": {"Resource": "*"},
    "snapshots": {"Resource": "arn:aws:ec2:*::snapshot/*"},
    "ours": {"Resource": "*", "Condition": {"Null": {"aws:ResourceTag/bake:run": "false"}}},
}


def actions(command: str) -> set[str]:
    """What a command may do, as IAM names it."""
    return {action for _, actions, _ in STATEMENTS[command] for action in actions}


def document(command: str) -> dict[str, Any]:
    """A command's policy."""
    statements = [
        {"Sid": name, "Effect": "Allow", "Action": list(actions), **_RESOURCES[which]}
        for name, actions, which in STATEMENTS[command]
    ]
    return {"Version": "2012-10-17", "Statement": statements}


def action_of(operation: str) -> str:
    """IAM's name for an operation of a service."""
    known = {action for command in STATEMENTS for action in actions(command)}
    return next((action for action in sorted(known) if action.endswith(f":{operation}")), operation)
