"""log_softmax: l_i = x_i - lse(x) = d_i - log1p(t), t the sum of e without the maximum.

Both terms of the second form are <= 0, so nothing cancels, also for the top class, where
l = -log1p(t).

vjp to x: g_i - s_i G with G = sum g (:func:`reference.ops.base.residual`). jvp, another map:
v_i - <s, v>. hvp: -G s_i (v_i - <s, v>). For both see :mod:`reference.ops.deviation`.

Exact: a single kept logit gives 0; G = 0 gives g_i; equal logits give g_i - G / k. Everything else
with two or more distinct logits is transcendental (log k too), but for the exact cases of the
deviation. At x_i = -inf the jvp is v_i - <s, v> like everywhere, while the hvp is 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import numpy as np

from ..arithmetic.bounds import Bound, BoundArithmetic
from . import base, deviation
from .base import NAN, NEG_INF, UNDEFINED, ZERO, Batch, Logits, Map, Op, Settled, Textbook
from .exponential import Quotient
from .limits import one_infinity
from .softmax import define as softmax

# ---------------------------------------------------------------- value


def define(mp: Any, row: Mapping[str, Any]) -> list[Any]:
    x = base.mpf_row(mp, row["x"])
    lse = mp.log(mp.fsum(mp.exp(v) for v in x))
    return [v - lse for v in x]


def formula(a: Any, b: Batch) -> Any:
    return Logits(a, b).l


def textbook(a: BoundArithmetic, b: Batch) -> Bound:
    return Textbook(a, b).l


def settle(b: Batch) -> Settled:
    out = Settled.formula(b.x.shape)
    out.codes[b.x == -np.inf] = NEG_INF
    out.codes[(b.equal & (b.count == 1))[:, None] & b.kept] = ZERO
    out.codes[b.infinities > 0] = NEG_INF
    out.codes[(b.infinities > 0)[:, None] & (b.x == np.inf)] = UNDEFINED
    for r, k in one_infinity(b):
        out.codes[r, k] = ZERO
    out.codes[(b.count == 0) & (b.infinities == 0)] = UNDEFINED
    if b.n == 1:
        out.codes[np.isinf(b.x)] = UNDEFINED
    out.codes[b.has_nan] = NAN
    return out


# ---------------------------------------------------------------- vjp


def define_vjp(mp: Any, row: Mapping[str, Any]) -> list[Any]:
    s, g = softmax(mp, row), base.mpf_row(mp, row["g"])
    total = mp.fsum(g)
    return [q - p * total for p, q in zip(s, g, strict=True)]


def formula_vjp(a: Any, b: Batch) -> Any:
    return base.residual(Logits(a, b), b.g)


def textbook_vjp(a: BoundArithmetic, b: Batch) -> Bound:
    g = a.exact(b.g)
    return g - Textbook(a, b).s * a.sum(g)


def settle_vjp(b: Batch) -> Settled:
    out = Settled.formula(b.x.shape)
    special = ~b.regular & ~b.has_nan
    zero = base.sums_to_zero(b.g)
    rows = special | (b.regular & (b.equal | zero | (b.count < b.n)))
    for r in np.flatnonzero(rows).tolist():
        base.settle_linear(out, r, np.flatnonzero(~b.kept[r]), b.g[r])
        # Kept entries are rational where logits are equal, G = 0, or the row holds +inf.
        if not (b.equal[r] or special[r] or zero[r]):
            continue
        total = base.fraction_total(b.g[r]) if b.regular[r] else Fraction(0)
        share = total / max(int(b.count[r]), 1)
        kept = np.flatnonzero(b.kept[r])
        base.settle_linear(out, r, kept, b.g[r], shift=-share)
    out.codes[special[:, None] & (b.x == np.inf)] = UNDEFINED
    out.codes[special & (b.infinities == 0)] = UNDEFINED
    for row, k in one_infinity(b):
        out.exact(row, k, -base.fraction_total(np.delete(b.g[row], k)))
    if b.n == 1:
        out.codes[np.isinf(b.x)] = UNDEFINED
    out.codes[b.has_nan] = NAN
    return out


def quotient_vjp(b: Batch, i: int) -> Quotient:
    return deviation.quotient_of_share(b, i, Fraction(float(b.g[0, i])), _total(b))


def _total(b: Batch) -> Fraction:
    """G of one row."""
    return b.once("G", lambda: base.fraction_total(b.g[0]))


# ---------------------------------------------------------------- jvp


def define_jvp(mp: Any, row: Mapping[str, Any]) -> list[Any]:
    s, v = softmax(mp, row), base.mpf_row(mp, row["v_x"])
    mean = mp.fsum(p * q for p, q in zip(s, v, strict=True))
    return [q - mean for q in v]


def formula_jvp(a: Any, b: Batch) -> Any:
    return deviation.deviation(Logits(a, b), b.tangent())


def textbook_jvp(a: BoundArithmetic, b: Batch) -> Bound:
    return deviation.textbook_deviation(Textbook(a, b), b.tangent())


def settle_jvp(b: Batch) -> Settled:
    return deviation.settle_deviation(b, b.tangent())


def quotient_jvp(b: Batch, i: int) -> Quotient:
    return deviation.quotient_of_deviation(b, i, b.tangent())


# ---------------------------------------------------------------- hvp


def define_hvp(mp: Any, row: Mapping[str, Any]) -> list[Any]:
    total = mp.fsum(base.mpf_row(mp, row["g"]))
    s = softmax(mp, row)
    return [-total * p * w for p, w in zip(s, define_jvp(mp, row), strict=True)]


def formula_hvp(a: Any, b: Batch) -> Any:
    row = Logits(a, b)
    return -a.total(b.g) * row.s * deviation.deviation(row, b.tangent())


def textbook_hvp(a: BoundArithmetic, b: Batch) -> Bound:
    return -deviation.textbook_scaled(a, b, b.tangent(), a.sum(a.exact(b.g)))


def settle_hvp(b: Batch) -> Settled:
    return deviation.settle_scaled(
        b, b.tangent(), lambda r: -base.fraction_total(b.g[r]), base.sums_to_zero(b.g)
    )


def quotient_hvp(b: Batch, i: int) -> Quotient:
    return deviation.quotient_of_scaled(b, i, b.tangent(), -_total(b))


OP = Op(
    name="log_softmax",
    inputs=("x",),
    differentiable=("x",),
    per_row=False,
    maps={
        ("value", "-"): Map(define, formula, textbook, settle),
        ("vjp", "x"): Map(define_vjp, formula_vjp, textbook_vjp, settle_vjp, quotient_vjp),
        ("jvp", "x"): Map(define_jvp, formula_jvp, textbook_jvp, settle_jvp, quotient_jvp),
        ("hvp", "x.x"): Map(define_hvp, formula_hvp, textbook_hvp, settle_hvp, quotient_hvp),
    },
)
