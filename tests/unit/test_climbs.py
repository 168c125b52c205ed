"""An app's way through the packages goes down: bake reads it once, and hands it on to the packages below.

Each test runs a command with fakes for other programs, and notes the functions that get the app as an argument: its
AppSource or Recipe, or a value with one of them. A climb is a step from such a call to one in a package that stands
later in the order of test_layout.py. Each line that calls a function counts once. The app's own methods and properties
do not count, and neither do parts of it, such as its Debian version. A return counts if the caller then hands the app
on to a higher package.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import FrameType, ModuleType
from unittest.mock import MagicMock

import click
import pytest
from click.testing import CliRunner
from test_layout import ORDER, PACKAGE, name_of, package_of

from bake.aws import cleanup
from bake.aws.images import packer_builder, publish
from bake.bundle.app_source import AppSource
from bake.cli import documents, images, machines
from bake.config.contract_files import Source
from bake.config.debian import DEBIAN_13
from bake.config.recipe import Recipe
from bake.deploy import push
from bake.disk import base_disk, partitions, security_updates
from bake.host.progress import Reporter
from bake.host.terminal import Terminal
from bake.image import host_requirements, leaks, packer
from bake.verify import proof
from bake.vm import qemu

#: The maximum number of climbs of a command.
MOST = 10
RECIPE = """{name: shop, wsgi: "app:app", domains: [shop.example], certificate: {keep: /srv/keep}, secrets: [TOKEN],
proxy: {trust: cloudflare}, setup: ["true"], processes: {queue: {run: "true"}}, aws: {role: true},
timers: {daily: {run: "true", when: daily}}}"""


def has_app(value: object, depth: int = 3) -> bool:
    """Return whether a value is an app, or has one in at most `depth` dataclasses."""
    if isinstance(value, AppSource | Recipe):
        return True
    parts = fields(value) if depth and is_dataclass(value) and not isinstance(value, type) else ()
    return any(has_app(getattr(value, part.name, None), depth - 1) for part in parts)


class Way:
    """The calls that hand an app on, in their order: the package and the name of each function."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []
        self._lines: set[object] = set()

    def note(self, frame: FrameType, event: str, _: object) -> None:
        """Note a call that hands the app on. `sys.setprofile` runs it at each call."""
        code, caller, sources = frame.f_code, frame.f_back, f"{PACKAGE}/"
        if event != "call" or not code.co_filename.startswith(sources):
            return
        while caller and not caller.f_code.co_filename.startswith(sources):
            caller = caller.f_back
        names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        is_own = names[:1] == ("self",) and isinstance(frame.f_locals["self"], AppSource | Recipe)
        line = (caller.f_code, caller.f_lineno, code) if caller else code
        if line not in self._lines and not is_own and any(has_app(frame.f_locals[name]) for name in names):
            module = name_of(Path(code.co_filename))
            self.calls.append((package_of(module), f"{module}.{code.co_name}"))
            self._lines.add(line)

    def climbs(self) -> list[str]:
        """Return the steps to a package that stands later in the order."""
        steps = zip(self.calls, self.calls[1:], strict=False)
        return [f"{name} -> {after}" for (low, name), (high, after) in steps if ORDER.index(high) > ORDER.index(low)]


@pytest.fixture
def shop(app: Path, cache_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An app, and fakes for QEMU, Packer, disks, machines and AWS."""
    (app / "app.py").write_text("def app(environ, start_response): ...\n")
    (app / "bake.yaml").write_text(RECIPE)
    monkeypatch.chdir(tmp_path)
    (disk := tmp_path / "disk").write_bytes(b"")
    facts = push.Facts(Source.of(DEBIAN_13, bundle="0" * 64), "0" * 64, "", frozenset(), has_processes=True)
    login = MagicMock(host="shop.example")
    login.connected().__enter__().address.geturl.return_value = "ssh://shop.example"

    def output(*values: object, **_: object) -> Path:
        path = [value for value in values if isinstance(value, Path)][-1]
        path.write_text("")
        return path

    answers: dict[ModuleType, dict[str, object]] = {
        base_disk: {"find": base_disk.Base(disk, disk, "key", 0, "2026-11-28", DEBIAN_13.name), "reap": None},
        security_updates: {"covers": True}, leaks: {"require_none": None}, host_requirements: {"verify": None},
        qemu: {"accelerator": "kvm", "make_key": "ssh-ed25519 key", "public_key": "ssh-ed25519 key"},
        packer: {"build_in_cloud": "region:ami-1", "version": "1"}, proof: {"prove": proof.ProofResult(1, "app", "")},
        machines: {"_login": login}, push: {"facts": facts, "_switch": "0" * 64, "visit": None},
        packer_builder: {"newest_debian_ami": {"Name": "debian"}, "_open_access": "sg-1"}, cleanup: {"clear": None},
        publish: {
            "find_ami": None, "require_free_name": None, "make_permanent": None, "distribute": {}, "snapshots_of": [],
        },
    }  # fmt: skip
    for module, values in answers.items():
        for name, value in values.items():
            monkeypatch.setattr(module, name, lambda *_, value=value, **__: value)
    for name in ("to_raw", "copy_used_blocks", "extract", "to_qcow2"):
        monkeypatch.setattr(partitions, name, output)
    monkeypatch.setattr(packer, "build", lambda *_: output(disk))
    return app


def invoke(command: click.Command, *words: str) -> None:
    """Run a command of bake."""
    CliRunner().invoke(command, words, catch_exceptions=False, standalone_mode=False)


def bake_at_aws(folder: Path) -> None:
    """Bake an AMI as `bake ami --builder packer` does."""
    cloud, report = MagicMock(), Reporter(Terminal(file=io.StringIO()))
    cloud.return_value.describe_images.return_value = {"Images": [{}]}
    app = AppSource.read(folder, report)
    packer_builder.bake(app, publish.PublishOptions(), packer_builder.ANYWHERE, cloud, report)


@pytest.mark.parametrize(
    ("run", "function"),
    [
        (lambda folder: invoke(images.image_command, str(folder)), "image.pipeline._publish"),
        (lambda folder: invoke(documents.render_command, "--provider=hetzner", str(folder)), "deploy.render._notes"),
        (lambda folder: invoke(machines.push_command, "shop.example", str(folder)), "bundle.release.gather"),
        (bake_at_aws, "image.build.check_settings"),
    ],
    ids=["image", "render", "push", "ami"],
)
def test_an_app_seldom_climbs_back(run: Callable[[Path], None], function: str, shop: Path) -> None:
    way = Way()
    sys.setprofile(way.note)
    try:
        run(shop)
    finally:
        sys.setprofile(None)
    assert function in [name for _, name in way.calls], "the command does not hand the app on to its end"
    assert len(way.climbs()) <= MOST, way.climbs()


def test_a_climb_would_be_noticed() -> None:
    way = Way()
    way.calls = [("cli", "a"), ("config", "b"), ("config", "c"), ("bundle", "d"), ("app", "e"), ("image", "f")]
    assert way.climbs() == ["c -> d", "e -> f"]
    assert has_app(AppSource(Path(), Recipe())) and not has_app(Recipe) and not has_app(DEBIAN_13)
