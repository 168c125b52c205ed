"""Find the cause of an app's failure in its journal, and the lines of bake.yaml that fix it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from bake.config import contract
from bake.config.contract_files import Result
from bake.diagnosis.causes import CAUSES
from bake.diagnosis.cures import Cure, Evidence, service_of
from bake.diagnosis.tracebacks import (
    BANNER,
    ExceptionSummary,
    Traceback,
    chains,
    last_chain,
    lines_before_the_end,
    lines_of,
    summarize,
)
from bake.diagnosis.unreachable import UNREACHABLE
from bake.errors import AppStartError, BakeError, SetupError, UnhealthyError

#: The number of log lines to show on the screen.
SHOWN_LINES = 40


@dataclass(frozen=True)
class Diagnosis:
    """The app's exception and its cures, if there are any. `causes` are the names of the rows that matched."""

    exception: ExceptionSummary | None
    causes: tuple[str, ...]
    cures: tuple[Cure, ...]

    @property
    def text(self) -> str:
        """Return the lines to show last: the exception, the advice, and the keys to add to bake.yaml."""
        lines = [self.exception.text] if self.exception else []
        lines += dict.fromkeys(cure.advice for cure in self.cures if cure.advice)
        keys: dict[str, object] = {}
        for cure in self.cures:
            keys = _merge(keys, cure.add)
        if "writable" in keys:
            keys["writable"] = _outermost(keys["writable"])
        rows = [f"{key}: {_flow(value)}" for key, value in keys.items()]
        if len(rows) == 1:
            lines.append(f"Add to bake.yaml:  {rows[0]}")
        elif rows:
            lines += ["Add to bake.yaml:", *(f"  {row}" for row in rows)]
        return "\n".join(lines)


def diagnose(log: str) -> Diagnosis:
    """Return the cause of an app's failure from its journal, as journalctl or Packer prints it."""
    chain, evidence = _evidence(log)
    rows = [(cause.name, cure) for cause in CAUSES for cure in cause.cures(evidence)]
    cures = {repr(cure): cure for _, cure in rows}
    return Diagnosis(summarize(chain), tuple(dict.fromkeys(name for name, _ in rows)), tuple(cures.values()))


def _evidence(log: str) -> tuple[list[Traceback], Evidence]:
    """Return the last chain of exceptions in a journal, and the evidence to search for causes."""
    lines = lines_of(log)
    chain = last_chain(lines_before_the_end(lines))
    frames = tuple(frame for traceback in chain for frame in traceback.frames)
    return chain, Evidence("\n".join(lines), "\n".join(line for traceback in chain for line in traceback.lines), frames)


def unreachable_service(log: str) -> str:
    """Return the server that an app could not reach, such as `PostgreSQL at DATABASE_URL`, or "" for other faults."""
    _, evidence = _evidence(log)
    service = service_of(evidence) if re.search(UNREACHABLE, evidence.chain) else None
    return f"{service.name} at {service.variable}" if service else ""


def has_other_failures(log: str) -> bool:
    """Return whether a journal also has exceptions that no unreachable server explains."""
    for chain in chains(lines_of(log)):
        text = "\n".join(line for traceback in chain for line in traceback.lines)
        if not chain[-1].is_ending and not re.search(UNREACHABLE, text):
            return True
    return False


def last_lines(log: str, count: int = SHOWN_LINES) -> str:
    """Return the last lines of a journal for the screen, without the banner of uWSGI."""
    return "\n".join([line for line in lines_of(log) if line and not BANNER.match(line)][-count:])


def setup_error(result: Result, log: str) -> BakeError:
    """Return the error for a machine whose setup failed, from its result and its log."""
    cure, details = diagnose(log).text, last_lines(log)
    if result.kind == contract.NOT_STARTED:
        advice = "The last lines of its log are above. Correct the app and try again."
        return AppStartError("The app does not start on the machine", cure or advice, details)
    if result.kind == contract.UNHEALTHY:
        advice = "Correct the page, or set another one in bake.yaml: `check: {health: /path}`."
        return UnhealthyError(f"The app starts, but {result.message}", f"{advice}\n{cure}".rstrip(), details)
    hint = cure or "The last lines of the setup's log are above. Correct the cause and try again."
    return SetupError(f"The machine could not be set up: {result.message or result.kind}", hint, details)


def _merge(left: Mapping[str, object], right: Mapping[str, object]) -> dict[str, object]:
    """Merge two parts of bake.yaml. Join lists and mappings without duplicates."""
    result = dict(left)
    for key, value in right.items():
        current = result.get(key)
        if isinstance(current, tuple) and isinstance(value, tuple):
            result[key] = tuple(dict.fromkeys((*current, *value)))
        elif isinstance(current, Mapping) and isinstance(value, Mapping):
            result[key] = _merge(current, value)
        else:
            result.setdefault(key, value)
    return result


def _outermost(paths: object) -> tuple[str, ...]:
    """Return the paths that are not inside another one of them."""
    names = paths if isinstance(paths, tuple) else ()
    return tuple(name for name in names if not any(str(parent) in names for parent in PurePosixPath(name).parents))


def _flow(value: object) -> str:
    """Return a value as YAML in one line. `on` needs no quotes, because bake reads every scalar as text."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_flow(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, tuple):
        return "[" + ", ".join(map(_flow, value)) + "]"
    text = str(value)
    return text if re.fullmatch(r"[\w./…][\w./…:+-]*(?: [\w./…+=-]+)*", text) else json.dumps(text, ensure_ascii=False)
