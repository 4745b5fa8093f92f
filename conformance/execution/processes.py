"""The processes of a tree as /proc shows them: who descends from whom, what they hold, their end.

Nothing is ever killed by its number alone. A process is signalled through a descriptor that is
opened first and checked against the start time that was read when the process was found, so that
a number which has meanwhile been given to somebody else reaches nobody. Where there is no /proc
there are no processes to see, and nothing happens.

Needs the standard library only: an executor's guard imports it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

__all__ = [
    "Process",
    "descendants",
    "end",
    "end_descendants",
    "end_marked",
    "marked",
    "read",
    "resident",
    "table",
]

_PATIENCE = 10.0
"""Seconds that killed processes get to be gone; freeing gigabytes takes time."""
_TRACKER = b"multiprocessing.resource_tracker"
_TRACKER_PATIENCE = 2.0
_PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096


@dataclass(frozen=True)
class Process:
    """A process at the moment it was looked at; the same one as long as `pid` and `started` are."""

    pid: int
    started: int
    """Clock ticks since the machine started; with `pid` it names one process for ever."""
    parent: int = field(compare=False)
    state: str = field(compare=False)
    """The letter of /proc: R, S, D, T, Z, ..."""
    name: str = field(compare=False)
    """The command's name, untrusted."""

    @property
    def lives(self) -> bool:
        """Whether it still is more than an entry that nobody has waited for."""
        return self.state not in "ZX"


def read(pid: int) -> Process | None:
    """The process of this number, or None."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            text = file.read()
    except OSError:
        return None
    # The name stands in parentheses and may hold anything, parentheses too.
    before, _, after = text.rpartition(b")")
    fields = after.split()
    name = before.partition(b"(")[2].decode("utf-8", errors="replace")
    return Process(pid, int(fields[19]), int(fields[1]), chr(fields[0][0]), name)


def table() -> dict[int, Process]:
    """Every process that can be seen, by number."""
    try:
        numbers = [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]
    except OSError:
        return {}
    return {pid: found for pid in numbers if (found := read(pid)) is not None}


def descendants(root: int) -> list[Process]:
    """The processes below `root`, parents before children; `root` itself is not among them.

    An orphan belongs to whoever adopted it: below a process that adopts (PR_SET_CHILD_SUBREAPER)
    nothing gets lost, however often it forks and whatever session it starts.
    """
    children: dict[int, list[Process]] = {}
    for process in table().values():
        children.setdefault(process.parent, []).append(process)
    found: list[Process] = []
    waiting = [root]
    while waiting:
        below = children.pop(waiting.pop(), [])
        found += below
        waiting += [process.pid for process in below]
    return found


def marked(variable: str, value: str | None = None) -> list[Process]:
    """Processes that were started with an environment variable, and with this value if given."""
    wanted = os.fsencode(f"{variable}=" if value is None else f"{variable}={value}")
    found = []
    for process in table().values():
        try:
            with open(f"/proc/{process.pid}/environ", "rb") as file:
                entries = file.read().split(b"\0")
        except OSError:
            continue
        if any(entry.startswith(wanted) if value is None else entry == wanted for entry in entries):
            found.append(process)
    return found


def resident(pids: Iterable[int], limit: int) -> int:
    """Bytes of memory that these processes hold together.

    The sum of what is resident, which counts a page once for each process that shares it; where
    that passes `limit`, the slower proportional sizes decide.
    """
    numbers = list(pids)
    total = sum(_resident(pid) for pid in numbers)
    if total <= limit or len(numbers) < 2:
        return total
    return sum(_proportional(pid) for pid in numbers)


def _resident(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            return int(file.read().split()[1]) * _PAGE
    except (OSError, IndexError, ValueError):
        return 0


def _proportional(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/smaps_rollup", "rb") as file:
            for line in file:
                if line.startswith(b"Pss:"):
                    return int(line.split()[1]) * 1024
    except (OSError, IndexError, ValueError):
        pass
    return _resident(pid)


# --- ends -----------------------------------------------------------------------------------


def end(process: Process, number: int = signal.SIGKILL) -> None:
    """Send a signal to exactly this process, if it is still there."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if not hasattr(os, "pidfd_open"):
            if _is_still(process):
                os.kill(process.pid, number)
            return
        descriptor = os.pidfd_open(process.pid)
        try:
            # The descriptor is bound to one process; if that is the one that was found, it stays
            # so however the numbers are dealt out.
            if _is_still(process):
                signal.pidfd_send_signal(descriptor, number)
        finally:
            os.close(descriptor)


def _is_still(process: Process) -> bool:
    now = read(process.pid)
    return now is not None and now.started == process.started


def end_descendants(root: int) -> bool:
    """Kill everything below `root` until nothing is left; whether that was reached in time.

    Python's resource trackers, which remove shared memory that their processes left, get a moment
    to do so once these are gone.
    """
    return _end(lambda: descendants(root))


def end_marked(variable: str, value: str) -> bool:
    """Kill every process that was started with this value of an environment variable."""
    mine = os.getpid()
    return _end(lambda: [p for p in marked(variable, value) if p.pid != mine])


def _end(find: Callable[[], list[Process]]) -> bool:
    start = time.monotonic()
    pause = 0.001
    while True:
        living = [process for process in find() if process.lives]
        if not living:
            return True
        waited = time.monotonic() - start
        if waited > _PATIENCE:
            return False
        trackers = (
            [process for process in living if _is_tracker(process)]
            if waited < _TRACKER_PATIENCE
            else []
        )
        for process in living:
            if process not in trackers:
                end(process)
        time.sleep(pause)
        pause = min(2 * pause, 0.05)


def _is_tracker(process: Process) -> bool:
    try:
        with open(f"/proc/{process.pid}/cmdline", "rb") as file:
            return _TRACKER in file.read()
    except OSError:
        return False
