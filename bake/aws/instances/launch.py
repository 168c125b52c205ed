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
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from bake.aws import cleanup, tags
from bake.aws.instances import health, inventory, plan, replacement
from bake.aws.session import Cloud, code_of, refusals
from bake.diagnosis import diagnosis
from bake.errors import Cancelled, LaunchError
from bake.host.progress import Phase, Reporter

#: The number of console lines to show.
TAIL = 40
#: Seconds between two health checks.
PAUSE = 2


@dataclass(frozen=True)
class Launched:
    """A healthy instance: its id, AMI and address, and the answer to its health check."""

    id: str
    ami: str
    address: str
    answer: health.Answer


@dataclass
class Begun:
    """The resources that a launch has created so far, to roll back if it fails."""

    run: str
    marks: tags.Tags
    made: list[cleanup.Thing] = field(default_factory=list)
    instance: str = ""

    def has(self, kind: str, name: str, said: tags.Tags) -> str:
        """Record a created resource and return its name, because AWS may not list it at once."""
        self.made.append(cleanup.Thing(kind, name, said))
        return name


def launch(
    ami: str, wanted: plan.Wanted, examine: Callable[[str], None] | None, cloud: Cloud, report: Reporter
) -> Launched:
    """Launch an instance and give it the volume and the address. `examine` runs on its address once it is healthy."""
    with refusals(cloud), tags.run() as run:
        with report.phase("plan") as phase:
            goal = plan.make(ami, wanted, cloud, phase)
        begun = Begun(run, goal.marks(wanted, run))
        try:
            with report.phase("start") as phase:
                started = _start(goal, wanted, begun, cloud, phase)
            with report.phase("health") as phase:
                answer = _await_health(started, goal, wanted, cloud, phase)
            if examine:
                examine(inventory.address_of(started))
            address = _move_address(started, wanted, begun, cloud)
            _keep(started, begun, cloud)
        except BaseException as error:
            if _undo(begun, cloud, report) and isinstance(error, KeyboardInterrupt):
                raise _unfinished(begun) from error
            raise
        if goal.old:
            _retire(goal.old, begun, cloud, report)
    return Launched(begun.instance, ami, address, answer)


def _start(goal: plan.Plan, wanted: plan.Wanted, begun: Begun, cloud: Cloud, phase: Phase) -> dict[str, Any]:
    """Start the instance with its volume, wait until it passes AWS's status checks, and return its description."""
    ec2, tagged = cloud("ec2"), begun.marks | tags.temporary()
    group = _group(goal, wanted, begun, tagged, cloud, phase)
    volume = goal.volume
    if wanted.data:
        volume = str(ec2.create_volume(
            AvailabilityZone=goal.subnet["AvailabilityZone"], Size=wanted.data, VolumeType="gp3", Encrypted=True,
            ClientToken=f"{begun.run}-data", TagSpecifications=tags.of(["volume"], tagged), **_key(wanted),
        )["VolumeId"])  # fmt: skip
        begun.has("volume", volume, tagged)
    takes = replacement.notes(goal.old if goal.moves else None, wanted.address, goal.holder)
    said = tagged | takes | {inventory.DATA: volume or ""}
    root = {"VolumeType": "gp3", "Encrypted": True, "DeleteOnTermination": True, **_key(wanted)}
    more: dict[str, Any] = {"KeyName": wanted.key_pair} if wanted.key_pair else {}
    if wanted.instance_profile:
        by = "Arn" if wanted.instance_profile.startswith("arn:") else "Name"
        more["IamInstanceProfile"] = {by: wanted.instance_profile}
    words = dict(
        ImageId=goal.image["ImageId"], InstanceType=wanted.type, MinCount=1, MaxCount=1, ClientToken=begun.run,
        SubnetId=goal.subnet["SubnetId"], SecurityGroupIds=[group],
        UserData=plan.document(wanted, goal.secrets, volume),
        MetadataOptions={
            "HttpEndpoint": "enabled", "HttpTokens": "required", "HttpPutResponseHopLimit": 1,
            "InstanceMetadataTags": "disabled",
        },
        BlockDeviceMappings=[{"DeviceName": goal.image["RootDeviceName"], "Ebs": root}],
        TagSpecifications=[*tags.of(["instance"], said), *tags.of(["volume", "network-interface"], tagged)],
        **more,
    )  # fmt: skip
    until = inventory.until
    name = until(lambda: _run(cloud, words), f"listed {group}", phase)
    begun.instance = begun.has("instance", name, said)
    until(lambda: _running(cloud, begun.instance), f"started {begun.instance}", phase, fault=LaunchError)
    if volume and goal.moves:
        assert goal.old
        replacement.hand_over(cloud, goal.old, begun.instance, phase)
    elif volume:
        replacement.attach(cloud, volume, begun.instance, phase)
    try:
        until(lambda: _is_checked(cloud, begun.instance), f"found {begun.instance} healthy", phase, fault=LaunchError)
    except LaunchError as error:
        error.details = console(cloud, begun.instance)
        raise
    return until(lambda: _running(cloud, begun.instance), f"started {begun.instance}", phase, fault=LaunchError)


