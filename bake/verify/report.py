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
    sorted_items = sorted(hosts.items(), key=lambda item: -item[0].verdict.value)
    return [(difference, tuple(names)) for difference, names in sorted_items]


def table(differences: Iterable[Difference]) -> str:
    """Return the differences for a terminal, faults first, or "" if there are none.

    A row is `path  author  machine  verdict`. Below it are the sentence with the hosts, and the cure.
    """
    difference_rows = rows(differences)
    if not difference_rows:
        return ""
    table_rows = [("path", "author", "machine", "verdict")]
    table_rows += [(item.path, item.author, item.machine, item.verdict.name.lower()) for item, _ in difference_rows]
    cells = [[_cut(cell) for cell in row] for row in table_rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in cells]
    text_lines = [lines[0]]
    for line, (difference, hosts) in zip(lines[1:], difference_rows, strict=True):
        details = [f"{difference.sentence} ({', '.join(hosts)})", difference.cure]
        text_lines += [line, *(f"    {terminal.one_line(text)}" for text in details if text)]
    return "\n".join(text_lines)


def _cut(text: str, width: int = 48) -> str:
    line = terminal.one_line(text)
    return line if len(line) <= width else f"{line[: width - 1]}…"


def summary(differences: Sequence[Difference], reason: str = "") -> str:
    """Return a one-line summary: `compared, 41 addresses, 3 notes`, or `not compared` with a `reason`."""
    if reason:
        return f"not compared ({reason})"
    # Count each address once, for all schemes, methods and visitors.
    worst: dict[str, Verdict] = {}
    for difference in differences:
        verdicts = (worst.get(difference.address, Verdict.SAME), difference.verdict)
        worst[difference.address] = max(verdicts, key=lambda verdict: verdict.value)
    counts = {"address": len(worst.keys() - {""})}
    for verdict in (Verdict.FAULT, Verdict.NOTE):
        if count := list(worst.values()).count(verdict):
            counts[verdict.name.lower()] = count
    plural = {"address": "addresses", "fault": "faults", "note": "notes"}
    parts = [f"{count} {name if count == 1 else plural[name]}" for name, count in counts.items()]
    return ", ".join(["compared", *parts])
