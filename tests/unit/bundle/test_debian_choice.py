"""The choice of a Debian release where a recipe names none. The package index is a folder of the tests'."""

from __future__ import annotations

import ast
import io
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import builder_fakes
import pytest
from conftest import Fake, Site, publish

from bake.app import detect, project_metadata
from bake.app.name_resolution import PortableModules
from bake.bundle import builder_root, debian_choice, lock, release_archive, uv_resolver
from bake.bundle.app_source import AppSource
from bake.bundle.wheel_builder import LockOptions
from bake.config.contract_files import Source
from bake.config.debian import DEBIAN_12
from bake.config.recipe import Recipe
from bake.deploy import push
from bake.errors import AppSyntaxError, BakeError, BuildError, ConflictError, RequirementError, WheelError
from bake.host import cache
from bake.host.cache import Age
from bake.host.programs import Result, run
from bake.host.progress import Reporter
from bake.host.terminal import Terminal
from bake.vm import ssh

pytestmark = pytest.mark.usefixtures("cache_folder")

APP = "from flask import Flask\napp = Flask(__name__)\n"
FOR_PYTHON = {
    "both": ("1.0-py3-none-any.whl",),
    "311": ("1.0-cp311-cp311-manylinux_2_17_x86_64.whl", "1.0.tar.gz"),
    "313": ("1.0-cp313-cp313-manylinux_2_17_x86_64.whl", "1.0.tar.gz"),
    "39": ("1.0-cp39-cp39-manylinux_2_17_x86_64.whl", "1.0.tar.gz"),
}

#: Read an app of these files, with options for `AppSource.read`; the base that was chosen and all notes.
Read = Callable[..., tuple[object, list[str]]]


@pytest.fixture
def read(app: Path, site: Site) -> Read:
    """Write and read an app; the index has a package for each key of FOR_PYTHON, named for it."""
    for key, files in FOR_PYTHON.items():
        publish(site, f"for-{key}", *(f"for_{key}-{file}" for file in files))

    def call(
        requirements: str, files: dict[str, str] | None = None, keys: str = "", builds: bool = False, **age: Any
    ) -> tuple[object, list[str]]:
        written = {"app.py": APP, "requirements.txt": requirements, **(files or {})}
        written["bake.yaml"] = f"index: {site.address}/simple/\ncheck: {{author: off}}\n{keys}"
        for name, text in written.items():
            (app / name).write_text(text)
        stream = io.StringIO()
        options = LockOptions(Age(**age), builds)
        found = AppSource.read(app, Reporter(Terminal(file=stream, width=1000)), options)
        return found.recipe.base, stream.getvalue().splitlines()

    return call


def replace(site: Site, name: str, *files: str) -> None:
    """Publish other files of a package, instead of those that the index has."""
    shutil.rmtree(site.folder / "simple" / name)
    publish(site, name, *files)


def base_note(notes: list[str]) -> str:
    (note,) = [note for note in notes if note.startswith("base: ")]
    return note


def test_the_newest_release_is_chosen_where_everything_resolves_there(read: Read) -> None:
    base, notes = read("for-both==1.0\nfor-313==1.0\n")
    assert base == "debian-13" and base_note(notes) == "base: debian-13 (Python 3.13, the newest)"


def test_the_older_release_is_chosen_where_a_pin_has_no_wheel_for_the_newest(read: Read) -> None:
    base, notes = read("for-both==1.0\nfor-311==1.0\n")
    assert base == "debian-12"
    assert base_note(notes) == "base: debian-12 (requirements.txt:2: for-311==1.0 has no wheel for Python 3.13)"


def test_a_reason_keeps_the_words_of_the_app(read: Read) -> None:
    name = "pins for Python 3.13 on debian-13.txt"
    _, notes = read(f'-r "{name}"\n', {name: "for-311==1.0\n"})
    assert base_note(notes) == f"base: debian-12 ({name}:1: for-311==1.0 has no wheel for Python 3.13)"


