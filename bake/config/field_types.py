"""Define the types of the keys in a recipe. Their errors are sentences for people.

Every scalar arrives as the text in the file.
"""

from __future__ import annotations

import ast
import difflib
import ipaddress
import re
import zoneinfo
from pathlib import Path, PurePosixPath
from typing import Annotated
from urllib.parse import urlsplit

from packaging.requirements import InvalidRequirement, Requirement
from pydantic import AfterValidator, BeforeValidator, ValidationInfo, WithJsonSchema

from bake.config import contract
from bake.config.debian import PYTHON_DATES, TARGETS

_NAME = "[A-Za-z_][A-Za-z0-9_]*"
_ON_MACHINE = "Set the value on the machine: sudo app-secret NAME < FILE"
#: The algorithms that certbot supports and RFC 8945 recommends or allows.
ALGORITHMS = ("HMAC-SHA224", "HMAC-SHA256", "HMAC-SHA384", "HMAC-SHA512")
SIZES = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600}
DAYS = {**SECONDS, "d": 86400}


def matching(pattern: str, description: str) -> AfterValidator:
    """Return a validator for text that matches `pattern`. `description` completes the sentence "'x' is not …"."""

    def check(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(f"{text!r} is not {description}")
        return text

    return AfterValidator(check)


def unit(units: dict[str, int], maximum: int, example: str, minimum: int = 1) -> BeforeValidator:
    """Return a validator that converts a number with a unit to the smallest unit: `minimum` to `maximum`."""

    def convert(value: object) -> object:
        if isinstance(value, int):  # from recipe.json
            return value
        match = re.fullmatch(r"(\d{1,12})\s*([A-Za-z]?)", value) if isinstance(value, str) else None
        unit = match and next((unit for unit in units if unit.lower() == match[2].lower()), None)
        if not match or unit is None:
            names = ", ".join(filter(None, units))
            raise ValueError(f"{value!r} is not a number with one of the units {names}, such as {example}")
        number = int(match[1]) * units[unit]
        if not minimum <= number <= maximum:
            raise ValueError(f"{value!r} is out of range")
        return number

    return BeforeValidator(convert)


def workers(value: object) -> object:
    """Return `auto` or a number of processes. Raises ValueError."""
    if value == "auto" or (isinstance(value, int) and value > 0):
        return value
    if isinstance(value, str) and re.fullmatch(r"[1-9]\d{0,2}", value):
        return int(value)
    raise ValueError(f"{value!r} is neither auto nor a whole number above 0")


def domain(text: str) -> str:
    """Return a host name in ASCII and lower case that can have a certificate. Raises ValueError."""
    name = text.strip().lower().removesuffix(".")
    if name.startswith("*"):
        raise ValueError(
            f"{text!r} is a wildcard, whose certificate needs control of the DNS; list each name or set certificate.dns"
        )
    if "://" in name:
        raise ValueError(f"{text!r} is a URL; write only the name: {urlsplit(name).hostname or 'example.com'}")
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
    if len(name) <= 253 and re.fullmatch(contract.DOMAIN, name):
        return name
    explanation = ""
    if re.search(r"[,;\s]", name):
        explanation = "; for several names, write a list in bake.yaml or repeat --domain"
    elif re.search(r"[/:]", name):
        explanation = f"; write only the name: {re.split('[/:]', name)[0] or 'example.com'}"
    elif "." not in name:
        explanation = "; it has no dot"
    raise ValueError(f"{text!r} is not a domain name{explanation}")


def domains(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names. Raises ValueError if one of them is listed twice."""
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{name!r} is listed twice")
    return names


def email(text: str) -> str:
    """Return an email address. Raises ValueError."""
    account, _, host = text.rpartition("@")
    try:
        if not re.fullmatch(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}", account):
            raise ValueError
        domain(host)
    except ValueError:
        raise ValueError(f"{text!r} is not an email address") from None
    return text


def url(*schemes: str) -> AfterValidator:
    """Return a validator for URLs that have one of `schemes` and no password."""
    return AfterValidator(lambda text: _address(text, schemes))


def _address(text: str, schemes: tuple[str, ...]) -> str:
    parts = urlsplit(text)
    host = parts.hostname or "-"
    if parts.port == 0:  # `port` raises ValueError for other wrong ports.
        raise ValueError(f"{text!r} has the port 0")
    # A program that gets only the host would read one that begins with a dash as an option.
    if parts.scheme not in schemes or host.startswith("-") or re.search(r"[\s\x00-\x1f\x7f]", text):
        raise ValueError(f"{text!r} is not an {' or '.join(schemes)} URL")
    if parts.username or parts.password:
        # The recipe is part of the image, and people share images.
        raise ValueError("the URL contains a user name or password, which would become part of the image")
    return text


def authority(text: str) -> str:
    """Return the certificate authority: `staging`, or the https URL of an ACME directory. Raises ValueError."""
    if text == "staging":
        return text
    if text.startswith("https://"):
        return _address(text, ("https",))
    raise ValueError(
        f"{text!r} is neither staging nor the https URL of an ACME directory; remove it to use Let's Encrypt"
    )


def ip(text: str) -> str:
    """Return an IP address in its usual form. Raises ValueError."""
    try:
        return str(ipaddress.ip_address(text.strip("[]")))
    except ValueError:
        raise ValueError(f"{text!r} is not an IP address; certbot does not accept a host name here") from None


def algorithm(text: str) -> str:
    """Return a TSIG algorithm in the case that certbot needs: it would take another case for MD5. Raises ValueError."""
    if text.upper() not in ALGORITHMS:
        raise ValueError(f"{text!r} is not one of: {', '.join(ALGORITHMS)}")
    return text.upper()


def keep(text: str) -> str:
    """Return the place for data that outlives the machine: an absolute folder, LABEL=name of a volume, or a bucket."""
    if text.startswith("s3:"):
        # S3's TLS certificate does not cover bucket names with a dot. The prefix becomes part of a URL without quoting.
        if not re.fullmatch(r"s3://[a-z0-9][a-z0-9-]{1,61}[a-z0-9](/[A-Za-z0-9_][A-Za-z0-9_.-]*)*/?", text):
            raise ValueError(f"{text!r} is not of the form s3://bucket/prefix with a bucket name without dots")
        return text.rstrip("/")
    kind, equals, label = text.partition("=")
    if equals and "/" not in kind:
        # The maximum length of a label is 16 bytes for ext4, and 12 for XFS.
        if kind != "LABEL" or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,15}", label):
            raise ValueError(f"{text!r} is not of the form LABEL=keep with the label of a volume's file system")
        return text
    path = PurePosixPath(text)
    if not re.fullmatch(r"(/[A-Za-z0-9_.-]+)+/?", text) or ".." in path.parts:
        raise ValueError(f"{text!r} is neither an absolute folder, nor LABEL=name of a volume, nor s3://bucket/prefix")
    temporary_folders = ("/run", "/tmp", "/var/tmp", "/dev", "/proc", "/sys")
    if any(path.is_relative_to(folder) for folder in temporary_folders):
        raise ValueError(f"{text!r} is a temporary folder, which the next boot clears")
    if any(path.is_relative_to(folder) for folder in (contract.DATA, contract.CACHE, contract.APP)):
        raise ValueError(f"{text!r} is a folder of the app; choose one that belongs to root, such as /srv/keep")
    return str(path)


def inner_path(text: str) -> str:
    """Return a path below the app's folder in its shortest form, safe in nginx's settings. Raises ValueError."""
    path = PurePosixPath(text)
    # Also refuse ".": as static files, it would publish the app's source.
    if path.is_absolute() or ".." in path.parts or not path.parts or re.search(r"[\s\x00-\x1f\"'\\;{}$]", text):
        raise ValueError(f"{text!r} is not a path inside the app's folder")
    return str(path)


def exists(text: str, info: ValidationInfo) -> str:
    """Return a path that exists in the recipe's folder: a file for `requirements`, a folder otherwise.

    The build of `assets` makes its folders, so they may be missing.
    """
    assets = info.data.get("assets")
    if info.context and not (assets and assets.makes(text)):
        path: Path = info.context["folder"] / text
        kind = "file" if info.field_name == "requirements" else "folder"
        if not (path.is_file() if kind == "file" else path.is_dir()):
            raise ValueError(f"there is no {kind} {text!r}")
    return text


def prefix(text: str) -> str:
    """Return a URL prefix without its trailing slash. Raises ValueError."""
    if not re.fullmatch(r"(/[A-Za-z0-9_~.-]+)+/?", text) or ".." in text.split("/"):
        raise ValueError(f"{text!r} is not a URL prefix such as /static")
    return text.rstrip("/")


def base(text: str) -> str:
    """Return the name of a supported Debian release. Raises ValueError."""
    if text not in TARGETS:
        raise ValueError(f"{text!r} is not one of: {', '.join(TARGETS)}; for an image, write {{image: …, sha512: …}}")
    return text


def python(text: str) -> str:
    """Return a version of Python, with or without its third part. Raises ValueError."""
    match = re.fullmatch(r"3\.(\d{1,2})(\.\d{1,2})?", text)
    if not match or (3, int(match[1])) not in PYTHON_DATES:
        versions = ", ".join(f"{major}.{minor}" for major, minor in PYTHON_DATES)
        raise ValueError(f"{text!r} is not one of {versions}, which may have a third part, as in 3.12.8")
    return text


def image(text: str) -> str:
    """Return an https URL or a path. Raises ValueError."""
    if "://" in text and not re.fullmatch(r"https://[^\s/-][^\s/]*/\S+", text):
        raise ValueError(f"{text!r} is neither an https URL nor a path")
    return text


def expression(node: ast.expr) -> bool:
    """Return whether an expression may follow a module's name: only names, attributes and calls with literals."""
    if isinstance(node, ast.Attribute):
        return expression(node.value)
    if isinstance(node, ast.Call):
        values = [*node.args, *(keyword.value for keyword in node.keywords if keyword.arg)]
        has_no_unpacking = len(values) == len(node.args) + len(node.keywords)
        return has_no_unpacking and expression(node.func) and all(isinstance(value, ast.Constant) for value in values)
    return isinstance(node, ast.Name)


def wsgi(text: str) -> str:
    """Return module:expression (see `expression`), or the path of a PasteDeploy file. Raises ValueError."""
    if text.endswith(".ini"):
        return inner_path(text)
    module, colon, source = text.partition(":")
    try:
        is_valid = bool(colon) and expression(ast.parse(source, mode="eval").body)
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # by the limits of the parser
        is_valid = False
    if not is_valid or not re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)*", module):
        example = "" if colon else f", such as {text.removesuffix('.py').replace('/', '.')}:app"
        raise ValueError(f"{text!r} is not module:callable{example}")
    return text


def asgi(text: str) -> str:
    """Return module:expression (see `expression`). Raises ValueError."""
    if text.endswith(".ini"):
        raise ValueError(f"{text!r} is a PasteDeploy file, whose apps are WSGI apps: write `wsgi: {text}`")
    return wsgi(text)


def pin(text: str) -> str:
    """Return a requirement for exactly one version. Raises ValueError."""
    try:
        requirement = Requirement(text)
    except InvalidRequirement:
        requirement = None
    if requirement is None or not re.fullmatch(r"==[^*]+", str(requirement.specifier)):
        raise ValueError(f"{text!r} is not a requirement with one version, such as httpbin==0.10.4")
    return text


_WORDS = "minutely|hourly|daily|weekly|monthly|quarterly|yearly|annually|(?:semi|bi)-?annually"
_DAY = "(?:mon(?:day)?|tue(?:sday)?|wed(?:nesday)?|thu(?:rsday)?|fri(?:day)?|sat(?:urday)?|sun(?:day)?)"
_DAYS = rf"{_DAY}(?:(?:\.\.|-|[, ]+){_DAY})*"
#: A date or a time.
_NUMBERS = r"(?=[^ ]*[:~-])[0-9*][0-9*:,./~t-]*"
_ZONE = r"(?i:utc)|[A-Z][A-Za-z0-9_+/-]*"
#: The shape of a calendar expression. It admits some that systemd does not, but refuses none that systemd admits.
CALENDAR = re.compile(
    rf"(?i:{_WORDS}|{_DAYS},?|(?:{_DAYS}[, ]+)?{_NUMBERS}(?: +{_NUMBERS})?|@[0-9]+)(?: +(?P<zone>{_ZONE}))?", re.ASCII
)


def calendar(text: str) -> str:
    """Return a calendar expression in the format of systemd.time(7). Raises ValueError."""
    if len(text) > 80 or not CALENDAR.fullmatch(text.strip(" ")):
        raise ValueError(
            f"{text!r} is not a schedule in the format of systemd.time(7), such as hourly, Mon 06:30 or *:0/15"
        )
    if zone_of(text).upper() not in ("", "UTC"):
        timezone(zone_of(text))
    return text


def zone_of(text: str) -> str:
    """Return the time zone in a calendar expression, or ""."""
    return match["zone"] or "" if (match := CALENDAR.fullmatch(text.strip(" "))) else ""


def in_zone(text: str, zone: str | None) -> str:
    """Return a calendar expression with a time zone, unless it has one or is a number of seconds."""
    return f"{text.strip(' ')} {zone}" if zone and not zone_of(text) and "@" not in text else text


def timezone(text: str) -> str:
    """Return the name of a time zone. Raises ValueError. A computer without time zones only checks its form."""
    known = zoneinfo.available_timezones()
    if not re.fullmatch(r"[A-Z]\w*(?:[/+-]\w+){0,3}", text, re.ASCII) or (known and text not in known):
        (near,) = difflib.get_close_matches(text, sorted(known), 1) or ["Europe/Berlin"]
        raise ValueError(f"{text!r} is not a time zone, such as {near}")
    return text


def timer_name(text: str) -> str:
    """Return the name of a job, whose timer is app-<name>.timer. Raises ValueError."""
    if text in contract.RESERVED_JOBS:
        raise ValueError(f"{text!r} is the name of one of the machine's own jobs; choose another name")
    if not re.fullmatch(contract.LABEL, text):
        raise ValueError(f"{text!r} is not a job name of a-z, 0-9 and -")
    return text


def requirements(value: object, info: ValidationInfo) -> str | tuple[str, ...] | None:
    """Return the path of a requirements file, which may be above the app's folder, or the requirements.

    Raises ValueError.
    """
    if value is None:
        return None
    if isinstance(value, str):
        above, path = re.fullmatch(r"((?:\.\./)*)(.*)", value, re.DOTALL).groups()  # type: ignore[union-attr]
        return exists(above + inner_path(path), info)
    if not isinstance(value, list | tuple):
        raise ValueError("should be the path of a file, or a list such as [flask, requests>=2]")
    for text in value:
        try:
            if Requirement(str(text)).url:
                raise ValueError(f"{text!r} is a URL requirement; require a version on a package index instead")
        except InvalidRequirement:
            raise ValueError(f"{text!r} is not a requirement such as flask>=3") from None
    return tuple(map(str, value))


def secret(value: object) -> object:
    """Return the name of a secret. Raises ValueError, which never repeats a text that may be the secret itself."""
    name = next(iter(value), "") if isinstance(value, dict) else str(value)
    if isinstance(value, dict) or not re.fullmatch(_NAME, name):
        match = re.match(rf"{_NAME}(?=[=: ]|$)", str(name))
        raise ValueError(f"should be only a name, such as {match[0] if match else 'STRIPE_KEY'}. {_ON_MACHINE}")
    return value


def secrets(value: object) -> object:
    """Return the list of secrets unchanged. Raises ValueError for names with values, and for a single text."""
    names = (
        list(value) if isinstance(value, dict) else re.findall(rf"^{_NAME}", value) if isinstance(value, str) else []
    )
    if isinstance(value, dict | str):
        raise ValueError(f"should be a list of names, [{', '.join(names) or 'STRIPE_KEY'}]. {_ON_MACHINE}")
    return value


def release(value: object) -> object:
    """Return the commands of `release` unchanged. Raises ValueError for the name of a Debian release."""
    for text in [value] if isinstance(value, str) else value if isinstance(value, list | tuple) else ():
        if isinstance(text, str) and re.fullmatch(r"debian[ -]?\d*", text, re.IGNORECASE):
            name = text if text in TARGETS else next(iter(TARGETS))
            raise ValueError(f"should be commands that run once for each release. For the Debian version: base: {name}")
    return value


SCALAR = WithJsonSchema({"type": ["string", "number", "boolean"]})
EnvName = Annotated[str, matching(_NAME, "the name of an environment variable")]
EnvValue = Annotated[str, matching(r"[^\x00-\x08\x0a-\x1f\x7f]*", "one line of text"), SCALAR]
Env = dict[EnvName, EnvValue]
Prefix = Annotated[str, AfterValidator(prefix)]
Command = Annotated[str, matching(r"[^\x00-\x1f\x7f]*\S[^\x00-\x1f\x7f]*", "a command on one line")]
InnerFolder = Annotated[str, AfterValidator(inner_path), AfterValidator(exists)]
UrlPath = Annotated[str, matching(r"/([^\s/\x00-\x1f\"\\][^\s\x00-\x1f\"\\]*)?", "a path that starts with /")]
