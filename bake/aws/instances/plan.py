"""Plan a launch: look up everything at AWS and report errors before anything is created."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from botocore.exceptions import ClientError

from bake.aws import tags
from bake.aws.images.publish import HEALTH
from bake.aws.instances import health, inventory, replacement
from bake.aws.session import Cloud, code_of
from bake.config.providers import PROVIDERS
from bake.document import cloud_config
from bake.document.launch_settings import Settings
from bake.document.machine_files import File
from bake.errors import CloudError, DocumentError, RetireError, SettingsError
from bake.host.progress import Phase

#: Where a secret is fetched from: an ARN, or a name in this account and region. `#key` selects a key of its JSON.
ARN = re.compile(
    r"arn:aws[a-z-]*:(ssm:[a-z0-9-]+:\d{12}:parameter/[\w./-]+|secretsmanager:[a-z0-9-]+:\d{12}:secret:[\w/+=.@!-]+)",
    re.A,
)
SHORT = re.compile(r"(?P<service>ssm|secretsmanager):(?P<name>/?[\w+=.@!-]+(/[\w+=.@!-]+)*)", re.A)
#: Secrets Manager mistakes such a name for the end of an ARN (its API reference, GetSecretValue).
LIKE_AN_ARN = re.compile(r"secretsmanager:.*-[A-Za-z0-9]{6}")
NAME, KEY = re.compile(r"[A-Za-z_]\w*", re.A), re.compile(r"[\w.-]+", re.A)
#: Ends of AWS's error codes for resources that do not exist.
MISSING = re.compile(r"\.(NotFound|Malformed)$")
#: A placeholder with the length of a volume's id.
SOME_VOLUME = "vol-0123456789abcdef0"


@dataclass(frozen=True)
class Wanted:
    """Options of a launch; `data` is in GiB, `patience` in seconds."""

    type: str = "t3.small"
    subnet: str | None = None
    key_pair: str | None = None
    instance_profile: str | None = None
    kms_key: str | None = None
    ssh_from: tuple[str, ...] = ()
    data: int | None = None
    volume: str | None = None
    address: str | None = None
    #: The id of the previous instance to terminate, or `address` for the instance that has the Elastic IP.
    retire: str | None = None
    forget_data: bool = False
    forget_certificate: bool = False
    patience: float = 600
    instead: tuple[tuple[int, health.Place], ...] = ()
    settings: Settings = field(default_factory=Settings)
    #: Name of a secret to its ARN or short name.
    secrets: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """The facts before a launch: the AMI, the subnet, the existing volume and the instance to terminate."""

    image: dict[str, Any]
    subnet: dict[str, Any]
    volume: str | None
    old: replacement.Old | None
    #: The instance that has the Elastic IP.
    holder: str | None
    secrets: dict[str, str]

    @property
    def app(self) -> str:
        """Return the app's name, or one derived from the AMI's name if another account shares it without tags."""
        return tags.read(self.image).get(tags.APP) or re.sub(r"[^a-z0-9-]+", "-", self.image["Name"].lower()).strip("-")

    @property
    def moves(self) -> bool:
        """Return whether the previous instance's volume moves to the new one."""
        return self.old is not None and self.volume is not None and self.volume == self.old.volume

    @property
    def health(self) -> str | None:
        """Return the path of the health check in bake.yaml, or None."""
        return tags.read(self.image).get(HEALTH)

    def names(self, wanted: Wanted) -> list[str]:
        """Return the instance's domains."""
        return list(wanted.settings.domains) or tags.read(self.image).get(inventory.DOMAINS, "").split()

    def marks(self, wanted: Wanted, run: str) -> tags.Tags:
        """Return the tags of all resources of the launch: instance, disks and security group."""
        of_image = tags.read(self.image)
        kept = {key: of_image.get(key, "") for key in (inventory.IMAGE, inventory.VERSION, inventory.KEEP)}
        domains = tags.listed(self.names(wanted))
        return {"Name": self.app, tags.RUN: run, tags.APP: self.app, inventory.DOMAINS: domains, **kept}


def make(ami: str, wanted: Wanted, cloud: Cloud, phase: Phase) -> Plan:
    """Look up everything that a launch needs. Raises an error if the launch would fail or lose data."""
    image = _image(cloud, ami, phase)
    holder, old = _holder(cloud, wanted.address), None
    if wanted.retire:
        name = holder if wanted.retire == "address" else wanted.retire
        if name is None:
            raise RetireError(
                "No instance has the Elastic IP of --address", "Pass the instance's id, --retire i-…, or omit --retire."
            )
        old = replacement.look(
            cloud, name, forget_data=wanted.forget_data, forget_certificate=wanted.forget_certificate
        )
    volume = wanted.volume or (old.volume if old and not wanted.data else None)
    if old and old.volume and old.volume != volume and not wanted.forget_data:
        raise RetireError(
            f"{old.name} has its data on {old.volume}, which the new instance would not get",
            "Omit --data and --volume: the volume then moves to the new instance. Or pass --forget-data.",
        )
    zone = _zone(cloud, volume, old) if volume else None
    made = Plan(image, _subnet(cloud, wanted.subnet, zone), volume, old, holder, referred(wanted, cloud))
    document(wanted, made.secrets, SOME_VOLUME if wanted.data else volume)
    return made


