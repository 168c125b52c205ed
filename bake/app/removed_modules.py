"""Find imports of modules that newer Pythons or setuptools no longer have: an older one, or a package, has them."""

from __future__ import annotations

import ast
from collections.abc import Iterable

from bake.app import variables
from bake.app.distributions import requirement
from bake.app.import_roots import required_names
from bake.app.name_resolution import Reader
from bake.app.scopes import Module
from bake.errors import RequirementError

#: Modules of Python 3.11, and the version that no longer has them. Debian 12 has 3.11.
REMOVED = {
    **dict.fromkeys(("asynchat", "asyncore", "distutils", "imp", "smtpd"), (3, 12)),
    **dict.fromkeys(
        (
            "aifc", "audioop", "cgi", "cgitb", "chunk", "crypt", "imghdr", "mailcap", "nntplib", "pipes", "sndhdr",
            "spwd", "sunau", "telnetlib", "uu", "xdrlib",
        ),
        (3, 13),
    ),
}  # fmt: skip
#: A module of setuptools before 82. Until Python 3.12 each new virtualenv had setuptools.
PKG_RESOURCES = "pkg_resources"
#: Modules that usual packages contain, perhaps as requirements of others: distutils is in setuptools.
ELSEWHERE = {"distutils"}


def require_none(reader: Reader, modules: Iterable[Module]) -> None:
    """Raise RequirementError for an import without a condition, unless the app or its requirements have the module."""
    removed = {name for name, version in REMOVED.items() if reader.python >= version} - ELSEWHERE | {PKG_RESOURCES}
    removed = (removed - {*reader.modules}) & reader.imported_packages
    names = required_names(reader) if removed else set()
    # Packages with such modules have names like legacy-cgi, standard-telnetlib and audioop-lts.
    removed = {name for name in removed if not any(name in required for required in names)}
    if not names or "setuptools" in names:
        removed.discard(PKG_RESOURCES)
    for module in modules:
        for statement in variables.unconditional(
            reader.tree(module).body if module.imported_packages & removed else []
        ):
            for name in _imported(statement):
                if name in removed:
                    raise _error(f"{module.path}:{statement.lineno} imports {name}", name, reader.python)


def _error(what: str, name: str, python: tuple[int, int]) -> RequirementError:
    if name == PKG_RESOURCES:
        return RequirementError(
            f"{what}, which the requirements do not contain", f"Add {requirement(name)} to the app's requirements."
        )
    return RequirementError(
        f"{what}, which Python {'{}.{}'.format(*python)} no longer has",
        "Remove it, require a package that contains it, or write `base: debian-12` in bake.yaml.",
    )


def _imported(statement: ast.stmt) -> list[str]:
    """Return the first parts of the names of the modules that a statement imports."""
    match statement:
        case ast.Import():
            return [alias.name.partition(".")[0] for alias in statement.names]
        case ast.ImportFrom(level=0):
            return [(statement.module or "").partition(".")[0]]
    return []
