"""Find known vulnerabilities of wheels with `uv audit`, which asks the OSV database."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import uv

from bake.audit.finding import Finding, Kind
from bake.errors import AdvisoryError
from bake.host.programs import run
from bake.host.templates import render

#: The statuses of `uv audit` if it completed: without and with vulnerabilities.
COMPLETED = (0, 1)
#: The files of the project that uv reads.
PROJECT = ("audit/pyproject.toml.j2", "audit/uv.lock.j2")
#: `uv audit` and its JSON are previews. The lock of bake pins the version of uv.
OPTIONS = "--frozen --no-config --no-python-downloads --preview-features=audit-command,json-output --output-format=json"


def find(wheels: Mapping[str, str], service: str | None, work: Path) -> list[Finding]:
    """Return the vulnerabilities of wheels (name to version).

    `service` is the URL of another server with OSV's API. Raises AdvisoryError if it does not answer.
    """
    if not wheels:
        return []
    for template in PROJECT:
        (work / Path(template).stem).write_text(render(template, wheels=dict(sorted(wheels.items()))))
    options = [*OPTIONS.split(), *([f"--service-url={service}"] if service else [])]
    result = run([uv.find_uv_bin(), "audit", *options], cwd=work, env={"NO_COLOR": "1"}, check=False)
    try:
        if result.status in COMPLETED:
            return [_finding(entry) for entry in json.loads(result.stdout)["vulnerabilities"]]
    except (ValueError, KeyError, TypeError):
        pass
    raise AdvisoryError(
        "The advisories for wheels cannot be fetched, so nothing is known about the wheels",
        "Check the network and the address, and run the command again.",
        result.stderr.strip() or result.stdout.strip(),
    )


def _finding(entry: Mapping[str, Any]) -> Finding:
    dependency = entry["dependency"]
    return Finding(
        Kind.WHEEL, dependency["name"], dependency["version"], entry["id"], tuple(entry["aliases"]),
        tuple(entry["fix_versions"]),
    )  # fmt: skip
