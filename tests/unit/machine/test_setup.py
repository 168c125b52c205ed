"""The machine's program that brings a release: its steps on paths of the test's own."""

from __future__ import annotations

import hashlib
import io
import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

import pytest
from conftest import PROGRAMS, Fake, write

from bake.config import contract
from bake.config.contract_files import Result
from bake.host import paths
from bake.host.programs import run

RELEASE = "{ID}-{VERSION_ID}".format_map({"ID": "", "VERSION_ID": "", **platform.freedesktop_os_release()})


def bundle(path: Path, files: dict[str, str]) -> str:
    """A bundle at `path`; its digest."""
    with tarfile.open(path, "w") as tar:
        for name, text in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(text.encode())
            tar.addfile(info, io.BytesIO(text.encode()))
    return hashlib.sha256(path.read_bytes()).hexdigest()


APP = {"source/app.py": "app = 1\n", "recipe.json": '{"packages": null}'}


def upload(setup: ModuleType, files: dict[str, str]) -> str:
    digest = bundle(setup.INCOMING / "new", files)
    (setup.INCOMING / "new").rename(setup.INCOMING / f"{digest}.tar")
    return digest


def ask(setup: ModuleType, digest: str, **other: str) -> dict[str, str]:
    source = {"release": RELEASE, "machine": platform.machine(), "bundle": digest, **other}
    setup.SOURCE.write_text(json.dumps(source))
    return source


def said(setup: ModuleType) -> dict[str, str]:
    """What the stanza in place says."""
    return {key: value for key, value in json.loads(setup.SOURCE.read_text()).items() if value is not None}


