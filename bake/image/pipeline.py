"""Run the pipeline of a bake: base, bundle, a build, publish.

An image gets its final name only after it has booted and passed every check. Its key in
the cache is the digest of all its inputs. If no input has changed, bake uses the image in
the cache.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from bake.bundle import release_archive
from bake.bundle.app_source import AppSource
from bake.bundle.wheel_builder import LockOptions
from bake.config import contract
from bake.config.sections import BaseImage
from bake.disk import base_disk, cloud_image, partitions, security_updates
from bake.errors import ProgramError
from bake.host import cache, files, paths
from bake.host.progress import Reporter
from bake.host.terminal import printable
from bake.image import build, manifest
from bake.image.build import Build, Inputs
from bake.image.manifest import ImageManifest, ObservedPaths
from bake.vm import qemu

#: The maximum disk space of a bake in bytes: a copy of the base, a raw disk, an image and overlays.
SPACE_NEEDED = 4 * 1000**3


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


def bake(app: AppSource, options: Options, report: Reporter) -> Image:
    """Bake an app into a checked image in `dist/<name>/`, or return the existing one if nothing changed."""
    name = app.recipe.name
    assert name is not None
    with cache.lock(lambda pid: report.note(f"waiting for another bake (pid {pid})")):
        output = paths.outputs(name) / f"{name}.{options.form}"
        with files.disk_faults(output):
            output.parent.mkdir(parents=True, exist_ok=True)
            files.remove(build.log_of(output))
        base_disk.reap()
        with cache.work_folder() as work:
            return _bake(app, output, work, options, report)


def _bake(app: AppSource, output: Path, work: Path, options: Options, report: Reporter) -> Image:
    if options.port:
        qemu.free_port(options.port)
    base = None
    if isinstance(image := app.recipe.base, BaseImage):
        base = base_disk.find(cloud_image.key(image), options.age)
        if base is None:
            with report.phase("base") as phase:
                base = cloud_image.build(image, app.folder, work, phase)
        # The Debian release in the image decides which wheels fit.
        app = replace(app, recipe=app.recipe.model_copy(update={"base": base.release}))
    bundle = release_archive.collect(app, work / "bundle.tar", report, LockOptions(options.age))
    recipe = app.recipe.model_copy(update={"packages": bundle.packages})
    target = recipe.target
    if base is None:
        base = base_disk.find(base_disk.key(target, recipe.debian_packages, recipe.mirror), options.age)
        if base and not security_updates.covers(base.disk.parent, report):
            base = None
    if base:
        entry = Inputs(recipe, target, bundle, base).entry
        if _is_finished(entry):
            cache.touch(entry)
            return _publish(entry, output, app, report, fresh=False)

    files.require_space(work, SPACE_NEEDED)
    if base is None:
        with report.phase("base") as phase:
            base = base_disk.build(target, recipe.debian_packages, recipe.mirror, work, phase)
    inputs = Inputs(recipe, target, bundle, base)
    Build.of(inputs, work, build.log_of(output), report).run(options.port)
    cache.trim()
    return _publish(inputs.entry, output, app, report, fresh=True)


def _is_finished(entry: Path) -> bool:
    """Return whether an entry of the cache has an image with a manifest that can be read."""
    try:
        return bool(ImageManifest.read(entry / manifest.FILE_NAME).sha256)
    except (OSError, ValueError, ProgramError):
        return False


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


def _publish(entry: Path, output: Path, app: AppSource, report: Reporter, *, fresh: bool) -> Image:
    """Copy the image of an app from the cache to its final name, unless it is there."""
    image_manifest = ImageManifest.read(entry / manifest.FILE_NAME)
    image_manifest = replace(image_manifest, commit=app.commit, version=app.version)
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
