"""The commands for bake.yaml: `init`, `schema`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from bake.app import scaffold
from bake.cli import options
from bake.config import loader
from bake.host.terminal import Terminal
from bake.image import manifest

errors = Terminal()


@click.command("init")
@options.APP
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


@click.command("schema")
def schema_command() -> None:
    """Print the JSON Schema of bake.yaml, for editors."""
    click.echo(json.dumps(loader.schema(), indent=2))


COMMANDS = (init_command, schema_command)
