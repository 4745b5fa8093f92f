"""f s_i [(h + c_i) w_i - <s, c w>] with c = p - <s, p> and w = v - <s, v>: derivatives of vjps.

softmax has p = g and h = 0; the entropy p = x, the Kullback-Leibler divergence p = x - y, both with
h = 1. With P = sum e p, V = sum e v and R = sum e p v,

    S^2 [...] = S^2 p_i v_i - S (p_i V + v_i P) + 2 P V - S R + h (S^2 v_i - S V),

a sum of exponentials with rational coefficients. It is 0 if and only if they all vanish, collected
by the sum of exponents: with logits 0, 1, 2 the product e_0 e_2 meets e_1 e_1. Where one mean is
rational, P = <s, p> S or V = <s, v> S coefficient by coefficient, a factor S can be taken out, and
what is left is linear in e. A value other than 0 is transcendental with two or more distinct
logits: s_i [...] = q means e_i S^2 [...] = q S^3, but the exponents on the left span at most
2 (max x - min x) and those on the right 3 times that.

Open: whether the sum vanishes with more than 512 distinct logits (products above
``exponential_sums.PRODUCTS``) where neither mean is rational.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from operator import mul
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ..arithmetic.base import F64, Mask
from .base import ZERO, Batch, Settled
from .deviation import first_row, shifted
from .exponential import (
    PRIME,
    Exact,
    ExpSum,
    Powers,
    Quotient,
    approximately_zero,
    exact,
    residue,
    same,
    zero_products,
)
from .limits import settle_limits


@dataclass(frozen=True, eq=False)
class Vectors:
    """Rows of exact numbers that need not be float64: (B, n), approximately, and row by row.

    ``approximate`` times ``scale`` is within a few roundings of them.
    """

    approximate: F64
    row: Callable[[int], Exact]
    scale: float = 1.0

    def constant(self, r: int, kept: NDArray[np.intp]) -> bool:
        """Are all kept entries of a row the same?"""
        with np.errstate(under="ignore"):
            values = self.approximate[r][kept] / 2
            if np.ptp(values) > 1e-9 * np.abs(values).max():
                return False
        return len(set(self.row(r)[kept])) == 1


def of_floats(values: F64) -> Vectors:
    return Vectors(values, lambda r: exact(values[r]))


@dataclass(frozen=True, eq=False)
class Moments:
    """P, V and R of one row, and what is linear or quadratic in them."""

    powers: Powers
    p: Exact
    v: Exact

    @classmethod
    def of(cls, b: Batch, p: Vectors, v: F64, r: int = 0) -> Self:
        return cls(Powers(b.x[r], b.kept[r]), p.row(r), exact(v[r]))

    @cached_property
    def P(self) -> ExpSum:
        return self.powers.sum(self.p)

    @cached_property
    def V(self) -> ExpSum:
        return self.powers.sum(self.v)

    @cached_property
    def R(self) -> ExpSum:
        return self.powers.sum(self.p * self.v)

    @cached_property
    def mean_p(self) -> Fraction | None:
        """<s, p>, if that is rational."""
        return self.P.over(self.powers.S)

    @cached_property
    def mean_v(self) -> Fraction | None:
        return self.V.over(self.powers.S)

    @cached_property
    def residues(self) -> tuple[list[int], list[int], list[int], int, int, int, int]:
        """p_j, v_j, e_j, S, P, V and R modulo the prime."""
        e, p, v = (self.powers.residues(u) for u in (None, self.p, self.v))
        P, V = sum(map(mul, e, p)), sum(map(mul, e, v))
        return p, v, e, sum(e), P, V, sum(map(mul, map(mul, e, p), v))


class Bracket(Moments):
    """S^2 [...] of one row, element by element."""

    def at(self, i: int, h: int) -> ExpSum:
        """S^2 [...] at i."""
        p, v = self.p[i], self.v[i]
        SP, SV, common = self._products
        return self.powers.S2.times(p * v + h * v) - SV.times(p + h) - SP.times(v) + common

    @cached_property
    def _products(self) -> tuple[ExpSum, ExpSum, ExpSum]:
        """S P, S V and 2 P V - S R."""
        S = self.powers.S
        return S * self.P, S * self.V, (self.P * self.V).times(Fraction(2)) - S * self.R

    def zeros(self, candidates: list[int], h: int) -> list[int]:
        """Which of the candidates are 0, as far as products may be formed."""
        vanishing = self._vanishing_residues(h)
        candidates = [i for i in candidates if i in vanishing]
        known: dict[Any, bool] = {}
        for i in candidates:
            pair = self.p[i], self.v[i]
            if pair not in known:
                known[pair] = self._is_zero(i, h)
        return [i for i in candidates if known[self.p[i], self.v[i]]]

    def _is_zero(self, i: int, h: int) -> bool:
        """Is S^2 [...] or, with a factor S taken out, the rest of it 0? False where left open."""
        S, p, v = self.powers.S, self.p[i], self.v[i]
        if self.mean_v is not None:
            # S (p_i + h) (v_i - mean v) + P (2 mean v - v_i) - R
            mean, rest = self.mean_v, self.P
            constant, slope = (p + h) * (v - mean), 2 * mean - v
        elif self.mean_p is not None:
            # S v_i (p_i + h - mean p) + V (2 mean p - p_i - h) - R
            mean, rest = self.mean_p, self.V
            constant, slope = v * (p + h - mean), 2 * mean - p - h
        else:
            return self.powers.within(2) and self.at(i, h).is_zero
        unit = Fraction(mean.denominator)
        linear = S.times(unit * constant) + rest.times(unit * slope) - self.R.times(unit)
        return linear.is_zero

    def _vanishing_residues(self, h: int) -> set[int]:
        """Elements whose residue modulo a prime is 0: all that can be 0, and cheap to tell."""
        p, v, _, S, P, V, R = self.residues
        common = 2 * P * V - S * R - h * S * V
        values = (
            S * S * (b + h) * c - S * (b * V + c * P) + common for b, c in zip(p, v, strict=True)
        )
        return {i for i, u in zip(self.powers.exponents, values, strict=True) if u % PRIME == 0}


def settle(
    b: Batch,
    p: Vectors,
    v: F64,
    h: int = 0,
    factor: Callable[[int], Fraction] = lambda r: Fraction(1),
    zero: Mask | None = None,
) -> Settled:
    """Limits as for softmax, equal rows, and zeros; f is ``factor(row)``, 0 where ``zero``."""
    out = settle_limits(b)
    suspects = _suspects(b, p, v, h)
    candidates = b.equal | suspects.any(axis=1)
    if zero is not None:
        candidates |= zero
    for r in map(int, np.flatnonzero(b.regular & candidates)):
        kept = np.flatnonzero(b.kept[r])
        if zero is not None and zero[r]:
            out.codes[r] = ZERO
        elif b.equal[r]:
            _settle_equal(out, r, kept, p.row(r), exact(v[r]), h, factor(r))
        elif same(v[r][kept]):
            out.codes[r] = ZERO
        elif p.constant(r, kept):
            zeros = zero_products(b.x[r][kept], v[r][kept]) if h else slice(None)
            out.codes[r, kept[zeros]] = ZERO
        else:
            bracket = Bracket.of(b, p, v, r)
            out.codes[r, bracket.zeros(np.flatnonzero(suspects[r]).tolist(), h)] = ZERO
    return out


def _settle_equal(
    out: Settled, r: int, kept: NDArray[np.intp], p: Exact, v: Exact, h: int, factor: Fraction
) -> None:
    k = len(kept)
    c, w = (u[kept] - sum(u[kept], Fraction(0)) / k for u in (p, v))
    spread = sum(c * w, Fraction(0)) / k
    for i, c_i, w_i in zip(kept.tolist(), c, w, strict=True):
        out.exact(r, i, factor * ((h + c_i) * w_i - spread) / k)


def normalised(values: F64) -> tuple[F64, F64]:
    """Rows divided by their largest magnitudes, and these (B, 1), 1 where that is 0."""
    largest = np.abs(values).max(axis=1, initial=0.0, keepdims=True)
    largest = np.where(largest > 0, largest, 1.0)
    with np.errstate(under="ignore"):
        return values / largest, largest


def _suspects(b: Batch, vectors: Vectors, tangent: F64, h: int) -> Mask:
    """Kept elements that float64 does not tell from 0."""
    s, _ = shifted(b)
    with np.errstate(all="ignore"):
        p, largest = normalised(vectors.approximate)
        v, _ = normalised(tangent)
        one = 1 / largest / vectors.scale
        c, w = (u - (s * u).sum(axis=1, keepdims=True) for u in (p, v))
        value = (h * one + c) * w - (s * c * w).sum(axis=1, keepdims=True)
        size_p, size_v = (np.abs(u) + (s * np.abs(u)).sum(axis=1, keepdims=True) for u in (p, v))
        spread = (s * size_p * size_v).sum(axis=1, keepdims=True)
        size = (h * one + size_p) * size_v + spread
    return approximately_zero(value, size) & b.kept & b.regular[:, None]


def quotient(
    b: Batch, i: int, p: Vectors, v: F64, h: int = 0, factor: Fraction = Fraction(1)
) -> Quotient:
    """The result of one row, exactly."""
    bracket = b.once("bracket", lambda: Bracket(first_row(b), p.row(0), exact(v[0])))
    S = bracket.powers.S
    return Quotient((bracket.powers.e(i), bracket.at(i, h).times(factor)), (S, S, S))


class Covariance(Moments):
    """<s, p v> - <s, p> <s, v> = (S R - P V) / S^2 of one row."""

    @cached_property
    def numerator(self) -> ExpSum:
        return self.powers.S * self.R - self.P * self.V

    def rational(self) -> Fraction | None:
        """Its value, if that is rational and products may be formed.

        With a rational mean p it is <s, (p - mean p) v>, linear in e, and likewise for v. In
        general it is that of the largest logits: the leading coefficients of both sides say so.
        """
        for mean, other in ((self.mean_p, self.V), (self.mean_v, self.P)):
            if mean is not None:
                unit = Fraction(mean.denominator)
                linear = self.R.times(unit) - other.times(unit * mean)
                q = linear.over(self.powers.S)
                return None if q is None else q / unit
        top, k = self.powers.largest, len(self.powers.largest)
        p, v = self.p[top], self.v[top]
        q = (p * v).sum() / k - p.sum() / k * (v.sum() / k)
        *_, S, P, V, R = self.residues
        if (S * R - P * V - residue(q) * S * S) % PRIME or not self.powers.within(2):
            return None
        return self.numerator.over(self.powers.S2)

    def quotient(self, factor: Fraction = Fraction(1)) -> Quotient:
        """f cov, exactly."""
        return Quotient((self.numerator.times(factor),), (self.powers.S, self.powers.S))


def covariance_of_row(b: Batch, p: Vectors, v: F64) -> Covariance:
    """The covariance of a batch of one row, kept for all its elements."""
    return b.once("covariance", lambda: Covariance(first_row(b), p.row(0), exact(v[0])))


def formula(row: Any, c: Any, w: Any) -> Any:
    """s_i [(1 + c_i) w_i - <s, c w>]."""
    return row.s * ((row.one + c) * w - row.a.sum(row.s * c * w))
