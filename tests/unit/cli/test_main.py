"""The command line, as a child process: results on standard output, the rest elsewhere, each failure its code."""

from __future__ import annotations

import importlib
import json
import os
import random
import signal
import sys
from pathlib import Path

import click
import pytest
import yaml
from conftest import REPOSITORY, Fake, running, soon

import bake as package
from bake.cli.main import COMMANDS, cli
from bake.config import loader
from bake.errors import (
    AppFolderError,
    BootError,
    Cancelled,
    CheckError,
    CloudError,
    CredentialsError,
    DocumentError,
    RecipeError,
    SettingsError,
    SpaceError,
    ToolError,
)
from bake.host import programs
from bake.image import host_requirements


def bake(*words: object, env: dict[str, str] | None = None, path: Path | None = None) -> programs.Result:
    """`bake` with these words, and a PATH. Whatever it does, it never shows a traceback."""
    elsewhere = ["env", f"PATH={path}"] if path else []
    argv = [*elsewhere, sys.executable, "-m", "bake", *map(str, words)]
    done = programs.run(argv, cwd=REPOSITORY, env=env, check=False, timeout=60)
    assert "Traceback" not in done.stderr
    return done


def refused(code: int, *words: object, env: dict[str, str] | None = None, path: Path | None = None) -> str:
    """What is said on standard error, when `bake` fails with `code`; standard output stays empty."""
    done = bake(*words, env=env, path=path)
    assert (done.status, done.stdout) == (code, ""), done.stderr
    return done.stderr


def test_schema_prints_the_schema_and_nothing_else() -> None:
    done = bake("schema")
    assert (done.status, done.stderr) == (0, "")
    assert json.loads(done.stdout) == loader.schema()


@pytest.fixture
def small(app: Path, cache_folder: Path) -> Path:
    """An app's folder; what is kept of it goes into the test's own cache."""
    (app / "app.py").write_text("import flask\napp = flask.Flask(__name__)\n")
    (app / "bake.yaml").write_text("name: shop\nrequirements: requirements.txt\nsecrets: [KEY]\nenv: {OF: recipe}\n")
    (app / "requirements.txt").touch()
    return app


def test_render_prints_a_document_and_nothing_else(small: Path) -> None:
    done = bake("render", small, "--provider", "digitalocean", "--env", "A=1")
    assert done.status == 0, done.stderr
    document = yaml.safe_load(done.stdout)
    assert done.stdout.startswith("#cloud-config\n") and set(document) <= {"bootcmd", "write_files"}
    assert f"{len(done.stdout.encode()):,} of 65,536 bytes" in done.stderr


def test_render_prints_the_settings_of_a_launch(small: Path) -> None:
    words = ("--launch", "--domain", "b.example", "--email", "me@b.example", "--env", "A=two words")
    done = bake("render", small, *words)
    assert done.status == 0, done.stderr
    found = {row["path"]: row["content"].strip() for row in yaml.safe_load(done.stdout)["write_files"]}
    assert found == {
        "/etc/app/domains": "b.example", "/etc/app/email": "me@b.example", "/etc/app/env": 'A="two words"',
    }  # fmt: skip
    # What bake.yaml says, the image has: said here, it would hold against later releases.
    done = bake("render", small, "--launch")
    assert done.status == 0 and "write_files" not in yaml.safe_load(done.stdout)
    assert "no settings are given" in done.stderr


def test_render_puts_secrets_in_only_where_that_is_asked_for_and_says_so(small: Path, tmp_path: Path) -> None:
    assert "hunter2" not in bake("render", small, "--launch", env={"KEY": "hunter2"}).stdout
    done = bake("render", small, "--launch", "--with-secrets", env={"KEY": "hunter2"})
    assert "hunter2" in done.stdout and "hunter2" not in done.stderr
    assert "can read" in done.stderr and "will not start" not in done.stderr
    (tmp_path / "secrets").write_text("KEY=hunter3\n")
    assert "hunter3" in bake("render", small, "--launch", "--secrets-file", tmp_path / "secrets").stdout
    assert "KEY" in refused(SettingsError.code, "render", small, "--with-secrets", env={"KEY": ""})


