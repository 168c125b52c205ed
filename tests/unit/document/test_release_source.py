"""Where a machine gets its app from: real repositories and archives, on an https server of the test's."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import EMPTY_WHEEL, REPOSITORY, Clone, Fake, Site

from bake.bundle import built_wheels, release, release_files
from bake.bundle.lock import Lock
from bake.config import contract
from bake.config.debian import DEBIAN_12, DEBIAN_13, Target
from bake.config.recipe import Recipe
from bake.config.sections import Certificate
from bake.document import release_source
from bake.document.machine_files import File
from bake.document.release_source import FetchScript
from bake.errors import AppFolderError
from bake.host.programs import run

pytestmark = pytest.mark.usefixtures("cache_folder")

RECIPE = Recipe(name="shop", wsgi="app:app")
LINK = "/etc/app/source.json"


def gather(folder: Path, wheels: tuple[Path, ...] = (), recipe: Recipe = RECIPE) -> release.Release:
    """The release of an app's folder."""
    hashes = [(path.name, hashlib.sha256(path.read_bytes()).hexdigest()) for path in wheels]
    text = "".join(f"{name.split('-')[0]}==1 \\\n    --hash=sha256:{digest}\n" for name, digest in hashes)
    return release.gather(folder, recipe, Lock(text, "none"), list(wheels))


def parts(files: list[File]) -> dict[str, File]:
    """The release's files in a document, by their names there; all lie below the digest that the stanza names."""
    prefix = f"{contract.INCOMING}/{stanza(files)['parts']}/"
    found = {file.path.removeprefix(prefix): file for file in files if file.path.startswith(prefix)}
    assert {file.path for file in files} == {f"{prefix}{name}" for name in found} | {LINK}
    return found


def stanza(files: list[File]) -> dict[str, str]:
    (said,) = (file.text for file in files if file.path == LINK)
    found: dict[str, str] = json.loads(said or "")
    return found


@pytest.mark.parametrize("goal", [DEBIAN_12, DEBIAN_13])
def test_the_source_may_be_a_bundle(goal: Target) -> None:
    (file,) = release_source.bundled(goal, "ab" * 32)
    assert (file.path, file.mode) == (LINK, 0o644)
    said = stanza([file])
    assert said.items() >= {"release": goal.name, "machine": "x86_64", "bundle": "ab" * 32}.items()
    assert "parts" not in said


def test_a_document_may_hold_the_app(app: Path) -> None:
    content = {"app.py": b"app = 1\n", "pkg/x.bin": bytes(range(256)), "two words é.txt": b""}
    for name, text in content.items():
        (app / name).parent.mkdir(exist_ok=True)
        (app / name).write_bytes(text)
    (app / "run.sh").touch(mode=0o744)
    (app / "link.py").symlink_to("app.py")
    found = parts(release_source.inline(gather(app), RECIPE))
    found_link = found.pop("source/link.py")
    assert {name: file.content for name, file in found.items() if name.startswith("source/")} == {
        **{f"source/{name}": text for name, text in content.items()}, "source/run.sh": b"",
    }  # fmt: skip
    assert found_link.content == b"app = 1\n"
    assert {name for name, file in found.items() if file.mode != 0o644} == {"source/run.sh"}
    assert found["source/run.sh"].mode == 0o755
    assert {"lock.txt", "recipe.json"} <= set(found)


@pytest.mark.parametrize("wanted", [(), ("zero-downtime",), release_files.extras(RECIPE)])
def test_a_document_has_the_extras_that_are_asked_for_alone(app: Path, wanted: tuple[str, ...]) -> None:
    (app / "settings").mkdir()
    (app / "settings/exchange.py").write_text("the app's own\n")
    gathered = gather(app)
    extras = {name: set(release_files.feature_files(name)) for name in release_files.extras(RECIPE)}
    members = {member.name for member in gathered.members}
    assert set().union(*extras.values()) <= members, "a bundle has all of them"
    inline = parts(release_source.inline(gathered, RECIPE, wanted))
    fetched = parts(release_source.fetched(gathered, RECIPE, frozenset({"app.py"}), FetchScript("a script\n"), wanted))
    for found in (inline, fetched):
        assert {name for name, paths in extras.items() if paths & set(found)} == set(wanted)
        assert all(extras[name] <= set(found) for name in wanted)
        assert {"settings/env", "source/settings/exchange.py"} <= set(found)


