"""Decide which files of an app's folder a release contains, and give the reason for each excluded path."""

from __future__ import annotations

import base64
import contextlib
import os
import zlib
from collections.abc import Collection, Iterator
from pathlib import Path

from pathspec import GitIgnoreSpec

from bake.app import ignore
from bake.config.loader import FILE_NAME
from bake.errors import AppFolderError
from bake.host import paths
from bake.host.files import CHUNK

#: The folders with the results of Python's builds.
BUILD_OUTPUT = ("build/", "dist/")
#: The files at the top of the result of a front end's build, which the app serves.
FRONT_END = (".html", ".js", ".css")
#: Patterns (as in .gitignore) of files that bake excludes from each image, by the reason that bake prints.
EXCLUDED_PATTERNS = {
    "version control": (".git", ".hg", ".svn"),
    "secrets": (
        *(".env", ".env.*", ".env~", "*.env", "*.env.bak", "*.env.old", "*.env.orig", "*.env.save", "*.env~", ".envrc"),
        *(".env-*", ".env_*"),
        *("*.pem", "*.key", "*.p12", "*.pfx", "*.jks", "*.keystore", "*.ppk", "*.kdbx"),
        *("id_rsa*", "id_dsa*", "id_ecdsa*", "id_ed25519*"),
        *(".ssh", ".gnupg", ".aws", ".azure", ".kube", ".docker", ".vault_pass*", ".vault-pass*"),
        *(".netrc", "_netrc", ".pgpass", ".my.cnf", ".git-credentials", ".htpasswd", ".dockercfg"),
        *(".s3cfg", ".boto", "rclone.conf", "*.ovpn"),
        *(".npmrc", ".yarnrc*", ".pypirc", "pip.conf", "pip.ini"),
        *("secrets.y*ml", "secrets.toml", "secrets.json"),
        *("client_secret*.json", "credentials.json", "service-account*.json", "service_account*.json"),
        *("*.tfstate", "*.tfstate.*", "*.tfvars"),
        *(".*_history",),
    ),
    "virtual environment": (".venv", "venv"),
    "cache": ("__pycache__/", "*.py[co]", ".mypy_cache/", ".pytest_cache/", ".ruff_cache/", ".tox/", ".nox/"),
    "Node packages": ("node_modules",),
    "disk image": ("*.qcow2",),
    "database": ("*.sqlite*", "*.db", "*.db-journal", "*.db-wal", "*.db-shm", "*.dump"),
    "Finder metadata": (".DS_Store",),
}
EXCLUDED_SPECS = {reason: GitIgnoreSpec.from_lines(patterns) for reason, patterns in EXCLUDED_PATTERNS.items()}
#: The first bytes of bake's user-data and launch settings, which may contain secrets.
DOCUMENT = (b"#cloud-config\n# Made by bake", b"#cloud-config\n# Settings for a machine that bake")
#: Words in the first lines of a database's dump. The header is that of pg_dump, mysqldump, phpMyAdmin or sqlite3.
DUMP = (b"PostgreSQL database dump", b"MySQL dump", b"MariaDB dump", b"phpMyAdmin SQL Dump", b"PRAGMA foreign_keys=")
#: Beginnings of lines with rows. A dump without them is a schema, which an app may need.
ROWS = (b"\nINSERT INTO", b"\nCOPY ")
LONGEST_ROW = max(map(len, ROWS))


def walk(folder: Path, exclusions: list[tuple[str, str]]) -> Iterator[Path]:
    """Yield the paths of an app's folder that a release contains. Add the others to `exclusions`, with the reason.

    Of an excluded folder, only its own name is added. Raises AppFolderError for a folder that cannot be read.
    """
    yield from _walk(folder, folder, ignore.committed(folder), [], exclusions)


