"""A machine on EC2 in its role: secrets by reference, data on a volume of its own, what the app may ask, certificates.

In a network namespace with nobody else in it: the metadata service, moto for Parameter Store and Secrets Manager, and a
stock disk with a document. The volume is a second disk with the serial number that EC2 gives one.
"""

import base64
import contextlib
import email.mime.multipart
import email.mime.text
import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
import time
import urllib.request
from pathlib import Path
from typing import Final

import boto3
import metadata
import pytest
import servers
import trustme
from conftest import AWAIT_BOOT

from bake.config.debian import TARGETS
from bake.disk import base_disk
from bake.host import cache
from bake.host.programs import run
from bake.host.progress import Reporter
from bake.vm import qemu

pytestmark = pytest.mark.long

#: This file runs itself again in a namespace, with this in its environment.
INSIDE = "BAKE_TEST_NAMESPACE"
REGION: Final = "eu-west-1"
VOLUME = "vol-0123456789abcdef0"
#: Where moto listens, and how the guest calls it: the host's loopback is the metadata service's address there.
PORT = 5000
MOTO, ENDPOINT = f"http://127.0.0.1:{PORT}", f"http://169.254.169.254:{PORT}"
NAME, BUCKET = "shop.example", "kept"
SECRETS = {"PASSWORD": 'it\'s "open" $HOME', "TOKEN": "two\nlines"}
#: Needs nothing of an index. It says what it was given, and how often it was started on this data.
APP = """
import hashlib, os
from pathlib import Path
from typing import Final

count = Path("/var/lib/app/count")

def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    given = hashlib.sha256((os.environ["PASSWORD"] + os.environ["TOKEN"]).encode()).hexdigest()
    return [f"{given} {len(count.read_text())}".encode()]
"""
RELEASE = os.environ.get("BAKE_TEST_BASE", "debian-13")
RECIPE = f"""
name: shop
base: {RELEASE}
domains: [{NAME}]
certificate: {{keep: "s3://{BUCKET}/shop"}}
secrets: [PASSWORD, TOKEN]
setup: ["printf x >> /var/lib/app/count"]
"""
#: What `certificate.keep` wants besides; nobody installs anything in the namespace.
PACKAGES = ("age",)


@pytest.fixture
def ground():
    """A disk that holds the packages already, with nothing of ours besides."""
    goal = TARGETS[RELEASE]
    found = base_disk.find(base_disk.key(goal, PACKAGES, None), cache.A_WEEK)
    if found:
        return found
    with cache.lock(lambda pid: None), cache.work_folder() as work, Reporter().phase("base") as phase:
        return base_disk.build(goal, PACKAGES, None, work, phase)


@pytest.mark.skipif(INSIDE in os.environ, reason="this is the outside")
def test_a_machine_in_its_role(ground, bake, tmp_path):
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "app.py").write_text(APP)
    (folder / "requirements.txt").touch()
    for name, aws in {"closed": "{}", "open": "{role: true}"}.items():
        (folder / "bake.yaml").write_text(f"{RECIPE}aws: {aws}\n")
        # No provider takes it with all there is; the service of this case takes anything.
        called = bake("render", folder, "--inline", "--provider", "gcp")
        assert called.code == 0, called.stderr
        (tmp_path / name).write_text(called.stdout)
    namespaces = ["unshare", "--net", *([] if os.geteuid() == 0 else ["--user", "--map-root-user"])]
    done = run(
        [*namespaces, sys.executable, "-m", "pytest", "-p", "no:cacheprovider", f"{__file__}::test_inside"],
        env={INSIDE: f"{ground.disk} {tmp_path} {qemu.accelerator(ground.kernel)}"}, check=False,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert done.status == 0 and "1 passed" in done.stdout, done.stdout[-6000:]


def references():
    """Have moto hold SECRETS and a key for what is kept; the lines of /etc/app/secrets.aws for them."""
    asked = boto3.Session("a", "b", region_name=REGION)
    ssm, manager = asked.client("ssm", endpoint_url=MOTO), asked.client("secretsmanager", endpoint_url=MOTO)
    ssm.put_parameter(Name="/shop/password", Value=SECRETS["PASSWORD"], Type="SecureString")
    password = ssm.get_parameter(Name="/shop/password")["Parameter"]["ARN"]
    token = manager.create_secret(Name="shop", SecretString=json.dumps({"token": SECRETS["TOKEN"]}))["ARN"]
    ssm.put_parameter(Name="/shop/key", Value=run(["age-keygen"]).stdout.splitlines()[-1], Type="SecureString")
    key = ssm.get_parameter(Name="/shop/key")["Parameter"]["ARN"]
    return f"PASSWORD={password}\nTOKEN={token}#token\nCERTIFICATE_KEY={key}\n"


def bucket():
    """moto's, for what is kept; a call that tells what is in it, by name."""
    s3 = boto3.Session("a", "b", region_name=REGION).client("s3", endpoint_url=MOTO)
    s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})

    def content():
        names = [one["Key"] for one in s3.list_objects_v2(Bucket=BUCKET).get("Contents", ())]
        return {name: s3.get_object(Bucket=BUCKET, Key=name)["Body"].read() for name in names}

    return content