def document(wanted: Wanted, secrets: dict[str, str], volume: str | None) -> str:
    """Return the user-data: settings, the names and ARNs of secrets, and the volume's id, without values of secrets.

    Raises DocumentError if it exceeds AWS's limit.
    """
    files = list(wanted.settings.files)
    if secrets:
        text = "".join(f"{name}={place}\n" for name, place in secrets.items())
        files.append(File("/etc/app/secrets.aws", 0o600, text.encode()))
    if volume:
        files.append(File("/etc/app/data", 0o644, f"{volume}\n".encode()))
    made = cloud_config.launch(files)
    limit = PROVIDERS["aws"].capacity
    if made.size > limit:
        raise DocumentError(
            f"The settings have {made.size:,} bytes; the limit of AWS is {limit:,}",
            "Pass fewer --env options, and set the others under `env` in bake.yaml.",
        )
    return made.text


def referred(wanted: Wanted, cloud: Cloud) -> dict[str, str]:
    """Return the ARN (and #key) of each secret by its name. Raises SettingsError with every fault."""
    made, faults = {}, []
    for name, reference in wanted.secrets.items():
        place, mark, key = reference.partition("#")
        short = SHORT.fullmatch(place)
        if short:
            kind = {"ssm": "parameter/", "secretsmanager": "secret:"}[short["service"]]
            partition = cloud.session.get_partition_for_region(cloud.region)
            place = f"arn:{partition}:{short['service']}:{cloud.region}:{cloud.account}:{kind}"
            place += short["name"].removeprefix("/") if short["service"] == "ssm" else short["name"]
        if not NAME.fullmatch(name):
            faults.append(f"secret: {name!r} is not a valid name of an environment variable")
        elif short and LIKE_AN_ARN.fullmatch(short[0]):
            faults.append(f"secret: {reference!r} for {name} ends like an ARN; pass the secret's complete ARN instead")
        elif not ARN.fullmatch(place) or (mark and not KEY.fullmatch(key)):
            faults.append(f"secret: {reference!r} for {name} is neither an ARN, nor ssm:/path, nor secretsmanager:name")
        made[name] = f"{place}{mark}{key}"
    if made and not wanted.instance_profile:
        faults.append("secret: the instance needs a role to fetch it; pass one that may, with --instance-profile")
    if faults:
        raise SettingsError.of_faults("The command line", faults)
    return made


def _image(cloud: Cloud, name: str, phase: Phase) -> dict[str, Any]:
    def ready() -> dict[str, Any] | None:
        try:
            (found,) = cloud("ec2").describe_images(ImageIds=[name])["Images"]
        except (ClientError, ValueError) as error:
            if isinstance(error, ClientError) and not re.search(r"^InvalidAMIID", code_of(error)):
                raise
            raise CloudError(
                f"There is no AMI {name} in {cloud.region}",
                "`bake ls --amis` lists bake's AMIs. Choose another region with --region.",
            ) from error
        if found["State"] not in ("available", "pending"):
            raise CloudError(f"The state of the AMI {name} is {found['State']}", "Publish it again: `bake ami`.")
        return dict(found) if found["State"] == "available" else None

    return inventory.until(ready, f"made {name} available", phase)


def _holder(cloud: Cloud, address: str | None) -> str | None:
    if address is None:
        return None
    try:
        (found,) = cloud("ec2").describe_addresses(AllocationIds=[address])["Addresses"]
    except ClientError as error:
        if not MISSING.search(code_of(error)):
            raise
        raise CloudError(
            f"There is no Elastic IP {address} in {cloud.region}", "`aws ec2 describe-addresses` lists the Elastic IPs."
        ) from error
    if found.get("AssociationId") and not found.get("InstanceId"):
        raise CloudError(
            f"{address} belongs to the network interface {found.get('NetworkInterfaceId')}, which is not an instance's",
            "Disassociate it first. bake could not give it back to a network interface after a rollback.",
        )
    return found.get("InstanceId") or None


def _zone(cloud: Cloud, volume: str, old: replacement.Old | None) -> str:
    """Return the availability zone of a volume. Raises CloudError if an instance other than `old` has it."""
    found = inventory.volume(cloud, volume)
    held = [one["InstanceId"] for one in found.get("Attachments", ()) if old is None or one["InstanceId"] != old.name]
    if held:
        raise CloudError(
            f"{volume} is attached to {held[0]}", f"Pass --retire {held[0]}: the volume then moves to the new instance."
        )
    return str(found["AvailabilityZone"])


def _subnet(cloud: Cloud, name: str | None, zone: str | None) -> dict[str, Any]:
    """Return the subnet `name`, or the default subnet of a zone, or of the first zone."""
    if name is None:
        filters = [{"Name": "default-for-az", "Values": ["true"]}]
        filters += [{"Name": "availability-zone", "Values": [zone]}] if zone else []
        found = sorted(cloud.pages("ec2", "describe_subnets", "Subnets", Filters=filters), key=_zone_of)
        if not found:
            raise CloudError(
                f"There is no default subnet in {zone or cloud.region}",
                "Pass --subnet, or create a default VPC: `aws ec2 create-default-vpc`.",
            )
        return dict(found[0])
    try:
        (subnet,) = cloud("ec2").describe_subnets(SubnetIds=[name])["Subnets"]
    except ClientError as error:
        if not MISSING.search(code_of(error)):
            raise
        raise CloudError(
            f"There is no subnet {name} in {cloud.region}", "Choose another subnet or region: --subnet, --region."
        ) from error
    if zone and _zone_of(subnet) != zone:
        raise CloudError(
            f"The subnet {name} is in {_zone_of(subnet)}, but the volume is in {zone}",
            f"Choose a subnet in {zone}: --subnet.",
        )
    return dict(subnet)


def _zone_of(subnet: dict[str, Any]) -> str:
    return str(subnet["AvailabilityZone"])
