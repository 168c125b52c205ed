"""Options that several commands share."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

Result = TypeVar("Result")

#: The folder of an app, or an image of it.
APP = click.argument("app", type=click.Path(path_type=Path), default=".")
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


def collect(name: str, make: Callable[..., object]) -> Callable[[Callable[..., Result]], Callable[..., Result]]:
    """Return a decorator by which a command gets one value for several options.

    `make` makes the value from the options that are named like its parameters. The command gets it as `name`.
    """
    keys = inspect.signature(make).parameters

    def decorate(command: Callable[..., Result]) -> Callable[..., Result]:
        @functools.wraps(command)
        def wrapper(**parameters: Any) -> Result:
            chosen = {key: parameters.pop(key) for key in keys if key in parameters}
            return command(**parameters, **{name: make(**chosen)})

        return wrapper

    return decorate
