"""`bake.yaml` to a frozen `Recipe`: every fault at once, each with its path.

YAML 1.1 turns `on`, `0755` and `12:30` into other values. So every scalar is
read as the text that stands there, and the key it stands under says what it is.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self, TypeVar

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    PlainSerializer,
    PlainValidator,
    Tag,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import ErrorDetails

from bake.config import field_types
from bake.config.debian import DEBIAN_13, TARGETS, Target
from bake.errors import AppFolderError, RecipeError

FILE_NAME = "bake.yaml"


class Option(NamedTuple):
    """An option of `certificate`: the name under which its key's value is given, its file in /etc/app, its package."""

    key: str
    file: str
    package: str


#: What `certificate` wants a key for, which root alone has on the machine.
OPTIONS = {
    "keep": Option("CERTIFICATE_KEY", "certificate.key", "age"),
    "dns": Option("DNS_KEY", "dns.key", "python3-certbot-dns-rfc2136"),
}
_Names = TypeVar("_Names", dict[str, str], tuple[str, ...])


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Limits(_Part):
    """What one request may take. `body` in bytes, `request` in seconds."""

    body: Annotated[
        int,
        field_types.unit(field_types.SIZES, 1 << 40, "10M"),
        WithJsonSchema({"type": ["string", "integer"], "pattern": r"^\d+[KMG]?$"}),
    ] = Field(default=field_types.SIZES["M"] * 10, description="Largest request body: 512K, 10M, 1G.")
    request: Annotated[
        int,
        field_types.unit(field_types.SECONDS, 86400, "60s"),
        WithJsonSchema({"type": ["string", "integer"], "pattern": r"^\d+[smh]?$"}),
    ] = Field(default=60, description="Longest time for one request: 60s, 5m.")
    workers: Annotated[
        Literal["auto"] | int,
        BeforeValidator(field_types.workers),
        WithJsonSchema({"anyOf": [{"const": "auto"}, {"type": "integer", "minimum": 1}]}),
    ] = Field(default="auto", description="Processes that serve; auto counts CPUs and memory at boot.")
    threads: int = Field(default=4, ge=1, le=256, description="Threads of each worker.")


class Dns(_Part):
    """Who takes a challenge's records: a name server that can be told so by dynamic updates (RFC 2136)."""

    server: Annotated[str, AfterValidator(field_types.ip)] = Field(description="The name server's IP address.")
    port: int = Field(default=53, ge=1, le=65535, description="Its port; TCP.")
    key: Annotated[
        str, field_types.matching(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9_])?", "a TSIG key's name")
    ] = Field(description="The TSIG key's name there. Its value is given at launch, as DNS_KEY.")
    algorithm: Annotated[
        str, AfterValidator(field_types.algorithm), WithJsonSchema({"enum": list(field_types.ALGORITHMS)})
    ] = Field(default="HMAC-SHA256", description="The TSIG key's algorithm.")
    wait: Annotated[
        int,
        field_types.unit(field_types.SECONDS, 600, "60s"),
        WithJsonSchema({"type": ["string", "integer"], "pattern": r"^\d+[sm]?$"}),
    ] = Field(default=60, description="Time until the zone's other name servers have a record, too: 60s, 5m.")


class Certificate(_Part):
    """Where certificates come from."""

    authority: Annotated[str, AfterValidator(field_types.authority)] | None = Field(
        default=None,
        description="staging: Let's Encrypt's own for trying things out, which nobody trusts. Or the https address of "
        "another authority's ACME directory.",
    )
    keep: Annotated[str, AfterValidator(field_types.keep)] | None = Field(
        default=None,
        description="Where certificates outlive the machine, encrypted: an absolute folder, LABEL=name of an "
        "attached volume, or s3://bucket/prefix.",
    )
    dns: Dns | None = Field(
        default=None,
        description="Names are proved by records in their zone, not by where they lead: for wildcards, and machines "
        "that nobody can reach.",
    )

    @property
    def asked(self) -> tuple[str, ...]:
        """Which of OPTIONS."""
        return tuple(name for name in OPTIONS if getattr(self, name))


def _domain(text: str, info: ValidationInfo) -> str:
    """A name; with `certificate.dns`, a wildcard is one too."""
    # Where `certificate` has faults itself, those are enough.
    certificate = info.data.get("certificate")
    if text.strip().startswith("*.") and (certificate is None or certificate.dns):
        return f"*.{field_types.domain(text.strip()[2:])}"
    return field_types.domain(text)


