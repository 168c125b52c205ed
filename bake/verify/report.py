"""Write the differences between two servers as a table, and in one line."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace

from bake.host import terminal
from bake.verify.comparison import Difference
from bake.verify.rules import Verdict


def rows(differences: Iterable[Difference]) -> list[tuple[Difference, tuple[str, ...]]]:
    """Return the faults, then the notes. Each has the list of its schemes and hosts."""
    hosts: dict[Difference, dict[str, None]] = defaultdict(dict)
    for difference in differences:
        if difference.verdict is not Verdict.SAME:
            hosts[replace(difference, scheme_host="")][difference.scheme_host] = None
    ordered = sorted(hosts.items(), key=lambda item: -item[0].verdict.value)
    return [(difference, tuple(names)) for difference, names in ordered]


def table(differences: Iterable[Difference]) -> str:
    """Return the differences for a terminal, faults first, or "" if there are none.

    A row is `path  author  machine  verdict`. Below it are the sentence with the hosts, and the cure.
    """
    found = rows(differences)
    if not found:
        return ""
    head = ("path", "author", "machine", "verdict")
    cells = [head, *((each.path, each.author, each.machine, each.verdict.name.lower()) for each, _ in found)]
    short = [[_cut(cell) for cell in row] for row in cells]
    widths = [max(map(len, column)) for column in zip(*short, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in short]
    shown = [lines[0]]
    for line, (difference, hosts) in zip(lines[1:], found, strict=True):
        below = [f"{difference.sentence} ({', '.join(hosts)})", difference.cure]
        shown += [line, *(f"    {terminal.one_line(text)}" for text in below if text)]
    return "\n".join(shown)


def _cut(text: str, most: int = 48) -> str:
    line = terminal.one_line(text)
    return line if len(line) <= most else f"{line[: most - 1]}…"


def summary(differences: Sequence[Difference], reason: str = "") -> str:
    """Return a one-line summary: `compared, 41 addresses, 3 notes`, or `not compared` with a `reason`."""
    if reason:
        return f"not compared ({reason})"
    # Count each address once, for all schemes, methods and visitors.
    worst: dict[str, Verdict] = {}
    for difference in differences:
        before = worst.get(difference.address, Verdict.SAME)
        worst[difference.address] = max(before, difference.verdict, key=lambda verdict: verdict.value)
    counts = {"address": len(worst.keys() - {""})}
    for verdict in (Verdict.FAULT, Verdict.NOTE):
        if found := sum(each is verdict for each in worst.values()):
            counts[verdict.name.lower()] = found
    plural = {"address": "addresses", "fault": "faults", "note": "notes"}
    parts = [f"{count} {name if count == 1 else plural[name]}" for name, count in counts.items()]
    return ", ".join(["compared", *parts])
