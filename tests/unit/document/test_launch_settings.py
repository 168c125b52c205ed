"""The settings of a launch: what the options may say, and the files that come of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from bake.bundle.release_files import environment
from bake.config.recipe import Recipe
from bake.document import launch_settings
from bake.document.launch_settings import Arguments, Settings
from bake.errors import SettingsError

SECRETS = ("KEY", "TOKEN")


def texts(given: Settings) -> dict[str, tuple[int, str | None]]:
    return {file.path: (file.mode, file.text) for file in given.files}


def test_nothing_said_is_no_file() -> None:
    assert launch_settings.read(Arguments()) == Settings()
    assert Settings().files == []


def test_each_setting_has_its_file_and_secrets_are_root_s() -> None:
    given = launch_settings.read(Arguments(("A.example.", "b.example"), "me@a.example", ("B=two words", "A=")))
    assert texts(given) == {
        "/etc/app/domains": (0o644, "a.example\nb.example\n"),
        "/etc/app/email": (0o644, "me@a.example\n"),
        "/etc/app/env": (0o644, environment({"A": "", "B": "two words"})),
    }
    secret = Settings(secrets={"KEY": 'a "b" $c'})
    assert texts(secret) == {"/etc/app/secrets.env": (0o600, 'KEY="a \\"b\\" \\$c"\n')}


def test_a_launch_may_name_wildcards_where_the_recipe_may() -> None:
    zone = Recipe.model_validate({"certificate": {"dns": {"server": "192.0.2.53", "key": "a-key"}}})
    assert launch_settings.read(Arguments(("*.a.example",)), zone).domains == ("*.a.example",)


def test_a_value_may_hold_what_parts_it_from_its_name() -> None:
    arguments = Arguments(pairs=("URL=postgres://a?b=c", "E= "))
    assert launch_settings.read(arguments).env == {"URL": "postgres://a?b=c", "E": " "}


def test_every_fault_is_told_at_once() -> None:
    with pytest.raises(SettingsError) as caught:
        launch_settings.read(
            Arguments(("*.a.example", "b.example", "127.0.0.1"), "nobody", ("NOTHING", "1A=x", "A=x\ny"))
        )
    lines = caught.value.details.splitlines()
    assert SettingsError.code == 18
    places = sorted(line.partition(":")[0] for line in lines)
    assert places == ["domains[0]", "domains[2]", "email", "env", "env.1A", "env.A"]
    assert any("'NOTHING' is not NAME=VALUE" in line for line in lines)


def test_an_empty_e_mail_address_is_none() -> None:
    with pytest.raises(SettingsError):
        launch_settings.read(Arguments(email=""))


def test_secrets_come_from_the_environment_or_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY", "of the environment")
    monkeypatch.setenv("TOKEN", "of the environment")
    monkeypatch.setenv("OTHER", "nobody asked for it")
    file = tmp_path / "secrets"
    file.write_text("# a comment\n\nTOKEN=of the file = this\nUNKNOWN=nor for this\n")
    given = launch_settings.with_secrets(Settings(email="me@a.example"), SECRETS, {}, file)
    assert given.secrets == {"KEY": "of the environment", "TOKEN": "of the file = this"}
    assert given.email == "me@a.example"
    assert set(launch_settings.with_secrets(Settings(), SECRETS, {}, None).secrets.values()) == {"of the environment"}


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("KEY='single quotes'", "single quotes"),
        ('KEY="double quotes"', "double quotes"),
        ("KEY='not the end", "'not the end"),
        ("KEY=\"a\" and 'b'", "\"a\" and 'b'"),
        ("KEY=#no comment", "#no comment"),
        ("  KEY=x  ", "x"),
        ("export KEY=x", "x"),
        ("  export\tKEY='two words'", "two words"),
        ("KEY = x = y", "x = y"),
        ('KEY = " x "', " x "),
        ("\ufeffKEY=x", "x"),
    ],
)
def test_quotes_around_a_value_are_not_part_of_it(tmp_path: Path, line: str, value: str) -> None:
    (tmp_path / "secrets").write_text(f"{line}\n")
    assert launch_settings.with_secrets(Settings(), ("KEY",), {}, tmp_path / "secrets").secrets == {"KEY": value}


def test_a_secret_without_a_value_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY", "")
    monkeypatch.delenv("TOKEN", raising=False)
    (tmp_path / "secrets").write_text("TOKEN=''\n")
    for file in (None, tmp_path / "secrets"):
        with pytest.raises(SettingsError, match="KEY, TOKEN"):
            launch_settings.with_secrets(Settings(), SECRETS, {}, file)


def test_a_line_that_is_none_is_told_by_its_number_and_never_shown(tmp_path: Path) -> None:
    (tmp_path / "secrets").write_text("KEY=x\nhunter2\nTOKEN: hunter3\n=hunter4\n")
    with pytest.raises(SettingsError, match="2, 3, 4") as caught:
        launch_settings.with_secrets(Settings(), SECRETS, {}, tmp_path / "secrets")
    assert "hunter" not in f"{caught.value} {caught.value.hint} {caught.value.details}"


@pytest.mark.parametrize("line", ["export KEY", "KEY OTHER=x", "1KEY=x", "KEY-A=x", "Ä=x", "=x"])
def test_what_is_no_name_is_no_line(tmp_path: Path, line: str) -> None:
    (tmp_path / "secrets").write_text(f"KEY=x\n{line}\n")
    with pytest.raises(SettingsError, match=r"NAME=VALUE: 2$"):
        launch_settings.with_secrets(Settings(), ("KEY",), {}, tmp_path / "secrets")


def test_a_file_that_is_no_text_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "secrets").write_bytes(b"KEY=\xff\xfe\n")
    for place in (tmp_path / "secrets", tmp_path, tmp_path / "none"):
        with pytest.raises(SettingsError, match="cannot be read"):
            launch_settings.with_secrets(Settings(), ("KEY",), {}, place)


def test_values_are_not_given_where_nothing_asks_for_them(tmp_path: Path) -> None:
    (tmp_path / "secrets").write_text("KEY=x\n")
    for file in (None, tmp_path / "secrets"):
        with pytest.raises(SettingsError, match="names no secrets") as caught:
            launch_settings.with_secrets(Settings(), (), {}, file)
        assert "secrets: [" in caught.value.hint


def test_secrets_are_not_shown_by_accident() -> None:
    assert "hunter2" not in repr(Settings(secrets={"KEY": "hunter2"}, keys={"file": "hunter2"}))


def test_a_key_that_root_alone_has_gets_a_file_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY", "the app's")
    (tmp_path / "secrets").write_text("ROOT_KEY='root alone'\n")
    given = launch_settings.with_secrets(Settings(), ("KEY",), {"ROOT_KEY": "root.key"}, tmp_path / "secrets")
    assert texts(given) == {
        "/etc/app/secrets.env": (0o600, 'KEY="the app\'s"\n'),
        "/etc/app/root.key": (0o600, "root alone\n"),
    }
    monkeypatch.setenv("ROOT_KEY", "of the environment\n")
    given = launch_settings.with_secrets(Settings(), (), {"ROOT_KEY": "root.key"}, None)
    assert texts(given) == {"/etc/app/root.key": (0o600, "of the environment\n")}


@pytest.mark.parametrize(
    ("value", "said"), [("", "No value for ROOT_KEY"), ("hunter2\nhunter3", "must be a single line")]
)
def test_a_key_is_one_line(monkeypatch: pytest.MonkeyPatch, value: str, said: str) -> None:
    monkeypatch.setenv("ROOT_KEY", value)
    with pytest.raises(SettingsError, match=said) as caught:
        launch_settings.with_secrets(Settings(), (), {"ROOT_KEY": "root.key"}, None)
    assert "hunter" not in f"{caught.value} {caught.value.hint} {caught.value.details}"
