"""Two rows of logits x and y, and c = delta - <s(x), delta> of delta = x - y.

K are the entries that x gives a probability (at a +inf logit, to it alone); y matters there only.
With rho = (sum of e^y outside K) / (sum inside K),

    s(y)_i / s(x)_i = e^(-c_i) / ((1 + A) (1 + rho)),    A = <s(x), e^-c - 1 + c>

because <s(x), c> = 0. That is free of cancellation where x and y nearly agree: below a divergence
of 1. Elsewhere s(y) is taken directly.

Logits so large that x - y would overflow are divided by `unit`, a power of two.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np

from conformance.implementations.numpy.arrays import Array, times, total
from conformance.implementations.numpy.rows import Rows, anchor_index, rows_of, taken

__all__ = ["Pair", "phi"]


def phi(u: Array) -> Array:
    """e^u - 1 - u for u <= 1, by its series where that cancels."""
    series = np.ones_like(u)
    for k in range(20, 2, -1):
        series = 1 + u / k * series
    near = u * u / 2 * series
    return np.where(np.abs(u) <= 1, near, np.expm1(u) - u)


def _any(mask: Array) -> Array:
    return np.asarray(np.any(mask, axis=-1, keepdims=True))


def _support(rows: Rows) -> Array:
    """Entries that have a probability, even if it underflows."""
    return np.where(np.isinf(rows.m), rows.x == rows.m, np.isfinite(rows.x))


class Pair:
    """The classes are last, and kept as 1 where reduced."""

    def __init__(self, x: Array, y: Array) -> None:
        self.x, self.y = rows_of(x), rows_of(y)
        self.zero, self.one = x.dtype.type(0), x.dtype.type(1)
        self.nan = np.isnan(self.x.m) | np.isnan(self.y.m)
        self.kept = _support(self.x)
        self.bad = self.kept & ~np.isfinite(y)
        # What the formulas may see of y: something finite where s(x) is 0 or y is infinite.
        top = total(np.where(self.x.top & np.isfinite(y), y, self.zero))
        usable = np.where(self.kept & ~self.bad, y, top)
        finite_m = np.where(np.isfinite(self.x.m), self.x.m, self.zero)
        logits = np.where(self.kept & np.isfinite(x), x, finite_m)
        sizes = [np.max(np.abs(a), axis=-1, keepdims=True, initial=0) for a in (logits, usable)]
        huge = np.maximum(*sizes) > np.finfo(x.dtype).max / 16
        self.unit = np.where(huge, x.dtype.type(16), self.one)
        self.logits, self.usable, self.top = (a / self.unit for a in (logits, usable, top))

    @cached_property
    def anchor(self) -> tuple[Array, Array]:
        """x and y of the class whose delta is taken off all, in units."""
        index = anchor_index(self.x, self.logits - self.usable)
        return taken(self.logits, index), taken(self.usable, index)

    @cached_property
    def delta(self) -> Array:
        """x - y less that of the anchor, in units: from x - y, or from x and y by themselves where
        they are far apart; 0 outside K."""
        x, y, (rx, ry) = self.logits, self.usable, self.anchor
        direct = np.abs(x - y) + np.abs(rx - ry) <= np.abs(x - rx) + np.abs(y - ry)
        delta = np.where(direct, (x - y) - (rx - ry), (x - rx) - (y - ry))
        return np.asarray(np.where(self.kept, delta, self.zero))

    @cached_property
    def c(self) -> Array:
        """delta - <s(x), delta>, in units, 0 outside K."""
        return np.where(self.kept, self.delta - total(self.x.s * self.delta), self.zero)

    @cached_property
    def gaps(self) -> Array:
        """<s(x), (x - max x) - (y - y at the start)> in units, the start as `start` has it."""
        d = np.where(self.kept, self.logits, self.zero)
        highest = np.max(np.where(self.kept, self.logits, -np.inf), axis=-1, keepdims=True)
        gap = (d - highest) - (self.usable - self.start)
        return total(np.where(self.kept, self.x.s * gap, self.zero))

    @cached_property
    def start(self) -> Array:
        """y of a dominant class of x, max y where there is none, in units."""
        return np.asarray(np.where(self.x.dominated, self.top, self.y.m / self.unit))

    @cached_property
    def far_value(self) -> Array:
        """[lse(y) - <s, y>] - [lse(x) - <s, x>]."""
        logs = (np.log1p(self.y.t) - np.log1p(self.x.t)) / self.unit
        sum_of_terms = (self.y.m / self.unit - self.start) + (logs + self.gaps)
        return np.asarray(self.unit * sum_of_terms)

    @cached_property
    def near(self) -> Array:
        """Rows with a divergence below 1."""
        finite = ~self.undefined & np.isfinite(self.y.m) & ~_any(self.lost)
        return np.asarray(finite & (self.far_value < 1))

    @cached_property
    def gentle(self) -> Array:
        """Entries of near rows where e^-c does not grow beyond what phi can hold."""
        return np.asarray(self.near & (self.x.s > 0) & (self.unit * self.c >= -1))

    @cached_property
    def A(self) -> Array:
        """Of near rows; far below c = 0, s_i e^-c_i is e^(d_i - c_i) / S, in which x cancels."""
        c, s = self.unit * self.c, self.x.s
        small = s * phi(np.where(self.gentle, -c, self.zero))
        rest = self.near & self.kept & (c < -1)
        rx, ry = self.anchor
        moved = (self.usable - ry) + (total(s * self.delta) - (self.x.m / self.unit - rx))
        power = np.exp(np.where(rest, self.unit * moved, self.zero)) / (1 + self.x.t)
        large = np.where(rest, power - times(s, 1 - c), self.zero)
        return total(np.where(self.gentle, small, large))

    @cached_property
    def rho(self) -> Array:
        """Of near rows."""
        e = np.exp(self.y.d)
        outside = total(np.where(self.kept, self.zero, e))
        within = total(np.where(self.kept, e, self.zero))
        return np.where(self.near, outside / np.where(self.near, within, self.one), self.zero)

    @cached_property
    def near_value(self) -> Array:
        """log1p(A) + log1p(rho), both >= 0."""
        return np.log1p(self.A) + np.log1p(self.rho)

    @cached_property
    def change(self) -> Array:
        """s(y) - s(x)."""
        grown = self.A + self.rho + self.A * self.rho
        close = self.gentle & (self.unit * self.c <= 1)
        power = np.expm1(np.where(close, -self.unit * self.c, self.zero))
        return np.where(close, self.x.s * (power - grown) / (1 + grown), self.y.s - self.x.s)

    # ------------------------------------------------------------ infinite logits

    @cached_property
    def lost(self) -> Array:
        """Entries of K at which l(y) is -inf."""
        beside = np.isposinf(self.y.m) & (self.y.x != self.y.m)
        return np.asarray(self.kept & (beside | (np.isneginf(self.y.x) & ~np.isneginf(self.y.m))))

    @cached_property
    def undefined(self) -> Array:
        """Rows of which one softmax has no limit."""
        return np.asarray(self.x.no_limit | self.y.no_limit)

    @cached_property
    def infinite(self) -> Array:
        """Rows with a divergence of +inf: something that has a probability is lost.

        With several +inf in x it is not known which of them has it, but for that one does.
        """
        certain = np.where(self.x.no_limit, ~_any(self.kept ^ self.lost), _any(self.lost))
        return np.asarray(certain & ~np.isneginf(self.x.m))
