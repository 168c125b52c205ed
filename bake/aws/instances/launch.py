"""Launch an instance from an AMI and wait until it is healthy, or roll everything back.

Resources get the run's tags in the call that creates them. They are temporary until the instance is healthy and has
taken over the volume and, last, the address of the previous instance. If the launch fails or is killed before that,
everything is rolled back. The call that removes the temporary tag commits the launch. Only then is the previous
instance terminated.
"""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from bake.aws import cleanup, tags
from bake.aws.instances import health, inventory, replacement
from bake.aws.instances.plan import LaunchOptions, Plan, make_plan, user_data
from bake.aws.session import Cloud, aws_errors, code_of
from bake.diagnosis import diagnosis
from bake.errors import Cancelled, LaunchError
from bake.host.progress import Phase, Reporter
from bake.image import archive_comparison, manifest

if TYPE_CHECKING:
    from mypy_boto3_ec2.type_defs import (
        CreateVolumeRequestTypeDef,
        EbsBlockDeviceTypeDef,
        InstanceTypeDef,
        IpPermissionTypeDef,
        RunInstancesRequestTypeDef,
    )

#: The number of console lines to show.
TAIL = 40
#: Seconds between two health checks.
PAUSE = 2


@dataclass(frozen=True)
class LaunchResult:
    """A healthy instance: its id, AMI and address, and the answer to its health check."""

    id: str
    ami: str
    address: str
    answer: health.Answer


@dataclass
class LaunchState:
    """The resources that a launch has created so far, to roll back if it fails."""

    run: str
    run_tags: tags.Tags
    resources: list[cleanup.Resource] = field(default_factory=list)
    instance: str = ""

    def record(self, kind: str, name: str, resource_tags: tags.Tags) -> str:
        """Record a created resource and return its name, because AWS may not list it at once."""
        self.resources.append(cleanup.Resource(kind, name, resource_tags))
        return name


def launch(
    ami_id: str, options: LaunchOptions, examine: Callable[[str], None] | None, cloud: Cloud, report: Reporter
) -> LaunchResult:
    """Launch an instance and give it the volume and the address. `examine` runs on its address once it is healthy."""
    with aws_errors(cloud), tags.run() as run:
        with report.phase("plan") as phase:
            plan = make_plan(ami_id, options, cloud, phase)
        if (days := inventory.age_of(plan.image)) not in ("", "0"):
            report.note(f"{ami_id} is {days} days old; `bake ami` makes a new one with today's security updates")
            facts = manifest.of_digest(tags.read(plan.image).get(inventory.IMAGE, ""))
            if line := archive_comparison.missing_updates(facts):
                report.note(line)
        state = LaunchState(run, plan.run_tags(run))
        try:
            with report.phase("start") as phase:
                instance = _start(plan, state, cloud, phase)
            with report.phase("health") as phase:
                answer = _await_health(instance, plan, cloud, phase)
            if examine:
                examine(inventory.address_of(instance))
            address = _move_address(instance, options, state, cloud)
            _make_permanent(instance, state, cloud)
        except BaseException as error:
            if _roll_back(state, cloud, report) and isinstance(error, KeyboardInterrupt):
                raise _rollback_cancelled(state) from error
            raise
        if plan.previous:
            _retire(plan.previous, state, cloud, report)
    return LaunchResult(state.instance, ami_id, address, answer)


def _start(plan: Plan, state: LaunchState, cloud: Cloud, phase: Phase) -> InstanceTypeDef:
    """Start the instance with its volume, wait until it passes AWS's status checks, and return its description."""
    ec2, options, resource_tags = cloud("ec2"), plan.options, state.run_tags | tags.expiry()
    group_id = _create_group(plan, state, resource_tags, cloud, phase)
    volume_id = plan.volume
    if options.data:
        volume: CreateVolumeRequestTypeDef = {
            "AvailabilityZone": plan.subnet["AvailabilityZone"], "Size": options.data, "VolumeType": "gp3",
            "Encrypted": True, "ClientToken": f"{state.run}-data",
            "TagSpecifications": tags.specifications(["volume"], resource_tags),
        }  # fmt: skip
        if options.kms_key:
            volume["KmsKeyId"] = options.kms_key
        volume_id = ec2.create_volume(**volume)["VolumeId"]
        state.record("volume", volume_id, resource_tags)
    takeover_tags = replacement.takeover_tags(
        plan.previous if plan.moves_volume else None, options.address, plan.holder
    )
    instance_tags = resource_tags | takeover_tags | {inventory.DATA: volume_id or ""}
    root: EbsBlockDeviceTypeDef = {"VolumeType": "gp3", "Encrypted": True, "DeleteOnTermination": True}
    if options.kms_key:
        root["KmsKeyId"] = options.kms_key
    parameters: RunInstancesRequestTypeDef = {
        "ImageId": plan.image["ImageId"], "MinCount": 1, "MaxCount": 1, "ClientToken": state.run,
        "InstanceType": options.type,  # type: ignore[typeddict-item]  # AWS may have types that the stubs do not list
        "SubnetId": plan.subnet["SubnetId"], "SecurityGroupIds": [group_id],
        "UserData": user_data(options, plan.secrets, volume_id),
        "MetadataOptions": {
            "HttpEndpoint": "enabled", "HttpTokens": "required", "HttpPutResponseHopLimit": 1,
            "InstanceMetadataTags": "disabled",
        },
        "BlockDeviceMappings": [{"DeviceName": plan.image["RootDeviceName"], "Ebs": root}],
        "TagSpecifications": [
            *tags.specifications(["instance"], instance_tags),
            *tags.specifications(["volume", "network-interface"], resource_tags),
        ],
    }  # fmt: skip
    if options.key_pair:
        parameters["KeyName"] = options.key_pair
    if profile := options.instance_profile:
        parameters["IamInstanceProfile"] = {"Arn": profile} if profile.startswith("arn:") else {"Name": profile}
    until = inventory.until
    instance_id = until(lambda: _run(cloud, parameters), f"listed {group_id}", phase)
    state.instance = state.record("instance", instance_id, instance_tags)
    until(lambda: _running_instance(cloud, state.instance), f"started {state.instance}", phase, error_type=LaunchError)
    if volume_id and plan.moves_volume:
        assert plan.previous
        replacement.hand_over(cloud, plan.previous, state.instance, phase)
    elif volume_id:
        replacement.attach(cloud, volume_id, state.instance, phase)
    try:
        until(
            lambda: _is_checked(cloud, state.instance), f"found {state.instance} healthy", phase, error_type=LaunchError
        )
    except LaunchError as error:
        error.details = console(cloud, state.instance)
        raise
    return until(
        lambda: _running_instance(cloud, state.instance), f"started {state.instance}", phase, error_type=LaunchError
    )


