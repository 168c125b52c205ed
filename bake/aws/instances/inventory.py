"""Find, list and wait for the EC2 instances that bake created, by their tags."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from botocore.exceptions import ClientError

from bake.aws import tags
from bake.aws.session import Cloud, code_of, refusals
from bake.errors import BakeError, CloudError
from bake.host.progress import Phase

#: Tags of an instance: its image and version, its domains, the store of its certificate, and its data volume.
IMAGE, VERSION, DOMAINS, KEEP, DATA = "bake:image", "bake:version", "bake:domains", "bake:keep", "bake:data"
#: States of an instance that is not terminated.
ALIVE = ("pending", "running", "stopping", "stopped")
#: Seconds to wait for operations of AWS that take minutes.
PATIENCE = 600

T = TypeVar("T")


def until(
    look: Callable[[], T | None],
    what: str,
    phase: Phase,
    patience: float = PATIENCE,
    fault: type[BakeError] = CloudError,
) -> T:
    """Call `look` at growing intervals until it returns a value other than None, and return that value.

    Raises `fault` after `patience` seconds. `what` completes the sentence "AWS has not …".
    """
    begun, pause = time.monotonic(), 0.25
    while (found := look()) is None:
        waited = time.monotonic() - begun
        if waited > patience:
            raise fault(f"AWS has not {what} within {patience:.0f} s", "Run the same command again.")
        phase.progress(min(waited / patience, 1), f"waiting until AWS has {what}")
        time.sleep(pause)
        pause = min(pause * 1.5, 10)
    return found


def described(cloud: Cloud, names: Iterable[str]) -> list[dict[str, Any]]:
    """Return the instances with these ids. AWS may not list new ones yet, and no longer lists old ones."""
    filters = [{"Name": "instance-id", "Values": list(names)}]
    return _instances(cloud, filters) if filters[0]["Values"] else []


def ours(cloud: Cloud, **having: str) -> list[dict[str, Any]]:
    """Return bake's instances that are not terminating, with these tags (see tags.having)."""
    filters = [*tags.having(**{"run": "", **having}), {"Name": "instance-state-name", "Values": list(ALIVE)}]
    return sorted(_instances(cloud, filters), key=lambda one: str(one["LaunchTime"]))


def _instances(cloud: Cloud, filters: list[dict[str, Any]]) -> list[dict[str, Any]]:
    pages = cloud.pages("ec2", "describe_instances", "Reservations", Filters=filters)
    return [instance for reservation in pages for instance in reservation["Instances"]]


def address_of(instance: dict[str, Any]) -> str:
    """Return an instance's public address, or else its private one."""
    return str(instance.get("PublicIpAddress") or instance.get("PrivateIpAddress") or "")


def groups_of(instance: dict[str, Any]) -> list[str]:
    """Return the ids of an instance's security groups."""
    return [str(group["GroupId"]) for group in instance.get("SecurityGroups", ())]


def group_named(cloud: Cloud, name: str, phase: Phase) -> str:
    """Wait until AWS lists a security group with this name, which is unique to a run, and return its id."""
    filters = [*tags.having(run=""), {"Name": "group-name", "Values": [name]}]

    def known() -> str | None:
        found = cloud("ec2").describe_security_groups(Filters=filters)["SecurityGroups"]
        return str(found[0]["GroupId"]) if found else None

    return until(known, f"listed {name}", phase)


def volume(cloud: Cloud, name: str) -> dict[str, Any]:
    """Return the description of a volume. Raises CloudError if it does not exist."""
    try:
        (found,) = cloud("ec2").describe_volumes(VolumeIds=[name])["Volumes"]
    except ClientError as error:
        if code_of(error) == "InvalidVolume.NotFound":
            raise CloudError(
                f"There is no volume {name} in {cloud.region}", "Choose another volume or region: --volume, --region."
            ) from error
        raise
    return dict(found)


@dataclass(frozen=True)
class Row:
    """An instance in the output of `bake ls`."""

    id: str
    app: str
    version: str
    state: str
    address: str
    ami: str
    since: str
    data: str
    temporary: bool


def listed(cloud: Cloud) -> list[dict[str, Any]]:
    """Return bake's instances, oldest first."""
    with refusals(cloud):
        return [asdict(_row(one)) for one in ours(cloud)]


def _row(one: dict[str, Any]) -> Row:
    said = tags.read(one)
    return Row(
        one["InstanceId"], said.get(tags.APP, ""), said.get(VERSION, ""), one["State"]["Name"], address_of(one),
        one["ImageId"], one["LaunchTime"].strftime(tags.FORM), said.get(DATA, ""), tags.EXPIRES in said,
    )  # fmt: skip


def amis(cloud: Cloud, app: str = "") -> list[dict[str, Any]]:
    """Return bake's available AMIs, or those of an app, oldest first."""
    filters = [*tags.having(run="", app=app), {"Name": "state", "Values": ["available"]}]
    with refusals(cloud):
        found = cloud.pages("ec2", "describe_images", "Images", Owners=["self"], Filters=filters)
        rows = [
            {"id": one["ImageId"], "app": tags.read(one).get(tags.APP, ""),
             "version": tags.read(one).get(VERSION, ""), "name": one["Name"], "since": one.get("CreationDate", "")}
            for one in found
            # Skip AMIs of unfinished runs.
            if tags.EXPIRES not in tags.read(one)
        ]  # fmt: skip
    return sorted(rows, key=lambda row: str(row["since"]))
