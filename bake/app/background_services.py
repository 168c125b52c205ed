"""Propose the services that an app needs in the background: a Redis on the machine, and the worker of Celery."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from bake.app.name_resolution import Reader
from bake.app.names import assigned_values, last_name
from bake.config.recipe import Recipe

#: The address of a Redis on the same machine, as URL or as host and port.
LOCAL_REDIS = re.compile(
    r"""^[^#\n]*(?:rediss?://(?:[^@\s'"/]*@)?(?:localhost|127\.0\.0\.1)\b"""
    r"""|['"](?:localhost|127\.0\.0\.1)['"]\s*,\s*(?:port\s*=\s*)?6379\b)""",
    re.MULTILINE,
)
#: A variable whose default is the address of a Redis in another container, as Docker Compose names it.
COMPOSE_REDIS = re.compile(
    r"""(?:environ\.get|getenv)\(\s*['"](\w+)['"]\s*,\s*['"](rediss?://)redis((?::\d+)?(?:/\d+)?)['"]"""
)
#: The host of such a Redis, as the default of a variable or as it is.
COMPOSE_HOST = re.compile(r"""(?:environ\.get|getenv)\(\s*['"](\w*HOST\w*)['"]\s*,\s*['"]redis['"]""")
COMPOSE_CALL = re.compile(r"""\bRedis\([^)]*\bhost\s*=\s*['"]redis['"]""")
REDIS = "redis-server"
#: Names of Celery's app in a module that gets it from a function.
USUAL_NAMES = {"celery", "celery_app"}
#: Debian packages with a server that speaks Redis' protocol.
REDIS_PACKAGES = {REDIS, "redis", "valkey", "valkey-server"}


@dataclass(frozen=True)
class Proposal:
    """A line for bake.yaml, what it does, and why bake proposes it."""

    reason: str
    purpose: str
    line: str

    @property
    def note(self) -> str:
        """Return the proposal as a sentence."""
        return f"{self.reason}; {self.purpose}, write  {self.line}"


def proposals(reader: Reader, recipe: Recipe) -> Iterator[Proposal]:
    """Yield the lines for bake.yaml that run them on the machine. Only the author knows whether another one does."""
    if REDIS_PACKAGES.isdisjoint(recipe.packages):
        yield from _redis(reader)
    if not recipe.processes and (worker := _celery(reader)):
        place, app = worker
        yield Proposal(
            f"{place} makes an app of Celery", "to run its worker beside the site",
            f"processes: {{worker: celery -A {app} worker}}",
        )  # fmt: skip


def _redis(reader: Reader) -> Iterator[Proposal]:
    """Yield the lines for a Redis that the app names. The texts, up to 64 MB, are read one at a time."""
    local = other = fixed = ""
    variables: dict[str, str] = {}
    for module in reader.modules.values():
        text = (reader.folder / module.path).read_text(encoding="utf-8-sig", errors="replace")
        local = local or _place(LOCAL_REDIS, module.path, text)
        other = other or _place(COMPOSE_REDIS, module.path, text) or _place(COMPOSE_HOST, module.path, text)
        fixed = fixed or _place(COMPOSE_CALL, module.path, text)
        # On the machine, it has the same address but for the host.
        variables |= {match[1]: f"{match[2]}localhost{match[3]}" for match in COMPOSE_REDIS.finditer(text)}
        variables |= {match[1]: "localhost" for match in COMPOSE_HOST.finditer(text)}
    if local:
        yield Proposal(f"{local} names a Redis at localhost", "to run it on the machine", f"packages: [{REDIS}]")
    if other:
        reason = f"{other} names a Redis at another container"
        if not local:
            yield Proposal(reason, "to run one on the machine", f"packages: [{REDIS}]")
        values = ", ".join(f"{name}: {value}" for name, value in variables.items())
        yield Proposal(reason, "for one on the machine", f"env: {{{values}}}")
    if fixed and not other:
        reason = f"{fixed} names a Redis at another container"
        yield Proposal(reason, "to run one on the machine, where its host is localhost", f"packages: [{REDIS}]")


def _place(pattern: re.Pattern[str], path: PurePosixPath, text: str) -> str:
    """Return the place of the first match in a module as `file:line`, or ""."""
    match = pattern.search(text)
    if match is None:
        return ""
    line = text.count("\n", 0, match.end()) + 1
    return f"{path}:{line}"


def _celery(reader: Reader) -> tuple[str, str] | None:
    """Return the place and the name of Celery's app: one made at module level, or else one with a usual name."""
    named: list[tuple[str, str]] = []
    users = [module for module in reader.modules.values() if "celery" in module.imported_packages]
    others = [module for module in reader.modules.values() if USUAL_NAMES & module.scope.names.keys()]
    for module in dict.fromkeys((*users, *others)) if users else ():
        for name, value in assigned_values(reader.tree(module)).items():
            result = f"{module.path}:{value.lineno}", f"{module.name}.{name}"
            if isinstance(value, ast.Call) and last_name(value.func) == "Celery":
                return result
            named += [result] if name in USUAL_NAMES else []
    return named[0] if named else None
