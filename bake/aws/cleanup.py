"""Find and remove leftover AWS resources by their tags: those of killed runs, and old AMIs.

A sweep reads only resources with bake's tags, and removes each by its id. Before it removes an instance, it gives the
instance's volume and address back to the previous instance. Every sweep searches again, so it also completes an
interrupted one.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from bake.aws import listing, tags
from bake.aws.images import publish
from bake.aws.instances import inventory, removal, replacement
from bake.aws.session import Cloud, aws_errors, code_of
from bake.errors import BakeError
from bake.host.progress import Phase, Reporter

if TYPE_CHECKING:
    from mypy_boto3_ec2.type_defs import FilterTypeDef, ImageTypeDef, KeyPairInfoTypeDef

#: Kinds of resources in the order of their removal.
KINDS = ("instance", "image", "snapshot", "volume", "network interface", "security group", "key pair")


class Removal(Enum):
    """The outcome of a call that removes a resource."""

    REMOVED = "removed"
    #: A permanent resource needs it.
    NEEDED = "needed"
    #: Something that is being removed still uses it.
    IN_USE = "in use"


@dataclass(frozen=True)
class Resource:
    """An AWS resource that bake created."""

    kind: str
    name: str
    tags: tags.Tags

    def __str__(self) -> str:
        about = " ".join(filter(None, (self.tags.get(tags.APP), self.tags.get(tags.EXPIRES))))
        return f"{self.kind} {self.name}" + (f" ({about})" if about else "")


#: Resources that remain, each with the error, or with None if it is still in use.
Remainder = list[tuple[Resource, Exception | None]]


def leftovers(cloud: Cloud) -> list[Resource]:
    """Return the leftover resources: they have expired, or their run on this computer has ended."""
    return _search(cloud, tags.is_leftover)


def clear(cloud: Cloud, run: str, phase: Phase) -> None:
    """Remove a current run's temporary resources. A later sweep removes those that are still in use."""
    resources = _search(cloud, lambda resource_tags: resource_tags.get(tags.RUN) == run)
    _, remainder = _remove_all(cloud, resources, phase)
    _raise_first(remainder)


def roll_back(cloud: Cloud, run: str, resources: list[Resource], phase: Phase) -> Remainder:
    """Remove `resources` and all others of their launch's run, and return those that remain.

    Wait for resources that are still in use.
    """
    kinds = {resource.kind for resource in resources} | {"instance", "volume", "security group"}
    others, failures = list[Resource](), Remainder()
    try:
        others += _list_resources(cloud, tags.filters(run=run), kinds)
    except (ClientError, BotoCoreError) as error:
        # Remove `resources` anyway.
        failures = [(Resource("any other resources of the run", run, {}), error)]
    names = {resource.name for resource in resources}
    resources = sorted([*resources, *(other for other in others if other.name not in names)], key=_removal_position)
    return _remove_all(cloud, resources, phase, wait=True)[1] + failures


def _removal_position(resource: Resource) -> int:
    return KINDS.index(resource.kind)


def _raise_first(remainder: Remainder) -> None:
    for _, error in remainder:
        if error:
            raise error


def _search(cloud: Cloud, matches: Callable[[tags.Tags], bool]) -> list[Resource]:
    """Return the temporary resources with matching tags, including AMIs that only the tags of a key pair name."""
    filters: list[FilterTypeDef] = [{"Name": "tag-key", "Values": [tags.AMI_NAME]}]
    for key_pair in cloud("ec2").describe_key_pairs(Filters=filters)["KeyPairs"]:
        if matches(tags.read(key_pair)):
            _claim_image(cloud, key_pair)
    return [resource for resource in _list_resources(cloud, tags.filters(expires="")) if matches(resource.tags)]


def _claim_image(cloud: Cloud, key_pair: KeyPairInfoTypeDef) -> None:
    """Tag the AMI of an interrupted run as temporary, if the run ended before Packer tagged it.

    An AMI that is older than the run's key pair only has the same name.
    """
    pair_tags = tags.read(key_pair)
    for image in listing.images(cloud, [{"Name": "name", "Values": [pair_tags[tags.AMI_NAME]]}]):
        if tags.RUN not in tags.read(image) and _is_younger(image, key_pair):
            image_tags = {key: value for key, value in pair_tags.items() if key in (tags.RUN, tags.EXPIRES, tags.APP)}
            ids = {image["ImageId"], *publish.snapshots_of(image)}
            # A pending AMI may not list its snapshots, but their descriptions name the AMI.
            description = f"Created by CreateImage(*) for {image['ImageId']}*"
            snapshots = listing.snapshots(cloud, [{"Name": "description", "Values": [description]}])
            ids |= {snapshot["SnapshotId"] for snapshot in snapshots}
            # The policy of a sweep does not allow it, since it would allow to remove every AMI.
            command = "sweep-packer" if cloud.command == "sweep" else cloud.command
            with aws_errors(cloud.for_command(command)):
                cloud("ec2").create_tags(Resources=sorted(ids), Tags=tags.to_api(image_tags))


