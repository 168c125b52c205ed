"""Run the pipeline of a bake: bundle, base, Packer, seal, convert, proof, publish.

An image gets its final name only after it has booted and passed every check. Its key in
the cache is the digest of all its inputs. If no input has changed, bake uses the image in
the cache.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from bake.app import project_metadata
from bake.bundle import debian_choice, release_archive
from bake.config import contract, loader
from bake.config.debian import TARGETS, Target
from bake.config.recipe import Recipe
from bake.config.sections import BaseImage
from bake.diagnosis import redaction
from bake.disk import base_disk, cloud_image, partitions
from bake.document import cloud_config, machine_files, release_source
from bake.errors import BakeError, PlaceError, ProgramError, SpaceError
from bake.host import cache, files, paths
from bake.host.progress import Phase, Reporter
from bake.host.templates import render
from bake.host.terminal import printable
from bake.image import leaks, manifest, packer
from bake.image.manifest import ImageManifest, ObservedPaths
from bake.verify import proof
from bake.verify.proof import Candidate
from bake.vm import qemu

#: The maximum disk space of a bake in bytes: a copy of the base, a raw disk, an image and overlays.
SPACE_NEEDED = 4 * 1000**3

#: The note that bake prints if the recipe has `check: {network: on}`.
NETWORK_NOTE = "the app may use the network while it is baked and checked (check.network)"
#: The text before the JSON of the observed paths in the output of await.sh.
OBSERVED_PREFIX = "bake: observed "
#: The text before a note for people in the output of await.sh.
NOTE_PREFIX = "bake: note "
#: The first bytes of a qcow2 image.
QCOW2 = b"QFI\xfb"


@dataclass(frozen=True)
class Options:
    """Options of a bake. `age` is the age that the base and the lock may have.

    `port` is the SSH port during the proof. `form` is the image format: qcow2 or raw.
    """

    age: cache.Age = cache.A_WEEK
    port: int | None = None
    form: str = "qcow2"


@dataclass(frozen=True)
class Image:
    """A finished image. `seconds` has the time of each phase of the bake that made it."""

    path: Path
    sha256: str
    size: int
    seconds: dict[str, float]
    checks: int
    app: str
    base_date: str
    fresh: bool


@dataclass(frozen=True)
class Origin:
    """The commit and the version of an app, each "" if it is unknown."""

    commit: str = ""
    version: str = ""


@dataclass(frozen=True)
class PackerResult:
    """The result of Packer: the disk, the paths that bake observed the app write, and notes for people."""

    disk: Path
    observed: ObservedPaths | None
    notes: tuple[str, ...]


def read(folder: Path, report: Reporter, options: Options | None = None, base: str | None = None) -> Recipe:
    """Return an app's recipe, with all keys that bake detects in its folder and the Debian release that suits it.

    `base` overrides the one in bake.yaml. Resolves the requirements. Raises the errors of `debian_choice.complete`.
    """
    options = options or Options()
    recipe = _recipe(folder, base)
    return debian_choice.complete(release_source.folder_of(folder, recipe), recipe, report, options.age)


def read_unresolved(folder: Path, report: Reporter, base: str | None = None) -> Recipe:
    """Return an app's recipe as `read` does, without resolving its requirements. A missing `base` stays missing.

    For machines with a known release, and for launch settings.
    """
    recipe = _recipe(folder, base)
    return debian_choice.complete_without_base(release_source.folder_of(folder, recipe), recipe, report)


def _recipe(folder: Path, base: str | None) -> Recipe:
    """Return the recipe in bake.yaml, with `base` if it is set."""
    recipe = loader.read(folder)
    return recipe.model_copy(update={"base": base}) if base else recipe


def bake(folder: Path, recipe: Recipe, options: Options, report: Reporter) -> Image:
    """Bake an app's folder into a checked image in `dist/<name>/`, or return the existing one if nothing changed."""
    assert recipe.name is not None
    with cache.lock(lambda pid: report.note(f"waiting for another bake (pid {pid})")):
        output = paths.outputs(recipe.name) / f"{recipe.name}.{options.form}"
        with files.disk_faults(output):
            output.parent.mkdir(parents=True, exist_ok=True)
            files.remove(log_of(output))
        base_disk.reap()
        with cache.work_folder() as work:
            return _bake(folder, recipe, output, work, options, report)


