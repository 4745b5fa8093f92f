"""A-priori error bounds of a map on given rows: what the judge divides errors by.

``|error| <= u W + lambda Y + eta``: W from the bound arithmetic in units of the unit roundoff u, Y
in units of lambda, which is the smallest subnormal eta, or the smallest normal where the
implementation was measured to flush subnormal results.

==========  =======================================================================
weak        textbook shifted algorithm; in float32 and float64 recursive sums and
            exponentials of any base, in narrower formats pairwise sums and base e
            (there the others are vacuous, and taken in float32 anyway)
pairwise    the same with pairwise sums and base e everywhere
strong      the cancellation-free formula with pairwise sums; in narrower formats it
            is evaluated in float32 and rounded once at the end
magnitude   K, the size of what the textbook formula adds up (P = L = 1, H = 0)
==========  =======================================================================
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import formats, ops
from .arithmetic.bounds import Bound, BoundArithmetic, Constants, Wide
from .formats import Format
from .ops.base import FORMULA, Batch, Map


@dataclass(frozen=True, eq=False)
class Bounds:
    """Absolute error bounds, arrays of the map's output shape (long double).

    ``roundoff`` is the weak bound without its underflow terms: u W alone.
    """

    weak: Wide
    pairwise: Wide
    strong: Wide
    magnitude: Wide
    roundoff: Wide

    def __getitem__(self, rows: Any) -> Bounds:
        return Bounds(*(getattr(self, f.name)[rows] for f in fields(self)))


def join(parts: Sequence[Bounds]) -> Bounds:
    """Bounds of several batches, one below the other."""
    return Bounds(*(np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(Bounds)))


def constants(fmt: Format, *, flushes: bool = False) -> dict[str, Constants]:
    """The constants that each bound of a format is derived with."""
    pairwise = Constants(
        fmt.unit_roundoff, fmt.smallest_normal, exact_exp=fmt.is_narrow, flushes=flushes
    )
    inner = formats.FORMATS["float32"] if fmt.is_narrow else fmt
    return {
        "weak": pairwise if fmt.is_narrow else replace(pairwise, exponent=2.0, recursive=True),
        "pairwise": pairwise,
        # Computed in float32, a narrow format's results underflow in the last rounding only.
        "strong": Constants(inner.unit_roundoff, fmt.smallest_normal),
        "magnitude": pairwise.magnitude(),
    }


def evaluate(
    op: str,
    derivative: str,
    argument: str,
    inputs: Mapping[str, NDArray[Any]],
    fmt: Format,
    *,
    flushes: bool = False,
) -> Bounds:
    """Bounds for every element of a map on rows of one length.

    Parameters
    ----------
    op, derivative, argument, inputs, fmt
        As for :func:`reference.oracle.evaluate`. What the map does not take changes nothing.
    flushes : bool
        The implementation flushes (some) subnormal results: lambda is the smallest normal.

    Returns
    -------
    Bounds
        Meaningful where the reference is finite. Rows with +inf or without a finite logit have
        exact answers and get two roundings of their value.
    """
    definition = ops.get(op)
    map_ = definition.maps[derivative, argument]
    batch = Batch(definition.rows_of(definition.given(inputs, derivative, argument)))
    chosen = constants(fmt, flushes=flushes)
    if definition.elementwise:
        chosen["weak"] = replace(chosen["weak"], exponent=0.0)
    threshold = np.longdouble(fmt.smallest_normal if flushes else fmt.smallest_subnormal)
    eta = np.longdouble(fmt.smallest_subnormal)

    def absolute(bound: Bound, u: float) -> Wide:
        return np.longdouble(u) * bound.e + threshold * bound.y + eta

    with np.errstate(all="ignore"):
        u = fmt.unit_roundoff
        pairwise = map_.textbook(BoundArithmetic(chosen["pairwise"]), batch)
        weak = pairwise
        if chosen["weak"] != chosen["pairwise"]:
            weak = map_.textbook(BoundArithmetic(chosen["weak"]), batch)
        strong = map_.formula(BoundArithmetic(chosen["strong"]), batch)
        size = map_.textbook(BoundArithmetic(chosen["magnitude"]), batch).e
        strong_bound = absolute(strong, chosen["strong"].unit_roundoff)
        if fmt.is_narrow:
            strong_bound = strong_bound + np.longdouble(u) * np.abs(strong.v)
        roundoff = np.longdouble(u) * weak.e
        bounds = Bounds(absolute(weak, u), absolute(pairwise, u), strong_bound, size, roundoff)
        if definition.elementwise:
            return _in_shape(_infinite(bounds, batch, u, eta), np.shape(inputs["x"]))
        return _irregular(bounds, map_, batch, u, eta)


def _in_shape(bounds: Bounds, shape: tuple[int, ...]) -> Bounds:
    return Bounds(
        *(np.broadcast_to(getattr(bounds, f.name), (shape[0] * shape[1], 1)).reshape(shape)
          for f in fields(Bounds))
    )  # fmt: skip


def _infinite(bounds: Bounds, batch: Batch, u: float, eta: Any) -> Bounds:
    """Elements with an infinite input have exact answers: products of at most all the others."""
    arrays = [np.asarray(a, np.longdouble) for a in batch.inputs.values()]
    finite = np.isfinite(arrays).all(axis=0)
    if finite.all():
        return bounds
    scale: Any = np.ones(finite.shape, np.longdouble)
    for name, array in batch.inputs.items():
        size = np.where(np.isfinite(array), np.abs(array), 0)
        scale = scale * (size if name == "g" or name.startswith("v_") else 1 + size)
    exact = 2 * np.longdouble(u) * scale + eta
    return _where(finite, bounds, exact, scale, eta)


def _where(rows: Any, bounds: Bounds, exact: Any, scale: Any, eta: Any) -> Bounds:
    """The bounds where a formula gave them, elsewhere those of exact answers of this size."""
    return Bounds(
        weak=np.where(rows, bounds.weak, exact),
        pairwise=np.where(rows, bounds.pairwise, exact),
        strong=np.where(rows, bounds.strong, exact),
        magnitude=np.where(rows, bounds.magnitude, scale),
        roundoff=np.where(rows, bounds.roundoff, exact - eta),
    )


def _irregular(bounds: Bounds, map_: Map, batch: Batch, u: float, eta: Any) -> Bounds:
    """Rows that the formula does not cover have exact answers: at most g sums of few terms."""
    if batch.regular.all():
        return bounds
    scale = np.ones((batch.rows, 1), np.longdouble)
    if "g" in batch.inputs:
        scale = scale * np.abs(batch.g).sum(axis=1, keepdims=True)
    if "target" in batch.inputs:
        scale = scale * (1 + np.abs(batch.target).sum(axis=1, keepdims=True))
    for name in batch.inputs:
        if name.startswith("v_"):
            size = np.abs(batch.tangent(name.removeprefix("v_"))).sum(axis=1, keepdims=True)
            scale = scale * size
    exact = 2 * np.longdouble(u) * batch.n * scale + eta
    rows = batch.regular[:, None] | (map_.settle(batch).codes == FORMULA)
    return _where(rows, bounds, exact, scale, eta)
