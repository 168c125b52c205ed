"""An app to the document that people paste, or to the settings for a machine that was baked."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from pathlib import Path

from bake import bundle, image, machine, release, source, store, userdata
from bake.errors import DocumentError
from bake.machine import File
from bake.progress import Reporter
from bake.providers import EVERYWHERE, Provider
from bake.recipe import Recipe
from bake.settings import Settings
from bake.target import Target

#: A document's part for its app, with some of release.EXTRAS.
App = Callable[[tuple[str, ...]], list[File]]
#: Said of a release that no bake on this computer has checked.
UNTRIED = "this release is not tried here: `bake image {folder}` boots it, asks for its pages and checks the machine"


def document(
    folder: Path, wanted: Recipe, given: Settings, provider: Provider | None, inline: bool, report: Reporter
) -> userdata.Document:
    """All of a machine and its app, as its provider takes it. Raises DocumentError where that cannot be."""
    goal = wanted.target
    with store.work_folder() as work:
        parcel = bundle.collect(source.folder_of(folder, wanted), wanted, goal, work / "bundle.tar", report)
        app = _source(folder, wanted, goal, parcel, inline, report)
        made, missing = _fullest([*machine.files(goal), *given.files], app, goal, provider)
    _tell(made, provider, report)
    proved = image.proof_of(parcel.sha256)
    report.note(f"this release was baked and checked here: {proved}" if proved else UNTRIED.format(folder=folder))
    if provider and goal.name in provider.unknown_to:
        report.note(f"warning: {goal.name}'s cloud-init does not know {provider.name}: take a newer release")
    for note in _untold(missing, given.domains or wanted.domains, wanted):
        report.note(note)
    return made


def _untold(missing: tuple[str, ...], names: tuple[str, ...], wanted: Recipe) -> list[str]:
    """What people should know of a machine before they paste it."""
    notes = []
    if not names:
        notes.append("no domain is given: HTTPS has a placeholder that no browser trusts")
    elif "certificate" in missing:
        notes.append(
            "warning: no room for the program that orders certificates: HTTPS stays untrusted until the first "
            "`bake push ssh://debian@ADDRESS PATH`"
        )
        if asked := wanted.certificate.asked:
            said = " and ".join(f"certificate.{name}" for name in asked)
            notes.append(f"warning: {said} can do nothing until then")
    elif wanted.certificate.dns:
        notes.append(f"HTTPS is trusted a minute or so after the zone of {', '.join(names)} takes records")
    else:
        said = ", ".join(names)
        notes.append(f"HTTPS is trusted a minute or so after the DNS of {said} leads to the machine")
    if "exchange" in missing:
        notes.append("no room for the exchange of workers: until the first push, new settings restart the app")
    return notes


def _fullest(
    files: list[File], app: App, goal: Target, provider: Provider | None
) -> tuple[userdata.Document, tuple[str, ...]]:
    """The document with as many of release.EXTRAS as there is room for, and which are missing."""
    dear = release.EXTRAS
    binary = provider is not None and not provider.text
    for count in range(len(dear), -1, -1):
        for some in combinations(dear, count):
            try:
                made = userdata.fit([*files, *app(some)], goal, _capacity(provider), binary=binary)
            except DocumentError:
                if not some:
                    raise
            else:
                return made, tuple(name for name in dear if name not in some)
    raise AssertionError


def launch(given: Settings, provider: Provider | None, report: Reporter) -> userdata.Document:
    """The settings alone. What bake.yaml says, the image has: said here, it would hold against later releases."""
    if not given.files:
        report.note(
            "no settings are given, so those of the image hold; --domain, --email, --env and --with-secrets are what a "
            "launch may say"
        )
    made = userdata.launch(given.files)
    if (over := made.size - _capacity(provider)) > 0:
        raise DocumentError(
            f"The settings have {made.size:,} bytes, {over:,} more than the provider takes",
            "Give the larger of them on the machine: in /etc/app/env, and by app-secret.",
        )
    _tell(made, provider, report)
    return made


def _source(folder: Path, wanted: Recipe, goal: Target, parcel: bundle.Bundle, inline: bool, report: Reporter) -> App:
    """The document's part for the app."""
    app = wanted.app
    if app and not app.package:
        code = source.folder_of(folder, wanted)
        there = frozenset(str(path.relative_to(code)) for path in code.rglob("*"))
        script = source.script_of(app)
        return lambda extras: source.fetched(goal, parcel, wanted, there, script, extras)
    found = "" if inline or app else source.remote(folder)
    if isinstance(found, str):
        if found:
            report.note(f"the app's files are in the document: {found}")
        return lambda extras: source.inline(goal, parcel, wanted, extras)
    report.note(f"the machine fetches the app from {found.url}, commit {found.commit[:12]} (--inline: it does not)")
    script = source.git_script(found.url, found.commit, found.path)
    return lambda extras: source.fetched(goal, parcel, wanted, found.files, script, extras)


def _capacity(provider: Provider | None) -> int:
    return provider.capacity if provider else EVERYWHERE


def _tell(made: userdata.Document, provider: Provider | None, report: Reporter) -> None:
    whose = provider.name if provider else "any provider"
    if provider and provider.limit is None:
        whose += ", whose own limit nobody states"
    report.note(f"{made.size:,} of {_capacity(provider):,} bytes for {whose}; {made.form}")
    if made.form == userdata.GZIPPED:
        report.note("it is base64 already: say so where you paste it (user_data_base64, in Terraform)")
    if provider and provider.remark:
        report.note(f"warning: {provider.remark}")