@pytest.mark.parametrize("there", [True, False])
def test_what_certificates_ask_for_comes_with_what_orders_them(app: Path, there: bool) -> None:
    recipe = RECIPE.model_copy(update={"certificate": Certificate(keep="LABEL=keep")})
    gathered = gather(app, recipe=recipe)
    found = parts(release_source.inline(gathered, recipe, ("certificate",) * there))
    assert [name for name in ("settings/certificate.py", "settings/keep.py") if name in found] == (
        ["settings/certificate.py", "settings/keep.py"] * there
    )


def test_a_link_has_the_mode_of_its_file(app: Path) -> None:
    (app / "app.py").touch(mode=0o644)
    (app / "link.py").symlink_to("app.py")
    found = parts(release_source.inline(gather(app), RECIPE))
    assert found["source/link.py"].mode == 0o644


def test_a_link_to_a_folder_is_refused(app: Path) -> None:
    (app / "static").mkdir()
    (app / "static/x.css").touch()
    (app / "public").symlink_to("static")
    with pytest.raises(AppFolderError, match="public is a link to a folder"):
        release_source.inline(gather(app), RECIPE)


@pytest.mark.parametrize("kept_for_another_app", [False, True])
def test_wheels_are_in_no_document(app: Path, kept_for_another_app: bool) -> None:
    """The lock of a document has only wheels of the index, even if another app names the URL of one."""
    wheel = app.parent / "thing-1-py3-none-any.whl"
    wheel.write_bytes(EMPTY_WHEEL)
    if kept_for_another_app:
        copy = app.parent / "fetched" / wheel.name
        copy.parent.mkdir()
        copy.write_bytes(EMPTY_WHEEL)
        built_wheels.keep(copy, "key", 0, {})
    found = parts(release_source.inline(gather(app, (wheel,)), RECIPE))
    assert not any(name.startswith("wheels/") for name in found)
    assert "thing==1" in (found["lock.txt"].text or "")


def test_a_release_has_a_name_of_its_own_whatever_differs(app: Path) -> None:
    (app / "app.py").write_text("app = 1\n")
    wheel = app.parent / "thing-1-py3-none-any.whl"
    wheel.write_bytes(EMPTY_WHEEL)
    url, commit, there = "https://code.example/x", "1a" * 20, frozenset({"app.py"})
    seen: list[str] = []

    def digest(recipe: Recipe = RECIPE, script: FetchScript | None = None) -> str:
        gathered = gather(app, (wheel,))
        if script is None:
            return stanza(release_source.inline(gathered, recipe))["parts"]
        return stanza(release_source.fetched(gathered, recipe, there, script))["parts"]

    def differs(**how: object) -> None:
        seen.append(digest(**how))  # type: ignore[arg-type]
        assert digest(**how) == seen[-1], "the same twice"  # type: ignore[arg-type]
        assert len(set(seen)) == len(seen)

    differs()
    (app / "app.py").write_text("app = 2\n")
    differs()
    (app / "app.py").chmod(0o755)
    differs()
    (app / "app.py").rename(app / "other.py")
    differs()
    differs(recipe=RECIPE.model_copy(update={"index": "https://packages.example/simple"}))
    wheel.write_bytes(b"another" + EMPTY_WHEEL)
    differs()
    for words in ((url, commit), (url, "2b" * 20), (f"{url}/y", commit), (url, commit, "sub")):
        differs(script=release_source.git_script(*words))


def test_what_is_fetched_is_not_in_the_document(app: Path) -> None:
    for name in ("app.py", "pkg/x.py", "generated.py"):
        (app / name).parent.mkdir(exist_ok=True)
        (app / name).touch()
    there = frozenset({"app.py", "pkg/x.py", "other.py"})
    found = parts(release_source.fetched(gather(app), RECIPE, there, FetchScript("a script\n")))
    assert {name for name in found if name.startswith("source/")} == {"source/generated.py"}
    assert "recipe.json" in found
    assert found["fetch-source"].text == "a script\n"


def packages(files: list[File]) -> object:
    return json.loads(parts(files)["recipe.json"].text or "").get("packages")


