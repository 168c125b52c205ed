"""The commands that bake an image and boot it: `image`, `run`, `doctor`."""

from __future__ import annotations

from pathlib import Path

import click
from rich.table import Table
from rich.text import Text

from bake.bundle.app_source import AppSource
from bake.bundle.wheel_builder import LockOptions
from bake.cli import options
from bake.deploy import local_run
from bake.host import cache
from bake.host.progress import Reporter
from bake.host.terminal import Terminal
from bake.image import host_requirements, manifest, pipeline
from bake.vm import qemu

errors = Terminal()


@click.command("image")
@options.APP
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
    source = AppSource.read(app, report, LockOptions(age))
    host_requirements.verify()
    image = pipeline.bake(source, bake_options, report)
    recipe = source.recipe
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


@click.command("run")
@options.APP
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
        app = pipeline.bake(AppSource.read(app, report), pipeline.Options(), report).path
    else:
        manifest.require_image(app, f"bake run {app.parent}")
    local_run.run(app, port, shell, report, click.echo)


@click.command("doctor")
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
            host_requirements.install(missing, report.note)


COMMANDS = (image_command, run_command, doctor_command)
