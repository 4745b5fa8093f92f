"""categorical_entropy: H = -sum_j s_j l_j = log1p(t) + sum_j s_j (m - x_j), one per row.

Both terms are >= 0 (t the sum of e without the maximum), so nothing cancels.

With w = v - <s, v> and a = x - <s, x> (which is l + H):

    vjp    -g s_i a_i
    jvp    -<s, a v> = -<s, (x - <s, x>) (v - <s, v>)>
    hvp    -g s_i [w_i (1 + a_i) - <s, a w>]        (:mod:`reference.ops.curvature`)

The derivatives contain no logarithm. Exact: a single kept logit gives 0; equal logits give a = 0
and the hvp -g (v_i - mean v) / k, while log k is transcendental. With two or more distinct logits
the vjp is transcendental (or g = 0). So is the jvp, unless the groups of equal logits have one
common mean tangent, where it is 0: S^2 jvp is the sum over pairs of groups a < b of
e_a e_b n_a n_b (x_a - x_b) (mean_b - mean_a), and the exponents x_0 + x_k occur in no other pair
than those between groups below k, which have one mean by induction. The hvp is as said in
:mod:`reference.ops.curvature`.

Not covered: the value mixes exp and log, and no theorem says that it is not rational with two or
more distinct logits. It would have to be within 2^-16000 of a rounding boundary to be left
undecided. It is small where one class dominates, and not beside a boundary, for log k is none.

Limits: an entry at -inf contributes 0 and has derivative 0; with one +inf all is 0; with several,
the value and the jvp are undefined, the other derivatives 0 at every other entry.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import numpy as np

from ..arithmetic.base import F64
from ..arithmetic.bounds import Bound, BoundArithmetic
from . import base, curvature, deviation, expectation, log_softmax
from .base import ZERO, Batch, Logits, Map, Op, Settled, Textbook
from .cross_entropy import cotangent
from .deviation import spread
from .exponential import Quotient, common_mean
from .limits import one_infinity, settle_limits, settle_unless_regular
from .softmax import define as softmax


def logits(b: Batch) -> F64:
    """x with something finite where s is 0."""
    return b.finite_x


def _settle_per_row(b: Batch) -> Settled:
    out = settle_unless_regular(b, 1)
    for r, _ in one_infinity(b):
        out.codes[r, 0] = ZERO
    return out


# ---------------------------------------------------------------- value


def define(mp: Any, row: Mapping[str, Any]) -> list[Any]:
    pairs = zip(softmax(mp, row), log_softmax.define(mp, row), strict=True)
    return [-mp.fsum(p * q for p, q in pairs if p != 0)]


def formula(a: Any, b: Batch) -> Any:
    row = Logits(a, b)
    return a.log1p(row.t) - a.sum(row.s * row.d)


def textbook(a: BoundArithmetic, b: Batch) -> Bound:
    row = Textbook(a, b)
    return -expectation.textbook_value(row, row.l)


def settle(b: Batch) -> Settled:
    out = _settle_per_row(b)
    out.codes[b.regular & (b.count == 1), 0] = ZERO
    return out


# ---------------------------------------------------------------- vjp


def _finite(mp: Any, row: Mapping[str, Any]) -> list[Any]:
    return [v if mp.isfinite(v) else mp.mpf(0) for v in base.mpf_row(mp, row["x"])]


def define_vjp(mp: Any, row: Mapping[str, Any]) -> list[Any]:
    a = spread(mp, softmax(mp, row), _finite(mp, row))
    return [-cotangent(mp, row) * p * q for p, q in zip(softmax(mp, row), a, strict=True)]


def formula_vjp(a: Any, b: Batch) -> Any:
    row = Logits(a, b)
    return a.exact(-b.g) * row.s * deviation.deviation(row, logits(b))


def textbook_vjp(a: BoundArithmetic, b: Batch) -> Bound:
    row = Textbook(a, b)
    return expectation.textbook_gradient(row, row.l, a.exact(-b.g))


def settle_vjp(b: Batch) -> Settled:
    out = settle_limits(b)
    out.codes[(b.equal | (b.regular & (b.g[:, 0] == 0)))] = ZERO
    return out


def _factor(b: Batch) -> Fraction:
    return -Fraction(float(b.g[0, 0]))


def quotient_vjp(b: Batch, i: int) -> Quotient:
    return deviation.quotient_of_scaled(b, i, logits(b), _factor(b))


# ---------------------------------------------------------------- jvp


def define_jvp(mp: Any, row: Mapping[str, Any]) -> list[Any]:
    s, v = softmax(mp, row), base.mpf_row(mp, row["v_x"])
    a = spread(mp, softmax(mp, row), _finite(mp, row))
    return [-mp.fsum(p * q * u for p, q, u in zip(s, a, v, strict=True))]


def formula_jvp(a: Any, b: Batch) -> Any:
    row = Logits(a, b)
    c, w = (deviation.deviation(row, u) for u in (logits(b), b.tangent()))
    return -a.sum(row.s * c * w)


def textbook_jvp(a: BoundArithmetic, b: Batch) -> Bound:
    row = Textbook(a, b)
    return -expectation.textbook_tangent(row, row.l, b.tangent())


def settle_jvp(b: Batch) -> Settled:
    out, v = _settle_per_row(b), b.tangent()
    for r in map(int, np.flatnonzero(b.regular & (b.equal | deviation.may_share_mean(b, v)))):
        kept = b.kept[r]
        if b.equal[r] or common_mean(b.x[r][kept], v[r][kept]) is not None:
            out.codes[r, 0] = ZERO
    return out


def quotient_jvp(b: Batch, i: int) -> Quotient:
    p = curvature.of_floats(logits(b))
    return curvature.covariance_of_row(b, p, b.tangent()).quotient(Fraction(-1))


# ---------------------------------------------------------------- hvp


def define_hvp(mp: Any, row: Mapping[str, Any]) -> list[Any]:
    s, v = softmax(mp, row), base.mpf_row(mp, row["v_x"])
    a, w = spread(mp, softmax(mp, row), _finite(mp, row)), spread(mp, s, v)
    mean = mp.fsum(p * q * u for p, q, u in zip(s, a, v, strict=True))
    g = cotangent(mp, row)
    return [-g * p * (u * (1 + q) - mean) for p, q, u in zip(s, a, w, strict=True)]


def formula_hvp(a: Any, b: Batch) -> Any:
    row = Logits(a, b)
    c, w = (deviation.deviation(row, u) for u in (logits(b), b.tangent()))
    return a.exact(-b.g) * curvature.formula(row, c, w)


def textbook_hvp(a: BoundArithmetic, b: Batch) -> Bound:
    row = Textbook(a, b)
    return expectation.textbook_second(row, row.l, b.tangent(), a.exact(-b.g))


def settle_hvp(b: Batch) -> Settled:
    return curvature.settle(
        b,
        curvature.of_floats(logits(b)),
        b.tangent(),
        h=1,
        factor=lambda r: -Fraction(float(b.g[r, 0])),
        zero=b.g[:, 0] == 0,
    )


def quotient_hvp(b: Batch, i: int) -> Quotient:
    p = curvature.of_floats(logits(b))
    return curvature.quotient(b, i, p, b.tangent(), 1, _factor(b))


OP = Op(
    name="categorical_entropy",
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
