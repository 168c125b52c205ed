"""What machines on EC2 ask of AWS, as programs that run: real curl and age.

moto's SSM, Secrets Manager and S3 stand behind a gate. The gate is the metadata service too, compares each request's
signature with botocore's, and fails in chosen ways.
"""

from __future__ import annotations

import http.client
import http.server
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import boto3
import pytest
from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from conftest import PROGRAMS, REPOSITORY, soon
from test_keep import Machine
from test_secret import ODD, as_systemd_reads

from bake.config.sections import OPTIONS

SOURCE = REPOSITORY / "cloud-init/features/aws"
REGION = "eu-west-1"
ROLE = {
    "Code": "Success", "AccessKeyId": "ASIAIOSFODNN7EXAMPLE", "SecretAccessKey": "wJalr/K7MDENG+bPxRfiCY\\EXAMPLE\"KEY",
    "Token": "a/token+of==",
}  # fmt: skip


@pytest.fixture(scope="session")
def moto() -> Iterator[int]:
    """moto's server, once for all; its port on the loopback."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = Path(sys.executable).with_name("moto_server")
    server = subprocess.Popen(
        [program, "-H", "127.0.0.1", "-p", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        assert soon(lambda: answers(port), 60)
        yield port
    finally:
        server.kill()
        server.wait()


def answers(port: int) -> bool:
    """Whether somebody listens there."""
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


#: Status, headers, content.
Reply = tuple[int, dict[str, str], str]


@dataclass
class Gate:
    """What stands before moto, and what it saw."""

    moto: int
    address: str = ""
    #: What the metadata service has of roles: none, or what it says of one.
    role: dict[str, str] | None = field(default_factory=lambda: dict(ROLE))
    #: How often it has no role yet.
    late: int = 0
    #: Given instead of the next answers.
    first: list[Reply] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    #: For which region requests were signed.
    regions: list[str] = field(default_factory=list)

    def client(self, service: Literal["s3", "secretsmanager", "ssm"]) -> Any:
        """boto3's, past the gate."""
        return boto3.client(
            service, REGION, endpoint_url=f"http://127.0.0.1:{self.moto}", aws_access_key_id="a",
            aws_secret_access_key="b",
        )  # fmt: skip

    def metadata(self, method: str, path: str, headers: Any) -> tuple[int, str]:
        """IMDSv2: without a token, nothing is told."""
        if path == "/latest/api/token":
            return (200, "the-token") if method == "PUT" else (405, "")
        if headers["X-aws-ec2-metadata-token"] != "the-token":
            return 401, ""
        if path == "/latest/meta-data/placement/region":
            return 200, REGION
        self.late -= 1
        there = self.role and self.late < 0
        if path == "/latest/meta-data/iam/security-credentials/":
            return (200, "machine-role") if there else (404, "")
        return (200, json.dumps(self.role)) if there and path.endswith("/machine-role") else (404, "")

    def wrong(self, method: str, path: str, headers: Any, body: bytes) -> str:
        """What is wrong with a request's signature."""
        said = re.fullmatch(
            r"AWS4-HMAC-SHA256 Credential=(?P<who>\w+)/\d+/(?P<region>[\w-]+)/(?P<service>\w+)/aws4_request, "
            r"SignedHeaders=(?P<names>[\w;-]+), Signature=(?P<signature>\w+)",
            headers["Authorization"] or "",
        )
        if not said or said["who"] != ROLE["AccessKeyId"] or headers["X-Amz-Security-Token"] != ROLE["Token"]:
            return "nobody that is known"
        self.regions.append(said["region"])
        names = said["names"].split(";")
        if not {"host", "x-amz-date", "x-amz-security-token"} <= set(names):
            return f"not signed: {names}"
        if gone := [name for name in names if headers[name] is None]:
            return f"signed and not sent: {gone}"
        request = AWSRequest(method, f"{self.address}{path}", {name: headers[name] for name in names}, body)
        request.context["timestamp"] = headers["X-Amz-Date"]
        kind = S3SigV4Auth if said["service"] == "s3" else SigV4Auth
        auth = kind(
            Credentials(ROLE["AccessKeyId"], ROLE["SecretAccessKey"], ROLE["Token"]), said["service"], said["region"]
        )
        text = auth.string_to_sign(request, auth.canonical_request(request))
        return "" if auth.signature(text, request) == said["signature"] else "signed in another way"


