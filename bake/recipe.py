"""`bake.yaml` to a frozen `Recipe`: every fault at once, each with its path.

YAML 1.1 turns `on`, `0755` and `12:30` into other values. So every scalar is
read as the text that stands there, and the key it stands under says what it is.
"""

from __future__ import annotations

import ast
import difflib
import ipaddress
import re
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import yaml
from packaging.requirements import InvalidRequirement, Requirement
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
)
from pydantic_core import ErrorDetails

from bake.errors import AppFolderError, RecipeError
from bake.target import DEBIAN_13, TARGETS

FILE_NAME = "bake.yaml"
#: Keys of the design whose time has not come.
LATER = ("app.git", "app.commit", "app.archive", "app.sha256", "certificate", "aws")

_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_SIZES = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600}


def _matching(pattern: str, what: str) -> AfterValidator:
    """A check that the whole text fits `pattern`; `what` ends the sentence "'x' is not …"."""

    def check(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(f"{text!r} is not {what}")
        return text

    return AfterValidator(check)


def _unit(units: dict[str, int], most: int, example: str) -> BeforeValidator:
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


def _workers(value: object) -> object:
    if value == "auto" or (isinstance(value, int) and value > 0):
        return value
    if isinstance(value, str) and re.fullmatch(r"[1-9]\d{0,2}", value):
        return int(value)
    raise ValueError(f"{value!r} is neither auto nor a whole number above 0")


def _domain(text: str) -> str:
    name = text.strip().lower().removesuffix(".")
    if name.startswith("*"):
        raise ValueError(f"{text!r} is a wildcard: its certificate needs control of the DNS; list each name")
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
    if len(name) > 253 or not re.fullmatch(rf"({_LABEL}\.)+{_LABEL}", name) or name.rsplit(".", 1)[1].isdigit():
        raise ValueError(f"{text!r} is not a domain name")
    return name


def _domains(names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{name!r} is listed twice")
    return names


def _email(text: str) -> str:
    account, _, domain = text.rpartition("@")
    try:
        if not re.fullmatch(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}", account):
            raise ValueError
        _domain(domain)
    except ValueError:
        raise ValueError(f"{text!r} is not an e-mail address") from None
    return text


def _url(*schemes: str) -> AfterValidator:
    def check(text: str) -> str:
        parts = urlsplit(text)
        if parts.scheme not in schemes or not parts.hostname or re.search(r"\s", text):
            raise ValueError(f"{text!r} is not an {' or '.join(schemes)} address")
        if parts.username or parts.password:
            # The recipe is part of the image, and the image is given away.
            raise ValueError("holds a user or a password, which would end up in the image")
        return text

    return AfterValidator(check)


def inside(text: str) -> str:
    """A path below the app's folder, in its shortest form; nginx is to read it too. Raises ValueError."""
    path = PurePosixPath(text)
    # "." is refused as well: served as static files, it would show the world the source.
    if path.is_absolute() or ".." in path.parts or not path.parts or re.search(r"[\s\x00-\x1f\"'\\;{}$]", text):
        raise ValueError(f"{text!r} is not a path inside the app's folder")
    return str(path)


def _exists(text: str, info: ValidationInfo) -> str:
    """What a recipe read from a folder names has to be there: a folder for `static`, a file otherwise."""
    if info.context:
        path: Path = info.context["folder"] / text
        kind = "file" if info.field_name == "requirements" else "folder"
        if not (path.is_file() if kind == "file" else path.is_dir()):
            raise ValueError(f"there is no {kind} {text!r}")
    return text


def _prefix(text: str) -> str:
    if not re.fullmatch(r"(/[A-Za-z0-9_~.-]+)+/?", text) or ".." in text.split("/"):
        raise ValueError(f"{text!r} is not a URL prefix like /static")
    return text.rstrip("/")


def _base(text: str) -> str:
    if text not in TARGETS:
        raise ValueError(f"{text!r} is not one of: {', '.join(TARGETS)}")
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


def _wsgi(text: str) -> str:
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


def _pinned(text: str) -> str:
    try:
        wanted = Requirement(text)
    except InvalidRequirement:
        wanted = None
    if wanted is None or not re.fullmatch(r"==[^*]+", str(wanted.specifier)):
        raise ValueError(f"{text!r} should name one version, as in httpbin==0.10.4")
    return text


def _timer_name(text: str) -> str:
    # What is there already: app-setup and app-configure are units of ours.
    if not re.fullmatch(_LABEL, text) or text in ("setup", "configure", "certificate"):
        raise ValueError(f"{text!r} is not a name of a-z, 0-9 and - for a job, or one of ours")
    return text


def _requirements(value: object, info: ValidationInfo) -> str | tuple[str, ...] | None:
    """A file's name, or the requirements themselves."""
    if value is None:
        return None
    if isinstance(value, str):
        return _exists(inside(value), info)
    if not isinstance(value, list | tuple):
        raise ValueError("should be a file's name, or a list like [flask, requests>=2]")
    for text in value:
        try:
            if Requirement(str(text)).url:
                raise ValueError(f"{text!r} depends on an address; name a version on a package index")
        except InvalidRequirement:
            raise ValueError(f"{text!r} is not a requirement like flask>=3") from None
    return tuple(map(str, value))


_SCALAR = WithJsonSchema({"type": ["string", "number", "boolean"]})
EnvName = Annotated[str, _matching(r"[A-Za-z_][A-Za-z0-9_]*", "a name an environment variable can have")]
EnvValue = Annotated[str, _matching(r"[^\x00-\x08\x0a-\x1f\x7f]*", "one line of text"), _SCALAR]
Env = dict[EnvName, EnvValue]
Prefix = Annotated[str, AfterValidator(_prefix)]
Command = Annotated[str, _matching(r"[^\x00-\x1f\x7f]*\S[^\x00-\x1f\x7f]*", "a command of one line")]
Inside = Annotated[str, AfterValidator(inside), AfterValidator(_exists)]
UrlPath = Annotated[str, _matching(r"/([^\s/\x00-\x1f\"\\][^\s\x00-\x1f\"\\]*)?", "a path starting with /")]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Limits(_Part):
    """What one request may take. `body` in bytes, `request` in seconds."""

    body: Annotated[
        int, _unit(_SIZES, 1 << 40, "10M"), WithJsonSchema({"type": ["string", "integer"], "pattern": r"^\d+[KMG]?$"})
    ] = Field(default=_SIZES["M"] * 10, description="Largest request body: 512K, 10M, 1G.")
    request: Annotated[
        int, _unit(_SECONDS, 86400, "60s"), WithJsonSchema({"type": ["string", "integer"], "pattern": r"^\d+[smh]?$"})
    ] = Field(default=60, description="Longest time for one request: 60s, 5m.")
    workers: Annotated[
        Literal["auto"] | int,
        BeforeValidator(_workers),
        WithJsonSchema({"anyOf": [{"const": "auto"}, {"type": "integer", "minimum": 1}]}),
    ] = Field(default="auto", description="Processes that serve; auto counts CPUs and memory at boot.")
    threads: int = Field(default=4, ge=1, le=256, description="Threads of each worker.")


class App(_Part):
    """An app that is not in this folder."""

    package: Annotated[str, AfterValidator(_pinned)] = Field(
        description="A package of the index, pinned: httpbin==0.10.4. `wsgi` says what it serves."
    )


class Timer(_Part):
    """A job of the app's own: what runs, and when."""

    run: Command = Field(description="A command; it runs as the app does, in the app's folder.")
    when: Annotated[str, _matching(r"[A-Za-z0-9*:,./~ -]{1,80}", "a time as systemd.time(7) has it")] = Field(
        description="When, as systemd.time(7) has it: hourly, daily, Mon 06:30, *:0/15."
    )


class Sandbox(_Part):
    """What the app may do besides."""

    allow: tuple[Literal["jit"], ...] = Field(default=(), description="jit: memory that is written and then run.")


class Django(_Part):
    """Whose settings those of the machine are put around."""

    settings: Annotated[str, _matching(r"[^\W\d]\w*(\.[^\W\d]\w*)*", "a module's name")] = Field(
        description="The project's settings module; found in manage.py if left out."
    )
    static_url: Prefix | None = Field(default=None, description="Where the collected static files are served.")


class Check(_Part):
    """How a bake finds out that the app is well."""

    env: Env = Field(
        default={},
        description="Environment of the bake and its proof alone; a secret not named here gets a random one.",
    )

    health: UrlPath | None = Field(
        default=None, description="Must answer 2xx or 3xx. Left out: / must answer below 500."
    )


class Recipe(_Part):
    """What the app is. None: left out, and to be found by `detect`."""

    app: App | None = Field(default=None, description="Left out: this folder. Or {package: name==version}.")

    name: Annotated[str, _matching(_LABEL, "a name of a-z, 0-9 and -, at most 63 long")] | None = Field(
        default=None, description="Names the image; the folder's name if left out."
    )
    wsgi: Annotated[str, AfterValidator(_wsgi)] | None = Field(
        default=None,
        description="module:callable, module:factory(), or an .ini file for PasteDeploy; found if left out.",
    )
    requirements: Annotated[
        str | tuple[str, ...] | None,
        PlainValidator(_requirements),
        PlainSerializer(lambda value: value),
        WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}),
    ] = Field(default=None, description="The file that lists them, or the list itself; found if left out.")
    index: Annotated[str, _url("https")] | None = Field(
        default=None, description="Another package index, for the build only."
    )
    mirror: Annotated[str, _url("http", "https")] | None = Field(
        default=None, description="A mirror of the Debian archive, for the build only."
    )
    domains: Annotated[tuple[Annotated[str, AfterValidator(_domain)], ...], AfterValidator(_domains)] = Field(
        default=(), description="Names the app answers to; none: any."
    )
    email: Annotated[str, AfterValidator(_email)] | None = Field(
        default=None, description="Where the certificate authority may write to."
    )
    static: dict[Prefix, Inside] | None = Field(default=None, description="URL prefix: folder that nginx serves there.")
    env: Env = Field(default={}, description="Plain environment. Never secrets: it is part of the image.")
    secrets: tuple[EnvName, ...] = Field(
        default=(), description="Names of secrets: NAME=value lines of /etc/app/secrets.env. Never in an image."
    )
    writable: tuple[Annotated[str, AfterValidator(inside)], ...] = Field(
        default=(), description="Folders and files that the app writes; they are kept in /var/lib/app."
    )
    setup: tuple[Command, ...] = Field(
        default=(), description="Commands that run before the app starts, on each boot and each new release."
    )
    timers: dict[Annotated[str, AfterValidator(_timer_name)], Timer] = Field(
        default={}, description="The app's own jobs, by name."
    )
    sandbox: Sandbox = Sandbox()
    django: Django | Literal["off"] | None = Field(
        default=None, description="off: a Django project's settings are used as they are."
    )
    packages: tuple[Annotated[str, _matching(r"[a-z0-9][a-z0-9+.-]+", "a Debian package's name")], ...] = Field(
        default=(), description="Debian packages the app needs."
    )
    limits: Limits = Limits()
    check: Check = Check()
    base: Annotated[str, AfterValidator(_base), WithJsonSchema({"enum": list(TARGETS)})] = Field(
        default=DEBIAN_13.name, description="The Debian release below."
    )


