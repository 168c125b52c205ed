"""Packer's words and events, with fakes that fail in chosen ways; its template, with the real one."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import signal
import tracemalloc
from pathlib import Path

import pytest
from conftest import Fake, Helper, running, soon

from bake.config import contract
from bake.config.contract_files import Result
from bake.errors import AppStartError, BakeError, PackerError, SetupError, SpaceError, ToolError, UnhealthyError
from bake.host import paths, programs
from bake.image import packer
from bake.image.build import NOTE_PREFIX, OBSERVED_PREFIX
from bake.image.packer import Event

VERSION = 'if [ "$1" = version ]; then echo "Packer v1.6.6"; exit 0; fi\n'
BUILD = """
import signal, sys
from pathlib import Path
from bake.image import packer
def interrupted(number, frame):
    raise KeyboardInterrupt
signal.signal(signal.SIGTERM, interrupted)
work = Path(sys.argv[1])
packer.build("qemu.pkr.hcl", {}, work / "disk.qcow2", work, lambda event: print(event.text, flush=True))
"""


def says(*lines: str) -> str:
    """Packer's way to say lines."""
    return "".join(f"echo '1700000000,,ui,say,    qemu.machine: {line}'\n" for line in lines)


def failed(kind: str, message: str) -> str:
    """Packer's line with the result of a machine that failed."""
    result = Result(step="app", kind=kind, message=message).model_dump_json()
    return f"{packer.RESULT_PREFIX}{base64.b64encode(result.encode()).decode()}"


ARTIFACT = "echo '1700000000,qemu.machine,artifact,0,id,VM'\n"


def build(work: Path, heard: list[Event] | None = None) -> Path:
    work.mkdir(exist_ok=True)
    hear = heard.append if heard is not None else lambda event: None
    return packer.build("qemu.pkr.hcl", {"cpus": 2, "canary": "x"}, work / "output" / "disk.qcow2", work, hear)


def fails(work: Path, kind: type[BakeError]) -> BakeError:
    with pytest.raises(BakeError) as caught:
        build(work)
    assert type(caught.value) is kind, caught.value
    return caught.value


def test_a_line_is_an_event() -> None:
    line = "1700000000,,ui,say,==> qemu.machine: Starting VM%!(PACKER_COMMA) now\\nand\\r\\nthen\n"
    assert packer.parse(line) == Event("ui", "", ("say", "==> qemu.machine: Starting VM, now\nand\nthen"))
    event = packer.parse("1700000000,qemu.machine,artifact,0,files-count,1")
    assert event == Event("artifact", "qemu.machine", ("0", "files-count", "1"))
    assert event.text == ""


@pytest.mark.parametrize("line", ["", "panic: oh no", "two,parts", "not a time,x,ui,say,hello"])
def test_other_lines_are_none(line: str) -> None:
    assert packer.parse(line) is None


def test_the_words_of_a_build() -> None:
    assert packer.build_argv(Path("/t.pkr.hcl"), Path("/v.json")) == [
        "packer", "build", "-machine-readable", "-var-file=/v.json", "/t.pkr.hcl",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("said", "numbers"), [("Packer v1.6.6", (1, 6, 6)), ("1.8.0\nPacker v1.11.2\nYour version is old", (1, 11, 2))]
)
def test_versions_are_numbers(fake: Fake, said: str, numbers: tuple[int, ...]) -> None:
    fake("packer", f"printf '%s\\n' '{said}'")
    assert packer.version() == numbers


def test_a_packer_too_old_is_refused(fake: Fake) -> None:
    fake("packer", "echo Packer v1.5.9")
    with pytest.raises(ToolError, match=r"Packer 1\.5\.9 is too old"):
        packer.version()


def test_another_program_of_that_name_is_refused(fake: Fake) -> None:
    fake("packer", "echo usage: packer dictionary")
    with pytest.raises(ToolError, match="usage: packer dictionary"):
        packer.version()


def test_no_packer_is_said_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolError, match="Packer is not installed"):
        packer.version()


def test_a_packer_too_old_builds_nothing(fake: Fake, tmp_path: Path) -> None:
    fake("packer", f'[ "$1" = version ] || touch {tmp_path}/built; echo Packer v1.5.9')
    fails(tmp_path / "work", ToolError)
    assert not (tmp_path / "built").exists()


