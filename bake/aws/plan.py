"""A launch before anything is started: what is asked for, looked up at AWS, and refused where it cannot work."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from botocore.exceptions import ClientError

from bake import userdata
from bake.aws import health, machines, retire, tags
from bake.aws.ami import HEALTH
from bake.aws.session import Cloud, code_of
from bake.errors import CloudError, DocumentError, RetireError, SettingsError
from bake.machine import File
from bake.progress import Phase
from bake.providers import PROVIDERS
from bake.settings import Settings

#: What a secret is fetched by: an ARN, or a name of this account and region, and then a key of the JSON that is there.
ARN = re.compile(
    r"arn:aws[a-z-]*:(ssm:[a-z0-9-]+:\d{12}:parameter/[\w./-]+|secretsmanager:[a-z0-9-]+:\d{12}:secret:[\w/+=.@!-]+)",
    re.A,
)
SHORT = re.compile(r"(?P<service>ssm|secretsmanager):(?P<name>/?[\w+=.@!-]+(/[\w+=.@!-]+)*)", re.A)
#: Secrets Manager takes the name for the end of an ARN, which has such a one (its API reference, GetSecretValue).
LIKE_AN_ARN = re.compile(r"secretsmanager:.*-[A-Za-z0-9]{6}")
NAME, KEY = re.compile(r"[A-Za-z_]\w*", re.A), re.compile(r"[\w.-]+", re.A)
#: What AWS answers about a thing that is not there.
MISSING = re.compile(r"\.(NotFound|Malformed)$")
#: As long as a volume's id is.
SOME_VOLUME = "vol-0123456789abcdef0"


@dataclass(frozen=True)
class Wanted:
    """What is asked for; `data` in GiB, `patience` in seconds."""

    type: str = "t3.small"
    subnet: str | None = None
    key_pair: str | None = None
    instance_profile: str | None = None
    kms_key: str | None = None
    ssh_from: tuple[str, ...] = ()
    data: int | None = None
    volume: str | None = None
    address: str | None = None
    #: The id of the machine that is to end, or `address`: the one that has it.
    retire: str | None = None
    forget_data: bool = False
    forget_certificate: bool = False
    patience: float = 600
    instead: tuple[tuple[int, health.Place], ...] = ()
    settings: Settings = field(default_factory=Settings)
    #: Names of secrets to what they are fetched by.
    secrets: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """What is known before the start: the AMI, the subnet, the volume that is there, and who goes."""

    image: dict[str, Any]
    subnet: dict[str, Any]
    volume: str | None
    old: retire.Old | None
    #: Who has the Elastic IP.
    holder: str | None
    secrets: dict[str, str]

    @property
    def app(self) -> str:
        """The app's name; an AMI that another account shares shows no tags."""
        return tags.read(self.image).get(tags.APP) or re.sub(r"[^a-z0-9-]+", "-", self.image["Name"].lower()).strip("-")

    @property
    def moves(self) -> bool:
        """Whether the old machine's volume goes to the new one."""
        return self.old is not None and self.volume is not None and self.volume == self.old.volume

    @property
    def health(self) -> str | None:
        """The path that bake.yaml names."""
        return tags.read(self.image).get(HEALTH)

    def names(self, wanted: Wanted) -> list[str]:
        """The machine's domains."""
        return list(wanted.settings.domains) or tags.read(self.image).get(machines.DOMAINS, "").split()

    def marks(self, wanted: Wanted, run: str) -> tags.Tags:
        """The tags of what is made, machine, disk and group alike."""
        of_image = tags.read(self.image)
        kept = {key: of_image.get(key, "") for key in (machines.IMAGE, machines.VERSION, machines.KEEP)}
        domains = tags.listed(self.names(wanted))
        return {"Name": self.app, tags.RUN: run, tags.APP: self.app, machines.DOMAINS: domains, **kept}


def make(ami: str, wanted: Wanted, cloud: Cloud, phase: Phase) -> Plan:
    """Look everything up. Raises for what could not work, or would lose something."""
    image = _image(cloud, ami, phase)
    holder, old = _holder(cloud, wanted.address), None
    if wanted.retire:
        name = holder if wanted.retire == "address" else wanted.retire
        if name is None:
            raise RetireError(
                "No machine has that address", "Name the one that is to end: --retire i-…; or leave it out."
            )
        old = retire.look(cloud, name, forget_data=wanted.forget_data, forget_certificate=wanted.forget_certificate)
    volume = wanted.volume or (old.volume if old and not wanted.data else None)
    if old and old.volume and old.volume != volume and not wanted.forget_data:
        raise RetireError(
            f"{old.name} has its data on {old.volume}, which would be left behind",
            "It moves to the new machine by itself: leave out --data and --volume; or say --forget-data.",
        )
    zone = _zone(cloud, volume, old) if volume else None
    made = Plan(image, _subnet(cloud, wanted.subnet, zone), volume, old, holder, referred(wanted, cloud))
    document(wanted, made.secrets, SOME_VOLUME if wanted.data else volume)
    return made


