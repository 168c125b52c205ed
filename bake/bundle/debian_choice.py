"""Choose the Debian release for an app without `base` in its recipe: the newest one whose Python suits the app."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from bake.app import detect, project_metadata, requirements_files
from bake.app.name_resolution import PortableModules
from bake.bundle import interpreter, pin_dates
from bake.bundle.lock import Lock, Requirements, package_names, resolve
from bake.bundle.resolution_errors import BUILD_HINT
from bake.bundle.wheel_builder import LockOptions
from bake.config.debian import PYTHON_DATES, TARGETS, Target
from bake.config.recipe import Recipe
from bake.config.sections import BaseImage
from bake.errors import AppSyntaxError, BakeError, BuildError, ConflictError, RequirementError, WheelError
from bake.host import cache, foreign_text, paths
from bake.host.progress import Reporter

#: Errors that another Debian release may not have, because its Python is another one.
REFUSALS = (AppSyntaxError, RequirementError, ConflictError, WheelError, BuildError)
#: A version alone on a line, as pyenv, uv and Heroku write it, and one after the name python: mise, asdf and Pipfile.
VERSION = re.compile(r"^[ \t]*(?:c?python[-@]?)?(3\.(\d{1,3})(?:\.\w+)*)[ \t]*(?:#.*)?$", re.M)
NAMED_VERSION = re.compile(
    r"^[ \t]*python(?:_version|_full_version)?[ \t=\[{]+(?:version[ \t]*=[ \t]*)?[\"']?(3\.(\d{1,3})(?:\.\w+)*)", re.M
)
#: Files that may request a version of Python, the strongest first.
PYTHON_FILES = {
    ".python-version": VERSION, ".python-versions": VERSION, "runtime.txt": VERSION, ".tool-versions": NAMED_VERSION,
    "mise.toml": NAMED_VERSION, ".mise.toml": NAMED_VERSION, ".config/mise.toml": NAMED_VERSION,
    "Pipfile": NAMED_VERSION,
}  # fmt: skip
NEWEST_FIRST = tuple(sorted(TARGETS.values(), key=lambda target: target.python, reverse=True))


@dataclass(frozen=True)
class PythonRequest:
    """The Python version that a file of the app requests: 3.`minor`. `text` is the version in the file."""

    minor: int
    text: str
    file: str

    def distance(self, target: Target) -> int:
        """Return the number of minor versions between this one and a target's Python."""
        return abs(target.python[1] - self.minor)


@dataclass(frozen=True)
class _Refusal:
    """The reason why a Debian release does not suit an app.

    `key` is the key of the lock that failed, or "" if bake did not try it. `is_cached`: the reason is from the cache.
    """

    error: BakeError
    key: str = ""
    is_cached: bool = False


@dataclass(frozen=True)
class Choice:
    """The recipe of an app, with its Debian release, and the lock of its requirements if they were resolved."""

    recipe: Recipe
    lock: Lock | None = None


@dataclass(frozen=True)
class _Trial:
    """How to try a release.

    `choosing`: requires-python of the app's project counts. `trust_cache`: a cached refusal counts. `pure_only`: only
    pure-Python sources are built. `builds`: sources are built, if the app's options allow it.
    """

    choosing: bool = False
    trust_cache: bool = False
    pure_only: bool = False
    builds: bool = True


A_TRIAL = _Trial()


@dataclass
class _App:
    """An app during the choice of its release. `notes` are the notes already shown.

    `readings` are its requirements, by their file or list, the ASGI app and the release. `detections` are what bake
    detects in its folder, by the release. `portable` are the app's modules that all releases read in the same way.
    """

    folder: Path
    recipe: Recipe
    report: Reporter
    options: LockOptions
    notes: set[str] = field(default_factory=set)
    readings: dict[tuple[str | tuple[str, ...] | None, str | None, str, Target], Requirements] = field(
        default_factory=dict
    )
    detections: dict[Target, detect.Detection] = field(default_factory=dict)
    portable: PortableModules = field(default_factory=dict)

    def detection(self, target: Target) -> detect.Detection:
        """Return what bake detects in the folder for a release. Read the source only once."""
        if target not in self.detections:
            recipe = self.recipe.model_copy(update={"base": target.name})
            self.detections[target] = detect.complete(self.folder, recipe, self.portable)
        return self.detections[target]

    def requirements(self, recipe: Recipe, target: Target) -> Requirements:
        """Return the requirements that a recipe of the app names, for a release. Read them only once."""
        key = recipe.requirements, recipe.asgi, recipe.server, target
        if key not in self.readings:
            self.readings[key] = Requirements.read(self.folder, recipe, target)
        return self.readings[key]

    def note(self, *notes: str) -> None:
        """Show the notes that were not shown yet."""
        for text in notes:
            if text not in self.notes:
                self.notes.add(text)
                self.report.note(text)


