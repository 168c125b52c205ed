"""Define the sections of `bake.yaml`: the mappings that its keys hold, with their types, defaults and descriptions."""

from __future__ import annotations

from typing import Annotated, Literal, NamedTuple, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator

from bake.config import contract, field_types, proxies


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


class Section(BaseModel):
    """A mapping in bake.yaml: frozen, and without unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


_JobLimit = Annotated[
    int,
    field_types.unit(field_types.SECONDS, 86400, "15m"),
    WithJsonSchema({"type": ["string", "integer"], "pattern": r"^\d+[smh]?$"}),
]


class Limits(Section):
    """Limits of a request, and the number of workers. `body` is in bytes, `request` in seconds."""

    body: Annotated[
        int,
        field_types.unit(field_types.SIZES, 1 << 40, "10M"),
        WithJsonSchema({"type": ["string", "integer"], "pattern": r"^\d+[KMG]?$"}),
    ] = Field(default=contract.BODY, description="Largest request body: 512K, 10M, 1G.")
    request: Annotated[
        int,
        field_types.unit(field_types.SECONDS, 86400, "60s"),
        WithJsonSchema({"type": ["string", "integer"], "pattern": r"^\d+[smh]?$"}),
    ] = Field(default=contract.REQUEST, description="Longest time for one request: 60s, 5m.")
    workers: Annotated[
        Literal["auto"] | int,
        BeforeValidator(field_types.workers),
        WithJsonSchema({"anyOf": [{"const": "auto"}, {"type": "integer", "minimum": 1}]}),
    ] = Field(default="auto", description="Number of worker processes. auto: from the CPUs and the memory at boot.")
    threads: int = Field(default=contract.THREADS, ge=1, le=256, description="Number of threads in each worker (WSGI).")
    steps: _JobLimit | None = Field(
        default=None, description="Longest time for the commands of `release`, and for those of `setup` (default: 15m)."
    )


class Dns(Section):
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


class Certificate(Section):
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
    hsts: (
        Annotated[
            int,
            field_types.unit(field_types.DAYS, 2 * 365 * 86400, "1h"),
            BeforeValidator(lambda value: 0 if value == "off" else value),
            WithJsonSchema({"type": ["string", "integer", "boolean"], "pattern": r"^(off|\d+[smhd]?)$"}),
        ]
        | None
    ) = Field(
        default=None,
        description="How long browsers may insist on HTTPS after a visit: 1h, 30d. off: ends it. Default: an hour, and "
        "two years after the first renewal.",
    )
    dns: Dns | None = Field(
        default=None,
        description="Prove control of the names by DNS records instead of HTTP: for wildcards, and for machines that "
        "are not reachable from the internet.",
    )

    @property
    def options(self) -> tuple[str, ...]:
        """Return the names in OPTIONS that are set."""
        return tuple(name for name in OPTIONS if getattr(self, name))


class Proxy(Section):
    """A proxy or load balancer in front of the machine."""

    trust: Annotated[
        tuple[str, ...],
        BeforeValidator(proxies.networks),
        WithJsonSchema({"anyOf": [{"const": "cloudflare"}, {"type": "array", "items": {"type": "string"}}]}),
    ] = Field(
        description="The proxies' networks, such as [10.0.0.0/16], or cloudflare. nginx believes X-Forwarded-For and "
        "X-Forwarded-Proto from them alone, and answers their health checks under any host name."
    )

    @model_validator(mode="before")
    @classmethod
    def _mapping(cls, value: object) -> object:
        if isinstance(value, str | list | tuple):
            raise ValueError(f"needs the key `trust`: {proxies.EXAMPLE} or `proxy: {{trust: [10.0.0.0/16]}}`")
        return value

    @property
    def is_cloudflare(self) -> bool:
        """Return whether Cloudflare's proxies are the trusted ones."""
        return self.trust == proxies.CLOUDFLARE