def schema() -> dict[str, Any]:
    """JSON Schema of `bake.yaml`, for editors."""
    return Recipe.model_json_schema()


def read(folder: Path) -> Recipe:
    """The recipe of the app in `folder`; no bake.yaml is an empty one.

    Raises AppFolderError without a folder, and RecipeError with a line a fault in `details`.
    """
    if not folder.is_dir():
        problem = "is not a folder" if folder.exists() else "does not exist"
        raise AppFolderError(f"{folder} {problem}", "Give the folder that holds the app's source.")
    path = folder / FILE_NAME
    if not path.exists():
        if (other := path.with_suffix(".yml")).exists():
            raise RecipeError(f"{other} is not read", f"Rename it to {FILE_NAME}.")
        return Recipe()
    faults: list[str] = []
    value = _load(path, faults)
    recipe = Recipe()
    if not isinstance(value, dict | None):
        faults.append("the file should hold lines of the form key: value")
    elif value:
        try:
            recipe = Recipe.model_validate(value, context={"folder": folder})
        except ValidationError as error:
            faults += dict.fromkeys(_sentence(fault) for fault in error.errors())
    if faults:
        count = "a fault" if len(faults) == 1 else f"{len(faults)} faults"
        raise RecipeError(f"{path} has {count}", "bake.example.yaml shows every key.", "\n".join(faults))
    return recipe


