"""Define `assets`: the front end that bake builds from an app's source, such as one of Vite, webpack or Tailwind."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema, model_validator

from bake.config import field_types
from bake.config.sections import Section

#: A command that begins with an installation: `npm ci && npm run build`.
INSTALL_FIRST = re.compile(r"\s*((?:npm|pnpm|yarn)\s+(?:ci|install|i)\b[^&|;]*|yarn\s*)&&(.*)")

_Path = Annotated[str, AfterValidator(field_types.inner_path)]


class Assets(Section):
    """A front end that bake builds before it packs a release."""

    folder: Annotated[
        tuple[_Path, ...],
        BeforeValidator(lambda value: (value,) if isinstance(value, str) else value),
        WithJsonSchema({"type": ["string", "array"], "items": {"type": "string"}}),
    ] = Field(min_length=1, description="The folder that the build writes, or a list of them: static/dist.")
    run: field_types.Command = Field(description="The command that builds: npm run build. It has no network.")
    install: field_types.Command | None = Field(
        default=None,
        description="The command that fetches packages. It reaches only the package registry (default: from the lock "
        "file: npm ci, pnpm install --frozen-lockfile or yarn install --frozen-lockfile).",
    )
    source: _Path | None = Field(
        default=None, description="The folder with package.json, where the commands run (default: the app's folder)."
    )
    registry: Annotated[str, field_types.url("https")] | None = Field(
        default=None, description="The URL of another registry of npm packages, without a password."
    )

    @model_validator(mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        """Take the installation with which `run` begins as `install`, because `run` has no network."""
        if isinstance(value, Mapping) and (match := INSTALL_FIRST.fullmatch(str(value.get("run")))):
            if value.get("install"):
                raise ValueError("`run` begins with an installation, and has no network: remove it from `run`")
            return {**value, "install": match[1].strip(), "run": match[2].strip()}
        return value

    def contains(self, path: str) -> bool:
        """Return whether a path of the app's folder is one of the build's folders, or is in one."""
        return any(PurePosixPath(path).is_relative_to(folder) for folder in self.folder)

    def makes(self, path: str) -> bool:
        """Return whether the build makes a path of the app's folder: one of its folders, or a path in or above it."""
        return self.contains(path) or any(PurePosixPath(folder).is_relative_to(path) for folder in self.folder)