def test_who_fetches_with_git_has_it_installed(app: Path) -> None:
    (app / "app.py").touch()
    script, there = release_source.git_script("https://code.example/x", "1a" * 20), frozenset({"app.py"})
    assert packages(release_source.fetched(gather(app), RECIPE, there, script)) == ["git"]
    gathered = gather(app, recipe=RECIPE.model_copy(update={"packages": ("libpq5", "git", "ffmpeg")}))
    assert packages(release_source.fetched(gathered, RECIPE, there, script)) == ["ffmpeg", "git", "libpq5"]
    script = release_source.archive_script("https://code.example/x.tar", "1a" * 32, "tar -xf .archive", "x")
    assert packages(release_source.fetched(gather(app), RECIPE, there, script)) is None
    similar = FetchScript(f"{script.text}\ngit init is not run here\n")
    assert packages(release_source.fetched(gather(app), RECIPE, there, similar)) is None
    assert packages(release_source.inline(gather(app), RECIPE)) is None


def test_what_a_bundle_leaves_out_is_taken_away_again(app: Path) -> None:
    for name in ("app.py", ".env", "-it's.env", "dist/x.whl", "here.env", "pkg/.env"):
        (app / name).parent.mkdir(exist_ok=True)
        (app / name).touch()
    there = frozenset({"app.py", ".env", "-it's.env", "dist/x.whl", "pkg/.env"})
    found = parts(release_source.fetched(gather(app), RECIPE, there, FetchScript("true\n")))
    fetched = app.parent / "fetched"
    for name in there | {"kept.js"}:
        (fetched / "source" / name).parent.mkdir(parents=True, exist_ok=True)
        (fetched / "source" / name).touch()
    script = found["fetch-source"].text or ""
    assert "here.env" not in script, "only what is fetched can be taken away"
    run(["sh", "-euc", script], cwd=fetched)
    assert {path.name for path in (fetched / "source").rglob("*") if path.is_file()} == {"app.py", "kept.js"}


def test_a_folder_s_odd_name_keeps_nothing_that_is_left_out(app: Path) -> None:
    (app / "notes (old)").mkdir()
    (app / "notes (old)/.bakeignore").write_text("diary.txt\n")
    (app / "notes (old)/diary.txt").touch()
    there = frozenset({"notes (old)/diary.txt", "notes (old)/.bakeignore"})
    found = parts(release_source.fetched(gather(app), RECIPE, there, FetchScript("true\n")))
    assert "rm -rf -- 'notes (old)/diary.txt'\n" in (found["fetch-source"].text or "")


def test_a_link_that_is_fetched_may_lead_anywhere_in_the_app(app: Path) -> None:
    (app / "static").mkdir()
    (app / "static/x.css").touch()
    (app / "public").symlink_to("static")
    there = frozenset({"static/x.css", "public"})
    found = parts(release_source.fetched(gather(app), RECIPE, there, FetchScript("a script\n")))
    assert not [name for name in found if name.startswith("source/")]
    with pytest.raises(AppFolderError, match="public is a link to a folder"):
        release_source.fetched(gather(app), RECIPE, there - {"public"}, FetchScript("a script\n"))


def test_a_name_that_is_not_utf_8_is_refused(app: Path) -> None:
    (app / "caf\udce9.txt").touch()
    with pytest.raises(AppFolderError, match="is not UTF-8") as caught:
        release_source.inline(gather(app), RECIPE)
    assert "`bake image` keeps it" in caught.value.hint


def test_a_name_of_two_lines_is_refused(app: Path) -> None:
    (app / "two\nlines.txt").touch()
    with pytest.raises(AppFolderError, match="line break"):
        release_source.inline(gather(app), RECIPE)
    # Fetched, it comes as git has it.
    there = frozenset({"two\nlines.txt"})
    assert parts(release_source.fetched(gather(app), RECIPE, there, FetchScript("a script\n")))


@pytest.mark.parametrize("name", ["lock.txt", "recipe.json", "settings/env"])
def test_an_app_s_file_is_not_mistaken_for_the_release_s(app: Path, name: str) -> None:
    (app / name).parent.mkdir(exist_ok=True)
    (app / name).write_text("the app's\n")
    plain = set(parts(release_source.inline(gather(app), RECIPE)))
    found = parts(release_source.fetched(gather(app), RECIPE, frozenset({name}), FetchScript("a script\n")))
    assert plain - {f"source/{name}"} <= set(found)


