"""Old Flask finds the commands of extensions by setuptools, which its requirements do not name."""

from __future__ import annotations

import pytest

from bake.app import flask_commands
from bake.app.requirement_line import Line


def line(text: str, constraint: bool = False) -> Line:
    return Line(text, "requirements.txt:1", text.partition("=")[0].partition("<")[0].strip(), constraint)


@pytest.mark.parametrize("flask", ["flask==1.1.2", "flask<2.1", "flask==2.0.*"])
def test_old_flask_gets_setuptools(flask: str) -> None:
    notes: list[str] = []
    lines = flask_commands.served([line(flask), line("flask-migrate==2.5.3")], notes)
    assert [each.text for each in lines] == [flask, "flask-migrate==2.5.3", "setuptools<82"]
    assert len(notes) == 1 and "setuptools<82" in notes[0] and "requirements.txt:1" in notes[0]


@pytest.mark.parametrize(
    "lines",
    [
        [line("flask==2.1.0")],
        [line("flask<3")],
        [line("flask")],
        [line("flask-migrate==1.0")],
        [line("flask==1.1.2"), line("setuptools==70")],
    ],
)
def test_other_apps_get_nothing(lines: list[Line]) -> None:
    notes: list[str] = []
    assert flask_commands.served(lines, notes) == lines and notes == []


def test_a_constraint_of_setuptools_installs_nothing() -> None:
    lines = [line("flask==1.1.2"), line("setuptools==70", constraint=True)]
    assert [each.text for each in flask_commands.served(lines, [])][-1] == "setuptools<82"
