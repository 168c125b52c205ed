"""A machine of an AMI, started, waited for and made to serve; or all of it undone.

What is made carries the run's tags from the call on that makes it, and counts as temporary until the machine is well
and has all that it takes from the machine before, the address last. Until then everything goes back when the launch
fails or is killed; the call that takes the tag away is where it counts. The machine before ends only after it.
"""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from bake import diagnosis
from bake.aws import health, machines, plan, retire, sweep, tags
from bake.aws.session import Cloud, code_of, refusals
from bake.errors import Cancelled, LaunchError
from bake.progress import Phase, Reporter

#: Lines of a console that are shown.
TAIL = 40
#: Seconds between two questions to the app.
PAUSE = 2


@dataclass(frozen=True)
class Launched:
    """A machine that serves, and how it answered."""

    id: str
    ami: str
    address: str
    answer: health.Answer


@dataclass
class Begun:
    """What a launch has made, all of which goes if it fails."""

    run: str
    marks: tags.Tags
    made: list[sweep.Thing] = field(default_factory=list)
    instance: str = ""

    def has(self, kind: str, name: str, said: tags.Tags) -> str:
        """Keep in mind what was made; AWS may take a moment to list it."""
        self.made.append(sweep.Thing(kind, name, said))
        return name


def launch(
    ami: str, wanted: plan.Wanted, examine: Callable[[str], None] | None, cloud: Cloud, report: Reporter
) -> Launched:
    """Start a machine and hand it what is asked for once it is well. `examine` looks at one that is, by its address."""
    with refusals(cloud), tags.run() as run:
        with report.phase("look") as phase:
            goal = plan.make(ami, wanted, cloud, phase)
        begun = Begun(run, goal.marks(wanted, run))
        try:
            with report.phase("start") as phase:
                started = _start(goal, wanted, begun, cloud, phase)
            with report.phase("health") as phase:
                answer = _await_health(started, goal, wanted, cloud, phase)
            if examine:
                examine(machines.address_of(started))
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
    """Everything up to a machine that AWS calls well, with its volume."""
    ec2, tagged = cloud("ec2"), begun.marks | tags.temporary()
    group = _group(goal, wanted, begun, tagged, cloud, phase)
    volume = goal.volume
    if wanted.data:
        volume = str(ec2.create_volume(
            AvailabilityZone=goal.subnet["AvailabilityZone"], Size=wanted.data, VolumeType="gp3", Encrypted=True,
            ClientToken=f"{begun.run}-data", TagSpecifications=tags.of(["volume"], tagged), **_key(wanted),
        )["VolumeId"])  # fmt: skip
        begun.has("volume", volume, tagged)
    takes = retire.notes(goal.old if goal.moves else None, wanted.address, goal.holder)
    said = tagged | takes | {machines.DATA: volume or ""}
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
    until = machines.until
    name = until(lambda: _run(cloud, words), f"made {group} known", phase)
    begun.instance = begun.has("instance", name, said)
    until(lambda: _running(cloud, begun.instance), f"started {begun.instance}", phase, fault=LaunchError)
    if volume and goal.moves:
        assert goal.old
        retire.hand_over(cloud, goal.old, begun.instance, phase)
    elif volume:
        retire.attach(cloud, volume, begun.instance, phase)
    try:
        until(lambda: _is_checked(cloud, begun.instance), f"found {begun.instance} well", phase, fault=LaunchError)
    except LaunchError as error:
        error.details = console(cloud, begun.instance)
        raise
    return until(lambda: _running(cloud, begun.instance), f"started {begun.instance}", phase, fault=LaunchError)


def _run(cloud: Cloud, words: dict[str, Any]) -> str | None:
    """Run an instance; its id. None where AWS does not know its security group yet, as it may for a moment."""
    try:
        return str(cloud("ec2").run_instances(**words)["Instances"][0]["InstanceId"])
    except ClientError as error:
        if code_of(error) != "InvalidGroup.NotFound":
            raise
    return None


def _key(wanted: plan.Wanted) -> dict[str, str]:
    return {"KmsKeyId": wanted.kms_key} if wanted.kms_key else {}


def _group(goal: plan.Plan, wanted: plan.Wanted, begun: Begun, tagged: tags.Tags, cloud: Cloud, phase: Phase) -> str:
    """A security group of the machine's own: the web from everywhere, SSH from where it is asked for."""
    ec2, network, name = cloud("ec2"), goal.subnet["VpcId"], f"bake-{goal.app}-{begun.run}"
    try:
        group = str(ec2.create_security_group(
            GroupName=name, Description=f"{goal.app}, made by bake", VpcId=network,
            TagSpecifications=tags.of(["security-group"], tagged),
        )["GroupId"])  # fmt: skip
    except ClientError as error:
        if code_of(error) != "InvalidGroup.Duplicate":
            raise
        # The name is the run's: the answer to the first try was lost, and boto3 has asked again.
        group = machines.group_named(cloud, name, phase)
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

    machines.until(open_up, f"made {group} known", phase)
    return group


