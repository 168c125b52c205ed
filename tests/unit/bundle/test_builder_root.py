"""Builder roots: made once, kept by their inputs, and renewed when they are too old. mmdebstrap is a fake."""

from __future__ import annotations

import io
import json
from pathlib import Path

import builder_fakes
import pytest
from conftest import Fake

from bake.bundle import builder_root
from bake.config.debian import DEBIAN_12, DEBIAN_13
from bake.errors import ToolError
from bake.host import cache, programs
from bake.host.cache import A_WEEK, Age
from bake.host.progress import Reporter
from bake.host.terminal import Terminal


@pytest.fixture
def report() -> Reporter:
    return Reporter(Terminal(file=io.StringIO(), width=1000))


def obtain(report: Reporter, *packages: str, age: Age = A_WEEK) -> builder_root.BuilderRoot:
    return builder_root.obtain(DEBIAN_13, packages, "http://mirror.example/debian", age, report)


def test_a_root_is_made_once(fake: Fake, tmp_path: Path, cache_folder: Path, report: Reporter) -> None:
    builder_fakes.install(fake, tmp_path, "")
    (tmp_path / "tree/etc").mkdir()
    (tmp_path / "tree/etc/resolv.conf").write_text("nameserver 192.0.2.1\n")
    root = obtain(report)
    assert obtain(report) == root
    (call,) = builder_fakes.lines(tmp_path, "mmdebstrap.calls")
    assert "trixie" in call.split() and call.endswith("http://mirror.example/debian") and "libpq-dev" in call
    # The host's name servers are not in it.
    assert (root.folder / "etc").is_dir() and not (root.folder / "etc/resolv.conf").exists()
    assert "builder root: debian-13, " in report.console.file.getvalue()  # type: ignore[attr-defined]
    assert not list(cache_folder.glob("work/*"))


def test_further_packages_make_another_root(fake: Fake, tmp_path: Path, cache_folder: Path, report: Reporter) -> None:
    builder_fakes.install(fake, tmp_path, "")
    assert obtain(report) != obtain(report, "libmagic-dev")
    assert len(builder_fakes.lines(tmp_path, "mmdebstrap.calls")) == 2
    keys = {builder_root.key(target, (), mirror) for target in (DEBIAN_12, DEBIAN_13) for mirror in (None, "http://m")}
    assert len(keys) == 4


def test_an_old_root_is_made_again_but_only_once_in_a_process(
    fake: Fake, tmp_path: Path, cache_folder: Path, report: Reporter
) -> None:
    builder_fakes.install(fake, tmp_path, "")
    root = obtain(report)
    manifest = root.folder.parent / "builder.json"
    cache.keep(manifest, json.dumps({"created": 0}))
    obtain(report)
    obtain(report, age=Age(refresh=True))
    assert len(builder_fakes.lines(tmp_path, "mmdebstrap.calls")) == 2


def test_the_package_of_a_library_comes_from_the_root(
    fake: Fake, tmp_path: Path, cache_folder: Path, report: Reporter
) -> None:
    builder_fakes.install(fake, tmp_path, "")
    root = obtain(report)
    assert root.package_of("libpq.so.5") == "libpq5"
    assert root.package_of("libpq.so.6") == root.package_of("pq.so.5") == ""


def test_a_computer_without_mmdebstrap_is_told_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, cache_folder: Path, report: Reporter
) -> None:
    monkeypatch.setattr(programs, "which", lambda program: None)
    with pytest.raises(ToolError, match="mmdebstrap, which makes builder roots, is not installed"):
        obtain(report)
