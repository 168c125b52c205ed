"""The options that commands share, and the values that commands get for them."""

from __future__ import annotations

import click
from click.testing import CliRunner

from bake.cli import options
from bake.host.cache import Age


def test_a_command_gets_one_value_for_several_options() -> None:
    @click.command()
    @click.argument("app")
    @click.option("--max-age", "days", type=float, default=7.0)
    @options.collect("age", Age)
    @click.option("--refresh", is_flag=True)
    def command(app: str, age: Age) -> None:
        """Show both."""
        click.echo(f"{app} {age}")

    assert CliRunner().invoke(command, ["shop", "--refresh"]).output == f"shop {Age(7.0, True)}\n"
    assert CliRunner().invoke(command, ["shop", "--max-age", "2"]).output == f"shop {Age(2.0, False)}\n"
    assert command.help == "Show both."
