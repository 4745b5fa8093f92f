"""logsumexp: lse = log sum_j exp(x_j) = m + log1p(t), t the sum of e without the maximum.

Near 0 the two terms cancel: that is the condition of the problem, not of the formula.

vjp to x: g s_i. jvp: <s, v>. hvp: g s_i (v_i - <s, v>). For both see
:mod:`reference.ops.deviation`.

Exact: a single kept logit gives x; the vjp of equal logits is g / k. log k and everything else is
transcendental, but for the exact cases of the deviation.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import numpy as np

from ..arithmetic.bounds import Bound, BoundArithmetic
from . import base, deviation, softmax
from .base import NAN, NEG_INF, POS_INF, ZERO, Batch, Logits, Map, Op, Settled, Textbook
from .exponential import Quotient

# ---------------------------------------------------------------- value


def define(mp: Any, row: Mapping[str, Any]) -> list[Any]:
    return [mp.log(mp.fsum(mp.exp(v) for v in base.mpf_row(mp, row["x"])))]


def formula(a: Any, b: Batch) -> Any:
    return a.exact(b.m) + a.log1p(Logits(a, b).t)


def textbook(a: BoundArithmetic, b: Batch) -> Bound:
    return a.exact(b.m) + Textbook(a, b).log_sum


def settle(b: Batch) -> Settled:
    out = Settled.formula((b.rows, 1))
    for r in np.flatnonzero(b.regular & (b.count == 1)):
        out.exact(int(r), 0, Fraction(float(b.m[r, 0])))
    out.codes[(b.count == 0)] = NEG_INF
    out.codes[b.infinities > 0] = POS_INF
    out.codes[b.has_nan] = NAN
    return out


# ---------------------------------------------------------------- vjp


def define_vjp(mp: Any, row: Mapping[str, Any]) -> list[Any]:
    g = mp.mpf(float(np.asarray(row["g"]).reshape(())))
    return [g * p for p in softmax.define(mp, row)]


def formula_vjp(a: Any, b: Batch) -> Any:
    return a.exact(b.g) * Logits(a, b).s


def textbook_vjp(a: BoundArithmetic, b: Batch) -> Bound:
    return a.exact(b.g) * Textbook(a, b).s


def settle_vjp(b: Batch) -> Settled:
    out = softmax.settle(b)
    for (r, i), value in list(out.fractions.items()):
        out.exact(r, i, value * Fraction(float(b.g[r, 0])))
    out.codes[b.kept & b.regular[:, None] & (b.g == 0)] = ZERO
    return out


def quotient_vjp(b: Batch, i: int) -> Quotient:
    return deviation.quotient_of_share(b, i, Fraction(0), -Fraction(float(b.g[0, 0])))


# ---------------------------------------------------------------- jvp


def define_jvp(mp: Any, row: Mapping[str, Any]) -> list[Any]:
    s, v = softmax.define(mp, row), base.mpf_row(mp, row["v_x"])
    return [mp.fsum(p * q for p, q in zip(s, v, strict=True))]


def formula_jvp(a: Any, b: Batch) -> Any:
    return deviation.mean(Logits(a, b), b.tangent())


def textbook_jvp(a: BoundArithmetic, b: Batch) -> Bound:
    return a.sum(Textbook(a, b).s * a.exact(b.tangent()))


def settle_jvp(b: Batch) -> Settled:
    return deviation.settle_mean(b, b.tangent())


def quotient_jvp(b: Batch, i: int) -> Quotient:
    return deviation.quotient_of_mean(b, b.tangent(), Fraction(1), Fraction(0))


# ---------------------------------------------------------------- hvp


def define_hvp(mp: Any, row: Mapping[str, Any]) -> list[Any]:
    g = mp.mpf(float(np.asarray(row["g"]).reshape(())))
    (mean,) = define_jvp(mp, row)
    v = base.mpf_row(mp, row["v_x"])
    return [g * p * (q - mean) for p, q in zip(softmax.define(mp, row), v, strict=True)]


def formula_hvp(a: Any, b: Batch) -> Any:
    row = Logits(a, b)
    return a.exact(b.g) * row.s * deviation.deviation(row, b.tangent())


def textbook_hvp(a: BoundArithmetic, b: Batch) -> Bound:
    return deviation.textbook_scaled(a, b, b.tangent(), a.exact(b.g))


def settle_hvp(b: Batch) -> Settled:
    return deviation.settle_scaled(
        b, b.tangent(), lambda r: Fraction(float(b.g[r, 0])), b.g[:, 0] == 0
    )


def quotient_hvp(b: Batch, i: int) -> Quotient:
    return deviation.quotient_of_scaled(b, i, b.tangent(), Fraction(float(b.g[0, 0])))


OP = Op(
    name="logsumexp",
    inputs=("x",),
    differentiable=("x",),
    per_row=True,
    maps={
        ("value", "-"): Map(define, formula, textbook, settle),
        ("vjp", "x"): Map(define_vjp, formula_vjp, textbook_vjp, settle_vjp, quotient_vjp),
        ("jvp", "x"): Map(define_jvp, formula_jvp, textbook_jvp, settle_jvp, quotient_jvp),
        ("hvp", "x.x"): Map(define_hvp, formula_hvp, textbook_hvp, settle_hvp, quotient_hvp),
    },
)
