"""Taking away what is ours: machines, their volumes and security groups, in the order in which AWS lets go of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable

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
    for name in names:
        _delete(lambda name=name: cloud("ec2").delete_security_group(GroupId=name), name, phase)  # type: ignore[misc]


def delete_volumes(cloud: Cloud, names: Iterable[str], phase: Phase) -> None:
    """Delete volumes, and what is on them."""
    for name in names:
        _delete(lambda name=name: cloud("ec2").delete_volume(VolumeId=name), name, phase)  # type: ignore[misc]


def delete_snapshots(cloud: Cloud, names: Iterable[str], phase: Phase) -> None:
    """Delete snapshots; an AMI that was deregistered may hold its own for a while."""
    for name in names:
        _delete(lambda name=name: cloud("ec2").delete_snapshot(SnapshotId=name), name, phase)  # type: ignore[misc]


def _delete(delete: Callable[[], object], name: str, phase: Phase) -> None:
    def gone() -> bool | None:
        try:
            delete()
        except ClientError as error:
            if code_of(error) in GONE:
                return True
            if code_of(error) in HELD:
                return None
            raise
        return True

    machines.until(gone, f"let go of {name}", phase)


def our_groups(cloud: Cloud, names: Iterable[str]) -> list[str]:
    """Those security groups that are ours."""
    filters = [{"Name": "group-id", "Values": list(names)}, *tags.having(run="")]
    if not filters[0]["Values"]:
        return []
    return [
        str(one["GroupId"]) for one in cloud.pages("ec2", "describe_security_groups", "SecurityGroups", Filters=filters)
    ]
