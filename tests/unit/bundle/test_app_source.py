"""The source of an app's files: real repositories and archives, on an https server of the test's."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Clone, Site

from bake.bundle import app_source, release
from bake.bundle.lock import Lock
from bake.config.recipe import Recipe
from bake.document import release_source
from bake.errors import AppFolderError, NetworkError, SourceError

pytestmark = pytest.mark.usefixtures("cache_folder")


def recipe_of(**app: str) -> Recipe:
    return Recipe.model_validate({"app": app})


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_an_app_is_its_folder_or_a_package(app: Path) -> None:
    assert app_source.folder_of(app, Recipe()) == app_source.folder_of(app, recipe_of(package="x==1")) == app


@pytest.mark.parametrize("protocol", ["2", "0", ""])
def test_a_commit_s_files(site: Site, clone: Clone, app: Path, protocol: str) -> None:
    # Not one that a branch ends in: some servers refuse to give such a one out by itself.
    commit = clone.commit({"app.py": "app = 2\n", "pkg/x.py": ""})
    clone.commit({"app.py": "app = 3\n"})
    clone.push()
    clone.git("--git-dir", str(clone.bare), "update-server-info")
    site.git = protocol
    found = app_source.folder_of(app, recipe_of(git=clone.url, commit=commit))
    assert names(found) == {"app.py", "pkg/x.py", "requirements.txt"}
    assert (found / "app.py").read_text() == "app = 2\n"
    # An app that has no name is called as its folder is.
    assert found.name == "shop"
    asked = len(site.asked)
    assert app_source.folder_of(app, recipe_of(git=clone.url, commit=commit)) == found
    assert len(site.asked) == asked, "it is in the cache"


def test_a_commit_that_is_not_there(clone: Clone, app: Path, cache_folder: Path) -> None:
    unpushed = clone.commit({"app.py": "app = 2\n"})
    with pytest.raises(SourceError, match=f"has no commit {unpushed}"):
        app_source.folder_of(app, recipe_of(git=clone.url, commit=unpushed))
    clone.push()
    assert app_source.folder_of(app, recipe_of(git=clone.url, commit=unpushed)).is_dir()


def test_a_repository_that_nobody_may_read(site: Site, clone: Clone, app: Path) -> None:
    commit = clone.git("rev-parse", "HEAD")
    site.statuses = [401] * 20
    with pytest.raises(NetworkError, match=r"shop\.git cannot be fetched") as caught:
        app_source.folder_of(app, recipe_of(git=clone.url, commit=commit))
    assert caught.value.details


FILES = {"app.py": "app = 1\n", "pkg/x.py": "x = 1\n"}


def tar_of(path: Path, inside: str) -> None:
    with tarfile.open(path, "w:gz" if path.suffix in (".gz", ".tgz") else "w") as tar:
        for name, text in FILES.items():
            member = path.with_name("member")
            member.write_text(text)
            member.chmod(0o755 if name == "app.py" else 0o644)
            tar.add(member, f"{inside}{name}")
            member.unlink()


def zip_of(path: Path, inside: str) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in FILES.items():
            archive.writestr(f"{inside}{name}", text)


MAKERS: dict[str, Callable[[Path, str], None]] = {
    "shop.tar": tar_of, "shop.tar.gz": tar_of, "shop.tgz": tar_of, "shop.zip": zip_of,
}  # fmt: skip


def archived(site: Site, name: str, inside: str = "", make: Callable[[Path, str], object] | None = None) -> Recipe:
    (make or MAKERS[name])(site.folder / name, inside)
    digest = hashlib.sha256((site.folder / name).read_bytes()).hexdigest()
    return recipe_of(archive=f"{site.address}/{name}", sha256=digest)


@pytest.mark.parametrize("inside", ["", "./", "shop-1a2b/", "a folder/"])
@pytest.mark.parametrize("name", list(MAKERS))
def test_an_archive_s_files_are_those_of_its_one_folder(site: Site, app: Path, name: str, inside: str) -> None:
    found = app_source.folder_of(app, archived(site, name, inside))
    assert {name: (found / name).read_text() for name in names(found)} == FILES
    assert found.name == "shop"


@pytest.mark.parametrize(
    "name",
    ["files.tar", "fetch.zip", "archive.tgz", "source.tar"],
)
def test_an_archive_may_have_any_name(site: Site, app: Path, name: str) -> None:
    found = app_source.folder_of(app, archived(site, name, make=zip_of if name.endswith("zip") else tar_of))
    assert names(found) == set(FILES)


def test_another_archive_than_was_asked_for_is_not_unpacked(site: Site, app: Path, cache_folder: Path) -> None:
    wanted = archived(site, "shop.zip")
    zip_of(site.folder / "shop.zip", "evil/")
    with pytest.raises(SourceError, match="differs from the archive that") as caught:
        app_source.folder_of(app, wanted)
    assert hashlib.sha256((site.folder / "shop.zip").read_bytes()).hexdigest() in caught.value.message
    assert "sha256" in caught.value.hint
    assert not list(cache_folder.glob("fetched/*"))


@pytest.mark.parametrize("text", ["<html>\n", "", "PK\x03\x04 broken"])
def test_what_is_no_archive_is_said_so(site: Site, app: Path, cache_folder: Path, text: str) -> None:
    wanted = archived(site, "shop.zip", make=lambda path, inside: path.write_text(text))
    with pytest.raises(SourceError, match=r"shop\.zip is neither a tar nor a zip archive") as caught:
        app_source.folder_of(app, wanted)
    assert caught.value.hint
    assert not [path for path in cache_folder.glob("fetched/*") if path.exists()]


@pytest.mark.parametrize("inside", ["", "shop-1a2b/"])
def test_a_script_names_the_address_that_is_asked_for(site: Site, app: Path, inside: str) -> None:
    one = archived(site, "shop.zip", inside)
    assert one.app is not None and one.app.sha256 is not None
    found = app_source.folder_of(app, one)
    asked = len(site.asked)
    # The same bytes from elsewhere: they are here already.
    other = recipe_of(archive="https://other.example/mirror.zip", sha256=one.app.sha256)
    assert other.app is not None
    assert app_source.folder_of(app, other) == found and len(site.asked) == asked
    first, second = release_source.script_of(one.app).text, release_source.script_of(other.app).text
    assert second == first.replace(f"{site.address}/shop.zip", "https://other.example/mirror.zip") != first
    assert inside.rstrip("/") in second


def tar_with(*members: tuple[str, bytes, str | int]) -> Callable[[Path, str], None]:
    """Write a tar of members: a name, a type, and where a link leads to or a file's mode."""

    def make(path: Path, inside: str) -> None:
        with tarfile.open(path, "w") as tar:
            for name, kind, more in members:
                member = tarfile.TarInfo(name)
                member.type, member.uid, member.gid, member.uname = kind, 12345, 12345, "daemon"
                member.mode = more if isinstance(more, int) else 0o777
                if isinstance(more, str):
                    member.linkname = more
                member.size = len(b"app = 1\n") if kind == tarfile.REGTYPE else 0
                tar.addfile(member, io.BytesIO(b"app = 1\n"))

    return make


