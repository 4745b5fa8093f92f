"""Two rows of logits x and y, and delta = x - y: what the Kullback-Leibler divergence is made of.

With one +inf at k a softmax is one-hot at k, whatever else the row holds, and so are its limits
here: such a row is replaced by 0 at k and -inf elsewhere. With several it is 0 at every other entry
and open at these; such a row is replaced likewise, and its open entries are told by ``open_x`` and
``open_y``. K are the entries with s(x) > 0, the finite ones of the (replaced) x.

With c = delta - <s(x), delta> over K, and rho = (sum of e^y outside K) / (sum inside K):

    s(y)_i / s(x)_i = e^(-c_i) / ((1 + A) (1 + rho)),    A = <s(x), e^-c - 1 + c>

because <s(x), c> = 0. That is free of cancellation where x and y nearly agree. Where they do not
(a divergence of 1 or more, by float64), s(y) and l(y) are taken directly.
"""

from __future__ import annotations

from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np

from ..arithmetic.base import F64, Mask
from .base import UNDEFINED, Batch, Logits
from .curvature import Vectors
from .deviation import anchor_index, picked, shifted
from .exponential import Powers, exact, step_of
from .limits import settle_limits


def at_infinity(b: Batch) -> F64:
    """x, in rows of two or more with +inf: 0 there and -inf elsewhere."""
    rows = (b.infinities > 0) & ~b.has_nan & (b.n > 1)
    return np.where(rows[:, None], np.where(b.x == np.inf, 0.0, -np.inf), b.x)


