"""ignored: rows that must not count, whatever they hold.

``ignore_index`` as it comes (-100), naming the first, the last or the 255th class, in 64 bits and
in 8; nothing ignored, some rows, all rows (a mean of nothing); ignored rows that hold NaN or an
infinity, which must reach neither the loss nor any gradient; NaN in a row that is *not* ignored,
which must not be hidden; smoothing, which gives every class of an ignored row a weight again.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from ..formats import Format
from .base import REDUCTIONS, Draft, Family, Make, drawn, logits

_CLASSES = 6
_ROWS = 5
_POISON = {"nan": np.nan, "plus": np.inf, "minus": -np.inf}


def _some(
    index: int,
    ignored: tuple[int, ...],
    reduction: str,
    fmt: Format,
    rng: np.random.Generator,
    *,
    poison: str = "",
    dtype: str = "int64",
    classes: int = _CLASSES,
    smoothing: float = 0.0,
) -> Draft:
    """Rows `ignored` of `_ROWS` carry the label that is not counted, no other row does."""
    x = logits(rng, _ROWS, classes)
    label = drawn(rng, _ROWS, classes)
    label = np.where(label == index, (index + 1) % classes, label)
    label[list(ignored)] = index
    if poison:
        # All of the first ignored row, and one entry of the others.
        x[list(ignored), 1] = _POISON[poison]
        x[ignored[0]] = _POISON[poison]
    options = {"reduction": reduction, "ignore_index": index, "label_smoothing": smoothing}
    return Draft(x, label.astype(dtype), options=options)


def _unhidden(reduction: str, fmt: Format, rng: np.random.Generator) -> Draft:
    """NaN in a row that counts, beside one that does not."""
    draft = _some(-100, (1,), reduction, fmt, rng)
    x = draft.x.copy()
    x[3, 2] = np.nan
    return Draft(x, draft.label, options=draft.options)


_ALL = tuple(range(_ROWS))


def _makers() -> tuple[Make, ...]:
    found: list[Make] = []
    for r in REDUCTIONS:
        found += [
            partial(_some, -100, (1, 4), r),
            partial(_some, 0, (0, 2), r),
            partial(_some, _CLASSES - 1, (3,), r),
            partial(_some, -100, (), r),
            partial(_some, -100, _ALL, r),
            partial(_some, 2, _ALL, r),
            partial(_some, 255, (2, 3), r, dtype="uint8"),
            partial(_some, 255, (2, 3), r, dtype="uint8", classes=256),
            partial(_some, -1, (0,), r, dtype="int32"),
            partial(_some, -100, (0, 3), r, poison="nan"),
            partial(_some, 2, (1, 4), r, poison="nan"),
            partial(_some, -100, (2, 4), r, poison="plus"),
            partial(_some, 1, (0, 1), r, poison="minus"),
            partial(_some, -100, (1, 2), r, smoothing=0.25),
            partial(_some, 3, _ALL, r, smoothing=0.25),
            partial(_some, -100, (1, 2), r, poison="nan", smoothing=0.25),
            partial(_unhidden, r),
        ]
    return tuple(found)


FAMILY = Family("ignored", 1, ("sparse_softmax_cross_entropy",), _makers())
