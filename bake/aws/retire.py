"""The machine before: whether it may go, the way of its data and its address to the next one, and back.

What a launch takes is noted in tags of the new machine, from the call on that makes it. The way back needs nothing
else, and so is the same for a launch that undoes itself and for a sweep, anywhere, of one that was killed.
"""

from __future__ import annotations

from dataclasses import dataclass

from botocore.exceptions import BotoCoreError, ClientError

from bake.aws import machines, removal, tags
from bake.aws.session import Cloud, code_of
from bake.errors import BakeError, RetireError
from bake.progress import Phase

#: Where a machine sees its data's volume attached; on today's types it is found by its serial, the volume's id.
DEVICE = "/dev/sdf"
#: Tags of a new machine: whose volume it takes, and whether that one ran; which address it takes, and who had it.
BEFORE, ADDRESS = "bake:before", "bake:address"


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


def notes(old: Old | None, address: str | None, holder: str | None) -> tags.Tags:
    """The tags that say what a machine takes: the volume of `old`, and the address of `holder`."""
    return {
        BEFORE: f"{old.name} {'running' if old.is_running else 'stopped'}" if old else "",
        ADDRESS: f"{address} {holder}" if address and holder else "",
    }


def lead(cloud: Cloud, address: str, name: str) -> None:
    """Lead an Elastic IP to a machine."""
    cloud("ec2").associate_address(AllocationId=address, InstanceId=name, AllowReassociation=True)


def give_back(cloud: Cloud, name: str, said: tags.Tags, phase: Phase) -> None:
    """What a machine that goes has taken, by its tags, goes back; what somebody else has meanwhile is left alone."""
    faults = []
    for give in (_give_address, _give_volume):
        try:
            give(cloud, name, said, phase)
        except (ClientError, BotoCoreError, BakeError) as error:
            faults.append(error)
    if faults:
        raise faults[0]


def _give_address(cloud: Cloud, name: str, said: tags.Tags, phase: Phase) -> None:
    address, _, holder = said.get(ADDRESS, "").partition(" ")
    if not holder or _state(cloud, holder) not in machines.ALIVE:
        return
    filters = [{"Name": "allocation-id", "Values": [address]}]
    for found in cloud("ec2").describe_addresses(Filters=filters)["Addresses"]:
        if found.get("InstanceId") == name:
            lead(cloud, address, holder)


def _give_volume(cloud: Cloud, name: str, said: tags.Tags, phase: Phase) -> None:
    before, _, was = said.get(BEFORE, "").partition(" ")
    if not before:
        return
    volume = said[machines.DATA]
    claim = {one["InstanceId"] for one in machines.ours(cloud, data=volume)} - {name}
    # A third one is a later launch's, which has the volume or is about to take it.
    if claim != {before}:
        return
    holder = _holder(cloud, volume)
    if holder not in (before, name, None):
        return
    if holder == name:
        if _state(cloud, name) in machines.ALIVE:
            stop(cloud, name, phase)
        _detach(cloud, volume, name)
    if holder != before:
        attach(cloud, volume, before, phase)
    if was == "running" and _state(cloud, before) in ("stopping", "stopped"):
        _await(cloud, before, "stopped", phase)
        cloud("ec2").start_instances(InstanceIds=[before])
        _await(cloud, before, "running", phase)


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
    machines.until(lambda: _state(cloud, name) == state or None, f"brought {name} to {state}", phase)


def _state(cloud: Cloud, name: str) -> str:
    """A machine's state; empty for one that AWS does not know."""
    return next((str(one["State"]["Name"]) for one in machines.described(cloud, [name])), "")


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
    """Which machine has a volume, and is not letting go of it."""
    held = [
        str(one["InstanceId"])
        for one in machines.volume(cloud, volume).get("Attachments", ())
        if one.get("State") != "detaching"
    ]
    return held[0] if held else None
