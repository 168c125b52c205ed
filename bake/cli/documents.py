"""The command that prints a document: `render`."""

from __future__ import annotations

import os
import stat
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import click

from bake.bundle.app_source import AppSource
from bake.bundle.release_files import keys
from bake.bundle.wheel_builder import LockOptions
from bake.cli import options
from bake.config import contract
from bake.config.debian import TARGETS
from bake.config.providers import PROVIDERS
from bake.deploy import render
from bake.document import launch_settings
from bake.errors import SettingsError
from bake.host.progress import Reporter
from bake.host.terminal import Terminal

errors = Terminal()


@dataclass(frozen=True)
class DocumentChoice:
    """The document to print: for a provider, for a Debian version, only launch settings, with the app's files."""

    provider_name: str | None
    launch: bool
    inline: bool
    release: str | None


@dataclass(frozen=True)
class SecretsChoice:
    """Whether a document has the values of secrets, and their file, if they are not in the environment."""

    with_secrets: bool
    secrets_file: Path | None


@click.command("render")
@options.APP
@click.option(
    "--provider",
    "provider_name",
    type=click.Choice(sorted(PROVIDERS)),
    help="Fit this provider's limit (default: the smallest).",
)
@click.option("--launch", is_flag=True, help="Print only launch settings, for a machine booted from a baked image.")
@click.option("--inline", is_flag=True, help="Embed the app's files even if a public repository has them.")
@click.option("--release", type=click.Choice(sorted(TARGETS)), help="Debian version (default: `base` in bake.yaml).")
@options.DOMAINS
@options.EMAIL
@options.ENVIRONMENT
@click.option(
    "--with-secrets", is_flag=True, help="Include the values of secrets, from the environment or --secrets-file."
)
@click.option(
    "--secrets-file", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="File with NAME=VALUE lines."
)
@options.collect("choice", DocumentChoice)
@options.collect("arguments", launch_settings.Arguments)
@options.collect("secrets", SecretsChoice)
def render_command(
    app: Path, choice: DocumentChoice, arguments: launch_settings.Arguments, secrets: SecretsChoice
) -> None:
    """Print user-data for a stock Debian machine that serves APP.

    Paste it into your provider's user-data field when you create the machine.

    The machine fetches the app from its public repository. An app without one is embedded. Libraries come from the
    package index.
    """
    report = Reporter(errors)
    if choice.launch:
        source = AppSource.read_unresolved(app, report, choice.release)
    else:
        source = AppSource.read(app, report, LockOptions(builds=False), choice.release)
    recipe = source.recipe
    settings = launch_settings.read(arguments, recipe)
    root_keys, secrets_file = keys(recipe), secrets.secrets_file
    if secrets_file and secrets_file.suffix != ".env" and secrets_file.resolve().is_relative_to(app.resolve()):
        raise SettingsError(
            f"{secrets_file} is in the app's folder and would become part of the app",
            "Move it elsewhere, or rename it to secrets.env: bake excludes *.env.",
        )
    if secrets.with_secrets or secrets_file:
        settings = launch_settings.with_secrets(settings, recipe.secrets, root_keys, secrets_file)
        report.note("this document contains the values of the secrets: everyone with access to it can read them")
    else:
        if recipe.secrets:
            names = ", ".join(recipe.secrets)
            report.note(f"the app will not start before it has {names}; on the machine: sudo app-secret NAME < FILE")
        for name, file in root_keys.items():
            install = f"sudo install -m 600 /dev/stdin {contract.SETTINGS}/{file} < FILE"
            report.note(f"the machine needs {name}; on the machine: {install}")
    provider = PROVIDERS.get(choice.provider_name or "")
    if choice.launch:
        document = render.launch_document(settings, provider, report)
    else:
        document = render.machine_document(source, settings, provider, choice.inline, report)
    if secrets.with_secrets or secrets_file:
        _restrict(sys.stdout)
    click.echo(document.text, nl=False)


def _restrict(stream: IO[str]) -> None:
    """Let only its owner read the file to which a document with secrets goes, if it is one."""
    with suppress(OSError):
        if stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
            os.fchmod(stream.fileno(), 0o600)


COMMANDS = (render_command,)
