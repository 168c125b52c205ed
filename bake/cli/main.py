"""The command line: parse options, call the commands, report errors.

Only this module prints results and catches BakeError. Results go to standard output;
progress, notes and errors go to standard error.
"""

from __future__ import annotations

import errno
import importlib
import json
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import click
from rich.table import Table
from rich.text import Text

from bake import __version__
from bake.app import scaffold
from bake.bundle.release_files import keys
from bake.cli import machines, options
from bake.config import contract, loader
from bake.config.debian import TARGETS
from bake.config.providers import PROVIDERS
from bake.config.recipe import Recipe
from bake.deploy import local_run, render
from bake.document import launch_settings
from bake.document.release_source import AppSource
from bake.errors import BakeError, Cancelled, SettingsError, SpaceError
from bake.host import cache
from bake.host.progress import Reporter
from bake.host.terminal import Terminal
from bake.image import host_requirements, manifest, pipeline
from bake.vm import qemu

errors = Terminal()


APP = click.argument("app", type=click.Path(path_type=Path), default=".")

#: The AWS commands, by the module that has them.
AWS = {
    **dict.fromkeys(("ami", "aws-policy", "prune", "sweep"), "bake.cli.aws_images"),
    **dict.fromkeys(("down", "launch", "ls"), "bake.cli.aws_instances"),
}


