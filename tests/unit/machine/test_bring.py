"""From what a document says of an app to its release on the machine: the host's words, and what setup makes of them."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from conftest import Clone, Fake, Site

from bake.bundle import app_source, release
from bake.bundle.lock import Lock
from bake.config import contract
from bake.config.recipe import Recipe
from bake.document import release_source
from bake.document.machine_files import File
from bake.host.programs import run

pytestmark = pytest.mark.usefixtures("cache_folder", "own_home")

RECIPE = Recipe(name="shop", wsgi="app:app", setup=("true",))
Bring = Callable[[list[File]], Path]


@pytest.fixture
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a machine does not know: settings of whoever runs the tests."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in [name for name in os.environ if name.startswith("PIP_") and name != "PIP_CERT"]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_DISABLE_PIP_VERSION_CHECK", "1")


@pytest.fixture
def waits(setup: ModuleType, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The machine has patience, and its seconds pass at once; how long each pause was."""
    pauses: list[float] = []
    # `time` itself is everybody's.
    clock = SimpleNamespace(monotonic=lambda: sum(pauses), sleep=pauses.append)
    monkeypatch.setattr(sys.modules["step"], "PATIENCE", 100)
    monkeypatch.setattr(sys.modules["step"], "time", clock)
    return pauses


@pytest.fixture
def bring(setup: ModuleType, fake: Fake, monkeypatch: pytest.MonkeyPatch) -> Bring:
    """Put a document's files where cloud-init would, and bring the release; its virtualenv is another's test."""
    monkeypatch.setattr(setup, "build", lambda *folders: None)
    # However git came here, nothing is to be installed.
    fake("dpkg-query", "echo =installed git")

    def deliver(files: list[File]) -> Path:
        return Path(setup.bring(put(setup, files)))

    return deliver


def put(setup: ModuleType, files: list[File]) -> dict[str, str]:
    """Write a document's files; its stanza."""
    for file in files:
        inside = file.path.removeprefix(f"{contract.INCOMING}/")
        place = setup.SOURCE if inside == file.path else setup.INCOMING / inside
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(file.content)
        place.chmod(file.mode)
    stanza: dict[str, str] = json.loads(setup.SOURCE.read_text())
    return stanza


def gather(folder: Path, locked: Lock | None = None, wheels: tuple[Path, ...] = ()) -> release.Release:
    return release.gather(folder, RECIPE, locked or Lock("", "none"), list(wheels))


def from_git(folder: Path) -> list[File]:
    """A document's files for a folder that is a clone."""
    found = release_source.remote(folder)
    assert isinstance(found, release_source.Git), found
    script = release_source.git_script(found.url, found.commit, found.path)
    return release_source.fetched(gather(folder), RECIPE, found.files, script)


def from_app(folder: Path, **app: str) -> list[File]:
    """A document's files for what a recipe names."""
    recipe = Recipe.model_validate({"app": app, "wsgi": "app:app"})
    code = app_source.folder_of(folder, recipe)
    there = frozenset(str(path.relative_to(code)) for path in code.rglob("*"))
    assert recipe.app is not None
    return release_source.fetched(gather(code), recipe, there, release_source.script_of(recipe.app))


