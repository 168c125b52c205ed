"""Wheels of sources: which build requirements are tried, what is kept, and what a failure says. The builds are fake."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import builder_fakes
import pytest
from conftest import Fake, Site, publish
from interpreters import Mirror

from bake.bundle.wheel_builder import LockOptions, WheelBuilder
from bake.config.debian import DEBIAN_12, DEBIAN_13
from bake.config.recipe import Recipe
from bake.errors import BuildError, WheelError
from bake.host import cache
from bake.host.cache import Age
from bake.host.progress import Reporter
from bake.host.terminal import Terminal

pytestmark = pytest.mark.usefixtures("cache_folder")

#: A build that succeeds.
WORKS = "tar --create ./a-1.0-py3-none-any.whl"
DATES = ["2019-01-01", "2020-06-01", "2022-01-01", "2023-01-01"]

Install = Callable[[str], None]


@pytest.fixture
def builder(site: Site) -> WheelBuilder:
    """A builder whose index has four versions of setuptools, of different years."""
    wheels = [f"setuptools-{number}.0-py3-none-any.whl" for number in range(1, 5)]
    publish(site, "setuptools", *wheels, dates=DATES)
    report = Reporter(Terminal(file=io.StringIO(), width=1000))
    return WheelBuilder(Recipe(index=f"{site.address}/simple/"), DEBIAN_12, Age(), report)


@pytest.fixture
def install(fake: Fake, tmp_path: Path) -> Install:
    """Install a script as the build; it finds a wheel in its folder."""

    def call(script: str) -> None:
        builder_fakes.wheel(tmp_path, "a-1.0-py3-none-any.whl")
        builder_fakes.install(fake, tmp_path, script)

    return call


def tried(folder: Path) -> list[str]:
    """The build requirements of each build."""
    builds = builder_fakes.lines(folder, "builds")
    return [" ".join(word for word in line.split() if word.endswith(".whl")) for line in builds]


def test_a_wheel_is_built_once_and_the_build_is_printed(
    builder: WheelBuilder, install: Install, site: Site, tmp_path: Path
) -> None:
    install(WORKS)
    source = builder_fakes.publish_source(site, "a", "'setuptools'")
    wheel = builder.build(source)
    assert wheel.name == "a-1.0-py3-none-any.whl" and wheel.path.is_file()
    assert builder.build(source) == wheel
    assert tried(tmp_path) == ["setuptools-4.0-py3-none-any.whl"]
    notes = builder.report.console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert [note.rpartition(" in ")[0] for note in notes if note.startswith(("building", "built"))] == [
        "building a==1.0 from source", "built a-1.0-py3-none-any.whl"
    ]  # fmt: skip
    # Another Debian version has another root.
    replace(builder, target=DEBIAN_13).build(source)
    assert len(tried(tmp_path)) == 2


def test_the_interpreter_of_an_app_builds_its_wheels(
    builder: WheelBuilder, install: Install, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (content,) = Mirror(site, tmp_path / "executed", monkeypatch).publish("3.12.8")
    install(f"cp $2/python/* {tmp_path}; {WORKS}")
    source = builder_fakes.publish_source(site, "a", "'setuptools'")
    builder.build(source)
    assert not (tmp_path / "python.tar.gz").exists()
    own = replace(builder, target=builder.target.with_python("3.12.8"))
    own.build(source)
    own.build(source)
    assert (tmp_path / "python.tar.gz").read_bytes() == content
    assert len(tried(tmp_path)) == 2 and not (tmp_path / "executed").exists()


def test_older_build_requirements_are_tried_after_a_failure(
    builder: WheelBuilder, install: Install, site: Site, tmp_path: Path
) -> None:
    install(f"ls $2/wheels | grep -q setuptools-2 || exit 1; {WORKS}")
    builder.build(builder_fakes.publish_source(site, "a", "'setuptools'", "2018-05-05"))
    numbers = [line.removeprefix("setuptools-").partition(".")[0] for line in tried(tmp_path)]
    # 4.0 is the newest; 3.0 was that of the release of Python 3.11; 2.0 that of 2021. 1.0 was not needed.
    assert numbers == ["4", "3", "2"]


def test_no_build_requirement_is_older_than_the_source_which_may_need_a_newer_version(
    builder: WheelBuilder, install: Install, site: Site, tmp_path: Path
) -> None:
    install("exit 1")
    with pytest.raises(BuildError) as caught:
        builder.build(builder_fakes.publish_source(site, "a", "'setuptools'", "2022-06-01"))
    assert len(tried(tmp_path)) == 2
    assert caught.value.hint.startswith("Allow a newer version: a 1.0 was published on 2022-06-01, before Python 3.11")
    assert "build_packages" not in caught.value.hint


def test_a_compiler_fault_is_not_tried_again(
    builder: WheelBuilder, install: Install, site: Site, tmp_path: Path
) -> None:
    install(
        'echo "a.c:1:10: fatal error: pq.h: No such file or directory" >&2\n'
        "echo \"error: command '/usr/bin/x86_64-linux-gnu-gcc' failed with exit code 1\" >&2; exit 1"
    )
    with pytest.raises(BuildError) as caught:
        builder.build(builder_fakes.publish_source(site, "a", "'setuptools'", "2018-05-05"))
    assert len(tried(tmp_path)) == 1
    error = caught.value
    assert error.message == (
        "requirements.txt:1: a==1.0 has no wheel for Python 3.11 on debian-12, and its build from source failed "
        "because pq.h is missing"
    )
    assert error.hint.startswith("Add the Debian package with pq.h to bake.yaml, as in `build_packages: [")
    assert "a 1.0 was published on 2018-05-05, before Python 3.11 (2022-10-24)" in error.hint
    assert Path(error.hint.split()[-1].removesuffix(".")).read_text().endswith("failed with exit code 1\n")
    assert "fatal error: pq.h" in error.details


def test_a_requirement_that_only_the_backend_knows_is_added(
    builder: WheelBuilder, install: Install, site: Site, tmp_path: Path
) -> None:
    publish(site, "late", "late-1.0-py3-none-any.whl")
    install(
        "ls $2/wheels | grep -q late || { echo 'ERROR: No matching distribution found for late>=1' >&2; exit 1; }\n"
        + WORKS
    )
    builder.build(builder_fakes.publish_source(site, "a", "'setuptools'"))
    assert tried(tmp_path)[-1] == "late-1.0-py3-none-any.whl setuptools-4.0-py3-none-any.whl"


def test_a_changed_source_is_refused(builder: WheelBuilder, install: Install, site: Site, tmp_path: Path) -> None:
    install(WORKS)
    source = builder_fakes.publish_source(site, "a", "'setuptools'")
    with pytest.raises(WheelError, match=r"SHA-256 of .*a-1.0.tar.gz differs"):
        builder.build(replace(source, sha256="0" * 64))
    assert tried(tmp_path) == []


def test_a_refresh_builds_again_what_another_process_built(
    builder: WheelBuilder, install: Install, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(WORKS)
    source = builder_fakes.publish_source(site, "a", "'setuptools'")
    refreshing = replace(builder, age=Age(refresh=True))
    refreshing.build(source)
    refreshing.build(source)
    assert len(tried(tmp_path)) == 1
    monkeypatch.setattr(cache, "_START", cache._START + 1000)
    refreshing.build(source)
    assert len(tried(tmp_path)) == 2


def test_options_and_recipe_decide_whether_anything_is_built(builder: WheelBuilder) -> None:
    assert LockOptions().builder(builder.recipe, DEBIAN_12, builder.report)
    assert not LockOptions(builds=False).builder(builder.recipe, DEBIAN_12, builder.report)
    assert not LockOptions().builder(Recipe(build=False), DEBIAN_12, builder.report)


@pytest.mark.parametrize("tool", ["maturin>=1,<2", "setuptools_rust"])
def test_a_source_in_rust_is_refused_before_its_build_with_a_version_that_has_a_wheel(
    builder: WheelBuilder, install: Install, site: Site, tmp_path: Path, tool: str
) -> None:
    install(WORKS)
    source = builder_fakes.publish_source(
        site, "a", f"'setuptools', '{tool}'", wheels="a-2.0-py3-none-any.whl a-3.0-py3-none-any.whl"
    )
    with pytest.raises(WheelError) as caught:
        builder.build(source)
    name = tool.partition(">")[0].replace("_", "-")
    assert caught.value.message == (
        "requirements.txt:1: a==1.0 has no wheel for Python 3.11 on debian-12, and bake cannot build it: "
        f"{name} would fetch Rust packages"
    )
    assert "Require a version with a wheel. a==2.0 has a wheel." in caught.value.hint
    assert not tried(tmp_path)


def test_a_header_that_python_lacks_is_in_no_package_of_debian(
    builder: WheelBuilder, install: Install, site: Site
) -> None:
    install('echo "a.c:1:10: fatal error: longintrepr.h: No such file or directory" >&2; exit 1')
    with pytest.raises(BuildError) as caught:
        builder.build(builder_fakes.publish_source(site, "a", "'setuptools'", "2018-05-05"))
    assert caught.value.message.endswith(
        "because longintrepr.h is missing, a header of Python itself that Python 3.11 does not have"
    )
    assert caught.value.hint.startswith("Allow a newer version: a 1.0 was")


def test_a_failed_build_names_the_next_version_with_a_wheel(
    builder: WheelBuilder, install: Install, site: Site
) -> None:
    install("exit 1")
    source = builder_fakes.publish_source(
        site, "a", "'setuptools'", "2018-05-05", wheels="a-2.0-py3-none-any.whl a-3.0-py3-none-any.whl"
    )
    with pytest.raises(BuildError) as caught:
        builder.build(source)
    assert "a==2.0 has a wheel." in caught.value.hint


def test_a_failed_build_names_a_version_of_the_time_of_python_if_none_has_a_wheel(
    builder: WheelBuilder, install: Install, site: Site
) -> None:
    """As psycopg2, which has no wheels for Linux."""
    install("exit 1")
    source = builder_fakes.publish_source(site, "a", "'setuptools'", "2018-05-05")
    files = {"1.0": "2018-05-05", "2.0": "2022-11-01", "3.0": "2026-01-01"}
    (site.folder / "simple/a/index.html").unlink()
    (site.folder / "simple/a").rmdir()
    publish(site, "a", *(f"a-{version}.tar.gz" for version in files), dates=list(files.values()))
    with pytest.raises(BuildError) as caught:
        builder.build(source)
    assert "a==2.0 was the newest half a year after that Python." in caught.value.hint
