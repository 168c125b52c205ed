"""The document that people paste, whole: from an app's folder to what cloud-init would write."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import lzma
import math
import random
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from conftest import EMPTY_WHEEL, Clone, Site

from bake.bundle import debian_choice, lock, release_archive, release_files, shared_libraries, wheel_cache
from bake.bundle.app_source import AppSource
from bake.config import contract
from bake.config.debian import DEBIAN_12, DEBIAN_13, Target
from bake.config.providers import PROVIDERS, SMALLEST_LIMIT, Provider
from bake.config.recipe import Recipe
from bake.deploy import render
from bake.document import cloud_config, machine_files
from bake.document.cloud_config import Document
from bake.document.launch_settings import Settings
from bake.errors import DocumentError, SourceError
from bake.host import files
from bake.host.progress import Reporter
from bake.host.terminal import Terminal

pytestmark = pytest.mark.usefixtures("cache_folder")

RECIPE = Recipe(name="shop", wsgi="app:app", domains=("a.example",), env={"OF": "the recipe"})
#: Takes the plain form of anything, so that a test can read it.
ROOMY = Provider("roomy", 1 << 20, False, True, "this test")


@pytest.fixture
def app(app: Path) -> Path:
    """An app without libraries."""
    (app / "app.py").write_text("app = 1\n")
    (app / "requirements.txt").touch()
    return app


def said(folder: Path, recipe: Recipe = RECIPE, **other: object) -> tuple[Document, str]:
    """A document, and what is noted on the way."""
    words = {"given": Settings(), "provider": ROOMY, "inline": False, **other}
    console = Terminal(file=io.StringIO(), width=200)
    given, provider, inline = words["given"], words["provider"], words["inline"]
    assert isinstance(given, Settings) and isinstance(inline, bool) and isinstance(provider, Provider | None)
    made = render.machine_document(AppSource(folder, recipe), given, provider, inline, Reporter(console))
    assert isinstance(console.file, io.StringIO)
    return made, console.file.getvalue()


def rows(made: Document) -> dict[str, str]:
    return {row["path"]: row["content"] for row in yaml.safe_load(made.text)["write_files"]}


def unpacked(made: Document) -> bytes:
    """All of a document's files, paths and contents; of a plain one, its text."""
    if made.form == "plain":
        return made.text.encode()
    text = made.text
    if made.form == cloud_config.GZIPPED:
        text = gzip.decompress(base64.b64decode(text)).decode()
    content = b""
    for line in text.partition("<<'E'\n")[2].partition("\n E\n")[0].split():
        number = 0
        for letter in line:
            number = number * 94 + ord(letter) - 33
        content += number.to_bytes(int(len(line) * math.log2(94) / 8), "big")
    return lzma.decompress(content)


def extras_in(made: Document) -> list[str]:
    """The optional parts that a document has."""
    text = unpacked(made)
    return [
        name
        for name in release_files.EXTRAS
        if any(f"/{path}\n".encode() in text for path in release_files.feature_files(name))
    ]


def own(made: Document) -> set[str]:
    """The names of the app's own files in a document."""
    return {path.partition("/source/")[2] for path in rows(made) if "/source/" in path}


def test_all_of_a_machine_its_app_and_its_settings_is_in_a_document(app: Path) -> None:
    found = rows(said(app, given=Settings(("b.example",), None, {"A": "1"}))[0])
    assert {file.path for file in machine_files.files(DEBIAN_13)} <= set(found)
    assert found["/etc/app/domains"] == "b.example\n" and found["/etc/app/env"] == 'A="1"\n'
    stanza = json.loads(found["/etc/app/source.json"])
    assert stanza["release"] == "debian-13"
    place = f"{contract.INCOMING}/{stanza['parts']}"
    assert found[f"{place}/source/app.py"] == "app = 1\n"
    # What the recipe says is in the release; what is given lies over it.
    assert "the recipe" in found[f"{place}/settings/env"]
    assert "a.example" in found[f"{place}/recipe.json"]


