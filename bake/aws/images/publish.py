"""Publish a checked image as an AMI: upload its exact bytes as an EBS snapshot, without a builder instance.

Resources are tagged as temporary until the AMI is registered. All later steps (copies, sharing, a parameter) are
idempotent, so running the same command again completes them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from bake.aws import tags
from bake.aws.images import blocks, snapshot
from bake.aws.instances import inventory
from bake.aws.session import Cloud, code_of, refusals
from bake.disk import partitions
from bake.errors import AmiError
from bake.host import cache, files
from bake.host.progress import Phase, Reporter
from bake.image import manifest
from bake.image.manifest import ImageManifest

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
class Wanted:
    """Options of publishing: name, KMS key, regions, account numbers, days until deprecation, SSM parameter."""

    name: str | None = None
    kms_key: str | None = None
    regions: tuple[str, ...] = ()
    accounts: tuple[str, ...] = ()
    deprecate: int | None = None
    parameter: str | None = None


@dataclass(frozen=True)
class Ami:
    """A published image: its AMI id in each region, and the numbers of uploaded (`sent`) and non-zero blocks."""

    region: str
    name: str
    regions: dict[str, str] = field(default_factory=dict)
    sent: int = 0
    full: int = 0


def proved(path: Path) -> ImageManifest:
    """Return the manifest of a checked image. Raises AmiError if there is none, or the image changed since."""
    if not path.exists():
        raise AmiError(f"{path} does not exist", "Pass the app's folder, or an image that `bake image` made.")
    facts_path = manifest.path_of(path)
    way = "Bake it again: `bake image PATH`, or `bake ami PATH` with the app's folder."
    try:
        facts = ImageManifest.read(facts_path)
        if not facts.checks or not facts.sha256:
            raise ValueError
    except OSError:
        raise AmiError(f"{path} is not a checked image: {facts_path.name} is missing", way) from None
    except ValueError:
        raise AmiError(f"{path.name} is not a checked image: {facts_path} records no checks", way) from None
    if files.file_digest(path) != facts.sha256:
        raise AmiError(f"{path} has changed since it was checked", way)
    return facts


def marks(facts: ImageManifest, run: str) -> tags.Tags:
    """Return the tags of the resources made from an image. Raises AmiError if `check.health` exceeds a tag's length."""
    health = facts.health or ""
    if len(health) > tags.LONGEST:
        raise AmiError(
            f"check.health in bake.yaml has {len(health)} characters, but an AWS tag has at most {tags.LONGEST}",
            "Choose a shorter path.",
        )
    said = {
        "Name": facts.name, tags.APP: facts.name, tags.RUN: run, IMAGE: facts.sha256,
        "bake:version": facts.version, DOCUMENT: facts.document,
        BASE: f"{facts.release} {facts.base_date}".strip(), "bake:commit": facts.commit,
        HEALTH: health, "bake:domains": tags.listed(facts.domains), "bake:keep": facts.keep,
    }  # fmt: skip
    return {key: str(value)[: tags.LONGEST] for key, value in said.items() if value}


def publish(path: Path, wanted: Wanted, cloud: Cloud, report: Reporter) -> Ami:
    """Publish a checked image. Publishing the same image again returns the same AMI."""
    facts = proved(path)
    with refusals(cloud), tags.run() as run:
        tagged = marks(facts, run) | ({KMS_KEY: wanted.kms_key} if wanted.kms_key else {})
        account = cloud.account
        for region in wanted.regions:
            # Report a misspelt region before the upload.
            registered(cloud.elsewhere(region), tagged)
        found = registered(cloud, tagged)
        sent = full = 0
        title = wanted.name or f"{facts.name}-{facts.sha256[:12]}"
        if found is None:
            require_free(cloud, title)
            try:
                with report.phase("upload") as phase:
                    made = _uploaded(path, wanted.kms_key, tagged, cloud, account, phase)
            except BaseException:
                report.note(
                    "AWS keeps the uploaded blocks for an hour: the same command resumes the upload, and `bake sweep` "
                    "removes them"
                )
                raise
            sent, full = made.sent, len(made.content.blocks)
            found = _register(cloud, made.name, title, tagged)
        with report.phase("register") as phase:
            keep(cloud, found, phase)
        regions = everywhere(cloud, found, tagged, wanted, report)
    return Ami(cloud.region, found, regions, sent, full)


