"""`bake launch`, `bake ls`, `bake down` as real processes, against moto's server and an app of the test's own.

moto's machines are records: none boots. The app that answers for one is a server here, which --connect-to names.
Everything runs in a network namespace: the addresses that moto invents belong to strangers.
"""

import base64
import contextlib
import hashlib
import http.server
import json
import os
import re
import signal
import ssl
import subprocess
import sys
import threading
import time

import amazon
import boto3
import pytest
import servers
import trustme
import yaml

from bake.aws import policy, tags
from bake.host.programs import start, stop

ALIVE = ["pending", "running", "stopping", "stopped"]
OURS = {"Name": "tag-key", "Values": ["bake:run"]}


pytestmark = amazon.inside


class World:
    """moto behind its gate, an AMI of ours in it, and `bake` as a process."""

    def __init__(self, gate, folder):
        self.gate, self.folder = gate, folder
        self.ec2 = boto3.client("ec2")
        self.ami = ""
        #: What the gate saw of each command, in all cases.
        self.seen: dict[str, set[str]] = {}

    def start(self, *words, **env):
        """Start `bake`."""
        argv = [sys.executable, "-m", "bake", *map(str, words)]
        return start(argv, cwd=self.folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def bake(self, *words, code=0, **env):
        """Run `bake`; what it printed, and what it said besides."""
        self.gate.clear()
        process = self.start(*words, **env)
        try:
            out, said = (each.decode() for each in process.communicate(timeout=400))
        finally:
            stop(process)
        assert process.returncode == code, (process.returncode, said)
        needs = {":".join(pair) for pair in self.gate.needs}
        self.seen[words[0]] = self.seen.get(words[0], set()) | needs
        if words[0] in ("launch", "ls", "down", "sweep"):
            assert needs <= policy.actions(words[0])
        return out.strip(), said

    def launch(self, app, *words, code=0, **env):
        """`bake launch` of our AMI, its app being `app`."""
        return self.bake("launch", self.ami, "--patience", "1", *app.instead, *words, code=code, **env)

    def machines(self, *filters, states=ALIVE):
        told = self.ec2.describe_instances(Filters=[{"Name": "instance-state-name", "Values": list(states)}, *filters])
        return [one for each in told["Reservations"] for one in each["Instances"]]

    def machine(self, name):
        return self.ec2.describe_instances(InstanceIds=[name])["Reservations"][0]["Instances"][0]

    def things(self):
        """Ids and tags of all that is tagged as ours, but for AMIs and snapshots."""
        found = {one["InstanceId"]: tags.read(one) for one in self.machines(OURS)}
        for operation, key, name in (
            ("describe_volumes", "Volumes", "VolumeId"),
            ("describe_security_groups", "SecurityGroups", "GroupId"),
            ("describe_network_interfaces", "NetworkInterfaces", "NetworkInterfaceId"),
        ):
            told = getattr(self.ec2, operation)(Filters=[OURS])[key]
            # Network interfaces have theirs by another name.
            found |= {one[name]: tags.read({"Tags": one.get("Tags") or one.get("TagSet", [])}) for one in told}
        return found

    def address(self):
        return self.ec2.allocate_address(Domain="vpc")["AllocationId"]

    def holder(self, address):
        return self.ec2.describe_addresses(AllocationIds=[address])["Addresses"][0].get("InstanceId") or None

    def clean(self):
        """Remove all but the AMI."""
        self.gate.fault, self.gate.ours.held_looks = (lambda *call: None), 0
        names = [one["InstanceId"] for one in self.machines()]
        if names:
            self.ec2.terminate_instances(InstanceIds=names)
        for address in self.ec2.describe_addresses()["Addresses"]:
            self.ec2.release_address(AllocationId=address["AllocationId"])
        for volume in self.ec2.describe_volumes()["Volumes"]:
            self.ec2.delete_volume(VolumeId=volume["VolumeId"])
        for group in self.ec2.describe_security_groups()["SecurityGroups"]:
            if group["GroupName"] != "default":
                self.ec2.delete_security_group(GroupId=group["GroupId"])
        self.gate.clear()


@pytest.fixture(scope="session")
def worlds(tmp_path_factory):
    folder = tmp_path_factory.mktemp("amazon")
    with amazon.standing(folder) as gate, pytest.MonkeyPatch.context() as patch:
        patch.setenv("BAKE_CACHE", str(folder / "cache"))
        gate.reset()
        world = World(gate, folder)
        world.ami = publish(world, folder, "shop", health="/up", keep=None, domains=[])
        yield world


def publish(world, folder, name, **said):
    """The AMI of a made-up disk, by the real `bake ami`."""
    disk = folder / f"{name}.raw"
    with disk.open("wb") as stream:
        stream.truncate(2**20)
        stream.write(name.encode())
    digest = hashlib.sha256(disk.read_bytes()).hexdigest()
    facts = {
        "name": name, "sha256": digest, "checks": 90, "version": "1.2", "document": "d", "release": "debian-13",
        "base_date": "2026-11-01", **said,
    }  # fmt: skip
    disk.with_name(f"{name}.raw.json").write_text(json.dumps(facts))
    return world.bake("ami", disk)[0]


@pytest.fixture
def world(worlds):
    strangers = amazon.tries()
    worlds.gate.clear()
    yield worlds
    worlds.clean()
    assert amazon.tries() == strangers


class App:
    """A machine's nginx, as far as a visitor sees it."""

    def __init__(self):
        self.asked = []
        #: Statuses of the next answers; the last one stays.
        self.statuses = [200]
        self.redirect = False
        self.authority = trustme.CA()

    def answer(self, handler, secure):
        self.asked.append((secure, handler.headers["Host"], handler.path))
        if self.redirect and not secure:
            handler.send_response(301)
            handler.send_header("Location", f"https://{handler.headers['Host']}{handler.path}")
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        body = b"being set up: step 2 of 6" if status == 503 else b"hello"
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    @contextlib.contextmanager
    def open(self):
        """Answer on two ports."""
        with contextlib.ExitStack() as stack:
            ports = [stack.enter_context(servers.serve(self.server(secure))) for secure in (False, True)]
            self.instead = [
                word for port, here in zip((80, 443), ports, strict=True)
                for word in ("--connect-to", f":{port}:127.0.0.1:{here}")
            ]  # fmt: skip
            yield self

    def server(self, secure):
        app = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                app.answer(self, secure)

            def log_message(self, *words):
                pass

        class Server(http.server.ThreadingHTTPServer):
            def handle_error(self, request, client_address):
                pass

        made = Server(("127.0.0.1", 0), Handler)
        if secure:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.authority.issue_cert("shop.example").configure_cert(context)
            made.socket = context.wrap_socket(made.socket, server_side=True)
        return made


@pytest.fixture(scope="session")
def opened():
    with App().open() as app:
        yield app


@pytest.fixture
def app(opened):
    opened.asked, opened.statuses, opened.redirect = [], [200], False
    return opened


def user_data(world, name):
    """The files that a machine is given, by path."""
    told = world.ec2.describe_instance_attribute(InstanceId=name, Attribute="userData")["UserData"]["Value"]
    text = base64.b64decode(told).decode()
    assert text.startswith("#cloud-config\n")
    return {file["path"]: file["content"] for file in yaml.safe_load(text)["write_files"]}


# Healthy


def test_a_healthy_machine_is_as_it_was_asked_for(world, app):
    world.ec2.create_key_pair(KeyName="ops")
    boto3.client("iam").create_instance_profile(InstanceProfileName="shop")
    app.statuses = [503, 200]
    began = time.monotonic()
    printed, said = world.launch(
        app, "--patience", 30, "--domain", "shop.example", "--domain", "www.shop.example", "--email", "a@shop.example",
        "--env", "MOOD=good", "--secret", "KEY=ssm:/shop/key", "--secret", "DB=secretsmanager:shop#url", "--data", 3,
        "--ssh-from", "192.0.2.7/32", "--ssh-from", "2001:db8::/32", "--key-pair", "ops", "--instance-profile", "shop",
    )  # fmt: skip
    assert time.monotonic() - began < 30
    assert re.fullmatch(r"i-[0-9a-f]{17}", printed)
    one = world.machine(printed)
    things = world.things()
    # Machine, root, data, group, interface: none is temporary, and nothing else is there.
    assert sorted(name.split("-")[0] for name in things) == ["eni", "i", "sg", "vol", "vol"]
    runs = {(said["bake:run"], said["bake:app"], said.get("bake:expires")) for said in things.values()}
    assert len(runs) == 1 and next(iter(runs))[1:] == ("shop", None)
    told = tags.read(one)
    assert told["bake:version"] == "1.2" and told["bake:domains"] == "shop.example www.shop.example"
    data = told["bake:data"]
    volumes = {each["VolumeId"]: each for each in world.ec2.describe_volumes()["Volumes"]}
    assert volumes[data]["Size"] == 3 and volumes[data]["Encrypted"] and volumes[data]["VolumeType"] == "gp3"
    assert volumes[data]["Attachments"][0]["InstanceId"] == printed
    [root] = [each for each in volumes.values() if each["VolumeId"] != data]
    assert root["Encrypted"]
    [asked] = world.gate.asked("RunInstances")
    assert (
        asked["BlockDeviceMapping.1.Ebs.Encrypted"] == "true" and asked["BlockDeviceMapping.1.Ebs.VolumeType"] == "gp3"
    )
    assert asked["BlockDeviceMapping.1.DeviceName"] == "/dev/xvda" and asked["ClientToken"]
    options = {name: asked[f"MetadataOptions.{name}"] for name in ("HttpTokens", "HttpPutResponseHopLimit")}
    assert options == {"HttpTokens": "required", "HttpPutResponseHopLimit": "1"}
    assert asked["MetadataOptions.InstanceMetadataTags"] == "disabled"
    [group] = world.ec2.describe_security_groups(GroupIds=[one["SecurityGroups"][0]["GroupId"]])["SecurityGroups"]
    rules = {
        (each["FromPort"], each["ToPort"], each["IpProtocol"]): [
            *(r["CidrIp"] for r in each["IpRanges"]), *(r["CidrIpv6"] for r in each["Ipv6Ranges"]),
        ]
        for each in group["IpPermissions"]
    }  # fmt: skip
    everywhere = ["0.0.0.0/0", "::/0"]
    assert rules == {
        (80, 80, "tcp"): everywhere, (443, 443, "tcp"): everywhere, (22, 22, "tcp"): ["192.0.2.7/32", "2001:db8::/32"],
    }  # fmt: skip
    where = f"{amazon.REGION}:{amazon.ACCOUNT}"
    assert user_data(world, printed) == {
        "/etc/app/domains": "shop.example\nwww.shop.example\n",
        "/etc/app/email": "a@shop.example\n",
        "/etc/app/env": 'MOOD="good"\n',
        "/etc/app/secrets.aws": f"KEY=arn:aws:ssm:{where}:parameter/shop/key\n"
        f"DB=arn:aws:secretsmanager:{where}:secret:shop#url\n",
        "/etc/app/data": f"{data}\n",
    }
    assert app.asked == [(False, "shop.example", "/up")] * 2
    assert f"ssh debian@{one['PublicIpAddress']}" in said and world.ami in said


@pytest.mark.long
def test_https_is_asked_where_http_leads_and_its_certificate_is_told(world, app):
    app.redirect = True
    _, said = world.launch(app, "--domain", "shop.example")
    assert app.asked == [(False, "shop.example", "/up"), (True, "shop.example", "/up")]
    assert "https://shop.example/up (certificate not trusted)" in said
    world.clean()
    trusted = world.folder / "authority.pem"
    app.authority.cert_pem.write_to_path(trusted)
    _, said = world.launch(app, "--domain", "shop.example", SSL_CERT_FILE=str(trusted))
    assert "https://shop.example/up" in said and "not trusted" not in said


@pytest.mark.long
def test_the_newest_that_is_published_is_found_by_its_app(world, app):
    printed, _ = world.bake("launch", "shop", "--published", *app.instead)
    assert world.machine(printed)["ImageId"] == world.ami
    assert app.asked[0][1] == world.machine(printed)["PublicIpAddress"]
    assert "22" not in {each.get("FromPort") for each in world.ec2.describe_security_groups()["SecurityGroups"]}


# Unhealthy


def test_an_unhealthy_machine_is_removed_and_the_one_before_stays(world, app):
    before, _ = world.launch(app)
    address = world.address()
    world.ec2.associate_address(AllocationId=address, InstanceId=before)
    there = world.things()
    app.statuses = [503]
    world.gate.ours.held_looks = 2
    printed, said = world.launch(app, "--address", address, "--retire", "--forget-data", "--data", 1, code=64)
    assert printed == "" and "503 Service Unavailable" in said and "being set up: step 2 of 6" in said
    assert "Linux version" in said, "the console's tail"
    assert world.things() == there and world.holder(address) == before
    assert world.machine(before)["State"]["Name"] == "running"
    assert "not removed" not in said


@pytest.mark.long
def test_what_cannot_be_removed_is_named(world, app):
    app.statuses = [503]
    world.gate.fault = lambda service, action, nth: "denied" if action in ("TerminateInstances",) else None
    world.gate.ours.held_looks = 0
    _, said = world.launch(app, code=64)
    [left] = world.machines()
    assert f"not removed: instance {left['InstanceId']}" in said and "bake sweep" in said
    assert all("bake:expires" in each for each in world.things().values())


@pytest.mark.long
def test_a_volume_comes_back_from_an_unhealthy_machine(world, app):
    before, _ = world.launch(app, "--data", 1)
    volume = tags.read(world.machine(before))["bake:data"]
    there = world.things()
    app.statuses = [503]
    world.launch(app, "--retire", before, code=64)
    assert world.things() == there
    assert world.machine(before)["State"]["Name"] == "running"
    [told] = world.ec2.describe_volumes(VolumeIds=[volume])["Volumes"]
    assert told["Attachments"][0]["InstanceId"] == before
    calls = [action for _, action in world.gate.calls]
    assert calls.count("StopInstances") == 2 and calls.index("StopInstances") < calls.index("DetachVolume")


# Retiring


@pytest.mark.long
def test_address_and_data_move_and_the_one_before_ends(world, app):
    before, _ = world.launch(app, "--data", 1)
    volume = tags.read(world.machine(before))["bake:data"]
    address = world.address()
    world.ec2.associate_address(AllocationId=address, InstanceId=before)
    after, said = world.launch(app, "--address", address, "--retire")
    assert world.holder(address) == after and [one["InstanceId"] for one in world.machines()] == [after]
    assert user_data(world, after)["/etc/app/data"] == f"{volume}\n"
    [told] = world.ec2.describe_volumes(VolumeIds=[volume])["Volumes"]
    assert told["Attachments"][0]["InstanceId"] == after
    assert tags.read(world.machine(after))["bake:data"] == volume
    assert sorted(name.split("-")[0] for name in world.things()) == ["eni", "i", "sg", "vol", "vol"]
    calls = [action for _, action in world.gate.calls]
    assert calls.index("StopInstances") < calls.index("AttachVolume") < calls.index("AssociateAddress")
    assert calls.index("AssociateAddress") < calls.index("TerminateInstances")
    [ip] = [one["PublicIp"] for one in world.ec2.describe_addresses()["Addresses"]]
    assert ip in said


@pytest.mark.long
def test_retiring_is_refused_before_anything_is_started(world, app):
    before, _ = world.launch(app, "--domain", "shop.example")
    stranger = world.ec2.run_instances(ImageId=world.ami, MinCount=1, MaxCount=1)["Instances"][0]["InstanceId"]
    address = world.address()
    cases = [
        (["--retire", before], "has its data on its root disk"),
        (["--retire", before, "--forget-data"], "may have a certificate for shop.example"),
        (["--retire", stranger], "is not an instance that bake created"),
        (["--retire", "--address", address], "No instance has the Elastic IP of --address"),
    ]
    there = world.things()
    for words, why in cases:
        _, said = world.launch(app, *words, code=65)
        assert why in said
        assert "CreateSecurityGroup" not in [action for _, action in world.gate.calls]
    assert world.things() == there
    after, _ = world.launch(app, "--retire", before, "--forget-data", "--forget-certificate")
    assert {one["InstanceId"] for one in world.machines()} == {after, stranger}


# Faults


@pytest.mark.long
@pytest.mark.parametrize("kind", ["throttle", "500", "drop", "drop-after"])
def test_each_call_may_fail_once(world, app, kind):
    before, _ = world.launch(app, "--data", 1)
    address = world.address()
    world.ec2.associate_address(AllocationId=address, InstanceId=before)
    world.gate.fault = lambda service, action, nth: kind if nth == 1 else None
    after, _ = world.launch(app, "--address", address, "--retire")
    world.gate.fault = lambda service, action, nth: None
    assert [one["InstanceId"] for one in world.machines()] == [after] and world.holder(address) == after
    things = world.things()
    assert sorted(name.split("-")[0] for name in things) == ["eni", "i", "sg", "vol", "vol"]
    assert not any("bake:expires" in each for each in things.values())


UNDOING = ["TerminateInstances", "DeleteVolume", "DeleteSecurityGroup", "DetachVolume", "StartInstances"]


@pytest.mark.long
@pytest.mark.parametrize("kind", ["throttle", "500", "drop", "drop-after"])
def test_each_call_of_undoing_may_fail_once(world, app, kind):
    estate = Estate(world, app)
    app.statuses = [503]
    world.gate.fault = lambda service, action, nth: kind if nth == 1 and action in UNDOING else None
    for words in (["--retire", estate.before], ["--data", 1]):
        world.launch(app, *words, code=64)
        assert estate.look() == estate.there


@pytest.mark.long
@pytest.mark.parametrize("action", [*UNDOING, "AttachVolume", "AssociateAddress"])
def test_what_undoing_could_not_do_a_sweep_does(world, app, action):
    """A refusal that lasts: of each call that only undoing makes, or that it makes a second time."""
    estate = Estate(world, app)
    again = 2 if action in ("DetachVolume", "AttachVolume", "AssociateAddress") else 1
    # Nothing is kept, so that all that could be taken has been.
    world.gate.fault = lambda service, asked, nth: (
        "denied" if asked == "DeleteTags" or (asked == action and nth >= again) else None
    )
    words = ["--data", 1] if action == "DeleteVolume" else estate.moving
    _, said = world.launch(app, *words, code=61)
    assert "not removed: " in said and "bake sweep" in said and estate.look() != estate.there
    world.gate.fault = lambda *call: None
    swept(world, estate, finished=False)


@pytest.mark.long
def test_what_has_found_another_holder_stays_with_it(world, app):
    estate = Estate(world, app)
    volume = tags.read(world.machine(estate.before))["bake:data"]
    assert killed(world, app, "AssociateAddress", *estate.moving)
    [dead] = [one["InstanceId"] for one in world.machines() if world.holder(estate.address) == one["InstanceId"]]
    other = world.ec2.run_instances(
        ImageId=world.ami, MinCount=1, MaxCount=1,
        TagSpecifications=tags.specifications(["instance"], {"bake:run": "eeee", "bake:data": volume}),
    )["Instances"][0]["InstanceId"]  # fmt: skip
    world.ec2.detach_volume(VolumeId=volume, InstanceId=dead)
    world.ec2.associate_address(AllocationId=estate.address, InstanceId=other, AllowReassociation=True)
    world.bake("sweep")
    assert world.holder(estate.address) == other
    assert dead not in {one["InstanceId"] for one in world.machines()}
    assert world.ec2.describe_volumes(VolumeIds=[volume])["Volumes"][0]["State"] == "available"
    assert world.machine(estate.before)["State"]["Name"] == "stopped"


@pytest.mark.long
def test_who_interrupts_the_undoing_is_told_what_is_left(world, app):
    estate = Estate(world, app)

    def again(process):
        def seen(service, action, nth):
            # The second stop is of the machine that is undone.
            if action == "StopInstances" and nth == 2:
                process.send_signal(signal.SIGTERM)

        world.gate.clear()
        world.gate.fault = seen

    code, _, said = told_to_end(world, app, *estate.moving, begun=again)
    assert code == 130 and b"bake stopped all programs" not in said and b"bake sweep" in said, said
    world.gate.fault = lambda *call: None
    swept(world, estate, finished=False)


DENIED = ["CreateSecurityGroup", "CreateVolume", "DescribeInstanceStatus", "DeleteTags", "RunInstances"]


@pytest.mark.long
@pytest.mark.parametrize("action", [*DENIED, "AssociateAddress"])
def test_what_is_denied_is_named_and_nothing_is_left(world, app, action):
    address = world.address()
    world.gate.fault = lambda service, asked, nth: "denied" if asked == action else None
    _, said = world.launch(app, "--data", 1, "--address", address, code=61)
    # Which action, and in which statement of the policy.
    lines = [name for name, actions, _ in policy.STATEMENTS["launch"] if f"ec2:{action}" in actions]
    assert f'"Action": "ec2:{action}" is in its statement "{lines[0]}"' in " ".join(said.split())
    assert world.things() == {} and world.holder(address) is None


@pytest.mark.parametrize(
    ("kind", "code"),
    [("quota", 62), *(pytest.param(kind, 60, marks=pytest.mark.long) for kind in ("expired", "unknown-key"))],
)
def test_a_start_that_is_refused_leaves_nothing(world, app, kind, code):
    world.gate.fault = lambda service, action, nth: kind if action == "RunInstances" else None
    world.launch(app, "--data", 1, code=code)
    assert world.things() == {}


def test_who_is_told_to_end_removes_what_was_started(world, app):
    before, _ = world.launch(app, "--data", 1)
    there = world.things()
    code, out, said = told_to_end(world, app, "--retire", before)
    assert code == 130 and out == b"", said
    assert world.things() == there and world.machine(before)["State"]["Name"] == "running"


def told_to_end(world, app, *words, begun=lambda process: None):
    """Tell a launch to end while its app is not well; its exit code, and what it said. `begun` gets the process."""
    app.statuses, app.asked = [503], []
    process = world.start("launch", world.ami, *app.instead, *words)
    begun(process)
    try:
        end = time.monotonic() + 300
        while not app.asked and time.monotonic() < end:
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        out, said = process.communicate(timeout=300)
    finally:
        stop(process)
    return process.returncode, out, said


def killed(world, app, when, *words):
    """Kill a launch once its nth call has been done, or the first of a name; whether it came so far."""
    world.gate.clear()
    process = world.start("launch", world.ami, *app.instead, *words)
    done = threading.Event()

    def kill():
        process.kill()
        process.wait()
        done.set()

    def named(service, action, nth):
        if action == when:
            world.gate.after(len(world.gate.requests), kill)

    if isinstance(when, int):
        world.gate.after(when, kill)
    else:
        world.gate.fault = named
    try:
        process.communicate(timeout=400)
    finally:
        stop(process)
        world.gate.fault = lambda *call: None
    return done.is_set()


class Estate:
    """A machine with its data and address, another launch's that is under way, and strangers' things."""

    def __init__(self, world, app):
        self.world = world
        self.before, _ = world.launch(app, "--data", 1)
        self.address = world.address()
        world.ec2.associate_address(AllocationId=self.address, InstanceId=self.before)
        marks = {"bake:run": "ffff", "bake:app": "shop", "bake:expires": "2126-01-01T00:00:00Z"}
        for more in ([], tags.specifications(["instance"], marks)):
            world.ec2.run_instances(ImageId=world.ami, MinCount=1, MaxCount=1, TagSpecifications=more)
        for more in ([], tags.specifications(["volume"], marks)):
            world.ec2.create_volume(AvailabilityZone=f"{amazon.REGION}a", Size=1, TagSpecifications=more)
        for more in ([], tags.specifications(["security-group"], marks)):
            world.ec2.create_security_group(GroupName=f"g{len(more)}", Description="x", TagSpecifications=more)
        world.address()
        self.there = self.look()

    def look(self):
        """All that is there, as it is described, but for when it came to be so."""
        ec2 = self.world.ec2
        told = {
            "machines": self.world.machines(),
            "volumes": ec2.describe_volumes()["Volumes"],
            "groups": ec2.describe_security_groups()["SecurityGroups"],
            "interfaces": ec2.describe_network_interfaces()["NetworkInterfaces"],
            "addresses": ec2.describe_addresses()["Addresses"],
        }
        passing = {"LaunchTime", "AttachTime", "AttachmentId", "AssociationId", "StateTransitionReason", "StateReason"}
        # moto invents a new public address at each start, and an Elastic IP shows in "addresses" alone.
        return without(told, passing | {"Association", "PublicIpAddress", "PublicDnsName"})

    @property
    def moving(self):
        return ["--address", self.address, "--retire"]


def without(told, keys):
    """A description without some of its words, lists in an order of their own."""
    if isinstance(told, dict):
        return {key: without(value, keys) for key, value in told.items() if key not in keys}
    return sorted((without(one, keys) for one in told), key=str) if isinstance(told, list) else told


def swept(world, estate, finished):
    """A sweep brings back what was there; what a launch that is `finished` has made stays."""
    world.bake("sweep")
    seen = {one["InstanceId"]: one for one in world.machines()}
    if finished:
        [new] = [name for name, one in seen.items() if world.holder(estate.address) == name]
        assert new != estate.before and "bake:expires" not in tags.read(seen[new])
        assert estate.before not in seen or seen[estate.before]["State"]["Name"] == "stopped"
        [told] = world.ec2.describe_volumes(VolumeIds=[tags.read(seen[new])["bake:data"]])["Volumes"]
        assert [one["InstanceId"] for one in told["Attachments"]] == [new]
    else:
        assert estate.look() == estate.there


@pytest.mark.long
def test_what_a_killed_launch_took_comes_back(world, app):
    """Killed twice, at its worst moments, on the same machine before."""
    estate = Estate(world, app)
    for action in ("DetachVolume", "AssociateAddress"):
        assert killed(world, app, action, *estate.moving) and estate.look() != estate.there
        swept(world, estate, finished=False)


@pytest.mark.long
@pytest.mark.parametrize("words", [["--ssh-from", "192.0.2.0/24"], ["--data", 1], None])
def test_a_launch_may_be_killed_after_each_call(world, app, words):
    """None: all that can move does."""
    estate, number, outcomes = Estate(world, app), 1, set()
    while killed(world, app, number, *(estate.moving if words is None else words)):
        kept = ("ec2", "DeleteTags") in world.gate.calls
        if words is None:
            swept(world, estate, kept)
        else:
            world.bake("sweep")
            assert (estate.look() == estate.there) is not kept
        things = world.things().values()
        assert not any("bake:expires" in one and one["bake:run"] != "ffff" for one in things)
        outcomes.add(kept)
        if kept:
            world.clean()
            estate = Estate(world, app)
        number += 1
    assert number > 9 and outcomes == {True, False}


@pytest.mark.long
def test_a_key_encrypts_every_disk(world, app):
    key = f"arn:aws:kms:{amazon.REGION}:{amazon.ACCOUNT}:key/11111111-2222-3333-4444-555555555555"
    world.launch(app, "--data", 1, "--kms-key", key)
    [asked] = world.gate.asked("RunInstances")
    assert asked["BlockDeviceMapping.1.Ebs.KmsKeyId"] == key and asked["BlockDeviceMapping.1.Ebs.Encrypted"] == "true"
    [asked] = world.gate.asked("CreateVolume")
    assert asked["KmsKeyId"] == key and asked["Encrypted"] == "true"
    printed = json.loads(world.bake("aws-policy", "launch", "--kms-key", key)[0])
    about = {one["Sid"]: one for one in printed["Statement"] if one["Resource"] == [key]}
    assert about["Key"]["Action"] == list(policy.KEY_ACTIONS) and about["KeyGrant"]["Action"] == ["kms:CreateGrant"]
    assert [one for one in printed["Statement"] if one not in about.values()] == policy.document("launch")["Statement"]
    world.bake("aws-policy", "launch", "--kms-key", key.replace(":key/", ":alias/"), code=2)


@pytest.mark.long
def test_policies_for_china_name_its_arns(world):
    there = world.bake("aws-policy", "launch", "--region", "cn-north-1")[0]
    assert "arn:aws-cn:ec2:*:*:instance/*" in there and "arn:aws:" not in there


# Refusals


@pytest.mark.long
def test_what_cannot_work_is_said_before_anything_is_started(world, app):
    [volume] = [world.ec2.create_volume(AvailabilityZone=f"{amazon.REGION}b", Size=1)["VolumeId"]]
    [subnet] = [
        one["SubnetId"] for one in world.ec2.describe_subnets()["Subnets"] if one["AvailabilityZone"].endswith("a")
    ]
    cases = [
        (["--env", f"LONG={os.urandom(9000).hex()}"], 16, "the limit of AWS is 16,384"),
        (["--secret", "KEY=plain"], 18, "neither an ARN, nor ssm:/path"),
        (["--secret", "KEY=ssm:/shop/key"], 18, "--instance-profile"),
        (["--secret", "KEY=secretsmanager:shop-abc123"], 18, "the secret's complete ARN"),
        (["--domain", "no domain"], 18, "not a domain name"),
        (["--subnet", "subnet-0123456789abcdef0"], 69, "no subnet subnet-0123456789abcdef0"),
        (["--volume", "vol-0123456789abcdef0"], 69, "no volume vol-0123456789abcdef0"),
        (["--volume", volume, "--subnet", subnet], 69, f"the volume is in {amazon.REGION}b"),
        (["--address", "eipalloc-0123456789abcdef0"], 69, "no Elastic IP"),
        (["--region", "eu-west-1"], 69, f"no AMI {world.ami} in eu-west-1"),
        (["--data", 1, "--volume", volume], 2, "pass only one of them"),
        (["--ssh-from", "192.0.2.7/24"], 2, "192.0.2.7/32"),
        (["--connect-to", "nowhere"], 2, "HOST:PORT"),
        (["--check"], 2, "--key-pair"),
    ]
    for words, code, why in cases:
        _, said = world.launch(app, *words, code=code)
        assert why in " ".join(re.sub("[│╭╮╯╰─]", " ", said).split()), said
    assert world.things() == {}
    world.bake("launch", "no-such-app", "--published", code=69)
    world.bake("launch", "no-such-folder", code=2)


@pytest.mark.long
def test_an_app_s_own_secrets_are_held_to_its_recipe(world, app):
    folder = world.folder / "with-secrets"
    folder.mkdir(exist_ok=True)
    (folder / "app.py").write_text("from flask import Flask\napp = Flask(__name__)\n")
    (folder / "bake.yaml").write_text("name: shop\nsecrets: [SECRET_KEY]\n")
    (folder / "requirements.txt").write_text("flask\n")
    world.ec2.create_key_pair(KeyName="other")
    words = ["launch", folder, "--published", *app.instead]
    _, said = world.bake(*words, code=18)
    assert "SECRET_KEY has no --secret" in said
    _, said = world.bake(*words, "--secret", "SECRET_KEY=ssm:/a", "--secret", "OTHER=ssm:/b", code=18)
    assert "OTHER is not listed in bake.yaml" in said
    with contextlib.suppress(boto3.client("iam").exceptions.EntityAlreadyExistsException):
        boto3.client("iam").create_instance_profile(InstanceProfileName="shop")
    printed, _ = world.bake(*words, "--secret", "SECRET_KEY=ssm:/a", "--instance-profile", "shop")
    assert user_data(world, printed)["/etc/app/secrets.aws"].startswith("SECRET_KEY=arn:aws:ssm:")


@pytest.mark.long
def test_a_region_without_a_default_subnet_wants_one_named(world, app):
    there = boto3.client("ec2", region_name="eu-north-1")
    copied = there.copy_image(Name="shop", SourceImageId=world.ami, SourceRegion=amazon.REGION)["ImageId"]
    for one in there.describe_subnets()["Subnets"]:
        there.delete_subnet(SubnetId=one["SubnetId"])
    _, said = world.bake("launch", copied, "--region", "eu-north-1", *app.instead, code=69)
    assert "There is no default subnet in eu-north-1" in said and "--subnet" in said


# ls and down


def test_machines_are_listed_and_ended(world, app):
    assert world.bake("ls")[0] == ""
    first, _ = world.launch(app, "--data", 1)
    volume = tags.read(world.machine(first))["bake:data"]
    second, _ = world.launch(app)
    stranger = world.ec2.run_instances(ImageId=world.ami, MinCount=1, MaxCount=1)["Instances"][0]["InstanceId"]
    out, _ = world.bake("ls", "--json", "--amis")
    told = json.loads(out)
    assert [row["id"] for row in told["machines"]] == [first, second]
    address = world.machine(first)["PublicIpAddress"]
    fields = {"app": "shop", "version": "1.2", "state": "running", "address": address, "ami": world.ami, "data": volume}
    # moto's own AMIs have a date of their own.
    assert int(told["machines"][0]["ami_days"]) >= 0 and int(told["amis"][0]["days"]) >= 0
    assert fields.items() <= told["machines"][0].items() and not told["machines"][0]["temporary"]
    assert [row["id"] for row in told["amis"]] == [world.ami]
    out, _ = world.bake("ls")
    head, *rows = [line.split() for line in out.splitlines()]
    assert head[:4] == ["id", "app", "version", "state"] and [row[0] for row in rows] == [first, second]
    for name, why in (
        (stranger, "is not an instance that bake created"),
        ("other", "has no instance"),
        ("shop", "--all"),
    ):
        _, said = world.bake("down", name, code=65)
        assert why in said
    assert len(world.machines()) == 3
    printed, said = world.bake("down", first)
    assert printed == first and f"--volume-id {volume}" in said
    assert [one["InstanceId"] for one in world.machines(OURS)] == [second]
    assert world.ec2.describe_volumes(VolumeIds=[volume])["Volumes"][0]["State"] == "available"
    third, _ = world.launch(app, "--volume", volume)
    assert user_data(world, third)["/etc/app/data"] == f"{volume}\n"
    world.gate.ours.held_looks = 1
    printed, _ = world.bake("down", "shop", "--all", "--with-data")
    assert printed.split() == [second, third]
    assert world.things() == {} and [one["InstanceId"] for one in world.machines()] == [stranger]


@pytest.mark.long
def test_somebody_s_own_volume_is_not_deleted(world, app):
    volume = world.ec2.create_volume(AvailabilityZone=f"{amazon.REGION}b", Size=1)["VolumeId"]
    printed, _ = world.launch(app, "--volume", volume)
    assert world.machine(printed)["Placement"]["AvailabilityZone"] == f"{amazon.REGION}b"
    _, said = world.bake("down", printed, "--with-data", code=65)
    assert "bake did not create the volume" in said and len(world.machines()) == 1
    world.bake("down", printed)
    assert [one["VolumeId"] for one in world.ec2.describe_volumes()["Volumes"]] == [volume]


GIVES_BACK = {
    "ec2:DescribeAddresses", "ec2:AttachVolume", "ec2:DetachVolume", "ec2:AssociateAddress", "ec2:StopInstances",
    "ec2:StartInstances",
}  # fmt: skip


@pytest.mark.long
def test_the_policies_name_no_more_than_was_used(world):
    """Last: the cases before have used all of each command."""
    if len(world.seen.get("launch", ())) < 15:
        pytest.skip("one case alone does not use all of it")
    for command in ("launch", "ls", "down", "sweep"):
        # What else a sweep removes, the cases of `bake ami` leave.
        seen = world.seen[command]
        assert policy.actions(command) == seen or (command == "sweep" and seen >= GIVES_BACK)
        document = policy.document(command)
        assert json.loads(world.bake("aws-policy", command)[0]) == document
        for statement in document["Statement"]:
            if re.search("Terminate|Delete|Stop", str(statement["Action"])):
                assert statement["Condition"] == {"Null": {"aws:ResourceTag/bake:run": "false"}}
