"""Logins, with an ssh that is a program: it runs here what it is told to run there."""

from __future__ import annotations

from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from urllib.parse import urlsplit

import pytest
import testinfra.backend
from conftest import REPOSITORY, Fake
from testinfra.backend.ssh import SshBackend

from bake.errors import BakeError, BootError, SetupError, SpaceError
from bake.host import programs
from bake.vm import ssh
from bake.vm.ssh import Login

#: Notes its words; leaves out options and their values, which end with --, then the host.
SSH = """
echo "$*" >> "{0}/words"
while [ "$1" != -- ]; do shift 2; done
shift 2
exec sh -c "$*"
"""


@pytest.fixture
def there(fake: Fake, tmp_path: Path) -> Path:
    fake("ssh", SSH.format(tmp_path))
    fake("sudo", 'shift; exec "$@"')
    return tmp_path


def login(address: str = "ssh://debian@host.example:2222", key: Path | None = None) -> Login:
    return Login(urlsplit(address), key)


def test_root_needs_no_sudo() -> None:
    assert login("ssh://root@host.example").argv("true", by_hand=True) == ["ssh", "root@host.example", "true"]
    assert login(key=Path("/k")).argv("true", by_hand=True) == [
        "ssh", "-i", "/k", "-p", "2222", "debian@host.example", "sudo", "-n", "true",
    ]  # fmt: skip
    # A person's ssh_config may say as whom.
    assert login("ssh://host.example").argv("true", by_hand=True)[1] == "host.example"
    assert "BatchMode=yes" in login().argv("true")


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("ssh://-oProxyCommand=touch${IFS}mark@h", "dash"), ("ssh://-oProxyCommand=x", "dash"),
        ("ssh://me@-oProxyCommand=x", "dash"), ("ssh://-x@[::1]:22", "dash"), ("ssh://h/-x", "nothing may follow"),
        ("ssh://h?x", "nothing may follow"), ("ssh://h#x", "nothing may follow"), ("ssh://me:word@h", "password"),
        ("ssh://me@$(x)", "shell"), ("ssh://`x`@h", "shell"), ("ssh://a;b@h", "shell"), ("ssh://a b@h", "shell"),
        ("http://me@h", "the form is"), ("ssh://", "the form is"), ("ssh://h:0", "the form is"), ("ssh://h:x", "Port"),
    ],
)  # fmt: skip
def test_an_address_that_ssh_could_misread_is_refused(address: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        login(address)


@pytest.mark.parametrize(
    ("address", "where"),
    [
        ("ssh://h", "h"), ("ssh://me@h:22/", "me@h"), ("ssh://me@[::1]:22", "me@::1"), ("ssh://a-b@h-1.example", None),
        ("ssh://me@realm.example@h", "me@realm.example@h"), ("ssh://CORP\\me@h", "CORP\\me@h"),
    ],
)  # fmt: skip
def test_the_host_stands_behind_all_options(address: str, where: str | None) -> None:
    argv = login(address, Path("/k")).argv("true")
    assert argv[argv.index("--") + 1] == (where or address.removeprefix("ssh://"))
    # What testinfra, which names hosts by addresses too, makes of it.
    spec, options = testinfra.backend.parse_hostspec(login(address, Path("/k, é&b")).spec())
    found = SshBackend.parse_hostspec(spec)
    assert f"{found.user}@{found.name}" == (where or "a-b@h-1.example") or (found.user, found.name) == (None, where)
    assert found.port == ("22" if ":22" in address else None) and found.password is None
    assert options == {"connection": "ssh", "sudo": True, "ssh_identity_file": "/k, é&b"}
    assert "," not in login(address, Path("/k, é&b")).spec(), "which stands between hosts"


@pytest.fixture
def checks_module() -> ModuleType:
    loader = SourceFileLoader("checks", str(REPOSITORY / "tests/conftest.py"))
    module = ModuleType("checks")
    loader.exec_module(module)
    return module


def test_checks_read_no_answer_without_an_end(
    fake: Fake, checks_module: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks_module, "MOST_OUTPUT", 2**20)
    fake("ssh", "exec tr '\\0' 1 < /dev/zero")
    shell = checks_module.RootShell(SshBackend("me@host.example:2222"))
    with pytest.raises(RuntimeError, match="the machine went away during `true`"):
        shell.run("true")
    assert shell._server is None


def test_checks_put_the_host_behind_all_options_too(there: Path, checks_module: ModuleType) -> None:
    shell = checks_module.RootShell(SshBackend("me@host.example:2222", ssh_identity_file="/k"))
    try:
        done = shell.run("echo %s; exit 3", "it's me")
    finally:
        shell.close()
    assert (done.rc, done.stdout) == (3, "it's me\n")
    assert " -- host.example sudo -n python3 -c" in (there / "words").read_text()


def test_who_cannot_log_in_is_told_what_should_work(fake: Fake) -> None:
    fake("ssh", "echo Permission denied >&2; exit 255")
    with pytest.raises(BootError) as caught:
        login().require()
    assert "host.example" in caught.value.message
    assert "ssh -p 2222 debian@host.example sudo -n true" in (caught.value.hint or "")
    assert "Permission denied" in (caught.value.details or "")


def test_a_script_runs_there_and_its_status_comes_back(there: Path) -> None:
    login().require()
    done = login().script("echo said; exit 3")
    assert (done.status, done.stdout) == (3, "said\n")


def test_commands_of_a_block_share_one_connection(there: Path) -> None:
    with login().connected() as shared:
        assert shared.socket is not None
        # ssh's own work, by which a shared connection exists.
        shared.socket.touch()
        shared.require()
        assert shared.script("echo again").stdout == "again\n"
        # A person who tries the command by hand has no such connection.
        assert not any("Control" in word for word in shared.argv("true", by_hand=True))
    words = (there / "words").read_text().splitlines()
    assert len(words) == 3 and all(f"ControlPath={shared.socket}" in line for line in words)
    assert "-O exit" in words[-1] and words[-1].endswith("-- host.example")
    assert not shared.socket.parent.exists()


def test_a_path_that_is_too_long_for_a_socket_shares_nothing(
    there: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path / ("d" * 100)
    deep.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(deep))
    with login().connected() as alone:
        alone.require()
    assert "Control" not in (there / "words").read_text()


def test_a_file_is_uploaded_whole_for_root_alone(there: Path) -> None:
    source, place = there / "file", there / "incoming" / "x.tar"
    source.write_bytes(bytes(range(256)) * 4096)
    shares: list[float] = []
    login().upload(source, str(place), shares.append)
    assert place.read_bytes() == source.read_bytes()
    assert place.stat().st_mode & 0o777 == 0o600 and place.parent.stat().st_mode & 0o777 == 0o700
    assert shares == sorted(shares) and shares[-1] == 1.0
    assert [path.name for path in place.parent.iterdir()] == ["x.tar"]


@pytest.mark.parametrize(
    ("script", "kind", "words"),
    [
        ("head -c 1000 > /dev/null; echo closed >&2; exit 255", BootError, "lost during the upload"),
        ("cat > /dev/null; echo No space left >&2; exit 1", SetupError, "could not store the upload"),
        ("cat > /dev/null; echo No space left >&2; exit 28", SpaceError, "too little free space for the release"),
    ],
)
def test_an_upload_that_fails_is_said_so(
    fake: Fake, tmp_path: Path, script: str, kind: type[BakeError], words: str
) -> None:
    fake("ssh", script)
    (tmp_path / "file").write_bytes(bytes(5_000_000))
    with pytest.raises(kind, match=words) as caught:
        login().upload(tmp_path / "file", "/x", lambda share: None)
    assert caught.value.details in ("closed", "No space left")


@pytest.mark.parametrize(("free", "stored"), [(19_999_999, False), (20_000_000, True)])
def test_a_machine_without_room_for_a_release_refuses_it_at_once(
    there: Path, fake: Fake, free: int, stored: bool
) -> None:
    fake("df", f"echo Filesystem; echo /dev/vda1 1 1 {free} 1% /")
    (there / "file").write_bytes(bytes(5_000_000))
    place = there / "incoming" / "x.tar"
    if stored:
        login().upload(there / "file", str(place), lambda share: None)
    else:
        with pytest.raises(SpaceError) as caught:
            login().upload(there / "file", str(place), lambda share: None)
        assert "has 19 MB of free space; the release needs 20 MB" in caught.value.details
    assert [path.name for path in place.parent.iterdir()] == ["x.tar"] * stored


def test_a_part_of_a_file_never_gets_its_name(there: Path, fake: Fake) -> None:
    # The connection ends half way, and the other side takes it for the end of the file.
    fake("cat", "exec head -c 1000")
    (there / "file").write_bytes(bytes(5_000_000))
    with pytest.raises(SetupError):
        login().upload(there / "file", f"{there}/x.tar", lambda share: None)
    assert not (there / "x.tar").exists() and not (there / "x.tar.partial").exists()


@pytest.mark.parametrize(
    ("text", "host"),
    [("debian@host.example", "debian@host.example"), ("host.example", "host.example"), ("192.0.2.7",) * 2],
)
def test_a_host_needs_no_scheme(text: str, host: str) -> None:
    assert Login.at(text).argv("true", by_hand=True)[1] == host
    assert Login.at(text) == Login.at(f"ssh://{text}")


@pytest.mark.parametrize(
    "text", ["shop", "debian@host:22", "host.example:/srv", "2001:db8::1", "", "/srv/shop", "a@b@c"]
)
def test_text_that_may_be_something_else_than_a_host_is_refused(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "shop").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="the form is ssh://user@host"):
        Login.at(text)


