"""An ordinary install: the wheel, built and installed as users do, and a computer that has Python, ssh and git alone.

The wheel's build asks the package index for its build backend.
"""

from __future__ import annotations

import shutil
import sys
import tomllib
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest
import uv
import yaml
from conftest import REPOSITORY

import bake
from bake.errors import BootError, ToolError
from bake.host.programs import Result, run

EXAMPLE = REPOSITORY / "examples" / "flask-hello"
#: What a computer has on which people only render and push.
PROGRAMS = ("ssh", "git")
#: The files that the installed command reads.
SHIPPED = ("cloud-init", "packer", "tests/machine", "tests/proof", "tests/conftest.py")


@dataclass(frozen=True)
class Installed:
    """A wheel, the environment it is installed in, and the folder that is all of PATH."""

    wheel: Path
    folder: Path
    path: Path

    def bake(self, *words: object, cwd: Path, **env: str) -> Result:
        """Run the installed command in a folder, without the programs that a bake needs."""
        argv = [str(self.folder / "bin" / "bake"), *map(str, words)]
        # env(1), since `run` looks for administrators' tools besides.
        bare = ["env", "-u", "PYTHONPATH", f"PATH={self.path}", *argv]
        done = run(bare, cwd=cwd, check=False, timeout=120, env={"COLUMNS": "200", **env})
        assert "Traceback" not in done.stderr
        return done


@pytest.fixture(scope="module")
def installed_wheel(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """Build the wheel from the files of this checkout, and install it without its dependencies: this Python has them.

    They are reached by a .pth file, and so by Python alone.
    """
    work = tmp_path_factory.mktemp("install")
    source, folder, path = work / "source", work / "venv", work / "path"
    source.mkdir()
    for name in ("bake", "cloud-init", "packer", "tests", "README.md", "LICENSE", "pyproject.toml"):
        whole = REPOSITORY / name
        if whole.is_dir():
            shutil.copytree(whole, source / name, symlinks=True)
        else:
            shutil.copy(whole, source)
    program = uv.find_uv_bin()
    run([program, "build", "--quiet", "--wheel", "--out-dir", work, source], timeout=120)
    (wheel,) = work.glob("*.whl")
    run([program, "venv", "--quiet", "--python", sys.executable, folder])
    run([program, "pip", "install", "--quiet", "--no-deps", "--python", folder / "bin" / "python", wheel])
    (packages,) = folder.glob("lib/python*/site-packages")
    here = Path(pytest.__file__).parents[1]
    (packages / "dependencies.pth").write_text(f"{here}\n")
    path.mkdir()
    for name in PROGRAMS:
        found = shutil.which(name)
        assert found, f"{name} is missing here"
        (path / name).symlink_to(found)
    return Installed(wheel, folder, path)


def files_below(name: str) -> set[str]:
    """Return the files of this checkout at a path, without what Python leaves there."""
    top = REPOSITORY / name
    paths = [top] if top.is_file() else [path for path in top.rglob("*") if path.is_file()]
    return {str(path.relative_to(REPOSITORY)) for path in paths if "__pycache__" not in path.parts}


def test_the_wheel_holds_every_file_that_the_command_reads(installed_wheel: Installed) -> None:
    with zipfile.ZipFile(installed_wheel.wheel) as archive:
        names = set(archive.namelist())
    expected = {f"bake/tree/{path}" for name in SHIPPED for path in files_below(name)}
    expected |= files_below("bake")
    assert "bake/tree/cloud-init/features/author-server/crawl.py" in expected
    assert {name for name in names if name.startswith("bake/")} == expected


def test_the_installed_files_of_a_machine_are_those_of_the_checkout(installed_wheel: Installed) -> None:
    show = (
        "from bake.config import debian; from bake.document.machine_files import files; print(files(debian.DEBIAN_13))"
    )
    here = run([sys.executable, "-c", show], cwd=REPOSITORY).stdout
    there = run(["env", "-u", "PYTHONPATH", installed_wheel.folder / "bin/python", "-c", show], cwd=Path("/")).stdout
    assert "mode=493" in here and here == there


def test_init_and_render_work_with_python_ssh_and_git_alone(installed_wheel: Installed, tmp_path: Path) -> None:
    assert shutil.which("setpriv", path=str(installed_wheel.path)) is None
    cache = {"BAKE_CACHE": str(tmp_path / "cache")}
    app = shutil.copytree(EXAMPLE, tmp_path / "app")
    # In a repository, so that git is asked.
    run(["git", "init", "-q", app])
    done = installed_wheel.bake("init", "app", cwd=tmp_path, **cache)
    assert (done.status, done.stdout) == (0, "app/bake.yaml\n"), done.stderr
    done = installed_wheel.bake("render", "app", "--provider", "gcp", cwd=tmp_path, **cache)
    assert done.status == 0, done.stderr
    assert yaml.safe_load(done.stdout)["write_files"]
    assert "app.py and" in done.stderr and "not committed" in done.stderr


@pytest.mark.parametrize("words", [("check", "ssh://debian@127.0.0.1:1"), ("push", "ssh://debian@127.0.0.1:1", "app")])
def test_check_and_push_reach_for_ssh(installed_wheel: Installed, tmp_path: Path, words: tuple[str, ...]) -> None:
    shutil.copytree(EXAMPLE, tmp_path / "app")
    done = installed_wheel.bake(*words, cwd=tmp_path, BAKE_CACHE=str(tmp_path / "cache"))
    assert done.status == BootError.code, done.stderr
    assert "Connection refused" in done.stderr


def test_a_bake_names_the_programs_that_are_missing(installed_wheel: Installed, tmp_path: Path) -> None:
    shutil.copytree(EXAMPLE, tmp_path / "app")
    done = installed_wheel.bake("image", "app", cwd=tmp_path, BAKE_CACHE=str(tmp_path / "cache"))
    assert (done.status, done.stdout) == (ToolError.code, "")
    assert all(name in done.stderr for name in ("packer", "qemu-system-x86", "mmdebstrap", "util-linux"))
    assert "`bake init`, `render`, `check` and `push` need only Python and ssh." in done.stderr


def test_the_shell_is_offered_commands_and_options(installed_wheel: Installed, tmp_path: Path) -> None:
    done = installed_wheel.bake(cwd=tmp_path, _BAKE_COMPLETE="zsh_source")
    assert done.status == 0 and "#compdef bake" in done.stdout
    for words, index, offered in (("bake pu", 1, "push"), ("bake push --ba", 2, "--back")):
        state = {"_BAKE_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(index)}
        done = installed_wheel.bake(cwd=tmp_path, **state)
        assert done.status == 0 and f"plain,{offered}" in done.stdout.splitlines(), done.stderr


def test_there_is_one_version_number(installed_wheel: Installed) -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    assert "version" not in project and project["dynamic"] == ["version"]
    assert f"bake-{bake.__version__}-" in installed_wheel.wheel.name
