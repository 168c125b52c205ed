"""Parse `bake.yaml` into a frozen `Recipe`, and report all faults at once, each with its key.

YAML 1.1 converts `on`, `0755` and `12:30` to other values. So this module reads every
scalar as text, and the type of its key decides how to convert it.
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
    """An option of `certificate` with a secret: the secret's name, its file in /etc/app, and the Debian package."""

    key: str
    file: str
    package: str


#: The options of `certificate` that need a secret, which only root can read on the machine.
OPTIONS = {
    "keep": Option("CERTIFICATE_KEY", "certificate.key", "age"),
    "dns": Option("DNS_KEY", "dns.key", "python3-certbot-dns-rfc2136"),
}
_Names = TypeVar("_Names", dict[str, str], tuple[str, ...])


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Limits(_Part):
    """Limits of a request, and the number of workers. `body` is in bytes, `request` in seconds."""

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
    ] = Field(default="auto", description="Number of worker processes. auto: from the CPUs and the memory at boot.")
    threads: int = Field(default=4, ge=1, le=256, description="Number of threads in each worker.")


class Dns(_Part):
    """The name server that publishes the records of challenges. It must support dynamic updates (RFC 2136)."""

    server: Annotated[str, AfterValidator(field_types.ip)] = Field(description="The name server's IP address.")
    port: int = Field(default=53, ge=1, le=65535, description="The TCP port of the name server.")
    key: Annotated[
        str, field_types.matching(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9_])?", "a TSIG key's name")
    ] = Field(description="The name of the TSIG key on it. The launch setting DNS_KEY has the key itself.")
    algorithm: Annotated[
        str, AfterValidator(field_types.algorithm), WithJsonSchema({"enum": list(field_types.ALGORITHMS)})
    ] = Field(default="HMAC-SHA256", description="The TSIG key's algorithm.")
    wait: Annotated[
        int,
        field_types.unit(field_types.SECONDS, 600, "60s"),
        WithJsonSchema({"type": ["string", "integer"], "pattern": r"^\d+[sm]?$"}),
    ] = Field(default=60, description="Time until the zone's other name servers also have a new record: 60s, 5m.")


class Certificate(_Part):
    """The source of certificates."""

    authority: Annotated[str, AfterValidator(field_types.authority)] | None = Field(
        default=None,
        description="staging: Let's Encrypt's staging environment, for tests; browsers reject its certificates. Or the "
        "https URL of another authority's ACME directory.",
    )
    keep: Annotated[str, AfterValidator(field_types.keep)] | None = Field(
        default=None,
        description="Where encrypted certificates outlive the machine: an absolute folder, LABEL=name of an "
        "attached volume, or s3://bucket/prefix.",
    )
    dns: Dns | None = Field(
        default=None,
        description="Prove control of the names by DNS records instead of HTTP: for wildcards, and for machines that "
        "are not reachable from the internet.",
    )

    @property
    def asked(self) -> tuple[str, ...]:
        """The names in OPTIONS that are set."""
        return tuple(name for name in OPTIONS if getattr(self, name))


def _domain(text: str, info: ValidationInfo) -> str:
    """Return a domain name or, with `certificate.dns`, a wildcard. Raises ValueError."""
    # If `certificate` itself has faults, do not report this one as well.
    certificate = info.data.get("certificate")
    if text.strip().startswith("*.") and (certificate is None or certificate.dns):
        return f"*.{field_types.domain(text.strip()[2:])}"
    return field_types.domain(text)


def _for_the_app(names: _Names, info: ValidationInfo) -> _Names:
    """Return the names of variables for the app. Raises ValueError for secrets that only root may read."""
    certificate = info.data.get("certificate")
    for name in certificate.asked if certificate else ():
        if (key := OPTIONS[name].key) in names:
            raise ValueError(f"{key} is the key for certificate.{name}, which the app must not have; remove it here")
    return names


