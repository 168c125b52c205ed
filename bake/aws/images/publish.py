"""Publish a checked image as an AMI: upload its exact bytes as an EBS snapshot, without a builder instance.

Resources are tagged as temporary until the AMI is registered. All later steps (copies, sharing, a parameter) are
idempotent, so running the same command again completes them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from bake.aws import listing, tags
from bake.aws.images import blocks
from bake.aws.images.snapshot import Destination, Snapshot, upload
from bake.aws.instances import inventory
from bake.aws.session import Cloud, aws_errors, code_of
from bake.disk import partitions
from bake.errors import AmiError
from bake.host import cache, files
from bake.host.progress import Phase, Reporter
from bake.image import manifest
from bake.image.manifest import ImageManifest

if TYPE_CHECKING:
    from mypy_boto3_ec2.type_defs import EbsBlockDeviceTypeDef, ImageTypeDef

IMAGE, KMS_KEY = "bake:image", "bake:kms-key"
#: Tags of an AMI that Packer made: the digest of its document, and its base.
DOCUMENT, BASE = "bake:document", "bake:base"
#: Tag with the path of the health check, if bake.yaml sets one.
HEALTH = "bake:health"
#: Device name of the root disk, as on Debian's AMIs.
ROOT = "/dev/xvda"
#: The number of an account, and a parameter's name in the form that launch templates accept.
ACCOUNT, PARAMETER = re.compile(r"\d{12}"), re.compile(r"/[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*")
#: Seconds to wait for a copy of an AMI in another region.
PATIENCE = 3600


@dataclass(frozen=True)
class PublishOptions:
    """Options of publishing: name, KMS key, regions, account numbers, days until deprecation, SSM parameter."""

    name: str | None = None
    kms_key: str | None = None
    regions: tuple[str, ...] = ()
    accounts: tuple[str, ...] = ()
    deprecate: int | None = None
    parameter: str | None = None


@dataclass(frozen=True)
class Ami:
    """A published image: its AMI id in each region, and the numbers of uploaded and of all non-zero blocks."""

    region: str
    id: str
    regions: dict[str, str] = field(default_factory=dict)
    sent_blocks: int = 0
    total_blocks: int = 0


def read_checked_manifest(path: Path) -> ImageManifest:
    """Return the manifest of a checked image. Raises AmiError if there is none, or the image changed since."""
    if not path.exists():
        raise AmiError(f"{path} does not exist", "Pass the app's folder, or an image that `bake image` made.")
    manifest_path = manifest.path_of(path)
    hint = "Bake it again: `bake image PATH`, or `bake ami PATH` with the app's folder."
    try:
        facts = ImageManifest.read(manifest_path)
        if not facts.checks or not facts.sha256:
            raise ValueError
    except OSError:
        raise AmiError(f"{path} is not a checked image: {manifest_path.name} is missing", hint) from None
    except ValueError:
        raise AmiError(f"{path.name} is not a checked image: {manifest_path} records no checks", hint) from None
    if files.file_digest(path) != facts.sha256:
        raise AmiError(f"{path} has changed since it was checked", hint)
    return facts


def manifest_tags(facts: ImageManifest, run: str) -> tags.Tags:
    """Return the tags of the resources made from an image. Raises AmiError if `check.health` exceeds a tag's length."""
    health = facts.health or ""
    if len(health) > tags.MAX_LENGTH:
        raise AmiError(
            f"check.health in bake.yaml has {len(health)} characters, but an AWS tag has at most {tags.MAX_LENGTH}",
            "Choose a shorter path.",
        )
    image_tags = {
        "Name": facts.name, tags.APP: facts.name, tags.RUN: run, IMAGE: facts.sha256,
        "bake:version": facts.version, DOCUMENT: facts.document,
        BASE: f"{facts.release} {facts.base_date}".strip(), "bake:commit": facts.commit,
        HEALTH: health, "bake:domains": tags.join_names(facts.domains), "bake:keep": facts.keep,
    }  # fmt: skip
    return {key: str(value)[: tags.MAX_LENGTH] for key, value in image_tags.items() if value}


