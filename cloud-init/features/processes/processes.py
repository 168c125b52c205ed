"""Exchange the app's processes, such as the workers of a queue, with its release. app-setup loads it from the release.

The old processes run until the new release serves. Then systemd stops them and starts those of the new release.
"""

import re
import time
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

from step import FOLLOWED, StepError, command, say

UNIT = "app-process@{}.service"
#: Seconds for which a started process must run.
PATIENCE = 10
#: Variables that usually contain the address of a server.
ADDRESS = re.compile(r"^(\w*(?:BROKER|REDIS|AMQP|RABBITMQ|DATABASE)\w*|\w+_(?:URL|URI|DSN|HOST))=", re.MULTILINE)
#: Errors of clients that cannot read the random value of a secret as an address.
NO_ADDRESS = re.compile("URL must specify")
#: The errors of a variable that is not set: os.environ, django-environ, python-decouple, environs.
UNSET = re.compile(
    r"""in __getitem__\n(?: .*\n){0,3}KeyError: '(\w+)'|Set the (\w+) environment variable"""
    r"""|UndefinedValueError: (\w+) not found|nvironment variable ["'](\w+)["'] not set"""
)


def exchange(release: Path, recipe: dict, steps: ModuleType, stale: bool) -> None:
    """Stop the processes that the release does not have, and start its own.

    `stale`: they run with another release or other settings, so restart them. Raises StepError if one then ends within
    PATIENCE, unless a server is unreachable. After a rollback a process may fail, as the steps of a release may.
    """
    names = sorted(path.name for path in (release / "settings/processes").iterdir())
    units = {UNIT.format(name): name for name in names}
    listed = command("systemctl", "list-units", "--plain", "--no-legend", UNIT.format("*")).splitlines()
    if gone := [line.split()[0] for line in listed if line.split()[0] not in units]:
        command("systemctl", "stop", *gone)
    if not stale:
        command("systemctl", "start", *units)
        return
    for unit in units if steps.CHECK.exists() else ():
        steps.close(unit)
    begun = int(time.time())
    command("systemctl", "restart", *units)
    problems = []
    for unit in sorted(watch(units)):
        log = command(*steps.JOURNAL, unit, "--since", f"@{begun}")
        if reason := excuse(log, release, recipe, steps):
            if steps.CHECK.exists():
                steps.skip(unit, f"process {units[unit]} is not tried here: {reason}")
            else:
                say(f"<4>process {units[unit]} ended, and systemd restarts it: {reason}")
        else:
            shown = f"journalctl --namespace=* -u {unit}"
            problems.append(f"process {units[unit]} of bake.yaml ended after its start: see `{shown}`")
    problem = "; ".join(problems)
    if problem and (release / FOLLOWED).exists():
        say(f"<4>{problem}; starting this release anyway, because a newer one has run here")
    elif problem:
        raise StepError(problem)


def watch(units: Iterable[str]) -> set[str]:
    """Return the started units whose process ends within PATIENCE."""
    deadline = time.monotonic() + PATIENCE
    first = {unit: state(unit) for unit in units}
    ended: set[str] = set()
    while True:
        time.sleep(1)
        ended |= {unit for unit in units if state(unit) != first[unit] or "ActiveState=active" not in first[unit]}
        if ended == set(units) or time.monotonic() > deadline:
            return ended


def state(unit: str) -> str:
    """Return a unit's state and the number of its restarts, which tells that it ended even if it runs again."""
    return command("systemctl", "show", "--property=ActiveState,NRestarts", unit)


def excuse(log: str, release: Path, recipe: dict, steps: ModuleType) -> str:
    """Return why a process cannot run on this machine, as its log shows: a server or a variable is missing. Or ""."""
    if steps.CHECK.exists() and (unset := UNSET.search(log)):
        return f"it needs the variable {next(filter(None, unset.groups()))}"
    if not steps.UNREACHABLE.search(log) and not (steps.CHECK.exists() and NO_ADDRESS.search(log)):
        return ""
    env = release / "settings/env"
    lines = [f"{name}=" for name in recipe.get("secrets") or []] + (
        env.read_text().splitlines() if env.exists() else []
    )
    places = " or ".join(ADDRESS.findall("\n".join(lines)))
    return f"its broker is at {places}" if places else "it needs a server that it cannot reach"