def _secret(names: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
    """Return the names of secrets. Raises ValueError if `env` has one of them."""
    if both := [name for name in names if name in info.data.get("env", ())]:
        raise ValueError(f"{', '.join(both)} is also in `env`, whose values are not secret; remove it there")
    return names


class App(_Part):
    """An app from elsewhere: a package, a commit of a repository, or an archive."""

    package: Annotated[str, AfterValidator(field_types.pinned)] | None = Field(
        default=None, description="A pinned package on the package index: httpbin==0.10.4. It needs `wsgi`."
    )
    git: Annotated[str, field_types.url("https")] | None = Field(
        default=None, description="The https URL of a public repository. It needs `commit`."
    )
    commit: Annotated[str, field_types.matching("[0-9a-f]{40}", "a commit of 40 hexadecimal digits")] | None = Field(
        default=None, description="The full hash of the commit: 40 hexadecimal digits."
    )
    archive: Annotated[str, field_types.url("https")] | None = Field(
        default=None, description="The https URL of a tar or zip archive. It needs `sha256`."
    )
    sha256: Annotated[str, field_types.matching("[0-9a-f]{64}", "a SHA-256 of 64 hexadecimal digits")] | None = Field(
        default=None, description="The SHA-256 of the archive: 64 hexadecimal digits."
    )

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        given = {name for name in type(self).model_fields if getattr(self, name) is not None}
        if given not in ({"package"}, {"git", "commit"}, {"archive", "sha256"}):
            raise ValueError("should be {package: …}, {git: …, commit: …} or {archive: …, sha256: …}")
        return self


class BaseImage(_Part):
    """A stock cloud image to use as the base."""

    image: Annotated[str, AfterValidator(field_types.image)] = Field(
        description="An https URL, or a path relative to the current folder."
    )
    sha512: Annotated[str, field_types.matching("[0-9a-f]{128}", "a SHA-512 of 128 hexadecimal digits")] = Field(
        description="The SHA-512 of the image, from a source that you trust. bake verifies it."
    )

    @property
    def is_remote(self) -> bool:
        """Whether bake must fetch it."""
        return "://" in self.image


class Timer(_Part):
    """A job of the app: its command and its schedule."""

    run: field_types.Command = Field(description="A command. It runs as the app's user in the app's folder.")
    when: Annotated[str, AfterValidator(field_types.calendar)] = Field(
        description="The schedule in the format of systemd.time(7): hourly, daily, Mon 06:30, *:0/15."
    )


class Aws(_Part):
    """Settings of an app whose machines run on EC2."""

    role: bool = Field(
        default=False,
        description="on: the app can get the credentials of the instance's role from the metadata service.",
    )


class Sandbox(_Part):
    """Exceptions from the app's sandbox."""

    allow: tuple[Literal["jit"], ...] = Field(
        default=(), description="jit: writable and executable memory, for just-in-time compilers."
    )


class Django(_Part):
    """A Django project, whose settings bake adapts to the machine."""

    settings: Annotated[str, field_types.matching(r"[^\W\d]\w*(\.[^\W\d]\w*)*", "the name of a module")] = Field(
        description="The project's settings module (default: detected in wsgi.py or manage.py)."
    )
    static_url: field_types.Prefix | None = Field(
        default=None, description="URL prefix of the collected static files (default: the project's STATIC_URL)."
    )
    media: Annotated[bool, WithJsonSchema({"enum": ["on", "off", True, False]})] = Field(
        default=False, description="on: the app serves MEDIA_ROOT at MEDIA_URL to everyone."
    )


class Writable(_Part):
    """The paths in its own folder that the app writes."""

    paths: tuple[Annotated[str, AfterValidator(field_types.inside)], ...] = Field(
        default=(), description="Folders and files to keep in /var/lib/app."
    )
    observe: Annotated[bool, WithJsonSchema({"enum": ["on", "off", True, False]})] = Field(
        default=True, description="off: the bake does not observe which paths the app writes."
    )


class Page(_Part):
    """A page that the proof requests, and the expected status. None: any 2xx or 3xx."""

    path: field_types.UrlPath = Field(description="A path, with a query if necessary: /api/items?page=2.")
    status: int | None = Field(
        default=None, ge=200, le=599, description="The expected status (default: any 2xx or 3xx)."
    )


def _page(value: object) -> object:
    """Convert a path to a page."""
    return {"path": value} if isinstance(value, str) else value


def _pages(pages: tuple[Page, ...]) -> tuple[Page, ...]:
    """Raise ValueError if two pages have the same path."""
    paths = [page.path for page in pages]
    for path in paths:
        if paths.count(path) > 1:
            raise ValueError(f"{path!r} is listed twice")
    return pages


_PAGE_SCHEMA = {"anyOf": [{"type": "string", "pattern": "^/"}, Page.model_json_schema()]}


class Check(_Part):
    """The checks of a bake that the app is healthy."""

    env: field_types.Env = Field(
        default={},
        description="Environment for the bake and its proof only. A secret that is not here gets a random value.",
    )

    health: field_types.UrlPath | None = Field(
        default=None, description="A path that must respond with 2xx or 3xx (default: / must respond below 500)."
    )
    pages: Annotated[
        tuple[Annotated[Page, BeforeValidator(_page), WithJsonSchema(_PAGE_SCHEMA)], ...], AfterValidator(_pages)
    ] = Field(
        default=(),
        description="Pages that must respond with 2xx or 3xx. For another status, write {path: /api, status: 401}.",
    )
    crawl: Annotated[bool, WithJsonSchema({"enum": ["on", "off", True, False]})] = Field(
        default=True,
        description="on: the proof follows the site's links. off: it requests only /, `health` and `pages`.",
    )
    author: field_types.Command | None = Field(
        default=None,
        description="The command that runs the app on your computer, such as `python app.py`. The proof compares the "
        "machine with it (default: detected). off: no comparison.",
    )
    network: Annotated[bool, WithJsonSchema({"enum": ["on", "off", True, False]})] = Field(
        default=False,
        description="on: the app can use the network during the bake and its proof. off: it reaches only its machine.",
    )


class Recipe(_Part):
    """The description of an app. None: not set, so that `detect` finds the value."""

    app: App | None = Field(
        default=None,
        description="An app from elsewhere (default: this folder): {package: name==version}, {git: https://…, "
        "commit: …} or {archive: https://…, sha256: …}.",
    )

    name: (
        Annotated[str, field_types.matching(field_types.LABEL, "a name of at most 63 characters from a-z, 0-9 and -")]
        | None
    ) = Field(default=None, description="The name of the image (default: the folder's name).")
    wsgi: Annotated[str, AfterValidator(field_types.wsgi)] | None = Field(
        default=None,
        description="The app: module:callable, module:factory(), or a PasteDeploy .ini file (default: detected).",
    )
    requirements: Annotated[
        str | tuple[str, ...] | None,
        PlainValidator(field_types.requirements),
        PlainSerializer(lambda value: value),
        WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}),
    ] = Field(default=None, description="The app's requirements: a file or a list (default: detected).")
    index: Annotated[str, field_types.url("https")] | None = Field(
        default=None, description="The URL of another package index, for the build only."
    )
    mirror: Annotated[str, field_types.url("http", "https")] | None = Field(
        default=None, description="The URL of a mirror of the Debian archive, for the build only."
    )
    certificate: Certificate = Certificate()
    domains: Annotated[tuple[Annotated[str, AfterValidator(_domain)], ...], AfterValidator(field_types.domains)] = (
        Field(default=(), description="Host names of the app (default: the machine accepts any name).")
    )
    email: Annotated[str, AfterValidator(field_types.email)] | None = Field(
        default=None, description="Email address for messages from the certificate authority."
    )
    static: dict[field_types.Prefix, field_types.Inside] | None = Field(
        default=None, description="Static files that nginx serves: URL prefix to folder."
    )
    env: Annotated[field_types.Env, AfterValidator(_for_the_app)] = Field(
        default={}, description="Environment variables. They are part of the image, so never put secrets here."
    )
    secrets: Annotated[
        tuple[Annotated[field_types.EnvName, BeforeValidator(field_types.secret)], ...],
        BeforeValidator(field_types.secrets),
        AfterValidator(_for_the_app),
        AfterValidator(_secret),
    ] = Field(
        default=(),
        description="Names of secrets. Their values are in /etc/app/secrets.env on the machine, never in an image.",
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
        description="Folders and files that the app writes, in addition to those that bake observes. The machine keeps "
        "them in /var/lib/app.",
    )
    preload: Annotated[bool, WithJsonSchema({"enum": ["on", "off", True, False]})] | None = Field(
        default=None,
        description="on: uWSGI loads the app once and forks the workers. off: each worker loads it. Default: on if the "
        "app generates a random secret key, which its workers must share.",
    )
    release: Annotated[tuple[field_types.Command, ...] | None, BeforeValidator(field_types.release)] = Field(
        default=None,
        description="Commands, such as migrations, that run once for each release and data folder, before the release "
        "serves (default: the migrations of Django or Flask-Migrate, if the app uses them).",
    )
    setup: tuple[field_types.Command, ...] = Field(
        default=(), description="Commands that run before the app starts, at each boot and for each new release."
    )
    timers: dict[Annotated[str, AfterValidator(field_types.timer_name)], Timer] = Field(
        default={}, description="The app's scheduled jobs, by name."
    )
    sandbox: Sandbox = Sandbox()
    django: Django | Literal["off"] | None = Field(
        default=None,
        description="Settings of a Django project (default: detected). off: use the project's settings unchanged.",
    )
    packages: tuple[
        Annotated[str, field_types.matching(r"[a-z0-9][a-z0-9+.-]+", "the name of a Debian package")], ...
    ] = Field(default=(), description="Debian packages that the app needs.")
    aws: Aws | None = Field(
        default=None,
        description="The app's machines run on EC2: they fetch secrets by reference, and can keep data on a volume.",
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
        description="The machine's Debian release, or {image: …, sha512: …}. Default: the newest release whose Python "
        "suits the app and for which all requirements have wheels or pure-Python sources.",
    )

    @property
    def package(self) -> str | None:
        """The pinned package, if the app is one."""
        return self.app.package if self.app else None

    @property
    def debian(self) -> tuple[str, ...]:
        """The Debian packages of the machine, in addition to those of every machine."""
        return tuple(dict.fromkeys((*self.packages, *(OPTIONS[name].package for name in self.certificate.asked))))

    @property
    def target(self) -> Target:
        """The release in `base`, or else the newest. For an image, bake must read the image to know its release."""
        return TARGETS[self.base] if isinstance(self.base, str) else DEBIAN_13


