"""The order of the packages: who may import whom, who may start programs, and that everything says what it is for."""

from __future__ import annotations

import ast
import graphlib
import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from conftest import REPOSITORY

PACKAGE = REPOSITORY / "bake"
#: From the ground up: a module imports only its own package and those that stand before it.
ORDER = (
    "errors", "host", "config", "app", "bundle", "diagnosis", "document", "disk", "vm", "verify", "image", "audit",
    "deploy", "aws", "cli", "__main__",
)  # fmt: skip
#: These name a stream or a process of `programs`, and so import `subprocess`; only `programs` calls anything of it.
NAME_PROCESSES = {"image.packer", "vm.qemu", "vm.ssh"}
HARMLESS = {"Popen", "PIPE", "STDOUT", "DEVNULL", "TimeoutExpired"}
#: The largest number of lines of a module. A longer one has more than one job.
LONGEST = 400
#: The most lines of a text in a module. A longer one is a program, a unit or settings, and so a file below cloud-init.
LONGEST_TEXT = 2
#: Modules with longer texts for a reader: lines to copy, and a new bake.yaml.
READ_BY_PEOPLE = {"app.scaffold", "image.host_requirements"}
#: Other ways to start a program.
STARTERS = ("system", "popen", "fork", "exec", "spawn", "posix_spawn", "create_subprocess")


def name_of(path: Path) -> str:
    """A module's name inside of bake: host.programs, or host for the package itself."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def package_of(name: str) -> str:
    """The place in the order of a module's name."""
    return name.split(".")[0]


MODULES = [
    path for path in sorted(PACKAGE.rglob("*.py")) if "tree" not in path.parts and path != PACKAGE / "__init__.py"
]
NAMES = {name_of(path) for path in MODULES}
by_name = pytest.mark.parametrize("path", MODULES, ids=name_of)


def imports(tree: ast.AST) -> set[str]:
    """Our own modules that a module imports, wherever it does."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.removeprefix("bake.") for alias in node.names if alias.name.startswith("bake.")}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide the order"
            if node.module == "bake":
                found |= {alias.name for alias in node.names}
            elif (node.module or "").startswith("bake."):
                module = (node.module or "").removeprefix("bake.")
                inside = {f"{module}.{alias.name}" for alias in node.names}
                found |= inside & NAMES or {module}
    return found - {"__version__"}


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def uses(tree: ast.AST, module: str) -> set[str]:
    """Names of a standard module's that are used."""
    found = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == module
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == module:
            found |= {alias.name for alias in node.names}
    return found


def imported(tree: ast.AST, module: str) -> bool:
    return any(
        (isinstance(node, ast.Import) and any(alias.name.split(".")[0] == module for alias in node.names))
        or (isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == module)
        for node in ast.walk(tree)
    )


@by_name
def test_imports_run_one_way(path: Path) -> None:
    package = package_of(name_of(path))
    assert package in ORDER, "give the new package its place in ORDER, and in docs/explanation/architecture.md"
    assert {package_of(name) for name in imports(parse(path))} <= {*ORDER[: ORDER.index(package) + 1]}


def test_no_modules_import_each_other_in_a_circle() -> None:
    tuple(graphlib.TopologicalSorter({name_of(path): imports(parse(path)) for path in MODULES}).static_order())


def test_the_order_would_be_noticed() -> None:
    late = "def late():\n  from bake import cli\n  from bake.host import programs\n  from bake.errors import BakeError"
    assert imports(ast.parse(late)) == {"cli", "host.programs", "errors"}
    assert imports(ast.parse("import bake.vm.qemu, os")) == {"vm.qemu"}


@by_name
def test_programs_is_the_one_door_to_other_programs(path: Path) -> None:
    name, tree = name_of(path), parse(path)
    if name == "host.programs":
        assert imported(tree, "subprocess")
        return
    assert not imported(tree, "subprocess") or name in NAME_PROCESSES
    assert uses(tree, "subprocess") <= HARMLESS
    called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "subprocess":
            assert id(node) not in called, f"line {node.lineno} calls subprocess.{node.attr}"
        if isinstance(node, ast.ImportFrom):
            assert node.module != "subprocess", "import the module, so that its uses can be seen"
    starters = {word for module in ("os", "asyncio") for word in uses(tree, module)}
    assert not {word for word in starters if word.startswith(STARTERS)}
    assert not imported(tree, "multiprocessing") and not imported(tree, "pty")


