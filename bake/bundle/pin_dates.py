"""Find out when the releases that an app pins were published. The date shows the Python that they were made for."""

from __future__ import annotations

import datetime
import importlib.metadata
import json
from dataclasses import asdict, dataclass

from bake.bundle.lock import Requirements
from bake.bundle.uv_resolver import listed_packages, target_argv
from bake.host import cache, paths
from bake.host.files import digest


@dataclass(frozen=True)
class PinnedRelease:
    """A release that the app's requirements pin. `date` is the day on which it was published, as YYYY-MM-DD."""

    name: str
    version: str
    date: str


def newest(requirements: Requirements, age: cache.Age) -> PinnedRelease | None:
    """Return the newest of the releases that an app pins, or None if it pins less than half of its requirements.

    Reads only the index, and keeps the result in the cache. Also returns None if the index gives no dates, or if uv
    fails, because the resolution that follows explains the failure.
    """
    pins = sorted(pin.text for pin in requirements.pins)
    if not pins or 2 * len(pins) < len(requirements.lines):
        return None
    path = (
        paths.cache() / "locks" / f"{digest([pins, requirements.index, importlib.metadata.version('uv')])}.newest.json"
    )
    if age.admits_file(path) and (kept := cache.kept(path)):
        return PinnedRelease(**json.loads(kept))
    with cache.work_folder() as work:
        (work / "pins.txt").write_text("".join(f"{pin}\n" for pin in pins))
        # Markers exclude some pins on this target. They say nothing about the Python that the others were made for.
        packages = listed_packages(target_argv(requirements.target), ["pins.txt"], requirements.index, work) or []
    releases = [release for package in packages if (release := _release(package))]
    if not releases:
        return None
    release = max(releases, key=lambda release: release.date)
    cache.keep(path, json.dumps(asdict(release)))
    return release


def _release(package: dict[str, object]) -> PinnedRelease | None:
    """Return a release with the day of its first file: some projects add wheels for a new Python years later."""
    files = [package["sdist"]] if "sdist" in package else []
    wheels = package.get("wheels", [])
    files += wheels if isinstance(wheels, list) else []
    times = [file["upload-time"] for file in files if isinstance(file, dict) and "upload-time" in file]
    dates = [time.date().isoformat() for time in times if isinstance(time, datetime.datetime)]
    return PinnedRelease(str(package["name"]), str(package["version"]), min(dates)) if dates else None
