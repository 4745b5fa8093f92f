"""high_labels: values above 127, 255 and 32767, in every integer dtype that holds them.

A loss that takes labels through a narrower integer, through a float of the logits' dtype or as
bytes picks another class there, and says nothing. Small labels, and those without a class, are in
:mod:`reference.situations.labels`.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from ..formats import Format
from .base import REDUCTIONS, Draft, Family, Make, drawn, logits

_ROWS = 4
_HIGH = {
    "int8": (128, (127, 100, 0)),
    "uint8": (256, (255, 128, 127)),
    "int16": (300, (256, 255, 128)),
    "uint16": (300, (256, 255, 128)),
    "int32": (300, (257, 255, 127)),
    "uint32": (300, (257, 255, 127)),
    "int64": (300, (257, 255, 127)),
    "uint64": (300, (257, 255, 127)),
}
_VAST = {
    "int16": (32768, (32767, 32766)),
    "uint16": (32770, (32769, 32768)),
    "int32": (32770, (32769, 32768)),
    "int64": (32770, (32769, 32767)),
}


def _high(dtype: str, reduction: str, fmt: Format, rng: np.random.Generator) -> Draft:
    classes, high = _HIGH[dtype]
    label = np.array([*high, *drawn(rng, _ROWS - len(high), classes)]).astype(dtype)
    return Draft(logits(rng, _ROWS, classes), label, options={"reduction": reduction})


def _vast(dtype: str, reduction: str, fmt: Format, rng: np.random.Generator) -> Draft:
    classes, high = _VAST[dtype]
    label = np.array(high).astype(dtype)
    return Draft(rng.standard_normal((2, classes)), label, options={"reduction": reduction})


def _makers() -> tuple[Make, ...]:
    return (
        *(partial(_high, dtype, r) for dtype in _HIGH for r in REDUCTIONS),
        *(partial(_vast, dtype, r) for dtype in _VAST for r in ("none", "mean")),
    )


FAMILY = Family("high_labels", 1, ("sparse_softmax_cross_entropy",), _makers())
