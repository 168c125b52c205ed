"""What becomes of the paths that an app was seen to write."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from conftest import Fake, write

from bake.host import paths
from bake.image import pipeline
from bake.image.manifest import ObservedPaths

#: What a release ships.
SHIPPED = {
    "app.py": "app", "config.json": "{}", "shop.db": "SQLite format 3\0rows",
    "shop/__init__.py": "", "shop/models.py": "models",
    "static/style.css": "css", "static/img/logo.png": "png",
    "static/uploads/.gitkeep": "", "instance/.gitignore": "*",
}  # fmt: skip


@pytest.fixture
def observe(rooted: Callable[..., ModuleType]) -> ModuleType:
    return rooted("observe.py", paths.features() / "author-server")


DATA, FRESH, REFUSED = "data", "fresh", "refused"


@pytest.mark.parametrize(
    ("written", "kind", "expected"),
    [
        ({"logs/shop.log": "x"}, DATA, {"logs": True}),
        ({"a/b/c.txt": "x", "a/d": "y"}, DATA, {"a": True}),
        ({".data/x": "x"}, DATA, {".data": True}),
        ({"site.db": "x", "site.db-journal": "x", "site.db-wal": "x"}, DATA, {"site.db": False}),
        ({"counter": "1"}, DATA, {"counter": False}),
        ({"shop/cache.bin": "x"}, DATA, {"shop/cache.bin": False}),
        ({"shop/cache/1": "x"}, DATA, {"shop/cache": True}),
        ({"shop.db": "SQLite format 3\0more"}, DATA, {"shop.db": False}),
        ({"static/uploads/a.png": "x"}, DATA, {"static/uploads": True}),
        ({"instance/site.db": "x"}, DATA, {"instance": True}),
        ({"static/config/x.json": "x"}, DATA, {"static/config": True}),
        ({"static/built.css": "x"}, FRESH, ["static"]),
        ({"static/img/logo.png": "other"}, FRESH, ["static/img"]),
        ({"static/built.css": "x", "static/img/logo.png": "other"}, FRESH, ["static"]),
        ({"config.json": "{1}"}, FRESH, ["config.json"]),
        ({"shop/models.py": "other"}, REFUSED, ["shop/models.py"]),
        ({"shop/__pycache__/models.pyc": "x", "app.pyc": "x"}, DATA, {}),
        ({}, DATA, {}),
    ],
)
def test_a_path_is_kept_or_begins_anew_with_each_release(
    observe: ModuleType, tmp_path: Path, written: dict[str, str], kind: str, expected: object
) -> None:
    write(tmp_path, SHIPPED)
    before = observe.manifest(tmp_path)
    write(tmp_path, written)
    nothing: dict[str, object] = {"data": {}, "fresh": [], "refused": []}
    assert asdict(observe.classify(before, observe.manifest(tmp_path), tmp_path)) == {**nothing, kind: expected}


def test_a_shipped_file_that_the_app_removes_begins_anew_with_each_release(observe: ModuleType, tmp_path: Path) -> None:
    write(tmp_path, SHIPPED)
    before = observe.manifest(tmp_path)
    (tmp_path / "static/img/logo.png").unlink()
    (tmp_path / "config.json").unlink()
    found = observe.classify(before, observe.manifest(tmp_path), tmp_path)
    assert found.fresh == ["config.json", "static/img"]


def test_links_are_not_followed(observe: ModuleType, tmp_path: Path) -> None:
    write(tmp_path, SHIPPED)
    before = observe.manifest(tmp_path)
    (tmp_path / "latest").symlink_to("/etc")
    (tmp_path / "broken").symlink_to("/nowhere")
    found = observe.classify(before, observe.manifest(tmp_path), tmp_path)
    assert found.data == {"latest": False, "broken": False}


@dataclass(frozen=True)
class Machine:
    """A machine with a release, the modules of its programs, and the means to replace what they call."""

    release: Path
    observe: ModuleType
    steps: ModuleType
    serving: ModuleType
    patch: pytest.MonkeyPatch

    def watch(self, recipe: Mapping[str, object]) -> None:
        """Observe what the app writes, as a bake does."""
        self.observe.watch(self.release, recipe, self.steps)


@pytest.fixture
def machine(
    observe: ModuleType,
    steps: ModuleType,
    serving: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    fake: Fake,
) -> Machine:
    """A machine with a release whose app writes when it is started; systemctl notes its words."""
    monkeypatch.setattr(observe, "serving", serving)
    observe.WANTED.parent.mkdir()
    observe.WANTED.touch()
    for unit in observe.UNITS:
        (observe.DROP_INS / f"{unit}.d").mkdir(parents=True)
    fake(
        "systemctl",
        f'echo "$*" >> {tmp_path}/words; cat {observe.DROP_INS}/app.service.d/* >> {tmp_path}/bound || true',
    )
    fake("chown", "exit 0")
    release = tmp_path / "releases/one"
    write(release / "source", SHIPPED)
    monkeypatch.setattr(serving, "await_health", lambda recipe: None)
    return Machine(release, observe, steps, serving, monkeypatch)


def test_the_app_runs_once_on_a_copy_and_its_data_is_kept(machine: Machine, tmp_path: Path) -> None:
    copy = machine.observe.SCRATCH / "source"
    starts: list[str] = []

    def start(name: str) -> None:
        starts.append(name)
        write(copy, {"logs/shop.log": "started", "site.db": "rows", "static/built.css": "css", "app.py": "changed"})

    def ask(release: Path, recipe: dict[str, object]) -> bool:
        # Also what only the author's server writes counts.
        write(copy, {"made/by-hand": "x"})
        return True

    machine.patch.setattr(machine.serving, "start", start)
    machine.patch.setattr(machine.observe, "load", lambda release, name: SimpleNamespace(ask=ask))
    machine.watch({})
    source = machine.release / "source"
    found = json.loads(machine.observe.OBSERVED.read_text())
    assert found == {"data": {"logs": True, "made": True, "site.db": False}, "fresh": ["static"], "refused": ["app.py"]}
    # The release itself is as it was, but for links; what was written is where the links lead.
    assert (source / "app.py").read_text() == "app"
    assert (source / "logs").readlink() == machine.steps.DATA / "logs" and (
        source / "logs/shop.log"
    ).read_text() == "started"
    assert (source / "site.db").read_text() == "rows"
    assert (source / "static").readlink() == machine.steps.FRESH / "one/static"
    assert (source / "static/style.css").read_text() == "css" and not (source / "static/built.css").exists()
    words = (tmp_path / "words").read_text().splitlines()
    assert words == ["daemon-reload", "stop app.service", "stop app.service app.socket", "daemon-reload"]
    assert f"BindPaths={copy}:{source}\n" in (tmp_path / "bound").read_text()
    assert not machine.observe.SCRATCH.exists() and not list(machine.observe.DROP_INS.glob("*/70-scratch.conf"))
    # Only once.
    machine.watch({})
    assert starts == ["app"]


def test_where_the_author_s_server_does_not_serve_the_app_is_visited(machine: Machine, tmp_path: Path) -> None:
    starts: list[str] = []
    asked: list[dict[str, object]] = []
    machine.patch.setattr(machine.serving, "start", starts.append)
    machine.serving.NAMES.write_text("*.shop.example\n")
    author = SimpleNamespace(
        ask=lambda release, recipe: False,
        crawl=lambda release, argument: asked.append(argument),
        pages=lambda check: {"seeds": ["/"], "paths": None},
        SECONDS=30,
    )
    machine.patch.setattr(machine.observe, "load", lambda release, name: author)
    machine.watch({})
    assert starts == ["app", "app"]
    assert [each["url"] for each in asked] == ["https://www.shop.example"]


def test_an_app_that_does_not_start_leaves_nothing_bound(machine: Machine, tmp_path: Path) -> None:
    def start(name: str) -> None:
        raise machine.serving.NotStarted("app does not start")

    machine.patch.setattr(machine.serving, "start", start)
    with pytest.raises(machine.serving.NotStarted):
        machine.watch({})
    assert not list(machine.observe.DROP_INS.glob("*/70-scratch.conf"))
    assert (tmp_path / "words").read_text().endswith("daemon-reload\n")


def test_a_later_release_that_ships_more_begins_as_it_ships_it(machine: Machine, tmp_path: Path) -> None:
    machine.observe.OBSERVED.write_text(json.dumps({"data": {"logs": True}, "fresh": ["static"], "refused": []}))
    machine.steps.keep(machine.release, {})
    (machine.release / "source/static/built.css").write_text("by the app")
    (machine.release / "source/logs/x").write_text("kept")
    two = tmp_path / "releases/two"
    shutil.copytree(machine.release.parent / "one/given", two / "source")
    write(two / "source", {"static/style.css": "css of two"})
    os.sync()
    machine.steps.keep(two, {})
    assert (two / "source/static/style.css").read_text() == "css of two"
    assert not (two / "source/static/built.css").exists()
    assert (two / "source/logs/x").read_text() == "kept"
    # What no release is left of is removed.
    (machine.steps.FRESH / "gone").mkdir()
    machine.steps.keep(two, {})
    assert {folder.name for folder in machine.steps.FRESH.iterdir()} == {"one", "two"}
    # Gone back, the first release has what it had.
    machine.steps.keep(machine.release, {})
    assert (machine.release / "source/static/built.css").read_text() == "by the app"


def test_people_are_told_which_is_which() -> None:
    lines = list(pipeline._write_notes(ObservedPaths({"logs": True, "a.db": False}, ("static",), ("app.py",))))
    assert [line.split()[1] for line in lines] == ["logs/", "a.db", "static", "the"]
    assert "kept in /var/lib/app" in lines[0] and "each release" in lines[2] and "code is read-only" in lines[3]
    assert list(pipeline._write_notes(ObservedPaths())) == []


def test_a_later_release_s_code_is_not_made_writable(machine: Machine, tmp_path: Path) -> None:
    machine.observe.OBSERVED.write_text(
        json.dumps({"data": {"shop/cache": True, "new.py": False}, "fresh": ["static"]})
    )
    write(machine.release / "source", {"shop/cache/__init__.py": "code", "new.py": "code", "static/tool.py": "code"})
    machine.steps.keep(machine.release, {})
    assert not [name for name in ("shop/cache", "new.py", "static") if (machine.release / "source" / name).is_symlink()]
    # A person who lists the path decides.
    machine.steps.keep(machine.release, {"writable": ["shop/cache"]})
    assert (machine.release / "source/shop/cache").is_symlink()


def test_static_files_are_collected_once_while_an_image_is_made(machine: Machine, tmp_path: Path) -> None:
    machine.steps.URL.unlink()
    machine.steps.URL.write_text("")
    machine.patch.setattr(
        machine.observe, "load", lambda release, name: SimpleNamespace(ask=lambda release, recipe: True)
    )
    machine.patch.setattr(machine.serving, "start", lambda name: None)
    recipe = {"django": {"settings": "shop.settings"}}
    machine.watch(recipe)
    machine.steps.prepare(machine.release, recipe, True, True)
    assert (tmp_path / "words").read_text().count("start app-job@static.service\n") == 1
