"""Repositories of apps' folders: git tells of them, and starts nothing that they configure. git is the real one."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import Clone, Site

from bake.bundle.app_source import AppSource
from bake.config.providers import PROVIDERS
from bake.deploy import render
from bake.document import release_source
from bake.document.launch_settings import Settings
from bake.errors import NetworkError, SourceError
from bake.host import git
from bake.host.programs import run
from bake.host.progress import Reporter
from bake.host.terminal import Terminal

pytestmark = pytest.mark.usefixtures("cache_folder")


@dataclass
class Trap:
    """A program that leaves a mark when it is started."""

    program: Path
    mark: Path

    def sprung(self) -> bool:
        """Whether it was started since this was last asked."""
        was = self.mark.exists()
        self.mark.unlink(missing_ok=True)
        return was


@pytest.fixture
def trap(tmp_path: Path) -> Trap:
    made = Trap(tmp_path / "trap", tmp_path / "mark")
    made.program.write_text(f"#!/bin/sh\necho started >> {made.mark}\n")
    made.program.chmod(0o755)
    return made


def touch(clone: Clone, second: int = 1) -> None:
    """Leave the files as they are, and have git look into them again."""
    for path in clone.folder.rglob("*"):
        if path.is_file() and ".git" not in path.parts:
            os.utime(path, (second, second))


def fsmonitor(trap: Trap) -> str:
    return f"[core]\n\tfsmonitor = {trap.program}\n"


def append(path: Path, text: str) -> None:
    with path.open("a") as stream:
        stream.write(text)


# Each makes a clone hostile, and returns a git command that shows that it is. In a clone that a stranger packed as an
# archive, all of this is theirs to write.


def by_fsmonitor(clone: Clone, trap: Trap) -> str:
    append(clone.folder / ".git/config", fsmonitor(trap))
    return "status"


def filtered(clone: Clone, trap: Trap, kind: str) -> str:
    append(clone.folder / ".git/config", f'[filter "x"]\n\t{kind} = {trap.program}\n')
    append(clone.folder / ".git/info/attributes", "* filter=x\n")
    touch(clone)
    return "status"


def by_a_filter(clone: Clone, trap: Trap) -> str:
    return filtered(clone, trap, "clean")


def by_a_filter_of_the_tree(clone: Clone, trap: Trap) -> str:
    clone.commit({".gitattributes": "*.py filter=some-name\n"})
    clone.push()
    append(clone.folder / ".git/config", f'[filter "some-name"]\n\tclean = {trap.program}\n\trequired = true\n')
    touch(clone)
    return "status"


def by_a_process(clone: Clone, trap: Trap) -> str:
    return filtered(clone, trap, "process")


def by_attributes_elsewhere(clone: Clone, trap: Trap) -> str:
    (clone.folder / ".git/names").write_text("* filter=x\n")
    append(clone.folder / ".git/config", f'[core]\nattributesFile = {clone.folder}/.git/names\n[filter "x"]\n')
    append(clone.folder / ".git/config", f"clean = {trap.program}\n")
    touch(clone)
    return "status"


def by_an_include(clone: Clone, trap: Trap) -> str:
    (clone.folder / ".git/more").write_text(fsmonitor(trap))
    append(clone.folder / ".git/config", "[include]\n\tpath = more\n")
    return "status"


def by_a_conditional_include(clone: Clone, trap: Trap) -> str:
    (clone.folder / ".git/more").write_text(fsmonitor(trap))
    append(clone.folder / ".git/config", '[includeIf "gitdir:**"]\n\tpath = more\n')
    return "status"


def by_a_worktree_s_configuration(clone: Clone, trap: Trap) -> str:
    append(clone.folder / ".git/config", "[core]\nrepositoryformatversion = 1\n[extensions]\nworktreeConfig = true\n")
    (clone.folder / ".git/config.worktree").write_text(fsmonitor(trap))
    return "status"


def by_a_git_file(clone: Clone, trap: Trap) -> str:
    by_fsmonitor(clone, trap)
    (clone.folder / ".git").rename(clone.folder / "docs")
    (clone.folder / ".git").write_text("gitdir: docs\n")
    return "status"


def by_a_link(clone: Clone, trap: Trap) -> str:
    by_fsmonitor(clone, trap)
    (clone.folder / ".git").rename(clone.folder / "docs")
    (clone.folder / ".git").symlink_to("docs")
    return "status"


def by_a_shared_folder(clone: Clone, trap: Trap) -> str:
    by_fsmonitor(clone, trap)
    (clone.folder / ".git").rename(clone.folder / "docs")
    (clone.folder / ".git").mkdir()
    for name in ("HEAD", "index"):
        (clone.folder / "docs" / name).rename(clone.folder / ".git" / name)
    shutil.copy(clone.folder / ".git/HEAD", clone.folder / "docs/HEAD")
    (clone.folder / ".git/commondir").write_text("../docs\n")
    return "status"


def by_being_a_git_directory(clone: Clone, trap: Trap) -> str:
    append(clone.folder / ".git/config", f"[core]\nworktree = {clone.folder}\n{fsmonitor(trap)}")
    for path in (clone.folder / ".git").iterdir():
        path.rename(clone.folder / path.name)
    (clone.folder / ".git").rmdir()
    return "status"


def by_a_submodule(clone: Clone, trap: Trap) -> str:
    inner = clone.folder / "inner"
    run(["git", "init", "-q", inner])
    run(["git", "-C", inner, "commit", "-q", "--allow-empty", "-m", "one"])
    clone.commit({})
    append(inner / ".git/config", fsmonitor(trap))
    return "status"


def by_a_nested_repository(clone: Clone, trap: Trap) -> str:
    run(["git", "init", "-q", clone.folder / "nested"])
    append(clone.folder / "nested/.git/config", fsmonitor(trap))
    return "-C nested status"


def by_a_remote_helper(clone: Clone, trap: Trap) -> str:
    # HEAD's files are missing here, and are fetched when somebody asks for them.
    tree = clone.git("rev-parse", "HEAD^{tree}")
    (clone.folder / f".git/objects/{tree[:2]}/{tree[2:]}").unlink()
    clone.git("remote", "set-url", "origin", f"ext::{trap.program}")
    append(
        clone.folder / ".git/config",
        '[core]\nrepositoryformatversion = 1\n[extensions]\npartialClone = origin\n'
        '[protocol "ext"]\nallow = always\n[remote "origin"]\npromisor = true\n',
    )  # fmt: skip
    return "status"


def by_ssh(clone: Clone, trap: Trap) -> str:
    clone.git("remote", "set-url", "origin", "git@code.example:shop.git")
    append(clone.folder / ".git/config", f"[core]\nsshCommand = {trap.program}\n")
    return "ls-remote origin"


def by_another_address(clone: Clone, trap: Trap) -> str:
    append(clone.folder / ".git/config", f'[url "ext::{trap.program} "]\ninsteadOf = https://\n')
    append(clone.folder / ".git/config", '[protocol "ext"]\nallow = always\n')
    return "ls-remote origin"


def by_an_option_for_an_address(clone: Clone, trap: Trap) -> str:
    clone.git("config", "remote.origin.url", f"--upload-pack={trap.program}")
    return f"ls-remote --upload-pack={trap.program} {clone.bare}"


def by_credentials(clone: Clone, trap: Trap) -> str:
    append(clone.folder / ".git/config", f"[core]\naskPass = {trap.program}\n[credential]\nhelper = {trap.program}\n")
    return "credential fill"


def by_a_difference(clone: Clone, trap: Trap) -> str:
    append(clone.folder / ".git/config", f"[diff]\nexternal = {trap.program}\n")
    (clone.folder / "app.py").write_text("changed\n")
    return "diff"


def by_an_alias(clone: Clone, trap: Trap) -> str:
    names = "status", "rev-parse", "ls-files", "config", "other"
    append(clone.folder / ".git/config", "[alias]\n" + "".join(f"{name} = !{trap.program}\n" for name in names))
    return "other"


def by_hooks(clone: Clone, trap: Trap) -> str:
    for folder in (".git/hooks", ".git/other"):
        (clone.folder / folder).mkdir(exist_ok=True)
        for name in ("post-checkout", "post-index-change", "fsmonitor-watchman", "reference-transaction"):
            shutil.copy(trap.program, clone.folder / folder / name)
    append(clone.folder / ".git/config", "[core]\nhooksPath = .git/other\n")
    return "checkout"


#: `git status`, `rev-parse` or `config` in the folder starts the program.
RAN = (
    by_fsmonitor, by_a_filter, by_a_filter_of_the_tree, by_a_process, by_attributes_elsewhere, by_an_include,
    by_a_conditional_include, by_a_worktree_s_configuration, by_a_git_file, by_a_link, by_a_shared_folder,
    by_being_a_git_directory, by_a_submodule, by_a_remote_helper, by_hooks,
)  # fmt: skip
#: Only other commands do, or those that reach a server, which never run in the folder.
NEVER_RAN = (
    by_a_nested_repository, by_ssh, by_another_address, by_an_option_for_an_address, by_credentials, by_a_difference,
    by_an_alias,
)  # fmt: skip
Arm = Callable[[Clone, Trap], str]
hostile = pytest.mark.parametrize("arm", RAN + NEVER_RAN, ids=lambda arm: arm.__name__)


@hostile
def test_a_repository_starts_no_program(clone: Clone, trap: Trap, site: Site, arm: Arm) -> None:
    control = arm(clone, trap)
    asked = b"protocol=https\nhost=code.example\n\n"
    subprocess.run(["git", "-C", clone.folder, *control.split()], input=asked, capture_output=True, timeout=60)
    assert trap.sprung(), "git itself falls into the trap"
    touch(clone, 2)
    git.state(clone.folder)
    assert not trap.sprung()
    touch(clone, 3)
    site.statuses = [401] * 5  # The server asks for a password, too.
    release_source.remote(clone.folder)
    assert not trap.sprung()


def test_a_bake_of_a_hostile_folder_starts_no_program(clone: Clone, trap: Trap) -> None:
    commit = clone.git("rev-parse", "HEAD")
    for arm in (by_an_alias, by_credentials, by_hooks, by_a_filter, by_an_include, by_a_git_file):
        arm(clone, trap)
    for word in ("zipfile", "shutil", "pip", "sitecustomize"):
        (clone.folder / f"{word}.py").write_text(f"open({str(trap.mark)!r}, 'w')\n")
    (clone.folder / "app.py").write_text("from flask import Flask\napp = Flask(__name__)\n")
    report = Reporter(Terminal(file=io.StringIO()))
    shop = AppSource.read(clone.folder, report)
    # The part of a bake on this computer is bundle.collect, which render.machine_document begins with, and the origin.
    render.machine_document(shop, Settings(), PROVIDERS["gcp"], False, report)
    assert (shop.commit, shop.version) == (f"{commit}-dirty", "")
    assert not trap.sprung()


@pytest.mark.parametrize("place", ["apps/shop", "apps"])
def test_the_repository_around_a_folder_starts_no_program(clone: Clone, trap: Trap, place: str) -> None:
    commit = clone.commit({"apps/shop/app.py": "app = 1\n"})
    clone.push()
    by_fsmonitor(clone, trap)
    by_a_filter(clone, trap)
    assert git.state(clone.folder / place) == commit
    found = release_source.remote(clone.folder / place)
    assert isinstance(found, release_source.Git) and (found.commit, found.path) == (commit, place)
    assert not trap.sprung()


def test_a_folder_s_attributes_start_no_filter_of_the_user_s(
    clone: Clone, trap: Trap, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "settings").write_text(f'[filter "lfs"]\n\tclean = {trap.program}\n\tprocess = {trap.program}\n')
    commit = clone.commit({".gitattributes": "*.bin filter=lfs\n", "big.bin": "x\n"})
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "settings"))
    touch(clone)
    assert git.state(clone.folder) == commit
    assert not trap.sprung()
    subprocess.run(["git", "-C", clone.folder, "status"], capture_output=True)
    assert trap.sprung()


# What a repository says.


def state(clone: Clone) -> str:
    return git.state(clone.folder)


def test_a_folder_s_state_is_its_commit_and_whether_it_differs(clone: Clone, app: Path) -> None:
    commit = clone.git("rev-parse", "HEAD")
    assert git.state(app) == ""
    assert state(clone) == commit
    touch(clone)
    assert state(clone) == commit
    (clone.folder / "new.py").touch()
    assert state(clone) == f"{commit}-dirty"
    (clone.folder / "new.py").unlink()
    (clone.folder / "app.py").write_text("app = 2\n")
    assert state(clone) == f"{commit}-dirty"
    clone.git("checkout", "-q", "--orphan", "empty")
    assert state(clone) == ""


def test_reading_a_repository_changes_nothing_in_it(clone: Clone) -> None:
    def everything() -> dict[Path, tuple[int, bytes]]:
        paths = [path for path in clone.folder.rglob("*") if path.is_file()]
        return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in paths}

    touch(clone)
    before = everything()
    assert isinstance(release_source.remote(clone.folder), release_source.Git) and state(clone)
    assert everything() == before


def packed(clone: Clone) -> None:
    clone.git("pack-refs", "--all")
    clone.git("repack", "-q", "-a", "-d")


def detached(clone: Clone) -> None:
    clone.git("checkout", "-q", "--detach")


def a_split_index(clone: Clone) -> None:
    clone.git("update-index", "--split-index")


def an_untracked_cache(clone: Clone) -> None:
    clone.git("update-index", "--untracked-cache")
    clone.git("status")


def without_a_configuration(clone: Clone) -> None:
    clone.git("config", "--rename-section", "remote.origin", "gone")
    (clone.folder / ".git/config").unlink()


def a_tree_without_modes(clone: Clone) -> None:
    clone.git("config", "core.fileMode", "false")
    (clone.folder / "app.py").chmod(0o755)


def with_other_line_ends(clone: Clone) -> None:
    clone.git("config", "core.autocrlf", "true")
    (clone.folder / "app.py").unlink()
    clone.git("checkout", "-q", "app.py")
    assert (clone.folder / "app.py").read_bytes() == b"app = 1\r\n"
    touch(clone)


def with_an_ignored_file(clone: Clone) -> None:
    append(clone.folder / ".git/info/exclude", "*.log\n")
    (clone.folder / "x.log").touch()


def with_a_file_that_the_user_ignores(clone: Clone) -> None:
    patterns = clone.folder.parent / 'a "list" of names'
    patterns.write_text("*.log\n")
    run(["git", "config", "--file", clone.folder.parent / "settings", "core.excludesFile", patterns])
    (clone.folder / "x.log").touch()


def of_part_of_the_tree(clone: Clone) -> None:
    clone.git("sparse-checkout", "set", "--no-cone", "app.py")


def shallow(clone: Clone) -> None:
    clone.commit({"app.py": "app = 2\n"})
    clone.push()
    url, folder = f"file://{clone.bare}", clone.folder
    shutil.rmtree(folder)
    run(["git", "clone", "-q", "--depth=1", url, folder])
    clone.git("remote", "set-url", "origin", clone.url)


def without_old_files(clone: Clone) -> None:
    clone.commit({"app.py": "app = 2\n"})
    clone.push()
    run(["git", "-C", clone.bare, "config", "uploadpack.allowFilter", "true"])
    shutil.rmtree(clone.folder)
    run(["git", "clone", "-q", "--filter=blob:none", f"file://{clone.bare}", clone.folder])
    clone.git("remote", "set-url", "origin", clone.url)


def with_objects_elsewhere(clone: Clone) -> None:
    shutil.rmtree(clone.folder)
    run(["git", "clone", "-q", "--shared", clone.bare, clone.folder])
    clone.git("remote", "set-url", "origin", clone.url)


def of_another_user(clone: Clone) -> None:
    if os.geteuid() != 0:
        pytest.skip("root alone can give files away")
    for path in (clone.folder, *clone.folder.rglob("*")):
        os.chown(path, 12345, 12345)


@pytest.mark.parametrize(
    "change",
    [
        packed, detached, a_split_index, an_untracked_cache, without_a_configuration, a_tree_without_modes,
        with_other_line_ends, with_an_ignored_file, with_a_file_that_the_user_ignores, of_part_of_the_tree, shallow,
        without_old_files, with_objects_elsewhere, of_another_user,
    ],
)  # fmt: skip
def test_a_clean_checkout_is_clean_however_git_keeps_it(
    clone: Clone, monkeypatch: pytest.MonkeyPatch, change: Callable[[Clone], None]
) -> None:
    change(clone)
    if (clone.folder.parent / "settings").exists():
        monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(clone.folder.parent / "settings"))
    commit = run(["git", "-c", f"safe.directory={clone.folder}", "-C", clone.folder, "rev-parse", "HEAD"]).stdout
    assert state(clone) == commit.strip()
    found = release_source.remote(clone.folder)
    if change is without_a_configuration:
        assert isinstance(found, str) and "no remote `origin`" in found
    else:
        assert isinstance(found, release_source.Git) and found.commit == commit.strip()
    (clone.folder / "app.py").write_text("app = 3\n")
    assert state(clone) == f"{commit.strip()}-dirty"


def test_a_worktree_is_read_as_its_repository_is(clone: Clone, trap: Trap) -> None:
    place = clone.folder.parent / "worktree"
    clone.git("worktree", "add", "-q", str(place), "-b", "other")
    by_fsmonitor(clone, trap)
    (place / "pkg").mkdir()
    (place / "pkg/x.py").touch()
    run(["git", "-c", "core.fsmonitor=false", "-C", place, "add", "."])
    run(["git", "-c", "core.fsmonitor=false", "-C", place, "commit", "-q", "-m", "two"])
    run(["git", "-c", "core.fsmonitor=false", "-C", place, "push", "-q", clone.bare, "other"])
    commit = run(["git", "-C", place, "rev-parse", "HEAD"]).stdout.strip()
    assert git.state(place) == commit != state(clone)
    found = release_source.remote(place / "pkg")
    assert isinstance(found, release_source.Git)
    assert (found.url, found.commit, found.path, found.files) == (clone.url, commit, "pkg", frozenset({"x.py"}))
    (place / "new.py").touch()
    assert git.state(place) == f"{commit}-dirty" and git.state(place / "pkg") == commit
    assert not trap.sprung()


def test_a_submodule_counts_as_far_as_its_commit_and_its_files(clone: Clone) -> None:
    inner = clone.folder / "libs/inner"
    run(["git", "init", "-q", inner])
    (inner / "x.py").touch()
    run(["git", "-C", inner, "add", "."])
    run(["git", "-C", inner, "commit", "-q", "-m", "one"])
    commit = clone.commit({})
    clone.push()
    assert state(clone) == commit
    assert isinstance(release_source.remote(clone.folder), release_source.Git)
    (inner / "y.py").touch()
    assert state(clone) == f"{commit}-dirty"
    assert release_source.remote(clone.folder) == "libs/inner is not committed"
    (inner / "y.py").unlink()
    run(["git", "-C", inner, "commit", "-q", "--allow-empty", "-m", "two"])
    assert state(clone) == f"{commit}-dirty"
    # Not checked out, it is as it should be; away, it is not.
    shutil.rmtree(inner)
    inner.mkdir()
    assert state(clone) == commit
    inner.rmdir()
    assert state(clone) == f"{commit}-dirty"
    inner.symlink_to(clone.folder)
    assert state(clone) == f"{commit}-dirty"


def test_names_of_sha_256_are_read_and_not_fetched(clone: Clone) -> None:
    shutil.rmtree(clone.folder)
    run(["git", "init", "-q", "--object-format=sha256", "-b", "main", clone.folder])
    clone.git("remote", "add", "origin", clone.url)
    commit = clone.commit({"app.py": "app = 1\n"})
    assert len(commit) == 64 and state(clone) == commit
    said = release_source.remote(clone.folder)
    assert isinstance(said, str) and "SHA-256" in said


def in_lfs(clone: Clone, content: bytes) -> str:
    """Commit big.bin as git-lfs does: a pointer, with the content itself in the folder."""
    pointer = "version https://git-lfs.github.com/spec/v1\n"
    pointer += f"oid sha256:{hashlib.sha256(content).hexdigest()}\nsize {len(content)}\n"
    clone.commit({".gitattributes": "*.bin filter=lfs diff=lfs merge=lfs -text\n", "big.bin": pointer})
    (clone.folder / "big.bin").write_bytes(content)
    return clone.git("rev-parse", "HEAD")


def test_a_file_in_lfs_is_compared_by_its_pointer(clone: Clone) -> None:
    commit = in_lfs(clone, b"much\n" * 1000)
    assert state(clone) == commit
    (clone.folder / "big.bin").write_bytes(b"other\n")
    assert state(clone) == f"{commit}-dirty"
    said = release_source.remote(clone.folder)
    assert isinstance(said, str) and "LFS" in said


def test_another_filtered_file_is_compared_as_it_is(clone: Clone) -> None:
    commit = clone.commit({".gitattributes": "*.txt filter=upper\n", "x.txt": "UPPER\n"})
    assert state(clone) == commit
    (clone.folder / "x.txt").write_text("upper\n")
    assert state(clone) == f"{commit}-dirty"


def break_head(clone: Clone) -> None:
    (clone.folder / ".git/HEAD").write_text("nonsense\n")


def break_configuration(clone: Clone) -> None:
    append(clone.folder / ".git/config", "[x\n")


def break_index(clone: Clone) -> None:
    (clone.folder / ".git/index").write_text("nonsense\n")


def lose_git_directory(clone: Clone) -> None:
    shutil.rmtree(clone.folder / ".git")
    (clone.folder / ".git").write_text("gitdir: ../away\n")


def put_nul_into_place(clone: Clone) -> None:
    shutil.rmtree(clone.folder / ".git")
    (clone.folder / ".git").write_bytes(b"gitdir: a\0b\n")


def keep_refs_in_a_table(clone: Clone) -> None:
    append(clone.folder / ".git/config", "[core]\nrepositoryformatversion = 1\n[extensions]\nrefStorage = reftable\n")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (break_head, "not a git repository"), (break_configuration, "bad config line"), (break_index, "index"),
        (lose_git_directory, "No such file"), (put_nul_into_place, "null byte"), (keep_refs_in_a_table, "reftable"),
    ],
)  # fmt: skip
def test_a_repository_that_cannot_be_read_is_none_and_the_reason_is_told(
    clone: Clone, damage: Callable[[Clone], None], words: str
) -> None:
    damage(clone)
    said = release_source.remote(clone.folder)
    assert isinstance(said, str) and words in said
    assert state(clone) == ""


def test_without_git_there_is_no_repository(clone: Clone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    assert state(clone) == "" and release_source.remote(clone.folder) == ""


def test_a_hook_s_environment_does_not_lead_to_another_repository(
    clone: Clone, app: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = clone.git("rev-parse", "HEAD")
    other = app.parent / "other"
    run(["git", "init", "-q", other])
    (other / "x").touch()
    run(["git", "-C", other, "add", "x"])
    index = (other / ".git/index").read_bytes()
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(other / ".git/index"))
    assert git.state(clone.folder) == commit
    assert isinstance(release_source.remote(clone.folder), release_source.Git)
    git.check_out(clone.url, commit, app / "out")
    assert sorted(path.name for path in (app / "out").iterdir()) == ["app.py", "requirements.txt"]
    assert (other / ".git/index").read_bytes() == index


# Public repositories.


def test_a_fetched_commit_starts_no_program(
    clone: Clone, trap: Trap, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hooks = tmp_path / "template/hooks"
    hooks.mkdir(parents=True)
    for name in ("post-checkout", "reference-transaction", "post-index-change"):
        shutil.copy(trap.program, hooks / name)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "settings"))
    (tmp_path / "settings").write_text(
        f"[init]\ntemplateDir = {tmp_path}/template\n"
        f'[filter "lfs"]\nsmudge = {trap.program}\nrequired = true\n[core]\nfsmonitor = {trap.program}\n'
    )
    clone_settings = {"GIT_CONFIG_GLOBAL": os.devnull}
    (clone.folder / ".gitattributes").write_text("*.bin filter=lfs\n")
    (clone.folder / "big.bin").write_text("pointer\n")
    run(["git", "-C", clone.folder, "add", "."], env=clone_settings)
    run(["git", "-C", clone.folder, "commit", "-q", "-m", "two"], env=clone_settings)
    run(["git", "-C", clone.folder, "push", "-q", clone.bare, "main"], env=clone_settings)
    commit = run(["git", "-C", clone.folder, "rev-parse", "HEAD"], env=clone_settings).stdout.strip()
    assert not trap.sprung()
    git.check_out(clone.url, commit, tmp_path / "out")
    assert not trap.sprung()
    assert (tmp_path / "out/big.bin").read_text() == "pointer\n", "what a machine fetches"
    subprocess.run(["git", "clone", "-q", clone.bare, tmp_path / "control"], capture_output=True)
    assert trap.sprung()


def test_submodules_of_a_fetched_commit_are_not_followed(clone: Clone, site: Site, tmp_path: Path) -> None:
    inner = clone.folder / "inner"
    run(["git", "init", "-q", inner])
    run(["git", "-C", inner, "commit", "-q", "--allow-empty", "-m", "one"])
    commit = clone.commit({".gitmodules": f'[submodule "inner"]\npath = inner\nurl = {site.address}/inner.git\n'})
    clone.push()
    git.check_out(clone.url, commit, tmp_path / "out")
    assert not list((tmp_path / "out/inner").iterdir())
    assert not [path for path in site.asked if "inner" in path]


@pytest.mark.parametrize("address", ["ext::{trap}", "file://{bare}", "--upload-pack={trap}", "-c", "ssh://-o{trap}/x"])
def test_nothing_but_https_is_spoken(clone: Clone, trap: Trap, tmp_path: Path, address: str) -> None:
    there = address.format(trap=trap.program, bare=clone.bare)
    with pytest.raises((NetworkError, SourceError)):
        git.check_out(there, clone.git("rev-parse", "HEAD"), tmp_path / "out")
    assert git.remote_commits(there) == set()
    assert not trap.sprung()


def test_a_server_is_asked_where_timeout_is_missing(clone: Clone, monkeypatch: pytest.MonkeyPatch) -> None:
    head = clone.git("rev-parse", "HEAD")
    monkeypatch.setattr(git, "which", lambda program: None)
    assert git.remote_commits(clone.url) == {head}


def test_patterns_that_git_cannot_match_in_time_end_it(clone: Clone, monkeypatch: pytest.MonkeyPatch) -> None:
    assert git.state(clone.folder)
    (clone.folder / ".gitignore").write_text("**/a/" * 20 + "b\n")
    deep = clone.folder / ("a/" * 100)
    deep.mkdir(parents=True)
    (deep / "c").touch()
    monkeypatch.setattr(git, "PATIENCE", 1.0)
    begun = time.monotonic()
    assert git.state(clone.folder) == ""
    assert time.monotonic() - begun < 20