class Pair:
    """The rows of a batch as two, with what is known of them without an arithmetic."""

    def __init__(self, b: Batch) -> None:
        self.batch = b
        plain = Batch({"x": np.asarray(b.inputs["y"], np.float64)})
        self.nan: Mask = b.has_nan | plain.has_nan
        self.x = Batch({"x": at_infinity(b)})
        self.y = Batch({"x": at_infinity(plain)})
        self.raw_y: F64 = plain.x
        self.open_x, self.open_y = (settle_limits(row).codes == UNDEFINED for row in (b, plain))
        self._powers: dict[int, tuple[Powers, Powers]] = {}

    @classmethod
    def of_row(cls, b: Batch) -> Pair:
        """The pair of a batch of one row, kept for all its elements."""
        return b.once("pair", lambda: cls(b))

    @cached_property
    def kept(self) -> Mask:
        """K."""
        return self.x.kept

    @cached_property
    def bad(self) -> Mask:
        """Entries of K where delta is infinite."""
        return np.asarray(self.kept & ~np.isfinite(self.raw_y))

    @cached_property
    def usable_y(self) -> F64:
        """y with something finite where s(x) is 0 or delta infinite, (B, n)."""
        return np.where(self.kept & np.isfinite(self.raw_y), self.raw_y, self.top_y)

    @cached_property
    def top_y(self) -> F64:
        """y at the first maximum of x, (B, 1)."""
        inside = self.x.top & np.isfinite(self.raw_y)
        return np.asarray(np.where(inside, self.raw_y, 0.0).sum(axis=1, keepdims=True))

    @cached_property
    def delta(self) -> Vectors:
        """x - y on K: halved where it is approximate, lest it overflows."""
        x, y = self.x.finite_x, self.usable_y
        with np.errstate(under="ignore"):
            halves = x / 2 - y / 2
        return Vectors(halves, lambda r: exact(x[r]) - exact(y[r]), scale=2.0)

    @cached_property
    def open_(self) -> Mask:
        """Entries where one of the two softmaxes is undefined."""
        return np.asarray(self.open_x | self.open_y)

    @cached_property
    def both(self) -> Mask:
        """Rows in which both softmaxes have something that is defined."""
        return np.asarray(self.x.regular & self.y.regular & ~self.nan)

    @cached_property
    def alike(self) -> Mask:
        """Rows for which float64 does not exclude that s(x) = s(y), (B,)."""
        with np.errstate(under="ignore"):
            approximate = self.delta.approximate / 2
        top = np.where(self.x.top, approximate, 0.0).sum(axis=1, keepdims=True)
        inside = np.where(self.kept, approximate, top)
        size = np.abs(inside).max(axis=1, initial=0.0)
        with np.errstate(under="ignore"):
            near = np.ptp(inside, axis=1) <= 1e-9 * size if inside.shape[1] else size == 0
        return np.asarray(near & (self.kept == self.y.kept).all(axis=1))

    def same(self, r: int) -> bool:
        """Is s(x) = s(y) in a row?"""
        kept = np.flatnonzero(self.kept[r])
        return bool(self.alike[r]) and (len(kept) < 2 or self.delta.constant(r, kept))

    def equal_entries(self, r: int) -> list[int]:
        """Where s(x)_i = s(y)_i > 0, for rows with two or more distinct logits.

        S(x) / e^(x_i) = S(y) / e^(y_i) if and only if both are the same sum of exponentials; then
        the maxima are equally far from x_i and y_i, and so is everything else in some order.
        """
        with np.errstate(over="ignore", under="ignore"):
            d = [np.sort(b.x[r][b.kept[r]] - b.m[r]) for b in (self.x, self.y)]
            near = len(d[0]) == len(d[1]) and np.allclose(d[0], d[1], 1e-9, 0.0)
        if not near:
            return []
        rows = [exact(b.x[r][b.kept[r]]) - Fraction(float(b.m[r, 0])) for b in (self.x, self.y)]
        if sorted(rows[0]) != sorted(rows[1]):
            return []
        where = [np.flatnonzero(b.kept[r]).tolist() for b in (self.x, self.y)]
        below = [dict(zip(w, row, strict=True)) for w, row in zip(where, rows, strict=True)]
        return [i for i, v in below[0].items() if below[1].get(i) == v]

    def powers(self, r: int = 0) -> tuple[Powers, Powers]:
        """Exact exponentials of both rows, with one step."""
        if r not in self._powers:
            rows = [(b.x[r], b.kept[r]) for b in (self.x, self.y)]
            step = step_of(*(exact(x[kept]) for x, kept in rows))
            first, second = (Powers(x, kept, step) for x, kept in rows)
            self._powers[r] = first, second
        return self._powers[r]

    # ------------------------------------------------------------ in float64, for choices

    @cached_property
    def dominated(self) -> Mask:
        """Rows where the first maximum of x has half of the probability, (B, 1)."""
        return np.asarray(shifted(self.x)[1] >= 0.5)

    @cached_property
    def near(self) -> Mask:
        """Rows with a divergence below 1, as far as float64 can tell, (B, 1).

        It is infinite where s(y) is 0 within K, also if that is so by a +inf outside K.
        """
        with np.errstate(all="ignore"):
            s, largest = shifted(self.x)
            _, other = shifted(self.y)
            d = np.where(self.kept, self.x.finite_x - self.x.m, 0.0)
            f = np.where(self.kept, self.usable_y - self.y.m, 0.0)
            gap = np.where(s > 0, s * (d - f), 0.0).sum(axis=1, keepdims=True)
            value = gap + np.log(largest) - np.log(other)
        far = (self.bad | (self.kept & ~self.y.kept)).any(axis=1, keepdims=True)
        return np.asarray((value < 1) & ~far)

    @cached_property
    def direct(self) -> Mask:
        """Rows whose x - y is no larger than the logits are spread, (B, 1)."""
        x, y = self.x.finite_x, self.usable_y
        rx, ry = self.reference
        with np.errstate(all="ignore"):
            gaps = np.abs(x - y), np.abs(x - rx) + np.abs(y - ry)
            near, far = (np.where(self.kept, gap, 0.0).max(axis=1, initial=0.0) for gap in gaps)
        return np.asarray(near <= far)[:, None]

    @cached_property
    def reference(self) -> tuple[F64, F64]:
        """x and y of the class whose delta is subtracted from all, (B, 1) each."""
        x, y = self.x.finite_x, self.usable_y
        index = anchor_index(self.x, self.delta.approximate)
        return picked(x, index), picked(y, index)