def requested_python(folder: Path) -> PythonRequest | None:
    """Return the Python 3 version that one of PYTHON_FILES in an app's folder requests, or None."""
    for name, pattern in PYTHON_FILES.items():
        with suppress(OSError):
            text = foreign_text.read(folder / name, "replace")
            if match := pattern.search(text):
                return PythonRequest(int(match[2]), match[1], name)
    return None


def complete_without_base(folder: Path, recipe: Recipe, report: Reporter) -> Recipe:
    """Return the recipe with all keys that bake detects in the app's `folder`, except `base`, and print notes.

    Raises the errors of `detect.complete`.
    """
    detection = detect.complete(folder, recipe)
    for text in detection.notes:
        report.note(text)
    return detection.recipe


def complete(folder: Path, recipe: Recipe, report: Reporter, options: LockOptions) -> Choice:
    """Return the recipe with all keys that bake detects in the app's `folder`, including `base`, and the lock.

    Prints notes. Resolves the requirements, and keeps their lock in the cache. A release in the recipe is final. The
    release of an image is not known before bake reads the image, so this function resolves nothing for it.
    Raises the errors of `detect.complete` and `resolve`.
    """
    recipe = interpreter.pin(recipe, report)
    if isinstance(recipe.base, BaseImage):
        recipe = complete_without_base(folder, recipe, report)
        for text in Requirements.read(folder, recipe, recipe.target).notes:
            report.note(text)
        return Choice(recipe)
    app = _App(folder, recipe, report, options)
    with report.phase("resolve"):
        return _use_release(app, recipe.target) if recipe.base else _choose_release(app)


def _use_release(app: _App, base: Target) -> Choice:
    """Return the choice of the release in `base`. An error names another release that suits the app without a build."""
    outcome = _try(app, base)
    if isinstance(outcome, Choice):
        return outcome
    # `python` comes before the Python of another release.
    others = (target for target in NEWEST_FIRST if target is not base and not app.recipe.python)
    if other := next(
        (target for target in others if isinstance(_try(app, target, _Trial(choosing=True, builds=False)), Choice)),
        None,
    ):
        outcome.error.hint += (
            f" On {other.name} with Python {other.python_version}, all requirements resolve: "
            f"write `base: {other.name}`."
        )
    raise outcome.error


def _choose_release(app: _App) -> Choice:
    """Return the choice of the first release that suits the app, and note the choice with its reason.

    The releases that the app prefers come first.
    """
    targets, preference = _preference(app)
    # Building takes longer. So a release that needs only pure-Python sources comes before a newer one.
    for pure_only in (True, False) if app.options.may_build(app.recipe) else (False,):
        refusals: dict[Target, _Refusal] = {}
        # A cached refusal saves time if another release suits the app. It is never final, because the index may
        # meanwhile have the missing wheels.
        for trust_cache in (True, False):
            for target in targets:
                if target in refusals and not refusals[target].is_cached:
                    continue
                outcome = _try(app, target, _Trial(choosing=True, trust_cache=trust_cache, pure_only=pure_only))
                if isinstance(outcome, _Refusal):
                    refusals[target] = outcome
                    continue
                for refusal in refusals.values():
                    if refusal.key and not refusal.is_cached:
                        cache.keep(_refusal_path(refusal.key), refusal.error.reason)
                reasons = [refusal.error.reason for other, refusal in refusals.items() if other is not target]
                app.note(f"base: {target.name} ({'; '.join(reasons) or f'Python {target.python_version}{preference}'})")
                return outcome
            if not any(refusal.is_cached for refusal in refusals.values()):
                break
    error = _no_release_error(refusals)
    error.hint += _python_hint(app)
    raise error