def _run(cloud: Cloud, words: dict[str, Any]) -> str | None:
    """Run an instance and return its id, or None while AWS does not know its new security group yet."""
    try:
        return str(cloud("ec2").run_instances(**words)["Instances"][0]["InstanceId"])
    except ClientError as error:
        if code_of(error) != "InvalidGroup.NotFound":
            raise
    return None


def _key(wanted: plan.Wanted) -> dict[str, str]:
    return {"KmsKeyId": wanted.kms_key} if wanted.kms_key else {}


def _group(goal: plan.Plan, wanted: plan.Wanted, begun: Begun, tagged: tags.Tags, cloud: Cloud, phase: Phase) -> str:
    """Create the instance's security group, which allows HTTP and HTTPS from anywhere and SSH from `ssh_from`."""
    ec2, network, name = cloud("ec2"), goal.subnet["VpcId"], f"bake-{goal.app}-{begun.run}"
    try:
        group = str(ec2.create_security_group(
            GroupName=name, Description=f"{goal.app}, made by bake", VpcId=network,
            TagSpecifications=tags.of(["security-group"], tagged),
        )["GroupId"])  # fmt: skip
    except ClientError as error:
        if code_of(error) != "InvalidGroup.Duplicate":
            raise
        # The name is unique to the run, so this is a retry by boto3 after a lost response.
        group = inventory.group_named(cloud, name, phase)
    begun.has("security group", group, tagged)

    def open_up() -> bool | None:
        try:
            ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=rules(wanted.ssh_from))
        except ClientError as error:
            if code_of(error) == "InvalidGroup.NotFound":
                return None
            if code_of(error) != "InvalidPermission.Duplicate":
                raise
        return True

    inventory.until(open_up, f"listed {group}", phase)
    return group


def rules(ssh_from: tuple[str, ...]) -> list[dict[str, Any]]:
    """Return the inbound rules as EC2's API takes them."""
    made = [_rule(port, ["0.0.0.0/0", "::/0"]) for port in (80, 443)]
    return made + ([_rule(22, list(ssh_from))] if ssh_from else [])


def _rule(port: int, networks: list[str]) -> dict[str, Any]:
    rule: dict[str, Any] = {"IpProtocol": "tcp", "FromPort": port, "ToPort": port}
    for network in networks:
        if ipaddress.ip_network(network).version == 4:
            rule.setdefault("IpRanges", []).append({"CidrIp": network})
        else:
            rule.setdefault("Ipv6Ranges", []).append({"CidrIpv6": network})
    return rule


def _running(cloud: Cloud, name: str) -> dict[str, Any] | None:
    found = inventory.described(cloud, [name])
    state = found[0]["State"]["Name"] if found else "pending"
    if state not in ("pending", "running"):
        why = (
            found[0].get("StateReason", {}).get("Message") or found[0].get("StateTransitionReason") or "no reason given"
        )
        # These reasons mean that it cannot use its disk's key (EC2 user guide, "Instance terminates immediately").
        way = "Client.InternalError" in why or "KMS" in why
        hint = (
            "The instance may not use the key of its disks. Compare `bake aws-policy launch --kms-key ARN` and the "
            "key's own policy."
        )
        raise LaunchError(
            f"AWS terminated the instance {name} while it started: {why}", hint if way else "", console(cloud, name)
        )
    return found[0] if state == "running" else None


def _is_checked(cloud: Cloud, name: str) -> bool | None:
    """Return True if both of AWS's status checks of an instance have passed, else None."""
    found = cloud("ec2").describe_instance_status(InstanceIds=[name])["InstanceStatuses"]
    return any(one["SystemStatus"]["Status"] == one["InstanceStatus"]["Status"] == "ok" for one in found) or None


