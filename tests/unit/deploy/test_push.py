"""A push, with an ssh that runs the scripts here, on a machine that is a folder. Real machines: tests/system."""

from __future__ import annotations

import io
import json
import subprocess
import time
from pathlib import Path

import pytest
from conftest import Fake, write

from bake.bundle.app_source import AppSource
from bake.config.contract_files import Source
from bake.config.recipe import Recipe
from bake.deploy import push
from bake.errors import AppStartError, BakeError, BootError, SetupError, UnhealthyError
from bake.host import remote_scripts
from bake.host.programs import run
from bake.host.progress import Reporter
from bake.host.terminal import Terminal
from bake.vm.ssh import Login

LOGIN = Login.at("root@host.example")
STANZA = {"release": "debian-13", "machine": "x86_64", "layout": "6", "bundle": "new"}
#: Leaves out options and their values, which end with --, then the host.
SSH = 'while [ "$1" != -- ]; do shift 2; done; shift 2; exec sh -c "$*"'


@pytest.fixture
def machine(tmp_path: Path, fake: Fake, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The root of a machine that had the release `old`, and runs `new`. Its app-setup starts the release asked for."""
    root = tmp_path / "machine"
    write(root, {f"srv/app/releases/{name}/recipe.json": "{\n}\n" for name in ("new", "old", ".partial")})
    write(root, {"etc/app/source.json": json.dumps(STANZA, indent=1) + "\n", "run/app/names": ""})
    (root / "srv/app/current").symlink_to("releases/new")
    (root / "srv/app/previous").symlink_to("releases/old")

    def placed(name: str, *arguments: str) -> str:
        text = original(name, *arguments)
        for folder in ("/etc/app", "/srv/app", "/run/app", "/var/lib/app"):
            text = text.replace(f" {folder}", f" {root}{folder}")
        return text

    original = remote_scripts.text
    monkeypatch.setattr(remote_scripts, "text", placed)
    fake("ssh", SSH)
    fake("journalctl", f'case "$*" in *app.service*) echo "of the app";; *id-7*) cat {root}/journal;; esac')
    (root / "journal").write_text("app-setup: done\n")
    (root / "invocation").write_text("id-1\n")
    systemd(fake, root, links(root, "old", "new"))
    return root


def links(root: Path, current: str, previous: str) -> str:
    """Return the command that makes the current and the previous release those."""
    folder = root / "srv/app"
    return f"ln -sfn releases/{current} {folder}/current; ln -sfn releases/{previous} {folder}/previous"


def systemd(fake: Fake, root: Path, start: str) -> None:
    """Put a systemctl on PATH that notes its words, and starts app-setup with a command."""
    show = 'case "$*" in *ActiveState*) echo inactive;; *InvocationID*app-setup.service) echo id-7;;'
    show += f" *InvocationID*app.service) cat {root}/invocation;; is-active*app-next*) exit 3;;"
    fake("systemctl", f'echo "$*" >> {root}/words; {show} start*) {start};; esac')


def printed() -> tuple[Reporter, io.StringIO]:
    stream = io.StringIO()
    return Reporter(Terminal(file=stream)), stream


def test_a_machine_tells_its_releases(machine: Path) -> None:
    assert push.facts(LOGIN) == push.Facts(Source(**STANZA), "new", "old", frozenset({"new", "old"}))
    (machine / "srv/app/previous").unlink()
    assert push.facts(LOGIN).previous == ""


def test_a_machine_without_a_release_of_bake_is_refused(machine: Path) -> None:
    (machine / "etc/app/source.json").unlink()
    with pytest.raises(SetupError, match=r"host\.example does not run a release that bake made"):
        push.facts(LOGIN)


@pytest.mark.parametrize(
    "output",
    [
        "[" * 100_000, "\n" * 5, f"{json.dumps(STANZA)}\nnew\n\x1b]0;name\x07\n\x1b]0;name\x07\nno\nno\n",
        f"{json.dumps(STANZA)}\nnew\n../old\n../old\nno\nno\n", "\udcff\x00", "",
    ],
)  # fmt: skip
def test_a_machine_that_answers_anything_is_refused(fake: Fake, tmp_path: Path, output: str) -> None:
    """bake would print the name of a release, and write it into the settings of the machine."""
    (tmp_path / "output").write_bytes(output.encode(errors="surrogateescape"))
    fake("ssh", f"cat {tmp_path}/output")
    with pytest.raises(SetupError, match="does not run a release that bake made"):
        push.roll_back(LOGIN, Reporter())


def test_an_older_machine_gets_no_release_with_processes(machine: Path, app: Path) -> None:
    recipe = Recipe.model_validate({"name": "shop", "wsgi": "app:app", "processes": {"queue": "rq worker"}})
    source = push.Source(app, lambda debian: AppSource(app, recipe))
    with pytest.raises(SetupError, match="runs no `processes`") as caught:
        push.push(LOGIN, source, printed()[0])
    assert f"bake upgrade ssh://root@host.example {app}" in caught.value.hint


def test_an_older_machine_gets_no_release_with_an_interpreter(machine: Path, app: Path) -> None:
    recipe = Recipe(name="shop", wsgi="app:app", python="3.12.8", base="debian-12")
    source = push.Source(app, lambda debian: AppSource(app, recipe))
    with pytest.raises(SetupError, match="runs only Debian's own Python") as caught:
        push.push(LOGIN, source, printed()[0])
    assert f"bake upgrade ssh://root@host.example {app}" in caught.value.hint


def test_a_roll_back_asks_for_the_previous_release(machine: Path) -> None:
    report, stream = printed()
    assert push.roll_back(LOGIN, report) == "old"
    stanza = machine / "etc/app/source.json"
    assert json.loads(stanza.read_text()) == {**STANZA, "bundle": "old"} and stanza.read_text().endswith("}\n")
    assert stanza.stat().st_mode & 0o777 == 0o644
    assert "release old is live; `--back` rolls back to new" in stream.getvalue()


def test_a_switch_waits_until_a_run_in_progress_ends(machine: Path, fake: Fake) -> None:
    state = f"if [ -e {machine}/asked ]; then echo inactive; else touch {machine}/asked; echo activating; fi"
    fake("systemctl", f'echo "$*" >> {machine}/words; case "$*" in *ActiveState*) {state};; esac')
    LOGIN.script(remote_scripts.text("switch.sh", json.dumps(STANZA), "new"))
    words = (machine / "words").read_text()
    assert words.index("start app-setup.service") > words.rindex("ActiveState") > words.index("ActiveState")


def others(fake: Fake, root: Path, state: str = "echo inactive", start: str = ":", last: str = ":") -> None:
    """Let another person change the machine: when its state is asked, when app-setup starts, or when it has ended."""
    case = f"*ActiveState*) {state};; *InvocationID*app-setup.service) echo id-7; {last};; start*) {start};;"
    fake("systemctl", f'echo "$*" >> {root}/words; case "$*" in {case} esac')


def waiting(root: Path, command: str) -> str:
    """Return the state of a run of app-setup that is in progress, and that runs a command before it ends."""
    return f"if [ -e {root}/asked ]; then echo inactive; else touch {root}/asked; {command}; echo activating; fi"


def test_a_roll_back_is_refused_if_a_push_in_progress_has_gone_back_already(machine: Path, fake: Fake) -> None:
    """It would go back from the release that works."""
    write(machine / "srv/app/releases/older", {"recipe.json": "{}"})
    command = f"rm {machine}/srv/app/tried-after; {links(machine, 'old', 'older')}"
    others(fake, machine, waiting(machine, command))
    (machine / "srv/app/previous").unlink()
    (machine / "srv/app/previous").symlink_to("releases/older")
    # The other push tries the release `new`.
    (machine / "srv/app/tried-after").symlink_to("releases/old")
    with pytest.raises(SetupError, match=r"Another push .* current one.*; the current release is old$"):
        push.roll_back(LOGIN, Reporter())
    assert "start" not in (machine / "words").read_text()
    assert json.loads((machine / "etc/app/source.json").read_text()) == STANZA


def test_a_roll_back_after_an_interrupted_push_goes_to_the_release_before_it(machine: Path) -> None:
    (machine / "srv/app/releases/older").mkdir()
    (machine / "srv/app/previous").unlink()
    (machine / "srv/app/previous").symlink_to("releases/older")
    (machine / "srv/app/tried-after").symlink_to("releases/old")
    assert push.facts(LOGIN).previous == "old"
    # The release on trial was not yet the current one, or it is the first.
    (machine / "srv/app/tried-after").unlink()
    (machine / "srv/app/tried-after").symlink_to("releases/new")
    assert push.facts(LOGIN).previous == "older"


def test_the_current_release_is_none_to_go_back_to(machine: Path) -> None:
    """app-setup was killed after it had made the link to the previous release, and then went back to that."""
    (machine / "srv/app/current").unlink()
    (machine / "srv/app/current").symlink_to("releases/old")
    with pytest.raises(SetupError, match="has no previous release to roll back to"):
        push.roll_back(LOGIN, Reporter())


def test_a_release_that_another_push_has_removed_is_named(machine: Path, fake: Fake) -> None:
    """app-setup did not find the file, and the error named the release as unhealthy."""
    others(fake, machine, waiting(machine, f"rm -r {machine}/srv/app/releases/old"))
    state = push.facts(LOGIN)
    with pytest.raises(SetupError, match=r"Another push .*: release old was removed") as caught:
        push._switch(LOGIN, state, "old", Reporter())
    assert "run the same command again" in caught.value.hint
    assert "start" not in (machine / "words").read_text()


def test_a_release_of_another_layout_than_the_machine_s_is_refused(machine: Path, fake: Fake) -> None:
    stanza = json.dumps({**STANZA, "layout": "7"})
    others(fake, machine, waiting(machine, f"echo '{stanza}' > {machine}/etc/app/source.json"))
    with pytest.raises(SetupError, match="an upgrade has changed the layout of releases"):
        push.roll_back(LOGIN, Reporter())
    assert json.loads((machine / "etc/app/source.json").read_text())["layout"] == "7"


def test_the_result_of_a_push_is_its_own_if_another_one_follows_at_once(machine: Path, fake: Fake) -> None:
    """bake read the current release later: the connection was lost, it said."""
    others(fake, machine, start=links(machine, "old", "new"), last=links(machine, "newer", "old"))
    report, stream = printed()
    assert push.roll_back(LOGIN, report) == "old"
    assert "release old is live; `--back` rolls back to new" in stream.getvalue()


def test_the_way_back_is_that_of_the_moment_of_the_switch(machine: Path, fake: Fake) -> None:
    others(fake, machine, waiting(machine, links(machine, "other", "new")), start=links(machine, "old", "other"))
    report, stream = printed()
    assert push._switch(LOGIN, push.facts(LOGIN), "old", report) == "old"
    assert "release old is live; `--back` rolls back to other" in stream.getvalue()


def test_a_run_that_begins_before_the_request_is_written_is_no_answer_to_it(machine: Path, fake: Fake) -> None:
    """An upgrade of packages starts app-setup, too. A run that goes back writes the earlier stanza."""
    stanza, run = machine / "etc/app/source.json", machine / "run/app/in-progress"
    fake("mv", f'/usr/bin/mv "$@"; [ -e {machine}/asked ] || touch {machine}/asked {run}')
    back = f"rm {run}; echo '{json.dumps(STANZA)}' > {stanza}; echo activating"
    begin = f"cp {stanza} {machine}/read; {links(machine, 'old', 'new')}"
    state = f"if [ -e {run} ]; then {back}; else echo inactive; fi"
    others(fake, machine, state, start=f"[ -e {run} ] || {{ {begin}; }}")
    assert push.roll_back(LOGIN, Reporter()) == "old"
    assert json.loads((machine / "read").read_text())["bundle"] == "old"


def test_a_reboot_during_a_switch_is_reported_as_such(machine: Path, fake: Fake) -> None:
    setup_fails(fake, machine, {"step": "app", "kind": "SystemExit", "message": "it was stopped"}, "it was stopped")
    report, stream = printed()
    with pytest.raises(BootError, match="stopped the switch before release old was live") as caught:
        push.roll_back(LOGIN, report)
    assert "when it boots" in caught.value.hint and "not healthy" not in stream.getvalue()


def await_bytes(folder: Path, size: int) -> None:
    """Wait until the files of a folder have as many bytes, at most 5 s."""
    deadline = time.monotonic() + 5
    while sum(path.stat().st_size for path in folder.iterdir()) < size and time.monotonic() < deadline:
        time.sleep(0.02)


def test_two_uploads_of_one_release_do_not_disturb_each_other(tmp_path: Path) -> None:
    """They wrote to one file. The first one to end had a hole in it, and the second one found no file."""
    place, data = tmp_path / "incoming/12ab.tar", bytes(range(256)) * 4096
    place.parent.mkdir()
    script = remote_scripts.text("upload.sh", str(place), str(len(data)))
    first, second = (subprocess.Popen(["sh", "-c", script], stdin=subprocess.PIPE) for _ in range(2))
    assert first.stdin and second.stdin
    first.stdin.write(data[:600_000])
    first.stdin.flush()
    await_bytes(place.parent, 600_000)
    second.stdin.write(data[:300_000])
    second.stdin.flush()
    await_bytes(place.parent, 900_000)
    first.communicate(data[600_000:])
    assert (first.returncode, place.read_bytes() == data) == (0, True)
    second.communicate(data[300_000:])
    assert (second.returncode, place.read_bytes() == data) == (0, True)
    assert [path.name for path in place.parent.iterdir()] == ["12ab.tar"]


def setup_fails(fake: Fake, machine: Path, result: dict[str, str] | None, sentence: str) -> None:
    """Let app-setup write a result, or none, and a sentence to its journal, and restart the app.

    An earlier run has left a result, too.
    """
    (machine / "run/app/result.json").write_text('{"kind": "OSError", "message": "of an earlier run"}')
    (machine / "result").write_text(json.dumps(result))
    restart = f"echo id-2 > {machine}/invocation"
    report = f"cp {machine}/result {machine}/run/app/result.json" if result else ":"
    systemd(fake, machine, f"{restart}; {report}; exit 1")
    (machine / "journal").write_text(f"a step\n<3>app-setup failed: {sentence}\n")


@pytest.mark.parametrize(
    ("result", "kind", "message"),
    [
        ({"kind": "Unhealthy", "message": "/ answers 500"}, UnhealthyError, "The app starts, but / answers 500"),
        ({"kind": "NotStarted", "message": "app"}, AppStartError, "The app does not start on the machine"),
        ({"kind": "Waiting", "message": "no KEY"}, SetupError, "The machine could not be set up: no KEY"),
        ({"kind": "OSError", "message": "two\nlines"}, SetupError, "The machine could not be set up: two\nlines"),
    ],
)
def test_a_failed_switch_has_the_error_of_the_result_and_both_journals(
    machine: Path, fake: Fake, result: dict[str, str], kind: type[BakeError], message: str
) -> None:
    # The sentence in the journal is for people, and may change.
    setup_fails(fake, machine, {"step": "app", **result}, "any sentence")
    report, stream = printed()
    with pytest.raises(BakeError) as caught:
        push.roll_back(LOGIN, report)
    assert (type(caught.value), caught.value.message) == (kind, message)
    journals = "a step\napp-setup failed: any sentence\n--- the app's journal\nof the app"
    assert caught.value.details == journals
    assert "release old is not healthy; host.example runs new" in stream.getvalue()


def test_visitors_of_the_old_release_do_not_hide_why_the_new_one_is_refused(machine: Path, fake: Fake) -> None:
    setup_fails(fake, machine, {"step": "app", "kind": "NotStarted", "message": "app-next"}, "any sentence")
    # The old release serves all the time: its service has the same invocation as before.
    systemd(fake, machine, f"cp {machine}/result {machine}/run/app/result.json; exit 1")
    new = 'echo "<4>app: the program listens at port 5001 instead of PORT, 8002; write  port: 5001"'
    old = "yes '127.0.0.1 - - \"GET / HTTP/1.0\" 200 -' | head -n 3000"
    lines = f'case "$*" in *app-next.service*) {new};; esac; case "$*" in *app.service*) {old};; esac'
    fake("journalctl", f'case "$*" in *id-7*) cat {machine}/journal;; *) {{ {lines}; }} | tail -n 2000;; esac')
    with pytest.raises(AppStartError) as caught:
        push.roll_back(LOGIN, printed()[0])
    assert caught.value.hint.endswith("Add to bake.yaml:  port: 5001")
    assert "GET /" not in caught.value.details


@pytest.mark.parametrize(
    ("sentence", "kind", "message"),
    [
        ("unhealthy: / answers 500\nwent back to release aaa", UnhealthyError, "The app starts, but / answers 500"),
        ("app start failed: see `journalctl -u app`", AppStartError, "The app does not start on the machine"),
        ("no KEY\nwent back to release aaa", SetupError, "The machine could not be set up: no KEY"),
    ],
)
def test_a_machine_by_an_older_bake_writes_no_result(
    machine: Path, fake: Fake, sentence: str, kind: type[BakeError], message: str
) -> None:
    setup_fails(fake, machine, None, sentence)
    with pytest.raises(BakeError) as caught:
        push.roll_back(LOGIN, printed()[0])
    assert (type(caught.value), caught.value.message) == (kind, message)


def test_a_switch_without_any_report_was_interrupted(machine: Path, fake: Fake) -> None:
    setup_fails(fake, machine, None, "")
    (machine / "journal").write_text("a step\n")
    with pytest.raises(BootError, match=r"The connection to host\.example was lost"):
        push.roll_back(LOGIN, printed()[0])


def test_a_machine_that_cannot_store_the_request_starts_nothing(machine: Path, fake: Fake) -> None:
    fake("mv", "echo No space left on device >&2; exit 1")
    with pytest.raises(BootError) as caught:
        push.roll_back(LOGIN, printed()[0])
    assert "No space left" in caught.value.details
    assert "start" not in (machine / "words").read_text()


def test_the_site_of_a_release_is_its_names_recipe_and_record(machine: Path) -> None:
    release = machine / "srv/app/releases/new"
    # A name with a wildcard is no pattern for the names of files.
    write(release, {"settings/crawl.py": "", "www.shop.example": ""})
    (machine / "run/app/names").write_text("*.shop.example\nshop.example\n")
    (machine / "var/lib").mkdir(parents=True)
    (machine / "var/lib/app-author.json").write_text('{"a":\n1}\n')
    names, recipe, digest, record = LOGIN.script(remote_scripts.text("site.sh")).stdout.split("\n", 3)
    assert (names.split(), recipe, digest) == (["*.shop.example", "shop.example"], "{}", "new")
    assert json.loads(record) == {"a": 1}


def test_a_site_without_names_is_visited_at_its_address(machine: Path) -> None:
    write(machine / "srv/app/releases/new", {"settings/crawl.py": ""})
    (machine / "run/app/names").write_text("")
    first, *addresses = LOGIN.script(remote_scripts.text("site.sh")).stdout.partition("\n")[0].split()
    own = run(["hostname", "-I"]).stdout.split()
    assert first == "localhost" and addresses == [address for address in own if "." in address][:1]


def test_a_release_without_a_crawler_is_not_visited(machine: Path) -> None:
    report, stream = printed()
    push.visit(LOGIN, report)
    assert stream.getvalue() == ""
    assert run(["sh", "-s"], stdin=remote_scripts.text("site.sh"), check=False).status


def test_the_pages_of_another_person_s_release_are_not_judged(machine: Path) -> None:
    write(machine / "srv/app/releases/new", {"settings/crawl.py": ""})
    report, stream = printed()
    push.visit(LOGIN, report, "mine")
    assert "another push has replaced release mine by new, so its pages were not requested" in stream.getvalue()
