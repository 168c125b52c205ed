"""What a machine on EC2 asks of AWS in the role it has there: the values of secrets that its launch only refers to.

curl signs the requests. Credentials and values are in memory alone: no program's arguments, no log and no disk holds
them, but for the keys that root has in /etc/app. Lies in a release beside its settings, where bake.yaml says `aws`;
Python's standard library only.
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

#: What a launch refers to: NAME=arn:… a line, and #key behind it for one value of a JSON object.
REFERENCES = Path("/etc/app/secrets.aws")
LINE = re.compile(
    r"(?P<name>[A-Za-z_]\w*)=(?P<arn>arn:aws[a-z-]*:(?P<service>ssm|secretsmanager):(?P<region>[a-z0-9-]+):\d{12}:"
    r"(parameter/|secret:)[^\s#]+)(#(?P<key>.+))?",
    re.ASCII,
)
#: The values, as units of the app's read them; no disk has this folder.
VALUES = Path("/run/app/secrets.env")
#: What root alone has: a key of the recipe's to the name of a value, and its file.
KEYS = {
    "keep": ("CERTIFICATE_KEY", Path("/etc/app/certificate.key")),
    "dns": ("DNS_KEY", Path("/etc/app/dns.key")),
}
#: Who tells a machine about itself, IMDSv2. Both names of the environment are those of AWS's own programs.
METADATA = os.environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://169.254.169.254")
ENDPOINT = os.environ.get("AWS_ENDPOINT_URL")
#: Seconds for what a network, a clock or AWS may hold up; and for a role that is not there, which may be late.
PATIENCE, NO_ROLE = 600, 60
#: Codes of what passes. Credentials are known a little later than they are given out.
PASSING = re.compile(
    "Throttl|TooManyRequests|RequestLimit|SlowDown|Internal|Unavailable|Expired|InvalidSignature|Skewed|Unrecognized"
)
Found = TypeVar("Found")


class Later(StepError):
    """What another try may mend; for so many seconds at most."""

    def __init__(self, text: str, patience: float = PATIENCE) -> None:
        super().__init__(text)
        self.patience = patience


class Answer(NamedTuple):
    """What came back: the status, the region that a bucket says it is in, and the content."""

    status: int
    region: str
    body: bytes


class Role(NamedTuple):
    """Where this machine is, and curl's words for who it is."""

    region: str
    words: list


def ask(url: str, words: list) -> Answer:
    """One request; `words` are options of curl's, each with its value. Raises Later where nobody answers."""
    said = [
        ("url", url), ("silent", None), ("show-error", None), ("proto", "=http,https"), ("connect-timeout", "5"),
        ("max-time", "60"), ("write-out", "\n%{http_code} %header{x-amz-bucket-region}"), *words,
    ]  # fmt: skip
    # On its standard input: arguments are anybody's to read.
    done = subprocess.run(["curl", "-q", "-K", "-"], input=configured(said), capture_output=True)
    host = url.split("/")[2]
    if done.returncode:
        told = done.stderr.decode(errors="replace").strip()
        raise Later(f"{host}: {told}")
    body, _, end = done.stdout.rpartition(b"\n")
    status, _, region = end.decode().partition(" ")
    return Answer(int(status), region.strip(), body)


def configured(words: list) -> bytes:
    """A configuration for curl, curl(1)."""
    escapes = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}
    lines = []
    for name, value in words:
        quoted = "".join(escapes.get(letter, letter) for letter in value or "")
        lines.append(name if value is None else f'{name} = "{quoted}"')
    return "\n".join(lines).encode()


def role() -> Role:
    """Who this machine is. Raises Later while it has no role, or nobody says."""

    def told(path: str, *words: tuple) -> Answer:
        answer = ask(f"{METADATA}/latest/{path}", [("noproxy", "*"), *words])
        if answer.status not in (200, 404):
            raise Later(f"the metadata service answers {answer.status}", NO_ROLE)
        return answer

    token = told("api/token", ("request", "PUT"), ("header", "X-aws-ec2-metadata-token-ttl-seconds: 300")).body.decode()
    shown = ("header", f"X-aws-ec2-metadata-token: {token}")
    region = told("meta-data/placement/region", shown).body.decode()
    names = told("meta-data/iam/security-credentials/", shown)
    name = names.body.decode().strip().partition("\n")[0]
    if names.status == 404 or not name:
        raise Later("this machine has no role: launch it with an instance profile", NO_ROLE)
    given = told(f"meta-data/iam/security-credentials/{name}", shown)
    there = json.loads(given.body) if given.status == 200 else {}
    if "Token" not in there:
        code = there.get("Code", given.status)
        raise Later(f"the role {name} gives no credentials: {code}", NO_ROLE)
    user = there["AccessKeyId"] + ":" + there["SecretAccessKey"]
    security = there["Token"]
    return Role(region, [("user", user), ("header", f"X-Amz-Security-Token: {security}")])