def test_success_is_an_artifact_that_is_there(fake: Fake, tmp_path: Path) -> None:
    work = tmp_path / "work"
    script = f'echo "$*" > {tmp_path}/words; env > {tmp_path}/env\n'
    script += f"cp {work}/variables.pkrvars.json {tmp_path}/variables\n"
    script += f"mkdir {work}/output; echo disk > {work}/output/disk.qcow2\n"
    fake("packer", VERSION + script + says("Starting VM") + ARTIFACT)
    heard: list[Event] = []
    assert build(work, heard).read_text() == "disk\n"
    assert [event.kind for event in heard] == ["ui", "artifact"]
    template = paths.tree() / "packer" / "qemu.pkr.hcl"
    expected = f"build -machine-readable -var-file={work}/variables.pkrvars.json {template}\n"
    assert (tmp_path / "words").read_text() == expected
    assert (tmp_path / "variables").read_text() == json.dumps({"cpus": 2, "canary": "x", "console": f"{work}/console"})
    # Nothing of Packer's is put anywhere but into the work folder, and that is gone.
    environment = dict(line.split("=", 1) for line in (tmp_path / "env").read_text().splitlines() if "=" in line)
    folders = {str(work / environment[name]) for name in ("TMPDIR", "HOME", "PACKER_CACHE_DIR", "PACKER_CONFIG_DIR")}
    assert folders == {str(work / "packer")}
    assert environment["CHECKPOINT_DISABLE"] == "1"
    assert not (work / "packer").exists()


def test_status_0_without_an_artifact_is_no_success(fake: Fake, tmp_path: Path) -> None:
    fake("packer", VERSION + says("Build finished."))
    error = fails(tmp_path / "work", PackerError)
    assert "reported success but produced no disk.qcow2" in error.message
    assert "Build finished." in error.details


def test_an_artifact_that_is_only_talked_of_is_no_success(fake: Fake, tmp_path: Path) -> None:
    fake("packer", VERSION + ARTIFACT)
    fails(tmp_path / "work", PackerError)


def test_a_disk_that_nobody_reported_is_no_success(fake: Fake, tmp_path: Path) -> None:
    fake("packer", VERSION + f"mkdir {tmp_path}/work/output; touch {tmp_path}/work/output/disk.qcow2")
    fails(tmp_path / "work", PackerError)


def test_a_failing_status_is_no_success_whatever_is_there(fake: Fake, tmp_path: Path) -> None:
    made = f"mkdir {tmp_path}/work/output; touch {tmp_path}/work/output/disk.qcow2\n"
    fake("packer", VERSION + made + ARTIFACT + "echo panic: runtime error >&2; exit 1")
    error = fails(tmp_path / "work", PackerError)
    assert "exit status 1" in error.message
    assert "panic: runtime error" in error.details
    assert not (tmp_path / "work" / "packer").exists()


@pytest.mark.parametrize(
    ("said", "kind", "words"),
    [
        (failed("Unhealthy", "/ answers 500"), UnhealthyError, "The app starts, but / answers 500"),
        (failed("NotStarted", "app does not start"), AppStartError, "The app does not start"),
        (failed("StepError", "it lacks, among others,\n'\\n'"), SetupError, "set up: it lacks, among others,\n'\\n'"),
        (failed("KeyError", ""), SetupError, "could not be set up: KeyError"),
        # The machine's output alone decides nothing.
        ("<3>app-setup failed: unhealthy: / answers 500", PackerError, "exit status 1"),
        (f"{packer.RESULT_PREFIX}", PackerError, "exit status 1"),
        ("qemu-img: error while writing: No space left on device", SpaceError, "full"),
        ("Timeout waiting for SSH.", PackerError, "exit status 1"),
    ],
)
def test_what_the_machine_said_is_what_went_wrong(
    fake: Fake, tmp_path: Path, said: str, kind: type[BakeError], words: str
) -> None:
    fake("packer", VERSION + says(said, "the last line") + "exit 1")
    error = fails(tmp_path / "work", kind)
    assert words in error.message
    assert "the last line" in error.details
    assert error.hint


