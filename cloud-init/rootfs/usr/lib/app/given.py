"""Read the settings that a user or a launch writes into /etc/app.

An invalid line is ignored and reported, and the site stays up. app-configure writes the faults to /run/app/faults,
app-setup prints them to the console and the journal, and `bake check` fails with them.
"""

import re
from pathlib import Path

#: A valid line: one value, and optionally a comment.
LINE = r"[ \t]*(%s)[ \t\r]*(?:#.*)?(?:\n|$)"
#: Names in ASCII of at most 253 characters (RFC 1123, RFC 1035). A wildcard stands for one level.
DOMAIN = re.compile(
    LINE % r"(?!\S{254})(?:\*\.)?(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z][a-z0-9-]{0,61}[a-z0-9]", re.I
)
EMAIL = re.compile(LINE % r"[^@\s]+@[^@\s]+\.[^@\s]+")
#: The syntax of an EnvironmentFile, systemd.exec(5), where a quoted value may have several lines. Unlike there, nothing
#: may follow a closing quote, so that an unclosed quote invalidates only its own line. Also invalid are NUL, bytes that
#: are not UTF-8, and the names of variables that the machine sets.
ASSIGNMENT = re.compile(
    LINE % r"""(?!APP_(?:RELEASE|WORKERS|NEXT)\b)[A-Za-z_]\w*[ \t]*=[ \t]*"""
    r"""(?:(?:"(?:\\[\s\S]|[^"\\])*"|'[^']*')+|(?:[^\s"'\\]|\\[\s\S])(?:\\[\s\S]|[^\\\n\r])*|)""",
    re.A,
)


def read(root: Path, name: str, right: re.Pattern, what: str, faults: list[str]) -> list[str] | None:
    """Return the valid values of a file in /etc/app, and append the faults of the others to `faults`.

    Returns None if there is no file, or if it has faults and no valid value. `right` matches a valid value, and `what`
    names it. A fault contains the line's number, but not its text, which may be a secret.
    """
    path = root / "etc/app" / name
    try:
        text = path.read_bytes().decode("utf-8-sig", "replace")
    except OSError as problem:
        if path.exists():
            faults.append(f"/etc/app/{name}: {problem.strerror}")
        return None
    values, wrong, at = [], [], 0
    while at < len(text):
        end = text.find("\n", at) + 1 or len(text)
        if (match := right.match(text, at)) and not re.search("[\0\ufffd]", match[1]):
            values.append(match[1])
            end = match.end()
        elif text[at:end].strip()[:1] not in ("", "#", ";"):
            number = text.count("\n", 0, at) + 1
            wrong.append(f"/etc/app/{name}, line {number}: not {what}, so ignored")
        at = end
    faults += wrong
    return None if wrong and not values else values
