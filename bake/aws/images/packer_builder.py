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
from typing import Any

from botocore.exceptions import ClientError

from bake.aws import cleanup, policy, tags
from bake.aws.images import publish
from bake.aws.instances import inventory
from bake.aws.session import DENIED, Cloud, code_of, refusals
from bake.bundle import release_archive
from bake.bundle.release_archive import Bundle
from bake.config import recipe, sections
from bake.config.debian import Target
from bake.config.providers import PROVIDERS
from bake.document import cloud_config, machine_files, release_source
from bake.document.machine_files import File
from bake.errors import AmiError, PackerError, PolicyError, QuotaError
from bake.host import cache, paths
from bake.host.files import digest
from bake.host.progress import Phase, Reporter
from bake.image import packer, pipeline
from bake.image.manifest import ImageManifest
from bake.vm import qemu

#: The account that publishes Debian's AMIs (wiki.debian.org/Cloud/AmazonEC2Image), and the pattern of their names.
DEBIAN, NAME = "136693071363", "{release}-amd64-*"
#: The default network for SSH: any address. The login needs the key, which only this bake has.
ANYWHERE = "0.0.0.0/0"
#: Makes app-setup wait for the upload of the bundle on this boot only. Packages are installed before it.
AWAIT = """\
[Service]
ExecStartPre=/bin/sh -c 'for second in $$(seq 900); do [ -e {place} ] && exit; sleep 1; done; \
echo "app-setup failed: no bundle {short} came within 900 s"; exit 1'
"""


def bake(
    folder: Path, wanted: recipe.Recipe, how: publish.Wanted, ssh_from: str, cloud: Cloud, report: Reporter
) -> publish.Ami:
    """Bake an app's folder into an AMI. The same document on the same Debian AMI again returns the same AMI.

    `ssh_from` is the network, as a CIDR, from which the instance's security group allows SSH.
    """
    if isinstance(wanted.base, sections.BaseImage):
        raise AmiError(
            "With --builder, Packer bakes from Debian's AMIs, but `base` in bake.yaml names another image",
            "Omit --builder: bake then bakes the image on this computer and uploads it.",
        )
    goal = wanted.target
    packer.version()
    with cache.work_folder() as work, refusals(cloud), tags.run() as run:
        assert cloud.account
        base = newest(cloud, goal)
        code = release_source.folder_of(folder, wanted)
        parcel = release_archive.collect(code, wanted, work / "bundle.tar", report)
        origin = pipeline.origin_of(folder, code, wanted)
        facts = ImageManifest(
            name=wanted.name or "", document=digest(pipeline.document(goal, parcel).text),
            health=wanted.check.health, commit=origin.commit, version=origin.version,
        )  # fmt: skip
        tagged = publish.marks(facts, run) | {publish.BASE: base["Name"]}
        found = publish.registered(cloud, tagged)
        if found is None:
            if wanted.check.network:
                report.note(pipeline.NETWORK_NOTE)
            title = how.name or f"{wanted.name}-{digest([facts.document, base['Name']])[:12]}"
            with report.phase("bake") as phase:
                found = _made(title, wanted, goal, base["Name"], parcel, tagged, ssh_from, cloud, work, phase)
        with report.phase("register") as phase:
            publish.keep(cloud, found, phase)
        regions = publish.everywhere(cloud, found, tagged, how, report)
    return publish.Ami(cloud.region, found, regions)


def newest(cloud: Cloud, goal: Target) -> dict[str, Any]:
    """Return Debian's newest AMI of a release. Raises AmiError if the region has none."""
    wanted = {
        "name": NAME.format(release=goal.name), "architecture": "x86_64", "virtualization-type": "hvm",
        "root-device-type": "ebs", "state": "available",
    }  # fmt: skip
    filters = [{"Name": name, "Values": [value]} for name, value in wanted.items()]
    found = list(cloud.pages("ec2", "describe_images", "Images", Owners=[DEBIAN], Filters=filters))
    if not found:
        raise AmiError(
            f"Debian has no AMI {wanted['name']} in {cloud.region}",
            "Choose another region: --region. Or omit --builder: bake then bakes the image here and uploads it.",
        )
    return dict(max(found, key=lambda one: one["CreationDate"]))


def user_data(goal: Target, parcel: Bundle, settings: cloud_config.CheckSettings) -> bytes:
    """Return the document of a bake within EC2's limit, with the files that only this boot needs."""
    place = f"{release_source.INCOMING}/{parcel.sha256}.tar"
    early = [
        *settings.bake_files,
        File(
            "/run/systemd/system/app-setup.service.d/50-upload.conf", 0o644,
            AWAIT.format(place=place, short=parcel.sha256[:12]).encode(),
        ),
    ]  # fmt: skip
    files = [*machine_files.files(goal), *release_source.bundled(goal, parcel.sha256), *early]
    document = cloud_config.fit(files, goal, PROVIDERS["aws"].capacity, binary=True)
    return base64.b64decode(document.text) if document.form == cloud_config.GZIPPED else document.text.encode()


def variables(title: str, base: str, group: str, key: Path, run: tags.Tags, cloud: Cloud, work: Path) -> dict[str, Any]:
    """Return the variables of the Packer template."""
    return {
        "region": cloud.region, "endpoint": cloud("ec2").meta.endpoint_url, "known": True, "base": base,
        "ami_name": title, "user_data": str(work / "user-data"), "bundle": str(work / "bundle.tar"),
        "key_pair": name_of(run), "private_key": str(key), "security_group": group, "tags": run,
    }  # fmt: skip


