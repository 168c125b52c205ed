"""The machine before: whether it may go, its data's way to the next one, and back."""

from __future__ import annotations

from dataclasses import dataclass

from botocore.exceptions import ClientError

from bake.aws import machines, removal, tags
from bake.aws.session import Cloud, code_of
from bake.errors import RetireError
from bake.progress import Phase

#: Where a machine sees its data's volume attached; on today's types it is found by its serial, the volume's id.
DEVICE = "/dev/sdf"


@dataclass(frozen=True)
class Old:
    """A machine that is to end: its data's volume, its security groups, and whether it serves."""

    name: str
    volume: str | None
    groups: tuple[str, ...]
    is_running: bool


def look(cloud: Cloud, name: str, *, forget_data: bool, forget_certificate: bool) -> Old:
    """What is known of a machine that is to end. Raises RetireError where something would be lost with it."""
    found = [one for one in machines.ours(cloud) if one["InstanceId"] == name]
    if not found:
        raise RetireError(f"{name} is no machine of bake's in {cloud.region}", "`bake ls` shows those that are.")
    (one,) = found
    said = tags.read(one)
    volume = said.get(machines.DATA)
    if not volume and not forget_data:
        raise RetireError(
            f"{name} keeps its data on its own disk, which goes with it",
            "Save /var/lib/app, and say --forget-data. A machine with --data has a volume that moves to the next.",
        )
    kept = said.get(machines.KEEP, "").startswith("s3://")
    if said.get(machines.DOMAINS) and not kept and not forget_certificate:
        raise RetireError(
            f"{name} may have a certificate for {said[machines.DOMAINS]}, which goes with it",
            "`certificate: {keep: s3://…}` in bake.yaml keeps it; or say --forget-certificate: the next orders anew.",
        )
    return Old(name, volume, tuple(machines.groups_of(one)), one["State"]["Name"] in ("pending", "running"))


def attach(cloud: Cloud, volume: str, name: str, phase: Phase) -> None:
    """Attach a volume to a machine, once nothing else has it."""
    machines.until(lambda: _is(cloud, volume, "available"), f"let go of {volume}", phase)
    try:
        cloud("ec2").attach_volume(VolumeId=volume, InstanceId=name, Device=DEVICE)
    except ClientError as error:
        # The answer to the first try may have been lost, and boto3 have asked again.
        if code_of(error) != "VolumeInUse" or _holder(cloud, volume) != name:
            raise
    machines.until(lambda: _is(cloud, volume, "in-use"), f"attached {volume}", phase)


def hand_over(cloud: Cloud, old: Old, name: str, phase: Phase) -> None:
    """Stop a machine, which writes what it has in memory, and give its volume to another."""
    assert old.volume
    stop(cloud, old.name, phase)
    _detach(cloud, old.volume, old.name)
    attach(cloud, old.volume, name, phase)


def take_back(cloud: Cloud, old: Old, phase: Phase) -> None:
    """Give a machine its volume again, and start it. Whoever had the volume meanwhile is stopped first."""
    assert old.volume
    holder = _holder(cloud, old.volume)
    if holder and holder != old.name:
        if any(one["State"]["Name"] in machines.ALIVE for one in machines.described(cloud, [holder])):
            stop(cloud, holder, phase)
        _detach(cloud, old.volume, holder)
    if holder != old.name:
        attach(cloud, old.volume, old.name, phase)
    if old.is_running:
        _await(cloud, old.name, "stopped", phase)
        cloud("ec2").start_instances(InstanceIds=[old.name])
        _await(cloud, old.name, "running", phase)


def end(cloud: Cloud, old: Old, phase: Phase) -> None:
    """End a machine, and its security groups that are ours."""
    groups = removal.our_groups(cloud, old.groups)
    removal.end(cloud, [old.name], phase)
    removal.delete_groups(cloud, groups, phase)


def stop(cloud: Cloud, name: str, phase: Phase) -> None:
    """Stop a machine; returns when it is."""
    cloud("ec2").stop_instances(InstanceIds=[name])
    _await(cloud, name, "stopped", phase)


def _await(cloud: Cloud, name: str, state: str, phase: Phase) -> None:
    def reached() -> bool | None:
        return any(one["State"]["Name"] == state for one in machines.described(cloud, [name])) or None

    machines.until(reached, f"brought {name} to {state}", phase)


def _detach(cloud: Cloud, volume: str, name: str) -> None:
    try:
        cloud("ec2").detach_volume(VolumeId=volume, InstanceId=name)
    except ClientError:
        # As with attaching.
        if _holder(cloud, volume) == name:
            raise


def _is(cloud: Cloud, volume: str, state: str) -> bool | None:
    return machines.volume(cloud, volume)["State"] == state or None


def _holder(cloud: Cloud, volume: str) -> str | None:
    """Which machine has a volume."""
    held = [str(one["InstanceId"]) for one in machines.volume(cloud, volume).get("Attachments", ())]
    return held[0] if held else None
