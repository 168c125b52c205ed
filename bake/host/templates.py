"""Render the templates below `cloud-init/`."""

from __future__ import annotations

import shlex
from functools import cache

import jinja2

from bake.host import paths


def render(name: str, /, **values: object) -> str:
    """Return a template's text, by its path below `cloud-init/`. Raises UndefinedError for a missing value."""
    return _environment().get_template(name).render(values)


@cache
def _environment() -> jinja2.Environment:
    loader = jinja2.FileSystemLoader(paths.tree() / "cloud-init")
    # The texts are no HTML.
    environment = jinja2.Environment(loader=loader, undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
    environment.filters["quoted"] = shlex.quote
    return environment
