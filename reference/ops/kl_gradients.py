"""The gradients of kl_divergence; like all its derivatives they contain no logarithm.

With s = s(x), delta = x - y and c = delta - <s, delta>: to x g s_i c_i, to y g (s(y)_i - s_i), the
latter free of cancellation by :mod:`reference.ops.pairs`.

Exact, with two or more distinct logits: to x 0 where the groups of equal x have one common mean
delta, which is delta_i. To y rational where both rows are of equal logits (at an entry that one row
leaves out: where the other is), 0 where S(x) / e^(x_i) and S(y) / e^(y_i) are the same sum.
Transcendental otherwise: q S(x) S(y) = e^(y_i) S(x) - e^(x_i) S(y) makes S(x) and S(y) divide each
other, hence multiples of each other, and q S(y) has coefficients of one sign only.

Limits: the gradient to x needs y on K only. Where y is infinite there, with two or more classes in
K, delta tips the balance: +-inf, as far as the sign is certain. Entry by entry, the gradients are
undefined where a softmax that they contain is: beside several +inf in y the gradient to y is
-g s(x)_i, beside several in x it is g s(y)_i.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import numpy as np

from ..arithmetic.base import F64, Mask
from ..arithmetic.bounds import Bound, BoundArithmetic
from . import base, deviation, expectation
from .base import NAN, NEG_INF, POS_INF, UNDEFINED, ZERO, Batch, Map, Settled, Textbook
from .cross_entropy import cotangent
from .deviation import shifted, spread
from .exponential import Quotient, approximately_zero, common_mean
from .limits import settle_limits
from .pairs import Pair, PairRow
from .softmax import define as softmax


def cotangent_of(b: Batch, r: int) -> Fraction:
    return Fraction(float(b.g[r, 0]))


def softmaxes(mp: Any, row: Mapping[str, Any]) -> tuple[list[Any], list[Any]]:
    return softmax(mp, row), softmax(mp, {"x": row["y"]})


def delta_of(mp: Any, row: Mapping[str, Any]) -> list[Any]:
    x, y = (base.mpf_row(mp, row[name]) for name in ("x", "y"))
    return [p - q if mp.isfinite(p) else mp.mpf(0) for p, q in zip(x, y, strict=True)]


def textbook_delta(a: BoundArithmetic, pair: Pair) -> tuple[Textbook, Bound]:
    row = Textbook(a, pair.x)
    return row, row.l - Textbook(a, pair.y).l


# ---------------------------------------------------------------- vjp to x


def define_vjp_x(mp: Any, row: Mapping[str, Any]) -> list[Any]:
    s, g = softmax(mp, row), cotangent(mp, row)
    return [g * p * q for p, q in zip(s, spread(mp, s, delta_of(mp, row)), strict=True)]


def formula_vjp_x(a: Any, b: Batch) -> Any:
    row = PairRow(a, Pair(b))
    return a.exact(b.g) * row.x.s * row.c


def textbook_vjp_x(a: BoundArithmetic, b: Batch) -> Bound:
    row, delta = textbook_delta(a, Pair(b))
    return expectation.textbook_gradient(row, delta, a.exact(b.g))


def settle_vjp_x(b: Batch) -> Settled:
    pair = Pair(b)
    out = settle_limits(pair.x)
    for r in map(int, np.flatnonzero(pair.x.regular & ~pair.nan)):
        kept = np.flatnonzero(pair.kept[r])
        if b.g[r, 0] == 0 or len(kept) == 1:
            out.codes[r] = ZERO
        elif pair.bad[r].any():
            _tip(out, r, pair.kept[r], np.where(pair.bad[r], -pair.raw_y[r], 0.0) * b.g[r, 0])
        elif pair.x.equal[r]:
            delta = pair.delta.row(r)[kept]
            scale, mean = cotangent_of(b, r) / len(kept), delta.sum() / len(kept)
            for i, value in zip(kept.tolist(), delta, strict=True):
                out.exact(r, i, scale * (value - mean))
        else:
            _settle_common_delta(out, pair, r, kept)
    out.codes[pair.open_x] = UNDEFINED
    out.codes[pair.nan] = NAN
    return out


def _settle_common_delta(out: Settled, pair: Pair, r: int, kept: Any) -> None:
    approximate = pair.delta.approximate[r][kept]
    mean = common_mean(pair.x.x[r][kept], approximate, lambda: pair.delta.row(r)[kept])
    if mean is not None:
        delta = pair.delta.row(r)
        for i in kept.tolist():
            if delta[i] == mean:
                out.codes[r, i] = ZERO


def _tip(out: Settled, r: int, kept: Mask, slope: F64) -> None:
    """g s_i (delta_i - <s, delta>) where g delta is infinite, with the signs of ``slope``."""
    infinite = np.flatnonzero(slope)
    signs = set(np.sign(slope[infinite]))
    others = UNDEFINED
    if len(signs) == 1:
        others = NEG_INF if signs == {1.0} else POS_INF
    out.codes[r, kept] = others
    out.codes[r, infinite] = UNDEFINED
    if len(infinite) == 1:
        out.codes[r, infinite] = POS_INF if signs == {1.0} else NEG_INF


def quotient_vjp_x(b: Batch, i: int) -> Quotient:
    pair = Pair.of_row(b)
    powers, delta = deviation.first_row(pair.x), b.once("delta", lambda: pair.delta.row(0))
    weighted = b.once("D", lambda: powers.sum(delta))
    linear = (powers.S.times(delta[i]) - weighted).times(cotangent_of(b, 0))
    return Quotient((powers.e(i), linear), (powers.S, powers.S))


# ---------------------------------------------------------------- vjp to y


def define_vjp_y(mp: Any, row: Mapping[str, Any]) -> list[Any]:
    g = cotangent(mp, row)
    return [g * (q - p) for p, q in zip(*softmaxes(mp, row), strict=True)]


def formula_vjp_y(a: Any, b: Batch) -> Any:
    return a.exact(b.g) * PairRow(a, Pair(b)).change


def textbook_vjp_y(a: BoundArithmetic, b: Batch) -> Bound:
    """Through log_softmax: s(y) sum(s(x)) - s(x)."""
    pair = Pair(b)
    s, other, g = Textbook(a, pair.x).s, Textbook(a, pair.y).s, a.exact(b.g)
    return a.worse(g * (other * a.sum(s) - s), g * other * a.sum(s) - g * s)


def settle_vjp_y(b: Batch) -> Settled:
    pair = Pair(b)
    out = Settled.formula((b.rows, b.n))
    s, other = shifted(pair.x)[0], shifted(pair.y)[0]
    suspects = approximately_zero(s - other, s + other)
    known = [~p.kept | p.equal[:, None] for p in (pair.x, pair.y)]
    for r in map(int, np.flatnonzero(pair.both)):
        if b.g[r, 0] == 0 or pair.same(r):
            out.codes[r] = ZERO
            continue
        for i in np.flatnonzero(known[0][r] & known[1][r]).tolist():
            here, there = _share(pair.x, r, i), _share(pair.y, r, i)
            out.exact(r, i, cotangent_of(b, r) * (there - here))
        if suspects[r].any():
            out.codes[r, pair.equal_entries(r)] = ZERO
    out.codes[pair.open_] = UNDEFINED
    out.codes[pair.nan] = NAN
    return out


def _share(b: Batch, r: int, i: int) -> Fraction:
    """s_i, where that is rational."""
    return Fraction(int(b.kept[r, i]), int(b.count[r]))


def quotient_vjp_y(b: Batch, i: int) -> Quotient:
    x, y = Pair.of_row(b).powers()
    numerator = (y.e(i) * x.S - x.e(i) * y.S).times(cotangent_of(b, 0))
    return Quotient((numerator,), (x.S, y.S))


MAPS = {
    ("vjp", "x"): Map(define_vjp_x, formula_vjp_x, textbook_vjp_x, settle_vjp_x, quotient_vjp_x),
    ("vjp", "y"): Map(define_vjp_y, formula_vjp_y, textbook_vjp_y, settle_vjp_y, quotient_vjp_y),
}