def signed(host: str, service: str, region: str, path: str, words: list, who: Role) -> Answer:
    """A request of AWS, signed."""
    china = ".cn" if region.startswith("cn-") else ""
    there = ENDPOINT or f"https://{host}.amazonaws.com{china}"
    return ask(f"{there}{path}", [("aws-sigv4", f"aws:amz:{region}:{service}"), *who.words, *words])


def refused(what: str, status: int, code: str, message: str, action: str) -> StepError:
    """What went wrong, in a line that helps; Later, where another try may."""
    if status >= 500 or status == 429 or PASSING.search(code):
        return Later(f"{what}: {code or status}")
    if "AccessDenied" in code or status == 403:
        # A key of KMS's may be what is refused.
        lacks = re.search(r"not authorized to perform: ([\w:]+)", message)
        lacking = lacks[1] if lacks else action
        return StepError(f"{what}: {code or status}: this machine's role lacks {lacking}")
    short = message[:200]
    return StepError(f"{what}: {code or status} {short}".rstrip())


def patiently(attempt: Callable[[], Found], patience: float) -> Found:
    """The same again and again, while what hinders it may pass, for so many seconds."""
    begun, pause = time.monotonic(), 0.5
    while True:
        try:
            return attempt()
        except Later as problem:
            if time.monotonic() + pause - begun > min(patience, problem.patience):
                raise
            say(f"<4>retry in {pause:.1f} s: {problem}")
        time.sleep(pause)
        # Machines that were started together do not come back together.
        pause = min(pause * random.uniform(1.6, 2.4), 30)


def value(reference: re.Match) -> str:
    """What one line of REFERENCES stands for. Raises StepError, which never shows it."""
    arn, service, region, key = reference.group("arn", "service", "region", "key")
    if service == "ssm":
        target, action, said = "AmazonSSM.GetParameter", "ssm:GetParameter", {"Name": arn, "WithDecryption": True}
    else:
        target, action, said = "secretsmanager.GetSecretValue", "secretsmanager:GetSecretValue", {"SecretId": arn}
    words = [
        ("header", f"X-Amz-Target: {target}"), ("header", "Content-Type: application/x-amz-json-1.1"),
        ("data", json.dumps(said)),
    ]  # fmt: skip
    answer = signed(f"{service}.{region}", service, region, "/", words, role())
    try:
        told = json.loads(answer.body)
    except ValueError:
        told = {}
    if answer.status != 200:
        code = str(told.get("__type", "")).rpartition("#")[2]
        raise refused(arn, answer.status, code, str(told.get("message") or told.get("Message") or ""), action)
    found = told.get("Parameter", {}).get("Value") if service == "ssm" else told.get("SecretString")
    if key and found is not None:
        try:
            found = json.loads(found)[key]
        except (ValueError, LookupError, TypeError):
            raise StepError(f"{arn}: is not a JSON object with key {key}") from None
        found = found if isinstance(found, str) else json.dumps(found)
    if found is None or "\0" in found:
        raise StepError(f"{arn}: is binary, not text")
    return found


def references() -> list:
    """The lines of REFERENCES, read. Raises StepError."""
    lines = [line.strip() for line in REFERENCES.read_text().splitlines()] if REFERENCES.exists() else []
    found = [(number, LINE.fullmatch(line)) for number, line in enumerate(lines, 1) if line and line[0] != "#"]
    wrong = ", ".join(str(number) for number, line in found if not line)
    if wrong:
        raise StepError(f"{REFERENCES}: not NAME=arn:aws:ssm:… or NAME=arn:aws:secretsmanager:…: line {wrong}")
    return [line for _, line in found]


def fetch(recipe: dict, patience: float = PATIENCE, *, keys_alone: bool = False) -> None:
    """Have VALUES hold what REFERENCES stand for, and the files of KEYS what is for root alone.

    All or nothing; raises StepError with a line for each that cannot be had.
    """
    own = dict(KEYS[key] for key in KEYS if key in recipe)
    values, problems, until = {}, [], time.monotonic() + patience
    for reference in references():
        name = reference["name"]
        if name in own or not keys_alone:
            try:
                values[name] = patiently(lambda line=reference: value(line), until - time.monotonic())
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