def test_a_document_cannot_contain_an_interpreter(app: Path) -> None:
    recipe = Recipe(name="shop", wsgi="app:app", python="3.12.8", base="debian-13")
    report = Reporter(Terminal(file=io.StringIO()))
    with pytest.raises(DocumentError, match=r"`python: 3\.12\.8` needs an interpreter, which is too large") as caught:
        render.machine_document(AppSource(app, recipe), Settings(), None, True, report)
    assert f"`bake image {app}`" in caught.value.hint and caught.value.code == 16


def test_a_document_is_for_the_release_that_is_asked_for(app: Path) -> None:
    found = rows(said(app, RECIPE.model_copy(update={"base": DEBIAN_12.name}))[0])
    assert json.loads(found["/etc/app/source.json"])["release"] == "debian-12"
    assert found["/usr/lib/app/nginx/release.conf"] == {
        file.path: file.text for file in machine_files.files(DEBIAN_12)
    }["/usr/lib/app/nginx/release.conf"]  # fmt: skip


def test_an_app_that_anybody_can_fetch_is_named_and_not_held(clone: Clone) -> None:
    commit = clone.git("rev-parse", "HEAD")
    made, notes = said(clone.folder)
    assert own(made) == set()
    assert clone.url in made.text and commit in made.text
    assert clone.url in notes and commit[:12] in notes and "--inline" in notes


def test_it_is_held_where_that_is_asked_for_or_it_was_changed(clone: Clone) -> None:
    held = {"app.py", "requirements.txt"}
    made, notes = said(clone.folder, inline=True)
    assert own(made) == held
    assert clone.url not in made.text + notes
    (clone.folder / "new.py").touch()
    assert own(said(clone.folder)[0]) == {*held, "new.py"}


def test_a_folder_of_a_repository_says_which(clone: Clone) -> None:
    clone.commit({"apps/shop/app.py": "app = 1\n", "apps/shop/requirements.txt": ""})
    clone.push()
    made, _ = said(clone.folder / "apps/shop")
    assert own(made) == set()
    assert "apps/shop" in made.text


def test_the_recipe_may_name_a_commit(app: Path, clone: Clone) -> None:
    commit = clone.commit({"shop.py": "app = 1\n"})
    clone.push()
    recipe = Recipe.model_validate(
        {**RECIPE.model_dump(exclude_defaults=True), "app": {"git": clone.url, "commit": commit}}
    )
    (app / "beside.py").touch()
    made, _ = said(app, recipe)
    assert own(made) == set()
    assert clone.url in made.text and commit in made.text
    # Its files are looked at here, so that a commit which is not there is not first missed on the machine.
    lost = Recipe.model_validate(
        {**RECIPE.model_dump(exclude_defaults=True), "app": {"git": clone.url, "commit": "1a" * 20}}
    )
    with pytest.raises(SourceError):
        said(app, lost)


def test_the_recipe_may_name_an_archive(app: Path, site: Site) -> None:
    with zipfile.ZipFile(site.folder / "shop.zip", "w") as archive:
        for name in ("shop-1/app.py", "shop-1/requirements.txt"):
            archive.writestr(name, "")
    digest = hashlib.sha256((site.folder / "shop.zip").read_bytes()).hexdigest()
    words = {"archive": f"{site.address}/shop.zip", "sha256": digest}
    made, _ = said(app, Recipe.model_validate({**RECIPE.model_dump(exclude_defaults=True), "app": words}))
    assert own(made) == set()
    assert words["archive"] in made.text and digest in made.text


def test_what_a_bundle_leaves_out_of_an_archive_is_taken_away_on_the_machine(app: Path, site: Site) -> None:
    with zipfile.ZipFile(site.folder / "shop.zip", "w") as archive:
        for name in ("shop-1/app.py", "shop-1/requirements.txt", "shop-1/.env", "shop-1/dist/x.whl"):
            archive.writestr(name, "")
    digest = hashlib.sha256((site.folder / "shop.zip").read_bytes()).hexdigest()
    words = {"archive": f"{site.address}/shop.zip", "sha256": digest}
    made, _ = said(app, Recipe.model_validate({**RECIPE.model_dump(exclude_defaults=True), "app": words}))
    (script,) = (text for path, text in rows(made).items() if path.endswith("/fetch-source"))
    assert script.endswith("cd source\nrm -rf -- .env dist/\n")


