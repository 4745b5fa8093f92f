"""Forward and second derivatives of kl_divergence.

With s = s(x), c = delta - <s, delta> of delta = x - y, w = v_x - <s, v_x>:

    jvp to x    <s, c w>
    jvp to y    <s(y) - s, v_y>, taken of v_y - r
    hvp x.x     g s_i [w_i (1 + c_i) - <s, c w>]
    hvp x.y     -g s_i (v_y - <s, v_y>)_i
    hvp y.x     -g s_i w_i
    hvp y.y     g s(y)_i (v_y - <s(y), v_y>)_i

Exact, with two or more distinct logits: jvp to x where (S R - P V) / S^2 is rational coefficient by
coefficient, P = sum e delta, V = sum e v, R = sum e delta v; it is the covariance of the largest
logits then. jvp to y where V(y) S(x) - V(x) S(y) = q S(x) S(y). hvp x.x: see
:mod:`reference.ops.curvature`; the other blocks: :mod:`reference.ops.deviation`.

Limits: jvp to x and hvp x.x are undefined where y is infinite at one of two or more classes with
s_i > 0. The blocks of the Hessian beside x.x contain one softmax each, and the other row does not
matter to them (beside NaN in it they are left open). Sums are undefined where an entry is.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from operator import mul
from typing import Any

import numpy as np

from ..arithmetic.base import F64, Mask
from ..arithmetic.bounds import Bound, BoundArithmetic
from . import base, curvature, deviation, expectation
from .base import NAN, UNDEFINED, ZERO, Batch, Logits, Map, Settled, Textbook
from .cross_entropy import cotangent
from .curvature import Covariance, normalised
from .deviation import shifted, spread
from .exponential import (
    PRIME,
    PRODUCTS,
    Quotient,
    approximately_zero,
    common_mean,
    exact,
    expanded,
    residue,
    same,
)
from .kl_gradients import (
    cotangent_of,
    delta_of,
    softmaxes,
    textbook_delta,
)
from .pairs import Pair, PairRow
from .softmax import define as softmax

# ---------------------------------------------------------------- jvp to x


def define_jvp_x(mp: Any, row: Mapping[str, Any]) -> list[Any]:
    s, v = softmax(mp, row), base.mpf_row(mp, row["v_x"])
    c = spread(mp, s, delta_of(mp, row))
    return [mp.fsum(p * q * u for p, q, u in zip(s, c, v, strict=True))]


def formula_jvp_x(a: Any, b: Batch) -> Any:
    row = PairRow(a, Pair(b))
    return a.sum(row.x.s * row.c * deviation.deviation(row.x, b.tangent()))


def textbook_jvp_x(a: BoundArithmetic, b: Batch) -> Bound:
    row, delta = textbook_delta(a, Pair(b))
    return expectation.textbook_tangent(row, delta, b.tangent())


def settle_jvp_x(b: Batch) -> Settled:
    pair, v = Pair(b), b.tangent()
    out = Settled.formula((b.rows, 1))
    suspects = _rational_suspects(pair, v)
    for r in map(int, np.flatnonzero(pair.x.regular)):
        kept = np.flatnonzero(pair.kept[r])
        if len(kept) == 1:
            out.codes[r, 0] = ZERO
        elif pair.bad[r].any():
            out.codes[r, 0] = UNDEFINED
        elif same(v[r][kept]) or pair.delta.constant(r, kept):
            out.codes[r, 0] = ZERO
        elif suspects[r]:
            value = Covariance.of(pair.x, pair.delta, v, r).rational()
            if value is not None:
                out.exact(r, 0, value)
    out.codes[~pair.x.regular | pair.open_x.any(axis=1)] = UNDEFINED
    out.codes[pair.nan] = NAN
    return out


def _rational_suspects(pair: Pair, v: F64) -> Mask:
    """Rows whose covariance may be that of the largest logits, the only rational that it can be."""
    with np.errstate(all="ignore"):
        (delta, _), (u, _) = normalised(pair.delta.approximate), normalised(v)
        largest = pair.kept & (pair.x.x == pair.x.m)
        found = []
        for weights in (shifted(pair.x)[0], largest / largest.sum(axis=1, keepdims=True)):
            means = [(weights * w).sum(axis=1, keepdims=True) for w in (delta, u)]
            found.append((weights * (delta - means[0]) * (u - means[1])).sum(axis=1))
        return approximately_zero(found[0] - found[1], np.ones(len(u)))


def quotient_jvp_x(b: Batch, i: int) -> Quotient:
    pair = Pair.of_row(b)
    return curvature.covariance_of_row(pair.x, pair.delta, b.tangent()).quotient()


# ---------------------------------------------------------------- jvp to y


def define_jvp_y(mp: Any, row: Mapping[str, Any]) -> list[Any]:
    v = base.mpf_row(mp, row["v_y"])
    return [mp.fsum((q - p) * u for p, q, u in zip(*softmaxes(mp, row), v, strict=True))]


def formula_jvp_y(a: Any, b: Batch) -> Any:
    pair, v = Pair(b), b.tangent("y")
    return a.sum(PairRow(a, pair).change * a.difference(v, deviation.anchor(pair.x, v)))


def textbook_jvp_y(a: BoundArithmetic, b: Batch) -> Bound:
    """-sum(s(x) (v - sum(s(y) v)))."""
    pair = Pair(b)
    u = deviation.textbook_deviation(Textbook(a, pair.y), b.tangent("y"))
    return -a.sum(Textbook(a, pair.x).s * u)


def settle_jvp_y(b: Batch) -> Settled:
    pair, v = Pair(b), b.tangent("y")
    out = Settled.formula((b.rows, 1))
    for r in map(int, np.flatnonzero(pair.both)):
        if pair.same(r) or same(v[r][pair.kept[r] | pair.y.kept[r]]):
            out.codes[r, 0] = ZERO
            continue
        means = [common_mean(p.x[r][p.kept[r]], v[r][p.kept[r]]) for p in (pair.x, pair.y)]
        if means[0] is not None and means[1] is not None:
            out.exact(r, 0, means[1] - means[0])
        elif _may_be_rational(pair, v, r):
            value = _rational_difference(pair, v, r)
            if value is not None:
                out.exact(r, 0, value)
    out.codes[~pair.both | pair.open_.any(axis=1)] = UNDEFINED
    out.codes[pair.nan] = NAN
    return out


def _rational_difference(pair: Pair, v: F64, r: int) -> Fraction | None:
    """V(y) / S(y) - V(x) / S(x), if that is rational and products may be formed.

    Where S(y) = q S(x), as with the same logits in another order, a factor S(x) can be taken out.
    """
    values = exact(v[r])
    x, y = pair.powers(r)
    ratio = y.S.over(x.S)
    if ratio is not None:
        p, q = (Fraction(k) for k in (ratio.numerator, ratio.denominator))
        found = (y.sum(values).times(q) - x.sum(values).times(p)).over(x.S)
        return None if found is None else found / p
    means = [values[p.largest].sum() / len(p.largest) for p in (x, y)]
    sums = []
    for powers in (x, y):
        e = powers.residues()
        sums += [sum(e), sum(map(mul, e, powers.residues(values)))]
    S_x, V_x, S_y, V_y = sums
    rest = V_y * S_x - V_x * S_y - residue(means[1] - means[0]) * S_x * S_y
    if rest % PRIME or x.distinct * y.distinct > PRODUCTS:
        return None
    quotient = _quotient(pair, v, r)
    return expanded(quotient.numerator).over(expanded(quotient.denominator))


def _may_be_rational(pair: Pair, v: F64, r: int) -> bool:
    """Is <s(y) - s(x), v> nearly what the largest logits of both rows alone would give?"""
    gap, u = 0.0, normalised(v[r : r + 1])[0][0]
    for sign, b in ((1, pair.y), (-1, pair.x)):
        s = shifted(Batch({"x": b.x[r : r + 1]}))[0][0]
        top = b.kept[r] & (b.x[r] == b.m[r])
        with np.errstate(under="ignore"):
            gap += sign * (float(s @ u) - float(u[top].mean()))
    return abs(gap) <= 1e-9


def _quotient(pair: Pair, v: F64, r: int = 0) -> Quotient:
    """V(y) S(x) - V(x) S(y) over S(x) S(y)."""
    x, y = pair.powers(r)
    values = exact(v[r])
    return Quotient((y.sum(values) * x.S - x.sum(values) * y.S,), (x.S, y.S))


def quotient_jvp_y(b: Batch, i: int) -> Quotient:
    return b.once("quotient", lambda: _quotient(Pair(b), b.tangent("y")))


# ---------------------------------------------------------------- hvp x.x


def define_hvp_xx(mp: Any, row: Mapping[str, Any]) -> list[Any]:
    s, v, g = softmax(mp, row), base.mpf_row(mp, row["v_x"]), cotangent(mp, row)
    c, w = spread(mp, s, delta_of(mp, row)), spread(mp, s, v)
    mean = mp.fsum(p * q * u for p, q, u in zip(s, c, v, strict=True))
    return [g * p * (u * (1 + q) - mean) for p, q, u in zip(s, c, w, strict=True)]


def formula_hvp_xx(a: Any, b: Batch) -> Any:
    row = PairRow(a, Pair(b))
    w = deviation.deviation(row.x, b.tangent())
    return a.exact(b.g) * curvature.formula(row.x, row.c, w)


def textbook_hvp_xx(a: BoundArithmetic, b: Batch) -> Bound:
    row, delta = textbook_delta(a, Pair(b))
    return expectation.textbook_second(row, delta, b.tangent(), a.exact(b.g))


def settle_hvp_xx(b: Batch) -> Settled:
    pair, zero = Pair(b), b.g[:, 0] == 0
    out = curvature.settle(pair.x, pair.delta, b.tangent(), 1, lambda r: cotangent_of(b, r), zero)
    tipped = pair.bad.any(axis=1) & (pair.x.count > 1) & pair.x.regular & ~zero
    out.codes[tipped[:, None] & pair.kept] = UNDEFINED
    out.codes[pair.open_x] = UNDEFINED
    out.codes[pair.nan] = NAN
    return out


def quotient_hvp_xx(b: Batch, i: int) -> Quotient:
    pair = Pair.of_row(b)
    return curvature.quotient(pair.x, i, pair.delta, b.tangent(), 1, cotangent_of(b, 0))


# ---------------------------------------------------------------- the blocks with y


def _block(sign: int, of: str, tangent: str) -> Map:
    """sign g s (v - <s, v>), s the softmax of ``of``."""

    def logits(b: Batch) -> Batch:
        pair = Pair(b)
        return pair.x if of == "x" else pair.y

    def define(mp: Any, row: Mapping[str, Any]) -> list[Any]:
        s = softmax(mp, {"x": row[of]})
        w = spread(mp, s, base.mpf_row(mp, row[f"v_{tangent}"]))
        return [sign * cotangent(mp, row) * p * q for p, q in zip(s, w, strict=True)]

    def formula(a: Any, b: Batch) -> Any:
        row = Logits(a, logits(b))
        return a.exact(sign * b.g) * row.s * deviation.deviation(row, b.tangent(tangent))

    def textbook(a: BoundArithmetic, b: Batch) -> Bound:
        """Through log_softmax(y), whose gradient is s(y) sum(s(x)) - s(x)."""
        pair, v, g = Pair(b), b.tangent(tangent), a.exact(b.g)
        s, other = Textbook(a, pair.x), Textbook(a, pair.y)
        if of == "y":
            total = a.sum(s.s)
            outside = g * deviation.textbook_scaled(a, pair.y, v, total)
            return a.worse(outside, deviation.textbook_scaled(a, pair.y, v, g * total))
        if tangent == "x":
            ds = deviation.textbook_scaled(a, pair.x, v)
            return a.multiplied_out(g, other.s * a.sum(ds), ds)
        u = deviation.textbook_deviation(other, v)
        outside = g * deviation.textbook_product(s, s.s, u)
        return -a.worse(outside, deviation.textbook_product(s, g * s.s, u))

    def settle(b: Batch) -> Settled:
        pair, v = Pair(b), b.tangent(tangent)
        out = deviation.settle_scaled(
            logits(b), v, lambda r: sign * cotangent_of(b, r), np.asarray(b.g[:, 0] == 0)
        )
        out.codes[pair.open_x if of == "x" else pair.open_y] = UNDEFINED
        out.codes[pair.nan & ~logits(b).has_nan] = UNDEFINED
        return out

    def quotient(b: Batch, i: int) -> Quotient:
        row = b.once("logits", lambda: logits(b))
        factor, v = sign * cotangent_of(b, 0), b.tangent(tangent)
        return deviation.quotient_of_scaled(row, i, v, factor)

    return Map(define, formula, textbook, settle, quotient)


MAPS = {
    ("jvp", "x"): Map(define_jvp_x, formula_jvp_x, textbook_jvp_x, settle_jvp_x, quotient_jvp_x),
    ("jvp", "y"): Map(define_jvp_y, formula_jvp_y, textbook_jvp_y, settle_jvp_y, quotient_jvp_y),
    ("hvp", "x.x"): Map(
        define_hvp_xx, formula_hvp_xx, textbook_hvp_xx, settle_hvp_xx, quotient_hvp_xx
    ),
    ("hvp", "x.y"): _block(-1, "x", "y"),
    ("hvp", "y.x"): _block(-1, "x", "x"),
    ("hvp", "y.y"): _block(1, "y", "y"),
}
