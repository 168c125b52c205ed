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
from pathlib import Path
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from bake.aws import cleanup, listing, policy, tags
from bake.aws.images import publish
from bake.aws.instances import inventory
from bake.aws.session import DENIED_CODES, Cloud, aws_errors, code_of
from bake.bundle import release_archive
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
from bake.image import packer, pipeline
from bake.image.manifest import ImageManifest
from bake.vm import qemu

if TYPE_CHECKING:
    from mypy_boto3_ec2.type_defs import FilterTypeDef, ImageTypeDef, IpPermissionTypeDef

#: The account that publishes Debian's AMIs (wiki.debian.org/Cloud/AmazonEC2Image), and the pattern of their names.
DEBIAN_ACCOUNT, DEBIAN_AMI = "136693071363", "{release}-amd64-*"
#: The default network for SSH: any address. The login needs the key, which only this bake has.
ANYWHERE = "0.0.0.0/0"


def bake(
    folder: Path, recipe: Recipe, options: publish.PublishOptions, ssh_from: str, cloud: Cloud, report: Reporter
) -> publish.Ami:
    """Bake an app's folder into an AMI. The same document on the same Debian AMI again returns the same AMI.

    `ssh_from` is the network, as a CIDR, from which the instance's security group allows SSH.
    """
    if isinstance(recipe.base, sections.BaseImage):
        raise AmiError(
            "With --builder, Packer bakes from Debian's AMIs, but `base` in bake.yaml names another image",
            "Omit --builder: bake then bakes the image on this computer and uploads it.",
        )
    target = recipe.target
    packer.version()
    with cache.work_folder() as work, aws_errors(cloud), tags.run() as run:
        assert cloud.account
        debian_ami = newest_debian_ami(cloud, target)
        code = release_source.folder_of(folder, recipe)
        bundle = release_archive.collect(code, recipe, work / "bundle.tar", report)
        origin = pipeline.origin_of(folder, code, recipe)
        facts = ImageManifest(
            name=recipe.name or "", document=digest(pipeline.document(target, bundle).text),
            health=recipe.check.health, commit=origin.commit, version=origin.version,
        )  # fmt: skip
        image_tags = publish.manifest_tags(facts, run) | {publish.BASE: debian_ami["Name"]}
        ami_id = publish.find_ami(cloud, image_tags)
        if ami_id is None:
            if recipe.check.network:
                report.note(pipeline.NETWORK_NOTE)
            ami_name = options.name or f"{recipe.name}-{digest([facts.document, debian_ami['Name']])[:12]}"
            with report.phase("bake") as phase:
                ami_id = _bake_ami(
                    ami_name, recipe, target, debian_ami["Name"], bundle, image_tags, ssh_from, cloud, work, phase
                )
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


def variables(
    ami_name: str, base_name: str, group_id: str, key_file: Path, run_tags: tags.Tags, cloud: Cloud, work: Path
) -> dict[str, object]:
    """Return the variables of the Packer template."""
    return {
        "region": cloud.region, "endpoint": cloud("ec2").meta.endpoint_url, "known": True, "base": base_name,
        "ami_name": ami_name, "user_data": str(work / "user-data"), "bundle": str(work / "bundle.tar"),
        "key_pair": access_name(run_tags), "private_key": str(key_file), "security_group": group_id, "tags": run_tags,
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


def access_name(run_tags: tags.Tags) -> str:
    """Return the name of a run's key pair and security group."""
    return f"bake-{run_tags[tags.RUN]}"


def _bake_ami(
    ami_name: str, recipe: Recipe, target: Target, base_name: str, bundle: Bundle, image_tags: tags.Tags, ssh_from: str,
    cloud: Cloud, work: Path, phase: Phase,
) -> str:  # fmt: skip
    """Bake the AMI, set the tags and attributes that Packer cannot set, and then remove the temporary tag."""
    run_tags = {key: image_tags[key] for key in ("Name", tags.APP, tags.RUN)} | tags.expiry()
    key_file = work / "bake-key"
    public_key = qemu.make_key(key_file, "bake")
    network = cloud_config.Network.UNBOUND if recipe.check.network else cloud_config.Network.CLOSED
    settings = cloud_config.CheckSettings(
        {**recipe.check.env, **pipeline.random_secrets(recipe)}, network, recipe.writable.observe
    )
    (work / "user-data").write_bytes(user_data(target, bundle, settings))
    publish.require_free_name(cloud, ami_name)
    try:
        group_id = _open_access(cloud, run_tags, ami_name, public_key, ssh_from, phase)
        listener = _Listener(cloud, phase)
        log = paths.outputs(recipe.name or "app") / f"{recipe.name}.log"
        with _packer_errors(), pipeline.keeping_log(log, settings):
            artifact = packer.build_in_cloud(
                "amazon-ebs.pkr.hcl",
                variables(ami_name, base_name, group_id, key_file, run_tags, cloud, work),
                credentials(cloud),
                work,
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


def _open_access(cloud: Cloud, run_tags: tags.Tags, ami_name: str, public_key: str, ssh_from: str, phase: Phase) -> str:
    """Create the key pair and the security group of a run, and return the group's id.

    If the first response was lost, boto3 retries; a duplicate name then means that the first request succeeded.
    """
    ec2, name = cloud("ec2"), access_name(run_tags)
    with _ignore_error("InvalidKeyPair.Duplicate"):
        ec2.import_key_pair(
            KeyName=name, PublicKeyMaterial=public_key.encode(),
            TagSpecifications=tags.specifications(["key-pair"], run_tags | {tags.AMI_NAME: ami_name}),
        )  # fmt: skip
    with _ignore_error("InvalidGroup.Duplicate"):
        ec2.create_security_group(
            GroupName=name,
            Description="SSH, while bake bakes",
            TagSpecifications=tags.specifications(["security-group"], run_tags),
        )
    group_id = inventory.await_group(cloud, name, phase)
    ssh: IpPermissionTypeDef = {
        "IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": ssh_from}]
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
