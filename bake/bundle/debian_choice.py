"""Choose the Debian release of an app whose recipe names no `base`: the newest whose Python suits the app."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from bake.app import detect, project_metadata, requirements_files
from bake.bundle import lock
from bake.config.debian import TARGETS, Target
from bake.config.recipe import BaseImage, Recipe
from bake.errors import AppSyntaxError, BakeError, ConflictError, RequirementError, WheelError
from bake.host import cache, paths
from bake.host.progress import Reporter

#: Errors that another Debian release may not have, because its Python is another one.
REFUSALS = (AppSyntaxError, RequirementError, ConflictError, WheelError)
NEWEST_FIRST = tuple(sorted(TARGETS.values(), key=lambda target: target.python, reverse=True))


@dataclass(frozen=True)
class Wish:
    """The Python that a file of the app asks for: 3.`minor`; `text` is the version as the file has it."""

    minor: int
    text: str
    file: str

    def distance(self, target: Target) -> int:
        """Return how many minor versions lie between the wish and a target's Python."""
        return abs(target.python[1] - self.minor)


@dataclass(frozen=True)
class _Refusal:
    """Why a Debian release does not suit an app.

    `key` is that of the lock that could not be made, or empty where it was not tried. `kept`: the reason is cached.
    """

    error: BakeError
    key: str = ""
    kept: bool = False

    def reason(self, target: Target) -> str:
        """Return the reason in one line that does not repeat the target's name."""
        return self.error.message.replace(f" on {target.name}", "")


@dataclass
class _App:
    """An app whose release is chosen. `notes` are those that were shown."""

    folder: Path
    recipe: Recipe
    report: Reporter
    age: cache.Age
    notes: set[str] = field(default_factory=set)

    def note(self, *notes: str) -> None:
        """Show the notes that were not shown yet."""
        for text in notes:
            if text not in self.notes:
                self.notes.add(text)
                self.report.note(text)


def wish(folder: Path) -> Wish | None:
    """Return the Python 3 that .python-version or runtime.txt in an app's folder asks for, or None."""
    for name in (".python-version", "runtime.txt"):
        with suppress(OSError):
            text = (folder / name).read_text(encoding="utf-8-sig", errors="replace")
            if match := re.search(r"^[ \t]*(?:c?python[-@]?)?(3\.(\d{1,3})(?:\.\w+)*)[ \t]*(?:#.*)?$", text, re.M):
                return Wish(int(match[2]), match[1], name)
    return None


def detected(folder: Path, recipe: Recipe, report: Reporter) -> Recipe:
    """Return the recipe completed by what is found in the app's `folder`, but for `base`, and note it.

    Raises what `detect.complete` raises.
    """
    found = detect.complete(folder, recipe)
    for text in found.notes:
        report.note(text)
    return found.recipe


def complete(folder: Path, recipe: Recipe, report: Reporter, age: cache.Age) -> Recipe:
    """Return the recipe completed by what is found in the app's `folder`, `base` included, and note it.

    The requirements are resolved, and their lock is in the cache afterwards. A release that the recipe names is
    obeyed. The release of an image is known only when the image is read, so nothing is resolved for it here.
    Raises what `detect.complete` and `lock.resolve` raise.
    """
    if isinstance(recipe.base, BaseImage):
        return detected(folder, recipe, report)
    app = _App(folder, recipe, report, age)
    with report.phase("resolve"):
        return _obeyed(app, TARGETS[recipe.base]) if recipe.base else _chosen(app)


def _obeyed(app: _App, named: Target) -> Recipe:
    """Return the recipe for the release that it names. A refusal names the other release where that would do."""
    outcome = _try(app, named)
    if isinstance(outcome, Recipe):
        return outcome
    others = (target for target in NEWEST_FIRST if target is not named)
    if other := next((target for target in others if isinstance(_try(app, target, choosing=True), Recipe)), None):
        outcome.error.hint += (
            f" On {other.name}, with Python {other.python_version}, everything can be had: write `base: {other.name}`."
        )
    raise outcome.error


def _chosen(app: _App) -> Recipe:
    """Return the recipe for the first release that suits the app, and note the choice with its reason.

    The releases whose Python is nearest to the app's wish come first, and of these the newest.
    """
    wished = None if app.recipe.package else wish(app.folder)
    targets = sorted(NEWEST_FIRST, key=wished.distance) if wished else NEWEST_FIRST
    refusals: dict[Target, _Refusal] = {}
    # A cached refusal saves time where another release suits the app. It never is the answer itself: by now, the index
    # may have what was missing.
    for trust in (True, False):
        for target in targets:
            outcome = _try(app, target, choosing=True, trust=trust)
            if isinstance(outcome, _Refusal):
                refusals[target] = outcome
                continue
            for refusal in refusals.values():
                if refusal.key and not refusal.kept:
                    cache.write(_cached(refusal.key), refusal.error.message)
            why = [refusal.reason(refused) for refused, refusal in refusals.items() if refused is not target]
            if not why and wished:
                why = [f"Python {target.python_version}; {wished.file} asks for {wished.text}"]
            app.note(f"base: {target.name} ({'; '.join(why) or f'Python {target.python_version}, the newest'})")
            return outcome
        if not any(refusal.kept for refusal in refusals.values()):
            break
    raise _neither(refusals)


def _try(app: _App, target: Target, *, choosing: bool = False, trust: bool = False) -> Recipe | _Refusal:
    """Return the recipe completed for a release on which the requirements resolve, or why there is none.

    `choosing`: the bounds of the app's project count. `trust`: a cached refusal counts.
    """
    key = ""
    try:
        if choosing and not app.recipe.package:
            _require_allowed(app.folder, target)
        found = detect.complete(app.folder, app.recipe.model_copy(update={"base": target.name}))
        app.note(*found.notes)
        key = lock.key(app.folder, found.recipe, target)
        if trust and app.age.admits_file(_cached(key)):
            return _Refusal(WheelError(_cached(key).read_text()), key, kept=True)
        locked = lock.resolve(app.folder, found.recipe, target, app.age)
    except REFUSALS as error:
        return _Refusal(error, key)
    if locked.built:
        app.note(locked.consent)
    return found.recipe


def _cached(key: str) -> Path:
    return paths.cache() / "locks" / f"{key}.refused"


def _require_allowed(folder: Path, target: Target) -> None:
    """Raise RequirementError where the app's project excludes the target's Python."""
    for name in project_metadata.FILES:
        if (folder / name).is_file() and (said := project_metadata.read(folder / name)).requires_python:
            requirements_files.require_allowed(said, target)
            return


def _neither(refusals: dict[Target, _Refusal]) -> BakeError:
    """Return the error that gives the reasons against all releases, or the one reason that they share."""
    first = next(iter(refusals.values())).error
    reasons = {target.name: refusal.reason(target) for target, refusal in refusals.items()}
    alike = {one.reason(target).replace(f"Python {target.python_version}", "") for target, one in refusals.items()}
    if len(alike) == 1:
        same = f"; the same holds for {', '.join([*reasons][1:])}" if len({*reasons.values()}) > 1 else ""
        return type(first)(first.message + same, first.hint, first.details)
    details = (f"{target.name}:\n{one.error.details}" for target, one in refusals.items() if one.error.details)
    return type(first)(
        "No Debian release suits the app. " + ". ".join(f"{name}: {reason}" for name, reason in reasons.items()),
        first.hint,
        "\n".join(details),
    )