def _bake(folder: Path, recipe: Recipe, output: Path, work: Path, options: Options, report: Reporter) -> Image:
    if options.port:
        qemu.free_port(options.port)
    if isinstance(recipe.base, BaseImage):
        base = base_disk.find(cloud_image.key(recipe.base), options.age)
        if base is None:
            # The Debian release in the image decides which wheels fit.
            with report.phase("base") as phase:
                base = cloud_image.build(recipe.base, folder, work, phase)
        target = TARGETS[base.release]
    else:
        target = recipe.target
        base = base_disk.find(base_disk.key(target, recipe.debian_packages, recipe.mirror), options.age)
    source = release_source.folder_of(folder, recipe)
    bundle = release_archive.collect(source, recipe, work / "bundle.tar", report, options.age)
    origin = origin_of(folder, source, recipe)
    if base:
        entry = paths.cache() / "image" / _key(recipe, bundle.sha256, base)
        if (entry / manifest.FILE_NAME).is_file():
            cache.touch(entry)
            return _publish(entry, output, origin, report, fresh=False)

    files.require_space(work, SPACE_NEEDED)
    if base is None:
        with report.phase("base") as phase:
            base = base_disk.build(target, recipe.debian_packages, recipe.mirror, work, phase)
    accel = qemu.accelerator(base.kernel)
    report.note(
        f"machines run with {'KVM' if accel == 'kvm' else 'emulation, which is slow (this host cannot run KVM guests)'}"
    )

    canary = f"canary-{secrets.token_hex(16)}"
    secret_values = random_secrets(recipe)
    network = cloud_config.Network.OPEN if recipe.check.network else cloud_config.Network.CLOSED
    settings = cloud_config.CheckSettings({**recipe.check.env, **secret_values}, network, recipe.writable.observe)
    if recipe.check.network:
        report.note(NETWORK_NOTE)
    log = log_of(output)
    with report.phase("bake") as phase, keeping_log(log, settings):
        packer_result = _run_packer(recipe, target, base, bundle, canary, settings, accel, work, phase)
    with report.phase("seal") as phase:
        raw_disk, sealed_disk, image = work / "baked.raw", work / "sealed.raw", work / "image.qcow2"
        partitions.to_raw(packer_result.disk, raw_disk)
        packer_result.disk.unlink()
        partitions.copy_used_blocks(raw_disk, sealed_disk)
        partitions.extract(sealed_disk, "/var/lib/dpkg/status", work / "status")
        packages = base_disk.package_versions((work / "status").read_text())
        raw_disk.unlink()
        phase.progress(0.5, "looking for residue")
        random_values = {f"stand-in for {name}": value for name, value in secret_values.items()}
        random_values |= {"canary": canary, "build key": qemu.public_key(work / "bake-key").split()[1]}
        chosen_values = {f"value of check.env's {name}": value for name, value in recipe.check.env.items()}
        leaks.require_none(sealed_disk, random_values, chosen_values, _inputs(base, bundle, work))
        phase.progress(0.7, "compressing")
        partitions.to_qcow2(sealed_disk, image, compress=True)
    with report.phase("proof") as phase, keeping_log(log, settings):
        vm = qemu.VmOptions(accel, port=options.port)
        proof_result = proof.prove(Candidate(image, sealed_disk), work / "proof", settings, vm, phase)
    sealed_disk.unlink()

    key = _key(recipe, bundle.sha256, base)
    with files.atomic_output(paths.cache() / "image" / key) as entry:
        entry.mkdir()
        shutil.move(image, entry / "image.qcow2")
        image_manifest = ImageManifest(
            name=recipe.name or "", sha256=files.file_digest(entry / "image.qcow2"),
            size=(entry / "image.qcow2").stat().st_size,
            seconds={name: round(value, 1) for name, value in report.seconds.items()}, checks=proof_result.checks,
            app=proof_result.app, pages=tuple(proof_result.pages.splitlines()),
            made=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), base_date=base.date, release=target.name,
            bundle=bundle.sha256, document=files.digest(document(target, bundle).text),
            health=recipe.check.health, domains=recipe.domains, keep=recipe.certificate.keep,
            secrets=recipe.secrets, packages=packages, observed=packer_result.observed, notes=packer_result.notes,
        )  # fmt: skip
        (entry / manifest.FILE_NAME).write_text(image_manifest.to_json())
    cache.trim()
    return _publish(paths.cache() / "image" / key, output, origin, report, fresh=True)


def _inputs(base: base_disk.Base, bundle: release_archive.Bundle, work: Path) -> Iterator[Path]:
    """Yield the inputs of an image, which may contain a value by chance: the bundle, and the base as a raw disk."""
    yield bundle.path
    raw = work / "base.raw"
    partitions.to_raw(base.disk, raw)
    yield raw


def _key(recipe: Recipe, bundle_digest: str, base: base_disk.Base) -> str:
    """Return the digest of all inputs of an image and its proof, including the files of bake."""
    digests = {
        name: files.tree_digest(paths.tree() / name)
        for name in ("cloud-init", "packer", "tests/machine", "tests/proof")
    }
    digests["bake"] = files.tree_digest(Path(__file__).parents[1])
    check = recipe.check.model_dump(mode="json")
    return files.digest(
        {
            "bundle": bundle_digest, "check": check, "observe": recipe.writable.observe, "base": base.key,
            "made": base.created, "own": digests,
        }
    )  # fmt: skip


def random_secrets(recipe: Recipe) -> dict[str, str]:
    """Return a random value for each secret without a value in the recipe's check.env."""
    return {name: secrets.token_urlsafe(32) for name in recipe.secrets if name not in recipe.check.env}


def document(target: Target, bundle: release_archive.Bundle, commands: tuple[str, ...] = ()) -> cloud_config.Document:
    """Return the document for a bake. `commands` are those that only a bake needs."""
    document_files = [*machine_files.files(target), *release_source.bundled(target, bundle.sha256)]
    return cloud_config.plain(document_files, target, commands)


