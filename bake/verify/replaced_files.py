"""Find the system's files that processes still use although an upgrade has replaced them."""

from __future__ import annotations

import re

#: A line of /proc/PID/maps: address, mode, offset, device, inode, and the path of a program or a library that is gone.
REPLACED = re.compile(r"^[0-9a-f]+-[0-9a-f]+ ..xp [0-9a-f]+ \S+ \d+ +(/usr/.*) \(deleted\)$", re.M)


def replaced(maps: str) -> set[str]:
    """Return the paths of replaced files in the text of /proc/PID/maps. Deleted files of an app do not count."""
    return set(REPLACED.findall(maps))
