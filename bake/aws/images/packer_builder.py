"""Bake an AMI at AWS with Packer's amazon-ebs builder, from Debian's AMI and with the same document.

Packer 1.6 does not tag its temporary key pair and security group, and it tags the AMI only after creating it. So bake
creates the first two itself, with tags. The key pair's tags name the future AMI, so that a sweep finds it even without
tags. All resources are temporary until the AMI has all tags and requires IMDSv2.
"""

from __future__ import annotations

import base64
import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from bake.aws import cleanup, listing, policy, tags
from bake.aws.images import publish
from bake.aws.instances import inventory
from bake.aws.session import DENIED_CODES, Cloud, aws_errors, code_of
from bake.bundle import release_archive
from bake.bundle.app_source import AppSource
from bake.bundle.release_archive import Bundle
from bake.config import contract, sections
from bake.config.contract_files import Result
from bake.config.debian import Target
from bake.config.providers import PROVIDERS
from bake.config.recipe import Recipe
from bake.document import cloud_config, machine_files, release_source
from bake.document.machine_files import File
from bake.errors import AmiError, PackerError, PolicyError, QuotaError
from bake.host import cache, paths
from bake.host.files import digest
from bake.host.progress import Phase, Reporter
from bake.host.templates import render
from bake.image import build, packer
from bake.image.manifest import ImageManifest
from bake.vm import qemu

if TYPE_CHECKING:
    from mypy_boto3_ec2.type_defs import FilterTypeDef, ImageTypeDef, IpPermissionTypeDef

#: The account that publishes Debian's AMIs (wiki.debian.org/Cloud/AmazonEC2Image), and the pattern of their names.
DEBIAN_ACCOUNT, DEBIAN_AMI = "136693071363", "{release}-amd64-*"
#: The default network for SSH: any address. The login needs the key, which only this bake has.
ANYWHERE = "0.0.0.0/0"


@dataclass(frozen=True)
class CloudBuild:
    """A bake of an AMI from Debian's AMI at AWS: its app, the names of both AMIs, the final tags and the folder `work`.

    `ssh_from` is the network, as a CIDR, from which the instance's security group allows SSH.
    """

    cloud: Cloud
    recipe: Recipe
    bundle: Bundle
    debian_ami: str
    ami_name: str
    image_tags: tags.Tags
    ssh_from: str
    work: Path

    @cached_property
    def run_tags(self) -> tags.Tags:
        """Return the tags of the temporary resources."""
        return {key: self.image_tags[key] for key in ("Name", tags.APP, tags.RUN)} | tags.expiry()

    @property
    def access_name(self) -> str:
        """Return the name of the key pair and the security group."""
        return f"bake-{self.image_tags[tags.RUN]}"

    @property
    def key_file(self) -> Path:
        """Return the file of the private key."""
        return self.work / "bake-key"


def bake(app: AppSource, options: publish.PublishOptions, ssh_from: str, cloud: Cloud, report: Reporter) -> publish.Ami:
    """Bake an app into an AMI. The same document on the same Debian AMI again returns the same AMI.

    `ssh_from` is the network, as a CIDR, from which the instance's security group allows SSH.
    """
    recipe = app.recipe
    if isinstance(recipe.base, sections.BaseImage):
        raise AmiError(
            "With --builder, Packer bakes from Debian's AMIs, but `base` in bake.yaml names another image",
            "Omit --builder: bake then bakes the image on this computer and uploads it.",
        )
    target = recipe.target
    packer.version()
    with cache.work_folder() as work, aws_errors(cloud), tags.run() as run:
        assert cloud.account
        debian_ami = newest_debian_ami(cloud, target)["Name"]
        bundle = release_archive.collect(app, work / "bundle.tar", report)
        facts = ImageManifest(
            name=recipe.name or "", document=digest(build.document(target, bundle).text),
            health=recipe.check.health, commit=app.commit, version=app.version,
        )  # fmt: skip
        image_tags = publish.manifest_tags(facts, run) | {publish.BASE: debian_ami}
        ami_id = publish.find_ami(cloud, image_tags)
        if ami_id is None:
            if recipe.check.network:
                report.note(build.NETWORK_NOTE)
            ami_name = options.name or f"{recipe.name}-{digest([facts.document, debian_ami])[:12]}"
            with report.phase("bake") as phase:
                cloud_build = CloudBuild(cloud, recipe, bundle, debian_ami, ami_name, image_tags, ssh_from, work)
                ami_id = _bake_ami(cloud_build, phase)
        with report.phase("register") as phase:
            publish.make_permanent(cloud, ami_id, phase)
        regions = publish.distribute(cloud, ami_id, image_tags, options, report)
    return publish.Ami(cloud.region, ami_id, regions)


