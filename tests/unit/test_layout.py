"""The order of the package: who may import whom, who may start programs, and that everything says what it is for."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from conftest import REPOSITORY

PACKAGE = REPOSITORY / "bake"
#: From the ground up: a module imports only what stands before it.
ORDER = (
    "errors", "places", "run", "store", "repository", "download", "target", "providers", "terminal", "progress",
    "fields", "recipe", "ignore", "python_files", "random_keys", "writes", "scopes", "fixpoint", "modules", "project",
    "requirements", "author", "detect", "draft", "libraries", "tracebacks", "diagnosis", "wheels", "lock", "debian",
    "release", "bundle", "machine", "userdata", "settings", "source", "disk", "base", "stock", "packer", "doctor", "vm",
    "login", "check", "comparison", "pages", "proof", "traces", "image", "trial", "push", "render",
    "aws", "cli_aws", "cli_launch", "cli", "__main__",
)  # fmt: skip
#: These name a stream or a process of `run`'s, and so import `subprocess`; only `run` calls anything of it.
NAME_PROCESSES = {"packer", "vm", "login"}
HARMLESS = {"Popen", "PIPE", "STDOUT", "DEVNULL", "TimeoutExpired"}
#: Other ways to start a program.
STARTERS = ("system", "popen", "fork", "exec", "spawn", "posix_spawn", "create_subprocess")


def name_of(path: Path) -> str:
    """A module's place in the order; a package's modules share one."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


MODULES = [
    path for path in sorted(PACKAGE.rglob("*.py")) if "tree" not in path.parts and path != PACKAGE / "__init__.py"
]
by_name = pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))


def imports(tree: ast.AST) -> set[str]:
    """Our own modules that a module imports, wherever it does."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("bake.")}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide the order"
            if node.module == "bake":
                found |= {alias.name for alias in node.names}
            elif (node.module or "").startswith("bake."):
                found.add((node.module or "").split(".")[1])
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
    name = name_of(path)
    assert name in ORDER, "give the new module its place in ORDER, and in the design's table"
    before = {*ORDER[: ORDER.index(name)], *([name] if path.parent != PACKAGE else [])}
    assert imports(parse(path)) <= before


def test_the_order_would_be_noticed() -> None:
    late = "def late():\n    from bake import cli, run\n    from bake.image import bake"
    assert imports(ast.parse(late)) == {"cli", "run", "image"}
    assert imports(ast.parse("import bake.vm, os")) == {"vm"}


@by_name
def test_run_is_the_one_door_to_other_programs(path: Path) -> None:
    name, tree = name_of(path), parse(path)
    if name == "run":
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
def test_repository_is_the_one_door_to_git(path: Path) -> None:
    """There, no configuration of a folder's is read."""
    argvs = [node.elts for node in ast.walk(parse(path)) if isinstance(node, ast.List | ast.Tuple)]
    words = [word.value for argv in argvs for word in argv if isinstance(word, ast.Constant)]
    assert ("git" in words) == (name_of(path) == "repository")


@by_name
def test_boto3_is_known_to_aws_alone(path: Path) -> None:
    assert name_of(path) == "aws" or not (imported(parse(path), "boto3") or imported(parse(path), "botocore"))


@by_name
def test_results_are_printed_by_the_command_line_alone(path: Path) -> None:
    if name_of(path) in {"cli", "cli_aws", "cli_launch"}:
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


def test_there_is_something_to_look_at() -> None:
    assert {name_of(path) for path in MODULES} >= {"errors", "run", "cli", "image", "packer"}
    assert len(ORDER) == len(set(ORDER))


@pytest.mark.parametrize("path", [path for path in MODULES if path.stem != "__main__"], ids=lambda path: path.stem)
def test_every_module_has_tests(path: Path) -> None:
    if name_of(path) in {"proof", "image", "push", "aws", "cli_aws", "cli_launch"}:
        pytest.skip("its tests boot machines, or speak to a server: tests/system")
    assert (REPOSITORY / "tests" / "unit" / f"test_{path.stem}.py").is_file()
