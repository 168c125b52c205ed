"""Render the document for a provider's user-data field, or only the settings for a machine of an image."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from pathlib import Path

from bake.bundle import release_archive, release_files
from bake.bundle.release import Release
from bake.config.debian import TARGETS, Target
from bake.config.providers import EVERYWHERE, Provider
from bake.config.recipe import Recipe
from bake.document import cloud_config, machine_files, release_source
from bake.document.launch_settings import Settings
from bake.document.machine_files import File
from bake.errors import DocumentError
from bake.host import cache
from bake.host.progress import Reporter
from bake.image import manifest

#: Returns the files of the app in a document, with the given names of release.EXTRAS.
App = Callable[[tuple[str, ...]], list[File]]
#: The note about a release that no bake on this computer has checked.
UNTRIED = "this release was not tested here: `bake image {folder}` boots it, requests its pages and checks the machine"


def document(
    folder: Path, wanted: Recipe, given: Settings, provider: Provider | None, inline: bool, report: Reporter
) -> cloud_config.Document:
    """Return a document with a machine and its app for a provider. Raises DocumentError if it exceeds the limit."""
    goal = wanted.target
    with cache.work_folder() as work:
        parcel = release_archive.collect(release_source.folder_of(folder, wanted), wanted, work / "bundle.tar", report)
        app = _source(folder, wanted, parcel.release, inline, report)
        made, missing = _fullest([*machine_files.files(goal), *given.files], app, goal, provider)
    _tell(made, provider, report)
    proved = manifest.proof_of(parcel.sha256)
    report.note(f"this release was baked and checked here: {proved}" if proved else UNTRIED.format(folder=folder))
    if provider and goal.name in provider.unknown_to:
        other = next(name for name in TARGETS if name not in provider.unknown_to)
        report.note(
            f"warning: the cloud-init of {goal.name} does not support {provider.name}: use --release {other}, or "
            f"`base: {other}` in bake.yaml"
        )
    for note in _untold(missing, given.domains or wanted.domains, wanted):
        report.note(note)
    return made


def _untold(missing: tuple[str, ...], names: tuple[str, ...], wanted: Recipe) -> list[str]:
    """Return notes about the machine: the state of HTTPS, and features that did not fit."""
    notes = []
    if not names:
        notes.append("no domain is configured: HTTPS uses a self-signed certificate, which browsers reject")
    elif "certificate" in missing:
        notes.append(
            "warning: no room for the certificate client: HTTPS uses a self-signed certificate until the first "
            "`bake push USER@ADDRESS PATH`; the machine's console shows USER"
        )
        if asked := wanted.certificate.asked:
            said = " and ".join(f"certificate.{name}" for name in asked)
            notes.append(f"warning: {said} has no effect until then")
    elif wanted.certificate.dns:
        notes.append(f"HTTPS is trusted about a minute after the DNS zone of {', '.join(names)} accepts updates")
    else:
        said = ", ".join(names)
        notes.append(f"HTTPS is trusted about a minute after the DNS records of {said} point to the machine")
    if "exchange" in missing:
        notes.append("no room for the zero-downtime restart: until the first push, new settings restart the app")
    return notes


def _fullest(
    files: list[File], app: App, goal: Target, provider: Provider | None
) -> tuple[cloud_config.Document, tuple[str, ...]]:
    """Return the document with as many of release.EXTRAS as fit, and the names of those that did not fit."""
    dear = release_files.EXTRAS
    binary = provider is not None and not provider.text
    minimum = [*files, *app(())]
    if cloud_config.lower_bound(minimum) > _capacity(provider):
        cloud_config.fit(minimum, goal, _capacity(provider), binary=binary)  # raises the error
    for count in range(len(dear), -1, -1):
        for some in combinations(dear, count):
            try:
                made = cloud_config.fit([*files, *app(some)], goal, _capacity(provider), binary=binary)
            except DocumentError:
                if not some:
                    raise
            else:
                return made, tuple(name for name in dear if name not in some)
    raise AssertionError


def launch(given: Settings, provider: Provider | None, report: Reporter) -> cloud_config.Document:
    """Return a document with only the settings of a launch.

    It excludes the settings in bake.yaml, which the image has already: here they would override later releases.
    """
    if not given.files:
        report.note(
            "no settings are given, so the machine uses those of the image; a launch can set --domain, --email, --env "
            "and --with-secrets"
        )
    made = cloud_config.launch(given.files)
    if (over := made.size - _capacity(provider)) > 0:
        raise DocumentError(
            f"The settings have {made.size:,} bytes, {over:,} more than the provider's limit",
            "Set the larger ones on the machine instead: in /etc/app/env, and secrets with app-secret.",
        )
    _tell(made, provider, report)
    return made


def _source(folder: Path, wanted: Recipe, release: Release, inline: bool, report: Reporter) -> App:
    """Return the function that makes the files of the app in the document, and print where the app comes from."""
    app = wanted.app
    if app and not app.package:
        code = release_source.folder_of(folder, wanted)
        there = frozenset(str(path.relative_to(code)) for path in code.rglob("*"))
        script = release_source.script_of(app)
        return lambda extras: release_source.fetched(release, wanted, there, script, extras)
    found = "" if inline or app else release_source.remote(folder)
    if isinstance(found, str):
        if found:
            report.note(f"the app's files are in the document: {found}")
        return lambda extras: release_source.inline(release, wanted, extras)
    report.note(
        f"the machine fetches the app from {found.url}, commit {found.commit[:12]} (--inline includes the app instead)"
    )
    script = release_source.git_script(found.url, found.commit, found.path)
    return lambda extras: release_source.fetched(release, wanted, found.files, script, extras)


def _capacity(provider: Provider | None) -> int:
    return provider.capacity if provider else EVERYWHERE


def _tell(made: cloud_config.Document, provider: Provider | None, report: Reporter) -> None:
    whose = provider.name if provider else "any provider"
    if provider and provider.limit is None:
        whose += ", which documents no limit of its own"
    report.note(f"{made.size:,} of {_capacity(provider):,} bytes for {whose}; {made.form}")
    if made.form == cloud_config.GZIPPED:
        report.note("the document is already base64: use the field for base64 (in Terraform, user_data_base64)")
    if provider and provider.remark:
        report.note(f"warning: {provider.remark}")
