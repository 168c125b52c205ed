"""Run git: on the repository of an app's folder, and to fetch public repositories. No repository starts a program.

A repository's configuration can start programs: core.fsmonitor, filters, includes, remote helpers and more. The names
of filters are arbitrary, so no list of options turns all of them off. Therefore git never sees that configuration. It
works on a temporary GIT_DIR with a configuration of its own, and takes only objects, refs and the index from the
repository. A few keys that describe the files, and can name neither a program nor a path, are copied.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bake.errors import NetworkError, ProgramError, SourceError
from bake.host import cache
from bake.host.files import file_digest
from bake.host.programs import run, which

#: Keys of the repository that say how its files are stored.
DESCRIPTIVE_KEYS = {
    "core.filemode", "core.symlinks", "core.ignorecase", "core.autocrlf", "core.eol", "core.trustctime",
    "core.checkstat", "extensions.objectformat",
}  # fmt: skip
#: Keys of the user's own configuration that say how files are compared. The last two name files of patterns.
USER_KEYS = {"core.autocrlf", "core.eol", "core.excludesfile", "core.attributesfile"}
#: Settings for every repository. An untracked cache is the repository's own claim about which files are new.
SETTINGS = {"core.repositoryformatversion": "1", "core.bare": "false", "core.untrackedcache": "false"}
#: The environment in which git reads no configuration but the repository's.
NO_SETTINGS = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
#: The environment in which git has no credentials, does not prompt for a password, and uses only https.
ANONYMOUS = {
    "GIT_TERMINAL_PROMPT": "0", "GIT_ASKPASS": "true", "SSH_ASKPASS": "true", "HOME": "/nonexistent",
    "GIT_ALLOW_PROTOCOL": "https", **NO_SETTINGS,
}  # fmt: skip
#: The mode of a submodule in the index.
SUBMODULE = "160000"
#: Seconds for a command. git's time for one path grows exponentially with each `**` of a pattern in .gitignore.
PATIENCE = 120.0


class UnreadableError(Exception):
    """A repository cannot be read. The text has the reason."""


@dataclass(frozen=True)
class Commit:
    """A commit: its full hash, and its day as YYYY-MM-DD."""

    hash: str
    date: str


@dataclass(frozen=True)
class Repository:
    """A repository with the work tree `top`, as seen from `folder` in it.

    `origin` is the URL of that remote, or empty. The methods raise UnreadableError where git fails.
    """

    top: Path
    folder: Path
    origin: str
    environment: Mapping[str, str]

    @property
    def commit(self) -> str:
        """Return HEAD's commit, or an empty string if there is none yet."""
        return run(["git", "rev-parse", "--verify", "-q", "HEAD"], env=self.environment, check=False).stdout.strip()

    def files(self, pathspec: str = ".") -> list[str]:
        """Return the tracked files below the folder, as paths seen from it."""
        return self._rows("ls-files", "-z", "--", pathspec)

    def lfs_files(self) -> list[str]:
        """Return the tracked files below the folder whose content is in Git LFS, as paths seen from it."""
        return self.files(":(attr:filter=lfs)")

    def changes(self) -> list[tuple[str, str]]:
        """Return the differences from HEAD below the folder, each as git's two letters and the path in the work tree.

        No filter runs. A file in Git LFS is compared by its pointer, any other filtered file by its bytes on the disk.
        """
        options = ("--porcelain", "--no-renames", "-uall", "-z", "--ignore-submodules=all")
        rows = [(row[:2], row[3:]) for row in self._rows("status", *options, "--", ".")]
        index = {}
        for row in self._rows("ls-files", "-z", "-s", "--full-name", "--", "."):
            fields, _, path = row.partition("\t")
            mode, blob, _ = fields.split()
            index[path] = (mode, blob)
        rows += [
            (" M", path)
            for path, (mode, blob) in index.items()
            if mode == SUBMODULE and not self._is_clean_submodule(path, blob)
        ]
        lfs = {(self.folder / path).relative_to(self.top).as_posix() for path in self.lfs_files()}
        return [
            (status, path)
            for status, path in rows
            if not (status == " M" and path in lfs and _pointer(self.top / path, index[path][1]) == index[path][1])
        ]

    def _is_clean_submodule(self, name: str, commit: str) -> bool:
        """Return whether a submodule is not checked out, or is a clean checkout of `commit`."""
        path = self.top / name
        if path.is_symlink() or not path.is_dir():
            return False
        if not os.path.lexists(path / ".git"):
            return True
        with open_repository(path) as submodule:
            # Each work tree must be inside of the previous one, so that a forged index cannot cause endless recursion.
            is_inside = submodule is not None and self.top in submodule.top.parents
            return bool(submodule and is_inside and submodule.commit == commit and not submodule.changes())

    def _rows(self, *words: str) -> list[str]:
        stdout = _stdout(["git", "-C", str(self.folder), *words], self.environment)
        return [row for row in stdout.split("\0") if row]


