"""Remove instances, volumes, security groups and snapshots that bake created, and wait until AWS has removed them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

from botocore.exceptions import ClientError

from bake.aws import tags
from bake.aws.instances import inventory
from bake.aws.session import Cloud, code_of
from bake.host.progress import Phase

#: AWS's error codes for a resource that is still in use, and for one that no longer exists.
HELD = {"DependencyViolation", "VolumeInUse", "InvalidGroup.InUse", "InvalidSnapshot.InUse", "IncorrectState"}
GONE = {"InvalidGroup.NotFound", "InvalidVolume.NotFound", "InvalidSnapshot.NotFound", "InvalidInstanceID.NotFound"}


def end(cloud: Cloud, names: Iterable[str], phase: Phase) -> None:
    """Terminate instances and wait until they are terminated. They shut down first and write their files."""
    names = list(names)
    for name in names:
        try:
            cloud("ec2").terminate_instances(InstanceIds=[name])
        except ClientError as error:
            if code_of(error) not in GONE:
                raise

    def ended() -> bool | None:
        alive = [one for one in inventory.described(cloud, names) if one["State"]["Name"] != "terminated"]
        return None if alive else True

    inventory.until(ended, f"terminated {', '.join(names)}", phase)


def delete_groups(cloud: Cloud, names: Iterable[str], phase: Phase) -> None:
    """Delete security groups, and retry while a network interface that is being deleted still uses them."""
    _delete(cloud("ec2").delete_security_group, "GroupId", names, phase)


def delete_volumes(cloud: Cloud, names: Iterable[str], phase: Phase) -> None:
    """Delete volumes with their data."""
    _delete(cloud("ec2").delete_volume, "VolumeId", names, phase)


def delete_snapshots(cloud: Cloud, names: Iterable[str], phase: Phase) -> None:
    """Delete snapshots, and retry while a deregistered AMI still uses them."""
    _delete(cloud("ec2").delete_snapshot, "SnapshotId", names, phase)


def _delete(delete: Callable[..., object], key: str, names: Iterable[str], phase: Phase) -> None:
    def gone(name: str) -> bool | None:
        try:
            delete(**{key: name})
        except ClientError as error:
            if code_of(error) in HELD:
                return None
            if code_of(error) not in GONE:
                raise
        return True

    for name in names:
        inventory.until(partial(gone, name), f"deleted {name}", phase)


def our_groups(cloud: Cloud, names: Iterable[str]) -> list[str]:
    """Return those security groups that bake created."""
    filters = [{"Name": "group-id", "Values": list(names)}, *tags.having(run="")]
    if not filters[0]["Values"]:
        return []
    return [
        str(one["GroupId"]) for one in cloud.pages("ec2", "describe_security_groups", "SecurityGroups", Filters=filters)
    ]
