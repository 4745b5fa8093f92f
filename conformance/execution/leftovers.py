"""Threads and processes that a call has left behind it."""

from __future__ import annotations

import _thread
import os
import threading
import time
from dataclasses import dataclass

from conformance.execution import processes

__all__ = ["Child", "Thread", "children", "left_behind", "threads"]

_GRACE = 0.2
"""Seconds that a thread gets which is about to end."""


@dataclass(frozen=True)
class Thread:
    """A thread that Python knows."""

    number: int
    name: str


@dataclass(frozen=True)
class Child:
    """A process below this one; ended ones too, until somebody has waited for them."""

    pid: int
    started: int


def threads() -> frozenset[Thread]:
    """Threads that Python code has started, the main one included.

    Threads of libraries that once called into Python are not ours to count; those started by the
    bare ``_thread`` module have no name.
    """
    named = {
        Thread(thread.ident or 0, thread.name)
        for thread in threading.enumerate()
        if not isinstance(thread, threading._DummyThread)
    }
    bare = _thread._count() + 1 - len(named)
    return frozenset(named) | {Thread(-k, "without a name") for k in range(1, bare + 1)}


def children() -> frozenset[Child]:
    """Processes below this one.

    An executor's child adopts its orphans (see `guard`): what an implementation started
    and let go of is among them. One system call where there are none.
    """
    if not hasattr(os, "waitid"):
        return frozenset()
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return frozenset()
    me = os.getpid()
    return frozenset(
        Child(process.pid, process.started)
        for process in processes.table().values()
        if process.parent == me
    )


def left_behind(
    threads_before: frozenset[Thread],
    threads_after: frozenset[Thread],
    children_before: frozenset[Child],
    children_after: frozenset[Child],
) -> list[str]:
    """What is there that was not before, one line each."""
    found = []
    if threads_after - threads_before:
        until = time.monotonic() + _GRACE
        while (new := threads() - threads_before) and time.monotonic() < until:
            time.sleep(0.005)
        found += [f"thread left running: {thread.name}" for thread in sorted(new, key=_number)]
    for child in sorted(children_after - children_before, key=lambda child: child.pid):
        process = processes.read(child.pid)
        if process is None or process.started != child.started or not process.lives:
            found.append("process left behind: ended, and nobody waited for it")
        else:
            found.append(f"process left running: {process.name}")
    return found


def _number(thread: Thread) -> int:
    return thread.number
