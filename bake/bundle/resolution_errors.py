"""Turn uv's explanations of a failed resolution into errors that name the file and line of a requirement."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping, Sequence

from packaging.utils import canonicalize_name

from bake.app.requirement_line import Line
from bake.bundle.package_index import NO_NETWORK, TRACEBACK
from bake.config.debian import Target
from bake.errors import BakeError, ConflictError, NetworkError, ProgramError, RequirementError, WheelError
from bake.host.download import without_queries

NO_WHEEL = re.compile(r"Wheels are required for `([^`]+)`")
#: Packages with wheels that an app can use instead of those without any.
SUBSTITUTES = {
    "mysqlclient": "PyMySQL, with pymysql.install_as_MySQLdb()", "psycopg2": "psycopg2-binary",
    "pycrypto": "pycryptodome",
}  # fmt: skip
#: The hint's end where bake may build, but not for this command: documents make machines that build nothing.
BUILD_HINT = "`bake image` builds a wheel from its source."
BUILD_OFF_HINT = f"Without `build: off` in bake.yaml, {BUILD_HINT}"


def _no_wheel_hint(requirements: Iterable[str]) -> str:
    """Return the next step for requirements without a wheel, such as `psycopg2==2.9`."""
    names = (canonicalize_name(re.split(r"[^\w.-]", text, maxsplit=1)[0]) for text in requirements)
    pairs = [f"{SUBSTITUTES[name]}, instead of {name}" for name in names if name in SUBSTITUTES]
    examples = f" ({'; '.join(pairs)})" if pairs else ""
    return f"Allow another version, use a package that has wheels{examples}, or upload a wheel to a package `index`."


def no_wheel_error(locations: Mapping[str, str], target: Target, builds: bool) -> WheelError:
    """Return the error for pins without a wheel, each with its `file:line` or "". `builds` is `build` in bake.yaml."""
    if len(locations) == 1:
        ((pin, location),) = locations.items()
        message, *reasons = target.sentences(f"{location}: " * bool(location) + f"{pin} has no wheel")
    else:
        listing = ", ".join(pin + f" ({location})" * bool(location) for pin, location in locations.items())
        message, *reasons = target.sentences(f"{len(locations)} requirements have no wheel", f": {listing}")
    hint = f"{_no_wheel_hint(locations)} {BUILD_HINT if builds else BUILD_OFF_HINT}"
    return WheelError(message, hint).with_reasons(*reasons)


def direct_error(lines: Sequence[Line], builds: bool) -> WheelError:
    """Return the error for direct references where bake may not build. `builds` is `build` in bake.yaml."""
    addresses = [(without_queries(line.reference.address), line.location) for line in lines if line.reference]
    listing = ", ".join(f"{address} ({location})" for address, location in addresses)
    return WheelError(
        f"These requirements need a build, which bake does not do here: {listing}",
        f"{BUILD_HINT if builds else BUILD_OFF_HINT} Or require a version on a package index.",
    )


def resolution_error(stderr: str, lines: Sequence[Line], target: Target) -> BakeError:
    """Return the error that matches uv's explanation."""
    explanation = TRACEBACK.sub("", re.sub(r"^error: ", "", stderr.strip()))
    sentence = " ".join(explanation.split())

    def location_prefix(name: str) -> str:
        location = next((line.location for line in lines if line.name == canonicalize_name(name)), "")
        return f"{location}: " if location else ""

    if NO_NETWORK.search(sentence):
        address = re.search(r"https?://[^/\s`)]+", sentence)
        return NetworkError(
            f"The package index cannot be reached{f' at {address[0]}' if address else ''}",
            "Check the network, a proxy's settings, and `index` in bake.yaml.",
            explanation,
        )
    if match := NO_WHEEL.search(sentence) or re.search(
        r"Failed to (?:build|download and build) `([\w.-]+?)(?:==[^`]*)?`", sentence
    ):
        message, *reasons = target.sentences(f"{location_prefix(match[1])}{match[1]} has no wheel")
        return WheelError(message, _no_wheel_hint([match[1]]), explanation).with_reasons(*reasons)
    if match := re.search(r"(\S+) was not found in the package registry", sentence):
        return RequirementError(
            f"{location_prefix(match[1])}the package index has no package {match[1]}",
            f"Remove it: {match[1]} is part of Python."
            if match[1].lower() in sys.stdlib_module_names
            else "Check the spelling of its name.",
            explanation,
        )
    if match := re.search(r"there (?:is|are) no versions? of ([\w.-]+)(?:\[\S*?\])?(\S*)", sentence):
        name, requirement = match[1], match[1] + match[2]
    elif match := re.search(r"only ([\w.-]+?)(?:[<>=!].*?)? is available and you require (\1\S*), we can", sentence):
        name, requirement = match[1], match[2]
    if match:
        return RequirementError(
            f"{location_prefix(name)}the package index has no release of {requirement}",
            "Require a version that exists.",
            explanation,
        )
    if "No solution found" in sentence:
        conflicting_lines = [
            line for line in lines if re.search(rf"(?<![\w-]){re.escape(line.name)}(?![\w-])", sentence, re.I)
        ]
        conflict = ", ".join(dict.fromkeys(f"{line.text} ({line.location})" for line in conflicting_lines))
        conflict = f": {conflict}" if conflict else ""
        message = f"The requirements conflict on Python {target.python_version}{conflict}"
        return ConflictError(
            message, "Relax one of the requirements that uv's explanation above names.", explanation
        ).with_reasons(message, f"The requirements conflict{conflict}")
    return ProgramError(
        "uv could not resolve the requirements", "Correct the cause that uv reports above.", explanation
    )
