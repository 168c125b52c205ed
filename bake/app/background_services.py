"""Propose the services that an app needs in the background: a Redis on the machine, and the worker of Celery."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from bake.app.name_resolution import Reader
from bake.app.names import assigned_values, last_name
from bake.config.recipe import Recipe

#: The address of a Redis on the same machine, as URL or as host and port.
LOCAL_REDIS = re.compile(
    r"""^[^#\n]*(?:rediss?://(?:[^@\s'"/]*@)?(?:localhost|127\.0\.0\.1)\b"""
    r"""|['"](?:localhost|127\.0\.0\.1)['"]\s*,\s*(?:port\s*=\s*)?6379\b)""",
    re.MULTILINE,
)
REDIS = "redis-server"
#: Names of Celery's app in a module that gets it from a function.
USUAL_NAMES = {"celery", "celery_app"}
#: Debian packages with a server that speaks Redis' protocol.
REDIS_PACKAGES = {REDIS, "redis", "valkey", "valkey-server"}


def notes(reader: Reader, recipe: Recipe) -> Iterator[str]:
    """Yield the lines for bake.yaml that run them on the machine. Only the author knows whether another one does."""
    if REDIS_PACKAGES.isdisjoint(recipe.packages):
        for module in reader.modules.values():
            text = (reader.folder / module.path).read_text(encoding="utf-8-sig", errors="replace")
            if match := LOCAL_REDIS.search(text):
                line = text.count("\n", 0, match.end()) + 1
                place = f"{module.path}:{line}"
                yield f"{place} names a Redis at localhost; to run it on the machine, write  packages: [{REDIS}]"
                break
    if not recipe.processes and (worker := _celery(reader)):
        place, app = worker
        yield (
            f"{place} makes an app of Celery; to run its worker beside the site, write  "
            f"processes: {{worker: celery -A {app} worker}}"
        )


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