@pytest.fixture
def gate(moto: int) -> Iterator[Gate]:
    made = Gate(moto)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.path.startswith("/latest/"):
                status, text = made.metadata(self.command, self.path, self.headers)
                return self.answer(status, {}, text.encode())
            made.asked.append(f"{self.command} {self.path}")
            if fault := made.wrong(self.command, self.path, self.headers, body):
                return self.answer(403, {}, json.dumps({"__type": "AccessDeniedException", "message": fault}).encode())
            if made.first:
                status, headers, text = made.first.pop(0)
                return self.answer(status, headers, text.encode())
            there = http.client.HTTPConnection("127.0.0.1", made.moto)
            there.request(self.command, self.path, body, dict(self.headers))
            came = there.getresponse()
            return self.answer(came.status, {}, came.read())

        do_PUT = do_POST = do_GET

        def answer(self, status: int, headers: dict[str, str], content: bytes) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *words: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    made.address = f"http://127.0.0.1:{server.server_port}"
    yield made
    server.shutdown()
    server.server_close()


@dataclass
class Ec2:
    """A machine below a folder of the test's, whose programs run as processes of their own."""

    root: Path
    gate: Gate
    settings: Path

    @property
    def environment(self) -> dict[str, str]:
        """Theirs, which sends them to the gate."""
        return {
            "PATH": os.environ["PATH"], "PYTHONPATH": f"{PROGRAMS}:{self.settings}", "http_proxy": "",
            "AWS_ENDPOINT_URL": self.gate.address, "AWS_EC2_METADATA_SERVICE_ENDPOINT": self.gate.address,
        }  # fmt: skip

    def refer(self, **references: str) -> None:
        """Write what a launch refers to."""
        (self.root / "secrets.aws").write_text("".join(f"{name}={arn}\n" for name, arn in references.items()))

    def fetch(self, recipe: str = "{}", patience: float = 30) -> subprocess.CompletedProcess[str]:
        """Have app-setup's step run."""
        code = (
            "import aws, json, sys\nfrom step import StepError\n"
            "try: aws.fetch(json.loads(sys.argv[1]), float(sys.argv[2]))\n"
            "except StepError as problem: sys.exit(str(problem))\n"
        )
        return subprocess.run(
            [sys.executable, "-B", "-c", code, recipe, str(patience)], env=self.environment, capture_output=True,
            text=True,
        )  # fmt: skip

    @property
    def values(self) -> dict[str, str]:
        """What the app would get."""
        return as_systemd_reads((self.root / "run/secrets.env").read_text())

    def parameter(self, name: str, value: str) -> str:
        """Put a SecureString; its ARN."""
        ssm = self.gate.client("ssm")
        ssm.put_parameter(Name=name, Value=value, Type="SecureString", Overwrite=True)
        return str(ssm.get_parameter(Name=name)["Parameter"]["ARN"])

    def secret(self, name: str, **value: Any) -> str:
        """Make a secret of Secrets Manager's; its ARN."""
        return str(self.gate.client("secretsmanager").create_secret(Name=name, **value)["ARN"])


@pytest.fixture
def ec2(tmp_path: Path, gate: Gate) -> Ec2:
    settings = tmp_path / "settings"
    shutil.copytree(SOURCE, settings, ignore=shutil.ignore_patterns("__pycache__", "units"))
    text = (settings / "aws.py").read_text()
    for path, here in {"/run/app/": "run/", "/etc/app/": ""}.items():
        assert path in text
        text = text.replace(path, f"{tmp_path}/{here}")
    (settings / "aws.py").write_text(text)
    (settings / "bucket.py").write_text((settings / "bucket.py").read_text().replace("/run/app", f"{tmp_path}/run"))
    (tmp_path / "run").mkdir()
    return Ec2(tmp_path, gate, settings)


