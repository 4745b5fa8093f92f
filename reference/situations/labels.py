"""labels: every integer dtype, and labels that name no class.

A label outside [0, classes) is an error of the caller, which a loss may raise or answer with NaN; a
number is an answer to a question that nobody asked. Labels that wrap round to a class in 32 or 8
bits, -1 (the last class, to Python) and -100 (ignored, to PyTorch) are among them. Large labels of
classes that exist are in :mod:`reference.situations.high_labels`.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from ..formats import Format
from .base import REDUCTIONS, Draft, Family, Make, drawn, logits

DTYPES = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")
_ROWS = 4
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
    ("int16", 100, -1),
    ("uint16", 100, 65535),
    ("uint32", 5, 2**32 - 1),
    ("uint64", 5, 2**64 - 1),
)
"""Dtype, classes and the label that names none of them."""


def _any(dtype: str, reduction: str, fmt: Format, rng: np.random.Generator) -> Draft:
    return Draft(
        logits(rng, _ROWS, 7), drawn(rng, _ROWS, 7).astype(dtype), options={"reduction": reduction}
    )


def _outside(
    dtype: str, classes: int, bad: int, reduction: str, fmt: Format, rng: np.random.Generator
) -> Draft:
    label = drawn(rng, 3, classes).astype(dtype)
    label[1] = np.array(bad, dtype)
    return Draft(logits(rng, 3, classes), label, options={"reduction": reduction})


def _makers() -> tuple[Make, ...]:
    turns = [REDUCTIONS[k % 3] for k in range(len(_OUTSIDE))]
    return (
        *(partial(_any, dtype, r) for dtype in DTYPES for r in REDUCTIONS),
        *(partial(_outside, *bad, r) for bad, r in zip(_OUTSIDE, turns, strict=True)),
        *(partial(_outside, *bad, "none") for bad, r in zip(_OUTSIDE, turns, strict=True)
          if r != "none"),
    )  # fmt: skip


FAMILY = Family("labels", 2, ("sparse_softmax_cross_entropy",), _makers())