def _run(cloud: Cloud, parameters: RunInstancesRequestTypeDef) -> str | None:
    """Run an instance and return its id, or None while AWS does not know its new security group yet."""
    try:
        return cloud("ec2").run_instances(**parameters)["Instances"][0]["InstanceId"]
    except ClientError as error:
        if code_of(error) != "InvalidGroup.NotFound":
            raise
    return None


def _create_group(plan: Plan, state: LaunchState, resource_tags: tags.Tags, cloud: Cloud, phase: Phase) -> str:
    """Create the instance's security group, which allows HTTP and HTTPS from anywhere and SSH from `ssh_from`."""
    ec2, network_id, group_name = cloud("ec2"), plan.subnet["VpcId"], f"bake-{plan.app}-{state.run}"
    try:
        group_id = ec2.create_security_group(
            GroupName=group_name, Description=f"{plan.app}, made by bake", VpcId=network_id,
            TagSpecifications=tags.specifications(["security-group"], resource_tags),
        )["GroupId"]  # fmt: skip
    except ClientError as error:
        if code_of(error) != "InvalidGroup.Duplicate":
            raise
        # The name is unique to the run, so this is a retry by boto3 after a lost response.
        group_id = inventory.await_group(cloud, group_name, phase)
    state.record("security group", group_id, resource_tags)

    def allow_ingress() -> bool | None:
        try:
            ec2.authorize_security_group_ingress(GroupId=group_id, IpPermissions=rules(plan.options.ssh_from))
        except ClientError as error:
            if code_of(error) == "InvalidGroup.NotFound":
                return None
            if code_of(error) != "InvalidPermission.Duplicate":
                raise
        return True

    inventory.until(allow_ingress, f"listed {group_id}", phase)
    return group_id


def rules(ssh_from: tuple[str, ...]) -> list[IpPermissionTypeDef]:
    """Return the inbound rules as EC2's API takes them."""
    web_rules = [_rule(port, ["0.0.0.0/0", "::/0"]) for port in (80, 443)]
    return web_rules + ([_rule(22, list(ssh_from))] if ssh_from else [])


def _rule(port: int, networks: list[str]) -> IpPermissionTypeDef:
    rule: IpPermissionTypeDef = {"IpProtocol": "tcp", "FromPort": port, "ToPort": port}
    if ipv4 := [network for network in networks if ipaddress.ip_network(network).version == 4]:
        rule["IpRanges"] = [{"CidrIp": network} for network in ipv4]
    if ipv6 := [network for network in networks if network not in ipv4]:
        rule["Ipv6Ranges"] = [{"CidrIpv6": network} for network in ipv6]
    return rule


def _running_instance(cloud: Cloud, instance_id: str) -> InstanceTypeDef | None:
    instances = inventory.describe_instances(cloud, [instance_id])
    state = instances[0]["State"]["Name"] if instances else "pending"
    if state not in ("pending", "running"):
        reason = (
            instances[0].get("StateReason", {}).get("Message")
            or instances[0].get("StateTransitionReason")
            or "no reason given"
        )
        # These reasons mean that it cannot use its disk's key (EC2 user guide, "Instance terminates immediately").
        is_key_error = "Client.InternalError" in reason or "KMS" in reason
        hint = (
            "The instance may not use the key of its disks. Compare `bake aws-policy launch --kms-key ARN` and the "
            "key's own policy."
        )
        raise LaunchError(
            f"AWS terminated the instance {instance_id} while it started: {reason}",
            hint if is_key_error else "",
            console(cloud, instance_id),
        )
    return instances[0] if state == "running" else None


