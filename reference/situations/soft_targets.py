"""soft_targets: targets that are no distribution, reduced, weighted and smoothed.

Rows that sum to 0 (mixed signs, or nothing at all), one half, two, and rows with negative entries,
beside rows that sum to 1. A gradient of s - t is right for the last only; a smoothing that goes by
the target's sum, or a mean over that sum, for them too.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from ..formats import F64, Format
from .base import REDUCTIONS, Draft, Family, Make, logits

_CLASSES = 6
_ROWS = 4


def _target(kind: str, rng: np.random.Generator) -> F64:
    drawn = rng.integers(0, _CLASSES, (_ROWS, 64))
    shares = np.stack([np.bincount(row, minlength=_CLASSES) for row in drawn]) / 64.0  # sum to 1
    if kind == "half":
        return np.asarray(shares / 2)
    if kind == "two":
        return np.asarray(shares * 2)
    if kind == "cancelling":
        return np.asarray(shares - rng.permuted(shares, axis=1))
    if kind == "negative":
        return np.asarray(2 * shares - rng.permuted(shares, axis=1))
    if kind == "nothing":
        return np.zeros((_ROWS, _CLASSES))
    if kind == "mixed":
        kinds = ("half", "cancelling", "two", "one")
        return np.stack([_target(each, rng)[k] for k, each in enumerate(kinds)])
    return np.asarray(shares)


def _soft(
    kind: str,
    smoothing: float,
    reduction: str,
    fmt: Format,
    rng: np.random.Generator,
    *,
    weighted: bool = False,
) -> Draft:
    weight = None
    if weighted:
        weight = rng.uniform(0.25, 3.0, _CLASSES)
        weight[1] = 0.0
    return Draft(
        logits(rng, _ROWS, _CLASSES),
        target=_target(kind, rng),
        weight=weight,
        options={"reduction": reduction, "label_smoothing": smoothing},
    )


_KINDS = ("one", "half", "two", "cancelling", "negative", "nothing", "mixed")


def _makers() -> tuple[Make, ...]:
    found: list[Make] = []
    for r in REDUCTIONS:
        found += [partial(_soft, kind, 0.0, r) for kind in _KINDS]
        found += [partial(_soft, kind, 0.1, r) for kind in ("one", "two", "negative")]
        found += [partial(_soft, kind, 0.25, r) for kind in ("cancelling", "nothing", "mixed")]
        found += [partial(_soft, kind, 0.0, r, weighted=True) for kind in ("one", "mixed")]
        found += [partial(_soft, kind, 0.25, r, weighted=True) for kind in ("half", "negative")]
        found += [partial(_soft, "mixed", 1.0, r, weighted=True)]
    return tuple(found)


FAMILY = Family("soft_targets", 1, ("softmax_cross_entropy",), _makers())
