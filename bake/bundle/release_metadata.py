"""Generate the metadata of an app that is not a wheel: its distribution, and the commands of its entry points."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from packaging.utils import canonicalize_name

from bake.app import project_metadata
from bake.host.templates import render

#: A line of entry_points.txt that defines a command.
COMMAND = re.compile(
    r"\s*(?P<name>[\w-][\w.-]*)\s*=\s*(?P<module>[\w.]+)\s*:\s*(?P<call>(?P<first>\w+)[\w.]*)\s*(\[.*)?"
)


def distribution(folder: Path, source_paths: list[Path]) -> dict[str, str]:
    """Return a project's metadata for `importlib.metadata`: its name, version and entry points.

    The values come from the project's files. Omits a computed version, because a build would run the
    app's code. Returns {} if the app's folder has an *.egg-info folder with the metadata.
    """
    project = project_metadata.find(folder)
    has_egg_info = any(path.parent == folder and path.suffix == ".egg-info" for path in source_paths)
    if project is None or not project.name or has_egg_info:
        return {}
    groups = [
        "\n".join([f"[{group}]", *(f"{name} = {target}" for name, target in sorted(targets.items()))])
        for group, targets in sorted(project.entry_points.items())
        if targets
    ]
    if not project.version and not groups:
        return {}
    dist_info = f"{canonicalize_name(project.name).replace('-', '_')}-{project.version or 'unknown'}.dist-info"
    version = f"Version: {project.version}\n" if project.version else ""
    return {
        f"{dist_info}/METADATA": f"Metadata-Version: 2.1\nName: {project.name}\n{version}",
        f"{dist_info}/entry_points.txt": "\n\n".join(groups) + "\n",
    }


def commands(entry_points: Iterable[str]) -> dict[str, str]:
    """Return the commands in texts of entry_points.txt. The app is not a wheel, so no installer creates them."""
    scripts = {}
    for text in entry_points:
        group = ""
        for line in text.splitlines():
            if line.startswith("["):
                group = line.strip()
            elif group == "[console_scripts]" and (match := COMMAND.fullmatch(line)):
                scripts[match["name"]] = render(
                    "release/bin/command.py.j2", module=match["module"], name=match["first"], callable=match["call"]
                )
    return scripts
