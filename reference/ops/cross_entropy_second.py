"""Forward derivatives and second derivatives of softmax_cross_entropy, f = -sum_j t_j l_j.

With T = sum t, V = sum v_target and w = v_x - <s, v_x>:

    jvp to x         T <s, v> - sum_j t_j v_j = -sum_j t_j w_j
    jvp to target    -sum_j v_j l_j, the loss itself with v for targets
    hvp x.x          g T s_i w_i
    hvp x.target     g (s_i V - v_i), the gradient to x with v for targets
    hvp target.x     -g w_i
    hvp target.target    0

The first component of hvp A.B is the A-part, for a tangent in B alone. jvp to x is taken with the
tangent of the dominating class subtracted from all of them, see :mod:`reference.ops.deviation`,
which also says when these are rational. What does not depend on the targets is not touched by what
is wrong with them.

Limits: the jvp to the targets is -sum v_j l_j over extended reals: +inf or -inf where all v_j != 0
on l_j = -inf have one sign, undefined where they have both. At x_i = -inf the blocks are 0,
-g v_i, -g (v_i - <s, v>) and 0. Where the targets matter (jvp to x, hvp x.x), rows with infinite
logits are judged for t >= 0 only.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import numpy as np

from ..arithmetic.base import Mask
from ..arithmetic.bounds import Bound, BoundArithmetic
from . import base, deviation, log_softmax
from .base import (
    FORMULA,
    NAN,
    NEG_INF,
    POS_INF,
    UNDEFINED,
    ZERO,
    Batch,
    Logits,
    Map,
    Settled,
    Textbook,
)
from .cross_entropy import (
    cotangent,
    define,
    define_vjp_x,
    finite,
    formula,
    formula_vjp_x,
    quotient_vjp_x,
    settle_finite_row,
    settle_vjp_x,
    target_of,
    textbook,
    textbook_vjp_x,
    total_target,
)
from .exponential import Quotient, exact
from .softmax import define as softmax


def with_tangent_for_target(b: Batch) -> Batch:
    """The row with v_target in the place of the targets."""
    inputs = {name: a for name, a in b.inputs.items() if name != "label"}
    return Batch({**inputs, "target": b.tangent("target")})


def _row_with_tangent(row: Mapping[str, Any]) -> Mapping[str, Any]:
    return {**{k: v for k, v in row.items() if k != "label"}, "target": row["v_target"]}


def _unusable(out: Settled, b: Batch) -> Settled:
    """Rows whose targets are NaN, infinite, or negative beside an infinite logit."""
    negative = (b.target < 0).any(axis=1) & ~b.kept.all(axis=1)
    out.codes[negative | np.isinf(b.target).any(axis=1)] = UNDEFINED
    out.codes[b.has_nan | np.isnan(b.target).any(axis=1)] = NAN
    return out


# ---------------------------------------------------------------- jvp to x


def define_jvp_x(mp: Any, row: Mapping[str, Any]) -> list[Any]:
    s, t, v = (softmax(mp, row), *(base.mpf_row(mp, u) for u in (target_of(row), row["v_x"])))
    gradient = [p * mp.fsum(t) - q for p, q in zip(s, t, strict=True)]
    return [mp.fsum(p * q for p, q in zip(gradient, v, strict=True))]


def formula_jvp_x(a: Any, b: Batch) -> Any:
    row, t, v = Logits(a, b), finite(b.target), b.tangent()
    c = a.difference(v, deviation.anchor(b, v))
    return a.total(t) * a.sum(row.s * c) - a.sum(a.exact(t) * c)


def textbook_jvp_x(a: BoundArithmetic, b: Batch) -> Bound:
    w = deviation.textbook_deviation(Textbook(a, b), b.tangent())
    return -a.sum(a.exact(finite(b.target)) * w)


def settle_jvp_x(b: Batch) -> Settled:
    means = deviation.settle_mean(b, b.tangent())
    out = Settled(means.codes.copy())
    target = finite(b.target)
    vanishes = base.sums_to_zero(target) & b.regular
    open_ = np.isin(means.codes[:, 0], (FORMULA, NAN, UNDEFINED))
    for r in np.flatnonzero(vanishes | ~open_).tolist():
        mean = means.fractions.get((r, 0), Fraction(0))
        out.exact(r, 0, (exact(target[r]) * (mean - exact(b.tangent()[r]))).sum())
    return _unusable(out, b)


def quotient_jvp_x(b: Batch, i: int) -> Quotient:
    v, t = b.tangent(), b.target
    weighted = b.once("t v", lambda: (exact(t[0]) * exact(v[0])).sum())
    return deviation.quotient_of_mean(b, v, total_target(b), -weighted)


# ---------------------------------------------------------------- jvp to the targets


def define_jvp_target(mp: Any, row: Mapping[str, Any]) -> list[Any]:
    return define(mp, _row_with_tangent(row))


def formula_jvp_target(a: Any, b: Batch) -> Any:
    return formula(a, with_tangent_for_target(b))


def textbook_jvp_target(a: BoundArithmetic, b: Batch) -> Bound:
    return textbook(a, with_tangent_for_target(b))


def settle_jvp_target(b: Batch) -> Settled:
    b = with_tangent_for_target(b)
    out = Settled.formula((b.rows, 1))
    logs = log_softmax.settle(b).codes
    vanishes = base.sums_to_zero(b.target)
    ordinary = (b.count == b.n) & (b.count > 1) & (b.target != 0).any(axis=1) & ~vanishes
    for r in np.flatnonzero(~ordinary).tolist():
        weighted = b.target[r] != 0
        if b.regular[r] and not weighted[~b.kept[r]].any():
            settle_finite_row(out, b, r, vanishes=bool(vanishes[r]))
        else:
            out.codes[r, 0] = _limit(b.target[r], logs[r], weighted)
    out.codes[b.has_nan] = NAN
    return out


def _limit(v: Any, logs: Any, weighted: Mask) -> int:
    """-sum v_j l_j where some logit is infinite."""
    if not weighted.any():
        return ZERO
    infinite = weighted & (logs == NEG_INF)
    unknown = weighted & np.isin(logs, (NEG_INF, UNDEFINED))  # in [-inf, 0]
    if not unknown.any():
        return ZERO  # all weight on the one +inf, where l = 0
    signs = set(np.sign(v[unknown]))
    if not infinite.any() or len(signs) > 1:
        return UNDEFINED
    return POS_INF if signs == {1.0} else NEG_INF


# ---------------------------------------------------------------- hvp x.x


def define_hvp_xx(mp: Any, row: Mapping[str, Any]) -> list[Any]:
    factor = cotangent(mp, row) * mp.fsum(base.mpf_row(mp, target_of(row)))
    w = log_softmax.define_jvp(mp, row)
    return [factor * p * q for p, q in zip(softmax(mp, row), w, strict=True)]


def formula_hvp_xx(a: Any, b: Batch) -> Any:
    row = Logits(a, b)
    factor = a.exact(b.g) * a.total(finite(b.target))
    return factor * row.s * deviation.deviation(row, b.tangent())


def textbook_hvp_xx(a: BoundArithmetic, b: Batch) -> Bound:
    """s (v - sum(s v)) times sum(t) and g, either of which may meet s first."""
    total, g = a.sum(a.exact(finite(b.target))), a.exact(b.g)
    outside = deviation.textbook_scaled(a, b, b.tangent(), total) * g
    return a.worse(outside, deviation.textbook_scaled(a, b, b.tangent(), g * total))


def settle_hvp_xx(b: Batch) -> Settled:
    target = finite(b.target)
    zero = (b.g[:, 0] == 0) | base.sums_to_zero(target)

    def factor(r: int) -> Fraction:
        return Fraction(float(b.g[r, 0])) * base.fraction_total(target[r])

    return _unusable(deviation.settle_scaled(b, b.tangent(), factor, zero), b)


def _factor(b: Batch) -> Fraction:
    return Fraction(float(b.g[0, 0])) * base.fraction_total(b.target[0])


def quotient_hvp_xx(b: Batch, i: int) -> Quotient:
    return deviation.quotient_of_scaled(b, i, b.tangent(), _factor(b))


# ---------------------------------------------------------------- hvp x.target


def define_hvp_xt(mp: Any, row: Mapping[str, Any]) -> list[Any]:
    return define_vjp_x(mp, _row_with_tangent(row))


def formula_hvp_xt(a: Any, b: Batch) -> Any:
    return formula_vjp_x(a, with_tangent_for_target(b))


def textbook_hvp_xt(a: BoundArithmetic, b: Batch) -> Bound:
    return textbook_vjp_x(a, with_tangent_for_target(b))


def settle_hvp_xt(b: Batch) -> Settled:
    return settle_vjp_x(with_tangent_for_target(b), signed=True)


def quotient_hvp_xt(b: Batch, i: int) -> Quotient:
    return quotient_vjp_x(b.once("with tangent", lambda: with_tangent_for_target(b)), i)


# ---------------------------------------------------------------- hvp target.x


def define_hvp_tx(mp: Any, row: Mapping[str, Any]) -> list[Any]:
    g = cotangent(mp, row)
    return [-g * w for w in log_softmax.define_jvp(mp, row)]


def formula_hvp_tx(a: Any, b: Batch) -> Any:
    return a.exact(-b.g) * deviation.deviation(Logits(a, b), b.tangent())


def textbook_hvp_tx(a: BoundArithmetic, b: Batch) -> Bound:
    return a.exact(-b.g) * deviation.textbook_deviation(Textbook(a, b), b.tangent())


def settle_hvp_tx(b: Batch) -> Settled:
    out = deviation.settle_deviation(b, b.tangent())
    for (r, i), value in list(out.fractions.items()):
        out.exact(r, i, -Fraction(float(b.g[r, 0])) * value)
    out.codes[(out.codes == FORMULA) & (b.g == 0)] = ZERO
    return out


def quotient_hvp_tx(b: Batch, i: int) -> Quotient:
    return deviation.quotient_of_deviation(b, i, b.tangent(), -Fraction(float(b.g[0, 0])))


# ---------------------------------------------------------------- hvp target.target


def define_hvp_tt(mp: Any, row: Mapping[str, Any]) -> list[Any]:
    return [mp.mpf(0) for _ in row["x"]]


def formula_hvp_tt(a: Any, b: Batch) -> Any:
    return a.exact(np.zeros(b.x.shape))


MAPS = {
    ("jvp", "x"): Map(define_jvp_x, formula_jvp_x, textbook_jvp_x, settle_jvp_x, quotient_jvp_x),
    ("jvp", "target"): Map(
        define_jvp_target, formula_jvp_target, textbook_jvp_target, settle_jvp_target
    ),
    ("hvp", "x.x"): Map(
        define_hvp_xx,
        formula_hvp_xx,
        textbook_hvp_xx,
        settle_hvp_xx,
        quotient_hvp_xx,
    ),
    ("hvp", "x.target"): Map(
        define_hvp_xt, formula_hvp_xt, textbook_hvp_xt, settle_hvp_xt, quotient_hvp_xt
    ),
    ("hvp", "target.x"): Map(
        define_hvp_tx, formula_hvp_tx, textbook_hvp_tx, settle_hvp_tx, quotient_hvp_tx
    ),
    ("hvp", "target.target"): Map(
        define_hvp_tt, formula_hvp_tt, formula_hvp_tt, deviation.settle_constant_zero
    ),
}
