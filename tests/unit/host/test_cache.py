"""The cache: its lock, ages, scratch folders, and the bound that trimming keeps."""

from __future__ import annotations

import fcntl
import os
import signal
import time
from pathlib import Path

import pytest
from conftest import Helper, line, names, running, soon

from bake.host import cache

WORK = """
import sys, time
from bake.host import cache
with cache.work_folder() as work:
    (work / "big").write_text("scratch")
    print(work, flush=True)
    time.sleep(1000)
"""
HOLD = """
import sys, time
from bake.host import cache
with cache.lock(print):
    print("held", flush=True)
    time.sleep(1000)
"""


def test_ages_are_in_days() -> None:
    assert cache.age_days(time.time() - 2 * 86400) == pytest.approx(2, abs=0.001)


def test_the_lock_is_held_and_the_one_who_waits_is_told_by_whom(cache_folder: Path, helper: Helper) -> None:
    first = helper(HOLD)
    assert line(first) == "held"
    second = helper(HOLD)
    assert line(second) == str(first.pid)
    with pytest.raises(BlockingIOError), (cache_folder / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    time.sleep(0.2)
    assert second.poll() is None
    # However the holder ends, the kernel lets the next one in.
    os.kill(first.pid, signal.SIGKILL)
    assert line(second) == "held"
    assert (cache_folder / "lock").read_text() == str(second.pid)


def test_a_lock_nobody_holds_makes_nobody_wait(cache_folder: Path) -> None:
    heard: list[str] = []
    for _ in range(2):
        with cache.lock(heard.append):
            assert (cache_folder / "lock").read_text() == str(os.getpid())
    assert heard == []


def test_work_goes_when_it_is_done(cache_folder: Path) -> None:
    with cache.work_folder() as work:
        (work / "sub").mkdir()
        assert work.parent == cache_folder / "work"
    with pytest.raises(KeyboardInterrupt), cache.work_folder():
        raise KeyboardInterrupt
    assert names(cache_folder / "work") == []


def test_the_next_start_removes_the_work_of_the_dead_and_leaves_that_of_the_living(
    cache_folder: Path, helper: Helper
) -> None:
    dead, alive = helper(WORK), helper(WORK)
    left, used = Path(line(dead)), Path(line(alive))
    os.kill(dead.pid, signal.SIGKILL)
    dead.wait()
    assert (left / "big").exists()
    cache.reap()
    assert names(cache_folder / "work") == [used.name]
    assert (used / "big").exists()


def test_a_child_of_the_dead_does_not_keep_its_work(cache_folder: Path, helper: Helper, marker: str) -> None:
    # The lock must not be inherited by the programs we start.
    dead = helper(
        WORK.replace("time.sleep", "import subprocess; subprocess.Popen(['sleep', sys.argv[1]]); time.sleep"), marker
    )
    assert soon(lambda: running(marker, "sleep"))
    os.kill(dead.pid, signal.SIGKILL)
    dead.wait()
    cache.reap()
    assert names(cache_folder / "work") == []
    # Still there, and holding nothing.
    assert running(marker, "sleep")


def test_reaping_needs_no_cache(cache_folder: Path) -> None:
    cache.reap()
    assert not (cache_folder / "work").exists()


def entry(cache_folder: Path, kind: str, name: str, days: float) -> Path:
    folder = cache_folder / kind / name
    folder.mkdir(parents=True)
    (folder / "disk").write_bytes(os.urandom(1 << 20))
    moment = time.time() - days * 86400
    os.utime(folder, (moment, moment))
    return folder


def test_work_folders_do_not_disturb_each_other(cache_folder: Path, helper: Helper) -> None:
    loop = """
from bake.host import cache
for _ in range(150):
    with cache.work_folder() as work:
        (work / "file").touch()
        assert (work / "file").exists()
print("done", flush=True)
"""
    assert {line(process) for process in [helper(loop) for _ in range(4)]} == {"done"}
    assert names(cache_folder / "work") == []


@pytest.mark.parametrize("content", [b"", b"text", b"\xff\n", b"0\ntext"])
def test_a_damaged_text_is_not_used(cache_folder: Path, content: bytes) -> None:
    path = cache_folder / "locks" / "key.txt"
    assert cache.kept(path) is None
    cache.keep(path, "text\nüber\n")
    assert cache.kept(path) == "text\nüber\n"
    whole = path.read_bytes()
    for damaged in (content, whole[:-1], whole + b"x", whole.replace(b"text", b"next")):
        path.write_bytes(damaged)
        assert cache.kept(path) is None
    path.unlink()
    path.mkdir()
    assert cache.kept(path) is None
    cache.keep(path, "")
    assert cache.kept(path) == ""


def test_the_lock_removes_partial_images_but_not_what_others_write_without_it(cache_folder: Path) -> None:
    for kind in ("image", "locks"):
        (cache_folder / kind).mkdir(parents=True)
        (cache_folder / kind / ".key.1.partial").touch()
    with cache.lock(print):
        assert names(cache_folder / "image") == [] and names(cache_folder / "locks") == [".key.1.partial"]


def test_trimming_drops_what_was_least_recently_used(cache_folder: Path) -> None:
    old, older, new = (
        entry(cache_folder, "base", "old", 2),
        entry(cache_folder, "image", "older", 3),
        entry(cache_folder, "image", "new", 1),
    )
    cache.trim(10 << 20)
    assert old.exists() and older.exists() and new.exists()
    cache.touch(older)
    cache.trim(5 << 19)
    assert not old.exists()
    assert older.exists() and new.exists()


def test_trimming_leaves_the_newest_however_large(cache_folder: Path) -> None:
    old, new = entry(cache_folder, "base", "old", 2), entry(cache_folder, "image", "new", 1)
    cache.trim(0)
    assert not old.exists()
    assert new.exists()


def test_trimming_touches_nothing_else(cache_folder: Path) -> None:
    wheels = cache_folder / "wheels"
    wheels.mkdir(parents=True)
    (wheels / "x.whl").write_bytes(bytes(1 << 20))
    cache.trim(0)
    assert (wheels / "x.whl").exists()


def test_trimming_counts_blocks_and_not_holes(cache_folder: Path) -> None:
    entries = [entry(cache_folder, "base", name, days) for name, days in (("old", 2), ("new", 1))]
    for folder in entries:
        with (folder / "sparse").open("wb") as stream:
            stream.truncate(1 << 30)
        os.utime(folder, (folder.stat().st_mtime - 10, folder.stat().st_mtime - 10))
    cache.trim(10 << 20)
    assert all(folder.exists() for folder in entries)


def test_soon_gives_up() -> None:
    # The tests above lean on it: it must be able to say no.
    assert not soon(lambda: False, 0.05)


def test_trimming_drops_builder_roots_but_not_their_lock(cache_folder: Path) -> None:
    with cache.builder_lock(print):
        assert (cache_folder / "builder" / "lock").read_text() == str(os.getpid())
    root, image = entry(cache_folder, "builder", "root", 2), entry(cache_folder, "image", "new", 1)
    # A link of the root may lead anywhere.
    (root / "loop").symlink_to("/proc/self/root")
    os.utime(root, (1, 1))
    cache.trim(1 << 20)
    assert not root.exists() and image.exists() and (cache_folder / "builder" / "lock").exists()


def test_the_lock_of_the_builder_roots_is_another_one(cache_folder: Path) -> None:
    heard: list[str] = []
    with cache.lock(heard.append), cache.builder_lock(heard.append):
        assert heard == []
