"""Build one image: run Packer, seal the disk, prove the image, and keep it in the cache."""

from __future__ import annotations

import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from bake.bundle.lock import wheel_versions
from bake.bundle.release_archive import Bundle
from bake.config import contract
from bake.config.debian import Target
from bake.config.recipe import Recipe
from bake.diagnosis import redaction
from bake.disk import base_disk, dpkg, partitions
from bake.disk.base_manifest import BaseManifest
from bake.document import cloud_config, machine_files, release_source
from bake.document.cloud_config import CheckSettings, Network
from bake.errors import BakeError, BaseError, PlaceError, SpaceError
from bake.host import files, foreign_text, paths, programs
from bake.host.progress import Reporter
from bake.host.templates import render
from bake.host.terminal import printable
from bake.image import leaks, manifest, packer
from bake.image.manifest import ImageManifest, ObservedPaths
from bake.verify import proof
from bake.verify.proof import Candidate, ProofResult
from bake.vm import qemu

#: The note that bake prints if the recipe has `check: {network: on}`.
NETWORK_NOTE = "the app may use the network while it is baked and checked (check.network)"
#: The text before the JSON of the observed paths in the output of await.sh.
OBSERVED_PREFIX = "bake: observed "
#: The text before a note for people in the output of await.sh.
NOTE_PREFIX = "bake: note "
#: The most notes of a machine.
MOST_NOTES = 100


@dataclass(frozen=True)
class Inputs:
    """The inputs of an image: the recipe and the bundle of an app, for a Debian version, and a base disk."""

    recipe: Recipe
    target: Target
    bundle: Bundle
    base: base_disk.Base

    @cached_property
    def entry(self) -> Path:
        """Return the image's folder in the cache. Its name is the digest of all inputs, including bake's own files."""
        digests = {
            name: files.tree_digest(paths.tree() / name)
            for name in ("cloud-init", "packer", "tests/machine", "tests/proof")
        }
        digests["bake"] = files.tree_digest(Path(__file__).parents[1])
        check = self.recipe.check.model_dump(mode="json")
        key = files.digest(
            {
                "bundle": self.bundle.sha256, "check": check, "observe": self.recipe.writable.observe,
                "base": self.base.key, "made": self.base.created, "own": digests,
            }
        )  # fmt: skip
        return paths.cache() / "image" / key

    def disks(self, work: Path) -> Iterator[Path]:
        """Yield the files that may contain a value by chance: the bundle, and the base as a raw disk in `work`."""
        yield self.bundle.path
        raw = work / "base.raw"
        partitions.to_raw(self.base.disk, raw)
        yield raw


