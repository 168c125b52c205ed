"""The documentation: everything a person can use is described, and every page can be reached."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import click
import pytest
from conftest import REPOSITORY

from bake.aws import policy
from bake.config import contract, loader
from bake.config.providers import PROVIDERS
from bake.errors import BakeError

DOCS = REPOSITORY / "docs"


def load() -> ModuleType:
    """Load the generator of the reference pages, which Sphinx loads by its path too."""
    spec = importlib.util.spec_from_file_location("_generate", DOCS / "_generate.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


generate = load()
COMMANDS = list(generate.commands())
PAGES = sorted(path for path in DOCS.rglob("*.md") if "_build" not in path.parts)
REFERENCE = [path for path in PAGES if path.parent.name == "reference"]
READABLE = [*PAGES, *sorted(REPOSITORY.glob("*.md")), *sorted((REPOSITORY / "examples").rglob("*.md"))]
EMPTY_LINK = re.compile(r"(?<!!)\[\s*\]\([^)]*\)")
DIRECTIVE = re.compile(r"^ *(?:`{3,}|:{3,})\{([a-z-]+)\}", re.M)


def page(name: str) -> str:
    """Return the text of a reference page, with its generated parts."""
    return (DOCS / "reference" / f"{name}.md").read_text()


def written(path: Path) -> str:
    """Return a page without its generated parts."""
    return str(generate.MARKER.sub("", path.read_text()))


@pytest.mark.parametrize(("name", "command"), COMMANDS, ids=[name for name, _ in COMMANDS])
def test_a_command_and_its_options_have_a_help_text(name: str, command: click.Command) -> None:
    assert command.help
    for option, told in generate.options(name, command):
        assert re.sub(r"\[.*\]", "", told).strip(), f"bake {name} {option} has no help"


def test_the_page_of_the_command_line_has_every_command_and_option() -> None:
    text = page("cli")
    for name, command in COMMANDS:
        section = text.partition(f"## bake {name}\n")[2].partition("\n## ")[0]
        for option in command.params:
            if isinstance(option, click.Option):
                assert option.opts[-1] in section, f"bake {name} {option.opts[-1]}"


def test_a_key_of_bake_yaml_has_a_description() -> None:
    described = {key: description for key, _, _, description in generate.recipe_keys()}
    assert [key for key, description in described.items() if not description] == []
    assert {"limits.body", "certificate.dns.server", "timers.NAME.run", "check.pages[].path"} <= set(described)
    assert {"django.media", "writable.observe", "base.sha512", "app.sha256"} <= set(described)


def test_the_page_of_bake_yaml_has_every_key_with_an_example() -> None:
    text, examples = page("bake-yaml"), generate.examples()
    for key, *_ in generate.recipe_keys():
        assert f"| `{key}` |" in text
        if "." not in key and "[" not in key:
            assert key in examples, f"bake.example.yaml does not show {key}"


@pytest.mark.parametrize("kind", generate.kinds(), ids=lambda kind: kind.__name__)
def test_an_exit_code_has_a_description(kind: type[BakeError]) -> None:
    line = re.search(rf"^\| {kind.code} \| `{kind.__name__}` \| (.+) \|$", page("exit-codes"), re.M)
    assert line and len(line[1]) > 10


@pytest.mark.parametrize("name", sorted(PROVIDERS))
def test_a_provider_has_a_page_that_says_its_source_and_whether_it_was_tried(name: str) -> None:
    assert f"`{name}`" in page("providers")
    text = (DOCS / "how-to" / "providers" / f"{name}.md").read_text()
    assert re.search(r"\b[Uu]ntried\b|\b[Tt]ried\b", text)
    assert re.search(r"https://\S+", text) and re.search(r"\b20\d\d-\d\d-\d\d\b", text)
    assert f"--provider {name}" in text


@pytest.mark.parametrize("command", sorted(policy.STATEMENTS))
def test_a_policy_is_on_its_page(command: str) -> None:
    section = page("iam-policies").partition(f"## {command}\n")[2].partition("\n## ")[0]
    assert all(f"`{action}`" in section for action in policy.actions(command))


def test_a_marker_names_a_generator_and_each_generator_is_used() -> None:
    used = [name for path in PAGES for name, _ in generate.MARKER.findall(path.read_text())]
    assert sorted(used) == sorted(generate.GENERATORS)


@pytest.mark.parametrize("path", REFERENCE, ids=lambda path: path.stem)
def test_the_generated_tables_of_a_page_are_current(path: Path) -> None:
    text = path.read_text()
    assert generate.fill(text) == text, f"{path} is out of date; run: python docs/_generate.py"


def test_the_schema_of_the_contract_is_current() -> None:
    assert generate.contract_schema() == generate.SCHEMA.read_text(), "run: python docs/_generate.py"


def test_the_page_of_the_contract_has_every_file_and_name() -> None:
    text = page("contract")
    assert all(f"### {path}\n" in text for path in generate.CONTRACT_FILES)
    assert all(f"| `{name}` |" in text for name in vars(contract) if name.isupper())


def test_a_changed_generated_table_is_found() -> None:
    text = page("exit-codes")
    assert generate.fill(text.replace("| 2 |", "| 3 |")) == text


@pytest.mark.parametrize("path", READABLE, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_a_link_has_a_text(path: Path) -> None:
    """GitHub shows a link without a text as nothing; only Sphinx fills in the title."""
    assert EMPTY_LINK.findall(path.read_text()) == []


def test_a_link_without_a_text_is_found() -> None:
    assert EMPTY_LINK.findall("see [](a.md#b) and [ ](c.md), but not [c](d.md)") == ["[](a.md#b)", "[ ](c.md)"]


@pytest.mark.parametrize("path", READABLE, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_only_the_list_of_pages_needs_sphinx(path: Path) -> None:
    """GitHub shows a MyST directive as raw text. A toctree is allowed: it names the pages."""
    assert set(DIRECTIVE.findall(path.read_text())) <= {"toctree", "include"}


def test_a_file_of_the_machine_is_on_its_page() -> None:
    text = page("machine")
    for path in generate.ROOTFS.rglob("*"):
        if path.is_file() and not path.is_symlink():
            assert f"`/{path.relative_to(generate.ROOTFS)}`" in text


def toctree(path: Path) -> set[Path]:
    """Return the pages that a page's toctrees name."""
    found = set()
    for block in re.findall(r"^(?:```|:::)\{toctree\}\n(.*?)^(?:```|:::)$", path.read_text(), re.M | re.S):
        for line in filter(None, map(str.strip, block.splitlines())):
            if not line.startswith(":"):
                name = re.sub(r"^.*<(.+)>$", r"\1", line)
                matches = sorted(path.parent.glob(f"{name}.md"))
                assert matches, f"{path}: the toctree names {name}, which does not exist"
                found |= set(matches) - {path}
    return found


