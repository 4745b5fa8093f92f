"""Waiting on a child with an eye on the clock, on its life and on its memory, all from outside."""

from __future__ import annotations

import os
import select
import subprocess
import time

from conformance.execution import processes

__all__ = ["DeadlineError", "GoneError", "MemoryLimitError", "Watch", "has_ended"]

_POLL_SECONDS = 0.02
_SCAN_SECONDS = 0.25
_SCAN_AT_LEAST_EVERY = 1.0
_SCAN_SHARE = 0.05
"""Of this process's time, about, that may go into looking for descendants."""


class DeadlineError(Exception):
    """The time is over."""


class MemoryLimitError(Exception):
    """The child and what it started hold too much memory."""


class GoneError(Exception):
    """The child has closed its end."""


class Watch:
    """Waits on the pipes of a child.

    Parameters
    ----------
    process : Popen
        The child's guard: every process below it counts.
    """

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._until = self._limit = 0.0
        self._pids: list[int] = []
        self._next_scan = 0.0

    def begin(self, seconds: float, memory_limit: int) -> None:
        """Start the clock, and say how many resident bytes all these processes may hold."""
        self._until = time.monotonic() + seconds
        self._limit = memory_limit

    def wait(self, poll: select.poll) -> None:
        """Return when the pipe is ready; raise when something else has happened."""
        while True:
            remaining = self._until - time.monotonic()
            if remaining <= 0:
                raise DeadlineError
            if poll.poll(min(remaining, _POLL_SECONDS) * 1000):
                return
            # A grandchild can hold the pipe open when the child itself is gone.
            if has_ended(self._process) and not poll.poll(0):
                raise GoneError
            resident = self._resident()
            if resident > self._limit:
                raise MemoryLimitError(
                    f"killed at {resident / 2**20:.0f} MiB of resident memory, "
                    f"above the limit of {self._limit / 2**20:.0f} MiB"
                )

    def _resident(self) -> int:
        now = time.monotonic()
        if now >= self._next_scan:
            busy = time.thread_time()
            self._pids = [process.pid for process in processes.descendants(self._process.pid)]
            busy = time.thread_time() - busy
            pause = min(max(_SCAN_SECONDS, busy / _SCAN_SHARE), _SCAN_AT_LEAST_EVERY)
            self._next_scan = time.monotonic() + pause
        return processes.resident(self._pids, int(self._limit))


def has_ended(process: subprocess.Popen[bytes]) -> bool:
    """Whether it is dead; it stays unreaped, so that its number stays its own."""
    if process.returncode is not None:
        return True
    try:
        options = os.WEXITED | os.WNOHANG | os.WNOWAIT
        return os.waitid(os.P_PID, process.pid, options) is not None
    except ChildProcessError:
        return True
