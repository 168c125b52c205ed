"""Render the document for a provider's user-data field, or only the settings for a machine of an image."""

from __future__ import annotations

from collections.abc import Callable

from bake.bundle import release_archive, release_files
from bake.bundle.app_source import AppSource
from bake.bundle.release import Release
from bake.bundle.wheel_builder import LockOptions
from bake.config import contract
from bake.config.debian import TARGETS, Target
from bake.config.providers import SMALLEST_LIMIT, Provider
from bake.config.recipe import Recipe
from bake.document import cloud_config, machine_files, release_source
from bake.document.launch_settings import Settings
from bake.document.machine_files import File
from bake.errors import DocumentError
from bake.host import cache
from bake.host.progress import Reporter
from bake.image import manifest

#: Returns the files of the app in a document. Its argument has the names of the release_files.EXTRAS to include.
AppFiles = Callable[[tuple[str, ...]], list[File]]
#: The note about a release that no bake on this computer has checked.
UNTESTED_NOTE = (
    "this release was not tested here: `bake image {folder}` boots it, requests its pages and checks the machine"
)


def machine_document(
    app: AppSource, settings: Settings, provider: Provider | None, inline: bool, report: Reporter
) -> cloud_config.Document:
    """Return a document with a machine and its app for a provider. Raises DocumentError if it exceeds the limit."""
    recipe, target = app.recipe, app.recipe.target
    if target.has_interpreter:
        raise DocumentError(
            f"`python: {recipe.python}` needs an interpreter, which is too large for a document",
            f"Make an image with `bake image {app.folder}`, or remove `python` from bake.yaml.",
        )
    with cache.work_folder() as work:
        bundle = release_archive.collect(app, work / "bundle.tar", report, LockOptions(builds=False))
        app_files = _app_files(app, bundle.release, inline, report)
        document, missing_extras = _fullest_document(
            [*machine_files.files(target), *settings.files], app_files, release_files.extras(recipe), target, provider
        )
    _report_size(document, provider, report)
    proof = manifest.proof_of(bundle.sha256)
    untested = UNTESTED_NOTE.format(folder=app.folder)
    report.note(f"this release was baked and checked here: {proof}" if proof else untested)
    if provider and target.name in provider.unknown_to:
        alternative = next(name for name in TARGETS if name not in provider.unknown_to)
        report.note(
            f"warning: the cloud-init of {target.name} does not support {provider.name}: "
            f"use --release {alternative}, or `base: {alternative}` in bake.yaml"
        )
    for note in _notes(missing_extras, settings.domains or recipe.domains, recipe):
        report.note(note)
    return document


def _notes(missing_extras: tuple[str, ...], names: tuple[str, ...], recipe: Recipe) -> list[str]:
    """Return notes about the machine: the state of HTTPS, and features that did not fit."""
    notes = []
    if not names:
        notes.append("no domain is configured: HTTPS uses a self-signed certificate, which browsers reject")
    elif "certificate" in missing_extras:
        notes.append(
            "warning: no room for the certificate client: HTTPS uses a self-signed certificate until the first "
            "`bake push USER@ADDRESS PATH`; the machine's console shows USER"
        )
        if options := recipe.certificate.options:
            keys = " and ".join(f"certificate.{name}" for name in options)
            notes.append(f"warning: {keys} has no effect until then")
    elif recipe.certificate.dns:
        notes.append(f"HTTPS is trusted about a minute after the DNS zone of {', '.join(names)} accepts updates")
    else:
        domains = ", ".join(names)
        notes.append(f"HTTPS is trusted about a minute after the DNS records of {domains} point to the machine")
    if "updates" in missing_extras:
        notes.append(
            "no room for the restarts after updates: until the first push, the machine reboots at 03:30 after updates"
        )
    if "ssh-limit" in missing_extras:
        notes.append(
            "no room for the limit of SSH connections: until the first push, or until a user has an SSH key, strangers "
            "may try passwords without end"
        )
    if "request-limit" in missing_extras:
        notes.append(
            "no room for the exact `limits.request`: until the first push, a request that takes longer goes on if its "
            "worker answers others"
        )
    if "zero-downtime" in missing_extras:
        notes.append("no room for the zero-downtime restart: until the first push, new settings restart the app")
    return notes


def _fullest_document(
    files: list[File], app_files: AppFiles, extras: tuple[str, ...], target: Target, provider: Provider | None
) -> tuple[cloud_config.Document, tuple[str, ...]]:
    """Return the document with those of `extras` that fit, and the names of those that did not fit.

    The most important one comes first: it is worth more than all others. Raises DocumentError if not even the document
    without them fits.
    """
    capacity, binary = _capacity(provider), provider is not None and not provider.text
    included: tuple[str, ...] = ()
    document = cloud_config.fit([*files, *app_files(included)], target, capacity, binary=binary)
    for name in extras:
        larger_files = [*files, *app_files((*included, name))]
        if larger := cloud_config.fitting(larger_files, target, capacity, binary=binary):
            document, included = larger, (*included, name)
    return document, tuple(name for name in extras if name not in included)


def launch_document(settings: Settings, provider: Provider | None, report: Reporter) -> cloud_config.Document:
    """Return a document with only the settings of a launch.

    It excludes the settings in bake.yaml, which the image has already: here they would override later releases.
    """
    if not settings.files:
        report.note(
            "no settings are given, so the machine uses those of the image; a launch can set --domain, --email, --env "
            "and --with-secrets"
        )
    document = cloud_config.launch(settings.files)
    if (excess := document.size - _capacity(provider)) > 0:
        raise DocumentError(
            f"The settings have {document.size:,} bytes, {excess:,} more than the provider's limit",
            f"Set the larger ones on the machine instead: in {contract.ENV}, and secrets with app-secret.",
        )
    _report_size(document, provider, report)
    return document


def _app_files(app: AppSource, release: Release, inline: bool, report: Reporter) -> AppFiles:
    """Return the function that makes the files of the app in the document, and print where the app comes from."""
    recipe, named = app.recipe, app.recipe.app
    if named and not named.package:
        fetched_paths = frozenset(str(path.relative_to(app.files)) for path in app.files.rglob("*"))
        script = release_source.script_of(named)
        return lambda extras: release_source.fetched(release, recipe, fetched_paths, script, extras)
    remote = "" if inline or named else release_source.remote(app.folder)
    if isinstance(remote, str):
        if remote:
            report.note(f"the app's files are in the document: {remote}")
        return lambda extras: release_source.inline(release, recipe, extras)
    report.note(
        f"the machine fetches the app from {remote.url}, commit {remote.commit[:12]} "
        "(--inline includes the app instead)"
    )
    script = release_source.git_script(remote.url, remote.commit, remote.path)
    return lambda extras: release_source.fetched(release, recipe, remote.files, script, extras)


def _capacity(provider: Provider | None) -> int:
    return provider.capacity if provider else SMALLEST_LIMIT


def _report_size(document: cloud_config.Document, provider: Provider | None, report: Reporter) -> None:
    limit_name = provider.name if provider else "any provider"
    if provider and provider.limit is None:
        limit_name += ", which documents no limit of its own"
    report.note(f"{document.size:,} of {_capacity(provider):,} bytes for {limit_name}; {document.form}")
    if document.form == cloud_config.GZIPPED:
        report.note("the document is already base64: use the field for base64 (in Terraform, user_data_base64)")
    if provider and provider.remark:
        report.note(f"warning: {provider.remark}")