@contextmanager
def open_repository(folder: Path) -> Iterator[Repository | None]:
    """Yield the repository that holds a folder, or None without a repository or git. Raises UnreadableError."""
    folder = folder.resolve()
    directories = _find_git_dir(folder) if which("git") else None
    if directories is None:
        yield None
        return
    with cache.work_folder() as work:
        try:
            repository = _open(*directories, folder, work / "git")
        except (OSError, ValueError) as error:
            raise UnreadableError(f"its repository cannot be read: {error}") from None
        yield repository


def _find_git_dir(folder: Path) -> tuple[Path, Path] | None:
    """Return the work tree that holds a folder, and its git directory."""
    for top in (folder, *folder.parents):
        git_dir = top / ".git"
        if git_dir.is_file():
            # In a worktree or a submodule, `.git` is a file with the path of the git directory.
            return top, top / _text(git_dir).removeprefix("gitdir:").strip()
        if (git_dir / "HEAD").is_file():
            return top, git_dir
    return None


def _open(top: Path, git_dir: Path, folder: Path, temporary: Path) -> Repository:
    """Make the GIT_DIR `temporary` for a work tree and its git directory. Raises OSError, ValueError."""
    common_dir = git_dir / _text(git_dir / "commondir").strip() if (git_dir / "commondir").is_file() else git_dir
    temporary.mkdir()
    (temporary / "HEAD").write_bytes((git_dir / "HEAD").read_bytes())
    for path in (common_dir / "refs", common_dir / "packed-refs", common_dir / "info", *git_dir.glob("sharedindex.*")):
        if path.exists():
            (temporary / path.name).symlink_to(path)
    user_settings = _settings({"GIT_DIR": str(temporary)})
    environment = {
        **_git_environment(temporary, top), "GIT_INDEX_FILE": str(git_dir / "index"),
        "GIT_OBJECT_DIRECTORY": str(common_dir / "objects"), "GIT_OPTIONAL_LOCKS": "0", "GIT_NO_REPLACE_OBJECTS": "1",
        **NO_SETTINGS,
    }  # fmt: skip
    config = common_dir / "config"
    repository_settings = _settings(environment, "--file", str(config), "--no-includes") if config.is_file() else {}
    if repository_settings.get("extensions.refstorage", "files") != "files":
        raise UnreadableError("its repository keeps its refs in a reftable, which bake does not read")
    settings = {key: value for key, value in user_settings.items() if key in USER_KEYS}
    settings |= {
        key: value
        for key, value in repository_settings.items()
        if key in DESCRIPTIVE_KEYS and re.fullmatch(r"\w+", value)
    }
    (temporary / "config").write_text("".join(_line(*item) for item in {**SETTINGS, **settings}.items()))
    return Repository(top, folder, repository_settings.get("remote.origin.url", ""), environment)


def _git_environment(git_dir: Path, top: Path) -> dict[str, str]:
    """Return the environment that names a GIT_DIR and its work tree.

    It sets all these variables, because in a hook, git has already set them for another repository.
    """
    return {
        "GIT_DIR": str(git_dir), "GIT_COMMON_DIR": str(git_dir), "GIT_WORK_TREE": str(top),
        "GIT_INDEX_FILE": str(git_dir / "index"), "GIT_OBJECT_DIRECTORY": str(git_dir / "objects"),
    }  # fmt: skip


