"""Retire the previous instance: check that nothing is lost, hand over its volume and its address, or give them back.

The call that creates the new instance records in its tags the volume and the address that it takes over. The rollback
needs only these tags. So it is the same for a launch that fails and for a sweep, on any computer, after a launch that
was killed.
"""

from __future__ import annotations

from dataclasses import dataclass

from botocore.exceptions import BotoCoreError, ClientError

from bake.aws import tags
from bake.aws.instances import inventory, removal
from bake.aws.session import Cloud, code_of
from bake.config import contract
from bake.errors import BakeError, RetireError
from bake.host.progress import Phase

#: The device name for the data volume. On current instance types, the machine finds it by its serial, the volume's id.
DEVICE = "/dev/sdf"
#: Tags of a new instance: the owner of the volume that it takes over and that owner's state; the Elastic IP that it
#: takes over and the previous holder.
PREVIOUS, ADDRESS = "bake:before", "bake:address"


@dataclass(frozen=True)
class PreviousInstance:
    """An instance to retire: its data volume, its security groups, and whether it runs."""

    id: str
    volume: str | None
    groups: tuple[str, ...]
    is_running: bool


def find_previous(cloud: Cloud, instance_id: str, *, forget_data: bool, forget_certificate: bool) -> PreviousInstance:
    """Return the facts of an instance to retire. Raises RetireError if data or a certificate would be lost."""
    instances = [instance for instance in inventory.live_instances(cloud) if instance["InstanceId"] == instance_id]
    if not instances:
        raise RetireError(
            f"{instance_id} is not an instance that bake created in {cloud.region}",
            "`bake ls` lists the instances that bake created.",
        )
    (instance,) = instances
    instance_tags = tags.read(instance)
    volume = instance_tags.get(inventory.DATA)
    if not volume and not forget_data:
        raise RetireError(
            f"{instance_id} has its data on its root disk, which would be deleted",
            f"Save {contract.DATA}, then pass --forget-data. (Launched with --data, an instance hands over its "
            "volume.)",
        )
    keeps_certificate = instance_tags.get(inventory.KEEP, "").startswith("s3://")
    if instance_tags.get(inventory.DOMAINS) and not keeps_certificate and not forget_certificate:
        raise RetireError(
            f"{instance_id} may have a certificate for {instance_tags[inventory.DOMAINS]}, which would be deleted",
            "Keep it with `certificate: {keep: s3://…}` in bake.yaml, or pass --forget-certificate to order a new one.",
        )
    return PreviousInstance(
        instance_id, volume, tuple(inventory.groups_of(instance)), instance["State"]["Name"] in ("pending", "running")
    )


def attach(cloud: Cloud, volume: str, instance_id: str, phase: Phase) -> None:
    """Wait until a volume is available, and attach it to an instance."""
    inventory.until(lambda: _volume_has_state(cloud, volume, "available"), f"detached {volume}", phase)
    try:
        cloud("ec2").attach_volume(VolumeId=volume, InstanceId=instance_id, Device=DEVICE)
    except ClientError as error:
        # If the first response was lost, boto3 retries, and the volume is attached already.
        if code_of(error) != "VolumeInUse" or _holder(cloud, volume) != instance_id:
            raise
    inventory.until(lambda: _volume_has_state(cloud, volume, "in-use"), f"attached {volume}", phase)


def hand_over(cloud: Cloud, previous: PreviousInstance, instance_id: str, phase: Phase) -> None:
    """Stop the previous instance, so that it writes its data to disk, and attach its volume to another instance."""
    assert previous.volume
    stop(cloud, previous.id, phase)
    _detach(cloud, previous.volume, previous.id)
    attach(cloud, previous.volume, instance_id, phase)


def takeover_tags(previous: PreviousInstance | None, address: str | None, holder: str | None) -> tags.Tags:
    """Return the tags that record a takeover: of the volume of `previous`, and of the address of `holder`."""
    return {
        PREVIOUS: f"{previous.id} {'running' if previous.is_running else 'stopped'}" if previous else "",
        ADDRESS: f"{address} {holder}" if address and holder else "",
    }


def associate_address(cloud: Cloud, address: str, instance_id: str) -> None:
    """Associate an Elastic IP with an instance."""
    cloud("ec2").associate_address(AllocationId=address, InstanceId=instance_id, AllowReassociation=True)


