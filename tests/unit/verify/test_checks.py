"""Running checks, by real pytest runs of tiny suites."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from bake.errors import BootError, ProgramError
from bake.host import paths, programs
from bake.verify import checks
from bake.vm.qemu import Access

SUITE = """
import os
import pytest

def test_good():
    assert os.environ["FACT"] == "known"

def test_bad():
    assert "what is" == "what should be"

@pytest.mark.parametrize("port", [22, 80])
def test_each_port(port):
    assert port == 22

@pytest.mark.skip(reason="not here")
def test_not_here():
    raise AssertionError

@pytest.fixture
def broken():
    raise OSError("the machine went away")

def test_needs_it(broken):
    pass

@pytest.fixture
def messy():
    yield
    raise OSError("cannot tidy up")

def test_leaves_a_mess(messy):
    pass
"""
FAILING = ["test_bad", "test_each_port[80]", "test_needs_it", "test_leaves_a_mess"]
RUN = """
import json, sys
from pathlib import Path
from bake.verify import checks
heard = []
told = lambda share, what: heard.append((share, what))
suites = checks.Suites(["machine"], {"FACT": "known"})
outcome = checks.run_suites(suites, checks.Host(), Path(sys.argv[1]), told)
print(json.dumps([[name for name, _ in outcome.failures], heard]))
"""


def suite(folder: Path, text: str) -> str:
    (folder / "test_tiny.py").write_text(text)
    return str(folder / "test_tiny.py")


def test_a_report_is_read_as_pytest_writes_it(tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "pytest", "-q", "-c", "/dev/null", "-p", "no:cacheprovider", "--junitxml=report.xml"]
    programs.run([*argv, suite(tmp_path, SUITE)], cwd=tmp_path, env={"FACT": "known"}, check=False)
    outcome = checks.read(tmp_path / "report.xml")
    failures = {name.rpartition("::")[2]: text for name, text in outcome.failures}
    assert list(failures) == FAILING
    assert "what should be" in failures["test_bad"]
    assert "the machine went away" in failures["test_needs_it"]
    assert outcome.skipped == 1
    # The one that leaves a mess is counted by pytest as passed and as an error.
    assert outcome.passed in (2, 3)
    assert 0 < outcome.seconds < 30


def test_suites_run_with_facts_and_tell_how_far_they_are(installed: Path, tmp_path: Path) -> None:
    machine = installed / "bake/tree/tests/machine"
    for path in machine.iterdir():
        path.unlink()
    suite(machine, SUITE)
    done = programs.run([sys.executable, "-B", "-c", RUN, tmp_path], cwd=installed, env={"PYTHONPATH": str(installed)})
    names, heard = json.loads(done.stdout)
    assert names == ["machine/test_tiny::" + name for name in FAILING]
    told = list(dict.fromkeys(what for _, what in heard))
    assert told == ["good", "bad", "each port", "not here", "needs it", "leaves a mess"]
    shares = [share for share, _ in heard]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


@pytest.mark.parametrize("text", ["import no_such_module\n", "# no test at all\n"])
def test_checks_that_cannot_be_run_are_no_success(tmp_path: Path, text: str) -> None:
    with pytest.raises(BootError, match="pytest could not run the checks") as caught:
        checks.run_suites(checks.Suites([suite(tmp_path, text)]), checks.Host(), tmp_path)
    assert caught.value.details


def test_pytest_that_breaks_is_no_success(tmp_path: Path) -> None:
    # Python exits with 1, as pytest does for a failed test. The report has no failure.
    text = "import atexit, os\n\ndef test_it():\n    atexit.register(os._exit, 1)\n"
    with pytest.raises(BootError, match="pytest could not run the checks"):
        checks.run_suites(checks.Suites([suite(tmp_path, text)]), checks.Host(), tmp_path)


def test_a_report_that_is_too_large_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "report.xml").open("wb") as stream:
        stream.truncate(checks.LARGEST_REPORT + 1)
    with pytest.raises(ProgramError, match="more than 64 MB"):
        checks.read(tmp_path / "report.xml")


@pytest.mark.parametrize("text", ["", "<testsuites></testsuites>", "<testsuites><testsuite"])
def test_a_report_that_is_broken_is_said_so(tmp_path: Path, text: str) -> None:
    (tmp_path / "report.xml").write_text(text)
    with pytest.raises(ProgramError, match="cannot be read"):
        checks.read(tmp_path / "report.xml")


def test_the_words_for_pytest() -> None:
    host = checks.Host("ssh://x", Path("/config"))
    argv = checks.pytest_argv(["machine", "proof/test_faults.py"], host, Path("/report.xml"))
    assert argv[:3] == [sys.executable, "-m", "pytest"]
    tests = paths.tree() / "tests"
    assert {str(tests / "machine"), str(tests / "proof" / "test_faults.py")} <= set(argv)
    assert {"--hosts=ssh://x", "--ssh-config=/config", "--junitxml=/report.xml"} <= set(argv)
    local = checks.pytest_argv(["machine"], checks.Host(), Path("/report.xml"))
    assert not any(word.startswith(("--hosts", "--ssh-config")) for word in local)


def test_pytest_finds_our_suites(tmp_path: Path) -> None:
    argv = checks.pytest_argv(["machine", "proof"], checks.Host(), tmp_path / "report.xml")
    facts = {"BAKE_DISK": "none", "BAKE_BEFORE": "{}", "BAKE_OTHER": "{}", "BAKE_NETWORK": "CLOSED"}
    facts |= {"PYTHONDONTWRITEBYTECODE": "1"}
    said = programs.run([*argv, "--collect-only"], cwd=tmp_path, env=facts).stdout
    for suite in ("machine", "proof"):
        for path in (paths.tree() / "tests" / suite).glob("test_*.py"):
            assert f"<Module {path.name}>" in said


def test_ssh_reads_the_configuration_as_meant(tmp_path: Path) -> None:
    host = checks.Host.of(Access(2222, tmp_path / "key", tmp_path / "known"), tmp_path)
    assert host.name == "ssh://machine?sudo=true" and host.config
    said = programs.run(["ssh", "-G", "-F", host.config, "machine"]).stdout.splitlines()
    for line in (
        "hostname 127.0.0.1", "port 2222", "user debian", "batchmode yes", "identitiesonly yes",
        f"identityfile {tmp_path}/key", f"userknownhostsfile {tmp_path}/known", "stricthostkeychecking accept-new",
    ):  # fmt: skip
        assert line in said