def _is_younger(image: ImageTypeDef, key_pair: KeyPairInfoTypeDef) -> bool:
    """Return whether an AMI was made after a key pair. AWS gives whole seconds of one of the two."""
    creation = datetime.fromisoformat(image["CreationDate"])
    return creation >= key_pair["CreateTime"].replace(microsecond=0)


def _list_resources(cloud: Cloud, filters: list[FilterTypeDef], kinds: Container[str] = KINDS) -> Iterator[Resource]:
    for kind in KINDS:
        if kind in kinds:
            for name, resource_tags in _list_kind(cloud, kind, filters):
                yield Resource(kind, name, resource_tags)


def _list_kind(cloud: Cloud, kind: str, filters: list[FilterTypeDef]) -> Iterator[tuple[str, tags.Tags]]:
    """Yield the ids and the tags of the resources of one of KINDS."""
    match kind:
        case "instance":
            # AWS lists terminated instances for an hour.
            alive: FilterTypeDef = {"Name": "instance-state-name", "Values": inventory.ALIVE}
            instances = listing.instances(cloud, [*filters, alive])
            yield from ((instance["InstanceId"], tags.read(instance)) for instance in instances)
        case "image":
            yield from ((image["ImageId"], tags.read(image)) for image in listing.images(cloud, filters))
        case "snapshot":
            snapshots = listing.snapshots(cloud, filters)
            yield from ((snapshot["SnapshotId"], tags.read(snapshot)) for snapshot in snapshots)
        case "volume":
            yield from ((volume["VolumeId"], tags.read(volume)) for volume in listing.volumes(cloud, filters))
        case "network interface":
            for interface in listing.network_interfaces(cloud, filters):
                yield interface["NetworkInterfaceId"], tags.read({"Tags": interface.get("TagSet", [])})
        case "security group":
            yield from ((group["GroupId"], tags.read(group)) for group in listing.security_groups(cloud, filters))
        case "key pair":
            # DescribeKeyPairs has no pages.
            key_pairs = cloud("ec2").describe_key_pairs(Filters=filters)["KeyPairs"]
            yield from ((key_pair["KeyName"], tags.read(key_pair)) for key_pair in key_pairs)


def sweep(cloud: Cloud, report: Reporter) -> list[str]:
    """Remove the leftover resources and return those that were removed. The next sweep removes those still in use."""
    with aws_errors(cloud), report.phase("sweep") as phase:
        removed_resources, remainder = _remove_all(cloud, leftovers(cloud), phase)
        for resource, error in remainder:
            report.note(
                f"not removed: {resource}: {error}"
                if error
                else f"{resource} is still in use; run `bake sweep` again in a few minutes"
            )
        _raise_first(remainder)
        tags.forget_old_runs()
    return [str(resource) for resource in removed_resources]


def _remove_all(
    cloud: Cloud, resources: list[Resource], phase: Phase, wait: bool = False
) -> tuple[list[Resource], Remainder]:
    """Remove resources; return those that were removed, and the others. With `wait`, wait for those still in use."""
    removed_resources, remainder, failed_runs = list[Resource](), Remainder(), set[str]()
    for resource in resources:
        phase.progress(None, str(resource))
        # An instance that could not be removed still uses its run's resources, and its tags are needed to give back
        # its volume and its address.
        if resource.tags.get(tags.RUN) in failed_runs:
            remainder.append((resource, None))
            continue
        try:
            outcome = _remove_with_retries(cloud, resource, phase) if wait else _remove(cloud, resource, phase)
        except (ClientError, BotoCoreError, BakeError) as error:
            remainder.append((resource, error))
            if resource.kind == "instance":
                failed_runs.add(resource.tags.get(tags.RUN, ""))
        else:
            if outcome is Removal.IN_USE:
                remainder.append((resource, None))
            elif outcome is Removal.REMOVED:
                removed_resources.append(resource)
    return removed_resources, remainder


def _remove_with_retries(cloud: Cloud, resource: Resource, phase: Phase) -> Removal:
    def try_remove() -> Removal | None:
        outcome = _remove(cloud, resource, phase)
        return None if outcome is Removal.IN_USE else outcome

    return inventory.until(try_remove, f"deleted {resource.name}", phase)


def _remove(cloud: Cloud, resource: Resource, phase: Phase) -> Removal:
    if resource.kind == "instance":
        replacement.give_back(cloud, resource.name, resource.tags, phase)
        removal.terminate(cloud, [resource.name], phase)
        return Removal.REMOVED
    try:
        _delete(cloud, resource)
    except ClientError as error:
        code = code_of(error)
        if code == "InvalidSnapshot.InUse":
            return Removal.IN_USE if _is_temporary(cloud, resource.name) else Removal.NEEDED
        if code in removal.IN_USE or "InUse" in code:
            return Removal.IN_USE
        # Ignore a resource that is gone already, such as a volume that AWS deleted with its instance.
        if "NotFound" not in code and ".Unavailable" not in code:
            raise
    return Removal.REMOVED


