"""Messages, docstrings and the documentation use the plain words of the field, without the idioms listed here."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import REPOSITORY

PACKAGE = REPOSITORY / "bake"
#: Idioms that have a plain equivalent, and that correct prose does not contain.
IDIOMS = {
    r"that (is|are) none": "invalid, or the reason",
    r"of (ours|theirs|somebody's)": "the noun: the instances that bake created",
    r"of bake's(?= in\b|[.,:;)]|$)": "the noun: an image that bake made",
    r"(is|are|was|were) said": "the actor: bake prints, the journal names",
    r"nobody knows": "unknown",
    r"whose limit": "the limit of",
    r"whom to": "the user to",
    r"goes without saying": "nothing",
    r"says? no why": "no reason given",
    r"no better word": "unexpected",
    r"knows nothing of": "does not support",
    r"cannot be had": "is unavailable, cannot be fetched",
    r"(own )?words are above": "output is above",
    r"asked anew": "retried",
    r"(said|told|says?) so": "reported, prints a warning",
    r"says why": "see, shows the reason",
    r"(is|are|was|were) told": "configured, or the actor: bake passes",
    r"(own|uv's|pip's|Packer's) words": "the command, the output",
    r"mend(s|ed)?": "correct, fix, repair",
    r"not well": "unhealthy",
    r"left (out|aside)": "excluded, omitted, ignored, not set",
    r"goes? without": "lacks, needs",
    r"for want of": "because there is no",
    r"in vain": "without effect",
    r"(came|comes?) near": "the candidates",
    r"(held|holds?) fast": "pin",
    r"likeliest": "most likely",
    r"dearest": "most important",
    r"whoever": "everyone who, a user with",
    r"(some|any)body": "a user, everyone, other users",
    r"has the last word": "overrides",
    r"for ever": "forever",
    r"all the same": "still, anyway",
    r"(can|to) be had": "available",
    r"is(n't| not)? at work": "is running",
    r"leads? nowhere": "is broken",
}
PATTERN = re.compile(rf"\b({'|'.join(IDIOMS)})(?=[\s.,:;)`]|$)", re.IGNORECASE)
SOURCES = [path for path in sorted(PACKAGE.rglob("*.py")) if path.relative_to(PACKAGE).parts[0] != "tree"]
PAGES = [*sorted(path for path in (REPOSITORY / "docs").rglob("*.md") if "_build" not in path.parts)]
PAGES += [*REPOSITORY.glob("*.md"), *(REPOSITORY / "examples").rglob("*.md"), *(REPOSITORY / ".github").rglob("*.*")]
PAGES += [REPOSITORY / "bake.example.yaml", REPOSITORY / "action.yml"]
#: The files of the machine, and the programs around a bake. All of them are text.
FILES = [path for name in ("cloud-init", "packer") for path in sorted((REPOSITORY / name).rglob("*")) if path.is_file()]
FILES = [path for path in FILES if "__pycache__" not in path.parts]
FILES += [REPOSITORY / name for name in ("setup.sh", "noxfile.py", "docs/_generate.py", "docs/conf.py")]


def texts(source: str) -> Iterator[tuple[int, str]]:
    """Yield the line and the text of each string in a module, parts of f-strings included, and of each comment."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


def idioms(text: str) -> list[str]:
    """Return the idioms in a text, also across line ends and in comments of several lines."""
    return [match[0].lower() for match in PATTERN.finditer(" ".join(re.sub(r"\n\s*#:?\s", " ", text).split()))]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_a_file_of_the_machine_uses_no_idioms(path: Path) -> None:
    assert idioms(path.read_text()) == []


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_messages_docstrings_and_comments_use_no_idioms(path: Path) -> None:
    found = {line: said for line, text in texts(path.read_text()) if (said := idioms(text))}
    assert not found, "write plain technical English: the actor first, then what it does"


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_the_documentation_uses_no_idioms(path: Path) -> None:
    assert idioms(path.read_text()) == []


@pytest.mark.parametrize(
    ("source", "idiom"),
    [
        ('raise BakeError("A region that is none")', "that is none"),
        ('"""Return the machines of ours."""', "of ours"),
        ('note(f"what {thing} leaves out is said, once")', "is said"),
        ("def limit():\n    '''Return whose\n    limit counts.'''", "whose limit"),
        ('hint = "Its own words are above."', "own words are above"),
        ('message = f"{name} is no machine of bake\'s in {region}"', "of bake's"),
        ('hint = "Mend the line."', "mend"),
        ("limit = 3  # in vain without a network", "in vain"),
        ('note(f"{names} is left out, and bake goes on")', "left out"),
    ],
)
def test_an_idiom_is_found(source: str, idiom: str) -> None:
    assert [found for _, text in texts(source) for found in idioms(text)] == [idiom]


@pytest.mark.parametrize("text", ["one of bake's templates", "of course", "that is nonetheless checked"])
def test_correct_prose_passes(text: str) -> None:
    assert idioms(text) == []


def test_all_modules_and_pages_are_read() -> None:
    assert len(SOURCES) > 70 and len(PAGES) > 40 and len(FILES) > 100
    assert idioms("# The limit, and\n#: whose\n    # limit counts") == ["whose limit"]


#: Words that give a thing's grammatical role instead of its name (rule 6 of how we write).
ROLES = {"wanted", "parcel", "ground", "goal", "marks", "said", "told", "found", "given", "there", "made"}
#: Names that are keys of JSON or YAML.
KEYS = {("image/manifest.py", "made"), ("disk/base_manifest.py", "made")}
#: The machine's programs.
PROGRAMS = [path for path in FILES if path.suffix == ".py" or path.read_bytes().startswith(b"#!/usr/bin/python3")]


def names(tree: ast.Module) -> set[str]:
    """Return the names that a module defines: variables, parameters, attributes, functions and classes."""
    defined: set[str] = set()
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                defined.add(name)
            case ast.arg(arg=name) | ast.FunctionDef(name=name) | ast.ClassDef(name=name) | ast.alias(asname=str(name)):
                defined.add(name)
    return defined


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_names_say_what_a_thing_is(path: Path) -> None:
    keys = {name for place, name in KEYS if path.match(f"bake/{place}")}
    assert names(ast.parse(path.read_text())) & ROLES <= keys


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_names_in_the_machine_s_programs_say_what_a_thing_is(path: Path) -> None:
    assert not names(ast.parse(path.read_text())) & ROLES


def test_a_name_that_gives_a_role_is_seen() -> None:
    source = "def pack(wanted):\n    parcel = wanted\n    self.told = [found for found in parcel]\n"
    assert names(ast.parse(source)) & ROLES == {"wanted", "parcel", "told", "found"}