def test_a_machine_without_a_document_is_left_alone(setup: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    setup.main()
    assert "nothing to set up" in capsys.readouterr().out
    assert not setup.CURRENT.exists()


def test_this_machine_is_the_right_one_for_its_own_document(setup: ModuleType) -> None:
    setup.check_machine(ask(setup, "x"))


@pytest.mark.parametrize("other", [{"release": "debian-99"}, {"machine": "riscv64"}])
def test_a_document_for_another_machine_is_refused_before_anything_is_done(
    setup: ModuleType, other: dict[str, str]
) -> None:
    ask(setup, upload(setup, APP), **other)
    with pytest.raises(setup.StepError, match=f"is for .*{next(iter(other.values()))}"):
        setup.main()
    assert list(setup.RELEASES.iterdir()) == []


@pytest.fixture
def bring(setup: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Bring the release of a bundle, but for its virtualenv."""
    monkeypatch.setattr(setup, "build", lambda *folders: None)
    return lambda digest: setup.bring(ask(setup, digest))


def test_a_bundle_is_unpacked_when_it_is_the_one_asked_for(setup: ModuleType, bring: Callable[[str], Path]) -> None:
    digest = upload(setup, APP)
    release = bring(digest)
    assert release == setup.RELEASES / digest
    assert (release / "source/app.py").read_text() == "app = 1\n"


def test_another_bundle_is_refused_unread(setup: ModuleType, bring: Callable[[str], Path]) -> None:
    digest = upload(setup, APP)
    with (setup.INCOMING / f"{digest}.tar").open("ab") as stream:
        stream.write(b"x")
    with pytest.raises(setup.StepError, match=f"the document needs {digest}"):
        bring(digest)
    assert not list(setup.RELEASES.glob("**/app.py"))


@pytest.mark.parametrize("name", ["../outside", "source/../../outside"])
def test_a_bundle_cannot_write_outside_its_release(
    setup: ModuleType, bring: Callable[[str], Path], tmp_path: Path, name: str
) -> None:
    with pytest.raises(setup.StepError, match=r"(?s)`tar .*Member name contains '\.\.'"):
        bring(upload(setup, {**APP, name: "evil"}))
    assert not list(tmp_path.glob("**/outside"))


def test_a_power_cut_while_switching_is_no_obstacle(setup: ModuleType) -> None:
    one, two = release(setup, "one"), release(setup, "two")
    setup.CURRENT.with_name(".current.new").symlink_to("/nowhere")
    for folder in (one, two):
        setup.link(setup.CURRENT, folder)
    assert setup.CURRENT.resolve() == two
    assert not setup.CURRENT.with_name(".current.new").is_symlink()


def test_source_files_get_todays_times(setup: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "source" / "static").mkdir(parents=True)
    file = tmp_path / "source" / "static" / "style.css"
    file.touch()
    (tmp_path / "source" / "dangling").symlink_to("/nowhere")
    os.utime(file, (0, 0))
    setup.stamp(tmp_path / "source")
    assert abs(file.stat().st_mtime - time.time()) < 60


def test_a_release_that_is_there_is_not_brought_again(setup: ModuleType) -> None:
    (setup.RELEASES / "12ab").mkdir()
    assert setup.bring({"bundle": "12ab"}) == setup.RELEASES / "12ab"


def test_a_release_that_fails_half_way_never_gets_its_name(setup: ModuleType, fake: Fake) -> None:
    fake("dpkg-query", "exit 0")
    fake("apt-get", "echo no such package; exit 100")
    digest = upload(setup, {**APP, "recipe.json": '{"packages": ["libnope"]}'})
    (setup.RELEASES / ".new/left-by-a-power-cut").mkdir(parents=True)
    ask(setup, digest)
    with pytest.raises(setup.StepError, match="no such package"):
        setup.main()
    assert not (setup.RELEASES / digest).exists()
    assert not setup.CURRENT.is_symlink()
    assert list(setup.RELEASES.iterdir()) == []


def test_nothing_is_installed_where_nothing_is_missing(setup: ModuleType, fake: Fake, tmp_path: Path) -> None:
    setup.PACKAGES.write_text("nginx\ncurl\n")
    fake("dpkg-query", 'printf "=installed nginx\\n=installed curl\\n=installed libpq5\\n"')
    fake("apt-get", f"touch {tmp_path}/called")
    setup.install_packages(["libpq5"])
    assert not (tmp_path / "called").exists()


def test_what_is_missing_is_installed(setup: ModuleType, fake: Fake, tmp_path: Path) -> None:
    setup.PACKAGES.write_text("nginx\ncurl\nuwsgi-core\n")
    # Removed, but its settings are kept, or known by name: that is not installed.
    statuses = "=installed nginx\\n=config-files curl\\n=not-installed uwsgi-core\\n=installed libpq5-more\\n"
    fake("dpkg-query", f'printf "{statuses}"; exit 1')
    fake("apt-get", f'echo "$* $DEBIAN_FRONTEND" >> {tmp_path}/words')
    setup.install_packages(["libpq5"])
    update, install = (tmp_path / "words").read_text().splitlines()
    assert update.endswith(" update noninteractive")
    assert install.endswith(" install --no-install-recommends curl uwsgi-core libpq5 noninteractive")


def test_a_command_that_fails_is_quoted_with_what_it_said(setup: ModuleType) -> None:
    assert setup.command("sh", "-c", 'echo "$ADDED"', env={"ADDED": "x"}) == "x\n"
    with pytest.raises(setup.StepError, match=r"(?s)`sh -c .*failed with 3:\nthe reason"):
        setup.command("sh", "-c", "echo the reason >&2; exit 3")


def test_what_a_program_prints_need_not_be_utf_8(setup: ModuleType) -> None:
    """An app's log, for example."""
    assert setup.command("printf", "caf\\351\\n") == "caf\N{REPLACEMENT CHARACTER}\n"


@dataclass
class Serving:
    """What `serving` does to a machine, as words: which services run, and which words fail."""

    running: set[str] = field(default_factory=set)
    ill: set[str] = field(default_factory=set)
    done: list[str] = field(default_factory=list)


@pytest.fixture
def machine(
    setup: ModuleType, steps: ModuleType, fake: Fake, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Serving:
    """A machine whose nginx runs; systemctl is a program that notes its words and fails at those in a file."""
    state = Serving(running={"nginx"})
    words = tmp_path / "words"
    fake("systemctl", f'echo "$*" >> {words}; ! grep -qxF "$*" {tmp_path}/fails 2> /dev/null')

    def note(text: str) -> None:
        with words.open("a") as stream:
            stream.write(text + "\n")

    def well(recipe: dict[str, object], ask: object = None) -> None:
        note("health")
        if setup.CURRENT.resolve().name in state.ill:
            raise setup.serving.Unhealthy("/ answers 500")

    def start(name: str) -> None:
        note(f"start {name}")
        state.running.add(name)

    for name, does in {"runs": lambda name: name in state.running, "start": start, "await_health": well}.items():
        monkeypatch.setattr(setup.serving, name, does)
    return state


def told(tmp_path: Path) -> list[str]:
    """What the machine was told since the last look."""
    words = tmp_path / "words"
    lines = words.read_text().splitlines() if words.exists() else []
    words.unlink(missing_ok=True)
    return lines


def release(program: ModuleType, name: str, **recipe: object) -> Path:
    """A release that is in place."""
    folder: Path = program.RELEASES / name
    (folder / "source").mkdir(parents=True)
    (folder / "recipe.json").write_text(json.dumps(recipe))
    if recipe.keys() & {"setup", "release", "secrets", "writable", "django"}:
        (folder / "settings").mkdir()
        (folder / "settings/static-location").write_text("location ^~ STATIC_URL/ {}\n")
        shutil.copy(paths.features() / "steps/steps.py", folder / "settings")
    return folder


def bundled(program: ModuleType, name: str, **recipe: object) -> Path:
    """A release of a bundle's that is in place: it brings the exchange of workers."""
    folder = release(program, name, **recipe)
    (folder / "settings").mkdir(exist_ok=True)
    shutil.copy(paths.features() / "zero-downtime/exchange.py", folder / "settings")
    return folder


#: What an app that runs already is told: it has its timers started.
STAY = ["start app.service"]
#: What exchanging the app is, and what starting it anew is, to the machine that is told.
EXCHANGE = ["start app-next", "health", "start app", "health", "stop app-next.socket app-next.service"]
RESTART = ["start app", "health"]

Place = Callable[..., Path]
either = pytest.mark.parametrize("place", [release, bundled])


def run_with(setup: ModuleType, digest: str) -> None:
    ask(setup, digest)
    setup.main()


def reboot(setup: ModuleType, machine: Serving) -> None:
    machine.running = {"nginx"}
    for path in (setup.serving.SERVED, setup.BEGUN):
        path.unlink(missing_ok=True)


def test_at_boot_a_release_is_only_started(setup: ModuleType, machine: Serving, tmp_path: Path) -> None:
    setup.CURRENT.symlink_to(release(setup, "one"))
    run_with(setup, "one")
    assert told(tmp_path) == ["start app"]


def test_what_is_served_already_is_left_alone(setup: ModuleType, machine: Serving, tmp_path: Path) -> None:
    release(setup, "one", setup=["flask db upgrade"])
    run_with(setup, "one")
    told(tmp_path)
    run_with(setup, "one")
    assert told(tmp_path) == ["reload-or-restart app-configure.service", *STAY]


@pytest.mark.parametrize(("place", "words"), [(release, RESTART), (bundled, EXCHANGE)])
def test_new_settings_exchange_the_app_where_its_release_can(
    setup: ModuleType, machine: Serving, tmp_path: Path, place: Place, words: list[str]
) -> None:
    place(setup, "one")
    run_with(setup, "one")
    assert told(tmp_path)[-2:] == RESTART, "nothing ran that could be exchanged"
    # As a run that was killed may leave it.
    setup.link(setup.serving.DOOR, Path("/run/app/app-next.sock"))
    for text in ("NEW=1\n", "NEW=2\n"):
        setup.serving.SETTINGS[0].write_text(text)
        run_with(setup, "one")
        assert told(tmp_path) == ["reload-or-restart app-configure.service", *words]
        assert setup.serving.DOOR.readlink() == setup.serving.SOCKET


def test_nginx_reads_its_settings_only_where_they_changed(
    setup: ModuleType, machine: Serving, tmp_path: Path, fake: Fake
) -> None:
    one, two = release(setup, "one"), release(setup, "two")
    setup.SITE.mkdir()
    for folder in (one, two):
        setup.configure(folder)
        assert setup.CURRENT.resolve() == folder
    assert told(tmp_path) == ["reload-or-restart app-configure.service"] * 2
    # What the release itself says to nginx counts as well.
    reloaded = ["reload-or-restart app-configure.service", "reload-or-restart nginx.service"]
    for name in ("nginx/static.conf", "health.conf"):
        (one / "settings" / name).parent.mkdir(parents=True, exist_ok=True)
        (one / "settings" / name).touch()
        for folder in (one, two):
            setup.configure(folder)
            assert told(tmp_path) == reloaded
        (one / "settings" / name).unlink()
    fake("systemctl", f'echo "$*" >> {tmp_path}/words; echo "$*" > {setup.SITE}/servers.conf')
    setup.configure(two)
    assert told(tmp_path) == reloaded
    machine.running.clear()
    setup.configure(two)
    assert told(tmp_path)[-1] == "reload-or-restart nginx.service"


def test_steps_run_before_the_app(setup: ModuleType, machine: Serving, tmp_path: Path) -> None:
    setup.CURRENT.symlink_to(release(setup, "one", setup=["flask db upgrade"]))
    run_with(setup, "one")
    assert told(tmp_path) == ["restart app-job@setup.service", "start app"]


def test_a_step_that_fails_keeps_the_app_from_starting(setup: ModuleType, machine: Serving, tmp_path: Path) -> None:
    release(setup, "one", setup=["false"])
    (tmp_path / "fails").write_text("restart app-job@setup.service\n")
    with pytest.raises(setup.StepError, match="app-job@setup"):
        run_with(setup, "one")
    assert "start app" not in told(tmp_path)


def test_static_files_are_collected_for_a_new_release(setup: ModuleType, machine: Serving, tmp_path: Path) -> None:
    folder = release(setup, "one", django={"settings": "site.settings"})
    for _ in range(2):
        run_with(setup, "one")
    words = told(tmp_path)
    assert words.count("start app-job@static.service") == 1
    assert words[words.index("start app-job@static.service") + 1] == "reload-or-restart nginx.service"
    assert (folder / "settings/nginx/collected.conf").read_text() == "location ^~ /static/ {}\n"


@pytest.mark.parametrize(
    ("said", "recipe"),
    [
        ("", {}), ("/", {}), ("/s;root /etc", {}), ("/../etc", {}), ("/.well-known", {}), ("static", {}), ("/s\n", {}),
        ("/" + "s" * 300 + "/x", {}), ("/static", {"static": {"/static": "static"}}),
    ],
)  # fmt: skip
def test_nginx_serves_no_other_url_than_a_plain_path_of_django_s(
    setup: ModuleType, machine: Serving, steps: ModuleType, tmp_path: Path, said: str, recipe: dict[str, object]
) -> None:
    steps.URL.write_text(said)
    folder = release(setup, "one", django={"settings": "site.settings"}, **recipe)
    run_with(setup, "one")
    place = folder / "settings/nginx/collected.conf"
    assert not place.exists() or re.fullmatch(r"location \^~ /s{199}/ {}\n", place.read_text())


@pytest.mark.parametrize("how", ["link", "pipe", "other bytes"])
def test_what_the_app_leaves_as_its_url_leads_root_nowhere(
    setup: ModuleType, machine: Serving, steps: ModuleType, tmp_path: Path, how: str
) -> None:
    folder = release(setup, "one", django={"settings": "site.settings"})
    steps.URL.unlink()
    if how == "link":
        (tmp_path / "secret").write_text("/secret")
        steps.URL.symlink_to(tmp_path / "secret")
        with pytest.raises(OSError, match="symbolic links"):
            run_with(setup, "one")
    elif how == "pipe":
        os.mkfifo(steps.URL)
        run_with(setup, "one")
    else:
        steps.URL.write_bytes(b"/\xff\xfe")
        run_with(setup, "one")
    assert not (folder / "settings/nginx/collected.conf").exists()


def test_release_steps_run_before_the_switch_and_before_static_files_are_collected(
    setup: ModuleType, machine: Serving, tmp_path: Path
) -> None:
    release(setup, "one")
    run_with(setup, "one")
    told(tmp_path)
    bundled(setup, "two", release=["migrate"], setup=["true"], django={"settings": "site.settings"})
    run_with(setup, "two")
    jobs = ["restart app-job@release.service", "start app-job@static.service", "restart app-job@setup.service"]
    words = [word for word in told(tmp_path) if "app-job" in word or "app-next" in word]
    assert words == [*jobs, "start app-next", "stop app-next.socket app-next.service"]
    # They fail: the old release never stopped, and is the one that serves.
    bundled(setup, "three", release=["migrate"])
    (tmp_path / "fails").write_text("restart app-job@release.service\n")
    with pytest.raises(setup.StepError, match="`release` failed"):
        run_with(setup, "three")
    assert "start app" not in told(tmp_path) and setup.CURRENT.resolve().name == "two"


@pytest.mark.parametrize(("log", "tolerated"), [("psycopg2.OperationalError: Connection refused", True), ("", False)])
def test_release_steps_change_no_database_outside_of_a_machine_that_is_checked(
    setup: ModuleType, steps: ModuleType, machine: Serving, tmp_path: Path, fake: Fake, log: str, tolerated: bool
) -> None:
    steps.CHECK.mkdir()
    fake("journalctl", f"echo '{log}'")
    release(setup, "one", release=["migrate"])
    (tmp_path / "fails").write_text("restart app-job@release.service\n")
    if tolerated:
        run_with(setup, "one")
        assert steps.NOTES.read_text() == "release is not tried here: it needs a server that a bake cannot reach\n"
    else:
        with pytest.raises(setup.StepError, match="`release` failed"):
            run_with(setup, "one")
    closed = "set-property --runtime app-job@release.service IPAddressDeny=any IPAddressAllow=localhost"
    words = told(tmp_path)
    assert words[1:3] == [closed, "restart app-job@release.service"]
    assert ("reset-failed app-job@release.service" in words) is tolerated


def test_the_release_before_is_kept_and_older_ones_are_not(setup: ModuleType, machine: Serving) -> None:
    for name in ("one", "two", "three"):
        release(setup, name)
        (setup.INCOMING / f"{name}.tar").touch()
        run_with(setup, name)
    assert setup.CURRENT.resolve().name == "three"
    assert setup.PREVIOUS.resolve().name == "two"
    assert {path.name for path in setup.RELEASES.iterdir()} == {"two", "three"}
    assert list(setup.INCOMING.iterdir()) == []
    # Back, and forth again.
    run_with(setup, "two")
    assert setup.PREVIOUS.resolve().name == "three"


@either
def test_a_release_that_is_not_well_is_left_for_the_one_before(
    setup: ModuleType, machine: Serving, tmp_path: Path, place: Place
) -> None:
    place(setup, "one", django={"static_url": "/static"})
    run_with(setup, "one")
    place(setup, "two")
    told(tmp_path)
    machine.ill = {"two"}
    asked = ask(setup, "two")
    with pytest.raises(setup.serving.Unhealthy, match=r"^/ answers 500$"):
        setup.main()
    assert setup.CURRENT.resolve().name == "one"
    assert said(setup) == {**asked, "bundle": "one"}
    assert json.loads(setup.SOURCE.with_suffix(".json.refused").read_text()) == asked
    # Nothing of the refused release fills the disk.
    assert [path.name for path in setup.RELEASES.iterdir()] == ["one"] and list(setup.INCOMING.iterdir()) == []
    # Its own static files are back, and an app that never stopped is not started again.
    words = told(tmp_path)
    back = words[words.index("start app-job@static.service") :]
    assert back == ["start app-job@static.service", *(RESTART if place is release else STAY)]
    # The next boot knows nothing of it.
    reboot(setup, machine)
    setup.main()
    assert told(tmp_path) == ["start app"]


def test_a_release_that_does_not_come_leaves_the_one_before(
    setup: ModuleType, machine: Serving, tmp_path: Path
) -> None:
    setup.CURRENT.symlink_to(release(setup, "one"))
    ask(setup, "12ab")
    # At boot, too: a machine whose new release cannot be had serves the old one.
    with pytest.raises(FileNotFoundError, match="12ab"):
        setup.main()
    assert told(tmp_path)[-2:] == RESTART
    assert json.loads(setup.SOURCE.read_text())["bundle"] == "one"


def test_a_release_that_fills_the_disk_leaves_room_for_the_way_back(
    setup: ModuleType, machine: Serving, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The way back writes files, and fails on a full disk."""
    if os.geteuid():
        pytest.skip("only root can mount a small disk")
    setup.CURRENT.symlink_to(release(setup, "one"))
    disk = tmp_path / "disk"
    disk.mkdir()
    run(["mount", "-t", "tmpfs", "-o", "size=1M", "tmpfs", disk])
    try:
        (setup.INCOMING / "two.tar").write_bytes(b"bundle")
        for name in ("RELEASES", "SOURCE"):
            monkeypatch.setattr(setup, name, disk / name.lower())
        setup.RELEASES.mkdir()
        asked = ask(setup, "two")

        def fill(source: dict[str, str], into: Path) -> None:
            (into / "wheel").write_bytes(bytes(2 << 20))

        monkeypatch.setattr(setup, "take", fill)
        with pytest.raises(OSError, match="No space left"):
            setup.main()
        assert said(setup) == {**asked, "bundle": "one"}
        assert list(setup.RELEASES.iterdir()) == [] and list(setup.INCOMING.iterdir()) == []
    finally:
        run(["umount", disk])


@pytest.mark.parametrize("ill", [True, False])
def test_a_power_cut_while_a_release_is_tried_changes_nothing_of_what_comes_of_it(
    setup: ModuleType, steps: ModuleType, machine: Serving, monkeypatch: pytest.MonkeyPatch, ill: bool
) -> None:
    release(setup, "one")
    run_with(setup, "one")
    release(setup, "two", setup=["flask db upgrade"])

    def cut(*words: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(steps, "prepare", cut)
        run_with(setup, "two")
    assert setup.CURRENT.resolve().name == "two"
    reboot(setup, machine)
    machine.ill = {"two"} if ill else set()
    if ill:
        with pytest.raises(setup.StepError, match="/ answers 500"):
            setup.main()
    else:
        setup.main()
        assert setup.PREVIOUS.resolve().name == "one"
    assert setup.CURRENT.resolve().name == ("one" if ill else "two")
    assert (setup.RELEASES / "one").is_dir() and not setup.TRIED.is_symlink()


def upgraded(setup: ModuleType, machine: Serving, name: str) -> None:
    """Do to the links what `bake upgrade` does before it starts app-setup, or what it undoes (cloud-init/upgrade)."""
    setup.PREVIOUS.unlink(missing_ok=True)
    setup.PREVIOUS.symlink_to(setup.CURRENT.resolve())
    setup.TRIED.unlink(missing_ok=True)
    setup.TRIED.symlink_to(setup.RELEASES / name)
    setup.serving.SERVED.unlink(missing_ok=True)
    machine.running.add("app")
    run_with(setup, name)


@either
def test_a_release_of_an_upgrade_has_no_way_back_to_one_of_another_layout(
    setup: ModuleType, machine: Serving, tmp_path: Path, place: Place
) -> None:
    place(setup, "one")
    run_with(setup, "one")
    place(setup, "two")
    machine.ill = {"two"}
    with pytest.raises(setup.StepError, match=r"^/ answers 500$"):
        upgraded(setup, machine, "two")
    # It has not run the programs of release one, and has deleted nothing.
    assert said(setup)["bundle"] == "two" and setup.CURRENT.resolve().name == "two"
    assert {path.name for path in setup.RELEASES.iterdir()} == {"one", "two"}
    # The earlier programs then serve the earlier release.
    told(tmp_path)
    upgraded(setup, machine, "one")
    assert setup.CURRENT.resolve().name == "one" and not setup.TRIED.is_symlink()
    assert "health" in told(tmp_path)


def test_a_release_of_an_upgrade_keeps_the_one_before_until_the_upgrade_ends(
    setup: ModuleType, machine: Serving
) -> None:
    bundled(setup, "one")
    run_with(setup, "one")
    bundled(setup, "two")
    upgraded(setup, machine, "two")
    assert setup.CURRENT.resolve().name == "two" and not setup.TRIED.is_symlink()
    assert {path.name for path in setup.RELEASES.iterdir()} == {"one", "two"}


def test_the_steps_of_a_release_that_was_followed_may_fail(setup: ModuleType, machine: Serving, tmp_path: Path) -> None:
    # The newer one's migration is there, and the older one's tool knows nothing of it.
    for name in ("one", "two"):
        release(setup, name, setup=["flask db upgrade"])
        run_with(setup, name)
    (tmp_path / "fails").write_text("restart app-job@setup.service\n")
    run_with(setup, "one")
    reboot(setup, machine)
    setup.main()
    assert setup.CURRENT.resolve().name == "one"


def test_settings_mended_after_a_boot_that_failed_are_read(setup: ModuleType, machine: Serving, tmp_path: Path) -> None:
    setup.CURRENT.symlink_to(release(setup, "one", setup=["true"]))
    ask(setup, "one")
    (tmp_path / "fails").write_text("restart app-job@setup.service\n")
    with pytest.raises(setup.StepError):
        setup.main()
    (tmp_path / "fails").unlink()
    told(tmp_path)
    setup.main()
    assert told(tmp_path)[0] == "reload-or-restart app-configure.service"


def test_timers_that_a_release_dropped_are_back_with_the_one_before(
    setup: ModuleType, machine: Serving, tmp_path: Path
) -> None:
    bundled(setup, "one", timers={"digest": {}})
    run_with(setup, "one")
    bundled(setup, "two")
    machine.ill = {"two"}
    told(tmp_path)
    with pytest.raises(setup.StepError):
        run_with(setup, "two")
    # app.service has them start with it, and never stopped: app-configure has stopped them alone.
    assert told(tmp_path)[-1:] == STAY


def test_uploads_that_nobody_came_back_for_go_after_a_day(setup: ModuleType, machine: Serving) -> None:
    for name, age in {"old.tar.partial": 90000, "new.tar": 60}.items():
        (setup.INCOMING / name).touch()
        os.utime(setup.INCOMING / name, (time.time() - age, time.time() - age))
    release(setup, "one")
    run_with(setup, "one")
    assert [path.name for path in setup.INCOMING.iterdir()] == ["new.tar"]


def test_the_release_of_a_running_job_stays(setup: ModuleType, machine: Serving) -> None:
    for name in ("one", "two", "three"):
        folder = release(setup, name)
        if name == "one":
            process = setup.PROCESSES / "71"
            process.mkdir(parents=True)
            (process / "cwd").symlink_to(folder / "source")
        run_with(setup, name)
    assert {path.name for path in setup.RELEASES.iterdir()} == {"one", "two", "three"}
    # The job has ended.
    (process / "cwd").unlink()
    release(setup, "four")
    run_with(setup, "four")
    assert {path.name for path in setup.RELEASES.iterdir()} == {"three", "four"}


def test_the_first_release_has_nothing_to_go_back_to(setup: ModuleType, machine: Serving) -> None:
    release(setup, "one")
    machine.ill = {"one"}
    with pytest.raises(setup.StepError, match="/ answers 500"):
        run_with(setup, "one")
    assert setup.CURRENT.resolve().name == "one"


@either
@pytest.mark.parametrize("rebooted", [False, True])
def test_a_first_release_is_tried_until_it_is_well(
    setup: ModuleType, steps: ModuleType, machine: Serving, tmp_path: Path, place: Place, rebooted: bool
) -> None:
    place(setup, "one", django={"static_url": "/static"}, secrets=["KEY"])
    with pytest.raises(setup.Waiting, match="KEY"):
        run_with(setup, "one")
    # By now it is the current one, and none of its own steps were done.
    assert setup.CURRENT.resolve().name == "one"
    assert not {"health", "start app"} & set(told(tmp_path))
    if rebooted:
        reboot(setup, machine)
    steps.GIVEN[-1].write_text('KEY="x"\n')
    # The secret is a wrong one, say.
    machine.ill = {"one"}
    with pytest.raises(setup.StepError, match="/ answers 500"):
        setup.main()
    assert told(tmp_path)[-4:] == ["start app-job@static.service", "reload-or-restart nginx.service", *RESTART]
    machine.ill = set()
    if rebooted:
        reboot(setup, machine)
    setup.main()
    # Where it still runs, its workers are exchanged.
    words = told(tmp_path)
    started = EXCHANGE if place is bundled and not rebooted else RESTART
    assert words[words.index("start app-job@static.service") + 1 :] == started
    assert not setup.TRIED.is_symlink() and not setup.PREVIOUS.is_symlink()
    assert not (setup.RELEASES / "one" / "followed").exists()
    # From here on it is a release like any other, which a boot only starts.
    reboot(setup, machine)
    setup.main()
    assert told(tmp_path) == ["start app"]


def test_a_first_release_is_not_held_for_one_that_was_followed(setup: ModuleType, machine: Serving) -> None:
    release(setup, "one", setup=["flask db upgrade"])
    machine.ill = {"one"}
    for _ in range(2):
        with pytest.raises(setup.StepError, match="/ answers 500"):
            run_with(setup, "one")
    assert not (setup.RELEASES / "one" / "followed").exists()
    assert setup.TRIED.resolve().name == "one"


@pytest.mark.parametrize("step", ["settings", "app"])
def test_going_back_keeps_what_is_said_of_the_step_that_failed(setup: ModuleType, machine: Serving, step: str) -> None:
    release(setup, "one")
    run_with(setup, "one")
    assert setup.STATE.read_text() == "is set up"
    release(setup, "two", secrets=["KEY"] if step == "settings" else [])
    machine.ill = {"two"}
    with pytest.raises(setup.StepError, match="KEY" if step == "settings" else "/ answers 500"):
        run_with(setup, "two")
    assert setup.result["step"] == step
    number = setup.STEPS.index(step) + 1
    assert setup.STATE.read_text() == f"is being set up: step {number} of {len(setup.STEPS)}, {step}"


def test_what_the_app_writes_is_kept_over_releases(setup: ModuleType, steps: ModuleType) -> None:
    one, two = release(setup, "one"), release(setup, "two")
    for folder in (one, two):
        (folder / "source/instance/sub").mkdir(parents=True)
        (folder / "source/instance/sub/settings").write_text(folder.name)
        (folder / "source/instance/out").symlink_to("../app.py")
    writable = ["instance", "media/uploads", "site.db"]
    for folder in (one, one, two):
        steps.keep(folder, {"writable": writable})
    kept = one / "source" / "instance"
    assert kept.resolve() == steps.DATA / "instance" == (two / "source" / "instance").resolve()
    # The first release's content is where a machine starts; later ones leave it alone.
    assert (kept / "sub/settings").read_text() == "one"
    assert (steps.DATA / "instance").stat().st_mode & 0o777 == 0o750
    assert (steps.DATA / "media/uploads").is_dir()
    (one / "source/site.db").write_text("rows")
    assert (two / "source/site.db").read_text() == (steps.DATA / "site.db").read_text() == "rows"


def test_a_link_of_the_app_s_leads_nobody_astray(
    setup: ModuleType, steps: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # As the app, so that what the app may not write to is not written to.
    owner = {"user": 800, "group": 800, "extra_groups": []}
    if os.geteuid() != 0:
        pytest.skip("only root can be somebody else")
    tmp_path.chmod(0o755)
    for folder in (*steps.DATA.parents, setup.RELEASES, setup.RELEASES.parent):
        if folder.is_relative_to("/tmp") and folder != Path("/tmp"):
            folder.chmod(0o755)
    os.chown(steps.DATA, 800, 800)
    monkeypatch.setattr(steps, "OWNER", owner)
    away = tmp_path / "away"
    away.mkdir(mode=0o700)
    (steps.DATA / "media").symlink_to(away)
    folder = release(setup, "one")
    (folder / "source/media/uploads").mkdir(parents=True)
    with pytest.raises(subprocess.CalledProcessError):
        steps.keep(folder, {"writable": ["media/uploads"]})
    assert list(away.iterdir()) == []
    steps.keep(folder, {"writable": ["instance"]})
    assert (steps.DATA / "instance").stat().st_uid == 800
    # nginx follows a link from a folder of root's only if both its ends belong to the app.
    assert (folder / "source/instance").lstat().st_uid == 800


def nested(setup: ModuleType, steps: ModuleType) -> Path:
    """Return a release with a database in a folder with shipped files, to both of which the app writes."""
    one: Path = release(setup, "one")
    write(one / "source", {"a/site.db": "rows", "a/file": "shipped", "b/sub/file": "shipped"})
    steps.OBSERVED.write_text(json.dumps({"data": {"a/site.db": False, "a/ssh.service.d": True}, "fresh": ["a"]}))
    return one


def test_a_path_may_be_inside_of_another(setup: ModuleType, steps: ModuleType) -> None:
    one = nested(setup, steps)
    for _ in range(2):
        steps.keep(one, {"writable": ["b", "b/sub", "b/sub/file"]})
    assert (steps.FRESH / "one/a/file").read_text() == (one / "source/a/file").read_text() == "shipped"
    assert (steps.DATA / "a/site.db").read_text() == (one / "source/a/site.db").read_text() == "rows"
    assert (steps.DATA / "b/sub/file").read_text() == (one / "source/b/sub/file").read_text() == "shipped"


def test_a_path_inside_of_a_folder_that_now_has_code_is_kept(setup: ModuleType, steps: ModuleType) -> None:
    one: Path = release(setup, "one")
    write(one / "source", {"shop/app.py": "code", "shop/uploads/file": "shipped"})
    steps.OBSERVED.write_text(json.dumps({"data": {"shop": True}, "fresh": []}))
    steps.keep(one, {"writable": ["shop/uploads"]})
    assert not (one / "source/shop").is_symlink()
    assert (one / "source/shop/uploads").resolve() == steps.DATA / "shop/uploads"


def test_any_number_of_folders_that_the_app_made_is_removed(setup: ModuleType, steps: ModuleType) -> None:
    one = release(setup, "one")
    for number in range(10_000):
        (steps.FRESH / f"{number:0200}").mkdir(parents=True)
    (steps.FRESH / os.fsdecode(b"-r\xff\n'\"")).mkdir()
    steps.keep(one, {})
    assert [*steps.FRESH.iterdir()] == []


@pytest.mark.parametrize("exists", [False, True])
def test_a_path_inside_of_another_leads_root_to_no_other_place(
    setup: ModuleType, steps: ModuleType, tmp_path: Path, exists: bool
) -> None:
    one = nested(setup, steps)
    steps.keep(one, {"writable": ["b", "b/ssh.service.d"]})
    # The app owns these folders. Root must not go through their links, say to /etc/systemd/system.
    for own in (steps.FRESH / "one/a", steps.DATA / "b"):
        units = tmp_path / f"units of {own.name}"
        units.mkdir()
        shutil.rmtree(own)
        own.symlink_to(units)
        if exists:
            (units / "ssh.service.d").write_text("the system's own")
    steps.keep(one, {"writable": ["b", "b/ssh.service.d"]})
    for units in tmp_path.glob("units of *"):
        place = units / "ssh.service.d"
        assert not place.is_symlink() and (not exists or place.read_text() == "the system's own")


def test_a_power_cut_while_keeping_is_no_obstacle(setup: ModuleType, steps: ModuleType) -> None:
    folder = release(setup, "one")
    (folder / "given/instance").mkdir(parents=True)
    (folder / "given/instance/x").touch()
    steps.keep(folder, {"writable": ["instance"]})
    assert (folder / "source/instance/x").resolve() == steps.DATA / "instance/x"


@dataclass(frozen=True)
class Outcome:
    """The exit status of setup, its output, the state that visitors see, and the result for bake."""

    status: int
    said: str
    state: str
    result: Result


def as_systemd_does(tmp_path: Path, document: str, prepare: str = "") -> Outcome:
    """Start the program where /etc, /run and /srv hold nothing but this document and what a script puts there."""
    (tmp_path / "document").write_text(document)
    words = shlex.join([sys.executable, "-B", str(PROGRAMS / "setup")])
    script = "set -e; for folder in /etc /run /srv /usr/local/sbin; do mount -t tmpfs none $folder; done\n"
    script += "mkdir -p /etc/app /run/app /srv/app/releases; touch /run/app/faults\n"
    script += f"cp {tmp_path}/document /etc/app/source.json\n{prepare}\n"
    script += f"status=0; {words} || status=$?; cat /run/app/state > {tmp_path}/said\n"
    script += f"test $(stat -c %a {contract.RESULT}) = 600 && cp {contract.RESULT} {tmp_path}/result; exit $status"
    own_user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    done = run(["unshare", *own_user, "--mount", "sh", "-c", script], check=False)
    if "mount:" in done.stderr or "unshare:" in done.stderr:
        pytest.skip(f"no mount namespace here: {done.stderr}")
    result = Result.model_validate_json((tmp_path / "result").read_text())
    return Outcome(done.status, done.stdout + done.stderr, (tmp_path / "said").read_text(), result)


def test_a_problem_is_one_line_that_the_journal_and_the_bake_know(tmp_path: Path) -> None:
    document = {"release": "debian-99", "machine": "x86_64", "bundle": "12ab"}
    outcome = as_systemd_does(tmp_path, json.dumps(document))
    assert outcome.status == 1
    assert re.match(r"<3>app-setup failed: this document is for debian-99\b", outcome.said)
    assert len(outcome.said.splitlines()) == 1
    assert re.fullmatch(r"could not be set up: failed at step 1 of \d, release", outcome.state)
    assert (outcome.result.step, outcome.result.kind) == ("release", contract.STEP)
    assert outcome.said == f"<3>app-setup failed: {outcome.result.message}\n"


@pytest.mark.parametrize("document", ["", "{", '{"release": "debian-13"}', "[]"])
def test_a_document_that_is_broken_is_such_a_line_too(tmp_path: Path, document: str) -> None:
    outcome = as_systemd_does(tmp_path, document)
    assert outcome.status == 1
    assert outcome.said.startswith("<3>app-setup failed: ")


def in_place(name: str, **recipe: object) -> str:
    """A script that puts a release in place."""
    folder, features = f"/srv/app/releases/{name}", paths.features()
    modules = [f"{features}/steps/steps.py", *[f"{features}/random-secrets/*"] * ("random_secrets" in recipe)]
    brought = f"mkdir -p {folder}/settings {folder}/source\ncp {' '.join(modules)} {folder}/settings\n"
    return f"{brought}printf %s {shlex.quote(json.dumps(recipe))} > {folder}/recipe.json\n"


HERE = {"release": RELEASE, "machine": platform.machine()}


def test_a_machine_waits_for_secrets_and_names_them(tmp_path: Path, fake: Fake) -> None:
    fake("systemctl", "exit 0")
    release = in_place("12ab", secrets=["GIVEN", "MISSING_ONE", "MISSING_TWO"])
    outcome = as_systemd_does(
        tmp_path,
        json.dumps({**HERE, "bundle": "12ab"}),
        f"{release}echo GIVEN=value > /run/app/given.env",
    )
    assert outcome.status == 1
    assert outcome.state == "waits for its settings"
    line = outcome.said.splitlines()[-1]
    assert line.startswith("<3>app-setup failed: ")
    assert "MISSING_ONE" in line and "MISSING_TWO" in line and "GIVEN" not in line
    assert (outcome.result.step, outcome.result.kind) == ("settings", contract.WAITING)
    assert line.endswith(outcome.result.message)
    assert "app-secret" in line


def test_a_machine_generates_the_secrets_that_nothing_else_sets(tmp_path: Path, fake: Fake) -> None:
    fake(
        "systemctl",
        f'case "$*" in *app-configure.service) cp -p /etc/app/secrets.env {tmp_path}/kept;; esac\n'
        '[ "$1" != is-active ]',
    )
    # The release serves already: only the new secrets make app-configure run.
    prepare = (
        f"{in_place('12ab', random_secrets=['KEY', 'GIVEN', 'BAKED'])}ln -s /srv/app/releases/12ab /srv/app/current\n"
    )
    prepare += "echo GIVEN=value > /run/app/given.env; mkdir /run/app-check; echo BAKED=value > /run/app-check/env\n"
    prepare += "printf STRIPE=x > /etc/app/secrets.env\n"
    values = []
    for _ in range(2):
        outcome = as_systemd_does(tmp_path, json.dumps({**HERE, "bundle": "12ab"}), prepare)
        assert (outcome.status, outcome.state) == (0, "is set up"), outcome.said
        assert (tmp_path / "kept").stat().st_mode & 0o777 == 0o600
        kept = re.fullmatch(r"STRIPE=x\nKEY=([\w-]{43})\n", (tmp_path / "kept").read_text())
        assert kept and kept[1] not in outcome.said
        values.append(kept[1])
    assert values[0] != values[1]


def test_a_generated_secret_is_kept(tmp_path: Path, fake: Fake) -> None:
    fake("systemctl", '[ "$*" != "reload-or-restart app-configure.service" ] && [ "$1" != is-active ]')
    prepare = f"{in_place('12ab', random_secrets=['KEY'])}ln -s /srv/app/releases/12ab /srv/app/current\n"
    prepare += "echo KEY=kept > /run/app/given.env\n"
    outcome = as_systemd_does(tmp_path, json.dumps({**HERE, "bundle": "12ab"}), prepare)
    assert (outcome.status, "generated" in outcome.said) == (0, False)


def test_visitors_learn_at_which_step_it_failed(tmp_path: Path, fake: Fake) -> None:
    fake("systemctl", '[ "$*" != "restart app-job@setup.service" ] && [ "$1" != is-active ]')
    release = in_place("12ab", setup=["false"])
    outcome = as_systemd_does(tmp_path, json.dumps({**HERE, "bundle": "12ab"}), release)
    assert outcome.status == 1
    step = re.fullmatch(r"could not be set up: failed at step (\d) of (\d), app", outcome.state)
    assert step and step[1] == step[2]
    # What is said to visitors is the machine's own; what failed, the journal knows.
    assert "app-job@setup" in outcome.said and "app-job" not in outcome.state
    assert outcome.result.step == "app" and "app-job@setup" in outcome.result.message


def test_an_app_that_does_not_start_has_a_kind_of_its_own(tmp_path: Path, fake: Fake) -> None:
    fake("systemctl", '[ "$*" != "restart app.service" ] && [ "$1" != is-active ]')
    outcome = as_systemd_does(tmp_path, json.dumps({**HERE, "bundle": "12ab"}), in_place("12ab"))
    assert outcome.status == 1
    assert (outcome.result.step, outcome.result.kind) == ("app", contract.NOT_STARTED)
    assert outcome.said.endswith("<3>app-setup failed: app does not start: see `systemctl status app`\n")


def test_a_run_that_succeeds_replaces_the_result_of_one_that_failed(tmp_path: Path, fake: Fake) -> None:
    fake("systemctl", '[ "$1" != is-active ]')
    stale = f"""echo '{{"kind": "StepError", "message": "of the run before"}}' > {contract.RESULT}"""
    current = f"ln -s /srv/app/releases/12ab {contract.CURRENT}"
    script = f"{in_place('12ab')}{current}\n{stale}"
    outcome = as_systemd_does(tmp_path, json.dumps({**HERE, "bundle": "12ab"}), script)
    assert (outcome.status, outcome.state, outcome.result) == (0, "is set up", Result(step="app"))


def test_a_run_that_is_stopped_is_told_as_one_that_failed(tmp_path: Path, fake: Fake) -> None:
    # As systemd does at the end of its patience: to the program itself, while it waits for another.
    fake("systemctl", 'kill -TERM "$PPID"; exec sleep 5')
    began = time.monotonic()
    outcome = as_systemd_does(tmp_path, json.dumps({**HERE, "bundle": "12ab"}), in_place("12ab"))
    assert time.monotonic() - began < 5
    assert outcome.status == 1
    assert outcome.said.splitlines()[-1] == "<3>app-setup failed: it was stopped"
    assert outcome.result.message == "it was stopped" and outcome.result.kind
    assert "Traceback" not in outcome.said
    assert re.fullmatch(r"could not be set up: failed at step \d of \d, settings", outcome.state)


def test_how_far_it_is_is_told_while_it_runs(
    setup: ModuleType, bring: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr(setup, "tell", told.append)
    bring(upload(setup, APP))
    steps = [re.match(r"is being set up: step (\d) of ", line) for line in told]
    numbers = [int(step[1]) for step in steps if step]
    assert len(numbers) == len(told)
    assert numbers == sorted(numbers) and numbers[0] == 1 and len(numbers) > 2
    assert {line.rpartition(" of ")[2].partition(",")[0] for line in told} == {str(len(setup.STEPS))}


@pytest.fixture
def keys(rooted: Callable[..., ModuleType], setup: ModuleType) -> ModuleType:
    """The program that generates secrets."""
    return rooted("keys.py", paths.features() / "random-secrets")


@pytest.mark.parametrize("text", ["KEY=", "OTHER_KEY=x", "# KEY=x", 'KEY=""'])
def test_what_gives_no_secret(setup: ModuleType, steps: ModuleType, keys: ModuleType, text: str) -> None:
    steps.GIVEN[1].write_text(f"{text}\n")
    with pytest.raises(setup.Waiting, match="KEY"):
        steps.require_secrets({"secrets": ["KEY"]})
    # A secret that the machine can generate counts as missing, too.
    keys.fetch({"random_secrets": ["KEY"]})
    assert re.search("^KEY=.{43}$", keys.SECRETS.read_text(), re.M)


@pytest.mark.parametrize("name", ["app-check/env", "app/secrets.env", "app/given.env"])
def test_what_gives_a_secret(setup: ModuleType, steps: ModuleType, keys: ModuleType, tmp_path: Path, name: str) -> None:
    write(tmp_path / "run", {name: 'OTHER=1\nKEY="a value"\n'})
    steps.require_secrets({"secrets": ["KEY"]})
    keys.fetch({"random_secrets": ["KEY"]})
    assert not keys.SECRETS.exists()
    with pytest.raises(setup.Waiting, match="MORE"):
        steps.require_secrets({"secrets": ["KEY", "MORE"]})


def test_going_back_asks_for_what_is_here_wherever_it_came_from(
    setup: ModuleType, machine: Serving, tmp_path: Path
) -> None:
    for name in ("one", "two"):
        release(setup, name)
    asked = {**HERE, "parts": "one"}
    setup.SOURCE.write_text(json.dumps(asked))
    setup.main()
    machine.ill = {"two"}
    setup.SOURCE.write_text(json.dumps({**asked, "parts": "two", "git": {"url": "https://code.example"}}))
    with pytest.raises(setup.StepError, match="has the digest"):
        setup.main()
    assert said(setup).items() >= {**HERE, "bundle": "one"}.items() and "parts" not in said(setup)
    assert json.loads(setup.SOURCE.with_suffix(".json.refused").read_text())["parts"] == "two"
    # The next boot needs neither parts nor a bundle.
    reboot(setup, machine)
    told(tmp_path)
    setup.main()
    assert told(tmp_path) == ["start app"]


def test_the_parts_of_a_release_go_once_it_serves(setup: ModuleType, machine: Serving) -> None:
    for name in ("one", "on-its-way"):
        (setup.INCOMING / name / "source").mkdir(parents=True)
        (setup.INCOMING / name / "source/app.py").touch()
    release(setup, "one")
    run_with(setup, "one")
    assert [path.name for path in setup.INCOMING.iterdir()] == ["on-its-way"]


@pytest.mark.parametrize("name", ["RELEASES", "CURRENT"])
def test_the_programs_agree_on_paths(program: Callable[[str], ModuleType], name: str) -> None:
    path = str(getattr(program("setup"), name))
    others = "".join(file.read_text() for file in (PROGRAMS / "configure", PROGRAMS / "uwsgi.ini"))
    assert str(Path(path).parent).removeprefix("/") in others


def test_uwsgi_reads_the_limits_of_the_release_in_place(program: Callable[[str], ModuleType]) -> None:
    rows = [line.partition(" = ") for line in (PROGRAMS / "uwsgi.ini").read_text().splitlines()]
    place = f"{program('setup').CURRENT}/settings/uwsgi.ini"
    assert [value for name, _, value in rows if name in ("if-file", "ini")] == [place, place]
    # uWSGI expands no variable where it decides.
    assert not [name for name, _, value in rows if name.startswith("if-") and ("$(" in value or "%(" in value)]


@pytest.fixture
def called(setup: ModuleType, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a release calls of what it brings for EC2, in its order, beside what the others are called for."""
    words: list[str] = []
    for name, does in {"volume": "mount", "aws": "fetch", "steps": "keep require_secrets prepare"}.items():
        module = ModuleType(name)
        for what in does.split():
            setattr(module, what, lambda *given, said=what: words.append(said))
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(setup, "configure", lambda release: words.append("configure"))
    monkeypatch.setattr(setup.serving, "start", lambda name: words.append(f"start {name}"))
    monkeypatch.setattr(setup.serving, "await_health", lambda recipe: None)
    monkeypatch.setattr(setup.serving, "runs", lambda name: False)
    return words


def test_data_is_mounted_before_anything_is_written_and_values_come_before_they_are_missed(
    setup: ModuleType, called: list[str]
) -> None:
    made = release(setup, "one")
    for name in ("volume", "aws", "steps"):
        (made / f"settings/{name}.py").parent.mkdir(exist_ok=True)
        (made / f"settings/{name}.py").touch()
    setup.serve(made, changed=False, first=False)
    assert called == ["mount", "keep", "configure", "fetch", "require_secrets", "prepare", "start app"]


def test_a_release_that_cannot_mount_the_volume_is_not_served_without_it(setup: ModuleType, called: list[str]) -> None:
    setup.VOLUME.write_text("vol-0123456789abcdef0\n")
    with pytest.raises(setup.StepError, match=r"needs `aws` in bake.yaml"):
        setup.serve(release(setup, "one"), changed=True, first=False)
    assert called == []


def test_the_lines_that_were_left_out_are_reported_and_the_app_serves(
    setup: ModuleType, machine: Serving, capsys: pytest.CaptureFixture[str]
) -> None:
    release(setup, "one")
    setup.FAULTS.write_text("/etc/app/domains, line 3: not a domain name, so ignored\n")
    run_with(setup, "one")
    # systemd reads <3> as an error; what app-setup prints is on the console and in the journal.
    assert "<3>/etc/app/domains, line 3: not a domain name, so ignored\n" in capsys.readouterr().out
    assert setup.STATE.read_text() == "is set up"


@pytest.mark.parametrize("has_interpreter", [True, False])
def test_the_interpreter_of_a_release_builds_its_virtualenv(
    setup: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_interpreter: bool
) -> None:
    release, commands = tmp_path / "release", []
    monkeypatch.setattr(setup, "command", lambda *words: commands.append(words))
    write(release, {"source/app.py": "", **({"settings/interpreter": ""} if has_interpreter else {})})
    setup.build(release, Path("/final"))
    (words,) = [words for words in commands if words[0] == "systemd-run"]
    program = ("/usr/lib/app/build-venv", release, Path("/final"))
    script = (release / "settings/interpreter",) if has_interpreter else ()
    assert words[words.index("--unit") + 2 :] == (*script, *program)
