"""Read and write the manifest of an image: `image.json` in the cache, and the file beside the finished image."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bake.errors import AppFolderError, ProgramError, RecipeError
from bake.host import paths, versioned_json

FILE_NAME = "image.json"
#: The first bytes of a qcow2 image.
QCOW2 = b"QFI\xfb"
#: The version of the format.
VERSION = 1
#: The values that a manifest does not have if they are unknown.
OPTIONAL = ("commit", "version", "sources", "wheels", "security_url")


@dataclass(frozen=True)
class ObservedPaths:
    """The paths that bake observed the app write.

    `data`: the machine keeps them; the value tells whether a path is a folder. `fresh`: they reset with each release.
    `refused`: the app cannot write them on the machine.
    """

    data: Mapping[str, bool] = field(default_factory=dict)
    fresh: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> ObservedPaths:
        """Return the paths in JSON values, as the machine's program prints them."""
        data: dict[str, Any] = versioned_json.value(values, "data", {})
        folders = {path: bool(is_folder) for path, is_folder in data.items()}
        return cls(folders, versioned_json.texts(values, "fresh"), versioned_json.texts(values, "refused"))


@dataclass(frozen=True)
class ImageManifest:
    """The facts about an image: its digest and size, its checks, its app and the inputs that it was made from.

    `size` is in bytes. `seconds` has the time of each phase of the bake. `app` is the summary of the comparison with
    the author's server, and `pages` its table. `made` is in UTC. `security_url` is that of
    Debian's security suite. `bundle` and `document` are digests. `packages` has
    the version of each Debian package, `sources` the versions of their source packages, and `wheels` that of each
    wheel. `observed` is None if the bake did not observe the app. `commit` and `version` are the app's.
    """

    name: str = ""
    sha256: str = ""
    size: int = 0
    seconds: Mapping[str, float] = field(default_factory=dict)
    checks: int = 0
    app: str = ""
    pages: tuple[str, ...] = ()
    made: str = ""
    base_date: str = ""
    security_url: str = ""
    release: str = ""
    bundle: str = ""
    document: str = ""
    health: str | None = None
    domains: tuple[str, ...] = ()
    keep: str | None = None
    secrets: tuple[str, ...] = ()
    packages: Mapping[str, str] = field(default_factory=dict)
    sources: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    wheels: Mapping[str, str] = field(default_factory=dict)
    observed: ObservedPaths | None = None
    notes: tuple[str, ...] = ()
    commit: str = ""
    version: str = ""

    @property
    def days(self) -> int:
        """Return the age in whole days; 0 if it is unknown."""
        with suppress(ValueError):
            return max((datetime.now(UTC) - datetime.fromisoformat(self.made)).days, 0)
        return 0

    @classmethod
    def read(cls, path: Path) -> ImageManifest:
        """Return the manifest in a file. Raises OSError, and the errors of `from_json`."""
        return cls.from_json(path.read_text(), str(path))

    @classmethod
    def from_json(cls, text: str, name: str = FILE_NAME) -> ImageManifest:
        """Return the manifest in JSON text. Use defaults for missing values, and ignore unknown ones.

        `name` is the file's, for errors. Raises ValueError if the text is not a JSON object, and ProgramError if its
        version is unknown.
        """
        values = versioned_json.load(text, VERSION, name)
        fields: dict[str, Any] = {}
        for key, default in asdict(cls()).items():
            if isinstance(default, tuple):
                fields[key] = versioned_json.texts(values, key)
            elif key in ("health", "keep"):
                fields[key] = versioned_json.value(values, key, "") or None
            elif key == "observed":
                observed: dict[str, Any] = versioned_json.value(values, key, {})
                fields[key] = ObservedPaths.of(observed) if "data" in observed else None
            elif key == "sources":
                sources: dict[str, Any] = versioned_json.value(values, key, {})
                fields[key] = {name: versioned_json.texts(sources, name) for name in sources}
            else:
                fields[key] = versioned_json.value(values, key, default)
        return cls(**fields)

    def to_json(self) -> str:
        """Return the manifest as JSON, as `from_json` reads it. Omit the values of OPTIONAL if they are unknown."""
        values = {key: value for key, value in asdict(self).items() if value or key not in OPTIONAL}
        return versioned_json.dump(values | {"observed": values["observed"] or {}}, VERSION)


def path_of(image: Path) -> Path:
    """Return the path of the manifest beside an image: name.json, name.raw.json."""
    return image.with_name(image.name.removesuffix(".qcow2") + ".json")


def proof_of(bundle_digest: str) -> str:
    """Return a one-line summary of the newest proof of a release in the cache, or "" if there is none."""
    proofs = [(facts.made, facts.checks, facts.app) for facts in _cached() if facts.bundle == bundle_digest]
    if not proofs:
        return ""
    date, checks, app = max(proofs)
    return f"{date[:10]}, {checks} checks passed, app {app}"


def of_digest(sha256: str) -> ImageManifest:
    """Return the manifest of an image in the cache. All its values are unknown if the cache has no such image."""
    return next((facts for facts in _cached() if facts.sha256 == sha256 != ""), ImageManifest())


def _cached() -> Iterator[ImageManifest]:
    """Yield the manifests in the cache, without those of other versions of bake."""
    for path in paths.cache().glob(f"image/*/{FILE_NAME}"):
        with suppress(OSError, ValueError, ProgramError):
            yield ImageManifest.read(path)


def require_image(path: Path, command: str) -> None:
    """Raise AppFolderError unless a file is a qcow2 image, or has a manifest beside it.

    `command` is the bake command to run on a folder instead.
    """
    with suppress(OSError), path.open("rb") as stream:
        if stream.read(len(QCOW2)) == QCOW2:
            return
    if not path.exists():
        raise AppFolderError(
            f"{path} does not exist", "Give the path of an image, or of the folder with the app's source."
        )
    if not path_of(path).is_file():
        raise AppFolderError(f"{path} is not an image", f"Give an image, or the app's folder: `{command}`.")


def observed_paths(image: Path) -> tuple[str, ...]:
    """Return the paths that bake observed the app write, and that the machine keeps.

    Raises AppFolderError if it is not an image, RecipeError if the manifest does not list them, and ProgramError.
    """
    require_image(image, "bake image FOLDER")
    path = path_of(image)
    observed = None
    with suppress(OSError, ValueError):
        observed = ImageManifest.read(path).observed
    if observed is None:
        raise RecipeError(
            f"{path} does not list the paths that the app writes",
            "Bake the image again, with `writable: {observe: on}` in bake.yaml.",
        )
    return tuple(observed.data)