def test_values_come_from_both_services_in_the_machine_s_role(ec2: Ec2) -> None:
    ec2.refer(
        PASSWORD=ec2.parameter("/shop/password", "open"),
        PLAIN=ec2.parameter("plain", "a name without a slash"),
        TOKEN=ec2.secret("shop/token", SecretString="sesame"),
        USER=ec2.secret("shop/db", SecretString=json.dumps({"user": "me", "port": 5432})) + "#user",
        PORT=ec2.parameter("/shop/json", json.dumps({"port": 5432})) + "#port",
    )
    done = ec2.fetch()
    assert done.returncode == 0, done.stderr
    assert ec2.values == {
        "PASSWORD": "open", "PLAIN": "a name without a slash", "TOKEN": "sesame", "USER": "me", "PORT": "5432",
    }  # fmt: skip
    assert (ec2.root / "run/secrets.env").stat().st_mode & 0o777 == 0o600
    assert not done.stdout + done.stderr


@pytest.mark.parametrize("value", [value for value in ODD if value])
def test_any_value_reaches_the_app_as_it_is(ec2: Ec2, value: str) -> None:
    ec2.refer(KEY=ec2.parameter("/odd", value), OTHER=ec2.secret(f"odd-{hash(value)}", SecretString=value))
    done = ec2.fetch()
    assert done.returncode == 0, done.stderr
    assert ec2.values == {"KEY": value, "OTHER": value}


def test_what_root_alone_has_gets_its_files_and_the_app_never_does(ec2: Ec2) -> None:
    assert keys() == {one.key: one.file for one in OPTIONS.values()}
    arn = ec2.parameter("/key", "AGE-SECRET-KEY-1\n")
    ec2.refer(CERTIFICATE_KEY=arn, DNS_KEY=arn, OTHER=arn)
    assert ec2.fetch('{"keep": "s3://b"}').returncode == 0
    key = ec2.root / "certificate.key"
    assert (key.read_text(), key.stat().st_mode & 0o777) == ("AGE-SECRET-KEY-1\n", 0o600)
    # Whose recipe proves no zone may call its own secret so.
    assert set(ec2.values) == {"DNS_KEY", "OTHER"}
    assert not (ec2.root / "dns.key").exists()


def keys() -> dict[str, str]:
    """The names of values for root alone, as the machine knows them, and their files."""
    return dict(re.findall(r'\("(\w+)", Path\("/etc/app/([\w.]+)"\)\)', (SOURCE / "aws.py").read_text()))


def test_without_references_there_is_nothing_to_ask(ec2: Ec2) -> None:
    (ec2.root / "run/secrets.env").write_text("OLD=1\n")
    assert ec2.fetch().returncode == 0
    assert ec2.values == {} and ec2.gate.asked == []


def test_a_line_that_is_no_reference_is_named_and_not_shown(ec2: Ec2) -> None:
    (ec2.root / "secrets.aws").write_text("# of the launch\n\nA=hunter2\nB=arn:aws:s3:eu-west-1:123456789012:x\n")
    done = ec2.fetch()
    assert done.returncode == 1 and done.stderr.endswith("line 3, 4\n")
    assert "hunter2" not in done.stderr


THROTTLED: Reply = (400, {}, json.dumps({"__type": "ThrottlingException", "message": "Rate exceeded"}))