def test_a_requirement_that_admits_no_release_with_a_wheel_counts_as_well(read: Read) -> None:
    base, notes = read("for-311<2\n")
    assert base == "debian-12" and "for-311" in base_note(notes)


def test_without_any_suitable_release_the_refusal_has_both_reasons(read: Read) -> None:
    with pytest.raises(WheelError) as caught:
        read("for-311==1.0\nfor-313==1.0\n")
    assert caught.value.message == (
        "No Debian release suits the app. "
        "debian-13: requirements.txt:1: for-311==1.0 has no wheel for Python 3.13. "
        "debian-12: requirements.txt:2: for-313==1.0 has no wheel for Python 3.11"
    )


def test_the_refusal_names_the_build_that_suffices_on_one_of_the_releases(read: Read) -> None:
    with pytest.raises(WheelError) as caught:
        read("for-39==1.0\n", {"pyproject.toml": '[project]\nname = "x"\nrequires-python = ">=3.10,<3.13"\n'})
    assert "debian-13: pyproject.toml: requires-python is '>=3.10,<3.13'" in caught.value.message
    assert "`bake image` builds a wheel from its source" in caught.value.hint
    assert "write `python:" not in caught.value.hint


@pytest.mark.parametrize(
    ("requirements", "kind", "message"),
    [
        ("for-both==9\n", RequirementError, "requirements.txt:1: the package index has no release of for-both==9"),
        (
            "for-39==1.0\n",
            WheelError,
            "requirements.txt:1: for-39==1.0 has no wheel for Python 3.13 on debian-13; the same applies to debian-12",
        ),
    ],
)
def test_a_reason_that_all_releases_share_is_given_once(
    read: Read, requirements: str, kind: type[BakeError], message: str
) -> None:
    with pytest.raises(kind) as caught:
        read(requirements)
    assert caught.value.message == message


@pytest.mark.parametrize(
    ("files", "base"),
    [
        ({"pyproject.toml": '[project]\nname = "x"\nrequires-python = "<3.13"\n'}, "debian-12"),
        ({"setup.cfg": "[options]\npython_requires = >=3.11.2, <3.12\n"}, "debian-12"),
        ({"pyproject.toml": '[project]\nname = "x"\nrequires-python = ">=3.13.1"\n'}, "debian-13"),
        ({"pyproject.toml": '[project]\nname = "x"\nrequires-python = ">=3.8"\n'}, "debian-13"),
        ({"pyproject.toml": "[tool.black]\nline-length = 100\n"}, "debian-13"),
    ],
)
def test_requires_python_is_a_bound(read: Read, files: dict[str, str], base: str) -> None:
    chosen, notes = read("for-both==1.0\n", files)
    assert chosen == base
    if base == "debian-12":
        assert f"{next(iter(files))}: requires-python is '" in base_note(notes)


def test_a_bound_that_excludes_all_releases_is_refused(read: Read) -> None:
    with pytest.raises(RequirementError) as caught:
        read("for-both==1.0\n", {"pyproject.toml": '[project]\nname = "x"\nrequires-python = ">=3.14"\n'})
    assert "debian-13 has Python 3.13.5" in caught.value.message
    assert "debian-12 has Python 3.11.2" in caught.value.message
    assert 'Or write `python: "3.14"` there' in caught.value.hint


def test_the_python_that_the_app_requests_is_proposed_if_no_release_suits(read: Read) -> None:
    with pytest.raises(WheelError) as caught:
        read("for-39==1.0\n", {".python-version": "3.12.4\n"})
    assert caught.value.hint.endswith('.python-version requests 3.12.4: with `python: "3.12"` the release contains it.')
    with pytest.raises(WheelError) as caught:
        read("for-39==1.0\n", {".python-version": "3.9\n"})
    assert "python:" not in caught.value.hint


