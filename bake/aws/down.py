"""Ending machines: those of ours alone, their security groups with them, their data's volumes only when told."""

from __future__ import annotations

from dataclasses import dataclass

from bake.aws import machines, removal, tags
from bake.aws.session import Cloud, refusals
from bake.errors import CloudError, RetireError
from bake.progress import Reporter


@dataclass(frozen=True)
class Ended:
    """Ids of what has ended, and of the data's volumes that are still there."""

    machines: list[str]
    volumes: list[str]


def down(name: str, *, every: bool, with_data: bool, cloud: Cloud, report: Reporter) -> Ended:
    """End a machine by its id, or an app's by its name; `every`: also where there are several."""
    with refusals(cloud):
        is_id = name.startswith("i-")
        found = [
            one
            for one in machines.ours(cloud)
            if name == (one["InstanceId"] if is_id else tags.read(one).get(tags.APP))
        ]
        if not found:
            what = f"{name} is no machine of bake's" if is_id else f"{name} has no machine"
            raise RetireError(f"{what} in {cloud.region}", "`bake ls` shows those that are.")
        names = [str(one["InstanceId"]) for one in found]
        if len(names) > 1 and not every:
            raise RetireError(f"{name} has {len(names)} machines: {', '.join(names)}", "Name one, or say --all.")
        volumes = [data for one in found if (data := tags.read(one).get(machines.DATA))]
        if with_data:
            _require_ours(cloud, volumes)
        groups = removal.our_groups(cloud, dict.fromkeys(group for one in found for group in machines.groups_of(one)))
        with report.phase("down") as phase:
            removal.end(cloud, names, phase)
            removal.delete_groups(cloud, groups, phase)
            if with_data:
                removal.delete_volumes(cloud, volumes, phase)
    return Ended(names, [] if with_data else volumes)


def _require_ours(cloud: Cloud, volumes: list[str]) -> None:
    """Raise RetireError for volumes that were somebody's before they were a machine's."""
    for name in volumes:
        try:
            found = machines.volume(cloud, name)
        except CloudError:
            # Somebody has deleted it already.
            continue
        if tags.RUN not in tags.read(found):
            raise RetireError(
                f"{name} was not made by bake", f"Leave out --with-data, and delete it yourself: {delete(cloud, name)}"
            )


def delete(cloud: Cloud, volume: str) -> str:
    """What to type to delete a volume."""
    return f"`aws ec2 delete-volume --region {cloud.region} --volume-id {volume}`"