def give_back(cloud: Cloud, instance_id: str, instance_tags: tags.Tags, phase: Phase) -> None:
    """Give back the volume and the address that an instance took over, according to its tags.

    A resource that another instance has meanwhile is left alone. Raises the first error after trying both.
    """
    errors = []
    for give_back_part in (_give_address, _give_volume):
        try:
            give_back_part(cloud, instance_id, instance_tags, phase)
        except (ClientError, BotoCoreError, BakeError) as error:
            errors.append(error)
    if errors:
        raise errors[0]


def _give_address(cloud: Cloud, instance_id: str, instance_tags: tags.Tags, phase: Phase) -> None:
    address, _, holder = instance_tags.get(ADDRESS, "").partition(" ")
    if not holder or _state(cloud, holder) not in inventory.ALIVE:
        return
    elastic_ips = cloud("ec2").describe_addresses(Filters=[{"Name": "allocation-id", "Values": [address]}])["Addresses"]
    for elastic_ip in elastic_ips:
        if elastic_ip.get("InstanceId") == instance_id:
            associate_address(cloud, address, holder)


def _give_volume(cloud: Cloud, instance_id: str, instance_tags: tags.Tags, phase: Phase) -> None:
    previous_id, _, previous_state = instance_tags.get(PREVIOUS, "").partition(" ")
    if not previous_id:
        return
    volume = instance_tags[inventory.DATA]
    owners = {instance["InstanceId"] for instance in inventory.live_instances(cloud, data=volume)} - {instance_id}
    # Another instance with this tag belongs to a later launch, which has the volume or is about to take it over.
    if owners != {previous_id}:
        return
    holder = _holder(cloud, volume)
    if holder not in (previous_id, instance_id, None):
        return
    if holder == instance_id:
        if _state(cloud, instance_id) in inventory.ALIVE:
            stop(cloud, instance_id, phase)
        _detach(cloud, volume, instance_id)
    if holder != previous_id:
        attach(cloud, volume, previous_id, phase)
    if previous_state == "running" and _state(cloud, previous_id) in ("stopping", "stopped"):
        _await_state(cloud, previous_id, "stopped", phase)
        cloud("ec2").start_instances(InstanceIds=[previous_id])
        _await_state(cloud, previous_id, "running", phase)


def terminate(cloud: Cloud, previous: PreviousInstance, phase: Phase) -> None:
    """Terminate an instance, and delete those of its security groups that bake created."""
    groups = removal.bake_groups(cloud, previous.groups)
    removal.terminate(cloud, [previous.id], phase)
    removal.delete_groups(cloud, groups, phase)


def stop(cloud: Cloud, instance_id: str, phase: Phase) -> None:
    """Stop an instance and wait until it is stopped."""
    cloud("ec2").stop_instances(InstanceIds=[instance_id])
    _await_state(cloud, instance_id, "stopped", phase)


def _await_state(cloud: Cloud, instance_id: str, state: str, phase: Phase) -> None:
    inventory.until(
        lambda: _state(cloud, instance_id) == state or None, f"changed the state of {instance_id} to {state}", phase
    )


def _state(cloud: Cloud, instance_id: str) -> str:
    """Return an instance's state, or an empty string if AWS does not list it."""
    return next((instance["State"]["Name"] for instance in inventory.describe_instances(cloud, [instance_id])), "")


def _detach(cloud: Cloud, volume: str, instance_id: str) -> None:
    try:
        cloud("ec2").detach_volume(VolumeId=volume, InstanceId=instance_id)
    except ClientError:
        # As in `attach`, a retry may fail although the first request succeeded.
        if _holder(cloud, volume) == instance_id:
            raise


def _volume_has_state(cloud: Cloud, volume: str, state: str) -> bool | None:
    return inventory.describe_volume(cloud, volume)["State"] == state or None


def _holder(cloud: Cloud, volume: str) -> str | None:
    """Return the instance to which a volume is attached, unless it is being detached."""
    instance_ids = [
        attachment["InstanceId"]
        for attachment in inventory.describe_volume(cloud, volume).get("Attachments", ())
        if attachment.get("State") != "detaching"
    ]
    return instance_ids[0] if instance_ids else None
