"""What is left over at AWS, found by its tags and removed: of runs that were killed, and of AMIs that nobody needs.

Nothing is looked at that has no tag of ours, and each thing is removed by its id. What is on its way out is looked for
again in every sweep, so that a sweep that is itself cut off is finished by the next.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from bake.aws import ami, machines, removal, tags
from bake.aws.session import Cloud, code_of, refusals
from bake.progress import Phase, Reporter

#: What can be left over, in the order in which it can be removed: the operation that lists it, its key, its id.
KINDS = (
    ("instance", "describe_instances", "Reservations", "InstanceId"),
    ("image", "describe_images", "Images", "ImageId"),
    ("snapshot", "describe_snapshots", "Snapshots", "SnapshotId"),
    ("volume", "describe_volumes", "Volumes", "VolumeId"),
    ("network interface", "describe_network_interfaces", "NetworkInterfaces", "NetworkInterfaceId"),
    ("security group", "describe_security_groups", "SecurityGroups", "GroupId"),
    ("key pair", "describe_key_pairs", "KeyPairs", "KeyName"),
)
#: Of other accounts there are thousands.
_OWN = {"image": {"Owners": ["self"]}, "snapshot": {"OwnerIds": ["self"]}}


@dataclass(frozen=True)
class Thing:
    """Something of ours at AWS."""

    kind: str
    name: str
    tags: tags.Tags

    def __str__(self) -> str:
        about = " ".join(filter(None, (self.tags.get(tags.APP), self.tags.get(tags.EXPIRES))))
        return f"{self.kind} {self.name}" + (f" ({about})" if about else "")


def left_over(cloud: Cloud) -> list[Thing]:
    """What is over: its time is up, or its run was one of this computer's and has ended."""
    return _found(cloud, tags.is_over)


def clear(cloud: Cloud, run: str, phase: Phase) -> None:
    """Remove what is temporary of a run, which is not over yet. What is still in use goes with a later sweep."""
    _cleared(cloud, _found(cloud, lambda marks: marks.get(tags.RUN) == run), phase)


def _found(cloud: Cloud, goes: Callable[[tags.Tags], bool]) -> list[Thing]:
    filters = [{"Name": "tag-key", "Values": [tags.MAKING]}]
    for pair in cloud("ec2").describe_key_pairs(Filters=filters)["KeyPairs"]:
        if goes(tags.read(pair)):
            _claim(cloud, tags.read(pair))
    return [thing for thing in _things(cloud) if goes(thing.tags)]


def _claim(cloud: Cloud, marks: tags.Tags) -> None:
    """Tag the AMI that a run was making by Packer when it was cut off, before Packer could: it is temporary as well."""
    filters = [{"Name": "name", "Values": [marks[tags.MAKING]]}]
    for image in cloud("ec2").describe_images(Owners=["self"], Filters=filters)["Images"]:
        if tags.RUN not in tags.read(image):
            own = {key: value for key, value in marks.items() if key in (tags.RUN, tags.EXPIRES, tags.APP)}
            parts = {image["ImageId"], *ami.snapshots_of(image)}
            # While it is pending, an AMI may not tell its snapshots; they tell it.
            made = [{"Name": "description", "Values": [f"Created by CreateImage(*) for {image['ImageId']}*"]}]
            found = cloud.pages("ec2", "describe_snapshots", "Snapshots", OwnerIds=["self"], Filters=made)
            parts |= {one["SnapshotId"] for one in found}
            cloud("ec2").create_tags(Resources=sorted(parts), Tags=tags.written(own))


def _things(cloud: Cloud) -> Iterator[Thing]:
    for kind, operation, key, name in KINDS:
        filters = [{"Name": "tag-key", "Values": [tags.EXPIRES]}]
        if kind == "instance":
            # Ended ones are shown for an hour.
            filters.append({"Name": "instance-state-name", "Values": list(machines.ALIVE)})
        for item in _listed(cloud, operation, key, Filters=filters, **_OWN.get(kind, {})):
            for found in item["Instances"] if kind == "instance" else [item]:
                yield Thing(kind, found[name], tags.read(found))


def _listed(cloud: Cloud, operation: str, key: str, **words: Any) -> Iterator[dict[str, Any]]:
    # DescribeKeyPairs alone has no pages.
    if cloud("ec2").can_paginate(operation):
        yield from cloud.pages("ec2", operation, key, **words)
    else:
        yield from getattr(cloud("ec2"), operation)(**words)[key]


def sweep(cloud: Cloud, report: Reporter) -> list[str]:
    """Remove what is left over; what was removed. What still waits for something else goes with the next sweep."""
    with refusals(cloud), report.phase("sweep") as phase:
        removed, waits = _cleared(cloud, left_over(cloud), phase)
        for thing in waits:
            report.note(f"{thing} is still in use: sweep again in some minutes")
        tags.forget_old_runs()
    return removed


def _cleared(cloud: Cloud, found: list[Thing], phase: Phase) -> tuple[list[str], list[Thing]]:
    """Remove things; what is gone, and what is still in use."""
    removed, waits = [], []
    instances = [thing.name for thing in found if thing.kind == "instance"]
    if instances:
        removal.end(cloud, instances, phase)
    for thing in found:
        phase.progress(None, str(thing))
        try:
            if thing.kind == "instance" or _remove(cloud, thing):
                removed.append(str(thing))
        except ClientError as error:
            if "InUse" not in code_of(error) and "DependencyViolation" not in code_of(error):
                raise
            waits.append(thing)
    return removed, waits


