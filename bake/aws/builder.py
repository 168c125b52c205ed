"""An AMI baked at AWS itself, by Packer's amazon-ebs, from Debian's own AMI and with the same document.

Packer 1.6 does not tag what it makes for itself (a key pair, a security group), and its AMI only once it is there. So
the first two are made here, tagged as they are made; the key pair's tags name the AMI that is to come, so that a sweep
knows it without tags. All stays temporary until the AMI has every tag and lets its machines be asked by IMDSv2 alone.
"""

from __future__ import annotations

import base64
import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from bake import bundle, image, machine, packer, places, recipe, source, store, userdata, vm
from bake.aws import ami, machines, policy, sweep, tags
from bake.aws.session import DENIED, Cloud, code_of, refusals
from bake.bundle import Bundle
from bake.errors import AmiError, PackerError, PolicyError, QuotaError
from bake.machine import File
from bake.progress import Phase, Reporter
from bake.providers import PROVIDERS
from bake.target import Target

#: Who publishes Debian's AMIs (wiki.debian.org/Cloud/AmazonEC2Image), and what they are called.
DEBIAN, NAME = "136693071363", "{release}-amd64-*"
#: From anywhere: who lacks the key of this one bake does not get in.
ANYWHERE = "0.0.0.0/0"
#: Has app-setup wait for the bundle's upload, on this boot alone. Packages come before it, but from the next boot on.
AWAIT = """\
[Service]
ExecStartPre=/bin/sh -c 'for second in $$(seq 900); do [ -e {place} ] && exit; sleep 1; done; \
echo "app-setup failed: no bundle {short} came within 900 s"; exit 1'
"""


def bake(
    folder: Path, wanted: recipe.Recipe, how: ami.Wanted, ssh_from: str, cloud: Cloud, report: Reporter
) -> ami.Ami:
    """Bake an app's folder into an AMI; the same document on the same AMI of Debian's twice answers the same.

    `ssh_from` is whom the instance's security group lets log in, as a CIDR.
    """
    if isinstance(wanted.base, recipe.BaseImage):
        raise AmiError(
            "Packer bakes at AWS from Debian's own AMIs, and bake.yaml names another base",
            "Leave out --builder: then the image is baked here, and uploaded.",
        )
    goal = wanted.target
    packer.version()
    with store.work_folder() as work, refusals(cloud), tags.run() as run:
        assert cloud.account
        base = newest(cloud, goal)
        code = source.folder_of(folder, wanted)
        parcel = bundle.collect(code, wanted, goal, work / "bundle.tar", report)
        facts = {
            "name": wanted.name, "document": store.digest(image.document(goal, parcel).text),
            "health": wanted.check.health, **image.origin_of(folder, code, wanted),
        }  # fmt: skip
        tagged = ami.marks(facts, run) | {ami.BASE: base["Name"]}
        found = ami.registered(cloud, tagged)
        if found is None:
            if wanted.check.network:
                report.note(image.NETWORK)
            title = how.name or f"{wanted.name}-{store.digest([facts['document'], base['Name']])[:12]}"
            with report.phase("bake") as phase:
                found = _made(title, wanted, goal, base["Name"], parcel, tagged, ssh_from, cloud, work, phase)
        with report.phase("register") as phase:
            ami.keep(cloud, found, phase)
        regions = ami.everywhere(cloud, found, tagged, how, report)
    return ami.Ami(cloud.region, found, regions)


def newest(cloud: Cloud, goal: Target) -> dict[str, Any]:
    """The newest of Debian's AMIs of a release, as the template looks for it."""
    wanted = {
        "name": NAME.format(release=goal.name), "architecture": "x86_64", "virtualization-type": "hvm",
        "root-device-type": "ebs", "state": "available",
    }  # fmt: skip
    filters = [{"Name": name, "Values": [value]} for name, value in wanted.items()]
    found = list(cloud.pages("ec2", "describe_images", "Images", Owners=[DEBIAN], Filters=filters))
    if not found:
        raise AmiError(
            f"Debian has no AMI {wanted['name']} in {cloud.region}",
            "Name another region: --region. Or leave out --builder: then the image is baked here, and uploaded.",
        )
    return dict(max(found, key=lambda one: one["CreationDate"]))


def user_data(goal: Target, parcel: Bundle, settings: userdata.CheckSettings) -> bytes:
    """The document of a bake, in the form that EC2 has room for, with what belongs to this boot alone."""
    place = f"{source.INCOMING}/{parcel.sha256}.tar"
    early = [
        *settings.baking,
        File(
            "/run/systemd/system/app-setup.service.d/50-upload.conf", 0o644,
            AWAIT.format(place=place, short=parcel.sha256[:12]).encode(),
        ),
    ]  # fmt: skip
    files = [*machine.files(goal), *source.bundled(goal, parcel.sha256), *early]
    document = userdata.fit(files, goal, PROVIDERS["aws"].capacity, binary=True)
    return base64.b64decode(document.text) if document.form == userdata.GZIPPED else document.text.encode()


def variables(title: str, base: str, group: str, key: Path, run: tags.Tags, cloud: Cloud, work: Path) -> dict[str, Any]:
    """The template's."""
    return {
        "region": cloud.region, "endpoint": cloud("ec2").meta.endpoint_url, "known": True, "base": base,
        "ami_name": title, "user_data": str(work / "user-data"), "bundle": str(work / "bundle.tar"),
        "key_pair": name_of(run), "private_key": str(key), "security_group": group, "tags": run,
    }  # fmt: skip