def rules(ssh_from: tuple[str, ...]) -> list[dict[str, Any]]:
    """What comes in, as EC2 takes it."""
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
    found = machines.described(cloud, [name])
    state = found[0]["State"]["Name"] if found else "pending"
    if state not in ("pending", "running"):
        why = (
            found[0].get("StateReason", {}).get("Message") or found[0].get("StateTransitionReason") or "it says no why"
        )
        # EC2 user guide, "Instance terminates immediately": so it ends who cannot use the key of its disk.
        way = "Client.InternalError" in why or "KMS" in why
        hint = (
            "The key of its disks cannot be used: see `bake aws-policy launch --kms-key ARN`, and the key's own policy."
        )
        raise LaunchError(f"AWS ended {name} as it started: {why}", hint if way else "", console(cloud, name))
    return found[0] if state == "running" else None


def _is_checked(cloud: Cloud, name: str) -> bool | None:
    """Whether AWS's own two checks of a machine have passed."""
    found = cloud("ec2").describe_instance_status(InstanceIds=[name])["InstanceStatuses"]
    return any(one["SystemStatus"]["Status"] == one["InstanceStatus"]["Status"] == "ok" for one in found) or None


def _await_health(
    started: dict[str, Any], goal: plan.Plan, wanted: plan.Wanted, cloud: Cloud, phase: Phase
) -> health.Answer:
    address = machines.address_of(started)
    door = health.Door(address, wanted.instead)
    # A wildcard stands for any name.
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
    hint = "The console's last lines and its answer are above. --patience SECONDS waits longer."
    raise LaunchError(
        f"The machine is not well after {wanted.patience:.0f} s: {str(answer).splitlines()[0]}",
        f"{hint}\n{diagnosis.diagnose(said).text}".rstrip(), said,
    )  # fmt: skip


def console(cloud: Cloud, name: str) -> str:
    """The last lines of a machine's console, as far as AWS gives them."""
    for latest in ({"Latest": True}, {}):
        try:
            said = cloud("ec2").get_console_output(InstanceId=name, **latest)
            return "\n".join(str(said.get("Output") or "").splitlines()[-TAIL:])
        except (ClientError, BotoCoreError) as error:
            # Types that are not of the Nitro system have no latest.
            why = f"AWS does not show the console of {name}: {error}"
    return why


def _keep(started: dict[str, Any], begun: Begun, cloud: Cloud) -> None:
    """What was made is no longer temporary."""
    disks = [
        one["Ebs"]["VolumeId"] for one in started.get("BlockDeviceMappings", ()) if one["DeviceName"] != retire.DEVICE
    ]
    interfaces = [one["NetworkInterfaceId"] for one in started.get("NetworkInterfaces", ())]
    things = list(dict.fromkeys([*(one.name for one in begun.made), *disks, *interfaces]))
    cloud("ec2").delete_tags(Resources=things, Tags=[{"Key": tags.EXPIRES}])


def _move_address(started: dict[str, Any], wanted: plan.Wanted, begun: Begun, cloud: Cloud) -> str:
    """Lead the Elastic IP to the machine; the address that it is reached by from now on."""
    if wanted.address is None:
        return machines.address_of(started)
    retire.lead(cloud, wanted.address, begun.instance)
    (found,) = cloud("ec2").describe_addresses(AllocationIds=[wanted.address])["Addresses"]
    return str(found["PublicIp"])


def _undo(begun: Begun, cloud: Cloud, report: Reporter) -> bool:
    """The machine before gets back what was taken from it, and what was made goes. Whether some of it is left."""
    report.note("what was started is removed")
    try:
        with report.phase("undo") as phase:
            left = sweep.undo(cloud, begun.run, begun.made, phase)
    except KeyboardInterrupt as error:
        raise _unfinished(begun) from error
    for thing, why in left:
        report.note(f"left: {thing}: {why or 'something else holds it'}")
    if left:
        report.note(f"`bake sweep` removes what has the tag {tags.RUN}={begun.run}")
    return bool(left)


def _unfinished(begun: Begun) -> Cancelled:
    return Cancelled(
        "Cancelled, and not all that was started is gone",
        f"`bake sweep` gives back what was taken, and removes what has the tag {tags.RUN}={begun.run}.",
    )


def _retire(old: retire.Old, begun: Begun, cloud: Cloud, report: Reporter) -> None:
    """End the machine before. The new one serves already, and stays whatever happens here."""
    try:
        with report.phase("retire") as phase:
            retire.end(cloud, old, phase)
    except KeyboardInterrupt as error:
        raise Cancelled(f"Cancelled, but {begun.instance} serves", f"`bake down {old.name}` ends the other.") from error
    except BaseException:
        report.note(f"{begun.instance} serves; {old.name} may still be there: `bake down {old.name}`")
        raise