def test_render_says_what_the_machine_will_wait_for(small: Path) -> None:
    done = bake("render", small, "--provider", "gcp", env={"COLUMNS": "200"})
    assert "will not start before it has KEY" in done.stderr and "app-secret NAME" in done.stderr
    (small / "bake.yaml").write_text("name: shop\nrequirements: []\n")
    assert "will not start" not in bake("render", small, "--provider", "gcp", env={"COLUMNS": "200"}).stderr


def test_a_secret_is_not_given_among_plain_settings(small: Path) -> None:
    for more in ((), ("--launch",), ("--with-secrets",)):
        words = ("render", small, "--env", "A=1", "--env", "KEY=hunter2", *more)
        said = refused(SettingsError.code, *words, env={"KEY": "x", "COLUMNS": "200"})
        assert "secrets: KEY is also in `env`" in said and "hunter2" not in said


def test_a_file_of_secrets_does_not_become_part_of_the_app(small: Path) -> None:
    (small / "secrets").write_text("KEY=hunter2\n")
    words = ("render", small, "--provider", "gcp", "--inline", "--secrets-file")
    said = refused(SettingsError.code, *words, small / "secrets", env={"COLUMNS": "200"})
    assert "is in the app's folder" in said and "hunter2" not in said
    (small / "secrets").rename(small / "prod.env")
    done = bake(*words, small / "prod.env")
    assert done.status == 0 and done.stdout.count("hunter2") == 1


def test_secrets_without_a_name_are_none(small: Path) -> None:
    (small / "bake.yaml").write_text("name: shop\nrequirements: []\n")
    assert "names no secrets" in refused(SettingsError.code, "render", small, "--with-secrets", env={"KEY": "x"})


def test_a_key_for_root_alone_is_given_as_secrets_are(small: Path) -> None:
    (small / "bake.yaml").write_text("name: shop\nrequirements: []\ncertificate: {keep: LABEL=keep}\n")
    key = {"CERTIFICATE_KEY": "hunter2", "COLUMNS": "200"}
    done = bake("render", small, "--launch", "--with-secrets", env=key)
    (row,) = yaml.safe_load(done.stdout)["write_files"]
    assert (row["path"], row["permissions"], row["content"]) == ("/etc/app/certificate.key", "0600", "hunter2\n")
    assert "can read" in done.stderr and "hunter2" not in done.stderr and "the machine needs" not in done.stderr
    done = bake("render", small, "--launch", env=key)
    assert "hunter2" not in done.stdout
    assert "the machine needs CERTIFICATE_KEY" in done.stderr
    assert "sudo install -m 600 /dev/stdin /etc/app/certificate.key" in done.stderr
    said = refused(SettingsError.code, "render", small, "--env", "CERTIFICATE_KEY=hunter2", env={"COLUMNS": "200"})
    assert "CERTIFICATE_KEY is the key for certificate.keep" in said and "hunter2" not in said


def test_a_result_that_finds_no_room_is_said_so(small: Path) -> None:
    done = programs.run(["sh", "-c", '"$0" -m bake schema > /dev/full', sys.executable], cwd=REPOSITORY, check=False)
    assert done.status == SpaceError.code
    assert "disk is full" in done.stderr and "Traceback" not in done.stderr


def test_render_takes_only_releases_it_knows(small: Path) -> None:
    assert "debian-13" in refused(2, "render", small, "--release", "debian-1")
    done = bake("render", small, "--provider", "gcp", "--release", "debian-12")
    assert "debian-12" in done.stdout.splitlines()[1]


def test_render_takes_only_providers_it_knows(small: Path) -> None:
    assert "digitalocean" in refused(2, "render", small, "--provider", "basement")


def test_every_fault_of_a_launch_s_settings_is_shown(small: Path) -> None:
    said = refused(SettingsError.code, "render", small, "--domain", "*.a.example", "--email", "x", "--env", "A")
    assert all(word in said for word in ("wildcard", "email address", "NAME=VALUE"))
    assert "error: The command line has 3 faults\nCorrect it as listed above.\n" in said


