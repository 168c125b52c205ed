"""Define the `Recipe`: every key of `bake.yaml` with its type, default and description."""

from __future__ import annotations

from typing import Annotated, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Discriminator,
    Field,
    PlainSerializer,
    PlainValidator,
    Tag,
    ValidationInfo,
    WithJsonSchema,
)

from bake.config import contract, field_types
from bake.config.assets import Assets
from bake.config.debian import DEBIAN_13, TARGETS, Target
from bake.config.sections import (
    OPTIONS,
    PROCESS_SCHEMA,
    App,
    Aws,
    BaseImage,
    Certificate,
    Check,
    Django,
    Limits,
    Process,
    Proxy,
    Sandbox,
    Section,
    Timer,
    Updates,
    Writable,
    process,
)

DebianPackage = Annotated[str, field_types.matching(r"[a-z0-9][a-z0-9+.-]+", "the name of a Debian package")]
_Names = TypeVar("_Names", dict[str, str], tuple[str, ...])


def _domain(text: str, info: ValidationInfo) -> str:
    """Return a domain name or, with `certificate.dns`, a wildcard. Raises ValueError."""
    # If `certificate` itself has faults, do not report this one as well.
    certificate = info.data.get("certificate")
    if text.strip().startswith("*.") and (certificate is None or certificate.dns):
        return f"*.{field_types.domain(text.strip()[2:])}"
    return field_types.domain(text)


def _app_variables(names: _Names, info: ValidationInfo) -> _Names:
    """Return the names of variables for the app. Raises ValueError for secrets that only root may read."""
    certificate = info.data.get("certificate")
    for option in certificate.options if certificate else ():
        if (key := OPTIONS[option].key) in names:
            raise ValueError(f"{key} is the key for certificate.{option}, which the app must not have; remove it here")
    return names


def _names_of_one_key(names: _Names, info: ValidationInfo) -> _Names:
    """Return the names of secrets. Raises ValueError if a key that stands before theirs has one of them."""
    for key, remark in (("env", ", whose values are not secret; remove it there"), ("secrets", "; remove one of them")):
        if duplicates := [name for name in names if name in info.data.get(key, ())]:
            raise ValueError(f"{', '.join(duplicates)} is also in `{key}`{remark}")
    return names


def _of_a_folder(assets: Assets, info: ValidationInfo) -> Assets:
    """Return the value of `assets`. Raises ValueError if the app is a package, which has no source to build."""
    app = info.data.get("app")
    if app and app.package:
        raise ValueError(f"{app.package} is a package, which contains its front end; remove `assets`")
    return assets


def _redirect(target: str, info: ValidationInfo) -> str:
    """Return the value of `redirect`. Raises ValueError if `domains` has no name in both forms."""
    names = info.data.get("domains")
    if names is not None and not redirects(names, target):
        example = next((name for name in names if name[:1] != "*"), "shop.example").removeprefix("www.")
        raise ValueError(f"`domains` needs both {example} and www.{example}")
    return target


def _only_entry(text: str, info: ValidationInfo) -> str:
    """Return the value of `asgi` or `run`. Raises ValueError if the recipe has another key for the app too."""
    if others := [key for key in ("wsgi", "asgi") if info.data.get(key)]:
        raise ValueError(f"the recipe has `{others[0]}` too; remove one of the two")
    return text


def redirects(names: tuple[str, ...], target: str) -> dict[str, str]:
    """Return the redirects among names that occur with and without `www.`. `target` is www or apex."""
    pairs = {name: f"www.{name}" for name in names if f"www.{name}" in names}
    return pairs if target == "www" else {www: name for name, www in pairs.items()}


def _wsgi_server(server: str, info: ValidationInfo) -> str:
    """Return the value of `server`. Raises ValueError if the app is not a WSGI app."""
    if others := [key for key in ("asgi", "run") if info.data.get(key)]:
        raise ValueError(f"`server` serves WSGI apps, and the recipe has `{others[0]}`; remove one of the two")
    return server


def _own_port(port: int, info: ValidationInfo) -> int:
    """Return the value of `port`. Raises ValueError if the recipe has no `run`."""
    # The key is missing if its own value is wrong.
    if "run" in info.data and not info.data["run"]:
        raise ValueError("`port` is the port of the program in `run`, which the recipe does not have")
    return port


