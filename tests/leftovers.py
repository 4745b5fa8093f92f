"""What something has left behind: processes, shared memory, temporary files.

Before and after::

    with nothing_left(folder):
        subprocess.run([...], env={**os.environ, "TMPDIR": str(folder)})
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from conformance import processes
from conformance.guard import MARK

_PATIENCE = 5.0
"""Seconds in which what is on its way out may go."""
_SHARED = Path("/dev/shm")
_CACHES = ("torchinductor_",)
"""Folders that a framework keeps on purpose, for whoever compiles the same again."""


@dataclass(frozen=True)
class Snapshot:
    """What there is at one moment."""

    processes: frozenset[tuple[int, int]]
    """Numbers and starting times: below this process, from an executor, or named by `word`."""
    shared: frozenset[str]
    temporary: frozenset[str]


def snapshot(folder: Path | None = None, word: str | None = None) -> Snapshot:
    """What there is now.

    Parameters
    ----------
    folder : Path, optional
        Where temporary files go; the usual place if not given.
    word : str, optional
        Processes with this in their command line count too, whoever started them.
    """
    found = [*processes.descendants(os.getpid()), *processes.marked(MARK)]
    if word is not None:
        found += [p for p in processes.table().values() if word.encode() in _command(p.pid)]
    living = frozenset((p.pid, p.started) for p in found if p.lives and p.pid != os.getpid())
    return Snapshot(living, _names(_SHARED), _names(folder or Path(tempfile.gettempdir())))


def left(before: Snapshot, folder: Path | None = None, word: str | None = None) -> list[str]:
    """What is there that was not before, one line each; waits a moment for it to go."""
    until = time.monotonic() + _PATIENCE
    while True:
        now = snapshot(folder, word)
        found = [
            *(f"process {pid}: {_command(pid)!r}" for pid, _ in now.processes - before.processes),
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
def nothing_left(folder: Path | None = None, word: str | None = None) -> Iterator[None]:
    """Fail if the block leaves something behind."""
    before = snapshot(folder, word)
    yield
    found = left(before, folder, word)
    assert not found, "\n".join(found)


def _names(folder: Path) -> frozenset[str]:
    with contextlib.suppress(OSError):
        return frozenset(entry.name for entry in folder.iterdir())
    return frozenset()


def _command(pid: int) -> bytes:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""
