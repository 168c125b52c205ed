"""Remove instances, volumes, security groups and snapshots that bake created, and wait until AWS has removed them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

from botocore.exceptions import ClientError

from bake.aws import listing, tags
from bake.aws.instances import inventory
from bake.aws.session import Cloud, code_of
from bake.host.progress import Phase

#: AWS's error codes for a resource that is still in use, and for one that no longer exists.
IN_USE = {"DependencyViolation", "VolumeInUse", "InvalidGroup.InUse", "InvalidSnapshot.InUse", "IncorrectState"}
NOT_FOUND = {
    "InvalidGroup.NotFound",
    "InvalidVolume.NotFound",
    "InvalidSnapshot.NotFound",
    "InvalidInstanceID.NotFound",
}


def terminate(cloud: Cloud, instance_ids: Iterable[str], phase: Phase) -> None:
    """Terminate instances and wait until they are terminated. They shut down first and write their files."""
    instance_ids = list(instance_ids)
    for instance_id in instance_ids:
        try:
            cloud("ec2").terminate_instances(InstanceIds=[instance_id])
        except ClientError as error:
            if code_of(error) not in NOT_FOUND:
                raise

    def are_terminated() -> bool | None:
        live_instances = [
            instance
            for instance in inventory.describe_instances(cloud, instance_ids)
            if instance["State"]["Name"] != "terminated"
        ]
        return None if live_instances else True

    inventory.until(are_terminated, f"terminated {', '.join(instance_ids)}", phase)


def delete_groups(cloud: Cloud, group_ids: Iterable[str], phase: Phase) -> None:
    """Delete security groups, and retry while a network interface that is being deleted still uses them."""
    _delete(cloud("ec2").delete_security_group, "GroupId", group_ids, phase)


def delete_volumes(cloud: Cloud, volume_ids: Iterable[str], phase: Phase) -> None:
    """Delete volumes with their data."""
    _delete(cloud("ec2").delete_volume, "VolumeId", volume_ids, phase)


def delete_snapshots(cloud: Cloud, snapshot_ids: Iterable[str], phase: Phase) -> None:
    """Delete snapshots, and retry while a deregistered AMI still uses them."""
    _delete(cloud("ec2").delete_snapshot, "SnapshotId", snapshot_ids, phase)


def _delete(delete: Callable[..., object], key: str, ids: Iterable[str], phase: Phase) -> None:
    def try_delete(resource_id: str) -> bool | None:
        try:
            delete(**{key: resource_id})
        except ClientError as error:
            if code_of(error) in IN_USE:
                return None
            if code_of(error) not in NOT_FOUND:
                raise
        return True

    for resource_id in ids:
        inventory.until(partial(try_delete, resource_id), f"deleted {resource_id}", phase)


def bake_groups(cloud: Cloud, group_ids: Iterable[str]) -> list[str]:
    """Return those security groups that bake created."""
    ids = list(group_ids)
    if not ids:
        return []
    groups = listing.security_groups(cloud, [{"Name": "group-id", "Values": ids}, *tags.filters(run="")])
    return [group["GroupId"] for group in groups]
