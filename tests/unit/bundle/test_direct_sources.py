"""Requirements from repositories, URLs and folders: fetched, built, and recorded in the lock. The builds are fake."""

from __future__ import annotations

import io
import re
import tarfile
import zipfile
from pathlib import Path

import builder_fakes
import pytest
from app_locks import fails
from conftest import Clone, Fake, Site, publish

from bake.app.requirement_line import parse
from bake.bundle import direct_sources, lock, wheel_cache
from bake.bundle.lock import Lock, Requirements, lock_entries, with_hashes
from bake.bundle.source import Source
from bake.bundle.wheel_builder import WheelBuilder
from bake.config.debian import DEBIAN_13
from bake.config.recipe import Recipe
from bake.errors import NetworkError, RequirementError, SourceError, WheelError
from bake.host.cache import Age
from bake.host.progress import Reporter
from bake.host.terminal import Terminal

pytestmark = pytest.mark.usefixtures("cache_folder")

#: A build that succeeds, and lists its source.
WORKS = "tar --list --file $2/source/* > {folder}/packed; tar --create ./a-1.5-py3-none-any.whl"


@pytest.fixture
def recipe(site: Site, fake: Fake, tmp_path: Path) -> Recipe:
    """A recipe with an index that has build requirements and a package b; each build makes a wheel of a 1.5."""
    builder_fakes.install(fake, tmp_path, WORKS.format(folder=tmp_path))
    builder_fakes.wheel(tmp_path, "a-1.5-py3-none-any.whl")
    for name in ("setuptools-75.0-py3-none-any.whl", "wheel-1.0-py3-none-any.whl", "b-1.0-py3-none-any.whl"):
        publish(site, name.partition("-")[0], name)
    return Recipe(index=f"{site.address}/simple/")


def resolve(folder: Path, recipe: Recipe, text: str) -> Lock:
    (folder / "requirements.txt").write_text(text)
    builder = WheelBuilder(recipe, DEBIAN_13, Age(), Reporter(Terminal(file=io.StringIO())))
    return lock.resolve(Requirements.read(folder, recipe, DEBIAN_13), Age(), builder)


def fetch(text: str, folder: Path, work: Path) -> Source:
    return direct_sources.fetch(parse(text, "requirements.txt:1", DEBIAN_13), folder, work)


def test_a_repository_is_built_at_a_commit_that_the_lock_records(
    app: Path, recipe: Recipe, clone: Clone, tmp_path: Path
) -> None:
    commit = clone.commit({"setup.py": "", "a/x.py": ""})
    clone.push()
    result = resolve(app, recipe, f"b\nA[x] @ git+{clone.url}@main ; os_name == 'posix'\n")
    a, b = lock_entries(result.text)
    assert re.fullmatch(rf"a==1\.5 \\\n    --hash=sha256:\w+\n    # git\+{re.escape(clone.url)}@{commit}\n", a)
    assert b.startswith("b==1.0 ")
    assert {"source/setup.py", "source/a/x.py"} <= set(builder_fakes.lines(tmp_path, "packed"))
    # The release's own lock keeps the record, and pip fetches what it names.
    assert with_hashes(a, result.hashes) == a
    assert [wheel.name for wheel in wheel_cache.wheels(result, DEBIAN_13, recipe.index)] == [
        "a-1.5-py3-none-any.whl", "b-1.0-py3-none-any.whl",
    ]  # fmt: skip


def test_the_commit_of_a_lock_file_comes_before_a_branch(app: Path, recipe: Recipe, clone: Clone) -> None:
    commit = clone.git("rev-parse", "HEAD")
    clone.commit({"setup.py": ""})
    clone.push()
    (app / "limits.txt").write_text(f"a @ git+{clone.url}@{commit}\n")
    assert f"@{commit}\n" in resolve(app, recipe, f"a @ git+{clone.url}@main\n-c limits.txt\n").text


def test_a_marker_that_excludes_the_machine_excludes_the_requirement(app: Path, recipe: Recipe) -> None:
    assert resolve(app, recipe, "b\na @ git+https://code.example/a.git ; os_name == 'nt'\n").text.startswith("b==1.0 ")


