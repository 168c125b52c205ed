"""Define the JSON files that bake writes for a machine to read, and the result that a machine writes.

docs/reference/contract.schema.json is the JSON Schema of these files and of those that a machine writes.
"""

from __future__ import annotations

import json
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bake.config import contract
from bake.config.debian import Target
from bake.config.recipe import Recipe
from bake.config.sections import Aws, Page, Process, Timer


class _File(BaseModel):
    """A JSON object of the contract."""

    model_config = ConfigDict(frozen=True)


class Source(_File):
    """The release that a machine runs, and the kind of machine that it was made for."""

    release: str = Field(description="Debian's name and version: debian-13.")
    machine: str = Field(description="The kernel's name of the architecture: x86_64.")
    layout: str = Field(default="", description="The version of a release's layout.")
    parts: str | None = Field(default=None, description="The digest of a release in parts, from a document.")
    bundle: str | None = Field(default=None, description="The digest of a release in a bundle.")

    @classmethod
    def of(cls, target: Target, **digest: str) -> Self:
        """Return the file for a release. `digest` is its `parts` or its `bundle`."""
        return cls(release=target.name, machine=contract.MACHINES[target.arch], layout=contract.LAYOUT, **digest)

    def to_json(self) -> str:
        """Return the file's text. The machine distinguishes a missing key from null, so missing keys stay missing."""
        return json.dumps(self.model_dump(exclude_unset=True), indent=1) + "\n"


class Result(_File):
    """The result of app-setup's last run. A successful run has no `kind`."""

    step: str = Field(default="", description="The last step, as visitors see it.")
    kind: str = Field(default="", description="The kind of the error: NotStarted, Unhealthy, Waiting or another one.")
    message: str = Field(default="", description="The error's message.")

    @classmethod
    def failure(cls, text: str | bytes) -> Self | None:
        """Return the result in the file's text; None if it is incomplete, or not that of a failed run."""
        try:
            result = cls.model_validate_json(text)
        except ValidationError:
            return None
        return result if result.kind else None


class MachineLimits(_File):
    """The limits that differ from the defaults."""

    body: int | None = Field(default=None, description="Largest request body in bytes.")
    request: int | None = Field(default=None, description="Longest time for one request in seconds.")
    workers: int | None = Field(default=None, description="Number of worker processes.")
    threads: int | None = Field(default=None, description="Number of threads in each worker.")


class MachineCheck(_File):
    """The keys of `check` that the machine and its checks need."""

    health: str | None = Field(default=None, description="The health path.")
    pages: tuple[Page, ...] = Field(default=(), description="Pages that the checks request.")
    crawl: bool = Field(default=True, description="Whether the checks follow the site's links.")
    author: str | None = Field(default=None, description="The command of the author's server, or `off`.")


class MachineDjango(_File):
    """A Django project."""

    settings: str
    static_url: str | None = None
    media: bool = False


class MachineDns(_File):
    """The name server for DNS challenges."""

    server: str
    port: int
    key: str
    algorithm: str
    wait: int


class MachineRecipe(_File):
    """The keys of bake.yaml that a machine and its checks need, without default values. Part of each release.

    An image does not contain the other keys, which may be private. The keys of `certificate` are at the top level.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    wsgi: str | None = Field(default=None, description="The app: module:callable, or a PasteDeploy .ini file.")
    asgi: str | None = Field(default=None, description="The app, if it is an ASGI app: module:callable.")
    run: str | None = Field(default=None, description="The command of the app's own server.")
    port: int | None = Field(default=None, description="The port of that server, if it does not use PORT.")
    server: str | None = Field(default=None, description="gunicorn or waitress, if it serves the app.")
    domains: tuple[str, ...] = Field(default=(), description="Host names of the app.")
    static: dict[str, str] = Field(default={}, description="Static files: URL prefix to folder.")
    secrets: tuple[str, ...] = Field(default=(), description="Names of secrets.")
    random_secrets: tuple[str, ...] = Field(default=(), description="Names of secrets that the machine generates.")
    writable: tuple[str, ...] = Field(default=(), description=f"Paths that the machine keeps in {contract.DATA}.")
    setup: tuple[str, ...] = Field(default=(), description="Commands that run before the app starts.")
    release: tuple[str, ...] = Field(default=(), description="Commands that run once for each release.")
    timers: dict[str, Timer] = Field(default={}, description="Scheduled jobs by name.")
    processes: dict[str, Process] = Field(default={}, description="Programs that run beside the site, by name.")
    packages: tuple[str, ...] = Field(default=(), description="Debian packages, in addition to every machine's.")
    django: MachineDjango | Literal["off"] | None = Field(default=None, description="Settings of a Django project.")
    limits: MachineLimits = Field(default=MachineLimits(), description="Limits of a request, and workers.")
    email: str | None = Field(default=None, description="Address for the certificate authority.")
    aws: Aws | None = Field(default=None, description="Settings for EC2.")
    check: MachineCheck = Field(default=MachineCheck(), description="Checks of the app.")
    authority: str | None = Field(default=None, description="`staging`, or the URL of an ACME directory.")
    keep: str | None = Field(default=None, description="Where certificates outlive the machine.")
    hsts: int | None = Field(default=None, description="Seconds for which browsers may insist on HTTPS.")
    dns: MachineDns | None = Field(default=None, description="The name server for DNS challenges.")

    @classmethod
    def of(cls, recipe: Recipe) -> Self:
        """Return the machine's part of a recipe."""
        keys: dict[str, Any] = dict.fromkeys((name for name in cls.model_fields if name in Recipe.model_fields), True)
        values = recipe.model_dump(
            mode="json",
            include={**keys, "check": set(MachineCheck.model_fields)},
            exclude_defaults=True,
            exclude_none=True,
        )
        values |= {**recipe.certificate.model_dump(mode="json"), "packages": recipe.debian_packages}
        return cls.model_validate({key: value for key, value in values.items() if value or (key, value) == ("hsts", 0)})

    def to_json(self) -> str:
        """Return the file's text, without default values."""
        return json.dumps(self.model_dump(mode="json", exclude_unset=True), indent=1, sort_keys=True) + "\n"
