"""The tables of frameworks."""

from __future__ import annotations

from bake.app.frameworks import ASGI_MAKERS, FRAMEWORKS, WSGI_MAKERS


def test_no_call_creates_both_kinds_of_app() -> None:
    assert not WSGI_MAKERS & ASGI_MAKERS


def test_a_framework_is_the_package_that_its_calls_are_in() -> None:
    assert {"flask", "django", "fastapi", "web"} <= FRAMEWORKS
    assert all(any(maker.startswith(f"{name}.") for maker in WSGI_MAKERS | ASGI_MAKERS) for name in FRAMEWORKS)
