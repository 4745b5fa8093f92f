"""What the thread that computes references has to be like."""

from __future__ import annotations

import numpy as np


class FlushToZero(RuntimeError):
    """This thread flushes subnormals to zero, so no reference can be computed here."""


def check_subnormals() -> None:
    """Raise :class:`FlushToZero` where this thread's flush-to-zero bit is on."""
    with np.errstate(under="ignore"):
        smallest = np.nextafter(np.zeros(1), 1.0)
        flushes = (smallest * np.ones(1))[0] == 0 or (smallest + smallest)[0] == 0
    if flushes:
        raise FlushToZero("subnormal numbers are flushed to zero in this thread")
