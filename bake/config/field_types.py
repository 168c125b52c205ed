"""What the values of a recipe's keys may be: each a type, whose faults are sentences.

Every scalar arrives as the text that stands in the file.
"""

from __future__ import annotations

import ast
import ipaddress
import re
from pathlib import Path, PurePosixPath
from typing import Annotated
from urllib.parse import urlsplit

from packaging.requirements import InvalidRequirement, Requirement
from pydantic import AfterValidator, BeforeValidator, ValidationInfo, WithJsonSchema

from bake.config.debian import TARGETS

LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
#: Those that certbot knows and RFC 8945 does not advise against.
ALGORITHMS = ("HMAC-SHA224", "HMAC-SHA256", "HMAC-SHA384", "HMAC-SHA512")
SIZES = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600}


def matching(pattern: str, what: str) -> AfterValidator:
    """A check that the whole text fits `pattern`; `what` ends the sentence "'x' is not …"."""

    def check(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(f"{text!r} is not {what}")
        return text

    return AfterValidator(check)


def unit(units: dict[str, int], most: int, example: str) -> BeforeValidator:
    """A whole number with a unit, made a number of the smallest one: 1 to `most`."""

    def convert(value: object) -> object:
        if isinstance(value, int):  # a dump of ours that is read again
            return value
        found = re.fullmatch(r"(\d{1,12})\s*([A-Za-z]?)", value) if isinstance(value, str) else None
        unit = found and next((unit for unit in units if unit.lower() == found[2].lower()), None)
        if not found or unit is None:
            raise ValueError(f"{value!r} should read like {example}")
        number = int(found[1]) * units[unit]
        if not 1 <= number <= most:
            raise ValueError(f"{value!r} is out of bounds")
        return number

    return BeforeValidator(convert)


def workers(value: object) -> object:
    """`auto`, or a number of processes."""
    if value == "auto" or (isinstance(value, int) and value > 0):
        return value
    if isinstance(value, str) and re.fullmatch(r"[1-9]\d{0,2}", value):
        return int(value)
    raise ValueError(f"{value!r} is neither auto nor a whole number above 0")


def domain(text: str) -> str:
    """A name that a certificate can be had for, in its ASCII form, lower case."""
    name = text.strip().lower().removesuffix(".")
    if name.startswith("*"):
        raise ValueError(
            f"{text!r} is a wildcard: its certificate needs control of the DNS; list each name, or say certificate.dns"
        )
    if "://" in name:
        raise ValueError(f"{text!r} is an address; write the name only: {urlsplit(name).hostname or 'example.com'}")
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        pass
    else:
        raise ValueError(f"{text!r} is an IP address; a certificate needs a name")
    if not name.isascii():
        try:
            raise ValueError(f"{text!r} should be in its ASCII form: {name.encode('idna').decode()}")
        except UnicodeError:
            raise ValueError(f"{text!r} is not a domain name") from None
    # The same as app-configure's: two characters at least, and a letter first, for the last label.
    if len(name) <= 253 and re.fullmatch(rf"({LABEL}\.)+[a-z][a-z0-9-]{{0,61}}[a-z0-9]", name):
        return name
    why = ""
    if re.search(r"[,;\s]", name):
        why = "; one name each: a list in bake.yaml, --domain more than once"
    elif re.search(r"[/:]", name):
        why = f"; write the name only: {re.split('[/:]', name)[0] or 'example.com'}"
    elif "." not in name:
        why = "; it has no dot"
    raise ValueError(f"{text!r} is not a domain name{why}")


def domains(names: tuple[str, ...]) -> tuple[str, ...]:
    """Names, none of them twice."""
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{name!r} is listed twice")
    return names


def email(text: str) -> str:
    """An address that may be written to."""
    account, _, host = text.rpartition("@")
    try:
        if not re.fullmatch(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}", account):
            raise ValueError
        domain(host)
    except ValueError:
        raise ValueError(f"{text!r} is not an e-mail address") from None
    return text


def url(*schemes: str) -> AfterValidator:
    """A check that an address has one of `schemes` and no password in it."""
    return AfterValidator(lambda text: _address(text, schemes))


def _address(text: str, schemes: tuple[str, ...]) -> str:
    parts = urlsplit(text)
    host = parts.hostname or "-"
    # A host that begins with a dash is an option to programs that are given it alone.
    if parts.scheme not in schemes or host.startswith("-") or re.search(r"[\s\x00-\x1f\x7f]", text):
        raise ValueError(f"{text!r} is not an {' or '.join(schemes)} address")
    if parts.username or parts.password:
        # The recipe is part of the image, and the image is given away.
        raise ValueError("holds a user or a password, which would end up in the image")
    return text


def authority(text: str) -> str:
    """Who issues certificates: `staging`, or the https address of an ACME directory. Raises ValueError."""
    if text == "staging":
        return text
    if text.startswith("https://"):
        return _address(text, ("https",))
    raise ValueError(
        f"{text!r} is neither staging nor the https address of an ACME directory; leave it out for Let's Encrypt"
    )


def ip(text: str) -> str:
    """An IP address, in its usual form."""
    try:
        return str(ipaddress.ip_address(text.strip("[]")))
    except ValueError:
        raise ValueError(f"{text!r} is not an IP address; certbot takes no host name here") from None


def algorithm(text: str) -> str:
    """A TSIG key's algorithm, as certbot writes it: another case would be taken for MD5."""
    if text.upper() not in ALGORITHMS:
        raise ValueError(f"{text!r} is not one of: {', '.join(ALGORITHMS)}")
    return text.upper()


def keep(text: str) -> str:
    """Where a machine keeps what outlives it: an absolute folder, LABEL=name of a volume's file system, or a bucket."""
    if text.startswith("s3:"):
        # A bucket with a dot in its name has no certificate of S3's. A prefix is written as it is into an address.
        if not re.fullmatch(r"s3://[a-z0-9][a-z0-9-]{1,61}[a-z0-9](/[A-Za-z0-9_][A-Za-z0-9_.-]*)*/?", text):
            raise ValueError(f"{text!r} should read like s3://bucket/prefix, the bucket's name without dots")
        return text.rstrip("/")
    kind, equals, label = text.partition("=")
    if equals and "/" not in kind:
        # 16 bytes are what ext4 has room for; XFS has 12.
        if kind != "LABEL" or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,15}", label):
            raise ValueError(f"{text!r} should read like LABEL=keep, with the label of a volume's file system")
        return text
    path = PurePosixPath(text)
    if not re.fullmatch(r"(/[A-Za-z0-9_.-]+)+/?", text) or ".." in path.parts:
        raise ValueError(f"{text!r} is neither an absolute folder, nor LABEL=name of a volume, nor s3://bucket/prefix")
    lost = ("/run", "/tmp", "/var/tmp", "/dev", "/proc", "/sys")
    if any(path.is_relative_to(place) for place in lost):
        raise ValueError(f"{text!r} does not outlive the machine's next boot")
    if any(path.is_relative_to(place) for place in ("/var/lib/app", "/var/cache/app", "/srv/app")):
        raise ValueError(f"{text!r} is a folder of the app's; take one that is root's, like /srv/keep")
    return str(path)