def _for_the_app(names: _Names, info: ValidationInfo) -> _Names:
    """Names that the app gets values for: those of keys that root alone has are not among them."""
    certificate = info.data.get("certificate")
    for name in certificate.asked if certificate else ():
        if (key := OPTIONS[name].key) in names:
            raise ValueError(f"{key} is the key for certificate.{name}, which the app never gets; take it out here")
    return names


class App(_Part):
    """An app that is not in this folder: a package, a repository's commit, or an archive."""

    package: Annotated[str, AfterValidator(field_types.pinned)] | None = Field(
        default=None, description="A package of the index, pinned: httpbin==0.10.4. `wsgi` says what it serves."
    )
    git: Annotated[str, field_types.url("https")] | None = Field(
        default=None, description="A repository that anybody can fetch; `commit` pins what of it."
    )
    commit: Annotated[str, field_types.matching("[0-9a-f]{40}", "a commit of 40 hexadecimal digits")] | None = Field(
        default=None, description="The commit of `git`, in full: 40 hexadecimal digits."
    )
    archive: Annotated[str, field_types.url("https")] | None = Field(
        default=None, description="A tar or zip; `sha256` pins it."
    )
    sha256: Annotated[str, field_types.matching("[0-9a-f]{64}", "a SHA-256 of 64 hexadecimal digits")] | None = Field(
        default=None, description="The SHA-256 of `archive`: 64 hexadecimal digits."
    )

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        given = {name for name in type(self).model_fields if getattr(self, name) is not None}
        if given not in ({"package"}, {"git", "commit"}, {"archive", "sha256"}):
            raise ValueError("should be {package: …}, {git: …, commit: …} or {archive: …, sha256: …}")
        return self


class BaseImage(_Part):
    """A stock cloud image to bake on."""

    image: Annotated[str, AfterValidator(field_types.image)] = Field(
        description="https address, or a path seen from here."
    )
    sha512: Annotated[str, field_types.matching("[0-9a-f]{128}", "a SHA-512 of 128 hexadecimal digits")] = Field(
        description="Of exactly this image, from a place you trust: it is verified before use."
    )

    @property
    def is_remote(self) -> bool:
        """Whether it has to be fetched."""
        return "://" in self.image


class Timer(_Part):
    """A job of the app's own: what runs, and when."""

    run: field_types.Command = Field(description="A command; it runs as the app does, in the app's folder.")
    when: Annotated[str, field_types.matching(r"[A-Za-z0-9*:,./~ -]{1,80}", "a time as systemd.time(7) has it")] = (
        Field(description="When, as systemd.time(7) has it: hourly, daily, Mon 06:30, *:0/15.")
    )


class Aws(_Part):
    """That the app's machines run on EC2, and what they may there."""

    role: bool = Field(
        default=False, description="The app uses the machine's role: it may ask the metadata service for credentials."
    )


class Sandbox(_Part):
    """What the app may do besides."""

    allow: tuple[Literal["jit"], ...] = Field(default=(), description="jit: memory that is written and then run.")


class Django(_Part):
    """Whose settings those of the machine are put around."""

    settings: Annotated[str, field_types.matching(r"[^\W\d]\w*(\.[^\W\d]\w*)*", "a module's name")] = Field(
        description="The project's settings module; found in wsgi.py or manage.py if left out."
    )
    static_url: field_types.Prefix | None = Field(
        default=None, description="Where the collected static files are served; the project's STATIC_URL if left out."
    )
    media: Annotated[bool, WithJsonSchema({"enum": ["on", "off", True, False]})] = Field(
        default=False, description="on: the app serves MEDIA_ROOT at MEDIA_URL, to anybody."
    )


class Writable(_Part):
    """What of its own folder the app writes."""

    paths: tuple[Annotated[str, AfterValidator(field_types.inside)], ...] = Field(
        default=(), description="Folders and files that are kept in /var/lib/app."
    )
    observe: Annotated[bool, WithJsonSchema({"enum": ["on", "off", True, False]})] = Field(
        default=True, description="off: a bake does not look what the app writes."
    )


class Page(_Part):
    """A page that the proof asks for, and the status that it must answer. None: any 2xx or 3xx."""

    path: field_types.UrlPath = Field(description="A path, with its query if it needs one: /api/items?page=2.")
    status: int | None = Field(
        default=None, ge=200, le=599, description="The only status that is right. Left out: any 2xx or 3xx."
    )


def _page(value: object) -> object:
    """Make a page of its path alone."""
    return {"path": value} if isinstance(value, str) else value


def _pages(pages: tuple[Page, ...]) -> tuple[Page, ...]:
    """Raise ValueError where two pages have one path."""
    paths = [page.path for page in pages]
    for path in paths:
        if paths.count(path) > 1:
            raise ValueError(f"{path!r} is listed twice")
    return pages