def newest_debian_ami(cloud: Cloud, target: Target) -> ImageTypeDef:
    """Return the newest AMI of a Debian version. Raises AmiError if the region has none."""
    properties = {
        "name": DEBIAN_AMI.format(release=target.name), "architecture": "x86_64", "virtualization-type": "hvm",
        "root-device-type": "ebs", "state": "available",
    }  # fmt: skip
    filters: list[FilterTypeDef] = [{"Name": key, "Values": [value]} for key, value in properties.items()]
    images = list(listing.images(cloud, filters, DEBIAN_ACCOUNT))
    if not images:
        raise AmiError(
            f"Debian has no AMI {properties['name']} in {cloud.region}",
            "Choose another region: --region. Or omit --builder: bake then bakes the image here and uploads it.",
        )
    return max(images, key=lambda image: image["CreationDate"])


def user_data(target: Target, bundle: Bundle, settings: cloud_config.CheckSettings) -> bytes:
    """Return the document of a bake within EC2's limit, with the files that only this boot needs."""
    path = f"{contract.INCOMING}/{bundle.sha256}.tar"
    late = Result(step="release", kind=contract.STEP, message=f"no bundle {bundle.sha256[:12]} came within 900 s")
    await_upload = render("check/await-upload.conf.j2", path=path, late=contract.CHECK_LATE, result=contract.RESULT)
    drop_in = f"{contract.RUNTIME_UNITS}/{contract.SETUP}.service.d/50-upload.conf"
    boot_files = [
        *settings.bake_files,
        File(drop_in, 0o644, await_upload.encode()),
        File(contract.CHECK_LATE, 0o600, late.model_dump_json().encode() + b"\n"),
    ]
    files = [*machine_files.files(target), *release_source.bundled(target, bundle.sha256), *boot_files]
    document = cloud_config.fit(files, target, PROVIDERS["aws"].capacity, binary=True)
    return base64.b64decode(document.text) if document.form == cloud_config.GZIPPED else document.text.encode()


def variables(cloud_build: CloudBuild, group_id: str) -> dict[str, object]:
    """Return the variables of the Packer template."""
    cloud, work = cloud_build.cloud, cloud_build.work
    return {
        "region": cloud.region, "endpoint": cloud("ec2").meta.endpoint_url, "known": True,
        "base": cloud_build.debian_ami, "ami_name": cloud_build.ami_name, "user_data": str(work / "user-data"),
        "bundle": str(work / "bundle.tar"), "key_pair": cloud_build.access_name,
        "private_key": str(cloud_build.key_file), "security_group": group_id, "tags": cloud_build.run_tags,
    }  # fmt: skip


def credentials(cloud: Cloud) -> dict[str, str]:
    """Return boto3's credentials as environment variables for Packer, which supports fewer sources of credentials.

    The environment also turns off Packer's own sources.
    """
    session_credentials = cloud.session.get_credentials()
    assert session_credentials, "cloud.account raises an error without them"
    frozen = session_credentials.get_frozen_credentials()
    return {
        "AWS_ACCESS_KEY_ID": frozen.access_key or "", "AWS_SECRET_ACCESS_KEY": frozen.secret_key or "",
        "AWS_SESSION_TOKEN": frozen.token or "", "AWS_EC2_METADATA_DISABLED": "true", "AWS_PROFILE": "",
    }  # fmt: skip


