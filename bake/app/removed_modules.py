"""Find imports of modules that newer Pythons no longer have: an older Python, or a package, has them."""

from __future__ import annotations

import ast
from collections.abc import Iterable

from bake.app import variables
from bake.app.import_roots import required_words
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
#: Modules that usual packages contain, perhaps as requirements of others: distutils is in setuptools.
ELSEWHERE = {"distutils"}


def require_none(reader: Reader, modules: Iterable[Module]) -> None:
    """Raise RequirementError for an import without a condition, unless the app or its requirements have the module."""
    removed = {name for name, version in REMOVED.items() if reader.python >= version} - ELSEWHERE - {*reader.modules}
    words = required_words(reader.folder) if removed else set()
    # Packages with such modules have names like legacy-cgi, standard-telnetlib and audioop-lts.
    removed = {name for name in removed if not any(name in word for word in words)}
    for module in modules:
        for statement in variables.unconditional(
            reader.tree(module).body if module.imported_packages & removed else []
        ):
            for name in _imported(statement):
                if name in removed:
                    python = "{}.{}".format(*reader.python)
                    raise RequirementError(
                        f"{module.path}:{statement.lineno} imports {name}, which Python {python} no longer has",
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