def test_a_folder_of_the_app_is_built_again_when_it_changes(app: Path, recipe: Recipe, tmp_path: Path) -> None:
    (app / "libs/a").mkdir(parents=True)
    (app / "libs/a/setup.py").touch()
    assert resolve(app, recipe, "-e ./libs/a\n").text.endswith("    # file:libs/a\n")
    resolve(app, recipe, "-e ./libs/a\n")
    assert len(builder_fakes.lines(tmp_path, "builds")) == 1
    (app / "libs/a/more.py").touch()
    resolve(app, recipe, "-e ./libs/a\n")
    assert len(builder_fakes.lines(tmp_path, "builds")) == 2


def test_a_wheel_of_the_app_is_used_without_a_build(app: Path, recipe: Recipe, tmp_path: Path) -> None:
    builder_fakes.wheel(app, "c-2.0-py3-none-any.whl")
    result = resolve(app, recipe, "./c-2.0-py3-none-any.whl\n")
    assert result.text.startswith("c==2.0 ") and not builder_fakes.lines(tmp_path, "builds")
    assert [wheel.name for wheel in wheel_cache.wheels(result, DEBIAN_13, recipe.index)] == ["c-2.0-py3-none-any.whl"]


def test_an_archive_has_its_sha256_in_the_lock(app: Path, recipe: Recipe, site: Site) -> None:
    source = builder_fakes.publish_source(site, "a")
    assert resolve(app, recipe, f"a @ {source.url}\n").text.endswith(f"    # {source.url}#sha256={source.sha256}\n")
    with pytest.raises(SourceError, match=f"requirements.txt:1: The SHA-256 of .* is {source.sha256}"):
        resolve(app, recipe, f"a @ {source.url}#sha256={'0' * 64}\n")


def test_a_file_without_one_of_its_hashes_is_refused(app: Path, recipe: Recipe, site: Site) -> None:
    source = builder_fakes.publish_source(site, "a")
    hashes = f"--hash=sha256:{'0' * 64}"
    with pytest.raises(SourceError, match=f"requirements.txt:1: The SHA-256 of .* is {source.sha256}"):
        resolve(app, recipe, f"a @ {source.url} {hashes}\n")
    assert resolve(app, recipe, f"a @ {source.url} {hashes} --hash=sha256:{source.sha256}\n").text
    builder_fakes.wheel(app, "c-2.0-py3-none-any.whl")
    with pytest.raises(SourceError, match=r"requirements.txt:2: The SHA-256 of c-2.0-py3-none-any.whl is"):
        resolve(app, recipe, f"b\n./c-2.0-py3-none-any.whl {hashes}\n")


def test_sources_with_the_same_last_part_are_all_built(app: Path, recipe: Recipe, clone: Clone, tmp_path: Path) -> None:
    clone.commit({"one/setup.py": "", "two/two.py": ""})
    clone.push()
    builder_fakes.wheel(tmp_path, "d-1.0-py3-none-any.whl")
    script = "tar --list --file $2/source/* | grep -q two.py && set d-1.0 || set a-1.5; tar -c ./$1-py3-none-any.whl"
    (tmp_path / "build.sh").write_text(script)
    address = f"git+{clone.url}#subdirectory="
    a, d = lock_entries(resolve(app, recipe, f"{address}one\n{address}two\n").text)
    assert a.startswith("a==1.5 ") and a.endswith("=one\n") and d.startswith("d==1.0 ") and d.endswith("=two\n")


def test_the_query_of_an_address_is_neither_in_the_lock_nor_in_errors(
    app: Path, recipe: Recipe, site: Site, clone: Clone
) -> None:
    source = builder_fakes.publish_source(site, "a")
    text = resolve(app, recipe, f"a @ {source.url}?token=s3cret\n").text
    assert text.endswith(f"    # {source.url}#sha256={source.sha256}\n")
    for address in (
        f"{source.url}?token=s3cret#sha256={'0' * 64}",
        f"{source.url}no?token=s3cret",
        f"git+{clone.url}no?token=s3cret",
    ):
        with pytest.raises((SourceError, NetworkError), match=r"requirements.txt:1: .*https://") as caught:
            resolve(app, recipe, f"a @ {address}\n")
        assert "s3cret" not in caught.value.message + caught.value.hint + caught.value.details
    assert "s3cret" not in fails(WheelError, app, f"a @ {source.url}?token=s3cret\n").message


