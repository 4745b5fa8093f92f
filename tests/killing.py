"""Runs that are killed at a random moment, and what must not be left of them."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from commandline import PACKAGES

MARK = "CONFORMANCE_TEST_MARK"
TARGETS = ("parent", "worker", "executor")
SHARED_MEMORY = Path("/dev/shm")
_PATIENCE = 300.0


@dataclass
class Killed:
    """A run that was started, and killed or not.

    Attributes
    ----------
    hit : bool
        Whether there was a process to kill.
    code : int
        How the run itself ended.
    lines : int
        Lines of the record when the signal was sent.
    """

    hit: bool
    code: int
    lines: int
    stderr: str


def lines_of(folder: Path) -> int:
    """How many finished lines the record in a folder has."""
    try:
        return (folder / "measurements.jsonl").read_bytes().count(b"\n")
    except OSError:
        return 0


def killed(
    arguments: list[str],
    folder: Path,
    temporary: Path,
    target: str,
    draw: random.Random,
    cells: int,
) -> Killed:
    """Start a run, send SIGKILL to one of its processes at a random moment, wait for its end.

    The moment is a number of finished lines and a few milliseconds more, or, one time in four, a
    time after the start, when there may be no line yet.
    """
    mark = uuid.uuid4().hex
    wanted = draw.randrange(lines_of(folder) + 1, cells + 2)
    delay = draw.random() * 0.05
    by_time = draw.random() < 0.25
    early = draw.random() * 3.0
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "conformance", *arguments],
        env={**os.environ, "PYTHONPATH": PACKAGES, MARK: mark, "TMPDIR": str(temporary)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    start = time.monotonic()

    def waiting() -> bool:
        if process.poll() is not None:
            return False
        if by_time:
            return time.monotonic() - start < early
        return lines_of(folder) < wanted

    while waiting():
        time.sleep(0.002)
    time.sleep(delay)
    hit = False
    lines = lines_of(folder)
    # A worker or an executor may not have been started yet.
    while not hit and process.poll() is None:
        victim = process.pid if target == "parent" else _victim(target, mark)
        if victim is None:
            time.sleep(0.005)
            continue
        lines = lines_of(folder)
        with contextlib.suppress(ProcessLookupError):
            os.kill(victim, signal.SIGKILL)
            hit = True
    try:
        # Not communicate(): a process that outlives the run and holds stderr must not hide here.
        code = process.wait(timeout=_PATIENCE)
        assert gone(mark), f"processes are left after the {target} was killed: {_marked(mark)}"
        stderr = process.stderr.read() if process.stderr else ""
    finally:
        process.kill()
        process.wait()
        if process.stderr:
            process.stderr.close()
    return Killed(hit, code, lines, stderr)


def gone(mark: str) -> bool:
    """Whether every process that carries the mark ends soon."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if not _marked(mark):
            return True
        time.sleep(0.02)
    return False


def _victim(target: str, mark: str) -> int | None:
    """A process of the run: a worker of pytest-xdist or the child of an executor."""
    for pid, command in _marked(mark).items():
        if target == "executor" and "execution/child.py" in command:
            return pid
        if target == "worker" and "exec(eval(sys.stdin" in command:
            return pid
    return None


def _marked(mark: str) -> dict[int, str]:
    """Living processes whose environment carries the mark, with their command lines."""
    needle = f"{MARK}={mark}".encode()
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            if needle not in (entry / "environ").read_bytes():
                continue
            state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
            if state not in ("Z", "X"):
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                found[int(entry.name)] = command
        except OSError:
            continue
    return found


@contextlib.contextmanager
def nothing_left(temporary: Path) -> Iterator[None]:
    """Assert that no temporary file and no shared-memory segment is there that was not before."""
    before = _segments()
    yield
    assert list(temporary.iterdir()) == []
    ours = _segments() - before
    # Others on this machine may make segments too; those are held by a living process.
    assert not {name for name in ours if not _is_held(name)}


def _segments() -> set[str]:
    return {entry.name for entry in SHARED_MEMORY.iterdir()} if SHARED_MEMORY.is_dir() else set()


def _is_held(name: str) -> bool:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if f"{SHARED_MEMORY}/{name}" in (entry / "maps").read_text():
                    return True
    return not (SHARED_MEMORY / name).exists()