def _await_health(
    started: dict[str, Any], goal: plan.Plan, wanted: plan.Wanted, cloud: Cloud, phase: Phase
) -> health.Answer:
    address = inventory.address_of(started)
    door = health.Door(address, wanted.instead)
    # For a wildcard, request one name that matches it.
    name = next((name.replace("*", "www", 1) for name in goal.names(wanted)), address)
    begun = time.monotonic()
    while True:
        answer = health.ask(door, name, goal.health or "/")
        if answer.is_well(goal.health is not None):
            return answer
        waited = time.monotonic() - begun
        phase.progress(min(waited / max(wanted.patience, 1), 1), str(answer).splitlines()[0])
        if waited + PAUSE > wanted.patience:
            break
        time.sleep(PAUSE)
    said = f"{console(cloud, started['InstanceId'])}\n\n{answer}".lstrip()
    hint = "The console's last lines and the app's answer are above. Wait longer with --patience SECONDS."
    raise LaunchError(
        f"The instance is not healthy after {wanted.patience:.0f} s: {str(answer).splitlines()[0]}",
        f"{hint}\n{diagnosis.diagnose(said).text}".rstrip(), said,
    )  # fmt: skip


def console(cloud: Cloud, name: str) -> str:
    """Return the last lines of an instance's console, or the reason why AWS does not show them."""
    for latest in ({"Latest": True}, {}):
        try:
            said = cloud("ec2").get_console_output(InstanceId=name, **latest)
            return "\n".join(str(said.get("Output") or "").splitlines()[-TAIL:])
        except (ClientError, BotoCoreError) as error:
            # Instance types without the Nitro system do not support `Latest`.
            why = f"AWS does not show the console of {name}: {error}"
    return why


def _keep(started: dict[str, Any], begun: Begun, cloud: Cloud) -> None:
    """Remove the temporary tag from all created resources."""
    disks = [
        one["Ebs"]["VolumeId"]
        for one in started.get("BlockDeviceMappings", ())
        if one["DeviceName"] != replacement.DEVICE
    ]
    interfaces = [one["NetworkInterfaceId"] for one in started.get("NetworkInterfaces", ())]
    things = list(dict.fromkeys([*(one.name for one in begun.made), *disks, *interfaces]))
    cloud("ec2").delete_tags(Resources=things, Tags=[{"Key": tags.EXPIRES}])


def _move_address(started: dict[str, Any], wanted: plan.Wanted, begun: Begun, cloud: Cloud) -> str:
    """Associate the Elastic IP with the instance, if one is wanted, and return the instance's address."""
    if wanted.address is None:
        return inventory.address_of(started)
    replacement.lead(cloud, wanted.address, begun.instance)
    (found,) = cloud("ec2").describe_addresses(AllocationIds=[wanted.address])["Addresses"]
    return str(found["PublicIp"])


def _undo(begun: Begun, cloud: Cloud, report: Reporter) -> bool:
    """Give back what the previous instance had, remove all created resources, and return whether some remain."""
    report.note("rolling back the launch")
    try:
        with report.phase("roll back") as phase:
            left = cleanup.undo(cloud, begun.run, begun.made, phase)
    except KeyboardInterrupt as error:
        raise _unfinished(begun) from error
    for thing, why in left:
        report.note(f"not removed: {thing}: {why or 'it is still in use'}")
    if left:
        report.note(f"`bake sweep` removes the resources with the tag {tags.RUN}={begun.run}")
    return bool(left)


def _unfinished(begun: Begun) -> Cancelled:
    return Cancelled(
        "Cancelled before the launch was rolled back completely",
        f"Run `bake sweep`. It completes the rollback: it removes the resources with the tag {tags.RUN}={begun.run}.",
    )


def _retire(old: replacement.Old, begun: Begun, cloud: Cloud, report: Reporter) -> None:
    """Terminate the previous instance. The new one is live already, and a failure here does not affect it."""
    try:
        with report.phase("retire") as phase:
            replacement.end(cloud, old, phase)
    except KeyboardInterrupt as error:
        raise Cancelled(
            f"Cancelled, but {begun.instance} is live", f"`bake down {old.name}` terminates the previous instance."
        ) from error
    except BaseException:
        report.note(f"{begun.instance} is live; {old.name} may still exist: run `bake down {old.name}`")
        raise