def _load(path: Path, faults: list[str]) -> object:
    """The file's value, all scalars as text. A key given twice goes to `faults`."""
    try:
        root = yaml.compose(path.read_text(encoding="utf-8-sig"), Loader=yaml.SafeLoader)
    except OSError as error:
        raise RecipeError(f"{path} cannot be read: {error.strerror}") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else str(path)
        detail = mark.get_snippet(indent=0) or "" if mark else ""
        raise RecipeError(f"{where}: {error.problem or error.context}", "Mend the YAML there.", detail) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = getattr(error, "reason", None) or error
        raise RecipeError(f"{path} is not YAML text: {reason}", "Save it as UTF-8.") from None
    return None if root is None else _plain(root, (), (), faults)


def _plain(node: yaml.Node, path: tuple[str | int, ...], above: tuple[yaml.Node, ...], faults: list[str]) -> object:
    if any(node is other for other in above):
        faults.append(f"{_dotted(path)}: refers to itself")
        return None
    above = (*above, node)
    if isinstance(node, yaml.SequenceNode):
        return [_plain(item, (*path, number), above, faults) for number, item in enumerate(node.value)]
    if isinstance(node, yaml.MappingNode):
        mapping: dict[str, object] = {}
        for key, value in node.value:
            name = str(key.value)
            if name in mapping:
                faults.append(f"{_dotted((*path, name))}: is given twice (line {key.start_mark.line + 1})")
            mapping[name] = _plain(value, (*path, name), above, faults)
        # A key with nothing under it is a key left out.
        return {key: value for key, value in mapping.items() if value is not None or path}
    assert isinstance(node, yaml.ScalarNode)
    return None if node.style is None and node.value in ("", "~", "null") else str(node.value)


