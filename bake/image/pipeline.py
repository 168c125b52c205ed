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
from bake.config import debian, loader, recipe, sections
from bake.diagnosis import redaction
from bake.disk import base_disk, cloud_image, partitions
from bake.document import cloud_config, machine_files, release_source
from bake.errors import BakeError, PlaceError, ProgramError, SpaceError
from bake.host import cache, files, paths
from bake.host.progress import Phase, Reporter
from bake.host.terminal import printable
from bake.image import leaks, manifest, packer
from bake.image.manifest import ImageManifest, Observed
from bake.verify import proof
from bake.vm import qemu

#: The maximum disk space of a bake in bytes: a copy of the base, a raw disk, an image and overlays.
SPACE_NEEDED = 4 * 1000**3

#: The note that bake prints if the recipe has `check: {network: on}`.
NETWORK = "the app may use the network while it is baked and checked (check.network)"
#: The text before the JSON of the observed paths in the output of await.sh.
OBSERVED = "bake: observed "
#: The text before a note for people in the output of await.sh.
NOTE = "bake: note "
#: The first bytes of a qcow2 image.
QCOW2 = b"QFI\xfb"
#: Copies the bundle from the seed disk.
SEED = (
    "mkdir -p {folder} /run/app-seed; mount -o ro,noexec LABEL=cidata /run/app-seed;"
    " cp /run/app-seed/bundle.tar {folder}/{digest}.tar; umount /run/app-seed"
)


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
class Baked:
    """The result of Packer: the disk, the paths that bake observed the app write, and notes for people."""

    disk: Path
    observed: Observed | None
    notes: tuple[str, ...]


def read(folder: Path, report: Reporter, options: Options | None = None, base: str | None = None) -> recipe.Recipe:
    """Return an app's recipe, with all keys that bake detects in its folder and the Debian release that suits it.

    `base` overrides the one in bake.yaml. Resolves the requirements. Raises the errors of `debian_choice.complete`.
    """
    options = options or Options()
    wanted = _named(folder, base)
    return debian_choice.complete(release_source.folder_of(folder, wanted), wanted, report, options.age)


def look(folder: Path, report: Reporter, base: str | None = None) -> recipe.Recipe:
    """Return an app's recipe as `read` does, without resolving its requirements. A missing `base` stays missing.

    For machines with a known release, and for launch settings.
    """
    wanted = _named(folder, base)
    return debian_choice.detected(release_source.folder_of(folder, wanted), wanted, report)


def _named(folder: Path, base: str | None) -> recipe.Recipe:
    wanted = loader.read(folder)
    return wanted.model_copy(update={"base": base}) if base else wanted


def bake(folder: Path, wanted: recipe.Recipe, options: Options, report: Reporter) -> Image:
    """Bake an app's folder into a checked image in `dist/<name>/`, or return the existing one if nothing changed."""
    assert wanted.name is not None
    with cache.only_one(lambda pid: report.note(f"waiting for another bake (pid {pid})")):
        final = paths.outputs(wanted.name) / f"{wanted.name}.{options.form}"
        with files.disk_faults(final):
            final.parent.mkdir(parents=True, exist_ok=True)
            files.remove(log_of(final))
        base_disk.reap()
        with cache.work_folder() as work:
            return _bake(folder, wanted, final, work, options, report)


