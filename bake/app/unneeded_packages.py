"""List the requirements that a machine never needs: other systems' packages, servers, backports, pip's own faults."""

from __future__ import annotations

from packaging.utils import canonicalize_name

#: Servers that need a compiler, and that the machine's own server replaces.
SERVERS = frozenset({"bjoern", "meinheld", "mod-wsgi", "uwsgi"})
#: Packages that only have wheels for Windows or macOS.
OTHER_SYSTEMS = {
    "Windows": frozenset(
        {
            "pypiwin32", "pyreadline", "pywin32", "pywinpty", "windows-curses", "wincertstore", "winshell", "wmi",
        }
    ),
    "macOS": frozenset({"appscript", "macfsevents", "pyobjc", "pyobjc-core", "xattr-macos"}),
}  # fmt: skip
#: Packages, and the first Python whose own library contains their module.
BACKPORTS = {
    "argparse": (3, 2), "asyncio": (3, 4), "backports-ssl-match-hostname": (3, 5), "backports-zoneinfo": (3, 9),
    "contextvars": (3, 7), "dataclasses": (3, 7), "enum34": (3, 4), "functools32": (3, 2), "futures": (3, 2),
    "hashlib": (3, 0), "importlib": (3, 1), "multiprocessing": (3, 0), "ordereddict": (3, 1), "pathlib": (3, 4),
    "singledispatch": (3, 4), "ssl": (3, 0), "statistics": (3, 4), "subprocess32": (3, 3), "typing": (3, 5),
    "uuid": (3, 0), "wsgiref": (3, 0),
}  # fmt: skip


def reason(name: str, python: tuple[int, int]) -> str:
    """Return why the machine does not need a package under Python `python`, or "" if it may need it."""
    name = canonicalize_name(name)
    if name in SERVERS:
        return "the machine's own server serves the app"
    if name == "pkg-resources":
        return "Debian's pip lists it by mistake; it is a part of setuptools"
    for system, names in OTHER_SYSTEMS.items():
        if name in names or (system == "macOS" and name.startswith("pyobjc-framework-")):
            return f"it is only for {system}"
    if python >= BACKPORTS.get(name, (4, 0)):
        return f"Python {python[0]}.{python[1]} contains it"
    return ""