def _dotted(path: tuple[str | int, ...]) -> str:
    """`domains[0]`, `limits.request`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")


_WANTED: dict[str, Callable[[object], str]] = {
    "string_type": lambda value: "has no value" if value is None else "should be text",
    "tuple_type": lambda value: f"should be a list, [{value}]" if isinstance(value, str) else "should be a list",
    "dict_type": lambda value: "should hold lines of the form key: value",
    "model_type": lambda value: "should hold lines of the form key: value",
    "int_type": lambda value: "should be a whole number",
    "int_parsing": lambda value: f"{value!r} is not a whole number",
}


def _sentence(error: ErrorDetails) -> str:
    """pydantic's report of one fault, in our words."""
    path, kind = error["loc"], error["type"]
    if path[-1] == "[key]":
        path = path[:-1]
    if kind == "extra_forbidden":
        return f"{_dotted(path)}: {_unknown(path)}"
    if kind == "value_error":
        said = str(error["ctx"]["error"])
    else:
        said = _WANTED[kind](error["input"]) if kind in _WANTED else error["msg"].lower()
    return f"{_dotted(path)}: {said}"


def _unknown(path: tuple[str | int, ...]) -> str:
    models: dict[str, type[BaseModel]] = {
        "app": App, "limits": Limits, "check": Check, "sandbox": Sandbox, "timers": Timer, "django": Django,
    }  # fmt: skip
    key, model = str(path[-1]), models.get(str(path[0]), Recipe)
    if _dotted(path) in LATER:
        return "is not supported yet"
    close = difflib.get_close_matches(key.lower(), model.model_fields, 1)
    return f"is not a key; did you mean {close[0]!r}?" if close else f"is not a key ({', '.join(model.model_fields)})"