# The app's folder.


def test_a_clean_checkout_is_known_by_its_commit(clone: Clone) -> None:
    found = release_source.remote(clone.folder)
    assert isinstance(found, release_source.Git)
    assert (found.url, found.commit, found.path) == (clone.url, clone.git("rev-parse", "HEAD"), "")
    assert found.files - {""} == {"app.py", "requirements.txt"}


def test_a_folder_of_a_repository_is_known_by_its_path(clone: Clone) -> None:
    commit = clone.commit({"apps/my shop/app.py": "", "apps/my shop/static/é.css": ""})
    clone.push()
    (clone.folder / "untracked-beside.txt").touch()
    found = release_source.remote(clone.folder / "apps/my shop")
    assert isinstance(found, release_source.Git)
    assert (found.url, found.commit, found.path) == (clone.url, commit, "apps/my shop")
    assert found.files - {""} == {"app.py", "static/é.css"}


@pytest.mark.parametrize("name", ["app.py", "untracked.py"])
def test_a_checkout_that_was_changed_is_none(clone: Clone, name: str) -> None:
    (clone.folder / name).write_text("changed\n")
    assert release_source.remote(clone.folder) == f"{name} is not committed"
    (clone.folder / "zz two words é.py").touch()
    assert release_source.remote(clone.folder) == f"{name} and 1 more are not committed"


def test_a_change_that_is_only_staged_is_one(clone: Clone) -> None:
    (clone.folder / "app.py").write_text("changed\n")
    clone.git("add", "app.py")
    assert release_source.remote(clone.folder) == "app.py is not committed"


def render_into(clone: Clone, name: str) -> str:
    """What `remote` says where what we print goes into a file of the folder."""
    code = "import sys; from pathlib import Path; from bake.document import release_source\n"
    code += "print(release_source.remote(Path(sys.argv[1])), file=sys.stderr)"
    with (clone.folder / name).open("w") as stream:
        argv = [sys.executable, "-c", code, str(clone.folder)]
        done = subprocess.run(argv, cwd=REPOSITORY, stdout=stream, stderr=subprocess.PIPE, text=True, check=True)
    return done.stderr


def test_the_file_that_we_are_printed_into_is_no_change(clone: Clone) -> None:
    assert render_into(clone, "user-data.yaml").startswith("Git(")
    (clone.folder / "other.yaml").touch()
    assert render_into(clone, "user-data.yaml") == "other.yaml is not committed\n"


def test_a_commit_that_was_not_pushed_is_nowhere_to_be_had(clone: Clone) -> None:
    commit = clone.commit({"app.py": "app = 2\n"})
    said = release_source.remote(clone.folder)
    assert isinstance(said, str) and commit[:12] in said and clone.url in said and "push it" in said
    clone.push()
    assert isinstance(release_source.remote(clone.folder), release_source.Git)


def test_a_tag_is_as_good_as_a_branch(clone: Clone) -> None:
    clone.git("checkout", "-q", "--detach")
    commit = clone.commit({"app.py": "app = 2\n"})
    clone.git("push", "-q", str(clone.bare), "HEAD:refs/tags/v2")
    found = release_source.remote(clone.folder)
    assert isinstance(found, release_source.Git) and found.commit == commit


@pytest.mark.parametrize(
    "address", ["git@code.example:shop.git", "ssh://git@code.example/shop.git", "https://code.example/shop.git"]
)
def test_an_address_for_ssh_is_tried_without_a_key(
    clone: Clone, site: Site, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    clone.git("remote", "set-url", "origin", address)
    # code.example is this server, to git.
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", f"url.{site.address}/.insteadOf")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", "https://code.example/")
    found = release_source.remote(clone.folder)
    assert isinstance(found, release_source.Git) and found.url == "https://code.example/shop.git"


@pytest.mark.parametrize(
    "address",
    ["https://me:word@{host}/shop.git", "https://me@{host}/shop.git", "http://{host}/shop.git", "{bare}", "https://"],
)
def test_an_address_that_is_not_everybody_s_is_none(clone: Clone, site: Site, address: str) -> None:
    there = address.format(host=site.address.removeprefix("https://"), bare=clone.bare)
    clone.git("remote", "set-url", "origin", there)
    said = release_source.remote(clone.folder)
    assert isinstance(said, str) and said and "word" not in said.replace("password", "")
    assert site.asked == []


