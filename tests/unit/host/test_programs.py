"""The door to other programs: what comes back, and that nothing is left behind."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest
from conftest import Fake, Helper, running, soon

from bake.errors import ProgramError, ToolError
from bake.host import programs
from bake.image import packer

SLEEP = "import sys; from bake.host import programs; programs.run(sys.argv[2:], namespaces=sys.argv[1] == 'yes')"
#: A program that starts others: with the marker as its last word, it makes two that sleep.
FAMILY = ("sh", "-c", 'sleep "$0" & sleep "$0"; :')


def test_streams_come_back_apart() -> None:
    assert programs.run(["sh", "-c", "echo out; echo err >&2"]) == programs.Result(0, "out\n", "err\n")


def test_input_is_passed_on() -> None:
    assert programs.run(["cat"], stdin="hälló\n").stdout == "hälló\n"
    assert programs.run(["cat"]).stdout == ""


def test_lines_come_while_the_program_runs() -> None:
    heard: list[tuple[str, float]] = []
    script = "echo first; echo second >&2; sleep 0.5; printf third"
    started = time.monotonic()
    done = programs.stream(["sh", "-c", script], lambda line: heard.append((line, time.monotonic() - started)))
    assert [line for line, _ in heard] == ["first", "second", "third"]
    assert heard[2][1] - heard[0][1] > 0.3
    assert (done.stdout, done.stderr) == ("", "first\nsecond\nthird")


def test_lines_that_are_not_text_are_shown_all_the_same() -> None:
    heard: list[str] = []
    programs.stream(["printf", r"caf\351\r\n\nend"], heard.append)
    assert heard == ["caf\ufffd", "", "end"]


def test_a_failing_program_gives_its_words_and_its_last_lines() -> None:
    with pytest.raises(ProgramError) as caught:
        programs.run(["sh", "-c", "seq 100 >&2; exit 7", "two words"])
    assert caught.value.message == "sh failed with exit status 7"
    lines = caught.value.details.splitlines()
    assert lines[0].endswith("'two words'")
    assert lines[1:] == [str(number) for number in range(61, 101)]


def test_a_failing_program_that_only_uses_standard_output_is_quoted_too() -> None:
    with pytest.raises(ProgramError) as caught:
        programs.run(["sh", "-c", "echo the reason; exit 1"])
    assert "\nthe reason" in caught.value.details
    with pytest.raises(ProgramError) as caught:
        programs.stream(["sh", "-c", "echo streamed; exit 1"], lambda line: None)
    assert "\nstreamed" in caught.value.details


def test_a_status_can_be_asked_for() -> None:
    assert programs.run(["sh", "-c", "exit 3"], check=False).status == 3


def test_a_program_that_is_missing_has_its_own_error() -> None:
    with pytest.raises(ToolError, match="no-such-program is not installed"):
        programs.run(["no-such-program"])


def test_environment_is_added_to_ours(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FROM_US", "one")
    said = programs.run(["sh", "-c", 'echo "$FROM_US $ADDED"; pwd'], env={"ADDED": "two"}, cwd=tmp_path).stdout
    assert said == f"one two\n{tmp_path}\n"


def test_no_program_starts_in_the_current_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Packer starts ./packer-plugin-*, mmdebstrap ./tarfilter, and QEMU loads ./bios-256k.bin, also from an app."""
    (tmp_path / "bin").mkdir()
    for name in ("bin/show", "file"):
        (tmp_path / name).write_text('#!/bin/sh\npwd; cat -- "$@"\n')
        (tmp_path / name).chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"bin:{os.environ['PATH']}")
    text = Path("file").read_text()
    # Paths are those of the current folder, all the same.
    assert programs.run(["show", Path("file")]).stdout == f"/\n{text}"
    heard: list[str] = []
    programs.stream(["pwd"], heard.append)
    assert heard == ["/"]