def test_a_failed_start_ends_with_the_exception_and_its_cure(fake: Fake, tmp_path: Path) -> None:
    journal = [f"line {number}" for number in range(2000)]
    journal += [
        "Traceback (most recent call last):",
        '  File "/srv/app/current/source/app/__init__.py"%!(PACKER_COMMA) line 31%!(PACKER_COMMA) in create_app',
        "    os.mkdir(LOGS)",
        "OSError: [Errno 30] Read-only file system: 'logs'",
    ]
    lines = [failed("NotStarted", "app does not start")]
    lines += ["bake: app-setup failed%!(PACKER_COMMA) app activating; their last lines:", *journal]
    (tmp_path / "said").write_text("".join(f"1700000000,,ui,say,    qemu.machine: {line}\n" for line in lines))
    cleanup = "echo '1700000000,,ui,say,==> qemu.machine: Deleting output directory...'\n"
    fake("packer", VERSION + f"cat {tmp_path}/said\n" + cleanup + "exit 1")
    error = fails(tmp_path / "work", AppStartError)
    assert error.hint.splitlines()[-3:] == [
        "OSError: [Errno 30] Read-only file system: 'logs'",
        "  at app/__init__.py:31",
        "Add to bake.yaml:  writable: [logs]",
    ]
    shown = error.details.splitlines()
    assert len(shown) == 40 and shown[0] == "line 1964" and shown[-1] == error.hint.splitlines()[-3]
    assert packer.RESULT_PREFIX not in error.log
    assert "line 0\n" in error.log and "Deleting output directory" in error.log


def test_a_panic_on_the_console_is_what_went_wrong(fake: Fake, tmp_path: Path) -> None:
    crash = f"printf 'Kernel panic - not syncing\\nRebooting in 10 seconds..\\n' > {tmp_path}/work/console\n"
    fake("packer", VERSION + crash + says("Script disconnected unexpectedly.") + "exit 1")
    error = fails(tmp_path / "work", PackerError)
    assert "panicked" in error.message
    assert "Rebooting" in error.details