def inside(text: str) -> str:
    """A path below the app's folder, in its shortest form; nginx is to read it too. Raises ValueError."""
    path = PurePosixPath(text)
    # "." is refused as well: served as static files, it would show the world the source.
    if path.is_absolute() or ".." in path.parts or not path.parts or re.search(r"[\s\x00-\x1f\"'\\;{}$]", text):
        raise ValueError(f"{text!r} is not a path inside the app's folder")
    return str(path)


def exists(text: str, info: ValidationInfo) -> str:
    """What a recipe read from a folder names has to be there: a folder for `static`, a file otherwise."""
    if info.context:
        path: Path = info.context["folder"] / text
        kind = "file" if info.field_name == "requirements" else "folder"
        if not (path.is_file() if kind == "file" else path.is_dir()):
            raise ValueError(f"there is no {kind} {text!r}")
    return text


def prefix(text: str) -> str:
    """The beginning of a URL path, without a slash at its end."""
    if not re.fullmatch(r"(/[A-Za-z0-9_~.-]+)+/?", text) or ".." in text.split("/"):
        raise ValueError(f"{text!r} is not a URL prefix like /static")
    return text.rstrip("/")


def base(text: str) -> str:
    """A release we know."""
    if text not in TARGETS:
        raise ValueError(f"{text!r} is not one of: {', '.join(TARGETS)}; an image is {{image: …, sha512: …}}")
    return text