def test_throttling_and_faults_of_aws_are_waited_for(ec2: Ec2) -> None:
    ec2.refer(A=ec2.parameter("/a", "value-of-a"))
    ec2.gate.first = [THROTTLED, THROTTLED, (503, {}, "<html>busy</html>"), THROTTLED]
    done = ec2.fetch()
    assert (done.returncode, ec2.values) == (0, {"A": "value-of-a"}), done.stderr
    said = done.stdout.splitlines()
    assert len(said) == 4 and all(line.startswith("<4>retry in ") for line in said)
    assert "ThrottlingException" in said[0] and "503" in said[2]


def test_waiting_has_an_end_and_what_was_there_stays(ec2: Ec2) -> None:
    arn = ec2.parameter("/a", "value-of-a")
    ec2.refer(A=arn)
    assert ec2.fetch().returncode == 0
    ec2.gate.first = [THROTTLED] * 50
    done = ec2.fetch(patience=2)
    assert done.returncode == 1 and f"A: {arn}: ThrottlingException" in done.stderr
    assert ec2.values == {"A": "value-of-a"}


def test_a_role_that_comes_late_is_waited_for(ec2: Ec2) -> None:
    ec2.refer(A=ec2.parameter("/a", "b"))
    ec2.gate.late = 2
    done = ec2.fetch()
    assert (done.returncode, ec2.values) == (0, {"A": "b"}), done.stderr
    assert done.stdout.count("this machine has no role") == 2


def test_a_machine_without_a_role_is_told_what_it_wants(ec2: Ec2) -> None:
    ec2.refer(A=ec2.parameter("/a", "b"))
    ec2.gate.role = None
    done = ec2.fetch(patience=1)
    assert done.returncode == 1 and "A: this machine has no role: launch it with an instance profile" in done.stderr
    ec2.gate.role = {"Code": "AssumeRoleUnauthorizedAccess"}
    assert "machine-role gives no credentials: AssumeRoleUnauthorizedAccess" in ec2.fetch(patience=1).stderr


def test_nobody_at_the_other_end_is_said(ec2: Ec2) -> None:
    ec2.refer(A=ec2.parameter("/a", "b"))
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        ec2.gate.address = "http://{}:{}".format(*closed.getsockname())
        done = ec2.fetch(patience=1)
    assert done.returncode == 1 and "Failed to connect" in done.stderr and "retry in 0.5 s" in done.stdout


DENIED = "User: arn:aws:sts::1:assumed-role/r/i-1 is not authorized to perform: kms:Decrypt on this resource"


@pytest.mark.parametrize(
    ("message", "action"), [("", "ssm:GetParameter"), (DENIED, "kms:Decrypt")], ids=["parameter", "key"]
)
def test_what_is_denied_names_the_right_that_is_missing_at_once(ec2: Ec2, message: str, action: str) -> None:
    arn = ec2.parameter("/a", "value-of-a")
    ec2.refer(A=arn, B=ec2.parameter("/b", "value-of-b"))
    ec2.gate.first = [(400, {}, json.dumps({"__type": "x#AccessDeniedException", "Message": message}))]
    done = ec2.fetch()
    assert done.returncode == 1 and done.stdout == ""
    assert f"A: {arn}: AccessDeniedException: this machine's role lacks {action}\n" in done.stderr
    assert "value-of" not in done.stderr and not (ec2.root / "run/secrets.env").exists()


def test_a_wrong_signature_would_be_seen(ec2: Ec2) -> None:
    ec2.refer(A=ec2.parameter("/a", "b"))
    ec2.gate.role = {**ROLE, "SecretAccessKey": "another"}
    assert "AccessDeniedException" in ec2.fetch(patience=1).stderr


def test_all_that_is_not_there_is_said_at_once(ec2: Ec2) -> None:
    there = ec2.parameter("/there", "value-of-it")
    text = ec2.secret("text", SecretString="value-of-text")
    ec2.refer(
        A=there.replace("/there", "/gone"), B=there, C=text.replace("secret:text", "secret:gone"), D=f"{text}#key",
        E=ec2.secret("bytes", SecretBinary=b"value-of-bytes"),
    )  # fmt: skip
    done = ec2.fetch()
    first, *said = done.stderr.splitlines()
    assert first == "secrets cannot be fetched:" and [line[:2] for line in said] == ["A:", "C:", "D:", "E:"]
    assert "ParameterNotFound" in said[0] and "ResourceNotFoundException" in said[1]
    assert "is not a JSON object with key key" in said[2] and "is binary, not text" in said[3]
    assert "value-of" not in done.stderr