def test_a_bound_that_is_no_range_is_refused(read: Read) -> None:
    with pytest.raises(RequirementError, match=r"pyproject.toml: requires-python is '\^3.11', which is not a range"):
        read("for-both==1.0\n", {"pyproject.toml": '[project]\nname = "x"\nrequires-python = "^3.11"\n'})


@pytest.mark.parametrize(
    ("name", "text", "base", "version"),
    [
        ("runtime.txt", "python-3.11.x\n", "debian-12", "3.11.x"),
        ("runtime.txt", "python-3.10.2", "debian-12", "3.10.2"),
        (".python-version", "# what we run\n3.14\n", "debian-13", "3.14"),
        (".python-version", "3.12.4  # the image's\n", "debian-13", "3.12.4"),
        (".python-version", "cpython@3.9\n", "debian-12", "3.9"),
        (".python-versions", "3.11\n3.13\n", "debian-12", "3.11"),
        (".tool-versions", "nodejs 18.1\npython 3.11.4 3.13\n", "debian-12", "3.11.4"),
        ("mise.toml", "[tools]\nnode = '18'\npython = '3.11'\n", "debian-12", "3.11"),
        (".mise.toml", '[tools]\npython = ["3.11.4", "3.13"]\n', "debian-12", "3.11.4"),
        (".mise.toml", '[tools]\npython = {version = "3.11", virtualenv = ".venv"}\n', "debian-12", "3.11"),
        ("Pipfile", '[packages]\nx = "*"\n[requires]\npython_version = "3.10"\n', "debian-12", "3.10"),
    ],
)
def test_the_nearest_python_to_a_wish_is_chosen(read: Read, name: str, text: str, base: str, version: str) -> None:
    chosen, notes = read("for-both==1.0\n", {name: text})
    assert chosen == base and f"; {name} requests {version})" in base_note(notes)


@pytest.mark.parametrize("text", ["", "pypy3.10-7.3.15\n", "system\n", "python-2.7.18\n", "miniconda3-4.7.12\n", "\0"])
def test_a_wish_for_no_python_3_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "runtime.txt").write_text(text)
    assert debian_choice.requested_python(tmp_path) is None


def test_a_wish_yields_to_what_can_be_had(read: Read) -> None:
    base, notes = read("for-313==1.0\n", {"runtime.txt": "python-3.11.9\n"})
    assert base == "debian-13"
    assert base_note(notes) == "base: debian-13 (requirements.txt:1: for-313==1.0 has no wheel for Python 3.11)"


@pytest.mark.parametrize(
    ("requirements", "files", "base", "reason"),
    [
        # Python 3.11 is of 2022-10-24, Python 3.13 of 2024-10-07.
        ("of-2023==1.0\n", {}, "debian-12", "published on 2023-09-18, before Python 3.13"),
        ("of-2025==1.0\n", {}, "debian-13", "the newest"),
        ("of-2023==1.0\nof-2025==1.0\n", {}, "debian-13", "the newest"),
        # No Debian has a Python of that time. The oldest is the nearest.
        ("of-2019==1.0\n", {}, "debian-12", "published on 2019-09-18"),
        # Most requirements admit newer releases, so they are of no time.
        ("of-2023==1.0\nof-2025\nof-2019\n", {}, "debian-13", "the newest"),
        # What the index does not date, and what the project says itself.
        ("for-both==1.0\n", {}, "debian-13", "the newest"),
        ("of-2023==1.0\n", {".python-version": "3.13\n"}, "debian-13", ".python-version requests 3.13"),
        ("of-2023==1.0\nfor-313==1.0\n", {}, "debian-13", "for-313==1.0"),
    ],
)
def test_pins_that_are_older_than_a_python_want_an_older_one(
    read: Read, site: Site, requirements: str, files: dict[str, str], base: str, reason: str
) -> None:
    for year in ("2019", "2023", "2025"):
        publish(site, f"of-{year}", f"of_{year}-1.0-py3-none-any.whl", dates=[f"{year}-09-18"])
    found, notes = read(requirements, files)
    assert found == base and reason in base_note(notes)
    asked = len(site.asked)
    assert base_note(read(requirements, files)[1]) == base_note(notes)
    assert len(site.asked) == asked


