"""The pipeline: bundle, base, Packer, seal, convert, proof, publish.

An image takes its final name only after it has booted and every check has passed. What
went into it is digested to a key; while nothing of it changes, the image in the cache is
the answer.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bake.app import project_metadata
from bake.bundle import debian_choice, release_archive
from bake.config import debian, recipe
from bake.diagnosis import diagnosis
from bake.disk import base_disk, cloud_image, partitions
from bake.document import cloud_config, machine_files, release_source
from bake.errors import BakeError, PlaceError, ProgramError, RecipeError, SpaceError
from bake.host import cache, paths
from bake.host.progress import Phase, Reporter
from bake.host.terminal import printable
from bake.image import leaks, packer
from bake.verify import proof
from bake.vm import qemu

#: Bytes that a bake writes at its largest: a copy of the base, a raw disk, an image, overlays.
SPACE_NEEDED = 4 * 1000**3

#: What a person hears where the recipe says `check: {network: on}`.
NETWORK = "the app may use the network while it is baked and checked (check.network)"
#: What await.sh prints before the paths that the app was seen to write, as JSON.
OBSERVED = "bake: observed "
#: What await.sh prints before a line that a person should read.
NOTE = "bake: note "
#: Brings the bundle in from the seed disk.
SEED = (
    "mkdir -p {folder} /run/app-seed; mount -o ro,noexec LABEL=cidata /run/app-seed;"
    " cp /run/app-seed/bundle.tar {folder}/{digest}.tar; umount /run/app-seed"
)


@dataclass(frozen=True)
class Options:
    """`age` is that of the base and of the lock; `port` is SSH's during the proof.

    `form` is that of the image: qcow2, or raw.
    """

    age: cache.Age = cache.A_WEEK
    port: int | None = None
    form: str = "qcow2"


@dataclass(frozen=True)
class Image:
    """A finished image. `seconds` of each phase are those of the bake that made it."""

    path: Path
    sha256: str
    size: int
    seconds: dict[str, float]
    checks: int
    app: str
    base_date: str
    fresh: bool


@dataclass(frozen=True)
class Baked:
    """What Packer leaves: the disk, the paths that the app was seen to write, and lines that a person should read."""

    disk: Path
    observed: dict[str, Any]
    notes: tuple[str, ...]


def read(folder: Path, report: Reporter, options: Options | None = None, base: str | None = None) -> recipe.Recipe:
    """Return an app's recipe, completed by what is found in its folder, with the Debian release that suits it.

    `base` replaces that of bake.yaml. Its requirements are resolved. Raises what `debian_choice.complete` raises.
    """
    options = options or Options()
    wanted = _named(folder, base)
    return debian_choice.complete(release_source.folder_of(folder, wanted), wanted, report, options.age)


def look(folder: Path, report: Reporter, base: str | None = None) -> recipe.Recipe:
    """Return an app's recipe as `read` does, without resolving its requirements: a missing `base` stays so.

    For machines whose release is known by other means, and for settings alone.
    """
    wanted = _named(folder, base)
    return debian_choice.detected(release_source.folder_of(folder, wanted), wanted, report)


def _named(folder: Path, base: str | None) -> recipe.Recipe:
    wanted = recipe.read(folder)
    return wanted.model_copy(update={"base": base}) if base else wanted


def bake(folder: Path, wanted: recipe.Recipe, options: Options, report: Reporter) -> Image:
    """Bake an app's folder into an image in `dist/<name>/`, proved, or answer with the one that is there."""
    assert wanted.name is not None
    with cache.only_one(lambda pid: report.note(f"another bake is at work (pid {pid}); waiting for it")):
        final = paths.outputs(wanted.name) / f"{wanted.name}.{options.form}"
        with cache.disk_faults(final):
            final.parent.mkdir(parents=True, exist_ok=True)
            cache.remove(log_of(final))
        base_disk.reap()
        with cache.work_folder() as work:
            return _bake(folder, wanted, final, work, options, report)


