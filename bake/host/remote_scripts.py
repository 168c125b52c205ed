"""Read the scripts below `cloud-init/remote`, which bake runs on a machine over SSH."""

from __future__ import annotations

import re
import shlex

from bake.host import paths

#: A line that stands for another script of the folder.
INCLUDE = re.compile(r"^\. \./(\S+)$", re.MULTILINE)


def text(name: str, *arguments: str) -> str:
    """Return a script's text for `sh -s` or `sh -c`. Its first line sets the arguments.

    So only the machine's sh parses the arguments, and not the login shell of the user, too.
    """
    script = INCLUDE.sub(lambda match: _read(match[1]), _read(name))
    return f"set -- {shlex.join(arguments)}\n{script}" if arguments else script


def _read(name: str) -> str:
    return (paths.tree() / "cloud-init" / "remote" / name).read_text()
