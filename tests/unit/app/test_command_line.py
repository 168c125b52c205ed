"""Command lines, taken apart."""

from __future__ import annotations

import pytest

from bake.app import command_line


@pytest.mark.parametrize(
    ("command", "folder", "program"),
    [
        ("python app.py", "", "python"),
        ("cd backend && python app.py", "backend", "python"),
        ("env A=1 exec python3.12 -u app.py", "", "python3.12"),
        ("cd backend; python app.py", "", "cd"),
        ("python 'app.py", "", ""),
        ("", "", ""),
    ],
)
def test_the_folder_and_the_program_of_a_command(command: str, folder: str, program: str) -> None:
    words = command_line.split(command)
    assert (command_line.first_folder(words), command_line.program(words)) == (folder, program)
