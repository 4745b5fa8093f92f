"""softmax: s_i = exp(x_i) / sum_j exp(x_j).

vjp to x, cotangent g: s_i (g_i - <s, g>); jvp: the same of the tangent v. Both without cancellation
by :mod:`reference.ops.deviation`.

hvp, g and v together: s_i [(g_i - <s, g>)(v_i - <s, v>) - <s, (g - <s, g>)(v - <s, v>)>], see
:mod:`reference.ops.curvature`.

Exact: all kept logits equal gives 1/k, and (g_i - mean g) / k. With two or more distinct logits the
value is transcendental, and the derivatives are so or 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import numpy as np

from ..arithmetic.base import F64
from ..arithmetic.bounds import Bound, BoundArithmetic
from . import base, curvature, deviation
from .base import Batch, Logits, Map, Op, Settled, Textbook
from .exponential import Quotient
from .intervals import Interval
from .limits import one_infinity, settle_limits

# ---------------------------------------------------------------- value


def define(mp: Any, row: Mapping[str, Any]) -> list[Any]:
    e = [mp.exp(v) for v in base.mpf_row(mp, row["x"])]
    total = mp.fsum(e)
    return [v / total for v in e]


def formula(a: Any, b: Batch) -> Any:
    return Logits(a, b).s


def textbook(a: BoundArithmetic, b: Batch) -> Bound:
    return Textbook(a, b).quotient


def settle(b: Batch) -> Settled:
    out = settle_limits(b)
    for row in np.flatnonzero(b.equal).tolist():
        value = Fraction(1, int(b.count[row]))
        for i in np.flatnonzero(b.kept[row]).tolist():
            out.exact(row, i, value)
    for r, k in one_infinity(b):
        out.exact(r, k, Fraction(1))
    return out


def quotient(b: Batch, i: int) -> Quotient:
    return deviation.quotient_of_share(b, i, Fraction(0), Fraction(-1))


def between(b: Batch) -> Interval:
    """Strictly between 0 and 1 where something else takes part: 1 - e^-10000 is not 1."""
    known = b.kept & (b.count > 1)[:, None]
    return np.where(known, 0.0, -np.inf), np.where(known, 1.0, np.inf)


# ---------------------------------------------------------------- vjp


def define_vjp(mp: Any, row: Mapping[str, Any]) -> list[Any]:
    s, g = define(mp, row), base.mpf_row(mp, row["g"])
    mean = mp.fsum(p * q for p, q in zip(s, g, strict=True))
    return [p * (q - mean) for p, q in zip(s, g, strict=True)]


def formula_vjp(a: Any, b: Batch) -> Any:
    return _scaled(a, b, b.g)


def textbook_vjp(a: BoundArithmetic, b: Batch) -> Bound:
    return deviation.textbook_scaled(a, b, b.g)


def settle_vjp(b: Batch) -> Settled:
    return deviation.settle_scaled(b, b.g)


def quotient_vjp(b: Batch, i: int) -> Quotient:
    return deviation.quotient_of_scaled(b, i, b.g)


def _scaled(a: Any, b: Batch, v: F64) -> Any:
    row = Logits(a, b)
    return row.s * deviation.deviation(row, v)


# ---------------------------------------------------------------- jvp: the same map


def define_jvp(mp: Any, row: Mapping[str, Any]) -> list[Any]:
    return define_vjp(mp, {"x": row["x"], "g": row["v_x"]})


def formula_jvp(a: Any, b: Batch) -> Any:
    return _scaled(a, b, b.tangent())


def textbook_jvp(a: BoundArithmetic, b: Batch) -> Bound:
    return deviation.textbook_scaled(a, b, b.tangent())


def settle_jvp(b: Batch) -> Settled:
    return deviation.settle_scaled(b, b.tangent())


def quotient_jvp(b: Batch, i: int) -> Quotient:
    return deviation.quotient_of_scaled(b, i, b.tangent())


# ---------------------------------------------------------------- hvp


def define_hvp(mp: Any, row: Mapping[str, Any]) -> list[Any]:
    s, g, v = define(mp, row), base.mpf_row(mp, row["g"]), base.mpf_row(mp, row["v_x"])
    c, w = (deviation.spread(mp, s, u) for u in (g, v))
    products = [p * q for p, q in zip(c, w, strict=True)]
    return [p * q for p, q in zip(s, deviation.spread(mp, s, products), strict=True)]


def formula_hvp(a: Any, b: Batch) -> Any:
    row = Logits(a, b)
    c, w = (deviation.deviation(row, u) for u in (b.g, b.tangent()))
    return row.s * deviation.centred(row, c * w)


def textbook_hvp(a: BoundArithmetic, b: Batch) -> Bound:
    """The derivative of s a, a = g - sum(s g), by the product rule: ds a - s sum(ds g).

    Or without ds: s (v a) - s (a sum(s v) + sum(ds g)), or as the transpose of the transpose,
    s c - s sum(s c) with c = v a - g sum(s v).
    """
    row, g, v = Textbook(a, b), a.exact(b.g), a.exact(b.tangent())
    ds = deviation.textbook_product(row, row.s, v)
    total, w = a.sum(ds * g), deviation.textbook_deviation(row, b.g)
    mean = a.sum(row.s * v)
    apart = row.s * (v * w) - row.s * (w * mean + total)
    twice = deviation.textbook_product(row, row.s, v * w - g * mean)
    made = deviation.textbook_product(row, ds, g) - row.s * total
    return a.underflowing_as(made, apart, twice)


def settle_hvp(b: Batch) -> Settled:
    return curvature.settle(b, curvature.of_floats(b.g), b.tangent())


def quotient_hvp(b: Batch, i: int) -> Quotient:
    return curvature.quotient(b, i, curvature.of_floats(b.g), b.tangent())


OP = Op(
    name="softmax",
    inputs=("x",),
    differentiable=("x",),
    per_row=False,
    maps={
        ("value", "-"): Map(define, formula, textbook, settle, quotient, between=between),
        ("vjp", "x"): Map(define_vjp, formula_vjp, textbook_vjp, settle_vjp, quotient_vjp),
        ("jvp", "x"): Map(define_jvp, formula_jvp, textbook_jvp, settle_jvp, quotient_jvp),
        ("hvp", "x.x"): Map(define_hvp, formula_hvp, textbook_hvp, settle_hvp, quotient_hvp),
    },
)
