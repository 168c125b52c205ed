"""Requirements that a machine never needs are left out with the reason."""

from __future__ import annotations

import pytest

from bake.app import unneeded_packages


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("uWSGI", "the machine's own server serves the app"),
        ("mod_wsgi", "the machine's own server serves the app"),
        ("pkg_resources", "Debian's pip lists it by mistake; it is a part of setuptools"),
        ("pywin32", "it is only for Windows"),
        ("pyobjc-framework-Cocoa", "it is only for macOS"),
        ("backports.zoneinfo", "Python 3.13 contains it"),
        ("enum34", "Python 3.13 contains it"),
        ("flask", ""),
        ("gunicorn", ""),
        ("colorama", ""),
    ],
)
def test_a_package_that_no_machine_needs_has_a_reason(name: str, reason: str) -> None:
    assert unneeded_packages.reason(name, (3, 13)) == reason


def test_a_backport_is_needed_by_an_older_python() -> None:
    assert unneeded_packages.reason("backports-zoneinfo", (3, 8)) == ""