@pytest.mark.skipif(not programs.which("packer"), reason="Packer is not installed")
def test_packer_does_not_start_what_lies_in_the_current_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    plugin = tmp_path / "packer-plugin-trap"
    plugin.write_text(f"#!/bin/sh\ntouch {tmp_path}/started\nexit 1\n")
    plugin.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    assert packer.version() >= packer.MIN_VERSION
    assert not (tmp_path / "started").exists()


def test_administrators_tools_are_found_without_their_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert programs.which("sfdisk") is not None
    assert programs.which("no-such-program") is None


def test_the_first_of_that_name_on_path_is_run(fake: Fake) -> None:
    fake("xorriso", "echo the fake")
    assert programs.run(["xorriso"]).stdout == "the fake\n"


def test_a_timeout_ends_the_program(marker: str) -> None:
    started = time.monotonic()
    with pytest.raises(ProgramError, match="did not end within"):
        programs.run(["sleep", marker], timeout=0.3)
    assert time.monotonic() - started < 5
    assert running(marker) == []


def test_an_exception_while_listening_ends_the_program(marker: str) -> None:
    def refuse(line: str) -> None:
        raise ValueError(line)

    with pytest.raises(ValueError, match="hello"):
        programs.stream(["sh", "-c", 'echo hello; exec sleep "$0"', marker], refuse)
    assert running(marker) == []


def test_stop_asks_before_it_kills(tmp_path: Path) -> None:
    script = f"trap 'echo asked > {tmp_path}/said; exit 5' TERM; echo > {tmp_path}/ready; while :; do sleep 0.02; done"
    process = programs.start(["sh", "-c", script])
    assert soon((tmp_path / "ready").exists)
    programs.stop(process)
    assert ((tmp_path / "said").read_text(), process.returncode) == ("asked\n", 5)


def test_stop_kills_what_does_not_listen(tmp_path: Path) -> None:
    process = programs.start(["sh", "-c", f"trap '' TERM; echo > {tmp_path}/ready; while :; do sleep 0.02; done"])
    assert soon((tmp_path / "ready").exists)
    programs.stop(process, grace=0.2)
    assert process.returncode == -signal.SIGKILL


def test_stop_reaches_into_a_namespace(tmp_path: Path) -> None:
    script = f"trap 'echo asked > {tmp_path}/said; exit 5' TERM; echo > {tmp_path}/ready; while :; do sleep 0.02; done"
    process = programs.start(["sh", "-c", script], namespaces=True)
    assert soon((tmp_path / "ready").exists)
    programs.stop(process, grace=1)
    assert (tmp_path / "said").exists()


def test_a_child_dies_with_us(helper: Helper, marker: str) -> None:
    parent = helper(SLEEP, "no", "sleep", marker)
    assert soon(lambda: running(marker, "sleep"))
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    assert soon(lambda: not running(marker))


@pytest.mark.parametrize("sig", [signal.SIGKILL, signal.SIGTERM])
def test_a_namespace_takes_grandchildren_along(helper: Helper, marker: str, sig: signal.Signals) -> None:
    parent = helper(SLEEP, "yes", *FAMILY, marker)
    assert soon(lambda: len(running(marker, "sleep")) == 2)
    os.kill(parent.pid, sig)
    parent.wait()
    assert soon(lambda: not running(marker))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount")
def test_a_namespace_takes_its_mounts_along(tmp_path: Path) -> None:
    # mmdebstrap, killed, would leave the host's own /sys and /dev mounted in a folder that is removed next.
    script = f"mount -t tmpfs none {tmp_path} && touch {tmp_path}/there && ls {tmp_path}"
    assert programs.run(["sh", "-c", script], namespaces=True).stdout == "there\n"
    assert list(tmp_path.iterdir()) == []


def test_without_a_namespace_grandchildren_live_on(helper: Helper, marker: str) -> None:
    # Holds the test above to account: it is the namespace that does it.
    parent = helper(SLEEP, "no", *FAMILY, marker)
    assert soon(lambda: len(running(marker, "sleep")) == 2)
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    assert soon(lambda: not running(marker, "sh"))
    assert len(running(marker, "sleep")) == 2