def test_a_document_that_is_too_large_is_none(small: Path) -> None:
    (small / "noise.bin").write_bytes(random.Random(1).randbytes(20_000))
    assert "noise.bin" in refused(DocumentError.code, "render", small, "--provider", "aws")


def test_render_says_what_is_wrong_with_the_app(small: Path) -> None:
    assert "does not exist" in refused(AppFolderError.code, "render", small / "nowhere")


def test_help_and_version_are_results() -> None:
    assert package.__version__ in bake("--version").stdout
    done = bake("image", "--help")
    assert (done.status, done.stderr) == (0, "")
    assert "Usage:" in done.stdout


def test_every_command_is_described() -> None:
    said = " ".join(bake("--help").stdout.partition("Commands:")[2].split())
    for name, place in COMMANDS.items():
        assert f"{name} {place.summary}" in said and len(place.summary.split()) > 3


@pytest.mark.parametrize("words", [("bakery",), ("image", "--ssh-port", "0")])
def test_a_wrong_command_line_is_2(words: tuple[str, ...]) -> None:
    assert "Error" in refused(2, *words)


@pytest.fixture
def ready(fake: Fake) -> None:
    """Every program a bake needs is here, real or not; for failures that come before any is called."""
    for name in {*host_requirements.TOOLS, *host_requirements.ROOTLESS_TOOLS} - {"setpriv", "unshare", "tar"}:
        if programs.which(name) is None:
            fake(name, "echo Packer v1.6.6" if name == "packer" else "exit 1")
    if host_requirements.missing_packages() or host_requirements.rootless_fault():
        pytest.skip("files that no fake can stand for are missing here")


@pytest.mark.usefixtures("ready")
def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    said = refused(AppFolderError.code, "image", tmp_path / "nowhere")
    assert AppFolderError.code == 10
    assert f"error: {tmp_path}/nowhere does not exist" in said


@pytest.mark.usefixtures("ready")
def test_every_fault_of_a_recipe_is_shown(tmp_path: Path) -> None:
    (tmp_path / "bake.yaml").write_text("name: [x]\nlimits: {body: [red]}\n")
    said = refused(RecipeError.code, "image", tmp_path)
    assert said.index("limits.body: ") < said.index("error: ")
    assert "name: should be text" in said
    assert said.splitlines()[-1] == "Correct it as listed above. bake.example.yaml shows every key."
    assert f"error: {tmp_path}/bake.yaml has 2 faults" in said


def test_a_program_that_is_too_old(fake: Fake) -> None:
    if set(host_requirements.missing_packages()) - {"packer"}:
        pytest.skip("other programs are missing here")
    fake("packer", "echo Packer v1.0.0")
    assert "1.0.0 is too old" in refused(ToolError.code, "doctor")


def test_programs_that_are_missing_are_named(tmp_path: Path) -> None:
    said = refused(ToolError.code, "doctor", env={"COLUMNS": "200"}, path=tmp_path)
    assert "missing" in said
    assert "Missing Debian packages: " in said


@pytest.mark.parametrize("host", ["bake", "tests/unit", "ssh://", "http://machine.example", "machine.example:/srv"])
def test_a_host_that_is_none(host: str) -> None:
    assert "ssh://user@host" in refused(2, "check", host)


def test_an_option_that_is_a_key_of_bake_yaml_leads_there() -> None:
    said = refused(2, "image", "--name", "foo", env={"COLUMNS": "200"})
    assert "No such option '--name'" in said and "name is a key of bake.yaml: write `name: …` there." in said
    assert "bake.yaml" not in refused(2, "image", "--nmae", "foo")


def test_an_option_without_its_value_lists_what_it_takes() -> None:
    said = refused(2, "render", ".", "--provider", env={"COLUMNS": "200"})
    assert "render [OPTIONS] [APP]" in said and "Write --provider [aws|azure|digitalocean|" in said
    assert "Write --region NAME" in refused(2, "ami", "--region")


def test_a_file_that_is_no_image_is_not_booted(small: Path) -> None:
    said = refused(AppFolderError.code, "run", small / "app.py", env={"COLUMNS": "200"})
    assert f"{small}/app.py is not an image" in said and f"`bake run {small}`" in said and "boot" not in said


