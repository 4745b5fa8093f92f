"""What something has left behind: processes, shared memory, temporary files.

The block gets a folder for its temporary files, so that what others do on the machine is not held
against it::

    with nothing_left(folder):
        subprocess.run([...], env={**os.environ, "TMPDIR": str(folder)})
        with Executor("numpy") as executor:
            ...
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from conformance.execution import processes

_PATIENCE = 5.0
"""Seconds in which what is on its way out may go."""
_SHARED = Path("/dev/shm")
_CACHES = ("torchinductor_",)
"""Folders that a framework keeps on purpose, for whoever compiles the same again."""


@dataclass(frozen=True)
class Snapshot:
    """What there is at one moment."""

    processes: frozenset[tuple[int, int]]
    """By number and starting time."""
    shared: frozenset[str]
    temporary: frozenset[str]


def snapshot(folder: Path, word: str | None = None) -> Snapshot:
    """What there is now.

    Processes count that are below this one, or have their temporary files below `folder` (what an
    executor starts inherits that), or have `word` in their command line.

    Parameters
    ----------
    folder : Path
        Where temporary files go.
    word : str, optional
        For processes that inherited nothing.
    """
    mine = os.getpid()
    below = {process.pid for process in processes.descendants(mine)}
    found = frozenset(
        (process.pid, process.started)
        for process in processes.table().values()
        if process.lives
        and process.pid != mine
        and (
            process.pid in below
            or f"\0TMPDIR={folder}".encode() in b"\0" + _read(process.pid, "environ")
            or (word is not None and word.encode() in _read(process.pid, "cmdline"))
        )
    )
    return Snapshot(found, _names(_SHARED), _names(folder))


def left(before: Snapshot, folder: Path, word: str | None = None) -> list[str]:
    """What is there that was not before, one line each; waits a moment for it to go."""
    until = time.monotonic() + _PATIENCE
    while True:
        now = snapshot(folder, word)
        found = [
            *(f"process {n}: {_read(n, 'cmdline')!r}" for n, _ in now.processes - before.processes),
            *(f"shared memory {name}" for name in now.shared - before.shared),
            *(
                f"temporary {name}"
                for name in now.temporary - before.temporary
                if not name.startswith(_CACHES)
            ),
        ]
        if not found or time.monotonic() > until:
            return found
        time.sleep(0.05)


@contextlib.contextmanager
def nothing_left(folder: Path, word: str | None = None) -> Iterator[None]:
    """Fail if the block leaves something behind; this process's temporary files go to `folder`."""
    saved, tempfile.tempdir = tempfile.tempdir, str(folder)
    before = snapshot(folder, word)
    try:
        yield
    finally:
        tempfile.tempdir = saved
    found = left(before, folder, word)
    assert not found, "\n".join(found)


def _names(folder: Path) -> frozenset[str]:
    with contextlib.suppress(OSError):
        return frozenset(entry.name for entry in folder.iterdir())
    return frozenset()


def _read(pid: int, name: str) -> bytes:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/{name}").read_bytes()
    return b""
