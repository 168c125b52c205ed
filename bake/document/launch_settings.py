"""Launch settings: the files written to /etc/app."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field, replace
from pathlib import Path

from bake.bundle.release_files import environment
from bake.config import contract, loader
from bake.config.recipe import Recipe
from bake.document.machine_files import File
from bake.errors import SettingsError

#: A line of a file with secrets. `export` is allowed, as in files that shells read.
PAIR = re.compile(r"(?:export\s+)?([A-Za-z_]\w*)\s*=\s*(.*)", re.ASCII)


@dataclass(frozen=True)
class Settings:
    """The settings of a launch. An empty one does not override the release's setting."""

    domains: tuple[str, ...] = ()
    email: str | None = None
    env: dict[str, str] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict, repr=False)
    #: File name in /etc/app to value, for keys that the app must not read.
    keys: dict[str, str] = field(default_factory=dict, repr=False)

    @property
    def files(self) -> list[File]:
        """Return the files in /etc/app. Only root can read secrets and keys."""
        texts = {
            contract.DOMAINS: (0o644, "".join(f"{name}\n" for name in self.domains)),
            contract.EMAIL: (0o644, f"{self.email}\n" if self.email else ""),
            contract.ENV: (0o644, environment(self.env)),
            contract.SECRETS: (0o600, environment(self.secrets)),
            **{f"{contract.SETTINGS}/{name}": (0o600, f"{value}\n") for name, value in self.keys.items()},
        }
        return [File(path, mode, text.encode()) for path, (mode, text) in texts.items() if text]


@dataclass(frozen=True)
class Arguments:
    """Launch settings as a command line has them.

    `pairs` are NAME=VALUE. `references` are NAME=REF, the sources from which an instance at AWS fetches secrets.
    """

    domains: tuple[str, ...] = ()
    email: str | None = None
    pairs: tuple[str, ...] = ()
    references: tuple[str, ...] = ()


def read(arguments: Arguments, recipe: Recipe | None = None) -> Settings:
    """Return the settings of a command line, without its references. Raises SettingsError with every fault.

    `recipe` is the app's. Its `certificate` decides whether a domain may be a wildcard, and the pairs must not have its
    secrets.
    """
    recipe, pairs, email = recipe or Recipe(), arguments.pairs, arguments.email
    faults = [f"env: {pair!r} is not NAME=VALUE" for pair in pairs if "=" not in pair]
    env = dict(pair.split("=", 1) for pair in pairs if "=" in pair)
    values = {"domains": list(arguments.domains), "env": env} | ({"email": email} if email is not None else {})
    launch_recipe = loader.validate({"certificate": recipe.certificate, "secrets": recipe.secrets, **values}, faults)
    if faults:
        raise SettingsError.of_faults("The command line", faults)
    return Settings(launch_recipe.domains, launch_recipe.email, launch_recipe.env)


def with_secrets(settings: Settings, names: tuple[str, ...], keys: dict[str, str], file: Path | None) -> Settings:
    """Return the settings with a value for each secret, from a file of NAME=VALUE lines or from the environment.

    `keys` maps the names of secrets that only root may read to their files in /etc/app. Raises SettingsError, which
    never contains a value.
    """
    if not (names or keys):
        raise SettingsError("bake.yaml names no secrets", "List their names there: `secrets: [SECRET_KEY]`.")
    values = {name: value for name in (*names, *keys) if (value := os.environ.get(name))}
    if file:
        values |= {name: value for name, value in _pairs(file).items() if name in (*names, *keys)}
    missing_names = [name for name in (*names, *keys) if not values.get(name)]
    if missing_names:
        raise SettingsError(
            f"No value for {', '.join(missing_names)}",
            "Set each as an environment variable, or write them to a file and pass --secrets-file FILE.",
        )
    multiline_names = [name for name in keys if len(values[name].strip().splitlines()) != 1]
    if multiline_names:
        raise SettingsError(
            f"{', '.join(multiline_names)} must be a single line",
            "Give only the line with the key, without comment lines.",
        )
    return replace(
        settings,
        secrets={name: values[name] for name in names},
        keys={path: values[name].strip() for name, path in keys.items()},
    )


def _pairs(file: Path) -> dict[str, str]:
    """Return the NAME=VALUE pairs of a file, without the quotes around the values."""
    try:
        lines = [line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{file} cannot be read as UTF-8 text: {error}") from None
    invalid_lines = [
        str(number)
        for number, line in enumerate(lines, 1)
        if line and not line.startswith("#") and not PAIR.fullmatch(line)
    ]
    if invalid_lines:
        raise SettingsError(
            f"{file} has lines that are not NAME=VALUE: {', '.join(invalid_lines)}",
            "Correct the lines with these numbers.",
        )
    values = {match[1]: match[2] for line in lines if (match := PAIR.fullmatch(line))}
    return {name: re.sub(r"""^(["'])(.*)\1$""", r"\2", value) for name, value in values.items()}
