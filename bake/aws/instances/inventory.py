"""Find, list and wait for the EC2 instances that bake created, by their tags."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

from botocore.exceptions import ClientError

from bake.aws import listing, tags
from bake.aws.session import Cloud, aws_errors, code_of
from bake.errors import BakeError, CloudError
from bake.host.progress import Phase

if TYPE_CHECKING:
    from mypy_boto3_ec2.type_defs import ImageTypeDef, InstanceTypeDef, VolumeTypeDef

#: Tags of an instance: its image and version, its domains, the store of its certificate, and its data volume.
IMAGE, VERSION, DOMAINS, KEEP, DATA = "bake:image", "bake:version", "bake:domains", "bake:keep", "bake:data"
#: States of an instance that is not terminated.
ALIVE = ("pending", "running", "stopping", "stopped")
#: Seconds to wait for operations of AWS that take minutes.
PATIENCE = 600

T = TypeVar("T")


def until(
    poll: Callable[[], T | None],
    event: str,
    phase: Phase,
    patience: float = PATIENCE,
    error_type: type[BakeError] = CloudError,
) -> T:
    """Call `poll` at growing intervals until it returns a value other than None, and return that value.

    Raises `error_type` after `patience` seconds. `event` completes the sentence "AWS has not …".
    """
    start, pause = time.monotonic(), 0.25
    while (value := poll()) is None:
        seconds = time.monotonic() - start
        if seconds > patience:
            raise error_type(f"AWS has not {event} within {patience:.0f} s", "Run the same command again.")
        phase.progress(min(seconds / patience, 1), f"waiting until AWS has {event}")
        time.sleep(pause)
        pause = min(pause * 1.5, 10)
    return value


def describe_instances(cloud: Cloud, instance_ids: Iterable[str]) -> list[InstanceTypeDef]:
    """Return the instances with these ids. AWS may not list new ones yet, and no longer lists old ones."""
    ids = list(instance_ids)
    return list(listing.instances(cloud, [{"Name": "instance-id", "Values": ids}])) if ids else []


def live_instances(cloud: Cloud, **tag_values: str) -> list[InstanceTypeDef]:
    """Return bake's instances that are not terminating, with these tags (see tags.filters)."""
    filters = tags.filters(**{"run": "", **tag_values})
    instances = listing.instances(cloud, [*filters, {"Name": "instance-state-name", "Values": ALIVE}])
    return sorted(instances, key=lambda instance: instance["LaunchTime"])


def address_of(instance: InstanceTypeDef) -> str:
    """Return an instance's public address, or else its private one."""
    return instance.get("PublicIpAddress") or instance.get("PrivateIpAddress") or ""


def groups_of(instance: InstanceTypeDef) -> list[str]:
    """Return the ids of an instance's security groups."""
    return [group["GroupId"] for group in instance.get("SecurityGroups", ())]


def await_group(cloud: Cloud, name: str, phase: Phase) -> str:
    """Wait until AWS lists a security group with this name, which is unique to a run, and return its id."""

    def group_id() -> str | None:
        filters = tags.filters(run="")
        groups = listing.security_groups(cloud, [*filters, {"Name": "group-name", "Values": [name]}])
        return next((group["GroupId"] for group in groups), None)

    return until(group_id, f"listed {name}", phase)


def describe_volume(cloud: Cloud, volume_id: str) -> VolumeTypeDef:
    """Return the description of a volume. Raises CloudError if it does not exist."""
    try:
        (description,) = cloud("ec2").describe_volumes(VolumeIds=[volume_id])["Volumes"]
    except ClientError as error:
        if code_of(error) == "InvalidVolume.NotFound":
            raise CloudError(
                f"There is no volume {volume_id} in {cloud.region}",
                "Choose another volume or region: --volume, --region.",
            ) from error
        raise
    return description


@dataclass(frozen=True)
class Row:
    """An instance in the output of `bake ls`. `ami_days` is the age of its AMI, "" if the AMI is gone."""

    id: str
    app: str
    version: str
    state: str
    address: str
    ami: str
    ami_days: str
    since: str
    data: str
    temporary: bool


def instance_rows(cloud: Cloud) -> list[dict[str, Any]]:
    """Return bake's instances, oldest first."""
    with aws_errors(cloud):
        instances = live_instances(cloud)
        ids = sorted({instance["ImageId"] for instance in instances})
        images = listing.images(cloud, [{"Name": "image-id", "Values": ids}]) if ids else ()
        ages = {image["ImageId"]: age_of(image) for image in images}
        return [asdict(_row(instance, ages)) for instance in instances]


def age_of(image: ImageTypeDef) -> str:
    """Return the age of an AMI in whole days, or "" if AWS does not tell it."""
    try:
        created = datetime.fromisoformat(image.get("CreationDate", ""))
    except ValueError:
        return ""
    return str((datetime.now(UTC) - created).days)


def _row(instance: InstanceTypeDef, ages: dict[str, str]) -> Row:
    instance_tags = tags.read(instance)
    return Row(
        instance["InstanceId"], instance_tags.get(tags.APP, ""), instance_tags.get(VERSION, ""),
        instance["State"]["Name"], address_of(instance), instance["ImageId"],
        ages.get(instance["ImageId"], ""), instance["LaunchTime"].strftime(tags.TIME_FORMAT),
        instance_tags.get(DATA, ""), tags.EXPIRES in instance_tags,
    )  # fmt: skip


def amis(cloud: Cloud, app: str = "") -> list[dict[str, str]]:
    """Return bake's available AMIs, or those of an app, oldest first."""
    filters = tags.filters(run="", app=app)
    with aws_errors(cloud):
        images = listing.images(cloud, [*filters, {"Name": "state", "Values": ["available"]}])
        rows = [
            {"id": image["ImageId"], "app": tags.read(image).get(tags.APP, ""),
             "version": tags.read(image).get(VERSION, ""), "name": image["Name"],
             "since": image.get("CreationDate", ""), "days": age_of(image)}
            for image in images
            # Skip AMIs of unfinished runs.
            if tags.EXPIRES not in tags.read(image)
        ]  # fmt: skip
    return sorted(rows, key=lambda row: row["since"])