def schema() -> dict[str, Any]:
    """Return the JSON Schema of `bake.yaml`, for editors."""
    return Recipe.model_json_schema()


def read(folder: Path) -> Recipe:
    """Return the recipe of the app in `folder`, or an empty one without a bake.yaml.

    Raises AppFolderError if there is no folder, and RecipeError with one line for each fault in `details`.
    """
    if not folder.is_dir():
        problem = "is not a folder" if folder.exists() else "does not exist"
        raise AppFolderError(f"{folder} {problem}", "Give the path of the folder with the app's source.")
    path = folder / FILE_NAME
    if not path.exists():
        if (other := path.with_suffix(".yml")).exists():
            raise RecipeError(f"bake does not read {other}", f"Rename it to {FILE_NAME}.")
        return Recipe()
    faults: list[str] = []
    value = _load(path, faults)
    recipe = Recipe()
    if not isinstance(value, dict | None):
        faults.append("the file should contain lines of the form key: value")
    elif value:
        recipe = validate(value, faults, folder)
    if faults:
        raise RecipeError.of_faults(str(path), faults, "bake.example.yaml shows every key.")
    return recipe


def validate(value: dict[str, Any], faults: list[str], folder: Path | None = None) -> Recipe:
    """Return the recipe with these values: texts, lists and mappings. Add a line for each fault to `faults`."""
    try:
        return Recipe.model_validate(value, context={"folder": folder})
    except ValidationError as error:
        faults += dict.fromkeys(_sentence(fault) for fault in error.errors())
        return Recipe()


