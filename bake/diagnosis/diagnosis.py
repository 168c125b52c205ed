"""Find the cause of an app's failure in its journal, and the lines of bake.yaml that fix it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from bake.diagnosis.causes import CAUSES
from bake.diagnosis.cures import Cure, Evidence, service_of
from bake.diagnosis.tracebacks import BANNER, Raised, Traceback, before_the_end, last_chain, lines_of, raised
from bake.diagnosis.unreachable import UNREACHABLE
from bake.errors import AppStartError, BakeError, SetupError, UnhealthyError

#: The number of log lines to show on the screen.
SHOWN = 40


@dataclass(frozen=True)
class Diagnosis:
    """The app's exception and its cures, if there are any. `causes` are the names of the rows that matched."""

    raised: Raised | None
    causes: tuple[str, ...]
    cures: tuple[Cure, ...]

    @property
    def text(self) -> str:
        """The lines to show last: the exception, the advice, and the keys to add to bake.yaml."""
        lines = [self.raised.text] if self.raised else []
        lines += dict.fromkeys(cure.advice for cure in self.cures if cure.advice)
        added: dict[str, object] = {}
        for cure in self.cures:
            added = _merged(added, cure.add)
        if "writable" in added:
            added["writable"] = _outermost(added["writable"])
        keys = [f"{key}: {_flow(value)}" for key, value in added.items()]
        if len(keys) == 1:
            lines.append(f"Add to bake.yaml:  {keys[0]}")
        elif keys:
            lines += ["Add to bake.yaml:", *(f"  {key}" for key in keys)]
        return "\n".join(lines)


def diagnose(log: str) -> Diagnosis:
    """Return the cause of an app's failure from its journal, as journalctl or Packer prints it."""
    chain, evidence = _evidence(log)
    rows = [(cause.name, cure) for cause in CAUSES for cure in cause.cures(evidence)]
    cures = {repr(cure): cure for _, cure in rows}
    return Diagnosis(raised(chain), tuple(dict.fromkeys(name for name, _ in rows)), tuple(cures.values()))


def _evidence(log: str) -> tuple[list[Traceback], Evidence]:
    """Return the last chain of exceptions in a journal, and the evidence to search for causes."""
    lines = lines_of(log)
    chain = last_chain(before_the_end(lines))
    frames = tuple(frame for traceback in chain for frame in traceback.frames)
    return chain, Evidence("\n".join(lines), "\n".join(line for each in chain for line in each.lines), frames)


def needs(log: str) -> str:
    """Return the server that an app could not reach, such as `PostgreSQL at DATABASE_URL`, or "" for other faults."""
    _, evidence = _evidence(log)
    service = service_of(evidence) if re.search(UNREACHABLE, evidence.chain) else None
    return f"{service.name} at {service.variable}" if service else ""


def relevant(log: str, count: int = SHOWN) -> str:
    """Return the last lines of a journal for the screen, without the banner of uWSGI."""
    return "\n".join([line for line in lines_of(log) if line and not BANNER.match(line)][-count:])


def of_setup(reason: str, log: str) -> BakeError:
    """Return the error for a machine whose setup failed. `reason` follows "app-setup failed: " in its `log`."""
    cure, details = diagnose(log).text, relevant(log)
    if "app start failed" in reason:
        way_out = "The last lines of its log are above. Correct the app and try again."
        return AppStartError("The app does not start on the machine", cure or way_out, details)
    if reason.startswith("unhealthy"):
        problem = reason.splitlines()[0].removeprefix("unhealthy: ")
        way_out = "Correct the page, or set another one in bake.yaml: `check: {health: /path}`."
        return UnhealthyError(f"The app starts, but {problem}", f"{way_out}\n{cure}".rstrip(), details)
    hint = cure or "The last lines of the setup's log are above. Correct the cause and try again."
    return SetupError(f"The machine could not be set up: {reason}", hint, details)


def _merged(left: Mapping[str, object], right: Mapping[str, object]) -> dict[str, object]:
    """Merge two parts of bake.yaml. Join lists and mappings without duplicates."""
    both = dict(left)
    for key, value in right.items():
        mine = both.get(key)
        if isinstance(mine, tuple) and isinstance(value, tuple):
            both[key] = tuple(dict.fromkeys((*mine, *value)))
        elif isinstance(mine, Mapping) and isinstance(value, Mapping):
            both[key] = _merged(mine, value)
        else:
            both.setdefault(key, value)
    return both


def _outermost(paths: object) -> tuple[str, ...]:
    """Return the paths that are not inside another one of them."""
    kept = paths if isinstance(paths, tuple) else ()
    return tuple(path for path in kept if not any(str(parent) in kept for parent in PurePosixPath(path).parents))


def _flow(value: object) -> str:
    """Return a value as YAML in one line. `on` needs no quotes, because bake reads every scalar as text."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_flow(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, tuple):
        return "[" + ", ".join(map(_flow, value)) + "]"
    text = str(value)
    return text if re.fullmatch(r"[\w./…][\w./…:+-]*(?: [\w./…+=-]+)*", text) else json.dumps(text, ensure_ascii=False)