def test_a_named_release_is_obeyed_without_a_note(read: Read) -> None:
    files = {"runtime.txt": "python-3.13\n", "pyproject.toml": '[project]\nname = "x"\nrequires-python = ">=3.13"\n'}
    base, notes = read("for-both==1.0\n", files, "base: debian-12\n")
    assert base == "debian-12" and not [note for note in notes if note.startswith("base: ")]


def test_the_refusal_of_a_named_release_names_the_one_that_would_do(read: Read) -> None:
    with pytest.raises(WheelError, match=r"for-311==1\.0 has no wheel for Python 3\.13 on debian-13") as caught:
        read("for-311==1.0\n", keys="base: debian-13\n")
    assert caught.value.hint.endswith("write `base: debian-12`.")
    with pytest.raises(WheelError) as caught:
        read("for-39==1.0\n", keys="base: debian-13\n")
    assert "debian-12" not in caught.value.hint


def test_an_app_whose_syntax_only_the_newest_python_has_gets_it(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    plainly = detect.complete

    def complete(folder: Path, recipe: Recipe, portable: PortableModules) -> detect.Detection:
        """Detect what is there as a host does that reads the app with the target's Python."""
        if recipe.target.python < (3, 13):
            raise AppSyntaxError("app.py:3: invalid syntax", "Correct the line.")
        return plainly(folder, recipe, portable)

    monkeypatch.setattr(detect, "complete", complete)
    base, notes = read("for-both==1.0\n", {"runtime.txt": "python-3.11\n"})
    assert base == "debian-13" and base_note(notes) == "base: debian-13 (app.py:3: invalid syntax)"
    with pytest.raises(AppSyntaxError):
        read("for-both==1.0\n", keys="base: debian-12\n")


def test_a_choice_is_not_made_again_while_its_locks_are_young(
    read: Read, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = read("for-311==1.0\n")
    asked = len(site.asked)
    monkeypatch.setattr(lock, "compile_argv", None)
    assert read("for-311==1.0\n")[0] == "debian-12"
    assert base_note(read("for-311==1.0\n")[1]) == base_note(first[1])
    assert len(site.asked) == asked


@pytest.mark.parametrize("how", ["refresh", "age"])
def test_a_refusal_that_was_kept_is_looked_up_again(read: Read, cache_folder: Path, how: str) -> None:
    assert read("for-311==1.0\n")[0] == "debian-12"
    (kept,) = (cache_folder / "locks").glob("*.refused")
    cache.keep(kept, "an older reason")
    assert "an older reason" in base_note(read("for-311==1.0\n")[1])
    if how == "age":
        os.utime(kept, (0, 0))
    base, notes = read("for-311==1.0\n", refresh=how == "refresh")
    assert base == "debian-12" and "an older reason" not in base_note(notes)


def test_a_kept_refusal_is_never_the_answer_itself(
    read: Read, site: Site, cache_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert read("for-311==1.0\n")[0] == "debian-12"
    (kept,) = (cache_folder / "locks").glob("*.refused")
    (lock12,) = (cache_folder / "locks").glob("*.txt")
    cache.keep(kept, "an older reason")
    lock12.unlink()
    # By now, the index has a wheel for the newest release alone.
    replace(site, "for-311", "for_311-1.0-cp313-cp313-manylinux_2_17_x86_64.whl", "for_311-1.0.tar.gz")
    monkeypatch.setenv("UV_CACHE_DIR", str(cache_folder / "uv"))
    base, notes = read("for-311==1.0\n")
    assert base == "debian-13" and "an older reason" not in base_note(notes)


def test_requirements_that_contradict_each_other_are_a_conflict(read: Read, site: Site) -> None:
    publish(site, "two", "two-1.0-py3-none-any.whl", "two-2.0-py3-none-any.whl")
    with pytest.raises(ConflictError) as caught:
        read("two<2\ntwo>=2\n")
    assert caught.value.message.count("two>=2 (requirements.txt:2)") == 1


def test_a_look_resolves_nothing_and_leaves_the_base_open(app: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(debian_choice, "resolve", None)
    (app / "app.py").write_text(APP)
    (app / "requirements.txt").write_text("flask\n")
    report = Reporter(Terminal(file=io.StringIO()))
    assert AppSource.read_unresolved(app, report).recipe.base is None
    assert AppSource.read_unresolved(app, report, "debian-12").recipe.base == "debian-12"


def test_a_push_reads_the_app_for_the_release_of_the_machine(app: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = Source.of(DEBIAN_12)
    monkeypatch.setattr(push, "facts", lambda ssh: push.Facts(source, "", "", frozenset()))

    def read(base: str) -> AppSource:
        assert base == "debian-12"
        raise WheelError("a==1.0 has no wheel for Python 3.11 on debian-12", "Allow another version.")

    machine = ssh.Login(urlsplit("ssh://debian@machine.example"), None)
    with pytest.raises(WheelError) as caught:
        push.push(machine, push.Source(app, read), Reporter(Terminal(file=io.StringIO())))
    assert caught.value.hint.startswith("Allow another version. machine.example runs debian-12 with Python 3.11")


def test_a_framework_that_the_requirements_lack_is_noted(read: Read, site: Site, app: Path) -> None:
    _, notes = read("for-both==1.0\n")
    assert "warning: app.py imports flask, which requirements.txt does not list" in notes
    (app / "requirements").mkdir()
    (app / "requirements/base.txt").write_text("for-both==1.0\nFlask>=3\n")
    (app / "requirements/dev.txt").write_text("flask-debug\n")
    _, notes = read("for-both==1.0\n")
    (note,) = (note for note in notes if "does not list" in note)
    assert note.endswith("does not list; to use the file that does, write  requirements: requirements/base.txt")
    publish(site, "flask", "flask-3.0-py3-none-any.whl")
    _, notes = read("for-both==1.0\nflask==3.0\n")
    assert not [note for note in notes if "does not list" in note]


@pytest.fixture
def sources(fake: Fake, tmp_path: Path, site: Site) -> Path:
    """An index with a pure and a compiled source, and builds that make a wheel of either; the folder of the fakes."""
    builder_fakes.publish_source(site, "pure")
    builder_fakes.publish_source(site, "code", wheels="code-1.0-cp39-cp39-win_amd64.whl")
    builder_fakes.wheel(tmp_path, "pure-1.0-py3-none-any.whl")
    for python in ("cp311", "cp313"):
        builder_fakes.wheel(tmp_path, f"code-1.0-{python}-{python}-linux_x86_64.whl")
    script = (
        "case $(ls $2/source) in pure*) tar --create ./pure-*.whl; exit;; esac\n"
        "case $1 in *$(cat old-root)*) python=cp311;; *) python=cp313;; esac\ntar --create ./code-*-$python-*.whl\n"
    )
    builder_fakes.install(fake, tmp_path, script)
    (tmp_path / "old-root").write_text(builder_root.key(DEBIAN_12, (), None))
    return tmp_path


def builds(folder: Path) -> list[str]:
    """The sources that were built."""
    return [line.split()[1] for line in builder_fakes.lines(folder, "builds")]


def test_what_has_no_wheel_is_built_on_the_newest_release(read: Read, sources: Path) -> None:
    base, notes = read("code==1.0\npure==1.0\n", builds=True)
    assert base == "debian-13" and base_note(notes) == "base: debian-13 (Python 3.13, the newest)"
    assert sorted(builds(sources)) == ["code-1.0.tar.gz", "pure-1.0.tar.gz"]
    built = [note for note in notes if note.startswith("built code-1.0-cp313-cp313-linux_x86_64.whl in ")]
    assert built
    # The lock and the wheels are kept.
    assert read("code==1.0\npure==1.0\n", builds=True)[0] == "debian-13"
    assert len(builds(sources)) == 2


def test_a_release_where_nothing_is_compiled_comes_first(read: Read, sources: Path) -> None:
    base, notes = read("for-311==1.0\npure==1.0\n", builds=True)
    assert base == "debian-12"
    assert base_note(notes) == "base: debian-12 (requirements.txt:1: for-311==1.0 has no wheel for Python 3.13)"
    assert builds(sources) == ["pure-1.0.tar.gz"]


def test_a_release_that_is_named_gets_what_it_lacks_built(read: Read, sources: Path) -> None:
    assert read("code==1.0\n", keys="base: debian-12\n", builds=True)[0] == "debian-12"
    assert builds(sources) == ["code-1.0.tar.gz"]


def test_a_source_that_cannot_be_built_anywhere_is_refused(read: Read, sources: Path) -> None:
    (sources / "build.sh").write_text("echo no compiler >&2; exit 1\n")
    with pytest.raises(BuildError) as caught:
        read("code==1.0\n", builds=True)
    assert caught.value.message == (
        "requirements.txt:1: code==1.0 has no wheel for Python 3.13 on debian-13, and its build from source failed; "
        "the same applies to debian-12"
    )
    assert caught.value.code == 23 and "no compiler" in caught.value.details


def test_nothing_is_built_for_a_hint(read: Read, sources: Path) -> None:
    (sources / "build.sh").write_text("echo no compiler >&2; exit 1\n")
    with pytest.raises(BuildError) as caught:
        read("code==1.0\n", keys="base: debian-12\n", builds=True)
    assert "On debian-13" not in caught.value.hint
    assert len(builder_fakes.lines(sources, "mmdebstrap.calls")) == 1


@pytest.mark.parametrize(
    ("keys", "may_build", "hint"), [("build: off\n", True, "build: off"), ("", False, "bake image")]
)
def test_nothing_is_built_where_the_recipe_or_the_command_forbids_it(
    read: Read, sources: Path, keys: str, may_build: bool, hint: str
) -> None:
    for requirement in ("code==1.0", "pure==1.0"):
        with pytest.raises(WheelError, match=f"requirements.txt:1: {requirement} has no wheel") as caught:
            read(f"{requirement}\n", keys=keys, builds=may_build)
        assert hint in caught.value.hint
    assert builds(sources) == []


def test_a_document_does_not_take_the_lock_of_an_image_with_wheels_that_bake_built(read: Read, sources: Path) -> None:
    assert read("code==1.0\n", builds=True)[0] == "debian-13"
    with pytest.raises(WheelError, match=r"code==1\.0 has no wheel"):
        read("code==1.0\n", builds=False)


@dataclass
class Count:
    """How often the requirements were read, and the operations that uv was started for."""

    readings: int = 0
    uv: list[str] = field(default_factory=list)


@pytest.fixture
def count(monkeypatch: pytest.MonkeyPatch) -> Count:
    counted = Count()
    text_of = project_metadata.text_of

    def count_reading(path: Path, location: str = "") -> str:
        counted.readings += 1
        return text_of(path, location)

    def count_run(argv: list[str], **options: Any) -> Result:
        counted.uv.append("list" if "--no-deps" in argv else "resolve")
        return run(argv, **options)

    monkeypatch.setattr(project_metadata, "text_of", count_reading)
    monkeypatch.setattr(uv_resolver, "run", count_run)
    return counted


@pytest.mark.parametrize(
    ("requirements", "keys", "readings", "uv"),
    [
        # The dates of the pins, and the lock.
        ("for-both==1.0\n", "", 1, ["list", "resolve"]),
        ("for-both==1.0\n", "base: debian-13\n", 1, ["resolve"]),
        # The first version lacks a wheel: which pins lack one as well, and whether they are pure Python.
        ("for-311==1.0\n", "", 2, ["list", "resolve", "list", "list", "resolve"]),
    ],
)
def test_requirements_are_read_once_for_each_debian_version(
    read: Read, count: Count, requirements: str, keys: str, readings: int, uv: list[str]
) -> None:
    read(requirements, keys=keys)
    assert (count.readings, count.uv) == (readings, uv)


def test_the_source_is_read_once_for_each_debian_version(
    read: Read, sources: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bases: list[object] = []
    plainly = detect.complete

    def complete(folder: Path, recipe: Recipe, portable: PortableModules) -> detect.Detection:
        bases.append(recipe.base)
        return plainly(folder, recipe, portable)

    monkeypatch.setattr(detect, "complete", complete)
    # Both are refused as long as only pure-Python sources are built. Then the first is tried again.
    assert read("code==1.0\n", builds=True)[0] == "debian-13"
    assert bases == ["debian-13", "debian-12"]


def test_a_file_is_parsed_once_for_all_debian_versions(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed_paths: list[str] = []
    plainly: Callable[..., ast.Module] = ast.parse

    def parse(source: bytes, filename: str = "", **options: Any) -> ast.Module:
        parsed_paths.append(filename)
        return plainly(source, filename, **options)

    with monkeypatch.context() as context:
        context.setattr(ast, "parse", parse)
        base = read("for-311==1.0\n", {"other.py": "", "faulty.py": "-\n"})[0]
    assert base == "debian-12"
    # The faulty file is parsed for each version, because the fault may be the syntax of a newer Python.
    assert (parsed_paths.count("other.py"), parsed_paths.count("faulty.py") > 1) == (1, True)


def test_a_debian_version_that_was_just_refused_is_not_tried_again(
    read: Read, site: Site, cache_folder: Path, count: Count, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert read("for-311==1.0\n")[0] == "debian-12"
    (lock12,) = (cache_folder / "locks").glob("*.txt")
    lock12.unlink()
    replace(site, "for-311", "for_311-1.0-cp39-cp39-manylinux_2_17_x86_64.whl", "for_311-1.0.tar.gz")
    monkeypatch.setenv("UV_CACHE_DIR", str(cache_folder / "uv"))
    count.readings, count.uv = 0, []
    with pytest.raises(WheelError):
        read("for-311==1.0\n")
    # Once for each: that of the newest version was in the cache.
    assert (count.readings, count.uv.count("resolve")) == (2, 2)


def test_a_bundle_has_the_lock_that_was_resolved_for_the_choice(
    read: Read, app: Path, count: Count, tmp_path: Path
) -> None:
    read("for-both==1.0\n", keys="base: debian-13\n")
    count.readings, count.uv = 0, []
    report, refresh = Reporter(Terminal(file=io.StringIO())), LockOptions(Age(refresh=True))
    source = AppSource.read(app, report, refresh)
    bundle = release_archive.collect(source, tmp_path / "bundle.tar", report, refresh)
    assert (count.readings, count.uv) == (1, ["resolve"])
    with bundle.release.members[0].open() as lock_file:
        assert b"for-both==1.0" in lock_file.read()


def test_the_server_of_a_detected_asgi_app_is_in_the_lock(read: Read, app: Path, site: Site) -> None:
    publish(site, "uvicorn", "uvicorn-0.30.0-py3-none-any.whl")
    publish(site, "websockets", "websockets-1.0-py3-none-any.whl")
    read("for-both==1.0\n", {"app.py": "from fastapi import FastAPI\napp = FastAPI()\n"})
    locked = AppSource.read(app, Reporter(Terminal(file=io.StringIO()))).lock
    assert locked and lock.package_names(locked) == {"for-both", "uvicorn", "websockets"}
