"""The document that people paste, whole: from an app's folder to what cloud-init would write."""

from __future__ import annotations

import hashlib
import io
import json
import random
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from conftest import Clone, Site
from rich.console import Console

from bake import bundle, machine, render, source
from bake.errors import DocumentError, SourceError
from bake.progress import Reporter
from bake.providers import EVERYWHERE, PROVIDERS, Provider
from bake.recipe import Recipe
from bake.settings import Settings
from bake.target import DEBIAN_12, DEBIAN_13
from bake.userdata import Document

pytestmark = pytest.mark.usefixtures("cache")

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
    console = Console(file=io.StringIO(), width=200)
    given, provider, inline = words["given"], words["provider"], words["inline"]
    assert isinstance(given, Settings) and isinstance(inline, bool) and isinstance(provider, Provider | None)
    made = render.document(folder, recipe, given, provider, inline, Reporter(console))
    assert isinstance(console.file, io.StringIO)
    return made, console.file.getvalue()


def rows(made: Document) -> dict[str, str]:
    return {row["path"]: row["content"] for row in yaml.safe_load(made.text)["write_files"]}


def own(made: Document) -> set[str]:
    """The names of the app's own files in a document."""
    return {path.partition("/source/")[2] for path in rows(made) if "/source/" in path}


def test_all_of_a_machine_its_app_and_its_settings_is_in_a_document(app: Path) -> None:
    found = rows(said(app, given=Settings(("b.example",), None, {"A": "1"}))[0])
    assert {file.path for file in machine.files(DEBIAN_13)} <= set(found)
    assert found["/etc/app/domains"] == "b.example\n" and found["/etc/app/env"] == 'A="1"\n'
    stanza = json.loads(found["/etc/app/source.json"])
    assert stanza["release"] == "debian-13"
    place = f"{source.INCOMING}/{stanza['parts']}"
    assert found[f"{place}/source/app.py"] == "app = 1\n"
    # What the recipe says is in the release; what is given lies over it.
    assert "the recipe" in found[f"{place}/settings/env"]
    assert "a.example" in found[f"{place}/recipe.json"]


def test_a_document_is_for_the_release_that_is_asked_for(app: Path) -> None:
    found = rows(said(app, RECIPE.model_copy(update={"base": DEBIAN_12.name}))[0])
    assert json.loads(found["/etc/app/source.json"])["release"] == "debian-12"
    assert found["/usr/lib/app/nginx/release.conf"] == {
        file.path: file.text for file in machine.files(DEBIAN_12)
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


def test_what_is_in_the_document_is_what_a_bundle_holds(app: Path, tmp_path: Path) -> None:
    (app / "notes.log").touch()
    (app / ".gitignore").write_text("*.log\n")
    (app / ".env").write_text("KEY=x\n")
    parcel = bundle.collect(app, RECIPE, DEBIAN_13, tmp_path / "b.tar", Reporter(Console(file=io.StringIO())))
    assert parcel.files == 3
    made, notes = said(app)
    assert own(made) == {"app.py", "requirements.txt", ".gitignore"}
    assert ".env (secrets)" in notes


def test_a_note_says_how_full_it_is_and_for_whom(app: Path) -> None:
    made, notes = said(app)
    assert f"{made.size:,} of {1 << 20:,} bytes for roomy; plain" in notes
    made, notes = said(app, provider=None)
    assert made.size <= EVERYWHERE
    assert f"{made.size:,} of {EVERYWHERE:,} bytes for any provider" in notes and made.form in notes


@pytest.mark.parametrize("name", ["vultr", "linode"])
def test_what_one_should_know_of_a_provider_is_said(app: Path, name: str) -> None:
    _, notes = said(app, provider=PROVIDERS[name])
    assert (PROVIDERS[name].limit is None) == ("nobody states" in notes)
    assert PROVIDERS[name].remark in notes


def test_a_document_fits_its_provider_or_there_is_none(app: Path) -> None:
    (app / "noise.bin").write_bytes(random.Random(1).randbytes(20_000))
    made, _ = said(app, provider=PROVIDERS["digitalocean"])
    assert EVERYWHERE < made.size <= 65_536
    with pytest.raises(DocumentError, match="more than") as caught:
        said(app, provider=PROVIDERS["aws"])
    assert "noise.bin" in caught.value.details


def test_a_launch_is_the_settings_and_nothing_else() -> None:
    given = Settings(("b.example",), "me@b.example", {"A": "1"})
    console = Console(file=io.StringIO(), width=200)
    made = render.launch(given, replace(ROOMY, remark="Mind this."), Reporter(console))
    assert set(rows(made)) == {"/etc/app/domains", "/etc/app/email", "/etc/app/env"}
    assert isinstance(console.file, io.StringIO)
    assert f"{made.size:,} of" in console.file.getvalue() and "Mind this." in console.file.getvalue()


def test_a_launch_that_is_too_large_is_refused() -> None:
    with pytest.raises(DocumentError):
        render.launch(Settings(env={"A": "x" * EVERYWHERE}), None, Reporter(Console(file=io.StringIO())))


def test_a_launch_without_settings_writes_nothing() -> None:
    made = render.launch(Settings(), None, Reporter(Console(file=io.StringIO())))
    assert yaml.safe_load(made.text).get("write_files", []) == []