def publish(path: Path, options: PublishOptions, cloud: Cloud, report: Reporter) -> Ami:
    """Publish a checked image. Publishing the same image again returns the same AMI."""
    facts = read_checked_manifest(path)
    with aws_errors(cloud), tags.run() as run:
        image_tags = manifest_tags(facts, run) | ({KMS_KEY: options.kms_key} if options.kms_key else {})
        assert cloud.account
        for region in options.regions:
            # Report a misspelt region before the upload.
            find_ami(cloud.in_region(region), image_tags)
        ami_id = find_ami(cloud, image_tags)
        sent_blocks = total_blocks = 0
        ami_name = options.name or f"{facts.name}-{facts.sha256[:12]}"
        if ami_id is None:
            require_free_name(cloud, ami_name)
            try:
                with report.phase("upload") as phase:
                    snapshot = _upload_image(path, Destination(cloud, options.kms_key, image_tags), phase)
            except BaseException:
                report.note(
                    "AWS keeps the uploaded blocks for an hour: the same command resumes the upload, and `bake sweep` "
                    "removes them"
                )
                raise
            sent_blocks, total_blocks = snapshot.sent_blocks, len(snapshot.content.blocks)
            ami_id = _register(cloud, snapshot.id, ami_name, image_tags)
        with report.phase("register") as phase:
            make_permanent(cloud, ami_id, phase)
        regions = distribute(cloud, ami_id, image_tags, options, report)
    return Ami(cloud.region, ami_id, regions, sent_blocks, total_blocks)


def distribute(
    cloud: Cloud, ami_id: str, image_tags: tags.Tags, options: PublishOptions, report: Reporter
) -> dict[str, str]:
    """Copy an AMI to the regions in `options`, share and deprecate it there, and return its id in each region."""
    regions = {}
    for region in dict.fromkeys([cloud.region, *options.regions]):
        with report.phase(region) as phase:
            target_cloud = cloud.in_region(region)
            regions[region] = ami_id if region == cloud.region else _copy(cloud, ami_id, target_cloud, image_tags)
            _await_available(target_cloud, regions[region], phase)
    for region, copy_id in regions.items():
        with report.phase(region) as phase:
            _apply_options(cloud.in_region(region), copy_id, options, phase)
    return regions


def require_free_name(cloud: Cloud, ami_name: str) -> None:
    """Raise AmiError if another AMI of the account has this name."""
    if any(listing.images(cloud, [{"Name": "name", "Values": [ami_name]}])):
        raise AmiError(f"Another AMI already has the name {ami_name}", "Choose another name: --name.")


def find_ami(cloud: Cloud, image_tags: tags.Tags) -> str | None:
    """Return the finished AMI of an image, or of a document on a base, or None. A temporary AMI is unfinished."""
    if IMAGE in image_tags:
        identity = {"image": image_tags[IMAGE]}
    else:
        identity = {"document": image_tags[DOCUMENT], "base": image_tags[BASE]}
    filters = tags.filters(**identity)
    images = [
        image
        for image in listing.images(cloud, [*filters, {"Name": "state", "Values": ["available", "pending"]}])
        if tags.read(image).get(KMS_KEY) == image_tags.get(KMS_KEY) and tags.EXPIRES not in tags.read(image)
    ]
    return min(images, key=lambda image: image.get("CreationDate", ""))["ImageId"] if images else None


def _upload_image(path: Path, destination: Destination, phase: Phase) -> Snapshot:
    """Upload an image's disk, or only the blocks that differ from the last upload in this region."""
    cloud = destination.cloud
    record = path.with_name(f"{destination.image_tags[tags.APP]}.{cloud.account}.{cloud.region}.json")
    with cache.work_folder() as work:
        disk = path
        if path.suffix != ".raw":
            phase.progress(0, "unpacking the image")
            disk = work / "disk.raw"
            partitions.to_raw(path, disk)
        snapshot = upload(disk, blocks.Content.load(record), destination, phase)
    if not destination.kms_key:
        snapshot.content.save(record)
    return snapshot


def _register(cloud: Cloud, snapshot_id: str, ami_name: str, image_tags: tags.Tags) -> str:
    root: EbsBlockDeviceTypeDef = {"SnapshotId": snapshot_id, "VolumeType": "gp3", "DeleteOnTermination": True}
    try:
        response = cloud("ec2").register_image(
            Name=ami_name, Description=f"{image_tags[tags.APP]}, made by bake", Architecture="x86_64",
            VirtualizationType="hvm", EnaSupport=True, BootMode="uefi-preferred", ImdsSupport="v2.0",
            RootDeviceName=ROOT, BlockDeviceMappings=[{"DeviceName": ROOT, "Ebs": root}],
            TagSpecifications=tags.specifications(["image"], image_tags),
        )  # fmt: skip
    except ClientError as error:
        if code_of(error) == "InvalidAMIName.Duplicate":
            # It may be this one: boto3 retries if the first response was lost.
            if ami_id := find_ami(cloud, image_tags):
                return ami_id
            raise AmiError(f"Another AMI already has the name {ami_name}", "Choose another name: --name.") from error
        raise
    return response["ImageId"]


