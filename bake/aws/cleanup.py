"""Find and remove leftover AWS resources by their tags: those of killed runs, and old AMIs.

A sweep reads only resources with bake's tags, and removes each by its id. Before an instance is removed, it gives back
what it took over from the previous instance. Every sweep searches again, so it also completes an interrupted one.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from bake.aws import tags
from bake.aws.images import publish
from bake.aws.instances import inventory, removal, replacement
from bake.aws.session import Cloud, code_of, refusals
from bake.errors import BakeError
from bake.host.progress import Phase, Reporter

#: Kinds of resources in the order of their removal: the operation that lists them, the key of the list and of the id.
KINDS = (
    ("instance", "describe_instances", "Reservations", "InstanceId"),
    ("image", "describe_images", "Images", "ImageId"),
    ("snapshot", "describe_snapshots", "Snapshots", "SnapshotId"),
    ("volume", "describe_volumes", "Volumes", "VolumeId"),
    ("network interface", "describe_network_interfaces", "NetworkInterfaces", "NetworkInterfaceId"),
    ("security group", "describe_security_groups", "SecurityGroups", "GroupId"),
    ("key pair", "describe_key_pairs", "KeyPairs", "KeyName"),
)
_ALL = tuple(kind for kind, *_ in KINDS)
#: List only this account's images and snapshots, because other accounts share thousands.
_OWN = {"image": {"Owners": ["self"]}, "snapshot": {"OwnerIds": ["self"]}}


@dataclass(frozen=True)
class Thing:
    """An AWS resource that bake created."""

    kind: str
    name: str
    tags: tags.Tags

    def __str__(self) -> str:
        about = " ".join(filter(None, (self.tags.get(tags.APP), self.tags.get(tags.EXPIRES))))
        return f"{self.kind} {self.name}" + (f" ({about})" if about else "")


#: Resources that remain, each with the error, or with None if it is still in use.
Left = list[tuple[Thing, Exception | None]]


def left_over(cloud: Cloud) -> list[Thing]:
    """Return the leftover resources: they have expired, or their run on this computer has ended."""
    return _found(cloud, tags.is_over)


def clear(cloud: Cloud, run: str, phase: Phase) -> None:
    """Remove a current run's temporary resources. A later sweep removes those that are still in use."""
    _, left = _cleared(cloud, _found(cloud, lambda marks: marks.get(tags.RUN) == run), phase)
    _raise_first(left)


def undo(cloud: Cloud, run: str, known: list[Thing], phase: Phase) -> Left:
    """Remove all resources of a launch, `known` or found by its run, and return those that remain.

    Wait for resources that are still in use.
    """
    kinds = {thing.kind for thing in known} | {"instance", "volume", "security group"}
    things, unseen = list[Thing](), Left()
    try:
        things += _things(cloud, tags.having(run=run), kinds)
    except (ClientError, BotoCoreError) as error:
        # Remove the known resources anyway.
        unseen = [(Thing("any other resources of the run", run, {}), error)]
    names = {thing.name for thing in known}
    things = sorted([*known, *(one for one in things if one.name not in names)], key=_turn)
    return _cleared(cloud, things, phase, wait=True)[1] + unseen


def _turn(thing: Thing) -> int:
    return next(turn for turn, (kind, *_) in enumerate(KINDS) if kind == thing.kind)


def _raise_first(left: Left) -> None:
    for _, error in left:
        if error:
            raise error


def _found(cloud: Cloud, goes: Callable[[tags.Tags], bool]) -> list[Thing]:
    filters = [{"Name": "tag-key", "Values": [tags.MAKING]}]
    for pair in cloud("ec2").describe_key_pairs(Filters=filters)["KeyPairs"]:
        if goes(tags.read(pair)):
            _claim(cloud, tags.read(pair))
    return [thing for thing in _things(cloud, tags.having(expires="")) if goes(thing.tags)]