def _without_image(version: str, info: ValidationInfo) -> str:
    """Return the value of `python`. Raises ValueError if `base` is an image, whose Debian release only it shows."""
    if isinstance(info.data.get("base"), BaseImage):
        raise ValueError("`base` is an image; write the name of its Debian release there, or remove `python`")
    return version


class Recipe(Section):
    """The description of an app. None: not set, so that `detect` finds the value."""

    app: App | None = Field(
        default=None,
        description="An app from elsewhere (default: this folder): {package: name==version}, {git: https://…, "
        "commit: …} or {archive: https://…, sha256: …}.",
    )

    name: (
        Annotated[str, field_types.matching(contract.LABEL, "a name of at most 63 characters from a-z, 0-9 and -")]
        | None
    ) = Field(default=None, description="The name of the image (default: the folder's name).")
    wsgi: Annotated[str, AfterValidator(field_types.wsgi)] | None = Field(
        default=None,
        description="The app: module:callable, module:factory(), or a PasteDeploy .ini file (default: detected).",
    )
    asgi: Annotated[str, AfterValidator(field_types.asgi), AfterValidator(_only_entry)] | None = Field(
        default=None,
        description="The app, if it is an ASGI app: module:callable or module:factory() (default: detected).",
    )
    run: Annotated[field_types.Command, AfterValidator(_only_entry)] | None = Field(
        default=None,
        description="The command of an app that is a server itself: python3 app.py. It serves HTTP at the port in the "
        "variable PORT.",
    )
    port: Annotated[int, Field(ge=1024, le=65535), AfterValidator(_own_port)] | None = Field(
        default=None,
        description="The port of the program in `run`, if it does not use PORT. A push then stops the program before "
        "the new one starts.",
    )
    server: Annotated[Literal["uwsgi", "gunicorn", "waitress"], AfterValidator(_wsgi_server)] = Field(
        default="uwsgi", description="The server of a WSGI app: uwsgi, gunicorn or waitress."
    )
    requirements: Annotated[
        str | tuple[str, ...] | None,
        PlainValidator(field_types.requirements),
        PlainSerializer(lambda value: value),
        WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}),
    ] = Field(default=None, description="The app's requirements: a file or a list (default: detected).")
    index: Annotated[str, field_types.url("https")] | None = Field(
        default=None,
        description="The URL of another package index. bake uses it, and so does a machine from a pasted document.",
    )
    mirror: Annotated[str, field_types.url("http", "https")] | None = Field(
        default=None, description="The URL of a mirror of the Debian archive, for the build only."
    )
    certificate: Certificate = Certificate()
    domains: Annotated[tuple[Annotated[str, AfterValidator(_domain)], ...], AfterValidator(field_types.domains)] = (
        Field(default=(), description="Host names of the app (default: the machine accepts any name).")
    )
    redirect: Annotated[Literal["www", "apex"], AfterValidator(_redirect)] | None = Field(
        default=None,
        description="www: nginx redirects shop.example to www.shop.example. apex: the other way. `domains` has both.",
    )
    email: Annotated[str, AfterValidator(field_types.email)] | None = Field(
        default=None, description="Email address for messages from the certificate authority."
    )
    proxy: Proxy | None = Field(
        default=None, description="A proxy or load balancer in front of the machine (default: visitors connect to it)."
    )
    assets: Annotated[Assets, AfterValidator(_of_a_folder)] | None = Field(
        default=None,
        description="A front end that bake builds in a Debian tree before it packs a release: {run: npm run build, "
        "folder: static/dist}.",
    )
    static: dict[field_types.Prefix, field_types.InnerFolder] | None = Field(
        default=None, description="Static files that nginx serves: URL prefix to folder."
    )
    env: Annotated[field_types.Env, AfterValidator(_app_variables)] = Field(
        default={}, description="Environment variables. They are part of the image, so never put secrets here."
    )
    secrets: Annotated[
        tuple[Annotated[field_types.EnvName, BeforeValidator(field_types.secret)], ...],
        BeforeValidator(field_types.secrets),
        AfterValidator(_app_variables),
        AfterValidator(_names_of_one_key),
    ] = Field(
        default=(),
        description=f"Names of secrets. Their values are in {contract.SECRETS} on the machine, never in an image.",
    )
    random_secrets: (
        Annotated[tuple[field_types.EnvName, ...], AfterValidator(_app_variables), AfterValidator(_names_of_one_key)]
        | None
    ) = Field(
        default=None,
        description="Names of secrets that each machine generates on its first boot, unless "
        f"{contract.SECRETS} has them (default: the variables of session keys in the source).",
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
        f"them in {contract.DATA}.",
    )
    preload: Annotated[bool, WithJsonSchema({"enum": ["on", "off", True, False]})] | None = Field(
        default=None,
        description="on: the app is loaded once, then the workers fork. off: each worker loads it. Default: on if the "
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
    processes: (
        dict[
            Annotated[str, field_types.matching(contract.LABEL, "a name of at most 63 characters from a-z, 0-9 and -")],
            Annotated[Process, BeforeValidator(process), WithJsonSchema(PROCESS_SCHEMA)],
        ]
        | None
    ) = Field(
        default=None,
        description="Programs that run beside the site, such as the workers of a queue, by name: a command, or "
        "{run: …, count: 2} (default: those of the Procfile).",
    )
    timezone: Annotated[str, AfterValidator(field_types.timezone)] | None = Field(
        default=None, description="Time zone of the app, its jobs and its timers: Europe/Berlin (default: UTC)."
    )
    locale: (
        Annotated[str, field_types.matching(r"[a-z]{2,3}_[A-Z]{2}\.UTF-8(@[a-z]+)?", "a locale, such as de_DE.UTF-8")]
        | None
    ) = Field(default=None, description="Locale of the app and its jobs: de_DE.UTF-8 (default: C.UTF-8).")
    swap: (
        Annotated[
            int,
            field_types.unit(field_types.SIZES, 64 << 30, "1G", 16 << 20),
            WithJsonSchema({"type": ["string", "integer"], "pattern": r"^\d+[KMG]?$"}),
        ]
        | None
    ) = Field(default=None, description="Size of the machine's swap file, from 16M to 64G (default: none).")
    sandbox: Sandbox = Sandbox()
    updates: Updates = Updates()
    django: Django | Literal["off"] | None = Field(
        default=None,
        description="Settings of a Django project (default: detected). off: use the project's settings unchanged.",
    )
    packages: tuple[DebianPackage, ...] = Field(default=(), description="Debian packages that the app needs.")
    build: Annotated[bool, WithJsonSchema({"enum": ["on", "off", True, False]})] = Field(
        default=True,
        description="on: bake builds requirements without a wheel from source, in a Debian tree without network. off: "
        "it refuses them.",
    )
    build_packages: tuple[DebianPackage, ...] = Field(
        default=(),
        description="Debian packages, such as libpq-dev, that the build of a requirement needs. Those of well-known "
        "requirements are already there.",
    )
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

    python: (
        Annotated[
            str,
            AfterValidator(field_types.python),
            AfterValidator(_without_image),
            WithJsonSchema({"type": ["string", "number"]}),
        ]
        | None
    ) = Field(
        default=None,
        description="The app's Python: 3.12, or 3.12.8 (default: Debian's own). If Debian does not have it, the "
        "release contains an interpreter from uv's downloads, and gunicorn serves a WSGI app.",
    )

    @property
    def entry(self) -> str | None:
        """Return the app: `wsgi`, `asgi` or `run`. None if none of them is set."""
        return self.run or self.asgi or self.wsgi

    @property
    def is_http(self) -> bool:
        """Return whether nginx speaks HTTP to the app's server. To uWSGI it speaks uwsgi."""
        return bool(self.asgi or self.run) or self.server != "uwsgi"

    @property
    def package(self) -> str | None:
        """Return the pinned package if the app is one, or None."""
        return self.app.package if self.app else None

    @property
    def debian_packages(self) -> tuple[str, ...]:
        """Return the Debian packages of the machine, in addition to those of every machine."""
        options = (OPTIONS[name].package for name in self.certificate.options)
        zones = filter(None, [self.timezone, *(field_types.zone_of(timer.when) for timer in self.timers.values())])
        zone, locale = ("tzdata",) * any(zones), ("locales-all",) * bool(self.locale)
        return tuple(dict.fromkeys((*self.packages, *options, *zone, *locale)))

    @property
    def redirects(self) -> dict[str, str]:
        """Return the names that nginx redirects, with the name that each leads to."""
        return redirects(self.domains, self.redirect) if self.redirect else {}

    @property
    def target(self) -> Target:
        """Return the release in `base`, or else one with the Python of `python`, or else the newest.

        Only the image itself shows the release of an image.
        """
        if isinstance(self.base, str):
            return TARGETS[self.base].with_python(self.python)
        suitable = (target for target in TARGETS.values() if self.python and target.has_python(self.python))
        return next(suitable, DEBIAN_13).with_python(self.python)
