"""What is found in an app's folder, and what is said when it is not."""

from __future__ import annotations

from pathlib import Path

import pytest
from app_folders import DJANGO, FLASK, IMPORT, find

from bake.app.detect import complete
from bake.app.name_resolution import Reader
from bake.app.scopes import Module
from bake.config.recipe import Recipe
from bake.errors import NoAppError, RequirementError


def test_pyproject_may_say_what_is_needed(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "x"\ndependencies = ["flask"]\n')
    assert find(tmp_path, {"app.py": FLASK}).recipe.requirements == "requirements.txt"
    (tmp_path / "requirements.txt").unlink()
    assert complete(tmp_path, Recipe()).recipe.requirements == "pyproject.toml"


def test_an_app_of_python_s_own_library_needs_nothing(tmp_path: Path) -> None:
    text = "import json\nfrom lib import x\nfrom . import y\ndef app(environ, start_response):\n    return []\n"
    (tmp_path / "app.py").write_text(text)
    (tmp_path / "lib.py").write_text("x = 1\n")
    found = complete(tmp_path, Recipe.model_validate({"wsgi": "app:app"}))
    assert found.recipe.requirements == ()
    assert any(note.startswith("requirements: none") for note in found.notes)
    # Said so, it is no question either.
    said = Recipe.model_validate({"wsgi": "app:app", "requirements": []})
    assert complete(tmp_path, said).recipe.requirements == ()
    (tmp_path / "lib.py").write_text("import yaml\n")
    with pytest.raises(RequirementError):
        complete(tmp_path, Recipe.model_validate({"wsgi": "app:app"}))


def test_missing_requirements_are_proposed(tmp_path: Path) -> None:
    text = "import os, yaml, flask_login\nfrom lib import x\nimport PIL.Image\n"
    (tmp_path / "app.py").write_text(FLASK + text)
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib/__init__.py").write_text("from . import x\n")
    (tmp_path / "lib/x.py").touch()
    with pytest.raises(RequirementError) as caught:
        complete(tmp_path, Recipe())
    assert caught.value.details == "requirements: [PyYAML, flask, flask-login, pillow]"
    # What is proposed is taken as it stands.
    found = complete(tmp_path, Recipe.model_validate({"requirements": ["PyYAML", "flask", "flask-login", "pillow"]}))
    assert found.recipe.requirements == ("PyYAML", "flask", "flask-login", "pillow")


def test_requirements_in_another_folder_are_asked_for(tmp_path: Path) -> None:
    for folder in ("deploy", ".hidden"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "requirements.txt").write_text("flask\n")
    (tmp_path / "app.py").write_text(FLASK)
    with pytest.raises(RequirementError) as caught:
        complete(tmp_path, Recipe())
    assert caught.value.details == "requirements: deploy/requirements.txt\nrequirements: [flask]"


def test_the_file_that_a_setup_py_reads_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(FLASK)
    (tmp_path / "deps.txt").write_text("# all\nFlask[async]>=3\n")
    (tmp_path / "LONG.txt").write_text("A shop for all\n")
    names = "open('deps.txt'), open('LONG.txt'), open('/etc/gone.txt')"
    (tmp_path / "setup.py").write_text(f"from setuptools import setup\nsetup(install_requires=read({names}))\n")
    with pytest.raises(RequirementError) as caught:
        complete(tmp_path, Recipe())
    assert caught.value.details == "requirements: deps.txt\nrequirements: [flask]"


def test_only_known_packages_are_proposed(tmp_path: Path) -> None:
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop/__init__.py").touch()
    (tmp_path / "shop/models.py").touch()
    (tmp_path / "shop/app.py").write_text(
        FLASK + "import strangers_package\ntry:\n    import models\nexcept ImportError: ...\n"
    )
    with pytest.raises(RequirementError) as caught:
        complete(tmp_path, Recipe.model_validate({"wsgi": "shop.app:app"}))
    assert caught.value.details == "requirements: [flask]"
    assert caught.value.hint.endswith("bake does not know which packages contain strangers_package.")


@pytest.mark.parametrize(
    ("module", "made", "folder", "static"),
    [
        ("app.py", "Flask(__name__)", "static", {"/static": "static"}),
        ("app.py", "Flask(__name__)", "other", {}),
        ("shop/__init__.py", "Flask(__name__)", "shop/static", {"/static": "shop/static"}),
        ("shop/web.py", "Flask(__name__, static_folder='../public')", "public", {"/public": "public"}),
        ("app.py", "Flask(__name__, static_folder='a', static_url_path='/s/')", "a", {"/s": "a"}),
        ("app.py", "Flask(__name__, static_folder=None)", "static", {}),
        ("app.py", "Flask(__name__, static_folder=HERE)", "static", {}),
        ("app.py", "Flask(__name__, static_folder='../..')", "static", {}),
    ],
)
def test_static_files_are_where_flask_looks(
    tmp_path: Path, module: str, made: str, folder: str, static: dict[str, str]
) -> None:
    (tmp_path / folder).mkdir(parents=True)
    found = find(tmp_path, {module: f"{IMPORT}def create_app():\n    app = {made}\n    return app\n"})
    assert found.recipe.static == static


def test_the_name_is_the_folders(tmp_path: Path) -> None:
    folder = tmp_path / "My Shop_2!"
    folder.mkdir()
    assert find(folder, {"app.py": FLASK}).recipe.name == "my-shop-2"


def test_what_the_recipe_says_stays(tmp_path: Path) -> None:
    (tmp_path / "static").mkdir()
    keys = {"name": "x", "wsgi": "app:app", "requirements": "r.txt", "static": {}, "check": {"author": "off"}}
    found = find(tmp_path, {"app.py": FLASK, "r.txt": ""}, **keys)
    assert (found.recipe.name, found.recipe.requirements, found.recipe.static) == ("x", "r.txt", {})
    assert found.notes == ()


def test_a_package_of_the_index_may_be_the_app(tmp_path: Path) -> None:
    keys = {"app": {"package": "HTTPbin[mainapp]==0.10.4"}, "wsgi": "httpbin:app", "requirements": ["gunicorn"]}
    found = complete(tmp_path, Recipe.model_validate(keys)).recipe
    assert (found.name, found.wsgi) == ("httpbin", "httpbin:app")
    assert found.requirements == ("HTTPbin[mainapp]==0.10.4", "gunicorn")
    with pytest.raises(NoAppError, match="needs `wsgi`"):
        complete(tmp_path, Recipe.model_validate({"app": keys["app"]}))


@pytest.mark.parametrize(
    ("files", "steps"),
    [
        (DJANGO, ("python -m django migrate --noinput",)),
        ({"app.py": FLASK, "migrations/env.py": "", "requirements.txt": "flask\n"}, ()),
        ({"app.py": f"import flask_migrate\n{FLASK}", "migrations/env.py": ""}, ("flask db upgrade",)),
        ({"app.py": FLASK, "alembic.ini": ""}, ()),
    ],
)
def test_migrations_are_release_steps(tmp_path: Path, files: dict[str, str], steps: tuple[str, ...]) -> None:
    found = find(tmp_path, files)
    assert found.recipe.release == steps
    told = [note for note in found.notes if "alembic upgrade head" in note or note.startswith("release: [")]
    assert bool(told) == bool(steps or "alembic.ini" in files)
    assert find(tmp_path, files, release=[]).recipe.release == ()


def test_the_app_s_own_command_for_its_tables_is_proposed(tmp_path: Path) -> None:
    app = f"{FLASK}\nimport click\n\n@click.command('init-db')\ndef fill():\n    pass\n"
    found = find(tmp_path, {"app.py": app})
    mark = "/var/lib/app/tables"
    line = f"release: ['test -e {mark} || {{ flask init-db && touch {mark}; }}']"
    assert f"`flask init-db` seems to create the app's tables: to run it once, write  {line}" in found.notes
    # It may empty the database, so nothing runs it unasked.
    assert found.recipe.release == ()


def test_a_secret_in_env_is_noted_without_its_value(tmp_path: Path) -> None:
    env = {"STRIPE_KEY": "hunter2", "SITE": "shop"}
    notes = [
        find(tmp_path, {"app.py": FLASK}, env=env).notes,
        complete(
            tmp_path, Recipe.model_validate({"app": {"package": "shop==1.0"}, "wsgi": "shop:app", "env": env})
        ).notes,
    ]
    for some in notes:
        (note,) = [note for note in some if "looks like" in note]
        assert note.startswith("warning: env.STRIPE_KEY looks like a secret") and "secrets: [STRIPE_KEY]" in note
        assert "hunter2" not in note


def test_missing_requirements_lead_to_the_draft(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(FLASK)
    with pytest.raises(RequirementError) as caught:
        complete(tmp_path, Recipe())
    assert caught.value.details == "requirements: [flask]"
    assert "proposes the line above" in caught.value.hint and "`bake init`" in caught.value.hint


@pytest.mark.parametrize(
    ("files", "starts"),
    [
        ({"app.py": FLASK}, [["app.py"]]),
        (DJANGO, [["site1/wsgi.py"], ["site1/settings.py"]]),
    ],
)
def test_the_imports_of_the_app_are_followed_once(
    tmp_path: Path, files: dict[str, str], starts: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    followed: list[list[str]] = []
    import_closure = Reader.import_closure

    def count(reader: Reader, *modules: Module) -> list[Module]:
        followed.append(sorted({str(module.path) for module in modules}))
        return import_closure(reader, *modules)

    monkeypatch.setattr(Reader, "import_closure", count)
    find(tmp_path, files)
    assert followed == starts
