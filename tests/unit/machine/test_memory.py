"""How much memory a worker of the app takes, as the machine measures it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from conftest import Fake

from bake.host import paths


@pytest.fixture
def memory(rooted: Callable[..., ModuleType], fake: Fake) -> ModuleType:
    """The machine's program, on an app whose master is process 7."""
    module = rooted("memory.py", paths.features() / "author-server")
    fake("systemctl", "printf 'MainPID=7\\nControlGroup=/system.slice/app.service\\n'")
    group = module.GROUPS / "system.slice/app.service"
    group.mkdir(parents=True)
    (group / "cgroup.procs").write_text("7\n8\n9\n")
    for pid, kibibytes in ((7, 90_000), (8, 40_000), (9, 41_000)):
        (module.PROC / str(pid)).mkdir(parents=True)
        (module.PROC / f"{pid}/smaps_rollup").write_text(
            f"00400000-7fff [rollup]\nRss: 99999 kB\nPss:  {kibibytes} kB\nPss_Dirty: 1 kB\n"
        )
    return module


def test_the_largest_worker_is_measured_and_not_the_master(memory: ModuleType, tmp_path: Path) -> None:
    memory.measure(tmp_path)
    assert int((tmp_path / "worker-memory").read_text()) == 41_000 * 1024


def test_a_worker_that_has_just_gone_leaves_no_measure(memory: ModuleType, tmp_path: Path) -> None:
    (memory.PROC / "9/smaps_rollup").unlink()
    memory.measure(tmp_path)
    assert not (tmp_path / "worker-memory").exists()