_PAGE_SCHEMA = {"anyOf": [{"type": "string", "pattern": "^/"}, Page.model_json_schema()]}


class Check(_Part):
    """How a bake finds out that the app is well."""

    env: field_types.Env = Field(
        default={},
        description="Environment of the bake and its proof alone; a secret not named here gets a random one.",
    )

    health: field_types.UrlPath | None = Field(
        default=None, description="Must answer 2xx or 3xx. Left out: / must answer below 500."
    )
    pages: Annotated[
        tuple[Annotated[Page, BeforeValidator(_page), WithJsonSchema(_PAGE_SCHEMA)], ...], AfterValidator(_pages)
    ] = Field(
        default=(),
        description="Pages that must answer: a path, or {path: /api/items, status: 401} for another status than 2xx "
        "or 3xx.",
    )
    crawl: Annotated[bool, WithJsonSchema({"enum": ["on", "off", True, False]})] = Field(
        default=True,
        description="on: the proof follows the site's links. off: it asks for the front page, `health` and `pages`.",
    )
    author: field_types.Command | None = Field(
        default=None,
        description="How you run the app yourself, as `python app.py`: the proof compares the machine with it. "
        "Found if left out; off: nothing is compared.",
    )
    network: Annotated[bool, WithJsonSchema({"enum": ["on", "off", True, False]})] = Field(
        default=False,
        description="on: the app may use the network during the bake and its proof. Off, it reaches its machine alone.",
    )


class Recipe(_Part):
    """What the app is. None: left out, and to be found by `detect`."""

    app: App | None = Field(
        default=None,
        description="Left out: this folder. Or {package: name==version}, {git: https://…, commit: …}, "
        "{archive: https://…, sha256: …}.",
    )

    name: (
        Annotated[str, field_types.matching(field_types.LABEL, "a name of a-z, 0-9 and -, at most 63 long")] | None
    ) = Field(default=None, description="Names the image; the folder's name if left out.")
    wsgi: Annotated[str, AfterValidator(field_types.wsgi)] | None = Field(
        default=None,
        description="module:callable, module:factory(), or an .ini file for PasteDeploy; found if left out.",
    )
    requirements: Annotated[
        str | tuple[str, ...] | None,
        PlainValidator(field_types.requirements),
        PlainSerializer(lambda value: value),
        WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}),
    ] = Field(default=None, description="The file that lists them, or the list itself; found if left out.")
    index: Annotated[str, field_types.url("https")] | None = Field(
        default=None, description="Another package index, for the build only."
    )
    mirror: Annotated[str, field_types.url("http", "https")] | None = Field(
        default=None, description="A mirror of the Debian archive, for the build only."
    )
    certificate: Certificate = Certificate()
    domains: Annotated[tuple[Annotated[str, AfterValidator(_domain)], ...], AfterValidator(field_types.domains)] = (
        Field(default=(), description="Names the app answers to; none: any.")
    )
    email: Annotated[str, AfterValidator(field_types.email)] | None = Field(
        default=None, description="Where the certificate authority may write to."
    )
    static: dict[field_types.Prefix, field_types.Inside] | None = Field(
        default=None, description="URL prefix: folder that nginx serves there."
    )
    env: Annotated[field_types.Env, AfterValidator(_for_the_app)] = Field(
        default={}, description="Plain environment. Never secrets: it is part of the image."
    )
    secrets: Annotated[tuple[field_types.EnvName, ...], AfterValidator(_for_the_app)] = Field(
        default=(), description="Names of secrets: NAME=value lines of /etc/app/secrets.env. Never in an image."
    )
    writable: Annotated[
        Writable,
        BeforeValidator(lambda value: value if isinstance(value, dict) else {"paths": value}),
        PlainSerializer(lambda value: value.paths),
        WithJsonSchema(
            {
                "anyOf": [
                    {"type": "array", "items": {"type": "string"}},
                    {
                        "type": "object",
                        "properties": {
                            "paths": {"type": "array", "items": {"type": "string"}},
                            "observe": {"enum": ["on", "off", True, False]},
                        },
                        "additionalProperties": False,
                    },
                ]
            }
        ),
    ] = Field(
        default=Writable(),
        description="Folders and files that the app writes, besides those that a bake sees it write; they are kept in "
        "/var/lib/app.",
    )
    preload: Annotated[bool, WithJsonSchema({"enum": ["on", "off", True, False]})] | None = Field(
        default=None,
        description="on: the app is loaded once and copied into the workers; off: each worker loads it. Left out: on "
        "where the app makes a secret key at random, which its workers have to share.",
    )
    release: tuple[field_types.Command, ...] | None = Field(
        default=None,
        description="Commands that run once for each release and data folder, before the release serves: migrations. "
        "Left out: those of Django and Flask-Migrate, where the app has them.",
    )
    setup: tuple[field_types.Command, ...] = Field(
        default=(), description="Commands that run before the app starts, on each boot and each new release."
    )
    timers: dict[Annotated[str, AfterValidator(field_types.timer_name)], Timer] = Field(
        default={}, description="The app's own jobs, by name."
    )
    sandbox: Sandbox = Sandbox()
    django: Django | Literal["off"] | None = Field(
        default=None, description="off: a Django project's settings are used as they are."
    )
    packages: tuple[Annotated[str, field_types.matching(r"[a-z0-9][a-z0-9+.-]+", "a Debian package's name")], ...] = (
        Field(default=(), description="Debian packages the app needs.")
    )
    aws: Aws | None = Field(
        default=None,
        description="The app's machines run on EC2: secrets come by reference, and data from a volume of its own.",
    )
    limits: Limits = Limits()
    check: Check = Check()
    base: (
        Annotated[
            Annotated[str, AfterValidator(field_types.base), WithJsonSchema({"enum": list(TARGETS)}), Tag("release")]
            | Annotated[BaseImage, Tag("image")],
            Discriminator(lambda value: "release" if isinstance(value, str) else "image"),
        ]
        | None
    ) = Field(
        default=None,
        description="The Debian release of the machine, or {image: …, sha512: …}. Left out: the newest release whose "
        "Python suits the app and has wheels or pure-Python sources for all its requirements.",
    )

    @property
    def package(self) -> str | None:
        """The pinned package that the app is, if it is one."""
        return self.app.package if self.app else None

    @property
    def debian(self) -> tuple[str, ...]:
        """The Debian packages of its machine besides those of every machine."""
        return tuple(dict.fromkeys((*self.packages, *(OPTIONS[name].package for name in self.certificate.asked))))

    @property
    def target(self) -> Target:
        """The release that is named, else the newest. That of an image is known only when the image is read."""
        return TARGETS[self.base] if isinstance(self.base, str) else DEBIAN_13


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
        recipe = validate(value, faults, folder)
    if faults:
        count = "a fault" if len(faults) == 1 else f"{len(faults)} faults"
        raise RecipeError(f"{path} has {count}", "bake.example.yaml shows every key.", "\n".join(faults))
    return recipe


