"""Logins, with an ssh that is a program: it runs here what it is told to run there."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import pytest
from conftest import Fake

from bake.errors import BakeError, BootError, SetupError
from bake.login import Login

#: Notes its words; leaves out options and their values, then the host, as ssh does.
SSH = """
echo "$*" >> "{0}/words"
while [ "${{1#-}}" != "$1" ]; do shift 2; done
shift
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


def test_a_file_is_uploaded_whole_for_root_alone(there: Path) -> None:
    source, place = there / "file", there / "incoming" / "x.tar"
    source.write_bytes(bytes(range(256)) * 4096)
    shares: list[float] = []
    login().upload(source, str(place), shares.append)
    assert place.read_bytes() == source.read_bytes()
    assert place.stat().st_mode & 0o777 == 0o600 and place.parent.stat().st_mode & 0o777 == 0o700
    assert shares == [0.25, 0.5, 0.75, 1.0]
    assert [path.name for path in place.parent.iterdir()] == ["x.tar"]


@pytest.mark.parametrize(
    ("script", "kind", "words"),
    [
        ("head -c 1000 > /dev/null; echo closed >&2; exit 255", BootError, "lost during the upload"),
        ("cat > /dev/null; echo No space left >&2; exit 1", SetupError, "could not take the upload"),
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


def test_a_part_of_a_file_never_gets_its_name(there: Path, fake: Fake) -> None:
    # The connection ends half way, and the other side takes it for the end of the file.
    fake("cat", "exec head -c 1000")
    (there / "file").write_bytes(bytes(5_000_000))
    with pytest.raises(SetupError):
        login().upload(there / "file", f"{there}/x.tar", lambda share: None)
    assert not (there / "x.tar").exists()