def _claim(cloud: Cloud, marks: tags.Tags) -> None:
    """Tag the AMI of an interrupted run as temporary, if the run ended before Packer tagged it."""
    filters = [{"Name": "name", "Values": [marks[tags.MAKING]]}]
    for image in cloud("ec2").describe_images(Owners=["self"], Filters=filters)["Images"]:
        if tags.RUN not in tags.read(image):
            own = {key: value for key, value in marks.items() if key in (tags.RUN, tags.EXPIRES, tags.APP)}
            parts = {image["ImageId"], *publish.snapshots_of(image)}
            # A pending AMI may not list its snapshots, but their descriptions name the AMI.
            made = [{"Name": "description", "Values": [f"Created by CreateImage(*) for {image['ImageId']}*"]}]
            found = cloud.pages("ec2", "describe_snapshots", "Snapshots", OwnerIds=["self"], Filters=made)
            parts |= {one["SnapshotId"] for one in found}
            cloud("ec2").create_tags(Resources=sorted(parts), Tags=tags.written(own))


def _things(cloud: Cloud, having: list[dict[str, Any]], kinds: Container[str] = _ALL) -> Iterator[Thing]:
    for kind, operation, key, name in KINDS:
        if kind not in kinds:
            continue
        # AWS lists terminated instances for an hour.
        alive = [{"Name": "instance-state-name", "Values": list(inventory.ALIVE)}] if kind == "instance" else []
        filters = [*having, *alive]
        for item in _listed(cloud, operation, key, Filters=filters, **_OWN.get(kind, {})):
            for found in item["Instances"] if kind == "instance" else [item]:
                yield Thing(kind, found[name], tags.read(found))


def _listed(cloud: Cloud, operation: str, key: str, **words: Any) -> Iterator[dict[str, Any]]:
    # Only DescribeKeyPairs has no pages.
    if cloud("ec2").can_paginate(operation):
        yield from cloud.pages("ec2", operation, key, **words)
    else:
        yield from getattr(cloud("ec2"), operation)(**words)[key]


def sweep(cloud: Cloud, report: Reporter) -> list[str]:
    """Remove the leftover resources and return the removed ones. The next sweep removes those still in use."""
    with refusals(cloud), report.phase("sweep") as phase:
        removed, left = _cleared(cloud, left_over(cloud), phase)
        for thing, error in left:
            report.note(
                f"not removed: {thing}: {error}"
                if error
                else f"{thing} is still in use; run `bake sweep` again in a few minutes"
            )
        _raise_first(left)
        tags.forget_old_runs()
    return [str(thing) for thing in removed]


def _cleared(cloud: Cloud, found: list[Thing], phase: Phase, wait: bool = False) -> tuple[list[Thing], Left]:
    """Remove resources; return the removed and the remaining ones. With `wait`, wait for those still in use."""
    removed, left, stuck = list[Thing](), Left(), set[str]()
    for thing in found:
        phase.progress(None, str(thing))
        # An instance that could not be removed still uses its run's resources, and its tags are needed to give back
        # what it took over.
        if thing.tags.get(tags.RUN) in stuck:
            left.append((thing, None))
            continue
        try:
            gone = _until_gone(cloud, thing, phase) if wait else _remove(cloud, thing, phase)
        except (ClientError, BotoCoreError, BakeError) as error:
            left.append((thing, error))
            if thing.kind == "instance":
                stuck.add(thing.tags.get(tags.RUN, ""))
        else:
            if gone is None:
                left.append((thing, None))
            elif gone:
                removed.append(thing)
    return removed, left


def _until_gone(cloud: Cloud, thing: Thing, phase: Phase) -> bool:
    return inventory.until(lambda: _remove(cloud, thing, phase), f"deleted {thing.name}", phase)