def image(text: str) -> str:
    """An https address, or a path."""
    if "://" in text and not re.fullmatch(r"https://[^\s/-][^\s/]*/\S+", text):
        raise ValueError(f"{text!r} should start with https://, or be a path")
    return text


def expression(node: ast.expr) -> bool:
    """Whether an expression may follow a module's name: names, attributes, calls with plain values."""
    if isinstance(node, ast.Attribute):
        return expression(node.value)
    if isinstance(node, ast.Call):
        values = [*node.args, *(keyword.value for keyword in node.keywords if keyword.arg)]
        plain = len(values) == len(node.args) + len(node.keywords)
        return plain and expression(node.func) and all(isinstance(value, ast.Constant) for value in values)
    return isinstance(node, ast.Name)


def wsgi(text: str) -> str:
    """module:expression (see `expression`), or a file for PasteDeploy."""
    if text.endswith(".ini"):
        return inside(text)
    module, colon, rest = text.partition(":")
    try:
        good = bool(colon) and expression(ast.parse(rest, mode="eval").body)
    except (SyntaxError, ValueError):
        good = False
    if not good or not re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)*", module):
        example = "" if colon else f", as in {text.removesuffix('.py').replace('/', '.')}:app"
        raise ValueError(f"{text!r} is not module:callable{example}")
    return text


def pinned(text: str) -> str:
    """A requirement for one version."""
    try:
        wanted = Requirement(text)
    except InvalidRequirement:
        wanted = None
    if wanted is None or not re.fullmatch(r"==[^*]+", str(wanted.specifier)):
        raise ValueError(f"{text!r} should name one version, as in httpbin==0.10.4")
    return text


#: Names of the machine's own jobs and units.
JOBS = ("setup", "release", "static", "author", "next", "configure", "certificate", "look", "keep", "build")


def timer_name(text: str) -> str:
    """A job's name; its timer is called app-<name>.timer."""
    if not re.fullmatch(LABEL, text) or text in JOBS:
        raise ValueError(f"{text!r} is not a name of a-z, 0-9 and - for a job, or one of ours")
    return text


def requirements(value: object, info: ValidationInfo) -> str | tuple[str, ...] | None:
    """A file's name, or the requirements themselves."""
    if value is None:
        return None
    if isinstance(value, str):
        return exists(inside(value), info)
    if not isinstance(value, list | tuple):
        raise ValueError("should be a file's name, or a list like [flask, requests>=2]")
    for text in value:
        try:
            if Requirement(str(text)).url:
                raise ValueError(f"{text!r} depends on an address; name a version on a package index")
        except InvalidRequirement:
            raise ValueError(f"{text!r} is not a requirement like flask>=3") from None
    return tuple(map(str, value))


SCALAR = WithJsonSchema({"type": ["string", "number", "boolean"]})
EnvName = Annotated[str, matching(r"[A-Za-z_][A-Za-z0-9_]*", "a name an environment variable can have")]
EnvValue = Annotated[str, matching(r"[^\x00-\x08\x0a-\x1f\x7f]*", "one line of text"), SCALAR]
Env = dict[EnvName, EnvValue]
Prefix = Annotated[str, AfterValidator(prefix)]
Command = Annotated[str, matching(r"[^\x00-\x1f\x7f]*\S[^\x00-\x1f\x7f]*", "a command of one line")]
Inside = Annotated[str, AfterValidator(inside), AfterValidator(exists)]
UrlPath = Annotated[str, matching(r"/([^\s/\x00-\x1f\"\\][^\s\x00-\x1f\"\\]*)?", "a path starting with /")]