@pytest.mark.parametrize(
    ("command", "environment", "code", "problem"),
    [
        ("ami", {}, CloudError.code, "No AWS region is configured"),
        ("ami", {"AWS_REGION": "eu-west-1"}, CredentialsError.code, "There are no credentials for AWS"),
        ("launch", {"AWS_PROFILE": "typo"}, CredentialsError.code, "The config profile (typo)"),
    ],
)
def test_the_region_and_the_credentials_are_checked_before_a_folder_is_baked(
    small: Path, tmp_path: Path, command: str, environment: dict[str, str], code: int, problem: str
) -> None:
    nothing = {"AWS_EC2_METADATA_DISABLED": "true", "HOME": str(tmp_path), "COLUMNS": "200"}
    said = refused(code, command, small, env={**nothing, **environment})
    assert problem in said and "resolve" not in said and "bundle" not in said


def test_paths_are_observed_only_from_an_image(small: Path) -> None:
    said = refused(AppFolderError.code, "init", "--from-observed", small / "app.py", small, env={"COLUMNS": "200"})
    assert f"{small}/app.py is not an image" in said
    (small / "shop.qcow2").write_bytes(b"QFI\xfb")
    said = refused(RecipeError.code, "init", "--from-observed", small / "shop.qcow2", small, env={"COLUMNS": "200"})
    assert "writable: {observe: on}" in said


@pytest.mark.parametrize("command", ["check", "push"])
@pytest.mark.parametrize("host", ["-oProxyCommand=touch${IFS}$MARK@h", "-oProxyCommand=touch${IFS}$MARK"])
def test_a_host_that_ssh_would_take_for_an_option(small: Path, tmp_path: Path, command: str, host: str) -> None:
    words = [small] if command == "push" else []
    said = refused(2, command, f"ssh://{host}", *words, env={"MARK": str(tmp_path / "mark")})
    assert "begins with a dash" in said and not (tmp_path / "mark").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_an_interrupt_is_130_and_stops_what_was_started(
    fake: Fake, tmp_path: Path, marker: str, number: signal.Signals
) -> None:
    fake("ssh", f"exec sleep {marker}")
    argv = [sys.executable, "-m", "bake", "check", "ssh://debian@machine.example"]
    # Under nohup, this process ignores SIGHUP, and so would bake.
    own_action = signal.signal(number, signal.SIG_DFL)
    with (tmp_path / "said").open("wb") as said_there:
        process = programs.start(argv, cwd=REPOSITORY, stderr=said_there, env={"PYTHONDONTWRITEBYTECODE": "1"})
    signal.signal(number, own_action)
    try:
        assert soon(lambda: running(marker, "sleep"))
        os.kill(process.pid, number)
        assert process.wait(60) == Cancelled.code == 130
    finally:
        programs.stop(process)
    said = (tmp_path / "said").read_text()
    assert "cancelled" in said
    assert "Traceback" not in said


def test_an_interrupt_stops_ssh_too(fake: Fake, marker: str) -> None:
    fake("ssh", f"exec sleep {marker}")
    words = [sys.executable, "-m", "bake", "check", "ssh://debian@machine.example"]
    process = programs.start(words, cwd=REPOSITORY, env={"PYTHONDONTWRITEBYTECODE": "1"})
    try:
        assert soon(lambda: running(marker, "sleep"))
        os.kill(process.pid, signal.SIGTERM)
        process.wait(60)
        assert soon(lambda: not running(marker, "sleep"), 1)
    finally:
        programs.stop(process)


def test_a_machine_nobody_can_log_in_to_is_said_so(fake: Fake) -> None:
    fake("ssh", 'echo "Host key verification failed." >&2; exit 255')
    said = refused(BootError.code, "check", "ssh://debian@machine.example:2222")
    assert "Host key verification failed." in said
    assert "ssh -p 2222 debian@machine.example sudo -n true" in said