def _describe(cloud: Cloud, ami_id: str) -> ImageTypeDef | None:
    """Return an AMI's description, or None while AWS does not list it, as just after its registration."""
    images = cloud("ec2").describe_images(Filters=[{"Name": "image-id", "Values": [ami_id]}])["Images"]
    return images[0] if images else None


def _await_available(cloud: Cloud, ami_id: str, phase: Phase) -> None:
    """Wait until an AMI is available. Raises AmiError if it failed."""

    def ready() -> bool | None:
        image = _describe(cloud, ami_id)
        if image and image["State"] not in ("available", "pending"):
            reason = image.get("StateReason", {}).get("Message", "no reason given")
            raise AmiError(
                f"The state of {ami_id} is {image['State']}: {reason}", "Deregister the AMI, then run `bake ami` again."
            )
        return (image is not None and image["State"] == "available") or None

    inventory.until(ready, f"made {ami_id} available", phase, PATIENCE)


def make_permanent(cloud: Cloud, ami_id: str, phase: Phase) -> None:
    """Remove the temporary tag from an AMI and its snapshots, in one call so that they change together."""
    image = inventory.until(lambda: _describe(cloud, ami_id), f"listed {ami_id}", phase)
    snapshot_ids = snapshots_of(image)
    snapshots = cloud("ec2").describe_snapshots(SnapshotIds=snapshot_ids)["Snapshots"] if snapshot_ids else []
    resource_tags = {ami_id: tags.read(image)}
    resource_tags |= {snapshot["SnapshotId"]: tags.read(snapshot) for snapshot in snapshots}
    temporary_ids = [name for name in resource_tags if tags.EXPIRES in resource_tags[name]]
    if temporary_ids:
        cloud("ec2").delete_tags(Resources=temporary_ids, Tags=[{"Key": tags.EXPIRES}])


def snapshots_of(image: ImageTypeDef) -> list[str]:
    """Return the ids of an AMI's snapshots."""
    ids = (mapping.get("Ebs", {}).get("SnapshotId") for mapping in image.get("BlockDeviceMappings", ()))
    return [snapshot_id for snapshot_id in ids if snapshot_id]


def _copy(cloud: Cloud, ami_id: str, target_cloud: Cloud, image_tags: tags.Tags) -> str:
    """Return the id of the AMI's copy in another region, and start the copy if there is none."""
    copy_id = find_ami(target_cloud, image_tags)
    if copy_id is None:
        (image,) = cloud("ec2").describe_images(ImageIds=[ami_id])["Images"]
        response = target_cloud("ec2").copy_image(
            Name=image["Name"], SourceImageId=ami_id, SourceRegion=cloud.region,
            ClientToken=f"{ami_id}-{target_cloud.region}-{image_tags[tags.RUN]}",
            TagSpecifications=tags.specifications(["image", "snapshot"], image_tags),
        )  # fmt: skip
        copy_id = response["ImageId"]
    return copy_id


def _apply_options(cloud: Cloud, ami_id: str, options: PublishOptions, phase: Phase) -> None:
    """Share an AMI, set its deprecation date, and store its id in an SSM parameter."""
    ec2 = cloud("ec2")
    if options.accounts:
        ec2.modify_image_attribute(
            ImageId=ami_id, LaunchPermission={"Add": [{"UserId": account} for account in options.accounts]}
        )
        # Without access to the snapshots, other accounts cannot copy the AMI.
        (image,) = ec2.describe_images(ImageIds=[ami_id])["Images"]
        for snapshot_id in snapshots_of(image):
            ec2.modify_snapshot_attribute(
                SnapshotId=snapshot_id, Attribute="createVolumePermission", OperationType="add",
                UserIds=list(options.accounts),
            )  # fmt: skip
    if options.deprecate is not None:
        deprecation_date = datetime.now(UTC) + timedelta(days=options.deprecate)
        ec2.enable_image_deprecation(ImageId=ami_id, DeprecateAt=deprecation_date.replace(second=0, microsecond=0))
    if parameter := options.parameter:
        # EC2 verifies values of this data type, and launch templates accept them: `resolve:ssm:/NAME`.
        cloud("ssm").put_parameter(
            Name=parameter, Value=ami_id, Type="String", DataType="aws:ec2:image", Overwrite=True
        )
        # PutParameter returns before the verification (API reference). Until then, the old value stays.
        inventory.until(lambda: _parameter_is_set(cloud, parameter, ami_id), f"set {parameter} to {ami_id}", phase)


def _parameter_is_set(cloud: Cloud, parameter: str, ami_id: str) -> bool | None:
    try:
        value = cloud("ssm").get_parameter(Name=parameter)["Parameter"]["Value"]
    except ClientError as error:
        if code_of(error) != "ParameterNotFound":
            raise
        return None
    return value == ami_id or None