def tree(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Path to mode and content."""
    found = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): (path.stat().st_mode & 0o777, path.read_bytes()) for path in found}


def test_an_app_in_the_document_comes_out_as_it_went_in(app: Path, bring: Bring) -> None:
    for name, content in {
        "app.py": b"app = 1\n",
        "a/b/x.bin": bytes(range(256)),
        "a-b.txt": b"",
        "é ü.txt": b"u",
    }.items():
        (app / name).parent.mkdir(parents=True, exist_ok=True)
        (app / name).write_bytes(content)
    (app / "run.sh").touch(mode=0o755)
    release = bring(release_source.inline(gather(app), RECIPE))
    assert tree(release / "source") == tree(app)
    assert json.loads((release / "recipe.json").read_text())["setup"] == ["true"]
    assert (release / "settings/jobs/setup").is_file()
    assert release.stat().st_mode & 0o777 == 0o755
    # Nothing of the way here is left, and nothing is hidden.
    assert not list(release.glob(".*")) and not list(release.glob("fetch*"))
    assert [path.name for path in release.parent.iterdir()] == [release.name]


def test_a_commit_s_files_come_from_its_repository(clone: Clone, bring: Bring) -> None:
    clone.commit({"pkg/x.py": "x = 1\n"})
    (clone.folder / "run.sh").touch(mode=0o755)
    clone.commit({})
    clone.push()
    files = from_git(clone.folder)
    assert not any(file.path.endswith("app.py") for file in files)
    release = bring(files)
    assert set(tree(release / "source")) == {"app.py", "requirements.txt", "pkg/x.py", "run.sh"}
    assert (release / "source/run.sh").stat().st_mode & 0o100
    assert (release / "source/app.py").read_text() == "app = 1\n"
    # With its history would come what was taken out of it.
    assert not list(release.rglob(".git")) and not list(release.glob(".*"))


def test_a_folder_of_a_repository_comes_alone(clone: Clone, bring: Bring) -> None:
    clone.commit({"apps/my shop/app.py": "app = 2\n", "apps/my shop/pkg/x.py": "", "apps/beside.py": ""})
    clone.push()
    release = bring(from_git(clone.folder / "apps/my shop"))
    assert set(tree(release / "source")) == {"app.py", "pkg/x.py"}
    assert (release / "source/app.py").read_text() == "app = 2\n"


@pytest.mark.parametrize("protocol", ["2", "0", ""])
def test_a_commit_that_no_branch_ends_in_is_had_from_any_server(
    clone: Clone, site: Site, app: Path, bring: Bring, protocol: str
) -> None:
    commit = clone.commit({"app.py": "app = 2\n"})
    clone.commit({"app.py": "app = 3\n"})
    clone.push()
    clone.git("--git-dir", str(clone.bare), "update-server-info")
    files = from_app(app, git=clone.url, commit=commit)
    site.git = protocol
    assert (bring(files) / "source/app.py").read_text() == "app = 2\n"


def test_a_commit_that_is_gone_is_said_so_at_once(
    clone: Clone, setup: ModuleType, bring: Bring, waits: list[float]
) -> None:
    files = from_git(clone.folder)
    clone.git("commit", "-q", "--amend", "-m", "another")
    clone.push()
    clone.git("--git-dir", str(clone.bare), "-c", "gc.reflogExpire=now", "gc", "-q", "--prune=now")
    with pytest.raises(setup.StepError, match="no such commit"):
        bring(files)
    assert waits == []
    assert not [path for path in setup.RELEASES.iterdir() if not path.name.startswith(".")]


def archive(site: Site, name: str, inside: str) -> dict[str, str]:
    """An archive on the server, and the recipe's words for it."""
    texts = {"app.py": "app = 1\n", "pkg/x.py": "x = 1\n"}
    path = site.folder / name
    if name.endswith(".zip"):
        with zipfile.ZipFile(path, "w") as zipped:
            for member, text in texts.items():
                zipped.writestr(f"{inside}{member}", text)
    else:
        with tarfile.open(path, "w:gz" if name.endswith("gz") else "w") as tar:
            for member, text in texts.items():
                made = site.folder / "member"
                made.write_text(text)
                made.chmod(0o755 if member == "app.py" else 0o644)
                tar.add(made, f"{inside}{member}")
                made.unlink()
    return {"archive": f"{site.address}/{name}", "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


@pytest.mark.parametrize("inside", ["", "shop-1a2b/", "it's a folder/"])
@pytest.mark.parametrize("name", ["shop.tar", "shop.tar.gz", "shop.zip"])
def test_an_archive_s_files_are_those_that_the_host_saw(
    site: Site, app: Path, bring: Bring, name: str, inside: str
) -> None:
    words = archive(site, name, inside)
    release = bring(from_app(app, **words))
    found = tree(release / "source")
    assert {name: content for name, (_, content) in found.items()} == {"app.py": b"app = 1\n", "pkg/x.py": b"x = 1\n"}
    assert found == tree(app_source.folder_of(app, Recipe.model_validate({"app": words})))
    assert not list(release.glob(".*"))


def test_another_archive_is_refused_at_once_and_unread(
    site: Site, app: Path, setup: ModuleType, bring: Bring, waits: list[float]
) -> None:
    files = from_app(app, **archive(site, "shop.zip", ""))
    archive(site, "shop.zip", "evil/")
    with pytest.raises(setup.StepError, match="another archive"):
        bring(files)
    assert waits == []
    assert not list(setup.RELEASES.rglob("evil"))


def test_what_an_archive_says_of_modes_is_not_taken_as_it_is(site: Site, app: Path, bring: Bring) -> None:
    modes = {"app.py": 0o600, "tool": 0o4711, "open.txt": 0o666, "closed/x.txt": 0o400}
    with tarfile.open(site.folder / "shop.tar", "w") as tar:
        closed = tarfile.TarInfo("shop-1/closed")
        closed.type, closed.mode = tarfile.DIRTYPE, 0o700
        tar.addfile(closed)
        for name, mode in modes.items():
            member = tarfile.TarInfo(f"shop-1/{name}")
            member.mode = mode
            tar.addfile(member)
    digest = hashlib.sha256((site.folder / "shop.tar").read_bytes()).hexdigest()
    release = bring(from_app(app, archive=f"{site.address}/shop.tar", sha256=digest))
    found = {name: mode for name, (mode, _) in tree(release / "source").items()}
    # The app, which is somebody else, reads all of it, and nobody changes any.
    assert found == {"app.py": 0o644, "tool": 0o755, "open.txt": 0o644, "closed/x.txt": 0o444}
    assert (release / "source/closed").stat().st_mode & 0o777 == 0o755


def test_a_machine_gets_git_before_it_fetches_with_it(clone: Clone, setup: ModuleType, bring: Bring) -> None:
    done: list[str] = []
    install, fetch = setup.install_packages, setup.fetch

    def install_packages(names: list[str]) -> None:
        done.extend(names)
        install(names)

    def fetch_part(part: str, release: Path) -> None:
        done.append(part)
        fetch(part, release)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(setup, "install_packages", install_packages)
        patch.setattr(setup, "fetch", fetch_part)
        bring(from_git(clone.folder))
    assert done == ["git", "source", "wheels"]


def test_what_a_bundle_leaves_out_does_not_stay_on_the_machine(clone: Clone, bring: Bring) -> None:
    clone.commit({".env": "KEY=x\n", "dist/x.whl": "", "it's a key.pem": "", "pkg/y.py": ""})
    clone.push()
    release = bring(from_git(clone.folder))
    assert set(tree(release / "source")) == {"app.py", "requirements.txt", "pkg/y.py"}


@pytest.mark.parametrize("kind", ["git", "archive"])
def test_a_server_that_falters_is_asked_again(
    kind: str, clone: Clone, site: Site, app: Path, bring: Bring, waits: list[float]
) -> None:
    files = from_git(clone.folder) if kind == "git" else from_app(app, **archive(site, "shop.tar", ""))
    # More than any script tries by itself.
    site.statuses = [503] * 4
    assert (bring(files) / "source/app.py").read_text() == "app = 1\n"
    assert waits and waits == sorted(waits)


@pytest.mark.parametrize(
    ("kind", "status"),
    [("archive", 401), ("archive", 403), ("archive", 404), ("archive", 410), ("git", 403), ("git", 404), ("git", 410)],
)
def test_what_a_server_will_not_give_is_not_asked_for_again(
    kind: str, status: int, clone: Clone, site: Site, app: Path, setup: ModuleType, bring: Bring, waits: list[float]
) -> None:
    files = from_git(clone.folder) if kind == "git" else from_app(app, **archive(site, "shop.tar", ""))
    site.statuses = [status] * 100
    with pytest.raises(setup.StepError):
        bring(files)
    assert waits == []


def test_a_server_that_is_asked_too_much_is_asked_again(
    clone: Clone, site: Site, app: Path, bring: Bring, waits: list[float]
) -> None:
    files = from_app(app, **archive(site, "shop.tar", ""))
    site.statuses = [429, 408]
    assert (bring(files) / "source/app.py").is_file()
    assert waits


def test_patience_ends(clone: Clone, site: Site, setup: ModuleType, bring: Bring, waits: list[float]) -> None:
    files = from_git(clone.folder)
    site.statuses = [503] * 1000
    with pytest.raises(setup.StepError, match="503"):
        bring(files)
    assert 1 < len(waits) < 10


def test_a_program_that_is_not_there_is_no_reason_to_wait_for_it(setup: ModuleType, waits: list[float]) -> None:
    with pytest.raises(OSError, match="no-such-program"):
        setup.patiently("no-such-program")
    assert waits == []


def test_a_server_that_nobody_vouches_for_is_not_believed(
    site: Site, app: Path, setup: ModuleType, bring: Bring, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = from_app(app, **archive(site, "shop.tar", ""))
    monkeypatch.delenv("CURL_CA_BUNDLE")
    monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(setup.StepError, match="certificate"):
        bring(files)


def test_the_document_s_own_files_are_put_on_top(clone: Clone, bring: Bring) -> None:
    clone.commit({".gitignore": "made/\n", ".bakeignore": "!made/\n"})
    clone.push()
    (clone.folder / "made").mkdir()
    (clone.folder / "made/style.css").write_text("made here\n")
    assert tree(bring(from_git(clone.folder)) / "source")["made/style.css"] == (0o644, b"made here\n")


def test_of_a_file_that_both_have_the_document_s_counts(clone: Clone, bring: Bring) -> None:
    found = release_source.remote(clone.folder)
    assert isinstance(found, release_source.Git), found
    (clone.folder / "app.py").write_text("app = 'of the document'\n")
    script = release_source.git_script(found.url, found.commit)
    files = release_source.fetched(gather(clone.folder), RECIPE, frozenset({"requirements.txt"}), script)
    source_tree = tree(bring(files) / "source")
    assert source_tree["app.py"] == (0o644, b"app = 'of the document'\n")
    assert "requirements.txt" in source_tree


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize(
    "harm",
    [
        truncate,
        lambda path: path.unlink(),
        lambda path: path.chmod(0o755),
        lambda path: path.rename(path.with_name("other.py")),
        lambda path: path.with_name("more.py").touch(),
        lambda path: path.write_bytes(b""),
    ],
    ids=["truncated", "missing", "mode", "name", "one more", "empty"],
)
def test_parts_that_did_not_arrive_as_they_were_sent_are_refused(
    app: Path, setup: ModuleType, bring: Bring, harm: Callable[[Path], object]
) -> None:
    (app / "app.py").write_text("app = 1\n")
    files = release_source.inline(gather(app), RECIPE)
    stanza = put(setup, files)
    harm(setup.INCOMING / stanza["parts"] / "source/app.py")
    with pytest.raises(setup.StepError, match=stanza["parts"]):
        setup.bring(stanza)
    assert not (setup.RELEASES / stanza["parts"]).exists()
    # Delivered again, they are taken.
    (setup.INCOMING / stanza["parts"] / "source/other.py").unlink(missing_ok=True)
    (setup.INCOMING / stanza["parts"] / "source/more.py").unlink(missing_ok=True)
    assert bring(files).is_dir()


def test_parts_that_never_came_are_a_problem_in_one_line(app: Path, setup: ModuleType, bring: Bring) -> None:
    with pytest.raises(setup.StepError, match="has the digest"):
        setup.bring({"release": "debian-13", "machine": platform.machine(), "parts": "ab" * 32})


def wheel(folder: Path) -> Path:
    """A wheel of 300 KB, as an index has it."""
    path = folder / "thing-1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("thing.py", "x = 1\n")
        archive.writestr("thing.bin", os.urandom(300_000))
        archive.writestr("thing-1.dist-info/METADATA", "Metadata-Version: 2.1\nName: thing\nVersion: 1\n")
        archive.writestr("thing-1.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr("thing-1.dist-info/RECORD", "")
    return path


@pytest.fixture
def needing(site: Site, app: Path) -> list[File]:
    """A document for an app that needs a wheel of an index of its own."""
    (app / "app.py").touch()
    made = wheel(app.parent)
    place = site.folder / "simple/thing"
    place.mkdir(parents=True)
    (place / made.name).write_bytes(made.read_bytes())
    (place / "index.html").write_text(f'<a href="{made.name}">{made.name}</a>')
    digest = hashlib.sha256(made.read_bytes()).hexdigest()
    locked = Lock(f"thing==1 \\\n    --hash=sha256:{digest}\n", "none")
    recipe = RECIPE.model_copy(update={"index": f"{site.address}/simple"})
    return release_source.inline(gather(app, locked, (made,)), recipe)


@pytest.mark.skipif(not list(Path("/usr/share/python-wheels").glob("pip-*.whl")), reason="Debian's pip is not here")
def test_wheels_come_from_the_index_by_debian_s_own_pip(needing: list[File], bring: Bring, site: Site) -> None:
    release = bring(needing)
    assert [path.name for path in (release / "wheels").iterdir()] == ["thing-1-py3-none-any.whl"]
    assert not list(release.glob("fetch*"))
    assert any(path.startswith("/simple/thing") for path in site.asked)


@pytest.mark.skipif(not list(Path("/usr/share/python-wheels").glob("pip-*.whl")), reason="Debian's pip is not here")
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small file system")
def test_wheels_do_not_pass_through_tmp_which_is_in_memory(
    needing: list[File], bring: Bring, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Debian 13 keeps /tmp in half of the memory, and a wheel may be larger than that."""
    small = tmp_path / "small"
    small.mkdir()
    monkeypatch.setenv("TMPDIR", str(small))
    run(["mount", "-t", "tmpfs", "-o", "size=100K", "tmpfs", small])
    try:
        assert (bring(needing) / "wheels/thing-1-py3-none-any.whl").exists()
    finally:
        run(["umount", small])


@pytest.mark.skipif(not list(Path("/usr/share/python-wheels").glob("pip-*.whl")), reason="Debian's pip is not here")
def test_another_wheel_than_the_lock_names_is_refused_at_once(
    needing: list[File], setup: ModuleType, bring: Bring, site: Site, waits: list[float]
) -> None:
    with (site.folder / "simple/thing/thing-1-py3-none-any.whl").open("ab") as stream:
        stream.write(b"evil")
    with pytest.raises(setup.StepError, match="DO NOT MATCH"):
        bring(needing)
    assert waits == []


def test_an_app_without_libraries_asks_no_index(app: Path, bring: Bring, fake: Fake) -> None:
    (app / "app.py").touch()
    fake("python3", "exit 1")
    assert not (bring(release_source.inline(gather(app), RECIPE)) / "wheels").exists()