def _reason(path: Path, name: str, stack: list[ignore.Rules]) -> str:
    """Return why a path is excluded, or "". `.bakeignore` overrides all else, and inner files override outer ones."""
    if name == FILE_NAME:
        return "the recipe; it may contain check.env"
    is_excluded, location = ignore.verdict(stack, ignore.BAKEIGNORE, name)
    if is_excluded is not None:
        return location if is_excluded else ""
    if reason := _usual_reason(path, name):
        return reason
    if path == paths.cache():
        return "the cache of bake"
    is_ignored, location = ignore.verdict(stack, ".gitignore", name)
    if is_ignored:
        return location
    if _is_document(path):
        return "user-data from bake"
    if name.lower().endswith(".sql") and _is_dump(path):
        return "database"
    return "" if path.is_symlink() or path.is_dir() or path.is_file() else "neither a file nor a folder"


def _usual_reason(path: Path, name: str) -> str:
    """Return why bake excludes a path from each release, or ""."""
    comparable = ignore.comparable(name)
    for reason, spec in EXCLUDED_SPECS.items():
        # Windows and macOS keep the case that a person typed, as in .ENV, server.PEM or SHOP.DB.
        if spec.match_file(comparable.lower() if reason in ("secrets", "database") else comparable):
            return reason
    if (path / "pyvenv.cfg").exists():
        return "virtual environment"
    return "build output" if name in BUILD_OUTPUT and not _has_front_end(path) else ""


def _has_front_end(path: Path) -> bool:
    """Return whether a folder has the result of a front end's build, such as React's build/index.html."""
    with contextlib.suppress(OSError):
        return any(entry.suffix in FRONT_END for entry in path.iterdir())
    return False


def is_stdout(path: Path) -> bool:
    """Return whether standard output is redirected to this file."""
    try:
        return path.is_file() and os.path.samestat(path.stat(), os.fstat(1))
    except OSError:
        return False


def _is_document(path: Path) -> bool:
    """Return whether a file is user-data or launch settings from bake, or is to become one."""
    if is_stdout(path):
        return True
    with contextlib.suppress(OSError):
        if path.is_file() and not path.is_symlink():
            return _beginning(path).startswith(DOCUMENT)
    return False


def _is_dump(path: Path) -> bool:
    """Return whether a file is a database's dump with rows."""
    with contextlib.suppress(OSError):
        if path.is_file() and not path.is_symlink():
            # A dump can be larger than the memory.
            with path.open("rb") as stream:
                part = stream.read(500)
                has_header = any(word in part for word in DUMP)
                while has_header and part:
                    if any(word in part for word in ROWS):
                        return True
                    part = part[-LONGEST_ROW:] + following if (following := stream.read(CHUNK)) else b""
    return False


def _beginning(path: Path) -> bytes:
    """Return the first bytes of a file. Decode base64 of a gzipped file first."""
    with path.open("rb") as stream:
        first = stream.read(2048)
    # The base64 of 1f 8b 08, gzip's signature, and no flags.
    if not first.startswith(b"H4sIA"):
        return first[:64]
    with contextlib.suppress(ValueError, zlib.error):
        return zlib.decompressobj(wbits=31).decompress(base64.b64decode(first[: len(first) // 4 * 4]), 64)
    return b""


def _walk(
    folder: Path, subfolder: Path, committed: Collection[str], outer_rules: list[ignore.Rules],
    exclusions: list[tuple[str, str]],
) -> Iterator[Path]:  # fmt: skip
    """Yield the paths that go into the image, and add the others to `exclusions`: of a folder, only its own name."""
    try:
        entries = sorted(subfolder.iterdir())
    except OSError as error:
        raise AppFolderError(f"{error.filename} cannot be read: {error.strerror}", "Change its mode.") from None
    rules = ignore.read(folder, subfolder, outer_rules, committed)
    for path in entries:
        is_folder = path.is_dir() and not path.is_symlink()
        name = path.relative_to(folder).as_posix() + "/" * is_folder
        reason = _reason(path, name, rules)
        if reason:
            exclusions.append((name, reason))
            continue
        yield path
        if is_folder:
            yield from _walk(folder, path, committed, rules, exclusions)