def _try(app: _App, target: Target, trial: _Trial = A_TRIAL) -> Choice | _Refusal:
    """Return the recipe and the lock for a release on which the requirements resolve, or why there is none."""
    key = ""
    try:
        if trial.choosing and not app.recipe.package:
            _require_allowed(app.folder, target)
        detection = app.detection(target)
        recipe = detection.recipe
        app.note(*detection.notes)
        requirements = app.requirements(recipe, target)
        key = requirements.key + "-pure" * trial.pure_only
        is_young = trial.trust_cache and app.options.age.admits_file(_refusal_path(key))
        if is_young and (reason := cache.kept(_refusal_path(key))):
            return _Refusal(WheelError(reason), key, is_cached=True)
        options = app.options if trial.builds else replace(app.options, builds=False)
        builder = options.builder(recipe, target, app.report, pure_only=trial.pure_only)
        lock = resolve(requirements, app.options.age, builder)
    except REFUSALS as error:
        return _Refusal(error, key)
    app.note(*lock.notes)
    source = recipe.requirements if isinstance(recipe.requirements, str) else "requirements in bake.yaml"
    for name in detection.frameworks.keys() - package_names(lock):
        files = [] if recipe.package else requirements_files.files_listing(app.folder, name)
        cure = f"; to use the file that does, write  requirements: {files[0]}" if files else ""
        app.note(f"warning: {detection.frameworks[name]} imports {name}, which {source} does not list{cure}")
    return Choice(recipe, lock)


def _preference(app: _App) -> tuple[Sequence[Target], str]:
    """Return all releases, the one that the app prefers first, and the reason for that one.

    An app prefers the Python that it requests, or else one that existed when the newest of its pins was published.
    """
    if request := None if app.recipe.package else requested_python(app.folder):
        return sorted(NEWEST_FIRST, key=request.distance), f"; {request.file} requests {request.text}"
    pin = None if app.recipe.package else _newest_pin(app)
    newer = [target for target in NEWEST_FIRST if pin and target.python_date > pin.date]
    if not pin or not newer:
        return NEWEST_FIRST, ", the newest"
    reason = (
        f"; the newest pin, {pin.name} {pin.version}, was published on {pin.date}, before Python "
        f"{newer[0].python_version}"
    )
    return [*(target for target in NEWEST_FIRST if target not in newer), *reversed(newer)], reason


def _newest_pin(app: _App) -> pin_dates.PinnedRelease | None:
    """Return the newest release that the app pins. Returns None for faults of its files, which are reported later."""
    recipe = app.recipe
    try:
        if recipe.requirements is None:
            recipe = recipe.model_copy(update={"requirements": requirements_files.requirements_file(app.folder)})
        requirements = app.requirements(recipe, NEWEST_FIRST[0]) if recipe.requirements else None
    except RequirementError:
        return None
    return pin_dates.newest(requirements, app.options.age) if requirements else None


def _refusal_path(key: str) -> Path:
    """Return the file of the cache with the reason why the lock with this key failed."""
    return paths.cache() / "locks" / f"{key}.refused"


def _require_allowed(folder: Path, target: Target) -> None:
    """Raise RequirementError where the app's project excludes the target's Python."""
    for name in project_metadata.FILES:
        if (folder / name).is_file() and (project := project_metadata.read(folder / name)).requires_python:
            requirements_files.require_allowed(project, target)
            return


def _python_hint(app: _App) -> str:
    """Return the line of bake.yaml with the Python that the app requests, or "" if Debian has it, or uv has not."""
    request = None if app.recipe.package else requested_python(app.folder)
    if request is None or (3, request.minor) not in PYTHON_DATES or any(not request.distance(t) for t in NEWEST_FIRST):
        return ""
    return f' {request.file} requests {request.text}: with `python: "3.{request.minor}"` the release contains it.'


def _no_release_error(refusals: dict[Target, _Refusal]) -> BakeError:
    """Return the error that gives the reasons against all releases, or the one reason that they share."""
    first_error, *other_errors = (refusal.error for refusal in refusals.values())
    reasons = {target.name: refusal.error.reason for target, refusal in refusals.items()}
    if len({refusal.error.common_reason for refusal in refusals.values()}) == 1:
        suffix = f"; the same applies to {', '.join([*reasons][1:])}" if len({*reasons.values()}) > 1 else ""
        return type(first_error)(first_error.message + suffix, first_error.hint, first_error.details)
    details = (
        f"{target.name}:\n{refusal.error.details}" for target, refusal in refusals.items() if refusal.error.details
    )
    # Where a build suffices, `bake image` is the next step, whatever the reason against the other release is.
    error = next((error for error in (first_error, *other_errors) if BUILD_HINT in error.hint), first_error)
    return type(error)(
        "No Debian release suits the app. " + ". ".join(f"{name}: {reason}" for name, reason in reasons.items()),
        error.hint,
        "\n".join(details),
    )
