"""Judge the package indexes that an app's files name: bake uses the default one, or `index` of bake.yaml."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import uv

from bake.app import project_metadata
from bake.errors import RequirementError
from bake.host.programs import run

#: Options of a requirements file that change nothing: bake only uses files with hashes, and checks certificates.
IDLE_OPTION = re.compile(r"--(require-hashes|prefer-binary|only-binary|no-binary|trusted-host)\b")
#: Options that name a package index, and those that name other places of packages.
INDEX_OPTION = re.compile(r"(?:-i|--index-url|--extra-index-url|--pypi-url)[= ]?\s*(\S+)")
OTHER_PLACE = re.compile(r"(-f|--find-links|--no-index)\b")
#: The domain where the default index was until 2018. Its address still redirects to the default one.
OLD_DOMAIN = "python.org"


@functools.cache
def default_index() -> str:
    """Return the URL of uv's default index, as its help states it, or "" if it does not."""
    text = run([uv.find_uv_bin(), "pip", "compile", "--help"], env={"NO_COLOR": "1"}).stdout
    match = re.search(r"default package index \(by default:\s*<(\S+)>", text)
    return match[1] if match else ""


def is_default(address: str) -> bool:
    """Return whether a URL is the default index, under its present or its old name."""
    try:
        url, default = urlsplit(address.strip("\"'")), urlsplit(default_index())
    except ValueError:  # brackets that are not those of an IPv6 address
        return False
    # No user and no port: netloc contains both.
    hosts = {default.netloc, f"{default.netloc.partition('.')[0]}.{OLD_DOMAIN}"}
    is_plain = url.scheme in ("http", "https") and not url.query
    return bool(default.netloc) and is_plain and url.netloc in hosts and _path(url.path) == _path(default.path)


def _path(path: str) -> str:
    return path.strip("/")


def require_known(address: str, location: str, index: str, notes: list[str]) -> None:
    """Raise RequirementError if an index is neither the default one nor `index` in bake.yaml.

    With an `index` in bake.yaml, bake uses it alone, and notes that it ignores another.
    """
    if (is_default(address) and not index) or _path(address) == _path(index):
        return
    shown_address = re.sub(r"//[^/@]*@", "//…@", address)
    if index:
        notes.append(f"ignored: the package index {shown_address} ({location}); bake.yaml sets another `index`")
        return
    raise RequirementError(
        f"{location}: bake does not use the package index {shown_address} unasked",
        "If it has every package of the app, write its URL as `index: …` in bake.yaml. Otherwise remove the line.",
    )


def of_project(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield the indexes that pyproject.toml and Pipfile set for uv, Poetry, PDM and pipenv: location and URL."""
    tool: dict[str, Any] = project_metadata.table(folder / "pyproject.toml").get("tool", {})
    for name, key in (("uv", "index"), ("poetry", "source"), ("pdm", "source")):
        entries = tool.get(name, {}).get(key, ())
        yield from ((f"pyproject.toml: [[tool.{name}.{key}]]", entry["url"]) for entry in entries if "url" in entry)
    sources = project_metadata.table(folder / "Pipfile").get("source", ())
    yield from (("Pipfile: [[source]]", entry["url"]) for entry in sources if "url" in entry)