@pytest.mark.parametrize(("change", "why"), [("staged", "new.py is not committed"), ("pushed", "push it")])
def test_why_an_app_is_held_is_said(clone: Clone, app: Path, change: str, why: str) -> None:
    if change == "staged":
        (clone.folder / "new.py").touch()
    else:
        clone.commit({"app.py": "app = 2\n"})
    _, notes = said(clone.folder)
    assert "the app's files are in the document: " in notes and why in notes
    # Where nobody would expect it to be fetched, there is nothing to say.
    for folder, inline in ((clone.folder, True), (app, False)):
        assert "are in the document" not in said(folder, inline=inline)[1]


def test_what_is_in_the_document_is_what_a_bundle_holds(app: Path, tmp_path: Path) -> None:
    (app / "notes.log").touch()
    (app / ".gitignore").write_text("*.log\n")
    (app / ".env").write_text("KEY=x\n")
    parcel = release_archive.collect(AppSource(app, RECIPE), tmp_path / "b.tar", Reporter(Terminal(file=io.StringIO())))
    files = {member.name for member in parcel.release.members if member.source is not None}
    assert {name for name in files if name.startswith("source/")} == {
        "source/app.py",
        "source/requirements.txt",
        "source/.gitignore",
    }
    made, notes = said(app)
    assert own(made) == {"app.py", "requirements.txt", ".gitignore"}
    assert ".env (secrets)" in notes


def test_a_note_says_how_full_it_is_and_for_whom(app: Path) -> None:
    made, notes = said(app)
    assert f"{made.size:,} of {1 << 20:,} bytes for roomy; plain" in notes
    made, notes = said(app, provider=None)
    assert made.size <= SMALLEST_LIMIT
    assert f"{made.size:,} of {SMALLEST_LIMIT:,} bytes for any provider" in notes and made.form in notes


def test_nothing_of_the_author_s_server_is_in_a_document(app: Path) -> None:
    wanted = RECIPE.model_copy(update={"check": RECIPE.check.model_copy(update={"author": "python app.py"})})
    made, _ = said(app, wanted)
    assert not [path for path in rows(made) if path.endswith(("jobs/author", "author.py", "crawl.py"))]
    assert [path for path in rows(made) if path.endswith("recipe.json")]


def test_it_is_said_whether_the_release_was_baked_and_checked(app: Path, cache_folder: Path, tmp_path: Path) -> None:
    _, notes = said(app)
    assert f"this release was not tested here: `bake image {app}` boots it" in notes
    quiet = Reporter(Terminal(file=io.StringIO()))
    parcel = release_archive.collect(AppSource(app, RECIPE), tmp_path / "bundle.tar", quiet)
    baked = {"bundle": parcel.sha256, "checks": 120, "app": "compared, 41 addresses"}
    images: dict[str, dict[str, object]] = {
        "old": {"made": "2026-01-02T03:04:05Z", "checks": 90},
        "new": {"made": "2026-02-03T04:05:06Z"},
    }
    for name, more in images.items():
        (cache_folder / "image" / name).mkdir(parents=True)
        (cache_folder / "image" / name / "image.json").write_text(json.dumps({**baked, **more}))
    (cache_folder / "image/other").mkdir()
    (cache_folder / "image/other/image.json").write_text('{"bundle": "another"}')
    _, notes = said(app)
    assert "baked and checked here: 2026-02-03, 120 checks passed, app compared, 41 addresses" in notes


@pytest.mark.parametrize("name", ["vultr", "linode"])
def test_what_one_should_know_of_a_provider_is_said(app: Path, name: str) -> None:
    _, notes = said(app, provider=PROVIDERS[name])
    assert (PROVIDERS[name].limit is None) == ("documents no limit" in notes)
    assert PROVIDERS[name].remark in notes


