"""Fetch the secrets that a launch refers to from AWS, with the role of this EC2 instance.

curl signs the requests. Credentials and values are only in memory, never in a program's arguments, in a log or on a
disk. Only the keys for root are files in /etc/app. Part of a release's settings if bake.yaml has `aws`; Python's
standard library only.
"""

import json
import os
import random
import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeVar

from step import StepError, say, write

#: The references of the launch: a line NAME=arn:…, with #key after it for one value of a JSON object.
REFERENCES = Path("/etc/app/secrets.aws")
LINE = re.compile(
    r"(?P<name>[A-Za-z_]\w*)=(?P<arn>arn:aws[a-z-]*:(?P<service>ssm|secretsmanager):(?P<region>[a-z0-9-]+):\d{12}:"
    r"(parameter/|secret:)[^\s#]+)(#(?P<key>.+))?",
    re.ASCII,
)
#: The values for the app's units. This folder is in memory.
VALUES = Path("/run/app/secrets.env")
#: Values that only root can read, by key of the recipe: the name of the value, and its file.
KEYS = {
    "keep": ("CERTIFICATE_KEY", Path("/etc/app/certificate.key")),
    "dns": ("DNS_KEY", Path("/etc/app/dns.key")),
}
#: The instance metadata service (IMDSv2). AWS's own tools read the same two environment variables.
METADATA = os.environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://169.254.169.254")
ENDPOINT = os.environ.get("AWS_ENDPOINT_URL")
#: Seconds to retry, since a network, a clock or AWS may cause the failure; and seconds to wait for a missing role.
PATIENCE, NO_ROLE = 600, 60
#: Codes of temporary errors. AWS accepts new credentials only after a short time.
PASSING = re.compile(
    "Throttl|TooManyRequests|RequestLimit|SlowDown|Internal|Unavailable|Expired|InvalidSignature|Skewed|Unrecognized"
)
Found = TypeVar("Found")


class Later(StepError):
    """A temporary error, to retry for at most `patience` seconds."""

    def __init__(self, text: str, patience: float = PATIENCE) -> None:
        super().__init__(text)
        self.patience = patience


class Answer(NamedTuple):
    """A response: the status, the region in a bucket's header, and the body."""

    status: int
    region: str
    body: bytes


class Role(NamedTuple):
    """The region of this machine, and the options of curl with its credentials."""

    region: str
    words: list


def ask(url: str, words: list) -> Answer:
    """Send a request with curl. `words` are pairs of an option and its value. Raises Later if there is no answer."""
    options = [
        ("url", url), ("silent", None), ("show-error", None), ("proto", "=http,https"), ("connect-timeout", "5"),
        ("max-time", "60"), ("write-out", "\n%{http_code} %header{x-amz-bucket-region}"), *words,
    ]  # fmt: skip
    # Pass the options on stdin, because every user can read a program's arguments.
    done = subprocess.run(["curl", "-q", "-K", "-"], input=configured(options), capture_output=True)
    host = url.split("/")[2]
    if done.returncode:
        stderr = done.stderr.decode(errors="replace").strip()
        raise Later(f"{host}: {stderr}")
    body, _, end = done.stdout.rpartition(b"\n")
    status, _, region = end.decode().partition(" ")
    return Answer(int(status), region.strip(), body)


def configured(words: list) -> bytes:
    """Return the options as a configuration file of curl, curl(1)."""
    escapes = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}
    lines = []
    for name, value in words:
        quoted = "".join(escapes.get(letter, letter) for letter in value or "")
        lines.append(name if value is None else f'{name} = "{quoted}"')
    return "\n".join(lines).encode()


def role() -> Role:
    """Return this machine's role. Raises Later if it has none, or if the metadata service fails."""

    def metadata(path: str, *words: tuple) -> Answer:
        answer = ask(f"{METADATA}/latest/{path}", [("noproxy", "*"), *words])
        if answer.status not in (200, 404):
            raise Later(f"the metadata service answers {answer.status}", NO_ROLE)
        return answer

    token = metadata(
        "api/token", ("request", "PUT"), ("header", "X-aws-ec2-metadata-token-ttl-seconds: 300")
    ).body.decode()
    shown = ("header", f"X-aws-ec2-metadata-token: {token}")
    region = metadata("meta-data/placement/region", shown).body.decode()
    names = metadata("meta-data/iam/security-credentials/", shown)
    name = names.body.decode().strip().partition("\n")[0]
    if names.status == 404 or not name:
        raise Later("this machine has no role: launch it with an instance profile", NO_ROLE)
    answer = metadata(f"meta-data/iam/security-credentials/{name}", shown)
    credentials = json.loads(answer.body) if answer.status == 200 else {}
    if "Token" not in credentials:
        code = credentials.get("Code", answer.status)
        raise Later(f"the role {name} gives no credentials: {code}", NO_ROLE)
    user = credentials["AccessKeyId"] + ":" + credentials["SecretAccessKey"]
    security = credentials["Token"]
    return Role(region, [("user", user), ("header", f"X-Amz-Security-Token: {security}")])


