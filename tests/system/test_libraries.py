"""Libraries that touch the system, on a machine: which work in the sandbox, and which need one of its doors.

docs/reference/libraries.md has the result. If the machine differs, the case prints the page's new table.
"""

import ast
import re
import shutil
from pathlib import Path

import pytest
from conftest import settled

from bake.config import contract
from bake.host.templates import render
from bake.verify import proof
from bake.vm import qemu

pytestmark = pytest.mark.long

APP = Path(__file__).with_name("libraries")
PAGE = Path(__file__).parents[2] / "docs" / "reference" / "libraries.md"
#: In the order in which they are tried: `browser` opens `jit` and `proc` too.
DOORS = ("proc", "nice", "jit", "browser")
#: Seconds for a trial.
PATIENCE = 400
DROP_IN = "/run/systemd/system/app.service.d/60-allow.conf"


def names():
    """The names of the trials: the functions of trials.py."""
    tree = ast.parse((APP / "trials.py").read_text())
    return [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]


def table(results):
    """The page's table."""
    rows = [f"| `{name}` | {results[name]} |" for name in sorted(results)]
    return "\n".join(["| trial | result |", "|---|---|", *rows])


def open_door(machine, door):
    text = render("release/units/60-allow.conf.j2", allow=(door,))
    machine.ssh(f"sudo sh -c 'cat > {DROP_IN}'", stdin=text)
    machine.ssh(f"sudo systemctl daemon-reload && sudo systemctl restart {contract.SERVICE}", timeout=300)
    # The first requests after a restart may meet the page of a start.
    machine.ssh("curl -sk --retry 99 --retry-delay 2 --retry-all-errors --fail -m 9 https://127.0.0.1/", timeout=300)


def attempt(machine, name):
    """The result of a trial. The app ends a trial after PATIENCE seconds."""
    asked = f"curl -sk --fail -m {PATIENCE + 30} https://127.0.0.1/try/{name}"
    result = machine.ssh(asked, check=False, timeout=PATIENCE + 90).stdout.strip() or "no answer"
    print(name, result)
    return result


def measure(machine):
    """The result of each trial: without a door, and else with the first door that helps."""
    machine.ssh(f"sudo mkdir -p {Path(DROP_IN).parent}")
    answers = {name: attempt(machine, name) for name in names()}
    results = {name: "works" for name in answers if answers[name] == "works"}
    for door in DOORS:
        print("door:", door)
        open_door(machine, door)
        for name in answers.keys() - results.keys():
            if attempt(machine, name) == "works":
                results[name] = f"works with `allow: [{door}]`; without: {answers[name]}"
    return results | {name: f"does not: {answers[name]}" for name in answers.keys() - results.keys()}


def test_the_page_about_libraries_says_what_a_machine_does(bake, tmp_path):
    folder = tmp_path / "libraries"
    shutil.copytree(APP, folder, ignore=shutil.ignore_patterns("__pycache__"))
    called = bake("image", folder, timeout=7200)
    assert called.code == 0, called.stderr
    # Two Chromiums and a driver need more than a machine of 1 GB has.
    with settled(Path(called.stdout.strip()), tmp_path, proof.UserData(), qemu.VmOptions(memory=2048)) as machine:
        results = measure(machine)
    # An error's numbers differ between runs.
    measured, written = ({*map(plain, text.splitlines())} for text in (table(results), PAGE.read_text()))
    assert measured <= written, f"replace the table of {PAGE}:\n{table(results)}"


def plain(line):
    """A row of the table, without what differs between runs."""
    return re.sub(r"(without|does not): .*", r"\1", line)
