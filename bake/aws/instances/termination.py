"""Terminate instances that bake created, with their security groups and, on request, their data volumes."""

from __future__ import annotations

from dataclasses import dataclass

from bake.aws import tags
from bake.aws.instances import inventory, removal
from bake.aws.session import Cloud, refusals
from bake.errors import CloudError, RetireError
from bake.host.progress import Reporter


@dataclass(frozen=True)
class Ended:
    """The ids of the terminated instances, and of the data volumes that remain."""

    machines: list[str]
    volumes: list[str]


def down(name: str, *, every: bool, with_data: bool, cloud: Cloud, report: Reporter) -> Ended:
    """Terminate an instance by its id, or the one of an app by its name. `every` allows several instances."""
    with refusals(cloud):
        is_id = name.startswith("i-")
        found = [
            one
            for one in inventory.ours(cloud)
            if name == (one["InstanceId"] if is_id else tags.read(one).get(tags.APP))
        ]
        if not found:
            what = f"{name} is not an instance that bake created" if is_id else f"{name} has no instance"
            raise RetireError(f"{what} in {cloud.region}", "`bake ls` lists the instances that bake created.")
        names = [str(one["InstanceId"]) for one in found]
        if len(names) > 1 and not every:
            raise RetireError(f"{name} has {len(names)} instances: {', '.join(names)}", "Pass the id of one, or --all.")
        volumes = [data for one in found if (data := tags.read(one).get(inventory.DATA))]
        if with_data:
            _require_ours(cloud, volumes)
        groups = removal.our_groups(cloud, dict.fromkeys(group for one in found for group in inventory.groups_of(one)))
        with report.phase("terminate") as phase:
            removal.end(cloud, names, phase)
            removal.delete_groups(cloud, groups, phase)
            if with_data:
                removal.delete_volumes(cloud, volumes, phase)
    return Ended(names, [] if with_data else volumes)


def _require_ours(cloud: Cloud, volumes: list[str]) -> None:
    """Raise RetireError for volumes that bake did not create."""
    for name in volumes:
        try:
            found = inventory.volume(cloud, name)
        except CloudError:
            # The volume was deleted already.
            continue
        if tags.RUN not in tags.read(found):
            raise RetireError(
                f"bake did not create the volume {name}",
                f"Omit --with-data, and delete the volume yourself: {delete(cloud, name)}",
            )


def delete(cloud: Cloud, volume: str) -> str:
    """Return the command that deletes a volume."""
    return f"`aws ec2 delete-volume --region {cloud.region} --volume-id {volume}`"