@pytest.mark.parametrize("namespaces", [False, True])
def test_programs_start_without_setpriv_and_unshare(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, marker: str, namespaces: bool
) -> None:
    for name in ("sleep", "echo"):
        (tmp_path / name).symlink_to(str(programs.which(name)))
    monkeypatch.setattr(programs, "search_path", lambda: str(tmp_path))
    assert programs.run(["echo", "as on macOS"], namespaces=namespaces).stdout == "as on macOS\n"
    with pytest.raises(ProgramError, match="did not end within"):
        programs.run(["sleep", marker], timeout=0.3, namespaces=namespaces)
    assert running(marker) == []


@pytest.mark.parametrize("refuses", [False, True])
def test_a_program_starts_where_its_user_may_not_have_namespaces(
    fake: Fake, monkeypatch: pytest.MonkeyPatch, refuses: bool
) -> None:
    fake("unshare", "exit 1" if refuses else "exit 0")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert ("--map-current-user" in programs.contained_argv(["true"], namespaces=True)) is not refuses


def test_words_may_be_paths() -> None:
    assert programs.contained_argv([Path("true"), Path("/a b")])[-2:] == [str(programs.which("true")), "/a b"]
    assert programs.run([sys.executable, "-c", "import sys; print(sys.argv[1:])", Path("/a b")]).stdout == "['/a b']\n"


#: Runs a program, within 1 GB of memory beside the interpreter's own, and prints bake's error.
BOUNDED = """
import resource, sys
from pathlib import Path
from bake.errors import BakeError
from bake.host import programs
from bake.vm.ssh import Login
resource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30))
try:
    {call}
except BakeError as error:
    print(error.message)
"""


def bounded(call: str, *arguments: str, timeout: float = 60) -> str:
    """Return what bake says about a program, when it has at most 1 GB of memory."""
    return programs.run([sys.executable, "-c", BOUNDED.format(call=call), *arguments], timeout=timeout).stdout.strip()


@pytest.mark.parametrize("script", ["yes", "yes >&2", "tr '\\0' x < /dev/zero"])
def test_output_without_an_end_is_refused(script: str) -> None:
    assert bounded("programs.run(['sh', '-c', sys.argv[1]])", script) == "sh printed more than 64 MB"


def test_a_machine_s_output_without_an_end_is_refused(fake: Fake, tmp_path: Path) -> None:
    fake("ssh", "cat > /dev/null & yes; yes >&2")
    assert bounded("Login.at('debian@host.example').script('true')") == "ssh printed more than 64 MB"
    fake("ssh", "yes >&2")
    (tmp_path / "file").write_bytes(bytes(5_000_000))
    upload = "Login.at('debian@host.example').upload(Path(sys.argv[1]), '/x', lambda share: None)"
    assert bounded(upload, str(tmp_path / "file")) == "ssh printed more than 64 MB"


def test_a_line_without_an_end_is_cut() -> None:
    script = "head -c 400000000 /dev/zero | tr '\\0' x; exit 3"
    assert bounded("programs.stream(['sh', '-c', sys.argv[1]], len)", script) == "sh failed with exit status 3"


def test_a_program_that_closes_its_streams_still_ends_in_time() -> None:
    with pytest.raises(ProgramError, match="did not end within 1 s"):
        programs.run(["sh", "-c", "exec >&- 2>&-; sleep 20"], timeout=1)
    assert programs.run(["sh", "-c", "exec >&- 2>&-; sleep 0.3; exit 4"], timeout=20, check=False).status == 4


def test_input_may_come_from_a_file_and_somebody_may_watch(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    ticks: list[int] = []
    with (tmp_path / "file").open("rb") as stream:
        script = "cat; sleep 0.6"
        done = programs.run(["sh", "-c", script], stdin=stream, on_wait=lambda: ticks.append(stream.seek(0, 1)))
    assert done.stdout == "content"
    assert len(ticks) >= 3
