"""Rows of logits: what softmax, its relatives and their derivatives are made of.

t = S - 1 is summed without the (first) maximum and never formed by the subtraction, and
q = t / S = 1 - s at the maximum: where one class dominates, log1p(t) and q keep every digit that
log(S) and 1 - s lose. v - <s, v> is taken of v - r, r the v of a class: see `deviation`.

Infinite logits follow the limits of docs/contract.md: at a single +inf d is 0, and -inf elsewhere.
What has no limit (two or more +inf, nothing but -inf, an infinite logit alone) is NaN.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from conformance.implementations.numpy.arrays import Array, product, total

__all__ = ["Rows", "anchor", "anchor_index", "centred_logits", "deviation", "half_log_softmax",
           "mean", "residual", "rows_of", "scaled", "taken", "too_wide"]  # fmt: skip


@dataclass(frozen=True)
class Rows:
    """The classes are last, and kept as 1 where reduced."""

    x: Array
    m: Array
    d: Array
    t: Array
    s: Array
    q: Array
    top: Array
    """True at the first maximum."""
    no_limit: Array
    """Rows whose value at the infinities is undefined."""

    @property
    def ell(self) -> Array:
        """log S = log1p(t)."""
        return np.log1p(self.t)

    @property
    def dominated(self) -> Array:
        """Rows in which the first maximum holds half of the probability or more."""
        return np.asarray(self.q <= 0.5)


def rows_of(x: Array, taking_part: Array | int | None = None) -> Rows:
    """The rows of x; how many classes take part, where a mask dropped some to -inf."""
    n = x.shape[-1]
    classes = n if taking_part is None else taking_part
    zero, nan = x.dtype.type(0), x.dtype.type(np.nan)
    m = np.max(x, axis=-1, keepdims=True, initial=-np.inf)
    highest = x == m
    no_limit = np.isinf(m) & ((np.sum(highest, axis=-1, keepdims=True) > 1) | (classes == 1))
    # A finite difference beyond the format is -inf, and its exponential 0, as it should be. In a
    # row with a NaN m is NaN and no entry equals it, so all of d is NaN.
    d = np.where(highest, np.where(no_limit, nan, zero), x - m)
    top = np.zeros(x.shape, np.bool_)
    if n:
        np.put_along_axis(top, np.argmax(x, axis=-1, keepdims=True), True, axis=-1)
    e = np.exp(d)
    # Rows without a limit: the entries beside the infinities have one, so t must not be NaN.
    t = np.sum(np.where(top | no_limit, zero, e), axis=-1, keepdims=True)
    big_s = 1 + t
    # A NaN logit alone is its own maximum, and t is an empty sum that knows nothing of it.
    q = np.where(no_limit | np.isnan(m), nan, t / big_s)
    return Rows(x, m, d, t, e / big_s, q, top, no_limit)


def _total_of_others(values: Array, rows: Rows) -> Array:
    """The sum without the entry at the maximum."""
    return total(np.where(rows.top, values.dtype.type(0), values))


def half_log_softmax(rows: Rows) -> Array:
    """l / 2, finite wherever x is: for rows whose span is beyond the format."""
    return (rows.x / 2 - rows.m / 2) - rows.ell / 2


def too_wide(rows: Rows) -> Array:
    """Rows of finite maximum in which a finite difference is beyond the format."""
    lost = np.isneginf(rows.d) & np.isfinite(rows.x)
    wide: Array = np.any(lost, axis=-1, keepdims=True) & np.isfinite(rows.m)
    return wide


def residual(rows: Rows, values: Array) -> Array:
    """w - s sum(w); at a dominant maximum q sum(w) - sum of the other w, which is the same
    without cancellation."""
    whole = total(values)
    at_top = rows.q * whole - _total_of_others(values, rows)
    return np.where(rows.top & rows.dominated, at_top, values - rows.s * whole)


# --- v - <s, v> -----------------------------------------------------------------------------


def anchor(rows: Rows, v: Array) -> Array:
    """The v of one class, to be subtracted from all before the mean is taken off.

    That of a class with half of the probability, if there is one: its own v - <s, v> is then a sum
    over the others, as small as they are. Otherwise the v that is nearest to the mean.
    """
    return taken(v, anchor_index(rows, v))


def anchor_index(rows: Rows, v: Array) -> Array:
    """Which class that is."""
    if not v.shape[-1]:
        return np.zeros((*v.shape[:-1], 0), np.intp)
    top = np.argmax(rows.top, axis=-1, keepdims=True)
    middle = taken(v, top) + total(rows.s * (v - taken(v, top)))
    # A class of probability 0 would bring its own size into the others, whatever its v.
    distance = np.where((rows.s > 0) & np.isfinite(middle), np.abs(v - middle), np.inf)
    nearest = np.argmin(distance, axis=-1, keepdims=True)
    return np.asarray(np.where(rows.dominated | ~np.isfinite(middle), top, nearest))


def taken(values: Array, index: Array) -> Array:
    """The values of a class, (..., 1); 0 where there are no classes."""
    if not index.shape[-1]:
        return np.zeros((*values.shape[:-1], 1), values.dtype)
    return np.take_along_axis(values, index, axis=-1)


def deviation(rows: Rows, v: Array) -> Array:
    """v - <s, v> = c - <s, c> with c = v - r; what c loses by its rounding is given back."""
    r = anchor(rows, v)
    c = v - r
    taken_off = c - v  # Knuth's TwoSum: v - r is c + lost, exactly
    lost = (v - (c - taken_off)) - (r + taken_off)
    return np.asarray(c - (total(rows.s * c) - lost))


def mean(rows: Rows, v: Array) -> Array:
    """<s, v> = r + <s, v - r>."""
    r = anchor(rows, v)
    return r + total(rows.s * (v - r))


def centred_logits(rows: Rows) -> Array:
    """x - <s, x>; 0 where s is 0, whatever x is there."""
    zero = rows.x.dtype.type(0)
    part = (rows.s > 0) & np.isfinite(rows.x)
    x = np.where(part, rows.x, np.where(np.isfinite(rows.m), rows.m, zero))
    c = np.where(part, x - anchor(rows, x), zero)
    return np.where(part, c - total(rows.s * c), zero)


def scaled(rows: Rows, values: Array, *factors: Array) -> Array:
    """s values (times factors); 0 at s = 0 beside several +inf, although a mean in values is
    undefined."""
    silent = rows.no_limit & (rows.s == 0)
    return product(rows.s, np.where(silent, rows.s, values), *factors)
