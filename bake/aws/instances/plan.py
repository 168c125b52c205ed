"""Plan a launch: look up everything at AWS and report errors before anything is created."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from bake.aws import listing, tags
from bake.aws.images.publish import HEALTH
from bake.aws.instances import health, inventory, replacement
from bake.aws.session import Cloud, code_of
from bake.config import contract
from bake.config.providers import PROVIDERS
from bake.document import cloud_config
from bake.document.launch_settings import Settings
from bake.document.machine_files import File
from bake.errors import CloudError, DocumentError, RetireError, SettingsError
from bake.host.progress import Phase

if TYPE_CHECKING:
    from mypy_boto3_ec2.type_defs import FilterTypeDef, ImageTypeDef, SubnetTypeDef

#: The source of a secret: an ARN, or a name in this account and region. `#key` selects a key of its JSON.
ARN = re.compile(
    r"arn:aws[a-z-]*:(ssm:[a-z0-9-]+:\d{12}:parameter/[\w./-]+|secretsmanager:[a-z0-9-]+:\d{12}:secret:[\w/+=.@!-]+)",
    re.A,
)
SHORT_NAME = re.compile(r"(?P<service>ssm|secretsmanager):(?P<name>/?[\w+=.@!-]+(/[\w+=.@!-]+)*)", re.A)
#: Secrets Manager mistakes such a name for the end of an ARN (its API reference, GetSecretValue).
LIKE_AN_ARN = re.compile(r"secretsmanager:.*-[A-Za-z0-9]{6}")
NAME, KEY = re.compile(r"[A-Za-z_]\w*", re.A), re.compile(r"[\w.-]+", re.A)
#: Ends of AWS's error codes for resources that do not exist.
MISSING = re.compile(r"\.(NotFound|Malformed)$")
#: A placeholder with the length of a volume's id.
PLACEHOLDER_VOLUME = "vol-0123456789abcdef0"


@dataclass(frozen=True)
class LaunchOptions:
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
    connect_to: tuple[tuple[int, health.Endpoint], ...] = ()
    settings: Settings = field(default_factory=Settings)
    #: Name of a secret to its ARN or short name.
    secrets: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """The options of a launch, and the facts before it: AMI, subnet, existing volume, and instance to terminate."""

    options: LaunchOptions
    image: ImageTypeDef
    subnet: SubnetTypeDef
    volume: str | None
    previous: replacement.PreviousInstance | None
    #: The instance that has the Elastic IP.
    holder: str | None
    secrets: dict[str, str]

    @property
    def app(self) -> str:
        """Return the app's name, or one derived from the AMI's name if another account shares it without tags."""
        return tags.read(self.image).get(tags.APP) or re.sub(r"[^a-z0-9-]+", "-", self.image["Name"].lower()).strip("-")

    @property
    def moves_volume(self) -> bool:
        """Return whether the previous instance's volume moves to the new one."""
        return self.previous is not None and self.volume is not None and self.volume == self.previous.volume

    @property
    def health(self) -> str | None:
        """Return the path of the health check in bake.yaml, or None."""
        return tags.read(self.image).get(HEALTH)

    @property
    def names(self) -> list[str]:
        """Return the instance's domains."""
        return list(self.options.settings.domains) or tags.read(self.image).get(inventory.DOMAINS, "").split()

    def run_tags(self, run: str) -> tags.Tags:
        """Return the tags of all resources of the launch: instance, disks and security group."""
        image_tags = tags.read(self.image)
        copied_tags = {key: image_tags.get(key, "") for key in (inventory.IMAGE, inventory.VERSION, inventory.KEEP)}
        domains = tags.join_names(self.names)
        return {"Name": self.app, tags.RUN: run, tags.APP: self.app, inventory.DOMAINS: domains, **copied_tags}


def make_plan(ami_id: str, options: LaunchOptions, cloud: Cloud, phase: Phase) -> Plan:
    """Look up everything that a launch needs. Raises an error if the launch would fail or lose data."""
    image = _image(cloud, ami_id, phase)
    holder, previous = _holder(cloud, options.address), None
    if options.retire:
        instance_id = holder if options.retire == "address" else options.retire
        if instance_id is None:
            raise RetireError(
                "No instance has the Elastic IP of --address", "Pass the instance's id, --retire i-…, or omit --retire."
            )
        previous = replacement.find_previous(
            cloud, instance_id, forget_data=options.forget_data, forget_certificate=options.forget_certificate
        )
    volume = options.volume or (previous.volume if previous and not options.data else None)
    if previous and previous.volume and previous.volume != volume and not options.forget_data:
        raise RetireError(
            f"{previous.id} has its data on {previous.volume}, which the new instance would not get",
            "Omit --data and --volume: the volume then moves to the new instance. Or pass --forget-data.",
        )
    zone = _zone(cloud, volume, previous) if volume else None
    subnet, secrets = _subnet(cloud, options.subnet, zone), secret_arns(options, cloud)
    plan = Plan(options, image, subnet, volume, previous, holder, secrets)
    user_data(options, plan.secrets, PLACEHOLDER_VOLUME if options.data else volume)
    return plan


def user_data(options: LaunchOptions, secrets: dict[str, str], volume: str | None) -> str:
    """Return the user-data: settings, the names and ARNs of secrets, and the volume's id, without values of secrets.

    Raises DocumentError if it exceeds AWS's limit.
    """
    files = list(options.settings.files)
    if secrets:
        text = "".join(f"{name}={arn}\n" for name, arn in secrets.items())
        files.append(File(contract.SECRET_REFERENCES, 0o600, text.encode()))
    if volume:
        files.append(File(contract.VOLUME, 0o644, f"{volume}\n".encode()))
    document = cloud_config.launch(files)
    limit = PROVIDERS["aws"].capacity
    if document.size > limit:
        raise DocumentError(
            f"The settings have {document.size:,} bytes; the limit of AWS is {limit:,}",
            "Pass fewer --env options, and set the others under `env` in bake.yaml.",
        )
    return document.text