def _bake(folder: Path, wanted: recipe.Recipe, final: Path, work: Path, options: Options, report: Reporter) -> Image:
    if options.port:
        qemu.free_port(options.port)
    if isinstance(wanted.base, sections.BaseImage):
        ground = base_disk.find(cloud_image.key(wanted.base), options.age)
        if ground is None:
            # The Debian release in the image decides which wheels fit.
            with report.phase("base") as phase:
                ground = cloud_image.build(wanted.base, folder, work, phase)
        goal = debian.TARGETS[ground.release]
    else:
        goal = wanted.target
        ground = base_disk.find(base_disk.key(goal, wanted.debian, wanted.mirror), options.age)
    code = release_source.folder_of(folder, wanted)
    parcel = release_archive.collect(code, wanted, work / "bundle.tar", report, options.age)
    origin = origin_of(folder, code, wanted)
    if ground:
        entry = paths.cache() / "image" / _key(wanted, parcel.sha256, ground)
        if (entry / manifest.FILE_NAME).is_file():
            cache.touch(entry)
            return _publish(entry, final, origin, report, fresh=False)

    files.require_space(work, SPACE_NEEDED)
    if ground is None:
        with report.phase("base") as phase:
            ground = base_disk.build(goal, wanted.debian, wanted.mirror, work, phase)
    accel = qemu.accelerator(ground.kernel)
    report.note(
        f"machines run with {'KVM' if accel == 'kvm' else 'emulation, which is slow (this host cannot run KVM guests)'}"
    )

    canary = f"canary-{secrets.token_hex(16)}"
    random = random_of(wanted)
    network = cloud_config.Network.OPEN if wanted.check.network else cloud_config.Network.CLOSED
    settings = cloud_config.CheckSettings({**wanted.check.env, **random}, network, wanted.writable.observe)
    if wanted.check.network:
        report.note(NETWORK)
    log = log_of(final)
    with report.phase("bake") as phase, keeping_log(log, settings):
        baked = _run_packer(wanted, goal, ground, parcel, canary, settings, accel, work, phase)
    with report.phase("seal") as phase:
        raw, sealed, image = work / "baked.raw", work / "sealed.raw", work / "image.qcow2"
        partitions.to_raw(baked.disk, raw)
        baked.disk.unlink()
        partitions.copy_used_blocks(raw, sealed)
        partitions.extract(sealed, "/var/lib/dpkg/status", work / "status")
        packages = base_disk.installed((work / "status").read_text())
        raw.unlink()
        phase.progress(0.5, "looking for residue")
        planted = {f"stand-in for {name}": value for name, value in random.items()}
        planted |= {"canary": canary, "build key": qemu.public_key(work / "bake-key").split()[1]}
        lent = {f"value of check.env's {name}": value for name, value in wanted.check.env.items()}
        leaks.require_none(sealed, planted, lent, _inputs(ground, parcel, work))
        phase.progress(0.7, "compressing")
        partitions.to_qcow2(sealed, image, compress=True)
    with report.phase("proof") as phase, keeping_log(log, settings):
        vm = qemu.VmOptions(accel, port=options.port)
        proved = proof.prove(image, sealed, work / "proof", settings, vm, phase)
    sealed.unlink()

    key = _key(wanted, parcel.sha256, ground)
    with files.whole(paths.cache() / "image" / key) as entry:
        entry.mkdir()
        shutil.move(image, entry / "image.qcow2")
        facts = ImageManifest(
            name=wanted.name or "", sha256=files.file_digest(entry / "image.qcow2"),
            size=(entry / "image.qcow2").stat().st_size,
            seconds={name: round(value, 1) for name, value in report.seconds.items()}, checks=proved.checks,
            app=proved.app, pages=tuple(proved.pages.splitlines()),
            made=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), base_date=ground.date, release=goal.name,
            bundle=parcel.sha256, document=files.digest(document(goal, parcel).text),
            health=wanted.check.health, domains=wanted.domains, keep=wanted.certificate.keep,
            secrets=wanted.secrets, packages=packages, observed=baked.observed, notes=baked.notes,
        )  # fmt: skip
        (entry / manifest.FILE_NAME).write_text(facts.to_json())
    cache.trim()
    return _publish(paths.cache() / "image" / key, final, origin, report, fresh=True)


def _inputs(ground: base_disk.Base, parcel: release_archive.Bundle, work: Path) -> Iterator[Path]:
    """Yield the inputs of an image, which may contain a value by chance: the bundle, and the base as a raw disk."""
    yield parcel.path
    raw = work / "base.raw"
    partitions.to_raw(ground.disk, raw)
    yield raw


def _key(wanted: recipe.Recipe, bundle_digest: str, ground: base_disk.Base) -> str:
    """Return the digest of all inputs of an image and its proof, including the files of bake."""
    own = {
        name: files.tree_digest(paths.tree() / name)
        for name in ("cloud-init", "packer", "tests/machine", "tests/proof")
    }
    own["bake"] = files.tree_digest(Path(__file__).parents[1])
    check = wanted.check.model_dump(mode="json")
    return files.digest(
        {
            "bundle": bundle_digest, "check": check, "observe": wanted.writable.observe, "base": ground.key,
            "made": ground.made, "own": own,
        }
    )  # fmt: skip


def random_of(wanted: recipe.Recipe) -> dict[str, str]:
    """Return a random value for each secret without a value in the recipe's check.env."""
    return {name: secrets.token_urlsafe(32) for name in wanted.secrets if name not in wanted.check.env}


def document(goal: debian.Target, parcel: release_archive.Bundle, early: tuple[str, ...] = ()) -> cloud_config.Document:
    """Return the document for a bake. `early` has the commands that only a bake needs."""
    return cloud_config.plain([*machine_files.files(goal), *release_source.bundled(goal, parcel.sha256)], goal, early)