def test_no_argument_of_a_program_holds_a_credential_or_a_value(ec2: Ec2, tmp_path: Path) -> None:
    folder = tmp_path / "watched"
    folder.mkdir()
    (folder / "curl").write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/arguments\nexec {shutil.which("curl")} "$@"\n')
    (folder / "curl").chmod(0o755)
    ec2.refer(A=ec2.parameter("/a", "value-of-a"))
    path = os.environ["PATH"]
    try:
        os.environ["PATH"] = f"{folder}:{path}"
        assert ec2.fetch().returncode == 0
    finally:
        os.environ["PATH"] = path
    assert set((tmp_path / "arguments").read_text().splitlines()) == {"-q -K -"}
    held = [found.name for found in tmp_path.rglob("*") if found.is_file() and b"value-of-a" in found.read_bytes()]
    assert held == ["secrets.env"]


@dataclass
class Keeper:
    """A machine that keeps its certificates in a bucket."""

    ec2: Ec2
    machine: Machine
    bucket: str

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run app-keep's program."""
        return subprocess.run(
            [sys.executable, "-B", self.ec2.settings / "keep.py", *words], env=self.ec2.environment,
            capture_output=True, text=True,
        )  # fmt: skip

    @property
    def kept(self) -> dict[str, bytes]:
        """What is in the bucket."""
        s3 = self.ec2.gate.client("s3")
        rows = s3.list_objects_v2(Bucket=self.bucket).get("Contents", [])
        return {row["Key"]: s3.get_object(Bucket=self.bucket, Key=row["Key"])["Body"].read() for row in rows}

    def replaced(self) -> None:
        """Another machine of the same launch."""
        self.machine.replaced()
        (self.ec2.root / "certificate.key").unlink(missing_ok=True)

    def reference(self) -> None:
        """Refer to a key that nobody else has."""
        made = subprocess.run(["age-keygen"], capture_output=True, text=True, check=True).stdout
        name = f"/{self.bucket}/key"
        arn = self.ec2.parameter(name, made.splitlines()[-1])
        self.ec2.refer(CERTIFICATE_KEY=arn, OTHER=f"{arn}-of-the-app-s-is-not-there")


@pytest.fixture
def keeper(ec2: Ec2, request: pytest.FixtureRequest) -> Keeper:
    if not shutil.which("age"):
        pytest.skip("Debian's package age is not here")
    root = ec2.root
    places = {
        "/etc/letsencrypt": "etc/letsencrypt", "/etc/app/": "", "/run/app-check": "checked", "/run/app/": "run/",
        "/var/lib/app-certificate": "var/lib/app-certificate", "/srv/app/current/": "",
        "SHORT = 20": "SHORT = 1", "PATIENCE = 180": "PATIENCE = 3",
    }  # fmt: skip
    for path in (REPOSITORY / "cloud-init/features").glob("[ck]e*/*.py"):
        text = path.read_text()
        for old, new in places.items():
            text = text.replace(old, new if "=" in new else f"{root}/{new}")
        (ec2.settings / path.name).write_text(text)
    bucket = re.sub("[^a-z]+", "-", request.node.name)[-40:].strip("-")
    ec2.gate.client("s3").create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
    (root / "recipe.json").write_text(json.dumps({"keep": f"s3://{bucket}/shop"}))
    made = Keeper(ec2, Machine(None, root, None, None), bucket)  # type: ignore[arg-type]
    made.machine.hook()
    made.reference()
    return made


