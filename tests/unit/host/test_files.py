"""Digests, outputs that appear whole or not at all, and faults of the disk."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
from conftest import Helper, line, names

from bake.errors import PlaceError, SpaceError
from bake.host import files
from bake.host.programs import run

WRITE = """
import sys, time
from pathlib import Path
from bake.host import files
with files.atomic_output(Path(sys.argv[1])) as partial:
    partial.mkdir()
    (partial / "half").write_text("half")
    print("writing", flush=True)
    time.sleep(1000)
"""


def test_digests_are_those_of_the_value_and_not_of_its_order() -> None:
    assert files.digest({"a": 1, "b": [2]}) == files.digest({"b": [2], "a": 1})
    assert files.digest({"a": 1}) != files.digest({"a": "1"})
    assert files.digest([1, 2]) != files.digest([2, 1])
    # Known: SHA-256 of the two characters `{}`.
    assert files.digest({}) == "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"


def test_a_files_digest_is_sha256sums(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(os.urandom(3_000_000))
    assert files.file_digest(file) == run(["sha256sum", file]).stdout.split()[0]


def test_a_trees_digest_knows_names_bytes_and_who_may_run_it(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    file = tmp_path / "sub" / "file"
    file.write_text("one")
    seen = {files.tree_digest(tmp_path)}

    def differs() -> bool:
        before = len(seen)
        seen.add(files.tree_digest(tmp_path))
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


def test_a_file_appears_whole(tmp_path: Path) -> None:
    final = tmp_path / "new" / "file"
    with files.atomic_output(final) as partial:
        partial.write_text("text")
        assert not final.exists()
        assert partial.parent == final.parent
    assert final.read_text() == "text"
    assert names(final.parent) == ["file"]


def test_a_folder_appears_whole_in_the_place_of_the_old_one(tmp_path: Path) -> None:
    final = tmp_path / "folder"
    for text in ("old", "new"):
        with files.atomic_output(final) as partial:
            partial.mkdir()
            (partial / text).write_text(text)
    assert names(final) == ["new"]
    assert names(tmp_path) == ["folder"]


@pytest.mark.parametrize("problem", [ValueError, KeyboardInterrupt, SystemExit])
def test_nothing_appears_when_the_writing_fails(tmp_path: Path, problem: type[BaseException]) -> None:
    final = tmp_path / "file"
    final.write_text("old")
    with pytest.raises(problem), files.atomic_output(final) as partial:
        partial.write_text("half")
        raise problem
    assert final.read_text() == "old"
    assert names(tmp_path) == ["file"]


def test_forgetting_to_write_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), files.atomic_output(tmp_path / "file"):
        pass
    assert names(tmp_path) == []


def test_a_writer_that_is_killed_leaves_no_output_and_the_next_one_cleans_up(tmp_path: Path, helper: Helper) -> None:
    final = tmp_path / "out" / "folder"
    writer = helper(WRITE, final)
    assert line(writer) == "writing"
    os.kill(writer.pid, signal.SIGKILL)
    writer.wait()
    assert not final.exists()
    (left,) = final.parent.iterdir()
    assert left.name.startswith(".folder.") and left.name.endswith(".partial")
    os.utime(left, (time.time() - files.ABANDONED,) * 2)
    with files.atomic_output(final) as partial:
        assert not partial.exists()
        partial.mkdir()
    assert names(final.parent) == ["folder"]


def test_two_processes_may_make_the_same_output(tmp_path: Path) -> None:
    for make in (lambda path: path.mkdir(), lambda path: path.write_text("text")):
        final = tmp_path / "output"
        with files.atomic_output(final) as first:
            make(first)
            with files.atomic_output(final) as second:
                make(second)
                assert first.exists() and first != second
                if second.is_dir():
                    (second / "file").touch()
            assert final.exists()
        assert names(tmp_path) == ["output"]
        files.remove(final)


def test_a_partial_output_of_another_name_stays(tmp_path: Path) -> None:
    for name in (".other.1.partial", ".output.x.1.partial", ".output.1.partial"):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (0, 0))
    (tmp_path / ".output.2.partial").touch()
    files.write(tmp_path / "output", "text")
    assert names(tmp_path) == [".other.1.partial", ".output.2.partial", ".output.x.1.partial", "output"]


def test_writing_a_text_replaces_it(tmp_path: Path) -> None:
    files.write(tmp_path / "file", "one")
    files.write(tmp_path / "file", "two")
    assert (tmp_path / "file").read_text() == "two"


def test_copies_keep_their_holes(tmp_path: Path) -> None:
    with (tmp_path / "sparse").open("wb") as stream:
        stream.truncate(50_000_000)
        stream.seek(20_000_000)
        stream.write(b"island")
    files.copy(tmp_path / "sparse", tmp_path / "copy")
    assert files.file_digest(tmp_path / "copy") == files.file_digest(tmp_path / "sparse")
    assert (tmp_path / "copy").stat().st_blocks * 512 < 1_000_000


def test_removing_takes_what_is_there_and_not_what_it_points_at(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file").touch()
    (tmp_path / "link").symlink_to(kept)
    (tmp_path / "folder" / "deep").mkdir(parents=True)
    for name in ("link", "folder", "nothing"):
        files.remove(tmp_path / name)
    assert names(tmp_path) == ["kept"]
    assert names(kept) == ["file"]


def test_a_full_disk_has_its_own_error(tmp_path: Path) -> None:
    full = Path("/dev/full")
    with pytest.raises(SpaceError, match="is full"), files.disk_faults(tmp_path), full.open("w") as stream:
        stream.write("x")


def test_a_folder_that_cannot_be_written_has_its_own_error() -> None:
    # sysfs refuses even root.
    with pytest.raises(PlaceError, match="cannot be written"):
        files.write(Path("/sys/kernel/bake-test"), "text")


def test_a_file_in_a_folder_s_place_has_that_error_too(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for place in (tmp_path / "file/inside", tmp_path / "file/deep/inside"):
        with pytest.raises(PlaceError, match=r"/file\S* cannot be written"):
            files.write(place, "text")
    with pytest.raises(PlaceError, match="cannot be written"):
        files.require_space(tmp_path / "file", 1)


def test_other_faults_of_the_system_stay_what_they_are(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), files.disk_faults(tmp_path):
        (tmp_path / "missing").read_text()


def test_room_is_asked_for_before_the_work(tmp_path: Path) -> None:
    files.require_space(tmp_path / "new", 1)
    assert (tmp_path / "new").is_dir()
    with pytest.raises(SpaceError, match=r"bake needs 1000000000\.0 GB"):
        files.require_space(tmp_path, 10**18)


def test_the_end_of_a_file_without_an_end_is_read(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("one\ntwo\n")
    assert (files.end(path), files.end(path, 4)) == ("one\ntwo\n", "two\n")
    os.truncate(path, 9 << 30)
    with path.open("a") as stream:
        stream.write("the end")
    assert len(files.end(path)) == files.END and files.end(path, 4).endswith("\0the end")