@by_name
def test_git_is_run_in_one_module(path: Path) -> None:
    """There, no configuration of a folder's is read."""
    argvs = [node.elts for node in ast.walk(parse(path)) if isinstance(node, ast.List | ast.Tuple)]
    words = [word.value for argv in argvs for word in argv if isinstance(word, ast.Constant)]
    assert ("git" in words) == (name_of(path) == "host.git")


@by_name
def test_boto3_is_known_to_aws_alone(path: Path) -> None:
    assert package_of(name_of(path)) == "aws" or not (
        imported(parse(path), "boto3") or imported(parse(path), "botocore")
    )


@by_name
def test_results_are_printed_by_the_command_line_alone(path: Path) -> None:
    if package_of(name_of(path)) == "cli":
        return
    for node in ast.walk(parse(path)):
        assert not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print")
        assert not (isinstance(node, ast.Attribute) and ast.unparse(node) == "sys.stdout")


@by_name
def test_a_module_says_what_it_is_for(path: Path) -> None:
    said = ast.get_docstring(parse(path))
    assert said
    assert len(said.splitlines()[0]) > 20
    assert said.rstrip().endswith((".", "…")) or "\n" in said


@by_name
def test_a_module_has_at_most_400_lines(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= LONGEST, "split it along its jobs, and its tests with it"


def texts(tree: ast.AST) -> list[str]:
    """Return the strings of a module except its docstrings, without the values inside of f-strings."""
    documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    bodies = [node.body[0] for node in ast.walk(tree) if isinstance(node, documented) and ast.get_docstring(node)]
    parts = {part for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    skipped = parts | {statement.value for statement in bodies if isinstance(statement, ast.Expr)}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            found.append("".join(str(part.value) for part in node.values if isinstance(part, ast.Constant)))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in skipped:
            found.append(node.value)
    return found


def long_texts(tree: ast.AST) -> list[str]:
    return [text for text in texts(tree) if sum(bool(line.strip()) for line in text.splitlines()) > LONGEST_TEXT]


@by_name
def test_a_script_or_a_unit_is_a_file(path: Path) -> None:
    found = long_texts(parse(path))
    assert bool(found) == (name_of(path) in READ_BY_PEOPLE), f"make it a file below cloud-init, with a test: {found}"


def test_a_script_in_a_string_would_be_noticed() -> None:
    script = 'def run(name):\n  """Run.\n\n  As\n  root."""\n  return {}"cd {{name}}\\n" "ls\\n" "exit 1\\n"'
    assert long_texts(ast.parse(script.format("f"))) == ["cd \nls\nexit 1\n"]
    assert long_texts(ast.parse(script.format(""))) == ["cd {name}\nls\nexit 1\n"]
    assert long_texts(ast.parse('"""A\n\nB\nC"""\nJOURNAL = "journalctl\\nexit\\n"')) == []


def test_each_exception_from_a_limit_of_size_is_still_needed() -> None:
    settings = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["ruff"]
    rules, most = {"C901", "PLR0913"}, settings["lint"]["pylint"]["max-args"]
    rows = settings["lint"]["per-file-ignores"]
    listed = {(name, rule) for name, ignored in rows.items() for rule in rules & {*ignored} if "*" not in name}
    limits = ["--select", ",".join(sorted(rules)), "--config", f"lint.pylint.max-args={most}"]
    named = [REPOSITORY / name for name in sorted({name for name, _ in listed})]
    argv = [sys.executable, "-m", "ruff", "check", "--isolated", "--no-cache", "--output-format=json", *limits, *named]
    report = json.loads(subprocess.run(argv, capture_output=True, text=True).stdout)
    needed = {(str(Path(fault["filename"]).relative_to(REPOSITORY)), fault["code"]) for fault in report}
    assert most == 5 and rules <= {*settings["lint"]["select"]}
    assert listed <= needed, "remove the rows of pyproject.toml that no file needs"


def test_there_is_something_to_look_at() -> None:
    assert {name_of(path) for path in MODULES} >= {"errors", "host.programs", "cli.main", "image.packer"}
    assert len(ORDER) == len(set(ORDER))


@by_name
def test_every_module_has_tests(path: Path) -> None:
    name = name_of(path)
    if package_of(name) in {"aws", "cli"} or path.stem.startswith("__"):
        pytest.skip("its tests boot machines, or speak to a server: tests/system")
    assert (REPOSITORY / "tests/unit" / path.relative_to(PACKAGE).with_name(f"test_{path.name}")).is_file()


def test_the_tests_are_where_their_modules_are() -> None:
    for path in (REPOSITORY / "tests/unit").glob("*/test_*.py"):
        if path.parent.name != "machine":
            assert (PACKAGE / path.parent.name).is_dir(), "tests of the machine's own programs stand in machine/"