def test_a_machine_that_prints_without_an_end_does_not_fill_the_memory(
    fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    console = f"truncate --size 9G {tmp_path}/work/console; echo the end >> {tmp_path}/work/console\n"
    long_line = f"printf '1700000000,,ui,say,'; head -c {300 * 2**20} /dev/zero | tr '\\0' x; echo\n"
    broken = says(f"{packer.RESULT_PREFIX}%%%A")
    fake("packer", VERSION + console + long_line + broken + says("the last line") + "exit 1")
    tracemalloc.start()
    error = fails(tmp_path / "work", PackerError)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "the last line" in error.details and error.log.endswith("the end\n")
    assert peak < 32 * 2**20


def test_a_console_without_an_end_does_not_fill_the_disk(
    fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(programs, "MOST_OUTPUT", 1 << 20)
    console = tmp_path / "work" / "console"
    fake(
        "packer", VERSION + f"(head -c 8M /dev/zero | tr '\\0' x; sleep 2; echo; echo Kernel panic) > {console}; exit 1"
    )
    assert "panicked" in fails(tmp_path / "work", PackerError).message
    assert console.stat().st_size > 8 << 20 and console.stat().st_blocks * 512 < 1 << 20


def test_events_come_while_packer_works(fake: Fake, helper: Helper, tmp_path: Path, marker: str) -> None:
    fake("packer", VERSION + says("Starting VM") + f"sleep {marker}")
    process = helper(BUILD, tmp_path)
    assert process.stdout is not None
    assert "Starting VM" in process.stdout.readline()
    assert soon(lambda: running(marker, "sleep"))
    assert process.poll() is None


def test_nothing_of_packer_outlives_us(fake: Fake, helper: Helper, tmp_path: Path, marker: str) -> None:
    # As the real one does, it starts builders that would live on, deaf to being asked.
    fake("packer", VERSION + f"trap '' INT TERM HUP; sleep {marker} & sleep {marker}; :")
    process = helper(BUILD, tmp_path)
    assert soon(lambda: len(running(marker, "sleep")) == 2)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert soon(lambda: not running(marker))


def test_packer_is_asked_to_clean_up(fake: Fake, helper: Helper, tmp_path: Path, marker: str) -> None:
    # Like the real one's outer process: SIGINT is the terminal's to send, SIGTERM is passed on.
    clean = f"trap '' INT; trap 'echo clean > {tmp_path}/said; kill $!; exit 1' TERM\n"
    fake("packer", VERSION + clean + f"sleep {marker} &\nwait")
    process = helper(BUILD, tmp_path)
    assert soon(lambda: running(marker, "sleep"))
    os.kill(process.pid, signal.SIGTERM)
    assert soon((tmp_path / "said").exists, 3)
    assert soon(lambda: not running(marker))


def test_milestones_only_go_forward() -> None:
    shares = [share for _, share, _ in packer.MILESTONES]
    assert shares == sorted(shares)
    assert shares[0] > 0
    assert shares[-1] == 1


def test_milestones_are_heard_in_what_packer_says() -> None:
    event = packer.parse("1,,ui,say,==> qemu.machine: Starting VM%!(PACKER_COMMA) booting disk image")
    assert event is not None
    assert packer.milestone(event) == (0.04, "starting the machine")
    assert packer.milestone(Event("ui", "", ("say", "nothing of note"))) is None
    assert packer.milestone(Event("artifact", "", ("Starting VM",))) is None


def test_our_scripts_say_what_milestones_and_faults_listen_for() -> None:
    script = (paths.tree() / "packer" / "await.sh").read_text()
    ours = [words for words, _, _ in packer.MILESTONES if words.startswith("bake: ")]
    assert len(ours) == 2
    assert all(f'echo "{words}' in script for words in ours)
    assert f'echo "bake: app-setup $result, app $active{packer.JOURNAL}"' in script
    assert f'echo "{packer.RESULT_PREFIX}$(' in script
    assert f'echo "{OBSERVED_PREFIX}$(cat {contract.OBSERVED})"' in script
    assert f"{contract.CHECK_NOTES} | sed 's/^/{NOTE_PREFIX}/'" in script
    for name in ("await.sh", "seal.sh", "store-bundle.sh"):
        programs.run(["sh", "-n", paths.tree() / "packer" / name])


def test_a_bundle_at_aws_gets_the_name_that_app_setup_reads(tmp_path: Path) -> None:
    script = (paths.tree() / "packer/store-bundle.sh").read_text()
    script = script.replace("=/var/", f"={tmp_path}/var/").replace(" /tmp/", f" {tmp_path}/")
    (tmp_path / "bundle.tar").write_text("a bundle")
    programs.run(["sh", "-s"], stdin=script)
    names = [path.name for path in (tmp_path / contract.INCOMING[1:]).iterdir()]
    assert names == [f"{hashlib.sha256(b'a bundle').hexdigest()}.tar"] and not (tmp_path / "bundle.tar").exists()


RESULT = '{"step": "app", "kind": "Unhealthy", "message": "/ answers 500, \\"a\\\\nb\\""}'


@pytest.mark.parametrize(
    ("started", "setup", "app", "result", "kind", "message"),
    [
        (1, "exit-code", "failed", RESULT, "Unhealthy", '/ answers 500, "a\\nb"'),
        (1, "success", "failed", '{"step": "app"}', "NotStarted", "app has ended after its start"),
        (0, "exit-code", "inactive", "", "StepError", "cloud-init did not start app-setup"),
        (0, "exit-code", "inactive", RESULT, "Unhealthy", '/ answers 500, "a\\nb"'),
    ],
)
def test_await_sh_prints_the_result_of_a_machine_that_failed(
    fake: Fake, tmp_path: Path, started: int, setup: str, app: str, result: str, kind: str, message: str
) -> None:
    answers = f"*ExecMain*) echo {started};; *Result*) echo {setup};; is-active*) echo {app};;"
    fake("systemctl", f'case "$*" in {answers} esac')
    for name in ("cloud-init", "journalctl"):
        fake(name, "exit 0")
    (tmp_path / "result").write_text(result)
    script = "set -e; mount -t tmpfs none /run; mkdir -p /run/app /run/cloud-init; touch /run/cloud-init/result.json\n"
    script += f"[ ! -s {tmp_path}/result ] || cp {tmp_path}/result {contract.RESULT}\n"
    script += f"exec sh {paths.tree() / 'packer/await.sh'}"
    own_user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    done = programs.run(["unshare", *own_user, "--mount", "sh", "-c", script], check=False)
    if "mount:" in done.stderr or "unshare:" in done.stderr:
        pytest.skip(f"no mount namespace here: {done.stderr}")
    assert done.status == 1
    (line,) = [line for line in done.stdout.splitlines() if line.startswith(packer.RESULT_PREFIX)]
    failure = Result.failure(base64.b64decode(line.removeprefix(packer.RESULT_PREFIX)))
    assert failure and (failure.kind, failure.message) == (kind, message)


@pytest.fixture
def variables(tmp_path: Path) -> list[str]:
    for name in ("user-data", "meta-data", "bundle.tar", "key", "base.qcow2"):
        (tmp_path / name).touch()
    programs.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "bake-key"])
    values = {
        "base_disk": tmp_path / "base.qcow2", "user_data": tmp_path / "user-data", "meta_data": tmp_path / "meta-data",
        "bundle": tmp_path / "bundle.tar", "private_key": tmp_path / "bake-key", "output": tmp_path / "output",
    }  # fmt: skip
    return [f"-var={name}={value}" for name, value in values.items()]