def origin_of(folder: Path, code: Path, wanted: recipe.Recipe) -> Origin:
    """Return the commit and the version of an app, each "" if it is unknown."""
    found = project_metadata.find(code)
    version = found.version if found else (wanted.package or "").partition("==")[2]
    return Origin(release_source.commit_of(folder, wanted) or "", version or "")


def _run_packer(
    wanted: recipe.Recipe,
    goal: debian.Target,
    ground: base_disk.Base,
    parcel: release_archive.Bundle,
    canary: str,
    settings: cloud_config.CheckSettings,
    accel: str,
    work: Path,
    phase: Phase,
) -> Baked:
    key = work / "bake-key"
    public = qemu.make_key(key, "bake")
    early = (SEED.format(folder=release_source.INCOMING, digest=parcel.sha256), cloud_config.bake_command(settings))
    (work / "user-data").write_text(document(goal, parcel, early).text)
    (work / "meta-data").write_text(cloud_config.meta_data("bake", wanted.name or "app", [public]))

    observed: list[Observed] = []
    notes: dict[str, None] = {}

    def event(heard: packer.Event) -> None:
        step = packer.milestone(heard)
        if step:
            phase.progress(*step)
        _, found, text = heard.text.partition(OBSERVED)
        if found:
            observed.append(Observed.of(json.loads(text)))
        _, found, text = heard.text.partition(NOTE)
        if found:
            notes[text.strip()] = None

    output = work / "output"
    image = packer.build(
        "qemu.pkr.hcl",
        {
            "base_disk": str(ground.disk), "user_data": str(work / "user-data"), "meta_data": str(work / "meta-data"),
            "bundle": str(parcel.path), "private_key": str(key), "output": str(output), "canary": canary,
            "accelerator": accel, "cpus": min(os.cpu_count() or 1, 4),
        },
        output / "disk.qcow2", work, event,
    )  # fmt: skip
    return Baked(image, observed[-1] if observed else None, tuple(notes))


def log_of(final: Path) -> Path:
    """Return the path for the log of a failed bake, beside the output."""
    return final.with_suffix(".log")


@contextmanager
def keeping_log(path: Path, settings: cloud_config.CheckSettings) -> Iterator[None]:
    """Write the log of an error in the block to `path`, and name that file in the error.

    Redact the values of `settings` in the file and in the error's details.
    """
    try:
        yield
    except BakeError as error:
        error.details = redaction.redacted(error.details, settings.env)
        # If the disk is full, still report the error.
        with suppress(PlaceError, SpaceError):
            if error.log:
                files.write(path, redaction.redacted(printable(error.log), settings.env) + "\n")
                error.details += f"\n--- complete log: {path}"
        raise


def _observed(found: Observed) -> Iterator[str]:
    """Yield a line for each path that bake observed the app write, and how the machine treats it."""
    for path, is_folder in found.data.items():
        yield f"writable: {printable(path)}{'/' * is_folder} is kept in /var/lib/app"
    for path in found.fresh:
        yield f"writable: {printable(path)} resets with each release; to keep it, add it to `writable`"
    for path in found.refused:
        yield f"warning: the app changed {printable(path)}; it cannot do so on the machine, where code is read-only"


def _publish(entry: Path, final: Path, origin: Origin, report: Reporter, *, fresh: bool) -> Image:
    """Copy the image from the cache to its final name, unless it is there. `origin` is the app's commit and version."""
    facts = ImageManifest.read(entry / manifest.FILE_NAME)
    facts = replace(facts, commit=origin.commit, version=origin.version)
    for line in (*_observed(facts.observed or Observed()), *map(printable, (*facts.notes, *facts.pages))):
        report.note(line)
    source = entry / "image.qcow2"
    raw = final.suffix == ".raw"
    if raw or not final.is_file() or final.stat().st_size != facts.size or files.file_digest(final) != facts.sha256:
        if not fresh and files.file_digest(source) != facts.sha256:
            files.remove(entry)
            raise ProgramError(
                f"The image {source} in the cache was changed, so bake removed it", "Run the same command again."
            )
        if raw:
            with files.whole(final) as partial:
                partitions.to_raw(source, partial)
            facts = replace(facts, size=final.stat().st_size, sha256=files.file_digest(final))
        else:
            files.copy(source, final)
    files.write(manifest.path_of(final), facts.to_json())
    return Image(final, facts.sha256, facts.size, dict(facts.seconds), facts.checks, facts.app, facts.base_date, fresh)
