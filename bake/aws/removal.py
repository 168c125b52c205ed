"""Taking away what is ours: machines, their volumes and security groups, in the order in which AWS lets go of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

from botocore.exceptions import ClientError

from bake.aws import machines, tags
from bake.aws.session import Cloud, code_of
from bake.progress import Phase

#: What AWS says while something else still holds what is to go, and once it is gone.
HELD = {"DependencyViolation", "VolumeInUse", "InvalidGroup.InUse", "InvalidSnapshot.InUse", "IncorrectState"}
GONE = {"InvalidGroup.NotFound", "InvalidVolume.NotFound", "InvalidSnapshot.NotFound", "InvalidInstanceID.NotFound"}


def end(cloud: Cloud, names: Iterable[str], phase: Phase) -> None:
    """Terminate instances; returns when they are. A machine that is shut down writes its files first."""
    names = list(names)
    for name in names:
        try:
            cloud("ec2").terminate_instances(InstanceIds=[name])
        except ClientError as error:
            if code_of(error) not in GONE:
                raise

    def ended() -> bool | None:
        alive = [one for one in machines.described(cloud, names) if one["State"]["Name"] != "terminated"]
        return None if alive else True

    machines.until(ended, f"ended {', '.join(names)}", phase)


def delete_groups(cloud: Cloud, names: Iterable[str], phase: Phase) -> None:
    """Delete security groups; an interface that is going may hold them for a while."""
    _delete(cloud("ec2").delete_security_group, "GroupId", names, phase)


def delete_volumes(cloud: Cloud, names: Iterable[str], phase: Phase) -> None:
    """Delete volumes, and what is on them."""
    _delete(cloud("ec2").delete_volume, "VolumeId", names, phase)


def delete_snapshots(cloud: Cloud, names: Iterable[str], phase: Phase) -> None:
    """Delete snapshots; an AMI that was deregistered may hold its own for a while."""
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
        machines.until(partial(gone, name), f"let go of {name}", phase)


def our_groups(cloud: Cloud, names: Iterable[str]) -> list[str]:
    """Those security groups that are ours."""
    filters = [{"Name": "group-id", "Values": list(names)}, *tags.having(run="")]
    if not filters[0]["Values"]:
        return []
    return [
        str(one["GroupId"]) for one in cloud.pages("ec2", "describe_security_groups", "SecurityGroups", Filters=filters)
    ]