def _bake_ami(cloud_build: CloudBuild, phase: Phase) -> str:
    """Bake the AMI, set the tags and attributes that Packer cannot set, and then remove the temporary tag."""
    cloud, recipe, image_tags = cloud_build.cloud, cloud_build.recipe, cloud_build.image_tags
    public_key = qemu.make_key(cloud_build.key_file, "bake")
    settings = build.check_settings(recipe, is_local=False)
    document = user_data(recipe.target, cloud_build.bundle, settings)
    (cloud_build.work / "user-data").write_bytes(document)
    publish.require_free_name(cloud, cloud_build.ami_name)
    try:
        group_id = _open_access(cloud_build, public_key, phase)
        listener = _Listener(cloud, phase)
        log = paths.outputs(recipe.name or "app") / f"{recipe.name}.log"
        with _packer_errors(), build.keeping_log(log, settings):
            artifact = packer.build_in_cloud(
                "amazon-ebs.pkr.hcl",
                variables(cloud_build, group_id),
                credentials(cloud),
                cloud_build.work,
                listener.handle,
            )
        ami_id = artifact.partition(":")[2]
        ec2 = cloud("ec2")
        (image,) = ec2.describe_images(ImageIds=[ami_id])["Images"]
        ec2.create_tags(Resources=[ami_id, *publish.snapshots_of(image)], Tags=tags.to_api(image_tags))
        ec2.modify_image_attribute(ImageId=ami_id, ImdsSupport={"Value": "v2.0"})
        publish.make_permanent(cloud, ami_id, phase)
    except BaseException:
        # A later `bake sweep` removes the rest.
        with contextlib.suppress(Exception):
            cleanup.clear(cloud, image_tags[tags.RUN], phase)
        raise
    cleanup.clear(cloud, image_tags[tags.RUN], phase)
    return ami_id


def _open_access(cloud_build: CloudBuild, public_key: str, phase: Phase) -> str:
    """Create the key pair and the security group of a run, and return the group's id.

    If the first response was lost, boto3 retries; a duplicate name then means that the first request succeeded.
    """
    cloud, name, run_tags = cloud_build.cloud, cloud_build.access_name, cloud_build.run_tags
    ec2 = cloud("ec2")
    with _ignore_error("InvalidKeyPair.Duplicate"):
        ec2.import_key_pair(
            KeyName=name, PublicKeyMaterial=public_key.encode(),
            TagSpecifications=tags.specifications(["key-pair"], run_tags | {tags.AMI_NAME: cloud_build.ami_name}),
        )  # fmt: skip
    with _ignore_error("InvalidGroup.Duplicate"):
        ec2.create_security_group(
            GroupName=name,
            Description="SSH, while bake bakes",
            TagSpecifications=tags.specifications(["security-group"], run_tags),
        )
    group_id = inventory.await_group(cloud, name, phase)
    ssh: IpPermissionTypeDef = {
        "IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": cloud_build.ssh_from}]
    }  # fmt: skip
    with _ignore_error("InvalidPermission.Duplicate"):
        ec2.authorize_security_group_ingress(GroupId=group_id, IpPermissions=[ssh])
    return group_id


@contextlib.contextmanager
def _ignore_error(code: str) -> Iterator[None]:
    """Treat an error with this code as success."""
    try:
        yield
    except ClientError as error:
        if code_of(error) != code:
            raise


class _Listener:
    """Show Packer's progress, and make the instance require IMDSv2 as soon as AWS allows the change."""

    def __init__(self, cloud: Cloud, phase: Phase) -> None:
        self.cloud, self.phase, self.instance = cloud, phase, ""

    def handle(self, event: packer.Event) -> None:
        """Handle an event of Packer."""
        step = packer.milestone(event)
        if step:
            self.phase.progress(*step)
        if match := re.search(r"Instance ID: (i-[0-9a-f]+)", event.text):
            self.instance = match[1]
        # AWS rejects this before the instance runs (API reference, ModifyInstanceMetadataOptions).
        if self.instance and "Waiting for SSH" in event.text:
            self.cloud("ec2").modify_instance_metadata_options(
                InstanceId=self.instance, HttpTokens="required", HttpEndpoint="enabled", HttpPutResponseHopLimit=1
            )
            self.instance = ""


@contextlib.contextmanager
def _packer_errors() -> Iterator[None]:
    """Turn AWS errors in Packer's output into PolicyError and QuotaError, as for bake's own requests."""
    try:
        yield
    except PackerError as error:
        match = re.search(r"perform: (ec2:\w+)", error.details)
        if match or any(f"{code}:" in error.details for code in DENIED_CODES):
            action = match[1] if match else "an action of Packer"
            raise PolicyError(
                f"The AWS credentials lack the permission for {action}",
                policy.denial_hint("ami-packer", action),
                error.details,
            ) from error
        if match := re.search(r"(\w+(?:LimitExceeded|InsufficientInstanceCapacity)): (.*)", error.details):
            raise QuotaError(
                f"The AWS account has reached a quota ({match[1]}): {match[2]}",
                "Raise it under Service Quotas, or remove old AMIs with `bake prune`.",
            ) from error
        raise