def test_an_archive_that_is_only_a_link_is_refused(site: Site, app: Path, cache_folder: Path) -> None:
    secret = app.parent / "secret"
    secret.mkdir()
    (secret / "app.py").touch()
    recipe = archived(site, "shop.tar", make=tar_with(("shop", tarfile.SYMTYPE, str(secret))))
    with pytest.raises(SourceError, match=r"shop\.tar contains only the link shop"):
        app_source.folder_of(app, recipe)
    assert not list(cache_folder.glob("fetched/*"))


@pytest.mark.parametrize(
    "kind", [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE], ids=["character", "block", "pipe"]
)
def test_an_archive_with_a_device_is_refused_before_it_is_unpacked(
    site: Site, app: Path, cache_folder: Path, kind: bytes
) -> None:
    members = (("shop/app.py", tarfile.REGTYPE, 0o644), ("shop/odd\nname", kind, 0o666))
    with pytest.raises(SourceError, match=r"shop\.tar contains a device or a pipe"):
        app_source.folder_of(app, archived(site, "shop.tar", make=tar_with(*members)))
    assert not list(cache_folder.glob("fetched/*"))


def test_an_archive_s_owners_and_privileges_are_not_kept(site: Site, app: Path) -> None:
    members = (("shop/app.py", tarfile.REGTYPE, 0o6777), ("shop/pkg", tarfile.DIRTYPE, 0o7777))
    found = app_source.folder_of(app, archived(site, "shop.tar", make=tar_with(*members)))
    for path in (found / "app.py", found / "pkg"):
        assert (path.stat().st_uid, path.stat().st_gid) == (os.geteuid(), os.getegid())
        assert path.stat().st_mode & 0o7022 == 0


def by_its_name(outside: Path) -> tuple[tuple[str, bytes, str | int], ...]:
    return (("shop/app.py", tarfile.REGTYPE, 0o644), ("../../../outside/written", tarfile.REGTYPE, 0o644))


def by_an_absolute_name(outside: Path) -> tuple[tuple[str, bytes, str | int], ...]:
    return (("shop/app.py", tarfile.REGTYPE, 0o644), (f"{outside}/written", tarfile.REGTYPE, 0o644))


def through_a_link(outside: Path) -> tuple[tuple[str, bytes, str | int], ...]:
    return (("shop/out", tarfile.SYMTYPE, str(outside)), ("shop/out/written", tarfile.REGTYPE, 0o644))