def _remove(cloud: Cloud, thing: Thing) -> bool:
    """Remove one thing; false where it turns out to belong to something that stays."""
    ec2 = cloud("ec2")
    removals: dict[str, Callable[..., Any]] = {
        "image": ec2.deregister_image, "snapshot": ec2.delete_snapshot, "volume": ec2.delete_volume,
        "network interface": ec2.delete_network_interface, "security group": ec2.delete_security_group,
        "key pair": ec2.delete_key_pair,
    }  # fmt: skip
    (name,) = (name for kind, _, _, name in KINDS if kind == thing.kind)
    try:
        removals[thing.kind](**{name: thing.name})
    except ClientError as error:
        if code_of(error) == "InvalidSnapshot.InUse":
            # Its AMI was registered, and the run was cut before it could say so.
            ec2.delete_tags(Resources=[thing.name], Tags=[{"Key": tags.EXPIRES}])
            return False
        # Gone meanwhile: a volume or an interface that went with its instance, say.
        if "NotFound" not in code_of(error) and ".Unavailable" not in code_of(error):
            raise
    return True


@dataclass(frozen=True)
class Old:
    """An AMI but the newest ones, its snapshots, and who uses it: then it stays."""

    name: str
    title: str
    created: str
    snapshots: tuple[str, ...]
    user: str


def old(cloud: Cloud, keep: int, app: str | None = None) -> list[Old]:
    """AMIs but the newest `keep` of each app, oldest first."""
    filters = tags.having(app=app or "", run="")
    found = list(cloud.pages("ec2", "describe_images", "Images", Owners=["self"], Filters=filters))
    by_app: dict[str, list[dict[str, Any]]] = {}
    for one in sorted(found, key=lambda one: one.get("CreationDate", "")):
        by_app.setdefault(tags.read(one)[tags.APP], []).append(one)
    surplus = [one for some in by_app.values() for one in some[: max(0, len(some) - keep)]]
    # Only what could go is worth the question.
    users = _users(cloud, {one["ImageId"] for one in surplus}) if surplus else {}
    return [
        Old(
            one["ImageId"], one["Name"], one["CreationDate"], tuple(ami.snapshots_of(one)),
            users.get(one["ImageId"], ""),
        )
        for one in surplus
    ]  # fmt: skip


def prune(cloud: Cloud, going: list[Old]) -> None:
    """Deregister AMIs, and delete their snapshots. Cut off between the two, a sweep finds the snapshots."""
    for one in going:
        with tags.run() as run:
            marks = tags.written({tags.RUN: run, **tags.temporary()})
            if one.snapshots:
                cloud("ec2").create_tags(Resources=list(one.snapshots), Tags=marks)
            cloud("ec2").deregister_image(ImageId=one.name)
            for snapshot in one.snapshots:
                cloud("ec2").delete_snapshot(SnapshotId=snapshot)


def _users(cloud: Cloud, names: set[str]) -> dict[str, str]:
    """AMI to who uses it: instances, launch templates (all their versions), Auto Scaling groups' configurations."""
    users: dict[str, str] = {}
    for reservation in cloud.pages(
        "ec2", "describe_instances", "Reservations", Filters=[{"Name": "image-id", "Values": sorted(names)}]
    ):
        for instance in reservation["Instances"]:
            if instance["State"]["Name"] != "terminated":
                users.setdefault(instance["ImageId"], f"instance {instance['InstanceId']}")
    for template in cloud.pages("ec2", "describe_launch_templates", "LaunchTemplates"):
        versions = cloud.pages(
            "ec2", "describe_launch_template_versions", "LaunchTemplateVersions",
            LaunchTemplateId=template["LaunchTemplateId"],
        )  # fmt: skip
        for version in versions:
            said = version["LaunchTemplateData"].get("ImageId", "")
            users.setdefault(_resolved(cloud, said), f"launch template {template['LaunchTemplateName']}")
    for config in cloud.pages("autoscaling", "describe_launch_configurations", "LaunchConfigurations"):
        users.setdefault(config["ImageId"], f"launch configuration {config['LaunchConfigurationName']}")
    for group in cloud.pages("autoscaling", "describe_auto_scaling_groups", "AutoScalingGroups"):
        for override in group.get("MixedInstancesPolicy", {}).get("LaunchTemplate", {}).get("Overrides", ()):
            if said := override.get("ImageId"):
                users.setdefault(_resolved(cloud, said), f"Auto Scaling group {group['AutoScalingGroupName']}")
    return {name: user for name, user in users.items() if name in names}


def _resolved(cloud: Cloud, said: str) -> str:
    """The AMI that a launch template names, itself or by `resolve:ssm:`."""
    if not said.startswith("resolve:ssm:"):
        return said
    try:
        value = cloud("ssm").get_parameter(Name=said.removeprefix("resolve:ssm:"))["Parameter"]["Value"]
    except ClientError as error:
        if code_of(error) != "ParameterNotFound":
            raise
        return ""
    return str(value)
