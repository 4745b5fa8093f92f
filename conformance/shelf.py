"""A folder in which the processes of one run leave each other references and bounds.

Each worker of a run measures other frameworks, and all of them ask for the same exact answers. What
took long is put on the shelf, and whoever needs it next reads it. It is no cache: the folder is
made when a run begins, empty, is only for the processes of that run, and is removed when it ends.
A file is whole and has the digest that stands in front of it, or counts as missing: then the
answer is computed, as it would have been.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import shutil
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conformance.files import at_once

VARIABLE = "CONFORMANCE_ANSWERS"
"""Names the folder to the workers of a run."""

NAME = ".answers"
"""The folder's name in a record."""

_DIGEST = 32
_LARGEST = 1 << 30
"""Bytes of a file that are read."""


class Shelf:
    """Arrays by key, on disk.

    Parameters
    ----------
    folder : Path
        Exists, and belongs to this run.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, key: object) -> list[NDArray[Any]] | None:
        """The arrays that somebody has left, None where there are none or they are damaged."""
        try:
            with open(self._path(key), "rb", opener=at_once) as file:
                content = file.read(_LARGEST)
        except OSError:
            return None
        digest, data = content[:_DIGEST], content[_DIGEST:]
        if hashlib.sha256(data).digest() != digest:
            return None
        stream, found = io.BytesIO(data), []
        try:
            while stream.tell() < len(data):
                found.append(np.load(stream, allow_pickle=False))
        except (ValueError, EOFError, MemoryError):  # a right digest of something else
            return None
        return found

    def put(self, key: object, arrays: Sequence[NDArray[Any]]) -> None:
        """Leave arrays; where the disk refuses, nothing happens."""
        stream = io.BytesIO()
        for array in arrays:
            np.save(stream, array, allow_pickle=False)
        data = stream.getvalue()
        path = self._path(key)
        temporary = path.with_suffix(f".{os.getpid()}")
        try:
            with temporary.open("xb") as file:  # never through a link
                file.write(hashlib.sha256(data).digest() + data)
            temporary.replace(path)
        except OSError:
            with contextlib.suppress(OSError):
                temporary.unlink()

    def _path(self, key: object) -> Path:
        return self._folder / hashlib.sha256(repr(key).encode()).hexdigest()


def of_run() -> Shelf | None:
    """The shelf of the run that this process works for, None where it works for none."""
    folder = os.environ.get(VARIABLE)
    return Shelf(Path(folder)) if folder else None


@contextlib.contextmanager
def opened(record: Path) -> Iterator[None]:
    """A run's shelf, in the folder of its record, named to every process started meanwhile.

    What a killed run left there goes first. A folder that is named already is another run's: where
    there can be none of our own there is none.
    """
    folder = record / NAME
    before = os.environ.pop(VARIABLE, None)
    try:
        with contextlib.suppress(OSError):
            _remove(folder)
            folder.mkdir(mode=0o700)
            os.environ[VARIABLE] = str(folder.absolute())
        yield
    finally:
        os.environ.pop(VARIABLE, None)
        if before is not None:
            os.environ[VARIABLE] = before
        with contextlib.suppress(OSError):
            _remove(folder)


def _remove(folder: Path) -> None:
    """Remove what stands there, whatever it is; a link and not what it names."""
    try:
        mode = folder.lstat().st_mode
    except FileNotFoundError:
        return
    if stat.S_ISDIR(mode):
        shutil.rmtree(folder)
    else:
        folder.unlink()