def _load(path: Path, faults: list[str]) -> object:
    """Return the file's value with all scalars as text. Add duplicate keys to `faults`."""
    try:
        root = yaml.compose(path.read_text(encoding="utf-8-sig"), Loader=yaml.SafeLoader)
    except OSError as error:
        raise RecipeError(f"{path} cannot be read: {error.strerror}", "Change its mode.") from None
    except yaml.MarkedYAMLError as error:
        mark, problem = _place(error)
        where = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else str(path)
        detail = mark.get_snippet(indent=0) or "" if mark else ""
        raise RecipeError(f"{where}: {problem}", "Correct the YAML at that place.", detail) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = getattr(error, "reason", None) or error
        raise RecipeError(f"{path} is not YAML text: {reason}", "Save it as UTF-8.") from None
    return None if root is None else _plain(root, (), (), faults)


#: What begins where the error's context is, and how it should end.
_OPENED = {
    "while parsing a flow sequence": "the list that begins here has no ]",
    "while parsing a flow mapping": "the mapping that begins here has no }",
    "while scanning a quoted scalar": "the text that begins here has no closing quote",
}


def _place(error: yaml.MarkedYAMLError) -> tuple[yaml.Mark | None, str]:
    """Return the place of a fault in the YAML, and the problem. An opening bracket counts, not the line after it."""
    begin, end, opened = error.context_mark, error.problem_mark, _OPENED.get(error.context or "")
    if opened and begin and end and begin.line < end.line:
        at_end = "end of stream" in (error.problem or "") or "<stream end>" in (error.problem or "")
        return begin, opened if at_end else f"{opened}, or no comma before line {end.line + 1}"
    return end or begin, error.problem or error.context or "not YAML"


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
                faults.append(f"{_dotted((*path, name))}: occurs twice (again on line {key.start_mark.line + 1})")
            mapping[name] = _plain(value, (*path, name), above, faults)
        # A top-level key without a value counts as not set.
        return {key: value for key, value in mapping.items() if value is not None or path}
    assert isinstance(node, yaml.ScalarNode)
    return None if node.style is None and node.value in ("", "~", "null") else str(node.value)


def _dotted(path: tuple[str | int, ...]) -> str:
    """Return a path as text, such as `domains[0]` or `limits.request`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")


_WANTED: dict[str, Callable[[object], str]] = {
    "string_type": lambda value: "has no value" if value is None else "should be text",
    "tuple_type": lambda value: f"should be a list, [{value}]" if isinstance(value, str) else "should be a list",
    "dict_type": lambda value: "should contain lines of the form key: value",
    "model_type": lambda value: "should contain lines of the form key: value",
    "int_type": lambda value: "should be a whole number",
    "bool_parsing": lambda value: f"{value!r} is neither on nor off",
    "int_parsing": lambda value: f"{value!r} is not a whole number",
}


def _sentence(error: ErrorDetails) -> str:
    """Return one fault that pydantic reports as a sentence for people."""
    path, kind = error["loc"], error["type"]
    if path[-1] == "[key]":
        path = path[:-1]
    if path[:2] == ("writable", "paths"):
        path = ("writable", *path[2:])
    if path[0] == "base":
        # pydantic adds the tag of the union's member.
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
