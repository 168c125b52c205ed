"""Propose `assets` for an app with a package.json that has a build."""

from __future__ import annotations

import json
from pathlib import Path


def proposal(folder: Path) -> str:
    """Return the line of bake.yaml that runs the build of a package.json, or "" if none has one.

    bake looks in the app's folder and one level below. The folder of the result is a guess.
    """
    for path in (folder / "package.json", *sorted(folder.glob("*/package.json"))):
        try:
            scripts = json.loads(path.read_text(errors="replace")).get("scripts")
        except (OSError, ValueError, AttributeError, RecursionError):
            continue
        if isinstance(scripts, dict) and "build" in scripts:
            source = "" if path.parent == folder else path.parent.name
            values = [f"source: {source}"] * bool(source)
            values += ["run: npm run build", f"folder: {source}/dist" if source else "folder: static/dist"]
            return f"assets: {{{', '.join(values)}}}"
    return ""


def notes(folder: Path) -> list[str]:
    """Return a note with that line, for an app that does not have the key."""
    line = proposal(folder)
    return [f"assets: none; to build the front end, add `{line}` with the folder that its build writes"] if line else []
