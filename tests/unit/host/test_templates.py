"""Templates of texts that are no HTML."""

from __future__ import annotations

import jinja2
import pytest
from conftest import REPOSITORY

from bake.host.templates import render

FOLDER = REPOSITORY / "cloud-init"
TEMPLATES = sorted(FOLDER.rglob("*.j2"))


def test_a_value_stays_as_it_is() -> None:
    text = render("release/nginx/location.conf.j2", prefix="/a&b<c", folder='/srv/"x"')
    assert text.startswith("location ^~ /a&b<c/ {\n") and 'alias /srv/"x"/;\n' in text and text.endswith("}\n")


def test_a_missing_value_is_an_error() -> None:
    with pytest.raises(jinja2.UndefinedError):
        render("release/nginx/location.conf.j2", prefix="/static")


@pytest.mark.parametrize("name", [str(path.relative_to(FOLDER)) for path in TEMPLATES])
def test_each_template_is_in_use(name: str) -> None:
    sources = [*(REPOSITORY / "bake").rglob("*.py"), *TEMPLATES]
    assert any(f'"{name}"' in source.read_text() for source in sources)