def test_hard_links_are_packed_as_files(app: Path, tmp_path: Path) -> None:
    (app / "lib").mkdir()
    (app / "lib/a.py").write_text("a = 1\n")
    (app / "lib/b.py").hardlink_to(app / "lib/a.py")
    archive = fetch("./lib", app, tmp_path).archive
    assert archive
    with tarfile.open(archive) as tar:
        assert {member.name: member.size for member in tar if member.isfile()} == {"source/a.py": 6, "source/b.py": 6}


def test_a_wheel_that_is_no_zip_is_refused_with_its_line(app: Path, recipe: Recipe) -> None:
    (app / "c-2.0-py3-none-any.whl").write_text("<html>")
    with pytest.raises(WheelError, match=r"requirements.txt:2: .*c-2.0-py3-none-any.whl.* cannot be read") as caught:
        resolve(app, recipe, "b\n./c-2.0-py3-none-any.whl\n")
    assert "trust" not in caught.value.hint


def test_a_package_that_requires_another_source_is_refused(app: Path, recipe: Recipe) -> None:
    wheel = builder_fakes.wheel(app, "c-2.0-py3-none-any.whl")
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("c-2.0.dist-info/METADATA", "Requires-Dist: b\nRequires-Dist: d @ git+https://a.example/d\n")
    with pytest.raises(WheelError, match=r"requirements.txt:1: c requires d @ git\+https://a.example/d, which is not"):
        resolve(app, recipe, "./c-2.0-py3-none-any.whl\n")


def test_a_machine_that_builds_nothing_refuses_it_with_the_command_that_builds(app: Path) -> None:
    (app / "lib").mkdir()
    error = fails(WheelError, app, "a @ git+https://code.example/a.git\n./lib\n")
    assert "git+https://code.example/a.git (requirements.txt:1), lib (requirements.txt:2)" in error.message
    assert "index" not in error.message and error.hint.startswith("`bake image` builds")
    assert fails(WheelError, app, "./lib\n", build=False).hint.startswith("Without `build: off` in bake.yaml, `bake")


@pytest.mark.parametrize(
    ("tag", "version"), [("v1.2", "1.2"), ("release-1.2", "1.2"), ("1.2", "1.2"), ("main", ""), ("", "")]
)
def test_a_version_is_assumed_from_the_tag(clone: Clone, tmp_path: Path, tag: str, version: str) -> None:
    commit = clone.git("rev-parse", "HEAD")
    if version:
        clone.git("push", "-q", str(clone.bare), f"main:refs/tags/{tag}")
    source = fetch(f"git+{clone.url}{tag and '@'}{tag}", tmp_path, tmp_path)
    assert source.assumed_version == (version or f"0+git.{commit[:12]}")
    assert source.published and source.archive


def test_a_commit_may_have_its_first_digits_only(clone: Clone, tmp_path: Path) -> None:
    commit = clone.git("rev-parse", "HEAD")
    assert fetch(f"git+{clone.url}@{commit[:8]}", tmp_path, tmp_path).url == f"git+{clone.url}@{commit}"


def test_only_the_named_folder_of_a_repository_is_packed(clone: Clone, tmp_path: Path) -> None:
    clone.commit({"py/setup.py": "", "py/a.py": ""})
    (clone.folder / "py/link").symlink_to("/etc/passwd")
    (clone.folder / "away").symlink_to("/etc")
    clone.commit({})
    clone.push()
    archive = fetch(f"git+{clone.url}#subdirectory=py", tmp_path, tmp_path).archive
    assert archive
    with tarfile.open(archive) as tar:
        assert sorted(tar.getnames()) == ["source/a.py", "source/link", "source/setup.py"]
        assert tar.getmember("source/link").issym()
    for folder in ("no", "away"):
        with pytest.raises(SourceError, match=f"requirements.txt:1: .* has no folder {folder}"):
            fetch(f"a{folder} @ git+{clone.url}#subdirectory={folder}", tmp_path, tmp_path)


def test_what_cannot_be_fetched_names_its_line(clone: Clone, app: Path, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"requirements.txt:1: .* has no commit nobranch"):
        fetch(f"git+{clone.url}@nobranch", app, tmp_path)
    with pytest.raises(NetworkError, match=r"requirements.txt:1: .*/none.git cannot be fetched"):
        fetch(f"git+{clone.url.replace('shop', 'none')}", app, tmp_path)
    (app / "out").symlink_to(tmp_path)
    with pytest.raises(RequirementError, match=r"requirements.txt:1: out leads out of the app's folder"):
        fetch("./out", app, tmp_path)
