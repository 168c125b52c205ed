"""Read text, JSON, TOML and YAML that others wrote, with bounds.

A folder can contain a link to /dev/zero, a pipe that nobody writes to, brackets that are nested without end, and a YAML
file of ten lines that stands for a billion values. They must be faults like others: bake must not hang, fill the memory
or end with a traceback. A link can also lead to a private file, whose lines an error would show in a public log.
"""

from __future__ import annotations

import errno
import json
import os
import stat
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

#: The largest file in bytes. Lock files of large projects have a few megabytes.
LARGEST = 32 * 2**20
#: The deepest nesting of brackets, and the most aliases, in YAML. With so many, a file stands for at most 3^7 times its
#: own values.
DEEPEST, MOST_ALIASES = 50, 20
TOO_DEEP = "it is nested too deeply"
#: How many folders above its own an app's files may be, without a repository.
LEVELS_ABOVE = 2


def folders_above(folder: Path) -> Iterator[Path]:
    """Yield the folders above an app's own whose files it may name: up to its repository's, or LEVELS_ABOVE of them.

    The home of the user and the root of the file system are not among them.
    """
    path, home = folder.resolve(), Path(os.environ.get("HOME") or "/")
    for _ in range(LEVELS_ABOVE):
        if (path / ".git").exists() or path.parent in (home, Path(path.anchor)):
            return
        path = path.parent
        yield path


def reach(folder: Path) -> Path:
    """Return the highest folder whose files an app may name: the last one of `folders_above`, or its own."""
    return [folder.resolve(), *folders_above(folder)][-1]


def read(path: Path, errors: str = "strict") -> str:
    """Return the text of a file in UTF-8.

    Raises OSError, also for a device, a pipe, a file above LARGEST, and a link that leads out of `reach`. Unless
    `errors` is `replace`, raises UnicodeDecodeError, also for UTF-16 without a byte order mark: it is UTF-8 with zeros.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "it is not a file", str(path))
    if status.st_size > LARGEST:
        raise OSError(errno.EFBIG, f"it has more than {LARGEST >> 20} MB", str(path))
    if path.is_symlink() and not path.resolve().is_relative_to(reach(path.parent)):
        raise OSError(errno.EPERM, "it is a link that leads out of the app's folder", str(path))
    text = path.read_text(encoding="utf-8-sig", errors=errors)
    if errors == "strict" and "\0" in text:
        index = text.index("\0")
        raise UnicodeDecodeError("utf-8", b"\0", 0, 1, f"character {index + 1} is a zero, as in UTF-16")
    return text


def from_json(text: str | bytes) -> Any:
    """Return the value in JSON text. Raises ValueError."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError(TOO_DEEP) from None


def from_toml(text: str) -> dict[str, Any]:
    """Return the content of TOML text. Raises ValueError."""
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ValueError(TOO_DEEP) from None


class YamlLoader(yaml.SafeLoader):
    """A safe loader with bounds. It raises YAMLError, and RecursionError for blocks that are nested too deeply."""

    aliases = 0

    def fetch_flow_collection_start(self, TokenClass: Any) -> None:
        """Begin a list or a mapping in brackets. The scanner's time grows with the square of their number."""
        if self.flow_level >= DEEPEST:
            raise yaml.YAMLError(TOO_DEEP)
        super().fetch_flow_collection_start(TokenClass)

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Return the next node. An alias is the node that it names."""
        self.aliases += self.check_event(yaml.AliasEvent)
        if self.aliases > MOST_ALIASES:
            raise yaml.YAMLError(f"it has more than {MOST_ALIASES} aliases")
        return super().compose_node(parent, index)