class App(Section):
    """An app from elsewhere: a package, a commit of a repository, or an archive."""

    package: Annotated[str, AfterValidator(field_types.pin)] | None = Field(
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
        keys = {name for name in type(self).model_fields if getattr(self, name) is not None}
        if keys not in ({"package"}, {"git", "commit"}, {"archive", "sha256"}):
            raise ValueError("should be {package: …}, {git: …, commit: …} or {archive: …, sha256: …}")
        return self


class BaseImage(Section):
    """A stock cloud image to use as the base."""

    image: Annotated[str, AfterValidator(field_types.image)] = Field(
        description="An https URL, or a path relative to the current folder."
    )
    sha512: Annotated[str, field_types.matching("[0-9a-f]{128}", "a SHA-512 of 128 hexadecimal digits")] = Field(
        description="The SHA-512 of the image, from a source that you trust. bake verifies it."
    )

    @property
    def is_remote(self) -> bool:
        """Return whether bake must fetch it."""
        return "://" in self.image


class Timer(Section):
    """A job of the app: its command and its schedule."""

    run: field_types.Command = Field(description="A command. It runs as the app's user in the app's folder.")
    when: Annotated[str, AfterValidator(field_types.calendar)] = Field(
        description="The schedule in the format of systemd.time(7): hourly, daily, Mon 06:30, *:0/15."
    )
    limit: _JobLimit | None = Field(default=None, description="Longest time for the command (default: 15m).")


class Process(Section):
    """A program of the app that runs beside the site, such as the worker of a queue."""

    run: field_types.Command = Field(
        description="A command that does not end. It runs as the app's user in its folder."
    )
    count: int = Field(default=1, ge=1, le=64, description="Number of such processes.")
    memory: Annotated[
        int | None,
        field_types.unit(field_types.SIZES, 1 << 40, "512M"),
        WithJsonSchema({"type": ["string", "integer"], "pattern": r"^\d+[KMG]?$"}),
    ] = Field(default=None, description="Largest memory of one process: 512M (default: half of the machine's).")
    stop: Annotated[
        int | None,
        field_types.unit(field_types.SECONDS, 600, "60s"),
        WithJsonSchema({"type": ["string", "integer"], "pattern": r"^\d+[sm]?$"}),
    ] = Field(
        default=None,
        description="Longest time to complete its tasks after SIGTERM, before it is killed: 60s, 10m (default: 60s).",
    )


def process(value: object) -> object:
    """Convert a command to a process."""
    return {"run": value} if isinstance(value, str) else value


#: A process, or only its command.
PROCESS_SCHEMA = {"anyOf": [{"type": "string"}, Process.model_json_schema()]}


class Aws(Section):
    """Settings of an app whose machines run on EC2."""

    role: bool = Field(
        default=False,
        description="on: the app can get the credentials of the instance's role from the metadata service.",
    )


class Sandbox(Section):
    """Exceptions from the app's sandbox."""

    allow: tuple[Literal["jit", "proc", "browser", "nice"], ...] = Field(
        default=(),
        description="jit: writable and executable memory, for just-in-time compilers. proc: the machine's figures in "
        "/proc, as psutil reads them. nice: priorities and CPU affinity. browser: what Chromium's own sandbox needs, "
        "with jit and proc.",
    )


class Updates(Section):
    """The security updates of the machine's packages."""

    reboot: Annotated[str, field_types.matching(r"([01]\d|2[0-3]):[0-5]\d|off", "a time such as 03:30, or off")] = (
        Field(
            default="03:30",
            description="When the machine reboots if an update needs it, in the machine's time zone. Each machine adds "
            "up to 59 minutes of its own. off: it does not reboot.",
        )
    )


class Django(Section):
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


class Writable(Section):
    """The paths in its own folder that the app writes."""

    paths: tuple[Annotated[str, AfterValidator(field_types.inner_path)], ...] = Field(
        default=(), description=f"Folders and files to keep in {contract.DATA}."
    )
    observe: Annotated[bool, WithJsonSchema({"enum": ["on", "off", True, False]})] = Field(
        default=True, description="off: the bake does not observe which paths the app writes."
    )


class Page(Section):
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


class Check(Section):
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