class PairRow:
    """Both rows in an arithmetic."""

    def __init__(self, arithmetic: Any, pair: Pair) -> None:
        self.a, self.pair = arithmetic, pair
        self.x, self.y = Logits(arithmetic, pair.x), Logits(arithmetic, pair.y)
        self.one = self.x.one

    @cached_property
    def c(self) -> Any:
        """delta - <s(x), delta>, 0 outside K.

        The delta of a class is subtracted from all: from x - y, or from x and y by themselves where
        they are far apart.
        """
        a, pair = self.a, self.pair
        x, y, (rx, ry) = pair.x.finite_x, pair.usable_y, pair.reference
        delta = a.difference(x, y) - a.difference(rx, ry)
        if not pair.direct.all():
            apart = a.difference(x, rx) - a.difference(y, ry)
            delta = a.where(pair.direct, delta, apart)
        delta = a.where(pair.kept, delta, self.x.zero)
        return a.where(pair.kept, delta - a.sum(self.x.s * delta), self.x.zero)

    @cached_property
    def _approximately(self) -> F64:
        """c in float64, for choices; NaN where it overflows."""
        pair = self.pair
        with np.errstate(all="ignore"):
            rx, ry = pair.reference
            c = (pair.x.finite_x - rx) - (pair.usable_y - ry)
            s, _ = shifted(pair.x)
            return np.asarray(c - np.where(s > 0, s * c, 0.0).sum(axis=1, keepdims=True))

    @cached_property
    def _gentle(self) -> Mask:
        """Entries of near rows where e^-c does not grow beyond what phi can hold."""
        return np.asarray(self.pair.near & self.pair.kept & (self._approximately >= -1))

    @cached_property
    def _close(self) -> Mask:
        """Entries where s(y)_i / s(x)_i - 1 is taken as a whole."""
        return np.asarray(self._gentle & (self._approximately <= 1))

    @cached_property
    def A(self) -> Any:
        """<s(x), e^-c - 1 + c> of near rows, 0 in the others.

        Where c is far below 0, s(x)_i e^-c_i = e^(d_i - c_i) / S does not overflow.
        """
        a, c, gentle = self.a, self.c, self._gentle
        rest = self.pair.near & self.pair.kept & ~gentle
        zero, s = self.x.zero, self.x.s
        small = s * a.phi(a.where(gentle, -c, zero))
        if not rest.any():
            return a.sum(small)
        power = a.exp(a.where(rest, self.x.d - c, zero)) / self.x.S
        large = power - s * (self.one - c)
        return a.sum(a.where(gentle, small, a.where(rest, large, zero)))

    @cached_property
    def rho(self) -> Any:
        """The part of s(y) outside K, relative to that inside, of near rows."""
        a, pair, zero = self.a, self.pair, self.x.zero
        if (pair.kept | ~pair.y.kept).all():
            return zero
        outside = a.sum(a.where(pair.kept, zero, self.y.e))
        inside = a.sum(a.where(pair.kept, self.y.e, zero))
        return a.where(pair.near, outside / a.where(pair.near, inside, self.one), zero)

    @cached_property
    def change(self) -> Any:
        """s(y) - s(x)."""
        a = self.a
        if not self._close.any():
            return self.y.s - self.x.s
        grown = self.A + self.rho + self.A * self.rho
        power = a.expm1(a.where(self._close, -self.c, self.x.zero))
        close = self.x.s * (power - grown) / (self.one + grown)
        return a.where(self._close, close, self.y.s - self.x.s)
