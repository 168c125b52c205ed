"""Build tracebacks, and the texts of the cures that tests expect for them."""

from __future__ import annotations

from conftest import REPOSITORY

from bake.diagnosis.diagnosis import diagnose

#: What Python, frameworks and libraries print, with the paths of a machine.
JOURNALS = REPOSITORY / "tests" / "unit" / "journals"
SOURCE = "/srv/app/current/source"
LIBRARY = "/srv/app/current/venv/lib/python3.13/site-packages"


def trace(raised: str, *files: str, code: str = "") -> str:
    """A traceback that goes through these files, with a last line of code."""
    frames = "".join(f'  File "{file}", line 7, in load\n' for file in (f"{SOURCE}/shop/__init__.py", *files))
    return f"Traceback (most recent call last):\n{frames}    {code or 'load()'}\n{raised}\n"


def cure(log: str) -> str:
    """The text to show, without the exception."""
    found = diagnose(log)
    return found.text.removeprefix(found.exception.text if found.exception else "").strip()


def secret(name: str) -> str:
    return (
        "During a bake, a secret has a random value. To set another one, write "
        f"check: {{env: {{{name}: …}}}}.\nAdd to bake.yaml:  secrets: [{name}]"
    )


def plain(name: str) -> str:
    return (
        f"Replace … by the value of {name}. To set a value only for the bake, write check: {{env: {{{name}: …}}}}.\n"
        f"Add to bake.yaml:  env: {{{name}: …}}"
    )


def service(name: str, variable: str) -> str:
    return (
        f"The app connects to {name}. The machine does not run it, and the network is closed during a bake. Replace "
        f"… by the address of a server for the bake, and {variable} by the app's own variable if it has another name. "
        f"The address for a machine belongs in /etc/app/secrets.env.\nAdd to bake.yaml:\n  secrets: [{variable}]\n"
        f"  check: {{network: on, env: {{{variable}: …}}}}"
    )


EXCLUDED = "It may be excluded by .gitignore, .bakeignore or bake's own list; bake prints the excluded files."
TABLES = "The database has no tables yet."
FLASK_TABLES = (
    "Replace … by the command that creates them, such as `flask db upgrade`, `flask init-db` or `python "
    "create_db.py`. It runs with each release. If bake finds the command, it prints a line that runs it once.\n"
    "Add to bake.yaml:  release: […]"
)
OTHER_TABLES = (
    "Replace … by the command that creates them, such as `alembic upgrade head` or `python create_db.py`. It runs "
    "with each release. If bake finds the command, it prints a line that runs it once.\nAdd to bake.yaml:  release: […]"
)
SERVER = 'The app starts its own server on import. Move that call under `if __name__ == "__main__":`.'
NETWORK = "The app uses the network, which is closed during a bake.\nAdd to bake.yaml:  check: {network: on}"
SQLITE = (
    "SQLite cannot write its file. Replace … by the folder of the app that contains it.\n"
    "Add to bake.yaml:  writable: […]"
)
JIT = (
    "The app needs writable and executable memory, as just-in-time compilers do.\n"
    "Add to bake.yaml:  sandbox: {allow: [jit]}"
)
