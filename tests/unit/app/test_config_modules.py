"""Modules that only a text names are read like those that the app imports."""

from __future__ import annotations

from pathlib import Path

import pytest
from app_folders import FACTORY, FLASK, IMPORT, find

CONFIG = (
    "import os\nclass DevConfig:\n    SECRET_KEY = os.environ.get('KEY', 'x')\nclass ProdConfig(DevConfig):\n    pass\n"
)
BY_ARGUMENT = FACTORY.replace("create_app()", "create_app(name)").replace(
    "    return", "    app.config.from_object(name)\n    return"
)


@pytest.mark.parametrize(
    ("app", "keys"),
    [
        (f"{FLASK}app.config.from_object('shop.config.DevConfig')\n", {}),
        (f"import os\n{FLASK}app.config.from_object(os.getenv('SETTINGS', 'shop.config.ProdConfig'))\n", {}),
        (f"{FLASK}app.config.from_object('shop.config')\n", {}),
        (BY_ARGUMENT, {"wsgi": "app:create_app('shop.config.DevConfig')"}),
    ],
)
def test_a_configuration_that_a_text_names_is_read(tmp_path: Path, app: str, keys: dict[str, str]) -> None:
    files = {"app.py": app, "shop/__init__.py": "", "shop/config.py": CONFIG}
    assert find(tmp_path, files, **keys).recipe.random_secrets == ("KEY",)


def test_other_texts_name_no_module(tmp_path: Path) -> None:
    files = {"app.py": f"{FLASK}app.config.from_mapping(A='config')\n", "config.py": CONFIG}
    assert find(tmp_path, files).recipe.random_secrets == ()


def test_a_class_for_development_is_noted_if_there_is_one_for_production(tmp_path: Path) -> None:
    files = {"app.py": BY_ARGUMENT, "shop/__init__.py": "", "shop/config.py": CONFIG}
    notes = find(tmp_path, files, wsgi="app:create_app('shop.config.DevConfig')").notes
    line = "wsgi: \"app:create_app('shop.config.ProdConfig')\""
    assert f"warning: DevConfig is for development; to use ProdConfig, write  {line}" in notes
    notes = find(tmp_path, files, wsgi="app:create_app('shop.config.ProdConfig')").notes
    assert not any("is for development" in note for note in notes)
    notes = find(
        tmp_path / "other",
        {"app.py": f"{IMPORT}def create_app(a): return Flask(a)\n"},
        wsgi="app:create_app('a.DevConfig')",
    ).notes
    assert not any("is for development" in note for note in notes)
