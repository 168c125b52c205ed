"""Terminate instances that bake created, with their security groups and, on request, their data volumes."""

from __future__ import annotations

import re
from dataclasses import dataclass

from bake.aws import tags
from bake.aws.instances import inventory, removal
from bake.aws.session import Cloud, aws_errors
from bake.errors import CloudError, RetireError
from bake.host.progress import Reporter

#: The id of an instance. An app's name may also begin with `i-`.
ID = re.compile(r"i-([0-9a-f]{8}|[0-9a-f]{17})")


@dataclass(frozen=True)
class Termination:
    """The ids of the terminated instances, and of the data volumes that remain."""

    instance_ids: list[str]
    volume_ids: list[str]


def down(name: str, *, allow_several: bool, with_data: bool, cloud: Cloud, report: Reporter) -> Termination:
    """Terminate an instance by its id, or the one of an app by its name. `allow_several` allows several instances."""
    with aws_errors(cloud):
        is_id = ID.fullmatch(name) is not None
        instances = [
            instance
            for instance in inventory.live_instances(cloud)
            if name == (instance["InstanceId"] if is_id else tags.read(instance).get(tags.APP))
        ]
        if not instances:
            problem = f"{name} is not an instance that bake created" if is_id else f"{name} has no instance"
            raise RetireError(f"{problem} in {cloud.region}", "`bake ls` lists the instances that bake created.")
        instance_ids = [instance["InstanceId"] for instance in instances]
        if len(instance_ids) > 1 and not allow_several:
            raise RetireError(
                f"{name} has {len(instance_ids)} instances: {', '.join(instance_ids)}", "Pass the id of one, or --all."
            )
        volume_ids = [volume_id for instance in instances if (volume_id := tags.read(instance).get(inventory.DATA))]
        if with_data:
            _require_bake_volumes(cloud, volume_ids)
        groups = removal.bake_groups(
            cloud, dict.fromkeys(group for instance in instances for group in inventory.groups_of(instance))
        )
        with report.phase("terminate") as phase:
            removal.terminate(cloud, instance_ids, phase)
            removal.delete_groups(cloud, groups, phase)
            if with_data:
                removal.delete_volumes(cloud, volume_ids, phase)
    return Termination(instance_ids, [] if with_data else volume_ids)


def _require_bake_volumes(cloud: Cloud, volume_ids: list[str]) -> None:
    """Raise RetireError for volumes that bake did not create."""
    for volume_id in volume_ids:
        try:
            volume = inventory.describe_volume(cloud, volume_id)
        except CloudError:
            # The volume was deleted already.
            continue
        if tags.RUN not in tags.read(volume):
            raise RetireError(
                f"bake did not create the volume {volume_id}",
                f"Omit --with-data, and delete the volume yourself: {delete_command(cloud, volume_id)}",
            )


def delete_command(cloud: Cloud, volume_id: str) -> str:
    """Return the command that deletes a volume."""
    return f"`aws ec2 delete-volume --region {cloud.region} --volume-id {volume_id}`"