def credentials(cloud: Cloud) -> dict[str, str]:
    """boto3's, as Packer's environment: it knows fewer ways to them, and is to ask nobody else."""
    found = cloud.session.get_credentials().get_frozen_credentials()
    return {
        "AWS_ACCESS_KEY_ID": found.access_key, "AWS_SECRET_ACCESS_KEY": found.secret_key,
        "AWS_SESSION_TOKEN": found.token or "", "AWS_EC2_METADATA_DISABLED": "true", "AWS_PROFILE": "",
    }  # fmt: skip


def name_of(run: tags.Tags) -> str:
    """What a run's key pair and security group are called."""
    return f"bake-{run[tags.RUN]}"


def _made(
    title: str, wanted: recipe.Recipe, goal: Target, base: str, parcel: Bundle, tagged: tags.Tags, ssh_from: str,
    cloud: Cloud, work: Path, phase: Phase,
) -> str:  # fmt: skip
    """Bake, and give the AMI what Packer cannot; only then it is no longer temporary."""
    run = {key: tagged[key] for key in ("Name", tags.APP, tags.RUN)} | tags.temporary()
    key = work / "bake-key"
    public = vm.make_key(key, "bake")
    network = userdata.Network.UNBOUND if wanted.check.network else userdata.Network.CLOSED
    settings = userdata.CheckSettings({**wanted.check.env, **image.random_of(wanted)}, network, wanted.writable.observe)
    (work / "user-data").write_bytes(user_data(goal, parcel, settings))
    ami.require_free(cloud, title)
    try:
        group = _let_in(cloud, run, title, public, ssh_from, phase)
        listener = _Listener(cloud, phase)
        log = places.outputs(wanted.name or "app") / f"{wanted.name}.log"
        with _meanings(), image.keeping_log(log, settings):
            said = packer.build_there(
                "amazon-ebs.pkr.hcl", variables(title, base, group, key, run, cloud, work), credentials(cloud), work,
                listener.event,
            )  # fmt: skip
        name = said.partition(":")[2]
        ec2 = cloud("ec2")
        (found,) = ec2.describe_images(ImageIds=[name])["Images"]
        ec2.create_tags(Resources=[name, *ami.snapshots_of(found)], Tags=tags.written(tagged))
        ec2.modify_image_attribute(ImageId=name, ImdsSupport={"Value": "v2.0"})
        ami.keep(cloud, name, phase)
    except BaseException:
        # What this cannot remove, a sweep finds.
        with contextlib.suppress(Exception):
            sweep.clear(cloud, tagged[tags.RUN], phase)
        raise
    sweep.clear(cloud, tagged[tags.RUN], phase)
    return name


def _let_in(cloud: Cloud, run: tags.Tags, title: str, public: str, ssh_from: str, phase: Phase) -> str:
    """Make the key pair and the security group of a run; the group's id.

    Where a first answer was lost, boto3 asks again, and what is called so is ours.
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
    group = machines.group_named(cloud, name, phase)
    ssh = {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": ssh_from}]}
    with _already("InvalidPermission.Duplicate"):
        ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[ssh])
    return group


@contextlib.contextmanager
def _already(code: str) -> Iterator[None]:
    """Take an error of this code as having been done."""
    try:
        yield
    except ClientError as error:
        if code_of(error) != code:
            raise


class _Listener:
    """Hears what Packer does: shows it, and has the instance answer IMDSv2 alone as soon as AWS takes that."""

    def __init__(self, cloud: Cloud, phase: Phase) -> None:
        self.cloud, self.phase, self.instance = cloud, phase, ""

    def event(self, heard: packer.Event) -> None:
        """An event of Packer's."""
        step = packer.milestone(heard)
        if step:
            self.phase.progress(*step)
        if found := re.search(r"Instance ID: (i-[0-9a-f]+)", heard.text):
            self.instance = found[1]
        # It runs: before, AWS refuses this (API reference, ModifyInstanceMetadataOptions).
        if self.instance and "Waiting for SSH" in heard.text:
            self.cloud("ec2").modify_instance_metadata_options(
                InstanceId=self.instance, HttpTokens="required", HttpEndpoint="enabled", HttpPutResponseHopLimit=1
            )
            self.instance = ""


@contextlib.contextmanager
def _meanings() -> Iterator[None]:
    """What AWS told Packer, as it would have told us."""
    try:
        yield
    except PackerError as error:
        denied = re.search(r"perform: (ec2:\w+)", error.details)
        if denied or any(f"{code}:" in error.details for code in DENIED):
            action = denied[1] if denied else "something that Packer asked for"
            raise PolicyError(
                f"AWS does not allow {action} to these credentials",
                policy.way_out("ami-packer", action),
                error.details,
            ) from error
        if over := re.search(r"(\w+(?:LimitExceeded|InsufficientInstanceCapacity)): (.*)", error.details):
            raise QuotaError(
                f"A quota of this account is reached ({over[1]}): {over[2]}",
                "Raise it under Service Quotas, or make room: `bake prune`.",
            ) from error
        raise