def validate(variables: list[str]) -> programs.Result:
    argv = ["packer", "validate", *variables, str(paths.tree() / "packer" / "qemu.pkr.hcl")]
    return programs.run(argv, env={"CHECKPOINT_DISABLE": "1"}, check=False)


@pytest.mark.skipif(programs.which("packer") is None, reason="Packer is not installed")
def test_packer_takes_the_template(variables: list[str]) -> None:
    said = validate(variables)
    assert said.status == 0, said


@pytest.mark.skipif(programs.which("packer") is None, reason="Packer is not installed")
def test_packer_takes_the_template_for_aws(tmp_path: Path) -> None:
    for name in ("user-data", "bundle.tar"):
        (tmp_path / name).touch()
    programs.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "bake-key"])
    values = {
        "region": "eu-central-1", "ami_name": "shop-1", "user_data": tmp_path / "user-data", "key_pair": "bake-1",
        "bundle": tmp_path / "bundle.tar", "private_key": tmp_path / "bake-key",
    }  # fmt: skip
    template = paths.tree() / "packer" / "amazon-ebs.pkr.hcl"
    environment = {"CHECKPOINT_DISABLE": "1", "AWS_EC2_METADATA_DISABLED": "true"}

    def said(values: dict[str, object]) -> str:
        words = [f"-var={name}={value}" for name, value in values.items()]
        done = programs.run(["packer", "validate", *words, template], env=environment, check=False)
        return (done.stdout + done.stderr).strip()

    # An exit status of 0 proves nothing: it has nothing to say.
    assert said(dict(values)) == ""
    # Shows that this could fail.
    assert "ami_name" in said({**values, "ami_name": "x"})


@pytest.mark.skipif(programs.which("packer") is None, reason="Packer is not installed")
def test_the_artifact_of_a_cloud_is_its_id(fake: Fake, tmp_path: Path) -> None:
    fake("packer", VERSION + "for row in builder-id,x id,eu-central-1:ami-12 end; do echo 1,a,artifact,0,$row; done")
    assert packer.build_in_cloud("amazon-ebs.pkr.hcl", {}, {}, tmp_path, lambda event: None) == "eu-central-1:ami-12"
    fake("packer", VERSION + says("Build finished."))
    with pytest.raises(PackerError, match="produced no AMI"):
        packer.build_in_cloud("amazon-ebs.pkr.hcl", {}, {}, tmp_path, lambda event: None)


@pytest.mark.skipif(programs.which("packer") is None, reason="Packer is not installed")
def test_packer_wants_every_variable_without_a_default(variables: list[str]) -> None:
    # Shows that the test above could fail.
    assert validate(variables[1:]).status != 0


#: A QEMU that Packer starts, and that ends at once; it leaves the words that it was given.
QEMU = 'case "$*" in *-version*) echo "QEMU emulator version 7.2.22";; *) printf "%s\\n" "$@" > {words}; exit 1;; esac'


@pytest.mark.skipif(not programs.which("packer") or not programs.which("xorriso"), reason="Packer itself is asked")
def test_a_machine_that_is_baked_listens_on_loopback_alone(fake: Fake, tmp_path: Path) -> None:
    fake("qemu-system-x86_64", QEMU.format(words=tmp_path / "words"))
    programs.run(["qemu-img", "create", "-q", "-f", "qcow2", tmp_path / "base.qcow2", "1M"])
    given = {"base_disk": "base.qcow2", "user_data": "user-data", "meta_data": "meta-data", "bundle": "bundle.tar"}
    for name in ("user-data", "meta-data", "bundle.tar"):
        (tmp_path / name).touch()
    programs.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "key"])
    variables = {name: str(tmp_path / file) for name, file in given.items()}
    variables |= {"private_key": str(tmp_path / "key"), "output": str(tmp_path / "output")}
    # Longer than the path of a socket may be, as the cache's path is for some.
    work = tmp_path / ("work" * 30)
    work.mkdir()
    with pytest.raises(PackerError):
        packer.build("qemu.pkr.hcl", variables, tmp_path / "none", work, lambda event: None)
    words = (tmp_path / "words").read_text().splitlines()
    assert [word for word in words if word.startswith("user,")] == [words[words.index("-netdev") + 1]]
    assert re.fullmatch(r"user,id=user\.0,hostfwd=tcp:127\.0\.0\.1:\d+-:22", words[words.index("-netdev") + 1])
    # The card that Packer adds is on that network.
    assert "virtio-net,netdev=user.0" in words
