"""masked_softmax: the softmax over the entries that a mask keeps, 0 at those that it drops.

A dropped entry takes no part: its value and its derivatives are exactly 0, and its logit may hold
NaN or inf without effect, as may its cotangent and tangent. Everything else is softmax's, with
dropped logits as -inf (:class:`reference.ops.base.Batch` puts them there): formulas, exact cases,
termination, bounds. Nothing kept gives a row of zeros.

Limits are those of a row that has the kept entries only: a single one that is infinite leaves its
probability undefined, although with a -inf beside it it would be 1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from . import base, softmax
from .base import UNDEFINED, ZERO, Batch, Map, Op, Settled


def define(mp: Any, row: Mapping[str, Any]) -> list[Any]:
    """The textbook: exp over the kept entries, divided by its sum."""
    keep = [bool(k) for k in row["mask"]]
    kept = base.mpf_row(mp, [v for v, k in zip(row["x"], keep, strict=True) if k])
    values = iter([mp.exp(v) for v in kept])
    e = [next(values) if k else mp.mpf(0) for k in keep]
    total = mp.fsum(e)
    return [v / total if k else mp.mpf(0) for v, k in zip(e, keep, strict=True)]


def _defined(map_: Map) -> Callable[[Any, Mapping[str, Any]], list[Any]]:
    """A derivative of softmax over the kept entries, 0 elsewhere."""

    def define_derivative(mp: Any, row: Mapping[str, Any]) -> list[Any]:
        kept = np.flatnonzero(row["mask"])
        part = {name: np.asarray(a)[kept] for name, a in row.items() if name != "mask"}
        out = [mp.mpf(0) for _ in row["x"]]
        if kept.size:
            for i, value in zip(kept.tolist(), map_.definition(mp, part), strict=True):
                out[i] = value
        return out

    return define_derivative


def _settled(map_: Map) -> Callable[[Batch], Settled]:
    """As softmax of the kept entries alone."""

    def settle(b: Batch) -> Settled:
        out = map_.settle(b)
        single = b.mask.sum(axis=1, keepdims=True) == 1
        out.codes[single & b.mask & np.isinf(b.x)] = UNDEFINED
        out.codes[~b.mask] = ZERO
        return out

    return settle


def _masked(map_: Map) -> Map:
    return replace(map_, definition=_defined(map_), settle=_settled(map_))


MAPS = {key: _masked(map_) for key, map_ in softmax.OP.maps.items()}

OP = Op(
    name="masked_softmax",
    inputs=("x", "mask"),
    differentiable=("x",),
    per_row=False,
    maps={**MAPS, ("value", "-"): replace(MAPS["value", "-"], definition=define)},
)