def test_a_repository_that_asks_for_a_password_is_none(clone: Clone, site: Site) -> None:
    site.statuses = [401] * 20
    assert release_source.remote(clone.folder) == f"{clone.url} does not answer, or asks for a password"
    assert site.asked != []


@pytest.mark.parametrize("whose", ["the folder's", "somebody's", "the system's"])
def test_a_repository_is_asked_as_a_machine_would(
    clone: Clone, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whose: str
) -> None:
    # Here, another address leads to the repository; a machine knows nothing of that, and of no password either.
    clone.git("remote", "set-url", "origin", f"{site.address}/other.git")
    said = f'[url "{clone.url}"]\n\tinsteadOf = {site.address}/other.git\n'
    if whose == "the folder's":
        with (clone.folder / ".git/config").open("a") as stream:
            stream.write(said)
    elif whose == "somebody's":
        monkeypatch.delenv("GIT_CONFIG_GLOBAL")
        monkeypatch.setenv("HOME", str(tmp_path))
        (tmp_path / ".gitconfig").write_text(said)
    else:
        monkeypatch.setenv("GIT_CONFIG_SYSTEM", str(tmp_path / "system"))
        (tmp_path / "system").write_text(said)
    assert clone.git("ls-remote", "origin")
    site.asked.clear()
    assert release_source.remote(clone.folder) == f"{site.address}/other.git does not answer, or asks for a password"
    assert site.asked and not [path for path in site.asked if "shop.git" in path]


def test_files_that_git_keeps_elsewhere_are_in_the_document(clone: Clone) -> None:
    clone.commit({".gitattributes": "*.bin filter=lfs diff=lfs merge=lfs -text\n"})
    clone.push()
    assert isinstance(release_source.remote(clone.folder), release_source.Git), "there is none yet"
    clone.commit({"apps/shop/app.py": "", "data/big.bin": "version https://git-lfs.github.com/spec/v1\n"})
    clone.push()
    said = release_source.remote(clone.folder)
    assert isinstance(said, str) and "LFS" in said
    # Those beside the app are nobody's trouble.
    assert isinstance(release_source.remote(clone.folder / "apps/shop"), release_source.Git)


def test_a_folder_of_no_repository_is_none(app: Path, clone: Clone) -> None:
    assert release_source.remote(app) == ""
    clone.git("remote", "remove", "origin")
    said = release_source.remote(clone.folder)
    assert isinstance(said, str) and "no remote `origin`" in said


def test_without_a_commit_there_is_none(clone: Clone) -> None:
    clone.git("checkout", "-q", "--orphan", "empty")
    assert release_source.remote(clone.folder) == "app.py and 1 more are not committed"
    for name in ("app.py", "requirements.txt"):
        (clone.folder / name).unlink()
    clone.git("rm", "-q", "-r", "--cached", ".")
    assert "has none of its files" in str(release_source.remote(clone.folder))


def test_a_folder_that_a_repository_ignores_is_in_the_document(clone: Clone) -> None:
    clone.commit({".gitignore": "/build/\n"})
    clone.push()
    (clone.folder / "build/shop").mkdir(parents=True)
    (clone.folder / "build/shop/app.py").touch()
    assert release_source.remote(clone.folder / "build/shop") == f"the repository {clone.folder} has none of its files"


def test_where_git_fails_the_document_holds_the_app_and_says_why(clone: Clone, fake: Fake) -> None:
    fake("git", "echo fatal: no luck >&2; exit 128")
    assert release_source.remote(clone.folder) == "git cannot read its repository: fatal: no luck"


def test_what_only_bakeignore_brings_back_is_in_the_document(clone: Clone) -> None:
    clone.commit({".gitignore": "*.css\n", ".bakeignore": "!style.css\n"})
    clone.push()
    for name in ("style.css", "other.css"):
        (clone.folder / name).write_text("made here\n")
    found = release_source.remote(clone.folder)
    assert isinstance(found, release_source.Git)
    script = release_source.git_script(found.url, found.commit, found.path)
    held = parts(release_source.fetched(gather(clone.folder), RECIPE, found.files, script))
    assert [name for name in held if name.startswith("source/")] == ["source/style.css"]
