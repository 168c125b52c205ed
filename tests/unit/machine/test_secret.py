"""The machine's program that keeps a secret: what systemd reads of its file is what was given."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bake.bundle.release_files import environment
from bake.host import paths

Secret = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """The file that holds the secrets; not there yet."""
    return tmp_path / "secrets.env"


@pytest.fixture
def secret(kept: Path) -> Secret:
    """The program, with that file as its own: secret("NAME", "value")."""
    text = (paths.features() / "steps/secret").read_text()
    assert text.count("/etc/app/secrets.env") == 1
    copy = kept.with_name("secret")
    copy.write_text(text.replace("/etc/app/secrets.env", str(kept)))

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        *names, value = words
        return subprocess.run([sys.executable, copy, *names], input=value, capture_output=True, text=True)

    return run


def as_systemd_reads(text: str) -> dict[str, str]:
    """An EnvironmentFile with values in double quotes, as systemd's parser of it (env-file.c) takes it."""
    found, rest = {}, text
    while rest:
        name, _, rest = rest.partition("=")
        assert name.isidentifier(), f"systemd would stop at {name!r}"
        value = ""
        if not rest.startswith('"'):
            found[name], _, rest = rest.partition("\n")
            continue
        at = 1
        while rest[at] != '"':
            if rest[at] == "\\":
                at += 1
                # A backslash protects these alone, and joins lines.
                value += rest[at] if rest[at] in '"\\$`' else "" if rest[at] == "\n" else "\\" + rest[at]
            else:
                value += rest[at]
            at += 1
        assert rest[at + 1] == "\n"
        found[name], rest = value, rest[at + 2 :]
    return found


ODD = [
    "plain", "two words", "", " spaces ", 'a "quoted" one', "it's", "$HOME ${HOME} $$", "back\\slash", "\\", "\\n",
    'ends with \\"', "`id`", "#no comment", "a=b", "two\nlines", "-----BEGIN-----\nab+/=\n\n-----END-----", "ü ☃ 😀",
    "joined\\\nlines", "%s %n",
]  # fmt: skip


@pytest.mark.parametrize("value", ODD)
def test_any_value_reaches_systemd_as_it_was_given(secret: Secret, kept: Path, value: str) -> None:
    # One newline at the end is the terminal's or echo's.
    done = secret("KEY", f"{value}\n")
    assert done.returncode == 0, done.stderr
    assert as_systemd_reads(kept.read_text()) == {"KEY": value}
    assert kept.read_text() == environment({"KEY": value})
    assert value not in done.stdout or len(value) < 2


def test_a_value_needs_no_newline_at_its_end(secret: Secret, kept: Path) -> None:
    secret("KEY", "value")
    assert as_systemd_reads(kept.read_text()) == {"KEY": "value"}


@pytest.mark.parametrize("value", ODD)
def test_a_value_takes_the_place_of_the_one_before_and_leaves_others(secret: Secret, kept: Path, value: str) -> None:
    others = {"KEY_TWO": "before", "MY_KEY": 'after "all"'}
    for name, text in {"KEY_TWO": others["KEY_TWO"], "KEY": value, "MY_KEY": others["MY_KEY"]}.items():
        secret(name, text)
    secret("KEY", "new")
    assert as_systemd_reads(kept.read_text()) == {**others, "KEY": "new"}
    assert kept.read_text().count("KEY=") == 2


def test_what_somebody_wrote_by_hand_is_replaced_too(secret: Secret, kept: Path) -> None:
    kept.write_text("OTHER=1\nKEY=plain words\nLAST=2\n")
    secret("KEY", "new")
    assert as_systemd_reads(kept.read_text()) == {"OTHER": "1", "LAST": "2", "KEY": "new"}


def test_a_file_that_does_not_end_in_a_newline_is_no_trap(secret: Secret, kept: Path) -> None:
    kept.write_text("OTHER=1")
    secret("KEY", "new")
    assert as_systemd_reads(kept.read_text()) == {"OTHER": "1", "KEY": "new"}


def test_another_secret_may_hold_a_line_that_looks_like_this_one(secret: Secret, kept: Path) -> None:
    file = "A=1\nKEY=in a file of settings\nB=2"
    secret("SETTINGS", file)
    secret("KEY", "new")
    assert as_systemd_reads(kept.read_text()) == {"SETTINGS": file, "KEY": "new"}


def test_only_root_reads_it(secret: Secret, kept: Path) -> None:
    kept.write_text("OTHER=1\n")
    kept.chmod(0o644)
    secret("KEY", "value")
    assert kept.stat().st_mode & 0o777 == 0o600
    assert {path.name for path in kept.parent.iterdir()} == {"secret", "secrets.env"}


def test_what_a_power_cut_left_is_no_obstacle(secret: Secret, kept: Path) -> None:
    kept.write_text("OTHER=1\n")
    for name in (".partial", ".env.partial", ".env.new"):
        kept.with_suffix(name).write_text("half")
    assert secret("KEY", "value").returncode == 0
    assert as_systemd_reads(kept.read_text()) == {"OTHER": "1", "KEY": "value"}


@pytest.mark.parametrize("words", [(), ("A B",), ("1A",), ("A=1",), ("",), ("A\n",), ("Ä",), ("A", "B"), ("A.*",)])
def test_a_bad_name_is_refused_and_nothing_is_kept(secret: Secret, kept: Path, words: tuple[str, ...]) -> None:
    kept.write_text("OTHER=1\n")
    done = secret(*words, "the value")
    assert done.returncode != 0
    assert "usage" in done.stderr and "Traceback" not in done.stderr and "the value" not in done.stderr
    assert kept.read_text() == "OTHER=1\n"