def _bake(folder: Path, wanted: recipe.Recipe, final: Path, work: Path, options: Options, report: Reporter) -> Image:
    if options.port:
        qemu.free_port(options.port)
    if isinstance(wanted.base, recipe.BaseImage):
        ground = base_disk.find(cloud_image.key(wanted.base), options.age)
        if ground is None:
            # What its release is, and so which wheels fit, has to be seen first.
            with report.phase("base") as phase:
                ground = cloud_image.build(wanted.base, folder, work, phase)
        goal = debian.TARGETS[ground.release]
    else:
        goal = wanted.target
        ground = base_disk.find(base_disk.key(goal, wanted.debian, wanted.mirror), options.age)
    code = release_source.folder_of(folder, wanted)
    parcel = release_archive.collect(code, wanted, goal, work / "bundle.tar", report, options.age)
    origin = origin_of(folder, code, wanted)
    if ground:
        entry = paths.cache() / "image" / _key(wanted, parcel.sha256, ground)
        if (entry / "image.json").is_file():
            cache.touch(entry)
            return _publish(entry, final, origin, report, fresh=False)

    cache.require_space(work, SPACE_NEEDED)
    if ground is None:
        with report.phase("base") as phase:
            ground = base_disk.build(goal, wanted.debian, wanted.mirror, work, phase)
    accel = qemu.accelerator(ground.kernel)
    report.note(f"machines run under {'KVM' if accel == 'kvm' else 'emulation (KVM does not run a guest here)'}")

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
        partitions.free_of_residue(raw, sealed)
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
        proved = proof.prove(image, sealed, work / "proof", settings, accel=accel, port=options.port, phase=phase)
    sealed.unlink()

    key = _key(wanted, parcel.sha256, ground)
    with cache.whole(paths.cache() / "image" / key) as entry:
        entry.mkdir()
        shutil.move(image, entry / "image.qcow2")
        facts = {
            "name": wanted.name, "sha256": cache.file_digest(entry / "image.qcow2"),
            "size": (entry / "image.qcow2").stat().st_size,
            "seconds": {name: round(value, 1) for name, value in report.seconds.items()}, "checks": proved.checks,
            "app": proved.app, "pages": proved.pages.splitlines(),
            "made": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "base_date": ground.date, "release": goal.name,
            "bundle": parcel.sha256, "document": cache.digest(document(goal, parcel).text),
            "health": wanted.check.health, "domains": list(wanted.domains), "keep": wanted.certificate.keep,
            "secrets": list(wanted.secrets), "packages": packages,
            "observed": baked.observed, "notes": baked.notes,
        }  # fmt: skip
        (entry / "image.json").write_text(json.dumps(facts, indent=1) + "\n")
    cache.trim()
    return _publish(paths.cache() / "image" / key, final, origin, report, fresh=True)


def _inputs(ground: base_disk.Base, parcel: release_archive.Bundle, work: Path) -> Iterator[Path]:
    """Yield what an image is made of, in which a value may stand by itself: the bundle, and the base as a raw disk."""
    yield parcel.path
    raw = work / "base.raw"
    partitions.to_raw(ground.disk, raw)
    yield raw


def _key(wanted: recipe.Recipe, bundle_digest: str, ground: base_disk.Base) -> str:
    """The digest of everything that goes into an image and its proof: also this tool's own files."""
    own = {
        name: cache.tree_digest(paths.tree() / name)
        for name in ("cloud-init", "packer", "tests/machine", "tests/proof")
    }
    own["bake"] = cache.tree_digest(Path(__file__).parents[1])
    check = wanted.check.model_dump(mode="json")
    return cache.digest(
        {
            "bundle": bundle_digest, "check": check, "observe": wanted.writable.observe, "base": ground.key,
            "made": ground.made, "own": own,
        }
    )  # fmt: skip


def random_of(wanted: recipe.Recipe) -> dict[str, str]:
    """A random stand-in for each secret that has none in the recipe."""
    return {name: secrets.token_urlsafe(32) for name in wanted.secrets if name not in wanted.check.env}


def document(goal: debian.Target, parcel: release_archive.Bundle, early: tuple[str, ...] = ()) -> cloud_config.Document:
    """The document of a bake; `early` has what belongs to the bake alone."""
    return cloud_config.plain([*machine_files.files(goal), *release_source.bundled(goal, parcel.sha256)], goal, early)


