"""Build the front end in `assets` before a release is packed, or take it from the cache.

`assets/<key>/` in the cache has the files of a front end. The key is the digest of the app's files, the commands and
the builder root, so that bake builds an unchanged front end only once.
"""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from bake.bundle import builder_root, front_end_faults, isolated_assets
from bake.bundle.app_source import AppSource
from bake.bundle.exclusions import BUILD_OUTPUT
from bake.bundle.isolated_assets import BuildCommands
from bake.bundle.package_manager import build_commands
from bake.bundle.release import Member, source_members
from bake.bundle.wheel_builder import LockOptions
from bake.config.assets import Assets
from bake.errors import AssetsError
from bake.host import cache, files, paths
from bake.host.progress import Reporter

#: The Debian packages of a front end's builder root, in addition to those of every builder root.
PACKAGES = ("ca-certificates", "nodejs", "npm")


@dataclass(frozen=True)
class Source:
    """The app's files for a build: their members, and the excluded paths, each with the reason."""

    members: tuple[Member, ...]
    exclusions: tuple[tuple[str, str], ...]

    @classmethod
    def read(cls, folder: Path) -> Source:
        """Return the files of an app's folder that a release would contain."""
        exclusions: list[tuple[str, str]] = []
        return cls(tuple(source_members(folder, exclusions)), tuple(exclusions))

    def without_results(self, assets: Assets) -> Source:
        """Return the files without the results of an earlier build in build/ or dist/, where only builds write."""
        outputs = {name.rstrip("/") for name in BUILD_OUTPUT}.intersection(assets.folder)
        members = tuple(member for member in self.members if member.name.partition("/")[0] not in outputs)
        return Source(members, self.exclusions)

    def text(self, name: str) -> str | None:
        """Return the text of a file, or None if there is none."""
        member = next((member for member in self.members if member.name == name and member.source is not None), None)
        if member is None:
            return None
        with member.open() as stream:
            return stream.read().decode(errors="replace")

    def rows(self) -> list[tuple[str, int, str]]:
        """Return the name, the mode and the content's digest or the link's target of each member."""
        return [
            (
                member.name,
                member.mode,
                files.file_digest(member.source) if isinstance(member.source, Path) else member.target,
            )
            for member in self.members
        ]

    def write(self, folder: Path) -> None:
        """Write the files to a folder."""
        folder.mkdir(parents=True)
        for member in self.members:
            path = folder / member.name
            if member.target:
                path.symlink_to(member.target)
            elif member.source is None:
                path.mkdir()
            else:
                with member.open() as stream, path.open("wb") as copy:
                    shutil.copyfileobj(stream, copy)
                path.chmod(member.mode)


def members(app: AppSource, options: LockOptions, report: Reporter) -> list[Member] | None:
    """Return the members of the front end of an app, built now or before; None if bake builds none.

    Raises AssetsError, NetworkError, and the errors of `builder_root.obtain`.
    """
    assets = app.recipe.assets
    if assets is None:
        return None
    source = Source.read(app.files)
    _require_folders(source, assets)
    if not options.may_build(app.recipe):
        _require_present(source, assets, options)
        report.note(f"assets: {', '.join(assets.folder)} as in the app's folder; bake built nothing")
        return None
    source = source.without_results(assets)
    commands = build_commands(assets, source.text)
    entry = _obtain(app, source, commands, options, report)
    return _members(entry / "files")


def _obtain(app: AppSource, source: Source, commands: BuildCommands, options: LockOptions, report: Reporter) -> Path:
    """Return the cache's entry of a front end. Build it if there is none, and print how long that took."""
    recipe, target, assets = app.recipe, app.recipe.target, commands.assets
    packages = (*recipe.build_packages, *PACKAGES)
    scripts = files.tree_digest(paths.builder())
    root_key = builder_root.key(target, packages, recipe.mirror)
    inputs = [source.rows(), assets.model_dump(mode="json"), commands.install, commands.tool, root_key, scripts]
    key = files.digest(inputs)
    entry = paths.cache() / "assets" / key
    folders = ", ".join(assets.folder)
    if _is_usable(entry, options.age):
        cache.touch(entry)
        report.note(f"assets: {folders} from the cache; nothing changed since its build")
        return entry
    root = builder_root.obtain(target, packages, recipe.mirror, options.age, report)
    command_list = " and ".join(f"`{command}`" for command in (commands.install, assets.run) if command)
    report.note(f"assets: running {command_list} in a {target.name} root with Node {target.node} …")
    start_time = time.monotonic()
    log = paths.cache() / "assets" / f"{recipe.name or 'app'}.log"
    with files.disk_faults(log), cache.work_folder() as work:
        log.parent.mkdir(parents=True, exist_ok=True)
        source.write(work / "input" / "app")
        outcome = isolated_assets.build(root, commands, work / "input", log, work / "assets.tar")
        front_end_faults.require_success(outcome, commands, target, log, source.exclusions)
        names = isolated_assets.unpack(work / "assets.tar", assets, work / "entry" / "files")
        front_end_faults.require_files(names, assets, log)
        cache.keep(work / "entry" / "assets.json", json.dumps({"created": time.time()}))
        with files.atomic_output(entry) as partial:
            (work / "entry").rename(partial)
    size = sum(path.stat().st_size for path in (entry / "files").rglob("*") if path.is_file())
    report.note(
        f"assets: built {folders}, {len(names)} files, {size / 1e6:.1f} MB, in {time.monotonic() - start_time:.0f} s"
    )
    return entry


def _is_usable(entry: Path, age: cache.Age) -> bool:
    """Return whether a front end is in the cache. With `--refresh`, it has to be from this process."""
    manifest = cache.kept(entry / "assets.json")
    return manifest is not None and (not age.refresh or cache.is_from_this_run(json.loads(manifest)["created"]))


def _members(folder: Path) -> list[Member]:
    """Return the members for the files of a front end in the cache, and for the folders that lead to them."""
    return [
        Member(path.relative_to(folder).as_posix(), 0o755 if path.is_dir() else 0o644, None if path.is_dir() else path)
        for path in sorted(folder.rglob("*"))
    ]


def _require_folders(source: Source, assets: Assets) -> None:
    """Raise AssetsError if a file or a link is where the build's folder, or one that leads to it, has to be."""
    for member in source.members:
        is_folder = member.source is None and not member.target
        if not is_folder and any(PurePosixPath(folder).is_relative_to(member.name) for folder in assets.folder):
            raise AssetsError(
                f"assets: {member.name} is a file or a link in the app's folder, where `folder` needs a folder",
                "Set `folder` to another one, or exclude it in .bakeignore.",
            )


def _require_present(source: Source, assets: Assets, options: LockOptions) -> None:
    """Raise AssetsError if bake may not build, and a folder of the result is not in the app's folder."""
    names = {member.name for member in source.members}
    missing = [folder for folder in assets.folder if folder not in names]
    if missing:
        reason = "`build: off` forbids its build" if options.builds else "bake builds none for a pasted document"
        way = "Remove `build: off`, or commit" if options.builds else "Use `bake image` or `bake ami`, or commit"
        raise AssetsError(
            f"assets: {', '.join(missing)} is not among the app's files, and {reason}",
            f"{way} the folder, and name it in .bakeignore if bake excludes it: `!/{missing[0]}/`.",
        )
