"""Correct what uWSGI does to the processes that an app starts. It is part of bundles; wsgi.py runs it.

A child inherits the mask of the thread that starts it. In all but one of a worker's threads, it would ignore SIGTERM,
and loops that wait for SIGCHLD, such as uvloop's, would never see the end of their own children.
"""

import _posixsubprocess
import os
import signal
import subprocess
import sys
from collections.abc import Callable


def unblocked(function: Callable[..., int]) -> Callable[..., int]:
    """Return a function that starts a process, with no signal blocked meanwhile."""

    def start(*values: object) -> int:
        mask = signal.pthread_sigmask(signal.SIG_SETMASK, ())
        try:
            return function(*values)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    return start


# The first is for multiprocessing.
_posixsubprocess.fork_exec = subprocess._fork_exec = unblocked(_posixsubprocess.fork_exec)  # type: ignore[attr-defined]
os.register_at_fork(after_in_child=lambda: signal.pthread_sigmask(signal.SIG_SETMASK, ()))
# Under uWSGI, this names uWSGI. Apps start Python by it, and so does multiprocessing, unless it forks.
sys.executable = f"{sys.prefix}/bin/python3"
