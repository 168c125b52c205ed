"""Retire the previous instance: check that nothing is lost, hand over its volume and its address, or give them back.

The call that creates the new instance records in its tags what the launch takes over. The rollback needs only these
tags. So it is the same for a launch that fails and for a sweep, on any computer, after a launch that was killed.
"""

from __future__ import annotations

from dataclasses import dataclass

from botocore.exceptions import BotoCoreError, ClientError

from bake.aws import tags
from bake.aws.instances import inventory, removal
from bake.aws.session import Cloud, code_of
from bake.errors import BakeError, RetireError
from bake.host.progress import Phase

#: The device name for the data volume. On current instance types, the machine finds it by its serial, the volume's id.
DEVICE = "/dev/sdf"
#: Tags of a new instance: the owner of the volume that it takes over and that owner's state; the Elastic IP that it
#: takes over and the previous holder.
BEFORE, ADDRESS = "bake:before", "bake:address"


@dataclass(frozen=True)
class Old:
    """An instance to retire: its data volume, its security groups, and whether it runs."""

    name: str
    volume: str | None
    groups: tuple[str, ...]
    is_running: bool


def look(cloud: Cloud, name: str, *, forget_data: bool, forget_certificate: bool) -> Old:
    """Return the facts of an instance to retire. Raises RetireError if data or a certificate would be lost."""
    found = [one for one in inventory.ours(cloud) if one["InstanceId"] == name]
    if not found:
        raise RetireError(
            f"{name} is not an instance that bake created in {cloud.region}",
            "`bake ls` lists the instances that bake created.",
        )
    (one,) = found
    said = tags.read(one)
    volume = said.get(inventory.DATA)
    if not volume and not forget_data:
        raise RetireError(
            f"{name} has its data on its root disk, which would be deleted",
            "Save /var/lib/app, then pass --forget-data. (Launched with --data, an instance hands over its volume.)",
        )
    kept = said.get(inventory.KEEP, "").startswith("s3://")
    if said.get(inventory.DOMAINS) and not kept and not forget_certificate:
        raise RetireError(
            f"{name} may have a certificate for {said[inventory.DOMAINS]}, which would be deleted",
            "Keep it with `certificate: {keep: s3://…}` in bake.yaml, or pass --forget-certificate to order a new one.",
        )
    return Old(name, volume, tuple(inventory.groups_of(one)), one["State"]["Name"] in ("pending", "running"))


def attach(cloud: Cloud, volume: str, name: str, phase: Phase) -> None:
    """Wait until a volume is available, and attach it to an instance."""
    inventory.until(lambda: _is(cloud, volume, "available"), f"detached {volume}", phase)
    try:
        cloud("ec2").attach_volume(VolumeId=volume, InstanceId=name, Device=DEVICE)
    except ClientError as error:
        # If the first response was lost, boto3 retries, and the volume is attached already.
        if code_of(error) != "VolumeInUse" or _holder(cloud, volume) != name:
            raise
    inventory.until(lambda: _is(cloud, volume, "in-use"), f"attached {volume}", phase)


def hand_over(cloud: Cloud, old: Old, name: str, phase: Phase) -> None:
    """Stop the previous instance, so that it writes its data to disk, and attach its volume to another instance."""
    assert old.volume
    stop(cloud, old.name, phase)
    _detach(cloud, old.volume, old.name)
    attach(cloud, old.volume, name, phase)


def notes(old: Old | None, address: str | None, holder: str | None) -> tags.Tags:
    """Return the tags that record what an instance takes over: the volume of `old` and the address of `holder`."""
    return {
        BEFORE: f"{old.name} {'running' if old.is_running else 'stopped'}" if old else "",
        ADDRESS: f"{address} {holder}" if address and holder else "",
    }


def lead(cloud: Cloud, address: str, name: str) -> None:
    """Associate an Elastic IP with an instance."""
    cloud("ec2").associate_address(AllocationId=address, InstanceId=name, AllowReassociation=True)


def give_back(cloud: Cloud, name: str, said: tags.Tags, phase: Phase) -> None:
    """Give back the volume and the address that an instance took over, according to its tags.

    A resource that another instance has meanwhile is left alone. Raises the first error after trying both.
    """
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
    if not holder or _state(cloud, holder) not in inventory.ALIVE:
        return
    filters = [{"Name": "allocation-id", "Values": [address]}]
    for found in cloud("ec2").describe_addresses(Filters=filters)["Addresses"]:
        if found.get("InstanceId") == name:
            lead(cloud, address, holder)


def _give_volume(cloud: Cloud, name: str, said: tags.Tags, phase: Phase) -> None:
    before, _, was = said.get(BEFORE, "").partition(" ")
    if not before:
        return
    volume = said[inventory.DATA]
    claim = {one["InstanceId"] for one in inventory.ours(cloud, data=volume)} - {name}
    # Another instance with this tag belongs to a later launch, which has the volume or is about to take it over.
    if claim != {before}:
        return
    holder = _holder(cloud, volume)
    if holder not in (before, name, None):
        return
    if holder == name:
        if _state(cloud, name) in inventory.ALIVE:
            stop(cloud, name, phase)
        _detach(cloud, volume, name)
    if holder != before:
        attach(cloud, volume, before, phase)
    if was == "running" and _state(cloud, before) in ("stopping", "stopped"):
        _await(cloud, before, "stopped", phase)
        cloud("ec2").start_instances(InstanceIds=[before])
        _await(cloud, before, "running", phase)


def end(cloud: Cloud, old: Old, phase: Phase) -> None:
    """Terminate an instance, and delete those of its security groups that bake created."""
    groups = removal.our_groups(cloud, old.groups)
    removal.end(cloud, [old.name], phase)
    removal.delete_groups(cloud, groups, phase)


def stop(cloud: Cloud, name: str, phase: Phase) -> None:
    """Stop an instance and wait until it is stopped."""
    cloud("ec2").stop_instances(InstanceIds=[name])
    _await(cloud, name, "stopped", phase)


def _await(cloud: Cloud, name: str, state: str, phase: Phase) -> None:
    inventory.until(lambda: _state(cloud, name) == state or None, f"changed the state of {name} to {state}", phase)


def _state(cloud: Cloud, name: str) -> str:
    """Return an instance's state, or an empty string if AWS does not list it."""
    return next((str(one["State"]["Name"]) for one in inventory.described(cloud, [name])), "")


def _detach(cloud: Cloud, volume: str, name: str) -> None:
    try:
        cloud("ec2").detach_volume(VolumeId=volume, InstanceId=name)
    except ClientError:
        # As in `attach`, a retry may fail although the first request succeeded.
        if _holder(cloud, volume) == name:
            raise


def _is(cloud: Cloud, volume: str, state: str) -> bool | None:
    return inventory.volume(cloud, volume)["State"] == state or None


def _holder(cloud: Cloud, volume: str) -> str | None:
    """Return the instance to which a volume is attached, unless it is being detached."""
    held = [
        str(one["InstanceId"])
        for one in inventory.volume(cloud, volume).get("Attachments", ())
        if one.get("State") != "detaching"
    ]
    return held[0] if held else None