@dataclass(frozen=True)
class PackerResult:
    """The result of Packer: the disk, the paths that bake observed the app write, and notes for people."""

    disk: Path
    observed: ObservedPaths | None
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Build:
    """A build of one image from its inputs, with the settings of its checks. `run` runs its stages.

    `canary` is a random text that the machine has during the bake and that no file of the image may contain. `accel` is
    QEMU's accelerator. `work` is the folder for all files, and `log` gets the log of a failure.
    """

    inputs: Inputs
    settings: CheckSettings
    canary: str
    accel: str
    work: Path
    log: Path
    report: Reporter

    @classmethod
    def of(cls, inputs: Inputs, work: Path, log: Path, report: Reporter) -> Build:
        """Return a build with random values. Print how its machines run, and whether the app may use the network."""
        accel = qemu.accelerator(inputs.base.kernel)
        mode = "KVM" if accel == "kvm" else "emulation, which is slow (this host cannot run KVM guests)"
        report.note(f"machines run with {mode}")
        settings = check_settings(inputs.recipe)
        if inputs.recipe.check.network:
            report.note(NETWORK_NOTE)
        return cls(inputs, settings, f"canary-{secrets.token_hex(16)}", accel, work, log, report)

    def run(self, port: int | None) -> None:
        """Build the image, check it, and move it to its place in the cache. `port` is the SSH port of the proof."""
        packer_result = self._run_packer()
        candidate, status = self._seal(packer_result.disk)
        proof_result = self._prove(candidate, port)
        self._store(candidate.image, status, packer_result, proof_result)

    def _run_packer(self) -> PackerResult:
        with self.report.phase("bake") as phase, keeping_log(self.log, self.settings):
            recipe, bundle, work = self.inputs.recipe, self.inputs.bundle, self.work
            key = work / "bake-key"
            public_key = qemu.make_key(key, "bake")
            copy_bundle = render("check/copy-bundle.sh.j2", folder=contract.INCOMING, digest=bundle.sha256)
            commands = (copy_bundle, cloud_config.bake_command(self.settings))
            (work / "user-data").write_text(document(self.inputs.target, bundle, commands).text)
            (work / "meta-data").write_text(cloud_config.meta_data("bake", recipe.name or "app", [public_key]))

            observed: list[ObservedPaths] = []
            notes: dict[str, None] = {}

            def on_event(event: packer.Event) -> None:
                step = packer.milestone(event)
                if step:
                    phase.progress(*step)
                _, marker, text = event.text.partition(OBSERVED_PREFIX)
                if marker:
                    # An app can print such a line as well, if it does not start.
                    with suppress(ValueError, AttributeError):
                        observed[:] = [ObservedPaths.of(foreign_text.from_json(text))]
                _, marker, text = event.text.partition(NOTE_PREFIX)
                if marker and len(notes) < MOST_NOTES:
                    notes[text.strip()[: programs.KEPT_LINE]] = None

            output = work / "output"
            disk = packer.build(
                "qemu.pkr.hcl",
                {
                    "base_disk": str(self.inputs.base.disk), "user_data": str(work / "user-data"),
                    "meta_data": str(work / "meta-data"), "bundle": str(bundle.path), "private_key": str(key),
                    "output": str(output), "canary": self.canary, "accelerator": self.accel,
                    "cpus": min(os.cpu_count() or 1, 4),
                },
                output / "disk.qcow2", work, on_event,
            )  # fmt: skip
            return PackerResult(disk, observed[0] if observed else None, tuple(notes))

    def _seal(self, disk: Path) -> tuple[Candidate, str]:
        """Return the image of a baked disk, and its dpkg status. Raises an error if a secret is in the image."""
        recipe, work = self.inputs.recipe, self.work
        with self.report.phase("seal") as phase:
            raw_disk, sealed_disk, image = work / "baked.raw", work / "sealed.raw", work / "image.qcow2"
            partitions.to_raw(disk, raw_disk)
            disk.unlink()
            partitions.copy_used_blocks(raw_disk, sealed_disk)
            partitions.extract(sealed_disk, "/var/lib/dpkg/status", work / "status")
            status = (work / "status").read_text()
            raw_disk.unlink()
            phase.progress(0.5, "looking for residue")
            random_values = {f"stand-in for {name}": self.settings.env[name] for name in stand_ins(recipe)}
            random_values |= {"canary": self.canary, "build key": qemu.public_key(work / "bake-key").split()[1]}
            private_values = leaks.private(recipe.check.env, self._shown(sealed_disk))
            chosen_values = {f"value of check.env's {name}": value for name, value in private_values.items()}
            leaks.require_none(sealed_disk, random_values, chosen_values, self.inputs.disks(work))
            phase.progress(0.7, "compressing")
            partitions.to_qcow2(sealed_disk, image, compress=True)
        return Candidate(image, sealed_disk), status

    def _shown(self, disk: Path) -> str:
        """Return the text of the files on a disk that tell what the app showed and wrote during the bake."""
        texts, copy = "", self.work / "shown"
        for path in (contract.AUTHOR, contract.OBSERVED):
            with suppress(BaseError):
                partitions.extract(disk, path, copy)
                texts += copy.read_text(errors="replace")
            copy.unlink(missing_ok=True)
        return texts

    def _prove(self, candidate: Candidate, port: int | None) -> ProofResult:
        with self.report.phase("proof") as phase, keeping_log(self.log, self.settings):
            vm = qemu.VmOptions(self.accel, port=port)
            proof_result = proof.prove(candidate, self.work / "proof", self.settings, vm, phase)
        candidate.raw.unlink()
        return proof_result

    def _store(self, image: Path, status: str, packer_result: PackerResult, proof_result: ProofResult) -> None:
        """Move a checked image to the cache, with its manifest. `status` is the text of its dpkg status."""
        inputs, recipe = self.inputs, self.inputs.recipe
        base = BaseManifest.read(inputs.base.disk.parent)
        with files.atomic_output(inputs.entry) as entry:
            entry.mkdir()
            shutil.move(image, entry / "image.qcow2")
            image_manifest = ImageManifest(
                name=recipe.name or "", sha256=files.file_digest(entry / "image.qcow2"),
                size=(entry / "image.qcow2").stat().st_size,
                seconds={name: round(value, 1) for name, value in self.report.seconds.items()},
                checks=proof_result.checks, app=proof_result.app, pages=tuple(proof_result.pages.splitlines()),
                made=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), base_date=inputs.base.date,
                security_url=base.security_url if base else "",
                release=inputs.target.name, bundle=inputs.bundle.sha256,
                document=files.digest(document(inputs.target, inputs.bundle).text), health=recipe.check.health,
                domains=recipe.domains, keep=recipe.certificate.keep, secrets=recipe.secrets,
                packages=dpkg.package_versions(status), sources=dpkg.source_versions(status),
                wheels=wheel_versions(inputs.bundle.release.lock_text), observed=packer_result.observed,
                notes=packer_result.notes,
            )  # fmt: skip
            (entry / manifest.FILE_NAME).write_text(image_manifest.to_json())


def stand_ins(recipe: Recipe) -> list[str]:
    """Return the names of the secrets that get random values: those without a value in the recipe's check.env."""
    names = [*recipe.secrets, *(recipe.random_secrets or ())]
    return [name for name in names if name not in recipe.check.env]


def check_settings(recipe: Recipe, *, is_local: bool = True) -> CheckSettings:
    """Return the settings of the checks of an app. `is_local` means that QEMU runs its machine here."""
    random_values = {name: secrets.token_urlsafe(32) for name in stand_ins(recipe)}
    network = Network.OPEN if recipe.check.network else Network.CLOSED
    return CheckSettings({**recipe.check.env, **random_values}, network, recipe.writable.observe, is_local)


def document(target: Target, bundle: Bundle, commands: tuple[str, ...] = ()) -> cloud_config.Document:
    """Return the document for a bake. `commands` are those that only a bake needs."""
    document_files = [*machine_files.files(target), *release_source.bundled(target, bundle.sha256)]
    return cloud_config.plain(document_files, target, commands)


def log_of(output: Path) -> Path:
    """Return the path for the log of a failed bake, beside the output."""
    return output.with_suffix(".log")


@contextmanager
def keeping_log(path: Path, settings: CheckSettings) -> Iterator[None]:
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