@pytest.mark.parametrize("words", ["", "-oProxyCommand=x@h"])
def test_a_short_host_is_checked_as_a_long_one(words: str) -> None:
    with pytest.raises(ValueError, match=r"dash|the form is"):
        Login.at(words)


@pytest.mark.parametrize(
    ("script", "problem"),
    [
        ("echo ssh: Could not resolve hostname host.example: Name or service not known >&2; exit 255", "Cannot reach"),
        ("echo ssh: connect to host host.example port 22: Connection refused >&2; exit 255", "Cannot reach"),
        ("echo ssh: connect to host host.example port 22: Connection timed out >&2; exit 255", "Cannot reach"),
        ("echo 'me@host.example: Permission denied (publickey).' >&2; exit 255", "Cannot log in to"),
        ("echo sudo: a password is required >&2; exit 1", "Cannot use sudo without a password on"),
    ],
)
def test_an_error_of_ssh_names_the_step_that_failed(fake: Fake, script: str, problem: str) -> None:
    fake("ssh", script)
    with pytest.raises(BootError) as caught:
        login().require()
    assert caught.value.message == f"{problem} host.example"
    assert ("firewall" in caught.value.hint) == (problem == "Cannot reach")


@pytest.mark.parametrize("name", ["plain", "a b", "100%", 'a"b', "a\\b c", "a#b", "it's"])
def test_a_path_in_ssh_s_configuration_may_have_any_name(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    for key in ("ControlPath", "UserKnownHostsFile"):
        words = ["ssh", "-F", "none", "-G", "-o", f"{key}={ssh.path_value(path)}", "host.example"]
        assert f"{key.lower()} {path}" in programs.run(words).stdout.splitlines()