def everywhere(cloud: Cloud, found: str, tagged: tags.Tags, wanted: Wanted, report: Reporter) -> dict[str, str]:
    """Copy an AMI to the wanted regions, share and deprecate it there, and return its id in each region."""
    regions = {}
    for region in dict.fromkeys([cloud.region, *wanted.regions]):
        with report.phase(region) as phase:
            there = cloud.elsewhere(region)
            regions[region] = found if region == cloud.region else _copied(cloud, found, there, tagged)
            _await_available(there, regions[region], phase)
    for region, name in regions.items():
        with report.phase(region) as phase:
            _hand_on(cloud.elsewhere(region), name, wanted, phase)
    return regions


def require_free(cloud: Cloud, name: str) -> None:
    """Raise AmiError if another AMI of the account has this name."""
    taken = [{"Name": "name", "Values": [name]}]
    if cloud("ec2").describe_images(Owners=["self"], Filters=taken)["Images"]:
        raise AmiError(f"Another AMI already has the name {name}", "Choose another name: --name.")


def registered(cloud: Cloud, tagged: tags.Tags) -> str | None:
    """Return the finished AMI of an image, or of a document on a base, or None. A temporary AMI is unfinished."""
    which = {"image": tagged[IMAGE]} if IMAGE in tagged else {"document": tagged[DOCUMENT], "base": tagged[BASE]}
    filters = [*tags.having(**which), {"Name": "state", "Values": ["available", "pending"]}]
    found = cloud.pages("ec2", "describe_images", "Images", Owners=["self"], Filters=filters)
    marked = [(one, tags.read(one)) for one in found]
    fit = [one for one, said in marked if said.get(KMS_KEY) == tagged.get(KMS_KEY) and tags.EXPIRES not in said]
    return str(min(fit, key=lambda one: one.get("CreationDate", ""))["ImageId"]) if fit else None


def _uploaded(
    path: Path, kms_key: str | None, tagged: tags.Tags, cloud: Cloud, account: str, phase: Phase
) -> snapshot.Snapshot:
    """Upload an image's disk, or only the blocks that differ from the last upload in this region."""
    known = path.with_name(f"{tagged[tags.APP]}.{account}.{cloud.region}.json")
    with cache.work_folder() as work:
        raw = path
        if path.suffix != ".raw":
            phase.progress(0, "unpacking the image")
            raw = work / "disk.raw"
            partitions.to_raw(path, raw)
        made = snapshot.upload(cloud, raw, blocks.Content.load(known), kms_key, tagged, phase)
    if not kms_key:
        made.content.save(known)
    return made


def _register(cloud: Cloud, source: str, name: str, tagged: tags.Tags) -> str:
    root = {"SnapshotId": source, "VolumeType": "gp3", "DeleteOnTermination": True}
    try:
        made = cloud("ec2").register_image(
            Name=name, Description=f"{tagged[tags.APP]}, made by bake", Architecture="x86_64", VirtualizationType="hvm",
            EnaSupport=True, BootMode="uefi-preferred", ImdsSupport="v2.0", RootDeviceName=ROOT,
            BlockDeviceMappings=[{"DeviceName": ROOT, "Ebs": root}], TagSpecifications=tags.of(["image"], tagged),
        )  # fmt: skip
    except ClientError as error:
        if code_of(error) == "InvalidAMIName.Duplicate":
            # It may be this one: boto3 retries if the first response was lost.
            if found := registered(cloud, tagged):
                return found
            raise AmiError(f"Another AMI already has the name {name}", "Choose another name: --name.") from error
        raise
    return str(made["ImageId"])


def _look(cloud: Cloud, name: str) -> dict[str, Any] | None:
    """Return an AMI's description, or None while AWS does not list it, as just after its registration."""
    filters = [{"Name": "image-id", "Values": [name]}]
    found = cloud("ec2").describe_images(Filters=filters)["Images"]
    return dict(found[0]) if found else None