def signed(host: str, path: str, words: list, who: Role) -> Answer:
    """Send a signed request to AWS, and return the answer. `host` is like ssm.eu-west-1 or bucket.s3.eu-west-1."""
    service, region = host.split(".")[-2:]
    china = ".cn" if region.startswith("cn-") else ""
    endpoint = ENDPOINT or f"https://{host}.amazonaws.com{china}"
    return ask(f"{endpoint}{path}", [("aws-sigv4", f"aws:amz:{region}:{service}"), *who.words, *words])


def refused(what: str, status: int, code: str, message: str, action: str) -> StepError:
    """Return the error for a failed request. It is Later if the error is temporary."""
    if status >= 500 or status == 429 or PASSING.search(code):
        return Later(f"{what}: {code or status}")
    if "AccessDenied" in code or status == 403:
        # The missing permission may be one for the KMS key.
        lacks = re.search(r"not authorized to perform: ([\w:]+)", message)
        lacking = lacks[1] if lacks else action
        return StepError(f"{what}: {code or status}: this machine's role lacks {lacking}")
    short = message[:200]
    return StepError(f"{what}: {code or status} {short}".rstrip())


def patiently(attempt: Callable[[], Found], patience: float) -> Found:
    """Return the result of `attempt`. Retry temporary errors for `patience` seconds."""
    begun, pause = time.monotonic(), 0.5
    while True:
        try:
            return attempt()
        except Later as problem:
            if time.monotonic() + pause - begun > min(patience, problem.patience):
                raise
            say(f"<4>retry in {pause:.1f} s: {problem}")
        time.sleep(pause)
        # The random factor spreads the retries of machines that were started together.
        pause = min(pause * random.uniform(1.6, 2.4), 30)


def value(reference: re.Match) -> str:
    """Return the value for a line of REFERENCES. Raises StepError, which never contains the value."""
    arn, service, region, key = reference.group("arn", "service", "region", "key")
    if service == "ssm":
        target, action, query = "AmazonSSM.GetParameter", "ssm:GetParameter", {"Name": arn, "WithDecryption": True}
    else:
        target, action, query = "secretsmanager.GetSecretValue", "secretsmanager:GetSecretValue", {"SecretId": arn}
    words = [
        ("header", f"X-Amz-Target: {target}"), ("header", "Content-Type: application/x-amz-json-1.1"),
        ("data", json.dumps(query)),
    ]  # fmt: skip
    answer = signed(f"{service}.{region}", "/", words, role())
    try:
        reply = json.loads(answer.body)
    except ValueError:
        reply = {}
    if answer.status != 200:
        code = str(reply.get("__type", "")).rpartition("#")[2]
        raise refused(arn, answer.status, code, str(reply.get("message") or reply.get("Message") or ""), action)
    secret = reply.get("Parameter", {}).get("Value") if service == "ssm" else reply.get("SecretString")
    if key and secret is not None:
        try:
            secret = json.loads(secret)[key]
        except (ValueError, LookupError, TypeError):
            raise StepError(f"{arn}: is not a JSON object with key {key}") from None
        secret = secret if isinstance(secret, str) else json.dumps(secret)
    if secret is None or "\0" in secret:
        raise StepError(f"{arn}: is binary, not text")
    return secret


def references() -> list:
    """Return the matches of LINE in REFERENCES. Raises StepError if a line is invalid."""
    lines = [line.strip() for line in REFERENCES.read_text().splitlines()] if REFERENCES.exists() else []
    matches = [(number, LINE.fullmatch(line)) for number, line in enumerate(lines, 1) if line and line[0] != "#"]
    wrong = ", ".join(str(number) for number, line in matches if not line)
    if wrong:
        raise StepError(f"{REFERENCES}: not NAME=arn:aws:ssm:… or NAME=arn:aws:secretsmanager:…: line {wrong}")
    return [line for _, line in matches]


def fetch(recipe: dict, patience: float = PATIENCE, *, keys_alone: bool = False) -> None:
    """Fetch the values of REFERENCES, and write them to VALUES and to the files of KEYS.

    With `keys_alone`, fetch only the values of KEYS. If a value fails, nothing is written, and the StepError has a line
    for each failure.
    """
    own = dict(KEYS[key] for key in KEYS if key in recipe)
    values, problems, until = {}, [], time.monotonic() + patience
    for reference in references():
        name = reference["name"]
        if name in own or not keys_alone:
            try:
                values[name] = patiently(lambda line=reference: value(line), until - time.monotonic())  # type: ignore[misc]
            except StepError as problem:
                problems.append(f"{name}: {problem}")
    if problems:
        raise StepError("\n".join(["secrets cannot be fetched:", *problems]))
    for name, path in own.items():
        key = values.pop(name, "").strip() + "\n"
        if key.strip() and not (path.exists() and path.read_text() == key):
            write(path, key, 0o600)
    if not keys_alone:
        # An EnvironmentFile, systemd.exec(5).
        quoted = ((name, re.sub(r'(["\\$`])', r"\\\1", text)) for name, text in sorted(values.items()))
        write(VALUES, "".join(f'{name}="{text}"\n' for name, text in quoted), 0o600)