def test_a_check_logs_in_once_for_the_versions(fake: Fake, tmp_path: Path) -> None:
    fake("ssh", f'echo "$*" >> {tmp_path}/calls; [ "${{*##* }}" = true ]')
    # The checks fail, since the machine does nothing else.
    assert bake("check", "ssh://debian@machine.example").status in (BootError.code, CheckError.code)
    calls = [line for line in (tmp_path / "calls").read_text().splitlines() if "BatchMode=yes" in line]
    assert calls and all("ControlMaster=auto" in line for line in calls)


def test_a_draft_without_an_app_is_noted_beside_its_path(tmp_path: Path) -> None:
    done = bake("init", tmp_path, env={"COLUMNS": "200"})
    assert (done.status, done.stdout) == (0, f"{tmp_path}/bake.yaml\n")
    assert "found no WSGI or ASGI app" in done.stderr and f"set `wsgi` or `asgi` in {tmp_path}/bake.yaml" in done.stderr


@pytest.mark.parametrize(
    ("words", "absent"),
    [
        # The help lists all commands, and imports none.
        (["--help"], {"bake.config", "boto3", "jinja2", "pydantic", "yaml"}),
        (["schema"], {"bake.vm", "boto3", "jinja2"}),
        (["init", "--help"], {"bake.vm", "boto3", "jinja2"}),
        (["image", "--help"], {"boto3"}),
    ],
)
def test_a_command_imports_only_what_it_needs(words: list[str], absent: set[str]) -> None:
    code = f"import sys; from bake.cli.main import cli; cli({words}, standalone_mode=False); "
    code += "print(*sys.modules, file=sys.stderr)"
    modules = programs.run([sys.executable, "-c", code], cwd=REPOSITORY).stderr.split()
    assert "click" in modules and not absent & set(modules)


def test_each_command_is_where_the_table_says_and_described_as_there() -> None:
    for name, place in COMMANDS.items():
        (command,) = (command for command in importlib.import_module(place.module).COMMANDS if command.name == name)
        assert command.get_short_help_str(limit=1000) == place.summary
        assert cli.get_command(click.Context(cli), name) is command
    assert set(cli.commands) == set(COMMANDS)


def test_a_note_that_nobody_can_read_ends_nothing(small: Path, cache_folder: Path) -> None:
    shown = f"{sys.executable} -m bake render --launch {small}"
    for reader in ("true", "head -n 1"):
        # The pipe of the notes breaks; the result goes to a file.
        script = f"{{ {shown} 2>&1 >{small.parent}/out; echo $? >{small.parent}/code; }} | {reader}; wait"
        programs.run(["bash", "-c", script], cwd=REPOSITORY, timeout=60)
        assert (small.parent / "code").read_text() == "0\n"
        assert (small.parent / "out").read_text().startswith("#cloud-config")
    done = programs.run(["sh", "-c", f"{shown} 2>/dev/full"], cwd=REPOSITORY, timeout=60)
    assert done.stdout.startswith("#cloud-config")


def test_documents_are_utf_8_in_any_locale(small: Path) -> None:
    (small / "requirements.txt").write_text("# für später\n", encoding="utf-8")
    for env in ({"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}, {"LC_ALL": "C"}, {"LC_ALL": "C.UTF-8"}):
        done = bake("render", "--launch", "--env", "MOOD=süß", small, env=env)
        assert done.status == 0 and 'MOOD="süß"' in done.stdout, done.stderr


def test_other_users_cannot_change_what_bake_writes(small: Path) -> None:
    (small / "bake.yaml").unlink()
    words = f"umask 000; {sys.executable} -m bake init {small}"
    programs.run(["sh", "-c", words], cwd=REPOSITORY, timeout=60)
    assert (small / "bake.yaml").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize(("words", "mode"), [([], 0o644), (["--with-secrets"], 0o600)])
def test_a_document_with_secrets_goes_to_a_file_of_its_owner(small: Path, words: list[str], mode: int) -> None:
    out = small.parent / "user-data"
    script = f"umask 022; {sys.executable} -m bake render --launch {small} {' '.join(words)} > {out}"
    programs.run(["sh", "-c", script], cwd=REPOSITORY, env={"KEY": "secret"}, timeout=60)
    assert out.read_text().startswith("#cloud-config") and out.stat().st_mode & 0o777 == mode
