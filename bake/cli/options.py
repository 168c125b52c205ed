"""Options that several commands share."""

from __future__ import annotations

import click

#: Launch settings of `render` and `launch`.
DOMAINS = click.option(
    "--domain", "domains", multiple=True, metavar="NAME", help="Domain, instead of those in bake.yaml; repeatable."
)
EMAIL = click.option("--email", metavar="ADDRESS", help="Email address, instead of the one in bake.yaml.")
ENVIRONMENT = click.option(
    "--env",
    "pairs",
    multiple=True,
    metavar="NAME=VALUE",
    help="Additional environment variable, not secret; repeatable.",
)