def document(wanted: Wanted, secrets: dict[str, str], volume: str | None) -> str:
    """The user-data: settings, names of secrets and where they are fetched, and the volume's id. No secret's value."""
    files = list(wanted.settings.files)
    if secrets:
        text = "".join(f"{name}={place}\n" for name, place in secrets.items())
        files.append(File("/etc/app/secrets.aws", 0o600, text.encode()))
    if volume:
        files.append(File("/etc/app/data", 0o644, f"{volume}\n".encode()))
    made = userdata.launch(files)
    limit = PROVIDERS["aws"].capacity
    if made.size > limit:
        raise DocumentError(
            f"The settings take {made.size} bytes; AWS takes {limit}",
            "Give less --env: the rest belongs into bake.yaml.",
        )
    return made.text


def referred(wanted: Wanted, cloud: Cloud) -> dict[str, str]:
    """Each secret's name, and the ARN (and #key) that it is fetched by. Raises SettingsError with every fault."""
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
            faults.append(f"secret: {name!r} is not a name of environment")
        elif short and LIKE_AN_ARN.fullmatch(short[0]):
            faults.append(f"secret: {reference!r} for {name} ends as an ARN does: give the secret's whole ARN instead")
        elif not ARN.fullmatch(place) or (mark and not KEY.fullmatch(key)):
            faults.append(f"secret: {reference!r} for {name} is neither an ARN, nor ssm:/path, nor secretsmanager:name")
        made[name] = f"{place}{mark}{key}"
    if made and not wanted.instance_profile:
        faults.append("secret: the machine fetches it by its role: name one that may, by --instance-profile")
    if faults:
        raise SettingsError("The settings have faults", "Correct the options.", "\n".join(faults))
    return made


def _image(cloud: Cloud, name: str, phase: Phase) -> dict[str, Any]:
    def ready() -> dict[str, Any] | None:
        try:
            (found,) = cloud("ec2").describe_images(ImageIds=[name])["Images"]
        except (ClientError, ValueError) as error:
            if isinstance(error, ClientError) and not re.search(r"^InvalidAMIID", code_of(error)):
                raise
            raise CloudError(
                f"There is no AMI {name} in {cloud.region}", "`bake ls --amis` shows those that are; or say --region."
            ) from error
        if found["State"] not in ("available", "pending"):
            raise CloudError(f"{name} is {found['State']}", "Publish it again: `bake ami`.")
        return dict(found) if found["State"] == "available" else None

    return machines.until(ready, f"made {name} available", phase)


def _holder(cloud: Cloud, address: str | None) -> str | None:
    if address is None:
        return None
    try:
        (found,) = cloud("ec2").describe_addresses(AllocationIds=[address])["Addresses"]
    except ClientError as error:
        if not MISSING.search(code_of(error)):
            raise
        raise CloudError(
            f"There is no Elastic IP {address} in {cloud.region}", "`aws ec2 describe-addresses` shows those that are."
        ) from error
    if found.get("AssociationId") and not found.get("InstanceId"):
        raise CloudError(
            f"{address} is with something that is no machine: {found.get('NetworkInterfaceId')}",
            "Take it away there first: from a network interface it could not go back.",
        )
    return found.get("InstanceId") or None


def _zone(cloud: Cloud, volume: str, old: retire.Old | None) -> str:
    """The zone of a volume that is free, or that the old machine has."""
    found = machines.volume(cloud, volume)
    held = [one["InstanceId"] for one in found.get("Attachments", ()) if old is None or one["InstanceId"] != old.name]
    if held:
        raise CloudError(f"{volume} is attached to {held[0]}", f"Say --retire {held[0]}: it moves to the new machine.")
    return str(found["AvailabilityZone"])


def _subnet(cloud: Cloud, name: str | None, zone: str | None) -> dict[str, Any]:
    """The subnet that is named, or the default one of a zone, or of the first zone."""
    if name is None:
        filters = [{"Name": "default-for-az", "Values": ["true"]}]
        filters += [{"Name": "availability-zone", "Values": [zone]}] if zone else []
        found = sorted(cloud.pages("ec2", "describe_subnets", "Subnets", Filters=filters), key=_zone_of)
        if not found:
            raise CloudError(
                f"No subnet is named, and there is no default one in {zone or cloud.region}",
                "Say --subnet; or make a default VPC: `aws ec2 create-default-vpc`.",
            )
        return dict(found[0])
    try:
        (subnet,) = cloud("ec2").describe_subnets(SubnetIds=[name])["Subnets"]
    except ClientError as error:
        if not MISSING.search(code_of(error)):
            raise
        raise CloudError(f"There is no subnet {name} in {cloud.region}", "Name another: --subnet.") from error
    if zone and _zone_of(subnet) != zone:
        raise CloudError(f"{name} is in {_zone_of(subnet)}, and the volume in {zone}", f"Name a subnet of {zone}.")
    return dict(subnet)


def _zone_of(subnet: dict[str, Any]) -> str:
    return str(subnet["AvailabilityZone"])
