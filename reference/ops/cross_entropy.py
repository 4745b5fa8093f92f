"""Value and gradients of softmax_cross_entropy, f = -sum_i t_i l_i; t need not sum to 1.

vjp to x, cotangent g, T = sum t: g (s_i T - t_i), not g (s_i - t_i).
vjp to t: -g l_i.

Cancellation-free: f = T log1p(t) - sum_i t_i d_i, with both terms >= 0 for targets >= 0 (t without
index being the sum of e without the maximum); the gradient by :func:`reference.ops.base.residual`.

Exact: T = 0 gives the value -sum t_j x_j and the gradient -g t_i; a single kept logit gives 0 and
g (T - t_i); equal logits give g (T / k - t_i). Everything else is transcendental.

Limits: a term with t_i = 0 contributes 0 whatever its logit; t_i > 0 on l_i = -inf gives +inf.
Infinite logits are judged for t >= 0 only, infinite targets not at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import numpy as np

from ..arithmetic.bounds import Bound, BoundArithmetic
from . import base, deviation, log_softmax
from .base import (
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
from .exponential import Quotient
from .limits import one_infinity
from .softmax import define as softmax


def target_of(row: Mapping[str, Any]) -> Any:
    """The row's targets; a label becomes one-hot."""
    if "label" in row:
        return np.eye(len(row["x"]))[int(row["label"])]
    return row["target"]


def cotangent(mp: Any, row: Mapping[str, Any]) -> Any:
    return mp.mpf(float(np.asarray(row["g"]).reshape(())))


# ---------------------------------------------------------------- value


def define(mp: Any, row: Mapping[str, Any]) -> list[Any]:
    l = log_softmax.define(mp, row)  # noqa: E741 - the contract's name
    t = base.mpf_row(mp, target_of(row))
    return [-mp.fsum(q * p for q, p in zip(t, l, strict=True) if q != 0)]


def formula(a: Any, b: Batch) -> Any:
    row = Logits(a, b)
    t = np.where(b.kept, finite(b.target), 0.0)
    return a.total(t) * a.log1p(row.t) - a.sum(a.exact(t) * row.d)


def textbook(a: BoundArithmetic, b: Batch) -> Bound:
    row = Textbook(a, b)
    terms = a.where(b.kept & (b.target != 0), a.exact(finite(b.target)) * row.l, row.zero)
    return -a.sum(terms)


def settle(b: Batch) -> Settled:
    out = Settled.formula((b.rows, 1))
    logs = log_softmax.settle(b).codes
    weighted = b.target != 0
    vanishes = base.sums_to_zero(finite(b.target))
    rows = np.isfinite(b.target).all(axis=1)
    ordinary = (b.count == b.n) & (b.count > 1) & weighted.any(axis=1) & ~vanishes
    for r in map(int, np.flatnonzero(rows & ~ordinary)):
        if b.kept[r].all() or (b.regular[r] and _plain(b, r) and not weighted[r][~b.kept[r]].any()):
            settle_finite_row(out, b, r, vanishes=bool(vanishes[r]))
            continue
        out.codes[r, 0] = _limit(b.target[r], logs[r], weighted[r])
    out.codes[np.isinf(b.target).any(axis=1)] = UNDEFINED
    out.codes[b.has_nan | np.isnan(b.target).any(axis=1)] = NAN
    return out


def settle_finite_row(out: Settled, b: Batch, r: int, *, vanishes: bool) -> None:
    """The value where no weight is on an infinite logit; ``vanishes``: the targets sum to 0."""
    weighted = np.flatnonzero(b.target[r])
    if b.count[r] == 1 or not weighted.size:
        out.codes[r, 0] = ZERO
    elif vanishes:
        pairs = zip(b.target[r][weighted], b.x[r][weighted], strict=True)
        value = sum((Fraction(float(t)) * Fraction(float(x)) for t, x in pairs), Fraction(0))
        out.exact(r, 0, -value)


def _limit(target: Any, logs: Any, weighted: Any) -> int:
    """The value where some logit is infinite: decided by the weighted terms alone."""
    if not weighted.any():
        return ZERO
    if (target < 0).any() or (logs[weighted] == UNDEFINED).any():
        # +inf beside an undefined term is +inf: both terms of the sum are >= 0.
        certain = (logs[weighted] == NEG_INF).any() and not (target < 0).any()
        return POS_INF if certain else UNDEFINED
    return POS_INF if (logs[weighted] == NEG_INF).any() else ZERO


def _plain(b: Batch, r: int) -> bool:
    """No negative target: what rows with infinite logits are judged for."""
    return not (b.target[r] < 0).any()


