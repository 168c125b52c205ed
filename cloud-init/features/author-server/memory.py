"""Measure the memory of the app's workers. From the next start on, app-configure computes their number from it.

Part of bundles.
"""

import re
import subprocess
from pathlib import Path

from step import write

PROC, GROUPS = Path("/proc"), Path("/sys/fs/cgroup")


def measure(release: Path) -> None:
    """Write the bytes of the largest worker into the release's folder.

    It is the proportional set size, proc(5), which counts the memory that workers share only once for all of them. If
    the app has just stopped, nothing is written.
    """
    shown = subprocess.run(
        ["systemctl", "show", "-p", "MainPID", "-p", "ControlGroup", "app.service"], capture_output=True, text=True
    ).stdout
    facts = dict(line.split("=", 1) for line in shown.splitlines())
    try:
        pids = (GROUPS / facts["ControlGroup"].lstrip("/") / "cgroup.procs").read_text().split()
        texts = [(PROC / pid / "smaps_rollup").read_text() for pid in pids if pid != facts["MainPID"]]
    except OSError:
        return
    kibibytes = [int(number) for text in texts for number in re.findall(r"(?m)^Pss: +(\d+) kB", text)]
    if kibibytes:
        write(release / "worker-memory", f"{max(kibibytes) * 1024}\n")