def _text(path: Path) -> str:
    return os.fsdecode(path.read_bytes())


def _settings(environment: Mapping[str, str], *options: str) -> dict[str, str]:
    """Return git's configuration, each key with its last value."""
    rows = _stdout(["git", "config", *options, "-z", "--list"], environment).split("\0")
    return {key: value if newline else "true" for key, newline, value in (row.partition("\n") for row in rows)}


def _line(key: str, value: str) -> str:
    """Return a setting in the syntax of a configuration file."""
    section, name = key.split(".")
    literal = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'[{section}]\n{name} = "{literal}"\n'


def _pointer(path: Path, blob: str) -> str:
    """Return the name of the blob that Git LFS commits for a file, by the digest algorithm of the name `blob`."""
    text = f"version https://git-lfs.github.com/spec/v1\noid sha256:{file_digest(path)}\n"
    content = f"{text}size {path.stat().st_size}\n".encode()
    return hashlib.new("sha1" if len(blob) == 40 else "sha256", b"blob %d\0" % len(content) + content).hexdigest()


def _stdout(argv: list[str], environment: Mapping[str, str]) -> str:
    """Return a git command's output. Raises UnreadableError with git's last line, or after PATIENCE."""
    try:
        result = run(argv, env=environment, check=False, timeout=PATIENCE)
    except ProgramError as error:
        raise UnreadableError(error.message) from None
    if result.status:
        line = result.stderr.strip().rpartition("\n")[2]
        raise UnreadableError(f"git cannot read its repository: {line or f'exit status {result.status}'}")
    return result.stdout


def state(folder: Path) -> str:
    """Return the commit of a folder's files, with `-dirty` if they differ from it; empty if git cannot read it."""
    try:
        with open_repository(folder) as repository:
            commit = repository.commit if repository else ""
            return f"{commit}-dirty" if repository and commit and repository.changes() else commit
    except UnreadableError:
        return ""


def remote_commits(url: str) -> set[str]:
    """Return the commits of the branches and tags of a public repository; none if it does not answer in 30 s."""
    # `timeout` also ends git's child processes. macOS lacks it; there, they end with their connection.
    time_limit = ["timeout", "30"] if which("timeout") else []
    try:
        # `/` is outside of any work tree.
        result = run(
            [*time_limit, "git", "ls-remote", "--", url], check=False, env=ANONYMOUS, cwd=Path("/"), timeout=35
        )
    except ProgramError:
        return set()
    return set() if result.status else {line.partition("\t")[0] for line in result.stdout.splitlines()}


def check_out(url: str, reference: str, folder: Path) -> Commit:
    """Fetch the files of a commit, branch or tag from a public repository, without hooks, filters and submodules.

    An empty reference is the default branch. Raises NetworkError if the fetch fails, SourceError if there is no such
    commit.
    """
    folder.mkdir()
    environment = {**ANONYMOUS, **_git_environment(folder / ".git", folder)}
    run(["git", "init", "-q", "--template="], env=environment)
    result = run(["git", "fetch", "-q", "--depth=1", "--", url, reference or "HEAD"], check=False, env=environment)
    name = "FETCH_HEAD"
    if result.status:
        # Some servers serve only heads of branches, and none a commit by its first digits. So fetch all refs.
        result = run(["git", "fetch", "-q", "--", url, "+refs/*:refs/all/*"], check=False, env=environment)
        name = reference
    if result.status:
        raise NetworkError(
            f"{url} cannot be fetched",
            "Check the URL and the network. The repository must be public.",
            result.stderr.strip(),
        )
    if run(["git", "checkout", "-q", "--detach", name], check=False, env=environment).status:
        raise SourceError(f"{url} has no commit {reference}", "Push the commit, or correct its name.")
    values = run(["git", "log", "-1", "--format=%H %cs"], env=environment).stdout.split()
    shutil.rmtree(folder / ".git")
    return Commit(*values)