def finite(values: Any) -> Any:
    return np.where(np.isfinite(values), values, 0.0)


# ---------------------------------------------------------------- vjp to x


def define_vjp_x(mp: Any, row: Mapping[str, Any]) -> list[Any]:
    s, t, g = softmax(mp, row), base.mpf_row(mp, target_of(row)), cotangent(mp, row)
    total = mp.fsum(t)
    return [g * (p * total - q) for p, q in zip(s, t, strict=True)]


def formula_vjp_x(a: Any, b: Batch) -> Any:
    return a.exact(-b.g) * base.residual(Logits(a, b), b.target)


def textbook_vjp_x(a: BoundArithmetic, b: Batch) -> Bound:
    """g (s sum(t) - t), or each product apart, or s sum(g t) - g t."""
    t, g, s = a.exact(b.target), a.exact(b.g), Textbook(a, b).s
    inside = g * t
    return a.underflowing_as(a.multiplied_out(g, s * a.sum(t), t), s * a.sum(inside) - inside)


def settle_vjp_x(b: Batch, *, signed: bool = False) -> Settled:
    """``signed``: judge rows with infinite logits for negative targets, too."""
    out = Settled.formula(b.x.shape)
    zero = base.sums_to_zero(finite(b.target))
    zero |= b.g[:, 0] == 0
    infinite = dict(one_infinity(b))
    ordinary = np.isfinite(b.target).all(axis=1) & (b.count == b.n) & ~b.equal & ~zero
    for r in np.flatnonzero(~ordinary).tolist():
        if b.has_nan[r] or np.isnan(b.target[r]).any():
            out.codes[r] = NAN
            continue
        if np.isinf(b.target[r]).any():
            out.codes[r] = UNDEFINED
            continue
        rational = b.equal[r] or not b.regular[r] or zero[r]
        g = Fraction(float(b.g[r, 0]))
        total = base.fraction_total(b.target[r])
        share = total / max(int(b.count[r]), 1)
        plain = ~b.kept[r] | (not b.regular[r])
        base.settle_linear(out, r, np.flatnonzero(plain), b.target[r], -g)
        if rational:
            base.settle_linear(out, r, np.flatnonzero(~plain), b.target[r], -g, g * share)
        if not signed and not b.kept[r].all() and not _plain(b, r):
            out.codes[r] = UNDEFINED
        elif r in infinite:
            here = Fraction(float(b.target[r, infinite[r]]))
            out.exact(r, infinite[r], g * (total - here))
        elif not b.regular[r]:
            undefined = (b.x[r] == np.inf) if b.infinities[r] else np.ones(b.n, bool)
            out.codes[r, undefined] = UNDEFINED
    return out


def quotient_vjp_x(b: Batch, i: int) -> Quotient:
    """g (s_i T - t_i)."""
    g = -Fraction(float(b.g[0, 0]))
    own = Fraction(float(b.target[0, i]))
    return deviation.quotient_of_share(b, i, g * own, g * total_target(b))


def total_target(b: Batch) -> Fraction:
    """T of one row."""
    return b.once("T", lambda: base.fraction_total(b.target[0]))


# ---------------------------------------------------------------- vjp to the targets


def define_vjp_target(mp: Any, row: Mapping[str, Any]) -> list[Any]:
    g = cotangent(mp, row)
    return [-g * v for v in log_softmax.define(mp, row)]


def formula_vjp_target(a: Any, b: Batch) -> Any:
    return a.exact(-b.g) * Logits(a, b).l


def textbook_vjp_target(a: BoundArithmetic, b: Batch) -> Bound:
    return a.exact(-b.g) * Textbook(a, b).l


def settle_vjp_target(b: Batch) -> Settled:
    out = log_softmax.settle(b)
    g = np.broadcast_to(b.g, out.codes.shape)
    minus_infinity = out.codes == NEG_INF
    out.codes[minus_infinity & (g > 0)] = POS_INF
    out.codes[minus_infinity & (g < 0)] = NEG_INF
    settled = np.isin(out.codes, (NAN, UNDEFINED))
    out.codes[(g == 0) & ~settled] = ZERO
    return out


MAPS = {
    ("value", "-"): Map(define, formula, textbook, settle),
    ("vjp", "x"): Map(define_vjp_x, formula_vjp_x, textbook_vjp_x, settle_vjp_x, quotient_vjp_x),
    ("vjp", "target"): Map(
        define_vjp_target, formula_vjp_target, textbook_vjp_target, settle_vjp_target
    ),
}
