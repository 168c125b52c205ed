"""Explain why a front end could not be built, with the next step."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from bake.bundle.isolated_assets import BuildCommands, Outcome
from bake.bundle.isolated_build import TIMEOUT, is_killed
from bake.config.assets import Assets
from bake.config.debian import Target
from bake.errors import AssetsError, NetworkError
from bake.host.terminal import printable

#: The lines of a log that an error shows, and the bytes in which bake looks for them.
LAST_LINES = 40
LAST_BYTES = 10_000
#: Texts of a log, and what helps.
CURES = {
    r"ERR_OSSL_EVP_UNSUPPORTED|digital envelope routines::unsupported": (
        "Its webpack is older than this Node: `run: NODE_OPTIONS=--openssl-legacy-provider npm run build`."
    ),
    r"ignore-scripts": (
        "The install script of a package has to download a program, and has no network: use a version that brings it "
        "as a package, such as esbuild 0.13 or newer, and so Vite 3."
    ),
    r"ENOTFOUND|EAI_AGAIN|ENETUNREACH|getaddrinfo": (
        "`run` has no network. Only `install` has, to fetch packages: let the build use files of the app instead."
    ),
    r"EUSAGE|ERR_PNPM_OUTDATED_LOCKFILE|lockfile needs to be updated|lockfile would have been modified": (
        "The lock file does not fit package.json: install the packages on your computer, and commit the lock file."
    ),
    r"ECONNRESET|ETIMEDOUT|ERR_SOCKET_TIMEOUT": "The package registry did not answer in time: run the command again.",
    r"ERESOLVE": "Its packages conflict: `install: npm ci --legacy-peer-deps` ignores that.",
    r"EBADENGINE|Unsupported engine|requires Node|Node\.js version|ERR_UNKNOWN_BUILTIN_MODULE|is not a function": (
        "{target} has Node {node}, for which the packages may be too new."
    ),
    r"ENOSPC|no space left on device": "The build is in memory, at most half of this computer's.",
    r"heap out of memory": "It needs more than 4 GiB of memory.",
}


def require_success(
    outcome: Outcome, commands: BuildCommands, target: Target, log: Path, exclusions: Sequence[tuple[str, str]]
) -> None:
    """Raise AssetsError or NetworkError if a build failed. `log` has its output."""
    if not outcome.status:
        return
    details = _last_lines(log)
    if outcome.step == "pack":
        raise AssetsError(
            f"assets: `{commands.assets.run}` did not make {' or '.join(commands.assets.folder)}",
            f"Set `folder` to the folder that it writes, from the app's folder on. The complete log: {log}",
            details,
        )
    step, command = ("run", commands.assets.run) if outcome.step == "run" else ("install", commands.install)
    if step == "install" and outcome.unreachable:
        raise NetworkError(
            f"assets: the package registry {', '.join(sorted(outcome.unreachable))} cannot be reached",
            "Check the network, or set `registry` in `assets` to one that you can reach.",
            details,
        )
    if is_killed(outcome.status):
        reason = f"was killed: it did not end within {TIMEOUT} s, or needed too much memory"
    else:
        reason = f"failed with exit status {outcome.status}"
    hints = [
        text.format(target=target.name, node=target.node)
        for pattern, text in CURES.items()
        if re.search(pattern, details)
    ]
    if step == "install":
        hints = _install_hints(outcome, exclusions) or hints
    hints = hints or [f"{target.name} has Node {target.node}; run the command on your computer to compare."]
    raise AssetsError(f"assets: `{command}` {reason}", " ".join((*hints, f"The complete log: {log}")), details)


def _last_lines(log: Path) -> str:
    """Return the last lines of a log. A build can write any amount, so read only the end."""
    with log.open("rb") as stream:
        stream.seek(max(0, log.stat().st_size - LAST_BYTES))
        text = stream.read().decode(errors="replace")
    return printable("\n".join(text.splitlines()[-LAST_LINES:]))


def _install_hints(outcome: Outcome, exclusions: Sequence[tuple[str, str]]) -> list[str]:
    """Return what helps an installation that asked for other hosts, or whose settings bake excludes."""
    hints = []
    if outcome.refused:
        hints.append(
            f"The installation reaches only {outcome.registry}, and asked for {', '.join(sorted(outcome.refused))}. "
            "If that is your registry, set `registry` in `assets`; packages from other places are not supported."
        )
    if settings := [name for name, _ in exclusions if name.rpartition("/")[2].startswith((".npmrc", ".yarnrc"))]:
        hints.append(
            f"bake excludes {', '.join(settings)}, which may have a password. If there is none, add "
            f"`!/{settings[0]}` to .bakeignore."
        )
    return hints


def require_files(names: Sequence[str], assets: Assets, log: Path) -> None:
    """Raise AssetsError if a folder of the result has no file."""
    empty = [folder for folder in assets.folder if not any(name.startswith(f"{folder}/") for name in names)]
    if empty:
        raise AssetsError(
            f"assets: `{assets.run}` wrote no file to {', '.join(empty)}",
            f"Set `folder` to the folder that it writes, from the app's folder on. The complete log: {log}",
        )