def test_every_page_is_in_a_toctree_and_has_a_title() -> None:
    reached = {DOCS / "index.md"}.union(*(toctree(path) for path in PAGES))
    assert [path.relative_to(DOCS) for path in PAGES if path not in reached] == []
    for path in PAGES:
        text = path.read_text()
        assert text.startswith("# ") or "{include}" in text, f"{path} has no title"


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(DOCS)))
def test_a_page_links_to_each_page_of_its_toctree(path: Path) -> None:
    links = {(path.parent / target).resolve() for target in re.findall(r"\]\(([^)#:]+\.md)", path.read_text())}
    assert toctree(path) <= links


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"])
def test_a_page_outside_of_docs_links_to_files_that_exist(name: str) -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", (REPOSITORY / name).read_text()):
        assert (REPOSITORY / target).exists(), f"{name} links to {target}"


def test_the_readme_has_the_two_commands() -> None:
    readme = (REPOSITORY / "README.md").read_text()
    assert "\nsh setup.sh && .venv/bin/nox -s bake\n" in readme
    assert "\nsh setup.sh && .venv/bin/nox -s tests\n" in readme
    assert len(readme.splitlines()) <= 165


def test_the_readme_s_bake_yaml_is_valid(tmp_path: Path) -> None:
    block = (REPOSITORY / "README.md").read_text().partition("```yaml\n")[2].partition("```")[0]
    (tmp_path / "bake.yaml").write_text(block)
    assert loader.read(tmp_path).domains == ("shop.example", "www.shop.example")


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(DOCS)))
def test_an_example_of_bake_yaml_on_a_page_is_valid(path: Path, tmp_path: Path) -> None:
    for block in re.findall(r"^```yaml\n(.*?)^```$", written(path), re.M | re.S):
        if block.startswith("#cloud-config") or "…" in block:
            continue
        (tmp_path / "bake.yaml").write_text(block)
        loader.read(tmp_path)


@pytest.mark.parametrize("path", [*PAGES, REPOSITORY / "README.md"], ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_a_command_on_a_page_exists_with_its_options(path: Path) -> None:
    commands = dict(COMMANDS)
    for name, words in re.findall(r"(?<![\w/-])bake ([a-z][a-z-]*)((?: [^\s`|;>)(]+)*)", _console(path.read_text())):
        assert name in commands, f"{path}: bake {name}"
        known = {option for param in commands[name].params for option in param.opts} | {"--help"}
        for option in re.findall(r"(?<= )--?[a-z][a-z-]*", words):
            assert option in known, f"{path}: bake {name} {option}"


def _console(text: str) -> str:
    """Return the commands of a page: the blocks of consoles, and code within lines."""
    blocks = re.findall(r"^ *```(?:console|sh)\n(.*?)^ *```$", text, re.M | re.S)
    inline = re.findall(r"`(bake [^`]+)`", re.sub(r"^ *```.*?^ *```$", "", text, flags=re.M | re.S))
    return re.sub(r"#.*", "", "\n".join([*blocks, *inline]))


def test_each_finding_of_the_security_review_names_tests_that_exist() -> None:
    lines = (DOCS / "project/review.md").read_text().splitlines()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if re.match(r"\| \d+ \|", line)]
    assert [int(number) for number, *_ in rows] == list(range(1, 47))
    for number, _, state, proof in rows:
        assert "`" in proof or not state.startswith("fixed"), f"finding {number} is fixed, and names no test"
    names = re.findall(r"`((?:unit|machine|proof|system)/[\w./-]*|test_\w+\.py)`", "\n".join(lines))
    assert len(names) > 60
    assert [name for name in names if not (REPOSITORY / "tests" / name).exists()] == []
