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

All of them are quotients of sums of exponentials whose coefficients are exact, and so is the share
w - s_i v that the gradients of log_softmax and cross-entropy are: ``quotient_of_...``.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..arithmetic.base import F64, Mask
from ..arithmetic.bounds import Bound, BoundArithmetic
from . import base
from .base import UNDEFINED, ZERO, Batch, Logits, Settled, Textbook
from .exponential import (
    ExpSum,
    Powers,
    Quotient,
    approximately_zero,
    common_mean,
    exact,
    zero_products,
)
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


def may_share_mean(b: Batch, v: F64) -> Mask:
    """Rows in which groups of equal logits may have one common mean of v, (B,).

    If they have, it is the mean of v under all weights that are equal for equal logits: under s,
    and under 1. Rows in which these two differ, beyond what float64 does, need not be looked at.
    """
    size = np.where(b.kept, np.abs(v), 0.0).max(axis=1, initial=0.0, keepdims=True)
    with np.errstate(all="ignore"):
        u = np.where(b.kept, v / np.where(size > 0, size, 1.0), 0.0)
        by_s = (shifted(b)[0] * u).sum(axis=1)
        gap = by_s - u.sum(axis=1) / np.maximum(b.count, 1)
    return approximately_zero(gap, np.ones(()))


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


def textbook_product(row: Textbook, p: Bound, c: Bound) -> Bound:
    """p (c - sum(s c)), or p c - p sum(s c) as the transpose of a derivative computes it.

    Either of the two products may underflow where their difference does not.
    """
    return row.a.multiplied_out(p, c, row.a.sum(row.s * c))


def textbook_scaled(a: BoundArithmetic, b: Batch, v: F64, factor: Bound | None = None) -> Bound:
    """f s (v - sum(s v)), the vjp and jvp of softmax; f meets s first, or v, or comes last."""
    row, v_ = Textbook(a, b), a.exact(v)
    if factor is None:
        return textbook_product(row, row.s, v_)
    first, last = textbook_product(row, factor * row.s, v_), textbook_product(row, row.s, v_)
    inside = textbook_product(row, row.s, factor * v_)
    return a.underflowing_as(a.worse(first, factor * last), inside)


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
    for r in map(int, np.flatnonzero(b.regular & may_share_mean(b, v))):
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
    candidates = b.equal | may_share_mean(b, v)
    if zero is not None:
        candidates |= zero
    for r in map(int, np.flatnonzero(b.regular & candidates)):
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


# ---------------------------------------------------------------- exactly, for one row


def first_row(b: Batch) -> Powers:
    return b.once("powers", lambda: Powers(b.x[0], b.kept[0]))


def _weighted(b: Batch, v: F64) -> ExpSum:
    """V = sum_j e_j v_j; a map has one v."""
    return b.once("V", lambda: first_row(b).sum(exact(v[0])))


def quotient_of_share(b: Batch, i: int, w: Fraction, v: Fraction) -> Quotient:
    """w - s_i v."""
    row = first_row(b)
    return Quotient((row.S.times(w) - row.e(i).times(v),), (row.S,))


def quotient_of_mean(b: Batch, v: F64, slope: Fraction, constant: Fraction) -> Quotient:
    """constant + slope <s, v>."""
    S = first_row(b).S
    return Quotient((_weighted(b, v).times(slope) + S.times(constant),), (S,))


def quotient_of_deviation(b: Batch, i: int, v: F64, factor: Fraction = Fraction(1)) -> Quotient:
    """f (v_i - <s, v>)."""
    return quotient_of_mean(b, v, -factor, factor * Fraction(float(v[0, i])))


def quotient_of_scaled(b: Batch, i: int, v: F64, factor: Fraction = Fraction(1)) -> Quotient:
    """f s_i (v_i - <s, v>)."""
    row = first_row(b)
    linear = quotient_of_deviation(b, i, v, factor)
    return Quotient((row.e(i), *linear.numerator), (row.S, *linear.denominator))
