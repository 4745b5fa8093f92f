"""v_i - <s, v>, its mean <s, v>, and f s_i (v_i - <s, v>): most first and second derivatives.

Cancellation-free: for any number r, v_i - <s, v> = (v_i - r) - sum_j s_j (v_j - r). With r the
tangent of a class that has half of the probability or more, the first maximum, the result there is
a sum over the others, as small as they are; otherwise r is the tangent that is nearest to the mean,
and both terms are as large as what sum_j s_j |v_i - v_j| says. Being one of the tangents, r leaves
exactly 0 where all classes but some that are e^-1e30 have the same. What still cancels cancels in
the mathematics, and the oracle raises its precision for it.

Exact: v_i - <s, v> is rational if and only if the groups of equal logits have one common mean
tangent, which is <s, v> then (:func:`reference.ops.exponential.common_mean`), and transcendental
otherwise. With two or more distinct logits f s_i (v_i - <s, v>) is 0 where v_i is that mean, and
transcendental everywhere else: e_i (v_i S - V) has not the exponents that q S^2 has.

Near a boundary: S (r - b) and S^2 (r - b) are sums of exponentials whose coefficients are exact.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..arithmetic.base import F64, Mask
from ..arithmetic.bounds import Bound, BoundArithmetic
from ..arithmetic.multiprecision import Ball, Multiprecision
from . import base
from .base import UNDEFINED, ZERO, Batch, Logits, Settled, Textbook
from .exponential import ExpSum, Powers, common_mean, exact, side, zero_products
from .limits import one_infinity, settle_limits, settle_unless_regular

# ---------------------------------------------------------------- definition


def spread(mp: Any, s: Any, values: Any) -> list[Any]:
    """v - <s, v> of mpmath numbers."""
    mean = mp.fsum(p * q for p, q in zip(s, values, strict=True))
    return [q - mean for q in values]


# ---------------------------------------------------------------- formulas


def shifted(b: Batch) -> tuple[F64, F64]:
    """(s, s of the first maximum) in float64, for choices that need not be exact."""
    with np.errstate(all="ignore"):
        e = np.where(b.kept, np.exp(b.finite_x - b.m), 0.0)
        total = e.sum(axis=1, keepdims=True)
        total = np.where(total > 0, total, 1.0)
        return e / total, 1 / total


def anchor(b: Batch, v: F64) -> F64:
    """r of each row, (B, 1)."""
    return picked(v, anchor_index(b, v))


def anchor_index(b: Batch, v: F64) -> NDArray[np.intp]:
    """The class whose v is r, (B, 1): the first maximum, or the one nearest to the mean."""
    if not b.n:
        return np.zeros((b.rows, 0), np.intp)
    top = np.argmax(b.top, axis=1)[:, None]
    s, largest = shifted(b)
    start = picked(v, top)
    with np.errstate(all="ignore"):
        mean = start + (s * (v - start)).sum(axis=1, keepdims=True)
        distance = np.where(b.kept & np.isfinite(mean), np.abs(v - mean), np.inf)
    nearest = np.argmin(distance, axis=1)[:, None]
    return np.asarray(np.where((largest >= 0.5) | ~np.isfinite(mean), top, nearest))


def picked(values: F64, index: NDArray[np.intp]) -> F64:
    """values[r, index[r]], (B, 1); 0 where there are no classes."""
    if not index.shape[1]:
        return np.zeros((len(values), 1))
    return np.asarray(np.take_along_axis(values, index, axis=1))


def centred(row: Logits, c: Any) -> Any:
    """c - <s, c> of numbers that have been shifted by r."""
    return c - row.a.sum(row.s * c)


def deviation(row: Logits, v: F64) -> Any:
    """v_i - <s, v>."""
    return centred(row, row.a.difference(v, anchor(row.batch, v)))


def mean(row: Logits, v: F64) -> Any:
    """<s, v> = r + sum_j s_j (v_j - r)."""
    r = anchor(row.batch, v)
    return row.a.exact(r) + row.a.sum(row.s * row.a.difference(v, r))


def textbook_deviation(row: Textbook, v: F64) -> Bound:
    """v - sum(s v)."""
    v_ = row.a.exact(v)
    return v_ - row.a.sum(row.s * v_)


def textbook_scaled(a: BoundArithmetic, b: Batch, v: F64) -> Bound:
    """s (v - sum(s v)), the vjp and jvp of softmax."""
    row = Textbook(a, b)
    return row.s * textbook_deviation(row, v)


# ---------------------------------------------------------------- settling


def settle_deviation(b: Batch, v: F64) -> Settled:
    """v_i - <s, v> at every entry, those at -inf included.

    With one +inf at k it is v_i - v_k. Other rows with infinities leave <s, v> open, unless they
    have something finite and no +inf.
    """
    out = settle_unless_regular(b, b.n)
    for r, middle in _means(b, v):
        for i in range(b.n):
            out.exact(r, i, Fraction(float(v[r, i])) - middle)
    return out


def settle_mean(b: Batch, v: F64) -> Settled:
    """<s, v>, one per row."""
    out = settle_unless_regular(b, 1)
    for r, middle in _means(b, v):
        out.exact(r, 0, middle)
    return out


def _means(b: Batch, v: F64) -> list[tuple[int, Fraction]]:
    """(row, <s, v>) where that is rational."""
    found = []
    for r in map(int, np.flatnonzero(b.regular)):
        kept = b.kept[r]
        middle = common_mean(b.x[r][kept], v[r][kept])
        if middle is not None:
            found.append((r, middle))
    return found + [(r, Fraction(float(v[r, k]))) for r, k in one_infinity(b)]


def settle_scaled(
    b: Batch,
    v: F64,
    factor: Callable[[int], Fraction] = lambda r: Fraction(1),
    zero: Mask | None = None,
) -> Settled:
    """f s_i (v_i - <s, v>) of rows with infinities (limits, as for softmax), equal rows and zeros.

    Parameters
    ----------
    factor : callable (row) -> Fraction
        f.
    zero : ndarray of bool (B,), optional
        Where f is exactly 0.
    """
    out = settle_limits(b)
    for r in map(int, np.flatnonzero(b.regular)):
        kept = np.flatnonzero(b.kept[r])
        if zero is not None and zero[r]:
            out.codes[r] = ZERO
        elif b.equal[r]:
            k = int(b.count[r])
            middle = base.fraction_total(v[r][kept]) / k
            scale = factor(r) / k
            base.settle_linear(out, r, kept, v[r], scale, -scale * middle)
        else:
            out.codes[r, kept[zero_products(b.x[r][kept], v[r][kept])]] = ZERO
    return out


def settle_constant_zero(b: Batch) -> Settled:
    """Exactly 0 whatever the logits are; left open for NaN and for a single infinite logit."""
    out = Settled(np.full(b.x.shape, ZERO, np.uint8))
    out.codes[b.has_nan] = UNDEFINED
    if b.n == 1:
        out.codes[np.isinf(b.x)] = UNDEFINED
    return out


# ---------------------------------------------------------------- next to a boundary


def fraction_of(boundary: Ball) -> Fraction:
    """The dyadic rational that an exact ball of shape (1, 1) is."""
    sign, man, exp, _ = boundary.mid[0, 0]
    return Fraction(int(-man if sign else man)) * Fraction(2) ** int(exp)


def first_row(b: Batch) -> Powers:
    return b.once("powers", lambda: Powers(b.x[0], b.kept[0]))


def _weighted(b: Batch, v: F64) -> ExpSum:
    """V = sum_j e_j v_j; a map has one v."""
    return b.once("V", lambda: first_row(b).sum(exact(v[0])))


def excess_of_linear(a: Multiprecision, b: Batch, i: int, w: Fraction, c: Fraction) -> Ball:
    """S (w - s_i c)."""
    powers = first_row(b)
    return (powers.S.times(w) - powers.e(i).times(c)).ball(a)


def excess_of_mean(
    a: Multiprecision, b: Batch, v: F64, slope: Fraction, constant: Fraction
) -> Ball:
    """S (constant + slope <s, v>), for one row."""

    def make() -> Ball:
        return (_weighted(b, v).times(slope) + first_row(b).S.times(constant)).ball(a)

    return b.once(("mean", a.bits, slope, constant), make)


def excess_of_deviation(
    a: Multiprecision, b: Batch, i: int, boundary: Ball, v: F64, factor: Fraction = Fraction(1)
) -> Ball:
    """S (f (v_i - <s, v>) - b)."""
    constant = factor * Fraction(float(v[0, i])) - fraction_of(boundary)
    return excess_of_mean(a, b, v, -factor, constant)


def excess_of_scaled(
    a: Multiprecision, b: Batch, i: int, boundary: Ball, v: F64, factor: Fraction = Fraction(1)
) -> Ball:
    """S^2 (f s_i (v_i - <s, v>) - b); at b = 0 the sign is that of f (v_i - <s, v>)."""
    powers, v_i = first_row(b), Fraction(float(v[0, i]))
    if fraction_of(boundary) == 0:
        return excess_of_mean(a, b, v, -factor, factor * v_i)
    linear = (powers.S.times(v_i) - _weighted(b, v)).times(factor)
    return side(a, powers.e(i) * linear, powers.S2, boundary)