def secret_arns(options: LaunchOptions, cloud: Cloud) -> dict[str, str]:
    """Return the ARN (and #key) of each secret by its name. Raises SettingsError with every fault."""
    arns, faults = {}, []
    for name, reference in options.secrets.items():
        arn, separator, key = reference.partition("#")
        match = SHORT_NAME.fullmatch(arn)
        if match:
            kind = {"ssm": "parameter/", "secretsmanager": "secret:"}[match["service"]]
            partition = cloud.session.get_partition_for_region(cloud.region)
            arn = f"arn:{partition}:{match['service']}:{cloud.region}:{cloud.account}:{kind}"
            arn += match["name"].removeprefix("/") if match["service"] == "ssm" else match["name"]
        if not NAME.fullmatch(name):
            faults.append(f"secret: {name!r} is not a valid name of an environment variable")
        elif match and LIKE_AN_ARN.fullmatch(match[0]):
            faults.append(f"secret: {reference!r} for {name} ends like an ARN; pass the secret's complete ARN instead")
        elif not ARN.fullmatch(arn) or (separator and not KEY.fullmatch(key)):
            faults.append(f"secret: {reference!r} for {name} is neither an ARN, nor ssm:/path, nor secretsmanager:name")
        arns[name] = f"{arn}{separator}{key}"
    if arns and not options.instance_profile:
        faults.append("secret: the instance needs a role to fetch it; pass one that may, with --instance-profile")
    if faults:
        raise SettingsError.of_faults("The command line", faults)
    return arns


def _image(cloud: Cloud, ami_id: str, phase: Phase) -> ImageTypeDef:
    def ready() -> ImageTypeDef | None:
        try:
            (image,) = cloud("ec2").describe_images(ImageIds=[ami_id])["Images"]
        except (ClientError, ValueError) as error:
            if isinstance(error, ClientError) and not re.search(r"^InvalidAMIID", code_of(error)):
                raise
            raise CloudError(
                f"There is no AMI {ami_id} in {cloud.region}",
                "`bake ls --amis` lists bake's AMIs. Choose another region with --region.",
            ) from error
        if image["State"] not in ("available", "pending"):
            raise CloudError(f"The state of the AMI {ami_id} is {image['State']}", "Publish it again: `bake ami`.")
        return image if image["State"] == "available" else None

    return inventory.until(ready, f"made {ami_id} available", phase)


def _holder(cloud: Cloud, address: str | None) -> str | None:
    if address is None:
        return None
    try:
        (elastic_ip,) = cloud("ec2").describe_addresses(AllocationIds=[address])["Addresses"]
    except ClientError as error:
        if not MISSING.search(code_of(error)):
            raise
        raise CloudError(
            f"There is no Elastic IP {address} in {cloud.region}", "`aws ec2 describe-addresses` lists the Elastic IPs."
        ) from error
    if elastic_ip.get("AssociationId") and not elastic_ip.get("InstanceId"):
        interface_id = elastic_ip.get("NetworkInterfaceId")
        raise CloudError(
            f"{address} belongs to the network interface {interface_id}, which is not an instance's",
            "Disassociate it first. bake could not give it back to a network interface after a rollback.",
        )
    return elastic_ip.get("InstanceId") or None


def _zone(cloud: Cloud, volume_id: str, previous: replacement.PreviousInstance | None) -> str:
    """Return the availability zone of a volume. Raises CloudError if an instance other than `previous` has it."""
    description = inventory.describe_volume(cloud, volume_id)
    holders = [
        attachment["InstanceId"]
        for attachment in description.get("Attachments", ())
        if previous is None or attachment["InstanceId"] != previous.id
    ]
    if holders:
        raise CloudError(
            f"{volume_id} is attached to {holders[0]}",
            f"Pass --retire {holders[0]}: the volume then moves to the new instance.",
        )
    return description["AvailabilityZone"]


def _subnet(cloud: Cloud, subnet_id: str | None, zone: str | None) -> SubnetTypeDef:
    """Return the subnet `subnet_id`, or the default subnet of a zone, or of the first zone."""
    if subnet_id is None:
        filters: list[FilterTypeDef] = [{"Name": "default-for-az", "Values": ["true"]}]
        filters += [{"Name": "availability-zone", "Values": [zone]}] if zone else []
        subnets = sorted(listing.subnets(cloud, filters), key=_zone_of)
        if not subnets:
            raise CloudError(
                f"There is no default subnet in {zone or cloud.region}",
                "Pass --subnet, or create a default VPC: `aws ec2 create-default-vpc`.",
            )
        return subnets[0]
    try:
        (subnet,) = cloud("ec2").describe_subnets(SubnetIds=[subnet_id])["Subnets"]
    except ClientError as error:
        if not MISSING.search(code_of(error)):
            raise
        raise CloudError(
            f"There is no subnet {subnet_id} in {cloud.region}", "Choose another subnet or region: --subnet, --region."
        ) from error
    if zone and _zone_of(subnet) != zone:
        raise CloudError(
            f"The subnet {subnet_id} is in {_zone_of(subnet)}, but the volume is in {zone}",
            f"Choose a subnet in {zone}: --subnet.",
        )
    return subnet


def _zone_of(subnet: SubnetTypeDef) -> str:
    return subnet["AvailabilityZone"]