def _remove(cloud: Cloud, thing: Thing, phase: Phase) -> bool | None:
    """Remove a resource. Return False if a permanent resource needs it, None if it is still in use."""
    ec2 = cloud("ec2")
    if thing.kind == "instance":
        replacement.give_back(cloud, thing.name, thing.tags, phase)
        removal.end(cloud, [thing.name], phase)
        return True
    removals: dict[str, Callable[..., Any]] = {
        "image": ec2.deregister_image, "snapshot": ec2.delete_snapshot, "volume": ec2.delete_volume,
        "network interface": ec2.delete_network_interface, "security group": ec2.delete_security_group,
        "key pair": ec2.delete_key_pair,
    }  # fmt: skip
    (name,) = (name for kind, _, _, name in KINDS if kind == thing.kind)
    try:
        removals[thing.kind](**{name: thing.name})
    except ClientError as error:
        code = code_of(error)
        if code == "InvalidSnapshot.InUse":
            return None if _is_temporary(cloud, thing.name) else False
        if code in removal.HELD or "InUse" in code:
            return None
        # Ignore a resource that is gone already, such as a volume that AWS deleted with its instance.
        if "NotFound" not in code and ".Unavailable" not in code:
            raise
    return True


def _is_temporary(cloud: Cloud, snapshot: str) -> bool:
    """Return whether a snapshot in use is still temporary, because all AMIs that use it are temporary, too.

    Otherwise remove its temporary tag.
    """
    mine = cloud.pages("ec2", "describe_images", "Images", Owners=["self"])
    if all(tags.EXPIRES in tags.read(one) for one in mine if snapshot in publish.snapshots_of(one)):
        return True
    # The run was interrupted after it registered the AMI and before it removed the tag.
    cloud("ec2").delete_tags(Resources=[snapshot], Tags=[{"Key": tags.EXPIRES}])
    return False


@dataclass(frozen=True)
class Old:
    """An old AMI, its snapshots, and the resource that uses it. An AMI in use is kept."""

    name: str
    title: str
    created: str
    snapshots: tuple[str, ...]
    user: str


def old(cloud: Cloud, keep: int, app: str | None = None) -> list[Old]:
    """Return all AMIs except the newest `keep` of each app, oldest first."""
    filters = [*tags.having(app=app or "", run=""), {"Name": "state", "Values": ["available"]}]
    found = [
        one
        for one in cloud.pages("ec2", "describe_images", "Images", Owners=["self"], Filters=filters)
        # An AMI of an unfinished run does not count. A sweep removes it.
        if tags.EXPIRES not in tags.read(one)
    ]
    by_app: dict[str, list[dict[str, Any]]] = {}
    for one in sorted(found, key=lambda one: one.get("CreationDate", "")):
        by_app.setdefault(tags.read(one)[tags.APP], []).append(one)
    surplus = [one for some in by_app.values() for one in some[: max(0, len(some) - keep)]]
    # Search for users only if there are candidates.
    users = _users(cloud, {one["ImageId"] for one in surplus}) if surplus else {}
    return [
        Old(
            one["ImageId"], one["Name"], one["CreationDate"], tuple(publish.snapshots_of(one)),
            users.get(one["ImageId"], ""),
        )
        for one in surplus
    ]  # fmt: skip


def prune(cloud: Cloud, going: list[Old], phase: Phase) -> None:
    """Deregister AMIs and delete their snapshots. If this is interrupted, a sweep finds the snapshots."""
    for one in going:
        with tags.run() as run:
            marks = tags.written({tags.RUN: run, **tags.temporary()})
            if one.snapshots:
                cloud("ec2").create_tags(Resources=list(one.snapshots), Tags=marks)
            cloud("ec2").deregister_image(ImageId=one.name)
            removal.delete_snapshots(cloud, one.snapshots, phase)


def _users(cloud: Cloud, names: set[str]) -> dict[str, str]:
    """Return a user of each AMI: an instance, a launch template (any version), or an Auto Scaling group."""
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
    """Return the AMI that a launch template names, directly or by `resolve:ssm:`; empty without such a parameter."""
    if not said.startswith("resolve:ssm:"):
        return said
    try:
        value = cloud("ssm").get_parameter(Name=said.removeprefix("resolve:ssm:"))["Parameter"]["Value"]
    except ClientError as error:
        if code_of(error) not in ("ParameterNotFound", "ParameterVersionNotFound", "ParameterVersionLabelNotFound"):
            raise
        return ""
    return str(value)