def lineage():
    """A certificate as certbot keeps it, in an archive; base64."""
    made = trustme.CA().issue_cert(NAME)
    texts = {
        "archive/app/fullchain1.pem": made.cert_chain_pems[0].bytes(),
        "archive/app/privkey1.pem": made.private_key_pem.bytes(),
        "renewal/app.conf": b"[renewalparams]\naccount = x\n", "accounts/x/private_key.json": b"{}",
    }  # fmt: skip
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, text in texts.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(text), 0o600
            archive.addfile(entry, io.BytesIO(text))
        for part in ("fullchain", "privkey"):
            entry = tarfile.TarInfo(f"live/app/{part}.pem")
            entry.type, entry.linkname = tarfile.SYMTYPE, f"../../archive/app/{part}1.pem"
            archive.addfile(entry)
    return base64.b64encode(packed.getvalue()).decode()


def serial(machine):
    """The number of the certificate that nginx serves."""
    ask = f"openssl s_client -connect 127.0.0.1:443 -servername {NAME} </dev/null 2>/dev/null"
    return machine.ssh(f"{ask} | openssl x509 -noout -serial", check=False).stdout.strip()


@contextlib.contextmanager
def moto():
    """moto's server."""
    program = Path(sys.executable).with_name("moto_server")
    server = subprocess.Popen(
        [program, "-H", "127.0.0.1", "-p", str(PORT)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{PORT}/moto-api/", timeout=5).close()
                break
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.5)
        yield
    finally:
        server.kill()
        server.wait()


class Machine:
    """An instance: a disk of its own over its boots, and the volume attached to it."""

    def __init__(self, number, ground, volume, work, accel, document, told):
        key = qemu.public_key(work / "key")
        self.service, words = metadata.ec2(document, key)
        self.service.pages["meta-data/instance-id"] = f"i-0123456789abcdef{number}"
        self.service.pages.update(metadata.role(REGION))
        self.service.pages["user-data"] = parts(document, told)
        self.disk, self.work, self.accel, self.boots, self.number = ground, work, accel, 0, number
        self.words = (
            *words, "-drive", f"file={volume},if=none,id=data,format=raw", "-device",
            # As EC2 shows it. The BIOS boots from the disk in the first slot.
            f"nvme,drive=data,addr=0x10,serial={VOLUME.replace('-', '')}",
        )  # fmt: skip

    @contextlib.contextmanager
    def on(self):
        """Switched on, and set up."""
        self.boots += 1
        place = self.work / f"vm-{self.number}-{self.boots}"
        place.mkdir()
        with servers.serve(metadata.server(self.service)):
            machine = qemu.boot(
                Path(self.disk), None, place, self.work / "key",
                qemu.VmOptions(self.accel, network=metadata.NETWORK, arguments=self.words),
            )  # fmt: skip
            try:
                machine.await_ssh()
                waited = machine.ssh(f"{AWAIT_BOOT}; cloud-init status --long", check=False, timeout=900)
                assert waited.status == 0, waited.stdout + machine.ssh("sudo journalctl -u app-setup").stdout
                yield machine
                machine.ssh("sudo systemctl poweroff", check=False)
                machine.process.wait(120)
            finally:
                machine.stop()
        self.disk = place / "overlay.qcow2"


def parts(document, files):
    """User-data of two parts: what a launch says, and AWS's address for programs of the machine's; the document."""
    written = "".join(f"cat > {path} <<'E'\n{text}E\n" for path, text in files.items())
    hook = f"""#!/bin/sh
umask 077
mkdir -p -m 755 /etc/app
{written}for unit in app-setup app-keep app-configure; do
    mkdir -p -m 755 /run/systemd/system/$unit.service.d
    printf '[Service]\\nEnvironment=AWS_ENDPOINT_URL={ENDPOINT}\\n' > /run/systemd/system/$unit.service.d/test.conf
done
systemctl daemon-reload
"""
    told = email.mime.multipart.MIMEMultipart()
    told.attach(email.mime.text.MIMEText(hook, "cloud-boothook", "utf-8"))
    told.attach(email.mime.text.MIMEText(document, "cloud-config", "utf-8"))
    return told.as_string()


#: With the placeholder, or with a certificate: then HTTP only leads here.
SAID = f"curl -sk --resolve {NAME}:443:127.0.0.1 https://{NAME}/"
ASK = "curl -s -m 5 -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' http://169.254.169.254/latest/api/token"
AS_APP = "sudo setpriv --reuid=app --regid=app --clear-groups"


@pytest.mark.skipif(INSIDE not in os.environ, reason="test_a_machine_in_its_role runs it in a namespace")
def test_inside():
    disk, place, accel = os.environ[INSIDE].split()
    work = Path(place)
    run(["ip", "link", "set", "lo", "up"])
    qemu.make_key(work / "key", "role")
    with (work / "volume").open("wb") as stream:
        stream.truncate(64 << 20)
    digest = hashlib.sha256("".join(SECRETS.values()).encode()).hexdigest()
    with moto():
        content = bucket()
        told = {"/etc/app/secrets.aws": references(), "/etc/app/data": f"{VOLUME}\n"}
        first = Machine(1, disk, work / "volume", work, accel, (work / "closed").read_text(), told)
        for boot in (1, 2):
            with first.on() as machine:
                assert machine.ssh(SAID).stdout == f"{digest} {boot}"
                seen = machine.ssh("findmnt -no FSTYPE,LABEL,OPTIONS /var/lib/app").stdout
                kind, label, options = seen.split()
                assert (kind, label) == ("ext4", "app-data") and {"nosuid", "nodev"} <= set(options.split(","))
                assert machine.ssh("stat -c '%U %a' /var/lib/app").stdout.split() == ["app", "750"]
                # Values are root's alone, on no disk, and not in the journal.
                assert machine.ssh("sudo stat -fc %T /run/app/secrets.env").stdout.strip() == "tmpfs"
                assert machine.ssh(f"{AS_APP} cat /run/app/secrets.env", check=False).status
                kept = machine.ssh("sudo grep -rlF 'it'\\''s \"open\"' /etc /var /srv", check=False).stdout
                assert kept == ""
                assert machine.ssh(ASK).stdout
                assert machine.ssh(f"{AS_APP} {ASK}", check=False).status == 7
                size = int(machine.ssh("df --output=size -k /var/lib/app | tail -n 1").stdout)
                assert size > (80 << 10) if boot == 2 else size < (64 << 10)
                if boot == 1:
                    machine.ssh("base64 -d | sudo tar -x -C /etc/letsencrypt", stdin=lineage())
                    machine.ssh("sudo systemctl reload app-configure nginx && sudo systemctl start app-keep")
                    first_serial = serial(machine)
                    said = machine.ssh("sudo journalctl -u app-keep").stdout
                    assert f"kept in s3://{BUCKET}/shop" in said, said
                    kept = content()
                    assert list(kept) == ["shop/certificate.age"]
                    assert kept["shop/certificate.age"].startswith(b"age-encryption.org/v1")
            # Somebody has it grow, while it is off.
            os.truncate(work / "volume", 96 << 20)
        # The volume goes on to another machine, whose app uses its role.
        second = Machine(2, disk, work / "volume", work, accel, (work / "open").read_text(), told)
        with second.on() as machine:
            assert machine.ssh(SAID).stdout == f"{digest} 3"
            # The certificate is the first machine's, got back from the bucket before anything is ordered.
            until = time.monotonic() + 180
            while serial(machine) != first_serial and time.monotonic() < until:
                time.sleep(5)
            said = machine.ssh("sudo journalctl -b -u app-keep -u app-configure -u app-look").stdout
            assert serial(machine) == first_serial != "", said
            # What it has besides is kept with it, and all of it is closed.
            assert all(text.startswith(b"age-encryption.org/v1") for text in content().values())
            assert machine.ssh(f"{AS_APP} {ASK}", check=False).stdout
            denied = machine.ssh("systemctl show --value --property IPAddressDeny app.service").stdout
            assert "169.254.169.254" not in denied