def credentials(cloud: Cloud) -> dict[str, str]:
    """Return boto3's credentials as environment variables for Packer, which supports fewer sources of credentials.

    The environment also turns off Packer's own sources.
    """
    found = cloud.session.get_credentials().get_frozen_credentials()
    return {
        "AWS_ACCESS_KEY_ID": found.access_key, "AWS_SECRET_ACCESS_KEY": found.secret_key,
        "AWS_SESSION_TOKEN": found.token or "", "AWS_EC2_METADATA_DISABLED": "true", "AWS_PROFILE": "",
    }  # fmt: skip


def name_of(run: tags.Tags) -> str:
    """Return the name of a run's key pair and security group."""
    return f"bake-{run[tags.RUN]}"


def _made(
    title: str, wanted: recipe.Recipe, goal: Target, base: str, parcel: Bundle, tagged: tags.Tags, ssh_from: str,
    cloud: Cloud, work: Path, phase: Phase,
) -> str:  # fmt: skip
    """Bake the AMI, set the tags and attributes that Packer cannot set, and then remove the temporary tag."""
    run = {key: tagged[key] for key in ("Name", tags.APP, tags.RUN)} | tags.temporary()
    key = work / "bake-key"
    public = qemu.make_key(key, "bake")
    network = cloud_config.Network.UNBOUND if wanted.check.network else cloud_config.Network.CLOSED
    settings = cloud_config.CheckSettings(
        {**wanted.check.env, **pipeline.random_secrets(wanted)}, network, wanted.writable.observe
    )
    (work / "user-data").write_bytes(user_data(goal, parcel, settings))
    publish.require_free(cloud, title)
    try:
        group = _let_in(cloud, run, title, public, ssh_from, phase)
        listener = _Listener(cloud, phase)
        log = paths.outputs(wanted.name or "app") / f"{wanted.name}.log"
        with _meanings(), pipeline.keeping_log(log, settings):
            said = packer.build_in_cloud(
                "amazon-ebs.pkr.hcl", variables(title, base, group, key, run, cloud, work), credentials(cloud), work,
                listener.event,
            )  # fmt: skip
        name = said.partition(":")[2]
        ec2 = cloud("ec2")
        (found,) = ec2.describe_images(ImageIds=[name])["Images"]
        ec2.create_tags(Resources=[name, *publish.snapshots_of(found)], Tags=tags.written(tagged))
        ec2.modify_image_attribute(ImageId=name, ImdsSupport={"Value": "v2.0"})
        publish.keep(cloud, name, phase)
    except BaseException:
        # A later `bake sweep` removes the rest.
        with contextlib.suppress(Exception):
            cleanup.clear(cloud, tagged[tags.RUN], phase)
        raise
    cleanup.clear(cloud, tagged[tags.RUN], phase)
    return name


def _let_in(cloud: Cloud, run: tags.Tags, title: str, public: str, ssh_from: str, phase: Phase) -> str:
    """Create the key pair and the security group of a run, and return the group's id.

    If the first response was lost, boto3 retries; a duplicate name then means that the first request succeeded.
    """
    ec2, name = cloud("ec2"), name_of(run)
    with _already("InvalidKeyPair.Duplicate"):
        ec2.import_key_pair(
            KeyName=name, PublicKeyMaterial=public.encode(),
            TagSpecifications=tags.of(["key-pair"], run | {tags.MAKING: title}),
        )  # fmt: skip
    with _already("InvalidGroup.Duplicate"):
        ec2.create_security_group(
            GroupName=name, Description="SSH, while bake bakes", TagSpecifications=tags.of(["security-group"], run)
        )
    group = inventory.group_named(cloud, name, phase)
    ssh = {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": ssh_from}]}
    with _already("InvalidPermission.Duplicate"):
        ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[ssh])
    return group


@contextlib.contextmanager
def _already(code: str) -> Iterator[None]:
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

    def event(self, heard: packer.Event) -> None:
        """Handle an event of Packer."""
        step = packer.milestone(heard)
        if step:
            self.phase.progress(*step)
        if found := re.search(r"Instance ID: (i-[0-9a-f]+)", heard.text):
            self.instance = found[1]
        # AWS rejects this before the instance runs (API reference, ModifyInstanceMetadataOptions).
        if self.instance and "Waiting for SSH" in heard.text:
            self.cloud("ec2").modify_instance_metadata_options(
                InstanceId=self.instance, HttpTokens="required", HttpEndpoint="enabled", HttpPutResponseHopLimit=1
            )
            self.instance = ""


@contextlib.contextmanager
def _meanings() -> Iterator[None]:
    """Turn AWS errors in Packer's output into PolicyError and QuotaError, as for bake's own requests."""
    try:
        yield
    except PackerError as error:
        denied = re.search(r"perform: (ec2:\w+)", error.details)
        if denied or any(f"{code}:" in error.details for code in DENIED):
            action = denied[1] if denied else "an action of Packer"
            raise PolicyError(
                f"The AWS credentials lack the permission for {action}",
                policy.way_out("ami-packer", action),
                error.details,
            ) from error
        if over := re.search(r"(\w+(?:LimitExceeded|InsufficientInstanceCapacity)): (.*)", error.details):
            raise QuotaError(
                f"The AWS account has reached a quota ({over[1]}): {over[2]}",
                "Raise it under Service Quotas, or remove old AMIs with `bake prune`.",
            ) from error
        raise
