"""What is said when a machine is launched: the files of /etc/app."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field, replace
from pathlib import Path

from bake import recipe
from bake.errors import SettingsError
from bake.machine import File
from bake.release import environment

#: A line of a file with secrets, as people write them for shells too.
PAIR = re.compile(r"(?:export\s+)?([A-Za-z_]\w*)\s*=\s*(.*)", re.ASCII)


@dataclass(frozen=True)
class Settings:
    """A launch's settings. Empty: what the release says is left as it is."""

    domains: tuple[str, ...] = ()
    email: str | None = None
    env: dict[str, str] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict, repr=False)
    #: File name in /etc/app to value: what the app never gets.
    keys: dict[str, str] = field(default_factory=dict, repr=False)

    @property
    def files(self) -> list[File]:
        """The files that say so, secrets and keys for root alone."""
        texts = {
            "domains": (0o644, "".join(f"{name}\n" for name in self.domains)),
            "email": (0o644, f"{self.email}\n" if self.email else ""),
            "env": (0o644, environment(self.env)),
            "secrets.env": (0o600, environment(self.secrets)),
            **{file: (0o600, f"{value}\n") for file, value in self.keys.items()},
        }
        return [File(f"/etc/app/{name}", mode, text.encode()) for name, (mode, text) in texts.items() if text]


def read(
    domains: tuple[str, ...], email: str | None, pairs: tuple[str, ...], given: recipe.Certificate | None = None
) -> Settings:
    """Settings as a command line gives them, `pairs` being NAME=VALUE. Raises SettingsError with every fault.

    `given` is what the recipe says of certificates: it decides whether a domain may be a wildcard.
    """
    faults = [f"env: {pair!r} is not NAME=VALUE" for pair in pairs if "=" not in pair]
    env = dict(pair.split("=", 1) for pair in pairs if "=" in pair)
    names = recipe.validate({"certificate": given or recipe.Certificate(), "domains": list(domains)}, faults).domains
    checked = recipe.validate({"env": env} | ({"email": email} if email is not None else {}), faults)
    if faults:
        raise SettingsError("The settings have faults", "Correct the options.", "\n".join(faults))
    return Settings(names, checked.email, checked.env)


def with_secrets(given: Settings, names: tuple[str, ...], keys: dict[str, str], file: Path | None) -> Settings:
    """The same, with a value for each secret's name: of a file with NAME=VALUE lines, or of this environment.

    `keys`: names of those for root alone, and their files in /etc/app. Raises SettingsError, which never shows a value.
    """
    if not (names or keys):
        raise SettingsError("bake.yaml names no secrets", "List their names there: `secrets: [SECRET_KEY]`.")
    found = {name: value for name in (*names, *keys) if (value := os.environ.get(name))}
    if file:
        found |= {name: value for name, value in _pairs(file).items() if name in (*names, *keys)}
    missing = [name for name in (*names, *keys) if not found.get(name)]
    if missing:
        raise SettingsError(
            f"No value for {', '.join(missing)}", "Put them into the environment, or into a file: --secrets-file FILE."
        )
    several = [name for name in keys if len(found[name].strip().splitlines()) != 1]
    if several:
        raise SettingsError(f"{', '.join(several)} should be one line", "Give the key alone, without the lines around.")
    return replace(
        given,
        secrets={name: found[name] for name in names},
        keys={place: found[name].strip() for name, place in keys.items()},
    )


def _pairs(file: Path) -> dict[str, str]:
    """A file's NAME=VALUE lines, values without the quotes around them."""
    try:
        lines = [line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{file} cannot be read as UTF-8 text: {error}") from None
    wrong = [
        str(number)
        for number, line in enumerate(lines, 1)
        if line and not line.startswith("#") and not PAIR.fullmatch(line)
    ]
    if wrong:
        raise SettingsError(f"{file} has lines that are not NAME=VALUE: {', '.join(wrong)}", "Correct these lines.")
    pairs = {pair[1]: pair[2] for line in lines if (pair := PAIR.fullmatch(line))}
    return {name: re.sub(r"""^(["'])(.*)\1$""", r"\2", value) for name, value in pairs.items()}