def test_a_warning_about_a_debian_version_names_the_option_and_the_key(app: Path) -> None:
    there = replace(ROOMY, name="linode", unknown_to=("debian-12",))
    _, notes = said(app, RECIPE.model_copy(update={"base": "debian-12"}), provider=there)
    assert "cloud-init of debian-12 does not support linode: use --release debian-13, or `base: debian-13`" in notes
    _, notes = said(app, RECIPE.model_copy(update={"base": "debian-13"}), provider=there)
    assert "does not support" not in notes


def test_a_document_fits_its_provider_or_there_is_none(app: Path) -> None:
    (app / "noise.bin").write_bytes(random.Random(1).randbytes(20_000))
    made, _ = said(app, provider=PROVIDERS["digitalocean"])
    assert SMALLEST_LIMIT < made.size <= 65_536
    with pytest.raises(DocumentError, match="more than") as caught:
        said(app, provider=PROVIDERS["aws"])
    assert "noise.bin" in caught.value.details


@pytest.mark.parametrize("text", [True, False])
def test_only_a_provider_that_takes_bytes_gets_any(app: Path, monkeypatch: pytest.MonkeyPatch, text: bool) -> None:
    # Nothing that it could do without.
    monkeypatch.setattr(release_files, "EXTRAS", ())
    full, _ = said(app, provider=None)
    assert full.form == "stripped"
    tight = Provider("tight", full.size - 1, False, text, "this test")
    if text:
        with pytest.raises(DocumentError, match="1 more than"):
            said(app, provider=tight)
        return
    made, notes = said(app, provider=tight)
    assert made.form == cloud_config.GZIPPED and made.size < full.size
    assert f"{made.size:,} of {full.size - 1:,} bytes for tight" in notes and "already base64" in notes


def test_a_launch_is_the_settings_and_nothing_else() -> None:
    given = Settings(("b.example",), "me@b.example", {"A": "1"})
    console = Terminal(file=io.StringIO(), width=200)
    made = render.launch_document(given, replace(ROOMY, remark="Mind this."), Reporter(console))
    assert set(rows(made)) == {"/etc/app/domains", "/etc/app/email", "/etc/app/env"}
    assert isinstance(console.file, io.StringIO)
    assert f"{made.size:,} of" in console.file.getvalue() and "Mind this." in console.file.getvalue()