def test_a_bucket_keeps_what_the_next_machine_gets(keeper: Keeper) -> None:
    issued = keeper.machine.issue()
    done = keeper.run()
    assert (done.returncode, done.stdout) == (0, f"kept in s3://{keeper.bucket}/shop\n"), done.stderr
    (sealed,) = keeper.kept.values()
    assert list(keeper.kept) == ["shop/certificate.age"] and sealed.startswith(b"age-encryption.org/v1")
    for _ in range(2):
        keeper.replaced()
        # The key comes by its reference, before nginx begins; the app's values are another step's.
        assert "restored a certificate" in keeper.run("restore").stdout
        assert keeper.machine.served == issued and not keeper.machine.hooked
    assert keeper.run().stdout == "" and list(keeper.kept.values()) == [sealed]
    assert not list((keeper.ec2.root / "run").glob("tmp*")) and not (keeper.ec2.root / "run/secrets.env").exists()


def test_of_a_bucket_too_the_one_before_stays(keeper: Keeper) -> None:
    keeper.machine.issue()
    keeper.run()
    first = keeper.kept["shop/certificate.age"]
    second = keeper.machine.issue(number=2)
    keeper.ec2.gate.asked.clear()
    keeper.run()
    assert keeper.kept["shop/certificate.age.before"] == first != keeper.kept["shop/certificate.age"]
    # A power cut in between leaves one that is whole under the first name.
    put = [line.rpartition("/")[2] for line in keeper.ec2.gate.asked if line.startswith("PUT")]
    assert put == ["certificate.age.before", "certificate.age"]
    keeper.replaced()
    keeper.run("restore")
    assert keeper.machine.served == second


def test_another_key_s_stays_in_the_bucket(keeper: Keeper) -> None:
    keeper.machine.issue()
    keeper.run()
    before = keeper.kept
    keeper.replaced()
    keeper.reference()
    keeper.machine.issue("b.example")
    done = keeper.run()
    assert done.returncode == 1 and "so none is changed or kept" in done.stdout and keeper.kept == before


def test_a_bucket_that_is_not_there_is_said(keeper: Keeper) -> None:
    keeper.machine.issue()
    (keeper.ec2.root / "recipe.json").write_text('{"keep": "s3://nobody-s-bucket"}')
    done = keeper.run()
    assert done.returncode == 1 and "s3://nobody-s-bucket/certificate.age: NoSuchBucket" in done.stdout


def test_what_may_not_be_read_is_not_taken_for_nothing(keeper: Keeper) -> None:
    keeper.machine.issue()
    keeper.run()
    before = keeper.kept
    keeper.machine.issue(number=2)
    keeper.ec2.gate.first = [(403, {}, "<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>")]
    done = keeper.run()
    assert done.returncode == 1 and keeper.kept == before
    assert "AccessDenied: this machine's role lacks s3:GetObject on it, or s3:ListBucket on its bucket" in done.stdout


def test_a_bucket_elsewhere_is_asked_there(keeper: Keeper) -> None:
    elsewhere = {"x-amz-bucket-region": "us-east-1"}
    moved = "<Error><Code>PermanentRedirect</Code></Error>"
    keeper.machine.issue()
    keeper.run()
    keeper.replaced()
    keeper.run("restore")  # which brings the key
    keeper.machine.replaced()
    keeper.ec2.gate.asked.clear()
    keeper.ec2.gate.first = [(301, elsewhere, moved)]
    assert "restored a certificate" in keeper.run("restore").stdout
    assert len(keeper.ec2.gate.asked) == 3 and keeper.ec2.gate.regions[-3:] == [REGION, "us-east-1", "us-east-1"]


def test_a_boot_is_not_held_up_by_a_bucket(keeper: Keeper) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        keeper.ec2.gate.address = "http://{}:{}".format(*closed.getsockname())
        done = keeper.run("restore")
    assert done.returncode == 1 and "Failed to connect" in done.stdout
