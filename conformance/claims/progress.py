"""What is going on, told from several threads, and a way to stop them."""

from __future__ import annotations

import threading
from collections.abc import Callable

__all__ = ["Progress", "Stopped"]


class Stopped(Exception):
    """Somebody else failed, or was interrupted: nobody waits for this work any more."""


class Progress:
    """Handed to everything that takes long.

    Parameters
    ----------
    write : callable
        Takes a line.
    """

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._stopped = threading.Event()

    def stop(self) -> None:
        """Let every other thread end at its next `tell` or `check`."""
        self._stopped.set()

    def check(self) -> None:
        """Raise `Stopped` after `stop`."""
        if self._stopped.is_set():
            raise Stopped

    def tell(self, text: str) -> None:
        """Write a line."""
        self.check()
        self._write(text)