def validate(value: dict[str, Any], faults: list[str], folder: Path | None = None) -> Recipe:
    """A recipe of these values, each a text or made of texts; `faults` gets a line for each that is wrong."""
    try:
        return Recipe.model_validate(value, context={"folder": folder})
    except ValidationError as error:
        faults += dict.fromkeys(_sentence(fault) for fault in error.errors())
        return Recipe()


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
    "bool_parsing": lambda value: f"{value!r} is neither on nor off",
    "int_parsing": lambda value: f"{value!r} is not a whole number",
}


def _sentence(error: ErrorDetails) -> str:
    """pydantic's report of one fault, in our words."""
    path, kind = error["loc"], error["type"]
    if path[-1] == "[key]":
        path = path[:-1]
    if path[:2] == ("writable", "paths"):
        path = ("writable", *path[2:])
    if path[0] == "base":
        # pydantic names which of the two it took it for.
        path = path[:1] + path[2:]
    if kind == "extra_forbidden":
        return f"{_dotted(path)}: {_unknown(path)}"
    if kind == "value_error":
        said = str(error["ctx"]["error"])
    else:
        said = _WANTED[kind](error["input"]) if kind in _WANTED else error["msg"].lower()
    return f"{_dotted(path)}: {said}"


def _unknown(path: tuple[str | int, ...]) -> str:
    models: dict[str, type[BaseModel]] = {
        "app": App, "limits": Limits, "check": Check, "check.pages": Page, "sandbox": Sandbox, "timers": Timer,
        "django": Django, "base": BaseImage, "writable": Writable, "certificate": Certificate, "certificate.dns": Dns,
        "aws": Aws,
    }  # fmt: skip
    parent = _dotted(tuple(part for part in path[:-1] if isinstance(part, str)))
    key, model = str(path[-1]), models.get(parent) or models.get(str(path[0]), Recipe)
    close = difflib.get_close_matches(key.lower(), model.model_fields, 1)
    return f"is not a key; did you mean {close[0]!r}?" if close else f"is not a key ({', '.join(model.model_fields)})"
