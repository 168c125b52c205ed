"""Find private keys and tokens in the files that a release would contain.

Only credentials with a form of their own are recognized: keys that begin with a header, and tokens that begin with the
prefix of the service. A password cannot be told from another word.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from bake.app import ignore
from bake.config.loader import FILE_NAME
from bake.config.recipe import Recipe
from bake.errors import AppFolderError, SecretError


class Kind(NamedTuple):
    """A kind of secret: its name, words of which each such text has one, and a pattern whose group 1 is secret."""

    name: str
    words: tuple[bytes, ...]
    pattern: re.Pattern[bytes]


class Secret(NamedTuple):
    """A secret in a file: its line, the name of its kind, and its value."""

    line: int
    kind: str
    value: bytes


def _kind(name: str, words: str, pattern: str) -> Kind:
    return Kind(name, tuple(words.encode().split()), re.compile(pattern.encode()))


#: Text between the header of a PEM file and its first line, also as a string with escapes or as a comment.
_GAP = r"(?:\\[nr]|[\s\"'+,(\\#|>*]|(?:Proc-Type|DEK-Info|Version|Comment|Hash): [^\r\n\\\"']{0,100})*"
_AWS_SECRET = r"([A-Za-z0-9/+]{40})(?![A-Za-z0-9/+=])"
KINDS = (
    # Also OpenSSH's and PGP's, and that of a service account at Google.
    _kind(
        "a private key", "PRIVATE",
        rf"-----BEGIN (?:[A-Z0-9]+ ){{0,2}}PRIVATE KEY(?: BLOCK)?-----{_GAP}([A-Za-z0-9+/=]{{40,}})",
    ),
    _kind(
        "a private key of PuTTY", "PuTTY-User-Key-File-",
        r"PuTTY-User-Key-File-\d: [\s\S]{0,4000}?Private-Lines: \d+\s+([A-Za-z0-9+/=]{40,})",
    ),
    _kind("a private key of age", "AGE-SECRET-KEY-", r"\bAGE-SECRET-KEY-(?:PQ-)?1([A-Z0-9]{58,})"),
    _kind(
        "a secret access key of AWS", "AKIA ASIA",
        rf"\b(?:AKIA|ASIA)[A-Z2-7]{{16}}\b[\s\S]{{0,200}}?(?<![A-Za-z0-9/+=]){_AWS_SECRET}",
    ),
    _kind(
        "a secret access key of AWS", "ecret ECRET",
        rf"(?i:aws_?secret\w*|secret_?access_?key\w*)[\"']?\s*[:=]\s*[\"']?{_AWS_SECRET}",
    ),
    _kind("a token of GitHub", "ghp_ gho_ ghu_ ghs_ ghr_", r"\bgh[opsur]_([A-Za-z0-9]{36,255})\b"),
    _kind("a token of GitHub", "github_pat_", r"\bgithub_pat_(\w{82})\b"),
    _kind("a token of GitLab", "glpat-", r"\bglpat-([\w.-]{20,})"),
    _kind("a token of Slack", "xox", r"\bxox[abeoprs]-(?:\d+-)+([A-Za-z0-9]{16,})"),
    _kind(
        "a webhook of Slack", "hooks.slack.com", r"hooks\.slack\.com/services/T[A-Z0-9]+/B[A-Z0-9]+/([A-Za-z0-9]{20,})"
    ),
    _kind("a live key of Stripe", "_live_", r"\b[sr]k_live_([A-Za-z0-9]{20,})"),
    _kind("a key of OpenAI", "sk-proj- sk-svcacct- sk-admin-", r"\bsk-(?:proj|svcacct|admin)-([\w-]{40,})"),
    _kind("a key of Anthropic", "sk-ant-", r"\bsk-ant-[a-z0-9]+-([\w-]{40,})"),
    _kind("a token of DigitalOcean", "dop_v1_ doo_v1_ dor_v1_", r"\bdo[opr]_v1_([0-9a-f]{64})\b"),
    _kind("a key of SendGrid", "SG.", r"\bSG\.[\w-]{22}\.([\w-]{43})"),
    _kind("a token of PyPI", "pypi-", r"\bpypi-AgE([\w-]{50,})"),
    _kind("a token of npm", "npm_", r"\bnpm_([A-Za-z0-9]{36})\b"),
)  # fmt: skip
#: Files that a running app does not read, below its folder: tests and documents. Their keys are mostly examples.
UNUSED = re.compile(r"(?i)(?:^|/)(?:(?:tests?|docs?)/|(?:test_[^/]*|[^/]*_test|conftest)\.py$|[^/]*\.(?:md|rst)$)")
#: Parts of values that documentation shows in the place of a secret.
PLACEHOLDER = re.compile(rb"(?i)example|placeholder|your|xxxx|abcdefg|1234567")
#: Minimum number of different characters in a secret.
VARIETY = 8
#: Bytes to read before a file with a NUL byte counts as binary.
SAMPLE = 8192


def exclude(folder: Path, source_paths: Iterable[Path]) -> list[str]:
    """Return the tests and documents with secrets among the files of an app's `folder`. A release excludes them.

    A line `!/PATH` in .bakeignore allows the secrets of a file. It has to name the file: a pattern does not allow them.

    Raises SecretError with the file, the line and the kind of each secret in other files.
    """
    secrets = {
        path.relative_to(folder).as_posix(): places
        for path in source_paths
        if path.is_file() and not path.is_symlink()
        if (places := _places(_find(path))) and not ignore.allows(folder, path)
    }
    excluded = [name for name in secrets if UNUSED.search(name)]
    if names := [name for name in secrets if name not in excluded]:
        raise _error(folder, {name: secrets[name] for name in names})
    return excluded


def require_public_settings(folder: Path, recipe: Recipe) -> None:
    """Raise SecretError if bake.yaml in `folder` has a secret that becomes part of the release, such as one in `env`.

    `check.env` does not, nor do comments. A line `!/bake.yaml` in .bakeignore allows them.
    """
    path = folder / FILE_NAME
    if path.is_file() and not ignore.allows(folder, path):
        settings = recipe.model_dump_json(exclude={"check": {"env"}}).encode()
        if places := _places(secret for secret in _find(path) if secret.value in settings):
            raise _error(folder, {FILE_NAME: places})


def _places(secrets: Iterable[Secret]) -> list[tuple[int, str]]:
    """Return the line and the kind of each secret, once."""
    return sorted({(each.line, each.kind) for each in secrets})


def _error(folder: Path, secrets: Mapping[str, list[tuple[int, str]]]) -> SecretError:
    lines = [f"{name}:{line}: {kind}" for name, places in secrets.items() for line, kind in places]
    count = "a secret" if len(lines) == 1 else f"{len(lines)} secrets"
    return SecretError(
        f"The app's folder contains {count}, which the release would contain",
        "Remove each from its file, and replace it where it is valid, since others may have seen it. The machine gets "
        "secrets at launch: list their names under `secrets` in bake.yaml. If the app does not need a file, add its "
        f"path to .bakeignore. If a secret is public, such as a key for examples, allow its file in "
        f"{folder}/.bakeignore: " + " and ".join(f"`!/{name}`" for name in secrets),
        "\n".join(lines),
    )


def _find(path: Path) -> Iterator[Secret]:
    """Yield each secret in a file. Raises AppFolderError if it cannot be read."""
    try:
        content = _text(path)
    except OSError as error:
        raise AppFolderError(
            f"{path} cannot be read: {error.strerror}", "Change its mode, or exclude it in .bakeignore."
        ) from None
    for kind in KINDS:
        if any(word in content for word in kind.words):
            for match in kind.pattern.finditer(content):
                if len(set(match[1])) >= VARIETY and not PLACEHOLDER.search(match[1]):
                    yield Secret(content.count(b"\n", 0, match.start(1)) + 1, kind.name, match[1])


def _text(path: Path) -> bytes:
    """Return a file's text in UTF-8 or a similar encoding, or nothing of a binary file."""
    with path.open("rb") as stream:
        sample = stream.read(SAMPLE)
        # PowerShell and older editors of Windows write UTF-16.
        if sample.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            return (sample + stream.read()).decode("utf-16", "replace").encode()
        return b"" if b"\0" in sample else sample + stream.read()