def _await_available(cloud: Cloud, name: str, phase: Phase) -> None:
    """Wait until an AMI is available. Raises AmiError if it failed."""

    def ready() -> bool | None:
        found = _look(cloud, name)
        if found and found["State"] not in ("available", "pending"):
            why = found.get("StateReason", {}).get("Message", "no reason given")
            raise AmiError(
                f"The state of {name} is {found['State']}: {why}", "Deregister the AMI, then run `bake ami` again."
            )
        return (found is not None and found["State"] == "available") or None

    inventory.until(ready, f"made {name} available", phase, PATIENCE)


def keep(cloud: Cloud, name: str, phase: Phase) -> None:
    """Remove the temporary tag from an AMI and its snapshots, in one call so that they change together."""
    found = inventory.until(lambda: _look(cloud, name), f"listed {name}", phase)
    sources = snapshots_of(found)
    parts = cloud("ec2").describe_snapshots(SnapshotIds=sources)["Snapshots"] if sources else []
    marked = [(name, found), *((str(one["SnapshotId"]), one) for one in parts)]
    late = [part for part, one in marked if tags.EXPIRES in tags.read(one)]
    if late:
        cloud("ec2").delete_tags(Resources=late, Tags=[{"Key": tags.EXPIRES}])


def snapshots_of(found: dict[str, Any]) -> list[str]:
    """Return the ids of an AMI's snapshots."""
    mapped = (mapping.get("Ebs", {}).get("SnapshotId") for mapping in found.get("BlockDeviceMappings", ()))
    return [str(name) for name in mapped if name]


def _copied(cloud: Cloud, name: str, there: Cloud, tagged: tags.Tags) -> str:
    """Return the id of the AMI's copy in another region, and start the copy if there is none."""
    copy = registered(there, tagged)
    if copy is None:
        (found,) = cloud("ec2").describe_images(ImageIds=[name])["Images"]
        made = there("ec2").copy_image(
            Name=found["Name"], SourceImageId=name, SourceRegion=cloud.region,
            ClientToken=f"{name}-{there.region}-{tagged[tags.RUN]}",
            TagSpecifications=tags.of(["image", "snapshot"], tagged),
        )  # fmt: skip
        copy = str(made["ImageId"])
    return copy


def _hand_on(cloud: Cloud, name: str, wanted: Wanted, phase: Phase) -> None:
    """Share an AMI, set its deprecation date, and store its id in an SSM parameter."""
    ec2 = cloud("ec2")
    if wanted.accounts:
        ec2.modify_image_attribute(
            ImageId=name, LaunchPermission={"Add": [{"UserId": account} for account in wanted.accounts]}
        )
        # Without access to the snapshots, other accounts cannot copy the AMI.
        (found,) = ec2.describe_images(ImageIds=[name])["Images"]
        for source in snapshots_of(found):
            ec2.modify_snapshot_attribute(
                SnapshotId=source, Attribute="createVolumePermission", OperationType="add",
                UserIds=list(wanted.accounts),
            )  # fmt: skip
    if wanted.deprecate is not None:
        over = datetime.now(UTC) + timedelta(days=wanted.deprecate)
        ec2.enable_image_deprecation(ImageId=name, DeprecateAt=over.replace(second=0, microsecond=0))
    if wanted.parameter:
        # EC2 verifies values of this data type, and launch templates accept them: `resolve:ssm:/NAME`.
        cloud("ssm").put_parameter(
            Name=wanted.parameter, Value=name, Type="String", DataType="aws:ec2:image", Overwrite=True
        )
        # PutParameter returns before the verification (API reference). Until then, the old value stays.
        inventory.until(lambda: _leads(cloud, wanted, name), f"set {wanted.parameter} to {name}", phase)


def _leads(cloud: Cloud, wanted: Wanted, name: str) -> bool | None:
    try:
        value = cloud("ssm").get_parameter(Name=wanted.parameter)["Parameter"]["Value"]
    except ClientError as error:
        if code_of(error) != "ParameterNotFound":
            raise
        return None
    return value == name or None
