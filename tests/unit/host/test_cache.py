"""The cache, the lock, and outputs that appear whole or not at all."""

from __future__ import annotations

import fcntl
import os
import signal
import time
from pathlib import Path
from subprocess import Popen

import pytest
from conftest import Helper, running, soon

from bake.errors import PlaceError, SpaceError
from bake.host import cache
from bake.host.programs import run

WRITE = """
import sys, time
from pathlib import Path
from bake.host import cache
with cache.whole(Path(sys.argv[1])) as partial:
    partial.mkdir()
    (partial / "half").write_text("half")
    print("writing", flush=True)
    time.sleep(1000)
"""
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
with cache.only_one(print):
    print("held", flush=True)
    time.sleep(1000)
"""


def line(process: Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_digests_are_those_of_the_value_and_not_of_its_order() -> None:
    assert cache.digest({"a": 1, "b": [2]}) == cache.digest({"b": [2], "a": 1})
    assert cache.digest({"a": 1}) != cache.digest({"a": "1"})
    assert cache.digest([1, 2]) != cache.digest([2, 1])
    # Known: SHA-256 of the two characters `{}`.
    assert cache.digest({}) == "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"


def test_a_files_digest_is_sha256sums(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(os.urandom(3_000_000))
    assert cache.file_digest(file) == run(["sha256sum", file]).stdout.split()[0]


def test_a_trees_digest_knows_names_bytes_and_who_may_run_it(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    file = tmp_path / "sub" / "file"
    file.write_text("one")
    seen = {cache.tree_digest(tmp_path)}

    def differs() -> bool:
        before = len(seen)
        seen.add(cache.tree_digest(tmp_path))
        return len(seen) > before

    file.write_text("two")
    assert differs()
    file.chmod(0o755)
    assert differs()
    file.rename(tmp_path / "sub" / "other")
    assert differs()
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__" / "x.pyc").touch()
    os.utime(tmp_path / "sub" / "other", (0, 0))
    assert not differs()


def test_ages_are_in_days() -> None:
    assert cache.age_days(time.time() - 2 * 86400) == pytest.approx(2, abs=0.001)


def test_a_file_appears_whole(tmp_path: Path) -> None:
    final = tmp_path / "new" / "file"
    with cache.whole(final) as partial:
        partial.write_text("text")
        assert not final.exists()
        assert partial.parent == final.parent
    assert final.read_text() == "text"
    assert names(final.parent) == ["file"]


def test_a_folder_appears_whole_in_the_place_of_the_old_one(tmp_path: Path) -> None:
    final = tmp_path / "folder"
    for text in ("old", "new"):
        with cache.whole(final) as partial:
            partial.mkdir()
            (partial / text).write_text(text)
    assert names(final) == ["new"]
    assert names(tmp_path) == ["folder"]


@pytest.mark.parametrize("problem", [ValueError, KeyboardInterrupt, SystemExit])
def test_nothing_appears_when_the_writing_fails(tmp_path: Path, problem: type[BaseException]) -> None:
    final = tmp_path / "file"
    final.write_text("old")
    with pytest.raises(problem), cache.whole(final) as partial:
        partial.write_text("half")
        raise problem
    assert final.read_text() == "old"
    assert names(tmp_path) == ["file"]


def test_forgetting_to_write_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), cache.whole(tmp_path / "file"):
        pass
    assert names(tmp_path) == []


def test_a_writer_that_is_killed_leaves_no_output_and_the_next_one_cleans_up(tmp_path: Path, helper: Helper) -> None:
    final = tmp_path / "out" / "folder"
    writer = helper(WRITE, final)
    assert line(writer) == "writing"
    os.kill(writer.pid, signal.SIGKILL)
    writer.wait()
    assert not final.exists()
    assert names(final.parent) == [".folder.partial"]
    with cache.whole(final) as partial:
        assert not partial.exists()
        partial.mkdir()
    assert names(final.parent) == ["folder"]


def test_writing_a_text_replaces_it(tmp_path: Path) -> None:
    cache.write(tmp_path / "file", "one")
    cache.write(tmp_path / "file", "two")
    assert (tmp_path / "file").read_text() == "two"


def test_copies_keep_their_holes(tmp_path: Path) -> None:
    with (tmp_path / "sparse").open("wb") as stream:
        stream.truncate(50_000_000)
        stream.seek(20_000_000)
        stream.write(b"island")
    cache.copy(tmp_path / "sparse", tmp_path / "copy")
    assert cache.file_digest(tmp_path / "copy") == cache.file_digest(tmp_path / "sparse")
    assert (tmp_path / "copy").stat().st_blocks * 512 < 1_000_000


def test_removing_takes_what_is_there_and_not_what_it_points_at(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file").touch()
    (tmp_path / "link").symlink_to(kept)
    (tmp_path / "folder" / "deep").mkdir(parents=True)
    for name in ("link", "folder", "nothing"):
        cache.remove(tmp_path / name)
    assert names(tmp_path) == ["kept"]
    assert names(kept) == ["file"]


def test_a_full_disk_has_its_own_error(tmp_path: Path) -> None:
    full = Path("/dev/full")
    with pytest.raises(SpaceError, match="is full"), cache.disk_faults(tmp_path), full.open("w") as stream:
        stream.write("x")


def test_a_folder_that_cannot_be_written_has_its_own_error() -> None:
    # sysfs refuses even root.
    with pytest.raises(PlaceError, match="cannot be written"):
        cache.write(Path("/sys/kernel/bake-test"), "text")


def test_a_file_in_a_folder_s_place_has_that_error_too(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for place in (tmp_path / "file/inside", tmp_path / "file/deep/inside"):
        with pytest.raises(PlaceError, match=r"/file\S* cannot be written"):
            cache.write(place, "text")
    with pytest.raises(PlaceError, match="cannot be written"):
        cache.require_space(tmp_path / "file", 1)


def test_other_faults_of_the_system_stay_what_they_are(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), cache.disk_faults(tmp_path):
        (tmp_path / "missing").read_text()


def test_room_is_asked_for_before_the_work(tmp_path: Path) -> None:
    cache.require_space(tmp_path / "new", 1)
    assert (tmp_path / "new").is_dir()
    with pytest.raises(SpaceError, match=r"bake needs 1000000000\.0 GB"):
        cache.require_space(tmp_path, 10**18)


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
        with cache.only_one(heard.append):
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
    assert not cache_folder.exists()


def entry(cache_folder: Path, kind: str, name: str, days: float) -> Path:
    folder = cache_folder / kind / name
    folder.mkdir(parents=True)
    (folder / "disk").write_bytes(os.urandom(1 << 20))
    moment = time.time() - days * 86400
    os.utime(folder, (moment, moment))
    return folder


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