class _Group(click.Group):
    """A group that imports the AWS commands only when they are needed, because botocore takes long to import.

    It adds the command to the error for an option without a value, because click omits it.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands."""
        return sorted({*self.commands, *AWS})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command, or None if there is none of that name."""
        if cmd_name in AWS and cmd_name not in self.commands:
            for command in importlib.import_module(AWS[cmd_name]).COMMANDS:
                self.add_command(command)
        return super().get_command(ctx, cmd_name)

    def invoke(self, ctx: click.Context) -> Any:
        """Invoke a command."""
        try:
            return super().invoke(ctx)
        except click.BadOptionUsage as error:
            name = ctx.invoked_subcommand or ""
            error.ctx = error.ctx or click.Context(self.commands[name], info_name=name, parent=ctx)
            raise


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="bake")
def cli() -> None:
    """Turn the folder of a Python web app into a running, secured machine."""


for machine_command in machines.COMMANDS:
    cli.add_command(machine_command)


@cli.command("image")
@APP
@click.option(
    "--max-age",
    "days",
    type=click.FloatRange(min=0),
    default=7.0,
    show_default=True,
    help="Days to reuse the cached base disk and resolved requirements.",
)
@click.option("--refresh", is_flag=True, help="Ignore the caches: fetch packages and resolve requirements again.")
@click.option("--install", is_flag=True, help="Install missing programs with apt-get first, using sudo if needed.")
@click.option(
    "--ssh-port",
    type=click.IntRange(1, 65535),
    help="SSH port on 127.0.0.1 for the proof's first VM (default: a free port).",
)
@click.option(
    "--format",
    "image_format",
    type=click.Choice(["qcow2", "raw"]),
    default="qcow2",
    show_default=True,
    help="Format of the image file.",
)
@options.collect("age", cache.Age)
def image_command(app: Path, age: cache.Age, install: bool, ssh_port: int | None, image_format: str) -> None:
    """Bake APP (a folder) into an image that is booted and checked.

    Prints the image's path. If a check fails, no image is made.
    """
    report = Reporter(errors)
    bake_options = pipeline.Options(age, ssh_port, image_format)
    if install:
        # Before the app is read, because its requirements may have to be built.
        _install_missing(report)
    recipe = pipeline.read(app, report, bake_options)
    host_requirements.verify()
    image = pipeline.bake(AppSource(app, recipe), bake_options, report)
    table = Table.grid(padding=(0, 2))
    table.add_row("image", str(image.path))
    table.add_row("size", f"{image.size / 1e6:.0f} MB")
    table.add_row("SHA-256", image.sha256)
    table.add_row("base", f"Debian packages of {image.base_date}")
    table.add_row(
        "seconds",
        ", ".join(f"{name} {value:.0f}" for name, value in image.seconds.items())
        + f"; total {sum(image.seconds.values()):.0f}",
    )
    table.add_row(
        "checks",
        f"{image.checks} passed" + ("" if image.fresh else " when it was baked; nothing has changed since then"),
    )
    table.add_row("app", image.app)
    domains, dns = ", ".join(recipe.domains), recipe.certificate.dns
    table.add_row(
        "HTTPS",
        f"{recipe.certificate.authority or 'trusted'} certificate once "
        + (f"the machine can update the zone of {domains}" if dns else f"{domains} resolves to the machine")
        if domains
        else "placeholder certificate that no browser trusts, because bake.yaml has no `domains`",
    )
    errors.print(table, soft_wrap=True)
    click.echo(image.path)


@cli.command("run")
@APP
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    help=f"Port on 127.0.0.1 (default: {local_run.PORT}, or a free port if that is in use).",
)
@click.option("--ssh", "shell", is_flag=True, help="Open a shell on the machine; leaving it stops the machine.")
def run_command(app: Path, port: int | None, shell: bool) -> None:
    """Boot APP in a local VM and print its URL.

    APP is an image or a folder. Ctrl-C stops the VM. bake bakes a folder first, unless nothing has changed.
    """
    report = Reporter(errors)
    if app.is_dir():
        if port:
            qemu.free_port(port)
        host_requirements.verify()
        app = pipeline.bake(AppSource(app, pipeline.read(app, report)), pipeline.Options(), report).path
    else:
        manifest.require_image(app, f"bake run {app.parent}")
    local_run.run(app, port, shell, report, click.echo)


@cli.command("init")
@APP
@click.option(
    "--from-observed",
    "image_file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="IMAGE",
    help="Add the paths that the app wrote while IMAGE was baked to `writable`.",
)
def init_command(app: Path, image_file: Path | None) -> None:
    """Write a commented bake.yaml for APP (a folder).

    It holds the keys that bake detected. Prints the file's path.
    """
    notes: list[str] = []
    path = scaffold.pin(app, manifest.observed_paths(image_file)) if image_file else scaffold.write(app, notes)
    for text in notes:
        errors.print(f"{text} in {path}", soft_wrap=True)
    click.echo(path)


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


@cli.command("render")
@APP
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
        recipe = pipeline.read_unresolved(app, report, choice.release)
    else:
        recipe = pipeline.read(app, report, pipeline.Options(builds=False), choice.release)
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
        document = render.machine_document(AppSource(app, recipe), settings, provider, choice.inline, report)
    click.echo(document.text, nl=False)


@cli.command("doctor")
@click.option("--install", is_flag=True, help="Install missing programs with apt-get, using sudo if needed.")
def doctor_command(install: bool) -> None:
    """List the programs and files that a bake needs, and which are missing."""
    if install:
        _install_missing(Reporter(errors))
    else:
        table = Table("program or file", "Debian package", "found", box=None)
        for need in host_requirements.needs():
            table.add_row(need.name, need.package, need.path or Text("missing", "red"))
        errors.print(table)
    host_requirements.verify()
    errors.print("all programs and files that a bake needs are present")


def _install_missing(report: Reporter) -> None:
    missing = host_requirements.missing_packages()
    if missing:
        report.note(f"installing Debian packages: {' '.join(missing)}")
        with report.phase("install"):
            host_requirements.install(missing)


@cli.command()
def schema() -> None:
    """Print the JSON Schema of bake.yaml, for editors."""
    click.echo(json.dumps(loader.schema(), indent=2))


def _interrupt(number: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt


def _next_step(error: click.ClickException) -> str:
    """Return the next step after a wrong command line, or "" if click's own message has it."""
    match error:
        case click.NoSuchOption(option_name=option) if (key := option.lstrip("-")) in Recipe.model_fields:
            return f"{key} is a key of bake.yaml: write `{key}: …` there."
        case click.BadOptionUsage(option_name=option, ctx=click.Context() as ctx):
            params = (param for param in ctx.command.params if option in param.opts and param.nargs == 1)
            if (param := next(params, None)) and not getattr(param, "is_flag", False):
                return f"Write {option} {param.make_metavar(ctx)}"
    return ""


def _show(error: BakeError) -> None:
    if error.details:
        errors.print(error.details, soft_wrap=True, style="dim")
    errors.print("error: ", style="bold red", end="")
    errors.print(error.message, soft_wrap=True)
    if error.hint:
        errors.print(error.hint, soft_wrap=True)


def main() -> None:
    """Run the command line. Exit with the error's code, as docs/reference/exit-codes.md lists them."""
    signal.signal(signal.SIGTERM, _interrupt)
    run: Callable[..., Any] = cli.main
    try:
        run(standalone_mode=False)
    except click.exceptions.Exit as end:
        sys.exit(end.exit_code)
    except click.ClickException as error:
        error.show()
        if hint := _next_step(error):
            errors.print(hint, soft_wrap=True, markup=False)
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        errors.print("cancelled: bake stopped all programs that it started")
        sys.exit(Cancelled.code)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        _show(
            SpaceError("bake cannot write the result: the disk is full", "Free some space, and run the command again.")
        )
        sys.exit(SpaceError.code)
    except BakeError as error:
        _show(error)
        sys.exit(error.code)