def test_an_app_that_is_far_too_large_is_refused_without_a_thorough_compression(
    app: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (app / "film.mp4").write_bytes(random.Random(1).randbytes(1_200_000))
    # It would take minutes for a film of a usual size.
    monkeypatch.setattr("lzma.compress", None)
    with pytest.raises(DocumentError, match="far too large for any provider: 1,"):
        said(app)


def test_a_launch_that_is_too_large_is_refused() -> None:
    with pytest.raises(DocumentError):
        render.launch_document(Settings(env={"A": "x" * SMALLEST_LIMIT}), None, Reporter(Terminal(file=io.StringIO())))


def test_a_launch_without_settings_writes_nothing() -> None:
    console = Terminal(file=io.StringIO(), width=200)
    made = render.launch_document(Settings(), None, Reporter(console))
    assert set(yaml.safe_load(made.text)) == {"bootcmd"}
    assert isinstance(console.file, io.StringIO) and "no settings are given" in console.file.getvalue()


FLASK = """\
from flask import Flask, render_template_string

app = Flask(__name__)
PAGE = "<!doctype html><title>{{ name }}</title><h1>Hello, {{ name }}!</h1>"


@app.get("/")
@app.get("/<name>")
def hello(name="world"):
    return render_template_string(PAGE, name=name)
"""
WHEELS = (
    "blinker-1.9.0-py3-none-any.whl", "click-8.3.1-py3-none-any.whl", "flask-3.1.2-py3-none-any.whl",
    "itsdangerous-2.2.0-py3-none-any.whl", "jinja2-3.1.6-py3-none-any.whl",
    "markupsafe-3.0.3-cp313-cp313-manylinux2014_x86_64.manylinux_2_17_x86_64.manylinux_2_28_x86_64.whl",
    "werkzeug-3.1.4-py3-none-any.whl",
)  # fmt: skip


@pytest.mark.parametrize("goal", [DEBIAN_12, DEBIAN_13], ids=lambda goal: goal.name)
def test_a_small_app_fits_every_provider(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, goal: Target) -> None:
    folder, wheels = tmp_path / "hello", [tmp_path / "wheels" / name for name in WHEELS]
    for place in (folder, tmp_path / "wheels"):
        place.mkdir()
    (folder / "app.py").write_text(FLASK)
    (folder / "requirements.txt").write_text("flask\n")
    for wheel in wheels:
        wheel.write_bytes(wheel.name.encode() + EMPTY_WHEEL)
    text = "".join(
        "{}=={} \\\n    --hash=sha256:{}\n".format(*wheel.name.split("-")[:2], files.file_digest(wheel))
        for wheel in wheels
    )
    for module in (debian_choice, release_archive):
        monkeypatch.setattr(module, "resolve", lambda *words, **options: lock.Lock(text, "fixed"))
    monkeypatch.setattr(wheel_cache, "wheels", lambda *words, **options: wheels)
    monkeypatch.setattr(wheel_cache, "required_libraries", lambda *words, **options: {})
    monkeypatch.setattr(shared_libraries, "require", lambda *words, **options: ())
    report = Reporter(Terminal(file=io.StringIO()))
    recipe = AppSource.read(folder, report).recipe.model_copy(update={"base": goal.name})
    assert (recipe.wsgi, recipe.requirements) == ("app:app", "requirements.txt")
    held = {}
    alone = (
        cloud_config.packed(machine_files.files(goal), goal, stripped=True),
        cloud_config.gzipped(machine_files.files(goal), goal),
    )
    for provider, share in zip((None, PROVIDERS["aws"]), (document.size for document in alone), strict=True):
        machines = f"the machine's own share is {share:,} of {SMALLEST_LIMIT:,}"
        try:
            made = render.machine_document(AppSource(folder, recipe), Settings(), provider, True, report)
        except DocumentError as error:
            pytest.fail(f"{error.message}; {machines}\n{error.details}")
        assert made.size <= SMALLEST_LIMIT == 16_384, f"{made.size:,} bytes; {machines}"
        # All of the app is in it, and what it needs.
        assert made.size > share + 7 * 40, machines
        held[provider and provider.name] = extras_in(made)
    # In the 16,384 bytes that AWS takes, all of the machine but the exchange of workers; as text, all but that, the
    # restarts after updates, and what orders certificates.
    assert held == {None: [], "aws": ["certificate"]}


@pytest.mark.parametrize("target", [DEBIAN_12, DEBIAN_13])
def test_what_there_is_no_room_for_is_said(app: Path, target: Target) -> None:
    recipe = RECIPE.model_copy(update={"base": target.name})
    small = Provider("small", 0, False, True, "this test")
    # Of all that is stripped, the largest, then one byte less than that has.
    limit = 22_000
    ranks: list[list[bool]] = []
    while not ranks or any(ranks[-1]):
        made, notes = said(app, recipe, provider=replace(small, limit=limit))
        assert made.form == "stripped"
        limit = made.size - 1
        extras = extras_in(made)
        has = {name: name in extras for name in release_files.extras(recipe)}
        ranks.append(list(has.values()))
        assert ("no room for the certificate client" in notes) == (not has["certificate"])
        assert ("no room for the restarts after updates" in notes) == (not has["updates"])
        assert ("no room for the limit of SSH connections" in notes) == (not has.get("ssh-limit", True))
        assert ("no room for the exact `limits.request`" in notes) == (not has["request-limit"])
        assert ("no room for the zero-downtime restart" in notes) == (not has["zero-downtime"])
        trusted = "HTTPS is trusted about a minute after the DNS records of a.example point"
        assert (trusted in notes) == has["certificate"]
    # Each is worth more than all that follow it.
    assert ranks == sorted(ranks, reverse=True) and all(ranks[0])


def test_without_a_name_https_is_nobody_s(app: Path) -> None:
    _, notes = said(app, RECIPE.model_copy(update={"domains": ()}))
    assert "no domain is configured: HTTPS uses a self-signed certificate, which browsers reject" in notes
    assert "is trusted" not in notes
