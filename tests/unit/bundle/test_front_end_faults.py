"""What failed in the build of a front end, and the next step."""

from __future__ import annotations

from pathlib import Path

import pytest

from bake.bundle import front_end_faults
from bake.bundle.isolated_assets import BuildCommands, Outcome
from bake.config.assets import Assets
from bake.config.debian import DEBIAN_13
from bake.errors import AssetsError, BakeError, NetworkError

ASSETS = Assets(folder=("static/dist",), run="npm run build")
EXCLUSIONS = [("web/.npmrc", "secrets")]


def fault(folder: Path, outcome: Outcome, text: str = "", exclusions: list[tuple[str, str]] | None = None) -> BakeError:
    log = folder / "shop.log"
    log.write_text(text)
    with pytest.raises(BakeError) as caught:
        front_end_faults.require_success(outcome, BuildCommands(ASSETS, "npm ci", ""), DEBIAN_13, log, exclusions or [])
    return caught.value


@pytest.mark.parametrize(
    ("step", "status", "text", "message", "hint"),
    [
        ("run", 3, "", "`npm run build` failed with exit status 3", "debian-13 has Node 20"),
        ("run", 1, "getaddrinfo ENOTFOUND fonts.example", "`npm run build` failed", "`run` has no network"),
        ("run", 1, "code: 'ERR_OSSL_EVP_UNSUPPORTED'", "`npm run build` failed", "--openssl-legacy-provider"),
        ("run", 1, 'Make sure you do not have "ignore-scripts" set', "`npm run build` failed", "esbuild 0.13 or newer"),
        ("run", 137, "", "`npm run build` was killed: it did not end within 1800 s", "The complete log: "),
        ("run", -9, "", "`npm run build` was killed", "The complete log: "),
        ("pack", 1, "", "`npm run build` did not make static/dist", "Set `folder` to the folder that it writes"),
        ("install", 1, "npm ERR! code EUSAGE", "`npm ci` failed with exit status 1", "does not fit package.json"),
        ("install", 1, "npm ERR! code ECONNRESET", "`npm ci` failed", "run the command again"),
    ],
)  # fmt: skip
def test_a_failed_step_is_named_with_the_next_one(
    tmp_path: Path, step: str, status: int, text: str, message: str, hint: str
) -> None:
    error = fault(tmp_path, Outcome(step, status), text)
    assert message in error.message and hint in error.hint and error.details == text
    assert isinstance(error, AssetsError) and error.code == 25


def test_a_refused_host_and_excluded_settings_are_named(tmp_path: Path) -> None:
    outcome = Outcome("install", 1, "https://npm.example/", refused={"git.example:443"})
    hint = fault(tmp_path, outcome, exclusions=EXCLUSIONS).hint
    assert "reaches only https://npm.example/, and asked for git.example:443" in hint
    assert "bake excludes web/.npmrc" in hint and "`!/web/.npmrc`" in hint
    assert ".npmrc" not in fault(tmp_path, Outcome("run", 1), exclusions=EXCLUSIONS).hint


def test_an_unreachable_registry_is_a_fault_of_the_network(tmp_path: Path) -> None:
    error = fault(tmp_path, Outcome("install", 1, unreachable={"npm.example:443"}))
    assert isinstance(error, NetworkError) and "npm.example:443 cannot be reached" in error.message


def test_only_the_end_of_a_long_log_is_read_and_without_control_characters(tmp_path: Path) -> None:
    details = fault(tmp_path, Outcome("run", 1), "x" * 100_000 + "\n\x1b[31mlast\n").details
    assert details.endswith("\nlast") and len(details) < 20_000


def test_a_success_is_no_fault(tmp_path: Path) -> None:
    order = BuildCommands(ASSETS, "npm ci", "")
    front_end_faults.require_success(Outcome("pack"), order, DEBIAN_13, tmp_path / "none", EXCLUSIONS)
    front_end_faults.require_files(["static/dist/a.js"], ASSETS, tmp_path / "none")


def test_a_folder_without_files_is_named(tmp_path: Path) -> None:
    with pytest.raises(AssetsError, match="wrote no file to static/dist"):
        front_end_faults.require_files(["static/distant"], ASSETS, tmp_path / "shop.log")
