"""weights: class weights and label smoothing, each alone, together, and beside ``ignore_index``.

Weights around 1, of very different size, zero for some classes, zero for every label that occurs
(a mean of nothing, though rows count) and zero altogether. Smoothing of 0.1, which no format
holds, of a quarter, and of 1, where the label does not count any more. With both, every class of a
row is weighted by its own weight and the mean is still taken over the labels' weights. A weight of
0 on a class at minus infinity contributes 0; any smoothing puts a weight on every class.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from ..formats import F64, Format
from .base import REDUCTIONS, Draft, Family, Make, drawn, logits

_CLASSES = 6
_ROWS = 5


def _weight(kind: str, rng: np.random.Generator) -> F64 | None:
    around = rng.uniform(0.25, 3.0, _CLASSES)
    if kind == "spread":
        return np.ldexp(around, rng.integers(-6, 7, _CLASSES).astype(np.int32))
    if kind in ("zeros", "unused"):
        # Labels are drawn from the lower half where they are to meet zeros only.
        around[: _CLASSES // 2] = 0.0
    if kind == "nothing":
        around[:] = 0.0
    return None if kind == "none" else around


def _weighted(
    kind: str,
    smoothing: float,
    index: int | None,
    reduction: str,
    fmt: Format,
    rng: np.random.Generator,
) -> Draft:
    label = drawn(rng, _ROWS, _CLASSES // 2 if kind == "unused" else _CLASSES)
    if kind == "zeros":
        label[:2] = 0, _CLASSES - 1  # a class without weight and one with
    if index is not None:
        label = np.where(label == index, (index + 1) % 3, label)
        label[[1, 3]] = index
    options = {"reduction": reduction, "label_smoothing": smoothing, "ignore_index": index}
    return Draft(logits(rng, _ROWS, _CLASSES), label, weight=_weight(kind, rng), options=options)


def _absent(kind: str, smoothing: float, reduction: str, fmt: Format, rng: np.random.Generator
) -> Draft:  # fmt: skip
    """Logits of minus infinity where no label is, at a class of weight 0 and at another one."""
    draft = _weighted(kind, smoothing, None, reduction, fmt, rng)
    x = draft.x.copy()
    x[2, 1], x[3, 4] = -np.inf, -np.inf
    label = draft.label
    assert label is not None
    label[2:4] = 3, 5
    return Draft(x, label, weight=draft.weight, options=draft.options)


def _makers() -> tuple[Make, ...]:
    found: list[Make] = []
    for r in REDUCTIONS:
        found += [
            partial(_weighted, "around", 0.0, None, r),
            partial(_weighted, "none", 0.1, None, r),
            partial(_weighted, "around", 0.1, None, r),
            partial(_weighted, "zeros", 0.0, None, r),
            partial(_weighted, "zeros", 0.25, None, r),
            partial(_weighted, "around", 0.25, -100, r),
            partial(_weighted, "spread", 0.0, None, r),
            partial(_weighted, "spread", 0.25, 2, r),
            partial(_weighted, "unused", 0.0, None, r),
            partial(_weighted, "unused", 0.25, None, r),
            partial(_weighted, "nothing", 0.0, None, r),
            partial(_weighted, "nothing", 0.25, -100, r),
            partial(_weighted, "none", 1.0, None, r),
            partial(_weighted, "around", 1.0, -100, r),
            partial(_weighted, "zeros", 0.0, 2, r),
            partial(_weighted, "none", 0.1, -100, r),
            partial(_absent, "zeros", 0.0, r),
            partial(_absent, "zeros", 0.25, r),
            partial(_absent, "none", 0.1, r),
        ]
    return tuple(found)


FAMILY = Family("weights", 1, ("sparse_softmax_cross_entropy",), _makers())
