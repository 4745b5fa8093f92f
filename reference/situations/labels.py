"""labels: every integer dtype, values above 127, 255 and 32767, and labels that name no class.

A loss that takes labels through a narrower type, through a float or as bytes picks another class
there, and says nothing. A label outside [0, classes) is an error of the caller, which a loss may
raise or answer with NaN; a number is an answer to a question that nobody asked. Labels that wrap
round to a class in 32 or 8 bits, -1 (the last class, to Python) and -100 (ignored, to PyTorch) are
among them.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from ..formats import Format
from .base import REDUCTIONS, Draft, Family, Make, drawn, logits

DTYPES = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")
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
_OUTSIDE: tuple[tuple[str, int, int], ...] = (
    ("int64", 5, 5),
    ("int64", 5, -1),
    ("int64", 5, -100),
    ("int64", 5, 2**32 + 1),
    ("int64", 5, -(2**63)),
    ("int32", 5, 5),
    ("int32", 5, -1),
    ("int32", 5, 2**31 - 1),
    ("int8", 5, -1),
    ("int8", 5, 127),
    ("uint8", 5, 255),
    ("uint8", 5, 5),
    ("int16", 300, -1),
    ("uint16", 300, 65535),
    ("uint32", 5, 2**32 - 1),
    ("uint64", 5, 2**64 - 1),
)
"""Dtype, classes and the label that names none of them."""


def _any(dtype: str, reduction: str, fmt: Format, rng: np.random.Generator) -> Draft:
    return Draft(
        logits(rng, _ROWS, 7), drawn(rng, _ROWS, 7).astype(dtype), options={"reduction": reduction}
    )


def _high(dtype: str, reduction: str, fmt: Format, rng: np.random.Generator) -> Draft:
    classes, high = _HIGH[dtype]
    label = np.array([*high, *drawn(rng, _ROWS - len(high), classes)]).astype(dtype)
    return Draft(logits(rng, _ROWS, classes), label, options={"reduction": reduction})


def _vast(dtype: str, reduction: str, fmt: Format, rng: np.random.Generator) -> Draft:
    classes, high = _VAST[dtype]
    label = np.array(high).astype(dtype)
    return Draft(rng.standard_normal((2, classes)), label, options={"reduction": reduction})


def _outside(
    dtype: str, classes: int, bad: int, reduction: str, fmt: Format, rng: np.random.Generator
) -> Draft:
    label = drawn(rng, 3, classes).astype(dtype)
    label[1] = np.array(bad, dtype)
    return Draft(logits(rng, 3, classes), label, options={"reduction": reduction})


def _makers() -> tuple[Make, ...]:
    turns = [REDUCTIONS[k % 3] for k in range(len(_OUTSIDE))]
    return (
        *(partial(_any, dtype, r) for dtype in ("int64", "uint8") for r in REDUCTIONS),
        *(partial(_high, dtype, r) for dtype in DTYPES for r in REDUCTIONS),
        *(partial(_vast, dtype, r) for dtype in _VAST for r in ("none", "mean")),
        *(partial(_outside, *bad, r) for bad, r in zip(_OUTSIDE, turns, strict=True)),
        *(partial(_outside, *bad, "none") for bad, r in zip(_OUTSIDE, turns, strict=True)
          if r != "none"),
    )  # fmt: skip


FAMILY = Family("labels", 1, ("sparse_softmax_cross_entropy",), _makers())