def _is_checked(cloud: Cloud, instance_id: str) -> bool | None:
    """Return True if both of AWS's status checks of an instance have passed, else None."""
    statuses = cloud("ec2").describe_instance_status(InstanceIds=[instance_id])["InstanceStatuses"]
    return (
        any(status["SystemStatus"]["Status"] == status["InstanceStatus"]["Status"] == "ok" for status in statuses)
        or None
    )


def _await_health(instance: InstanceTypeDef, plan: Plan, cloud: Cloud, phase: Phase) -> health.Answer:
    address, options = inventory.address_of(instance), plan.options
    endpoints = health.Endpoints(address, options.connect_to)
    # For a wildcard, request one name that matches it.
    name = next((name.replace("*", "www", 1) for name in plan.names), address)
    start = time.monotonic()
    while True:
        answer = health.ask(endpoints, name, plan.health or "/")
        if answer.is_healthy(plan.health is not None):
            return answer
        seconds = time.monotonic() - start
        phase.progress(min(seconds / max(options.patience, 1), 1), str(answer).splitlines()[0])
        if seconds + PAUSE > options.patience:
            break
        time.sleep(PAUSE)
    details = f"{console(cloud, instance['InstanceId'])}\n\n{answer}".lstrip()
    hint = "The console's last lines and the app's answer are above. Wait longer with --patience SECONDS."
    raise LaunchError(
        f"The instance is not healthy after {options.patience:.0f} s: {str(answer).splitlines()[0]}",
        f"{hint}\n{diagnosis.diagnose(details).text}".rstrip(), details,
    )  # fmt: skip


def console(cloud: Cloud, instance_id: str) -> str:
    """Return the last lines of an instance's console, or the reason why AWS does not show them."""
    for parameters in ({"Latest": True}, {}):
        try:
            response = cloud("ec2").get_console_output(InstanceId=instance_id, **parameters)
            return "\n".join(response.get("Output", "").splitlines()[-TAIL:])
        except (ClientError, BotoCoreError) as error:
            # Instance types without the Nitro system do not support `Latest`.
            reason = f"AWS does not show the console of {instance_id}: {error}"
    return reason


def _make_permanent(instance: InstanceTypeDef, state: LaunchState, cloud: Cloud) -> None:
    """Remove the temporary tag from all created resources."""
    volume_ids = [
        mapping["Ebs"]["VolumeId"]
        for mapping in instance.get("BlockDeviceMappings", ())
        if mapping["DeviceName"] != replacement.DEVICE
    ]
    interface_ids = [interface["NetworkInterfaceId"] for interface in instance.get("NetworkInterfaces", ())]
    ids = list(dict.fromkeys([*(resource.name for resource in state.resources), *volume_ids, *interface_ids]))
    cloud("ec2").delete_tags(Resources=ids, Tags=[{"Key": tags.EXPIRES}])


def _move_address(instance: InstanceTypeDef, options: LaunchOptions, state: LaunchState, cloud: Cloud) -> str:
    """Associate the Elastic IP with the instance, if there is one, and return the instance's address."""
    if options.address is None:
        return inventory.address_of(instance)
    replacement.associate_address(cloud, options.address, state.instance)
    (address,) = cloud("ec2").describe_addresses(AllocationIds=[options.address])["Addresses"]
    return address["PublicIp"]


def _roll_back(state: LaunchState, cloud: Cloud, report: Reporter) -> bool:
    """Give back the volume and the address, remove all created resources, and return whether some remain."""
    report.note("rolling back the launch")
    try:
        with report.phase("roll back") as phase:
            remainder = cleanup.roll_back(cloud, state.run, state.resources, phase)
    except KeyboardInterrupt as error:
        raise _rollback_cancelled(state) from error
    for resource, reason in remainder:
        report.note(f"not removed: {resource}: {reason or 'it is still in use'}")
    if remainder:
        report.note(f"`bake sweep` removes the resources with the tag {tags.RUN}={state.run}")
    return bool(remainder)


def _rollback_cancelled(state: LaunchState) -> Cancelled:
    return Cancelled(
        "Cancelled before the launch was rolled back completely",
        f"Run `bake sweep`. It completes the rollback: it removes the resources with the tag {tags.RUN}={state.run}.",
    )


def _retire(previous: replacement.PreviousInstance, state: LaunchState, cloud: Cloud, report: Reporter) -> None:
    """Terminate the previous instance. The new one is live already, and a failure here does not affect it."""
    try:
        with report.phase("retire") as phase:
            replacement.terminate(cloud, previous, phase)
    except KeyboardInterrupt as error:
        raise Cancelled(
            f"Cancelled, but {state.instance} is live", f"`bake down {previous.id}` terminates the previous instance."
        ) from error
    except BaseException:
        report.note(f"{state.instance} is live; {previous.id} may still exist: run `bake down {previous.id}`")
        raise