def origin_of(folder: Path, source: Path, recipe: Recipe) -> Origin:
    """Return the commit and the version of an app, each "" if it is unknown."""
    project = project_metadata.find(source)
    version = project.version if project else (recipe.package or "").partition("==")[2]
    return Origin(release_source.commit_of(folder, recipe) or "", version or "")


def _run_packer(
    recipe: Recipe,
    target: Target,
    base: base_disk.Base,
    bundle: release_archive.Bundle,
    canary: str,
    settings: cloud_config.CheckSettings,
    accel: str,
    work: Path,
    phase: Phase,
) -> PackerResult:
    key = work / "bake-key"
    public_key = qemu.make_key(key, "bake")
    copy_bundle = render("check/copy-bundle.sh.j2", folder=contract.INCOMING, digest=bundle.sha256)
    commands = (copy_bundle, cloud_config.bake_command(settings))
    (work / "user-data").write_text(document(target, bundle, commands).text)
    (work / "meta-data").write_text(cloud_config.meta_data("bake", recipe.name or "app", [public_key]))

    observed: list[ObservedPaths] = []
    notes: dict[str, None] = {}

    def on_event(event: packer.Event) -> None:
        step = packer.milestone(event)
        if step:
            phase.progress(*step)
        _, marker, text = event.text.partition(OBSERVED_PREFIX)
        if marker:
            observed.append(ObservedPaths.of(json.loads(text)))
        _, marker, text = event.text.partition(NOTE_PREFIX)
        if marker:
            notes[text.strip()] = None

    packer_output = work / "output"
    image = packer.build(
        "qemu.pkr.hcl",
        {
            "base_disk": str(base.disk), "user_data": str(work / "user-data"), "meta_data": str(work / "meta-data"),
            "bundle": str(bundle.path), "private_key": str(key), "output": str(packer_output), "canary": canary,
            "accelerator": accel, "cpus": min(os.cpu_count() or 1, 4),
        },
        packer_output / "disk.qcow2", work, on_event,
    )  # fmt: skip
    return PackerResult(image, observed[-1] if observed else None, tuple(notes))


def log_of(output: Path) -> Path:
    """Return the path for the log of a failed bake, beside the output."""
    return output.with_suffix(".log")


@contextmanager
def keeping_log(path: Path, settings: cloud_config.CheckSettings) -> Iterator[None]:
    """Write the log of an error in the block to `path`, and name that file in the error.

    Redact the values of `settings` in the file and in the error's details.
    """
    try:
        yield
    except BakeError as error:
        error.details = redaction.redact(error.details, settings.env)
        # If the disk is full, still report the error.
        with suppress(PlaceError, SpaceError):
            if error.log:
                files.write(path, redaction.redact(printable(error.log), settings.env) + "\n")
                error.details += f"\n--- complete log: {path}"
        raise


def _write_notes(observed: ObservedPaths) -> Iterator[str]:
    """Yield a line for each path that bake observed the app write, and how the machine treats it."""
    for path, is_folder in observed.data.items():
        yield f"writable: {printable(path)}{'/' * is_folder} is kept in {contract.DATA}"
    for path in observed.fresh:
        yield f"writable: {printable(path)} resets with each release; to keep it, add it to `writable`"
    for path in observed.refused:
        yield f"warning: the app changed {printable(path)}; it cannot do so on the machine, where code is read-only"


def _is_copy(path: Path, image_manifest: ImageManifest) -> bool:
    """Return whether a file exists and is the image of a manifest. Compare the sizes first, which is fast."""
    return (
        path.is_file()
        and path.stat().st_size == image_manifest.size
        and files.file_digest(path) == image_manifest.sha256
    )


def _publish(entry: Path, output: Path, origin: Origin, report: Reporter, *, fresh: bool) -> Image:
    """Copy the image from the cache to its final name, unless it is there. `origin` is the app's commit and version."""
    image_manifest = ImageManifest.read(entry / manifest.FILE_NAME)
    image_manifest = replace(image_manifest, commit=origin.commit, version=origin.version)
    for line in _write_notes(image_manifest.observed or ObservedPaths()):
        report.note(line)
    for line in (*image_manifest.notes, *image_manifest.pages):
        report.note(printable(line))
    source = entry / "image.qcow2"
    is_raw = output.suffix == ".raw"
    if is_raw or not _is_copy(output, image_manifest):
        if not fresh and files.file_digest(source) != image_manifest.sha256:
            files.remove(entry)
            raise ProgramError(
                f"The image {source} in the cache was changed, so bake removed it", "Run the same command again."
            )
        if is_raw:
            with files.atomic_output(output) as partial:
                partitions.to_raw(source, partial)
            image_manifest = replace(image_manifest, size=output.stat().st_size, sha256=files.file_digest(output))
        else:
            files.copy(source, output)
    files.write(manifest.path_of(output), image_manifest.to_json())
    return Image(
        output, image_manifest.sha256, image_manifest.size, dict(image_manifest.seconds), image_manifest.checks,
        image_manifest.app, image_manifest.base_date, fresh,
    )  # fmt: skip
