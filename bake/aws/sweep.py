"""What is left over at AWS, found by its tags and removed: of runs that were killed, and of AMIs that nobody needs.

Nothing is looked at that has no tag of ours, and each thing is removed by its id. A machine gives back first what it
took from the one before. What is on its way out is looked for again in every sweep, so that a sweep that is itself cut
off is finished by the next.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from bake.aws import ami, machines, removal, retire, tags
from bake.aws.session import Cloud, code_of, refusals
from bake.errors import BakeError
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
_ALL = tuple(kind for kind, *_ in KINDS)
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


#: A thing that is left, and why; None where something else still holds it.
Left = list[tuple[Thing, Exception | None]]


def left_over(cloud: Cloud) -> list[Thing]:
    """What is over: its time is up, or its run was one of this computer's and has ended."""
    return _found(cloud, tags.is_over)


def clear(cloud: Cloud, run: str, phase: Phase) -> None:
    """Remove what is temporary of a run, which is not over yet. What is still in use goes with a later sweep."""
    _, left = _cleared(cloud, _found(cloud, lambda marks: marks.get(tags.RUN) == run), phase)
    _raise_first(left)


def undo(cloud: Cloud, run: str, known: list[Thing], phase: Phase) -> Left:
    """Remove all that a launch has made, `known` or found by its run, temporary or not; waits for what is held."""
    kinds = {thing.kind for thing in known} | {"instance", "volume", "security group"}
    things, unseen = list[Thing](), Left()
    try:
        things += _things(cloud, tags.having(run=run), kinds)
    except (ClientError, BotoCoreError) as error:
        # What is known goes all the same.
        unseen = [(Thing("whatever else is of run", run, {}), error)]
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


def _things(cloud: Cloud, having: list[dict[str, Any]], kinds: Container[str] = _ALL) -> Iterator[Thing]:
    for kind, operation, key, name in KINDS:
        if kind not in kinds:
            continue
        # Ended ones are shown for an hour.
        alive = [{"Name": "instance-state-name", "Values": list(machines.ALIVE)}] if kind == "instance" else []
        filters = [*having, *alive]
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
        removed, left = _cleared(cloud, left_over(cloud), phase)
        for thing, error in left:
            report.note(f"left: {thing}: {error}" if error else f"{thing} is still in use: sweep again in some minutes")
        _raise_first(left)
        tags.forget_old_runs()
    return [str(thing) for thing in removed]


def _cleared(cloud: Cloud, found: list[Thing], phase: Phase, wait: bool = False) -> tuple[list[Thing], Left]:
    """Remove things; what is gone, and what is left. `wait`: for what something else holds."""
    removed, left, stuck = list[Thing](), Left(), set[str]()
    for thing in found:
        phase.progress(None, str(thing))
        # A machine that is still there holds what its run made, and says what it has to give back.
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
    return machines.until(lambda: _remove(cloud, thing, phase), f"let go of {thing.name}", phase)


def _remove(cloud: Cloud, thing: Thing, phase: Phase) -> bool | None:
    """Remove one thing. False where it belongs to something that stays, None where something else still holds it."""
    ec2 = cloud("ec2")
    if thing.kind == "instance":
        retire.give_back(cloud, thing.name, thing.tags, phase)
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
        # Gone meanwhile: a volume or an interface that went with its instance, say.
        if "NotFound" not in code and ".Unavailable" not in code:
            raise
    return True


def _is_temporary(cloud: Cloud, snapshot: str) -> bool:
    """Whether a snapshot still is, though an AMI stands on it: one that goes as well, or that AWS is letting go of."""
    mine = cloud.pages("ec2", "describe_images", "Images", Owners=["self"])
    if all(tags.EXPIRES in tags.read(one) for one in mine if snapshot in ami.snapshots_of(one)):
        return True
    # It was registered, and the run was cut before it could say so.
    cloud("ec2").delete_tags(Resources=[snapshot], Tags=[{"Key": tags.EXPIRES}])
    return False


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
    filters = [*tags.having(app=app or "", run=""), {"Name": "state", "Values": ["available"]}]
    found = [
        one
        for one in cloud.pages("ec2", "describe_images", "Images", Owners=["self"], Filters=filters)
        # What a run has not finished is none of the newest, and a sweep's.
        if tags.EXPIRES not in tags.read(one)
    ]
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


def prune(cloud: Cloud, going: list[Old], phase: Phase) -> None:
    """Deregister AMIs, and delete their snapshots. Cut off between the two, a sweep finds the snapshots."""
    for one in going:
        with tags.run() as run:
            marks = tags.written({tags.RUN: run, **tags.temporary()})
            if one.snapshots:
                cloud("ec2").create_tags(Resources=list(one.snapshots), Tags=marks)
            cloud("ec2").deregister_image(ImageId=one.name)
            removal.delete_snapshots(cloud, one.snapshots, phase)


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
        if code_of(error) not in ("ParameterNotFound", "ParameterVersionNotFound", "ParameterVersionLabelNotFound"):
            raise
        return ""
    return str(value)
