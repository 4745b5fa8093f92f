"""A folder claimed for one writer: the file of lines, created exclusively and locked."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import IO

from conformance.files import at_once
from conformance.record.errors import RecordError, RecordExists, RecordLocked
from conformance.record.lines import MEASUREMENTS_FILE, RUN_FILE
from conformance.record.reader import shown


def lock(stream: IO[bytes]) -> bool | None:
    """Take the advisory lock of a record.

    False when another process holds it, None where there are no locks (Windows, some network file
    systems): creating the file exclusively is the guard there.
    """
    try:
        import fcntl
    except ImportError:
        return None
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as problem:
        return False if problem.errno in (errno.EACCES, errno.EAGAIN) else None
    return True


def created(folder: Path) -> IO[bytes]:
    """The file of lines of a new record, locked.

    An empty one is taken over: the run that made it was killed before it began.

    Raises
    ------
    RecordExists, RecordLocked
        The folder holds a record, or one is being written there.
    OSError
        Where the file system refuses.
    """
    path = folder / MEASUREMENTS_FILE
    if (folder / RUN_FILE).exists():
        raise _occupied(folder)
    try:
        stream = path.open("xb", buffering=0)
        fresh = True
    except FileExistsError:
        stream = path.open("r+b", buffering=0)
        fresh = False
    held = lock(stream)
    begun = (folder / RUN_FILE).exists() or os.fstat(stream.fileno()).st_size > 0
    if held is False or begun or not (fresh or held):
        stream.close()
        raise locked(folder) if held is False else _exists(folder)
    return stream


def locked(folder: Path) -> RecordLocked:
    """The error that says so."""
    return RecordLocked(f"{shown(folder)} is being written by another run")


def _exists(folder: Path) -> RecordExists:
    return RecordExists(f"{shown(folder)} already holds a record")


def _occupied(folder: Path) -> RecordError:
    """What is wrong with a folder that holds a record, finished or still being written."""
    try:
        with open(folder / MEASUREMENTS_FILE, "rb", opener=at_once) as stream:
            busy = lock(stream) is False
    except OSError:
        busy = False
    return locked(folder) if busy else _exists(folder)