def origin_of(folder: Path, code: Path, wanted: recipe.Recipe) -> dict[str, str]:
    """Where an app's files are from, as far as they say it: their commit and version."""
    found = project_metadata.find(code)
    version = found.version if found else (wanted.package or "").partition("==")[2]
    said = {"commit": release_source.commit_of(folder, wanted), "version": version or ""}
    return {key: value for key, value in said.items() if value}


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
    early = (SEED.format(folder=release_source.INCOMING, digest=parcel.sha256), cloud_config.stand_in(settings))
    (work / "user-data").write_text(document(goal, parcel, early).text)
    (work / "meta-data").write_text(cloud_config.meta_data("bake", wanted.name or "app", [public]))

    observed: dict[str, Any] = {}
    notes: dict[str, None] = {}

    def event(heard: packer.Event) -> None:
        step = packer.milestone(heard)
        if step:
            phase.progress(*step)
        _, found, text = heard.text.partition(OBSERVED)
        if found:
            observed.update(json.loads(text))
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
    return Baked(image, observed, tuple(notes))


def log_of(final: Path) -> Path:
    """Return the file beside an output that has the log of a bake that failed."""
    return final.with_suffix(".log")


@contextmanager
def keeping_log(path: Path, settings: cloud_config.CheckSettings) -> Iterator[None]:
    """Write the log of an error that the block raises to `path`, and name that file in the error.

    Neither the file nor the error's details have the values that the app was lent by `settings`.
    """
    try:
        yield
    except BakeError as error:
        error.details = diagnosis.redacted(error.details, settings.env)
        # A full disk is no reason to lose the error itself.
        with suppress(PlaceError, SpaceError):
            if error.log:
                cache.write(path, diagnosis.redacted(printable(error.log), settings.env) + "\n")
                error.details += f"\n--- the whole log: {path}"
        raise


def facts_of(image: Path) -> Path:
    """The file beside an image that says what it is: name.json, name.raw.json."""
    return image.with_name(image.name.removesuffix(".qcow2") + ".json")


def proof_of(bundle_digest: str) -> str:
    """Return what the newest proof of a release in the cache found, in a line; "" where none was baked here."""
    found = []
    for path in paths.cache().glob("image/*/image.json"):
        with suppress(OSError, ValueError):
            facts = json.loads(path.read_text())
            if facts.get("bundle") == bundle_digest:
                found.append((facts["made"], facts["checks"], facts["app"]))
    if not found:
        return ""
    made, checks, app = max(found)
    return f"{made[:10]}, {checks} checks passed, app {app}"


def observed(image: Path) -> tuple[str, ...]:
    """Return the paths that the bake of an image saw its app write, and that the machine keeps.

    Raises RecipeError where the file beside the image does not list them.
    """
    facts = facts_of(image)
    try:
        return tuple(json.loads(facts.read_text())["observed"]["data"])
    except (OSError, ValueError, KeyError, TypeError):
        raise RecipeError(
            f"{facts} does not list the paths that the app writes", "Bake the image again, with `observe` on."
        ) from None


def _observed(paths: dict[str, Any]) -> Iterator[str]:
    """Yield what becomes of each path that the app was seen to write, a line each."""
    for path, is_folder in paths.get("data", {}).items():
        yield f"writable: {printable(path)}{'/' * is_folder} is kept in /var/lib/app"
    for path in paths.get("fresh", ()):
        yield f"writable: {printable(path)} begins with each release as it ships it; `writable` in bake.yaml keeps it"
    for path in paths.get("refused", ()):
        yield f"warning: the app changed {printable(path)}; code is never writable on the machine"


def _publish(entry: Path, final: Path, origin: dict[str, str], report: Reporter, *, fresh: bool) -> Image:
    """Put the cache's image under its final name, unless the very same stands there. `origin` is that of its app."""
    facts = json.loads((entry / "image.json").read_text()) | origin
    for line in (*_observed(facts.get("observed", {})), *map(printable, (*facts.get("notes", ()), *facts["pages"]))):
        report.note(line)
    source = entry / "image.qcow2"
    raw = final.suffix == ".raw"
    if (
        raw
        or not final.is_file()
        or final.stat().st_size != facts["size"]
        or cache.file_digest(final) != facts["sha256"]
    ):
        if not fresh and cache.file_digest(source) != facts["sha256"]:
            cache.remove(entry)
            raise ProgramError(
                f"The cache's image at {source} was changed, and has been removed", "Run the same command again."
            )
        if raw:
            with cache.whole(final) as partial:
                partitions.to_raw(source, partial)
            facts |= {"size": final.stat().st_size, "sha256": cache.file_digest(final)}
        else:
            cache.copy(source, final)
    cache.write(facts_of(final), json.dumps(facts, indent=1) + "\n")
    return Image(
        final,
        facts["sha256"],
        facts["size"],
        facts["seconds"],
        facts["checks"],
        facts["app"],
        facts["base_date"],
        fresh,
    )