def through_a_chain_of_links(outside: Path) -> tuple[tuple[str, bytes, str | int], ...]:
    return (
        ("shop/a", tarfile.DIRTYPE, 0o755), ("shop/b", tarfile.SYMTYPE, "a/up"), ("shop/a/up", tarfile.SYMTYPE, ".."),
        ("shop/c", tarfile.SYMTYPE, "b/../../../../../outside"), ("shop/c/written", tarfile.REGTYPE, 0o644),
    )  # fmt: skip


def over_a_link(outside: Path) -> tuple[tuple[str, bytes, str | int], ...]:
    return (("shop/out", tarfile.SYMTYPE, f"{outside}/kept"), ("shop/out", tarfile.REGTYPE, 0o644))


def over_a_hard_link(outside: Path) -> tuple[tuple[str, bytes, str | int], ...]:
    return (("shop/out", tarfile.LNKTYPE, f"{outside}/kept"), ("shop/out", tarfile.REGTYPE, 0o644))


def by_a_hard_link_through_a_link(outside: Path) -> tuple[tuple[str, bytes, str | int], ...]:
    return (("shop/out", tarfile.SYMTYPE, str(outside)), ("shop/got", tarfile.LNKTYPE, "shop/out/kept"))


@pytest.mark.parametrize(
    "escape",
    [
        by_its_name, by_an_absolute_name, through_a_link, through_a_chain_of_links, over_a_link, over_a_hard_link,
        by_a_hard_link_through_a_link,
    ],
)  # fmt: skip
def test_nothing_outside_an_archive_s_folder_is_written_or_taken(
    site: Site, app: Path, escape: Callable[[Path], tuple[tuple[str, bytes, str | int], ...]]
) -> None:
    outside = app.parent / "outside"
    outside.mkdir()
    (outside / "kept").write_text("a secret\n")
    (outside / "kept").chmod(0o644)
    with contextlib.suppress(SourceError):
        found = app_source.folder_of(app, archived(site, "shop.tar", make=tar_with(*escape(outside))))
        with contextlib.suppress(AppFolderError):
            for member in release.gather(found, Recipe(), Lock("", "key"), []).members:
                with member.open() as stream:
                    assert b"a planted secret" not in stream.read()
                assert outside.name not in member.target
    assert {path.name: path.read_text() for path in outside.iterdir()} == {"kept": "a secret\n"}


@pytest.mark.parametrize("name", ["../../../outside/written", "/{outside}/written", "shop/../../../../outside/written"])
def test_a_zip_s_names_lead_nowhere_else(site: Site, app: Path, name: str) -> None:
    outside = app.parent / "outside"
    outside.mkdir()

    def make(path: Path, inside: str) -> None:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("shop/app.py", "app = 1\n")
            archive.writestr(name.format(outside=outside), "written\n")

    found = app_source.folder_of(app, archived(site, "shop.zip", make=make))
    assert not list(outside.iterdir())
    assert [path.read_text() for path in found.rglob("written")] == ["written\n"]


def test_unpacking_starts_nothing_of_the_current_folder(site: Site, app: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mark = app.parent / "mark"
    for module in ("zipfile", "struct", "threading", "shutil"):
        (app / f"{module}.py").write_text(f"open({str(mark)!r}, 'w')\n")
    monkeypatch.chdir(app)
    recipe = archived(site, "shop.zip")
    assert names(app_source.folder_of(app, recipe)) == set(FILES)
    assert not mark.exists()


@pytest.mark.parametrize("address", ["/x/..", "/..", "/x/.files.zip", "/x/.archive", "/.unpack.tgz"])
def test_an_address_cannot_name_a_place_beside_its_own(site: Site, app: Path, cache_folder: Path, address: str) -> None:
    wanted = archived(site, "shop.zip")
    assert wanted.app is not None
    (site.folder / "x").mkdir()
    site.aliases[address] = "/shop.zip"
    recipe = recipe_of(archive=f"{site.address}{address}", sha256=str(wanted.app.sha256))
    found = app_source.folder_of(app, recipe)
    assert names(found) == set(FILES)
    assert [path.name for path in (cache_folder / "fetched").iterdir()] == [wanted.app.sha256]


def test_a_repository_s_address_cannot_name_a_place_beside_its_own(
    clone: Clone, site: Site, app: Path, cache_folder: Path
) -> None:
    commit = clone.commit({f"{'ab' * 32}/x/app.py": "app = 'of another archive'\n"})
    clone.push()
    address = clone.url.removesuffix("/shop.git")
    clone.bare.rename(site.folder / "...git")
    found = app_source.folder_of(app, recipe_of(git=f"{address}/...git", commit=commit))
    assert found.parent.name == commit
    assert [path.name for path in (cache_folder / "fetched").iterdir()] == [commit]


def test_an_archive_that_cannot_be_fetched(site: Site, app: Path) -> None:
    with pytest.raises(NetworkError, match="404"):
        app_source.folder_of(app, recipe_of(archive=f"{site.address}/none.zip", sha256="0" * 64))


# What a folder is a checkout of.
