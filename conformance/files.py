"""Files that are whole or not there, and what to say when the system refuses one."""

from __future__ import annotations

import contextlib
import os
import re
import stat
from pathlib import Path


def explained(problem: OSError) -> str:
    """Return the system's reason in words, without number and path."""
    return os.strerror(problem.errno) if problem.errno else str(problem)


def at_once(path: str, flags: int) -> int:
    """An opener for `open` that does not wait for the other end of a pipe."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _sync_folder(folder: Path) -> None:
    """Make a file's new name durable; not every file system offers it."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        with contextlib.suppress(OSError):
            os.fsync(handle)
    finally:
        os.close(handle)


def read_text(path: Path, longest: int) -> str:
    """The text of a regular file of a limited length.

    Raises
    ------
    OSError
        Where the file system refuses.
    ValueError
        If it is longer, not UTF-8, or a pipe or device, which may have no end.
    """
    with open(path, "rb", opener=at_once) as stream:
        if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
            raise ValueError("it is not a regular file")
        data = stream.read(longest + 1)
    if len(data) > longest:
        raise ValueError(f"it is longer than {longest} bytes")
    return data.decode("utf-8")


def replace_text(path: Path, text: str) -> None:
    """Write a file so that a reader sees the old one or the new one, whole.

    Raises
    ------
    OSError
        Where the file system refuses; the old file is untouched.
    """
    replace_bytes(path, text.encode("utf-8"))


def replace_bytes(path: Path, data: bytes) -> None:
    """Like :func:`replace_text`, for bytes."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def remove_leftovers(path: Path) -> None:
    """Remove what killed processes left of an unfinished replacement of ``path``.

    Only for whoever is alone in writing it: a replacement at work would lose its file too.
    """
    pattern = re.compile(rf"\.{re.escape(path.name)}\.[0-9]+\.tmp")
    with contextlib.suppress(OSError):
        for entry in path.parent.iterdir():
            if pattern.fullmatch(entry.name):
                with contextlib.suppress(OSError):
                    entry.unlink()