def _delete(cloud: Cloud, resource: Resource) -> None:
    ec2, name = cloud("ec2"), resource.name
    match resource.kind:
        case "image":
            ec2.deregister_image(ImageId=name)
        case "snapshot":
            ec2.delete_snapshot(SnapshotId=name)
        case "volume":
            ec2.delete_volume(VolumeId=name)
        case "network interface":
            ec2.delete_network_interface(NetworkInterfaceId=name)
        case "security group":
            ec2.delete_security_group(GroupId=name)
        case "key pair":
            ec2.delete_key_pair(KeyName=name)
        case _:
            raise AssertionError(resource)


def _is_temporary(cloud: Cloud, snapshot_id: str) -> bool:
    """Return whether a snapshot in use is still temporary, because all AMIs that use it are temporary, too.

    Otherwise remove its temporary tag.
    """
    images = listing.images(cloud)
    if all(tags.EXPIRES in tags.read(image) for image in images if snapshot_id in publish.snapshots_of(image)):
        return True
    # The run was interrupted after it registered the AMI and before it removed the tag.
    cloud("ec2").delete_tags(Resources=[snapshot_id], Tags=[{"Key": tags.EXPIRES}])
    return False


@dataclass(frozen=True)
class OldImage:
    """An old AMI, its snapshots, and the resource that uses it. `prune` keeps an AMI in use."""

    id: str
    name: str
    creation_date: str
    snapshots: tuple[str, ...]
    user: str


def surplus_images(cloud: Cloud, keep: int, app: str | None = None) -> list[OldImage]:
    """Return all AMIs except the newest `keep` of each app, oldest first."""
    filters = tags.filters(app=app or "", run="")
    images = [
        image
        for image in listing.images(cloud, [*filters, {"Name": "state", "Values": ["available"]}])
        # An AMI of an unfinished run does not count. A sweep removes it.
        if tags.EXPIRES not in tags.read(image)
    ]
    by_app: dict[str, list[ImageTypeDef]] = {}
    for image in sorted(images, key=lambda image: image.get("CreationDate", "")):
        by_app.setdefault(tags.read(image)[tags.APP], []).append(image)
    surplus = [image for group in by_app.values() for image in group[: max(0, len(group) - keep)]]
    # Search for users only if there are candidates.
    users = _users(cloud, {image["ImageId"] for image in surplus}) if surplus else {}
    return [
        OldImage(
            image["ImageId"], image["Name"], image["CreationDate"], tuple(publish.snapshots_of(image)),
            users.get(image["ImageId"], ""),
        )
        for image in surplus
    ]  # fmt: skip


def prune(cloud: Cloud, images: list[OldImage], phase: Phase) -> None:
    """Deregister AMIs and delete their snapshots. If this is interrupted, a sweep finds the snapshots."""
    for image in images:
        with tags.run() as run:
            snapshot_tags = tags.to_api({tags.RUN: run, **tags.expiry()})
            if image.snapshots:
                cloud("ec2").create_tags(Resources=list(image.snapshots), Tags=snapshot_tags)
            cloud("ec2").deregister_image(ImageId=image.id)
            removal.delete_snapshots(cloud, image.snapshots, phase)


def _users(cloud: Cloud, ids: set[str]) -> dict[str, str]:
    """Return a user of each AMI in use: an instance, a launch template (any version), or an Auto Scaling group."""
    users: dict[str, str] = {}
    for instance in listing.instances(cloud, [{"Name": "image-id", "Values": sorted(ids)}]):
        if instance["State"]["Name"] != "terminated":
            users.setdefault(instance["ImageId"], f"instance {instance['InstanceId']}")
    for template in listing.launch_templates(cloud):
        for version in listing.template_versions(cloud, template["LaunchTemplateId"]):
            reference = version["LaunchTemplateData"].get("ImageId", "")
            users.setdefault(_image_id(cloud, reference), f"launch template {template['LaunchTemplateName']}")
    for config in listing.launch_configurations(cloud):
        users.setdefault(config["ImageId"], f"launch configuration {config['LaunchConfigurationName']}")
    for group in listing.scaling_groups(cloud):
        for override in group.get("MixedInstancesPolicy", {}).get("LaunchTemplate", {}).get("Overrides", ()):
            if image_id := override.get("ImageId"):
                users.setdefault(_image_id(cloud, image_id), f"Auto Scaling group {group['AutoScalingGroupName']}")
    return {image_id: user for image_id, user in users.items() if image_id in ids}


def _image_id(cloud: Cloud, reference: str) -> str:
    """Return the AMI that a launch template names, directly or by `resolve:ssm:`; empty without such a parameter."""
    if not reference.startswith("resolve:ssm:"):
        return reference
    try:
        name = reference.removeprefix("resolve:ssm:")
        return cloud("ssm").get_parameter(Name=name)["Parameter"]["Value"]
    except ClientError as error:
        if code_of(error) not in ("ParameterNotFound", "ParameterVersionNotFound", "ParameterVersionLabelNotFound"):
            raise
        return ""
