"""f s_i [(h + c_i) w_i - <s, c w>] with c = p - <s, p> and w = v - <s, v>: derivatives of vjps.

softmax has p = g and h = 0; the entropy p = x, the Kullback-Leibler divergence p = x - y, both with
h = 1. With P = sum e p, V = sum e v and R = sum e p v,

    S^2 [...] = S^2 p_i v_i - S (p_i V + v_i P) + 2 P V - S R + h (S^2 v_i - S V),

a sum of exponentials with rational coefficients. It is 0 if and only if they all vanish, collected
by the sum of exponents: with logits 0, 1, 2 the product e_0 e_2 meets e_1 e_1. A value other than 0
is transcendental with two or more distinct logits: s_i [...] = q means e_i S^2 [...] = q S^3, but
the exponents on the left span at most 2 (max x - min x) and those on the right 3 times that.

Open: whether the sum vanishes with more than 512 distinct logits (products above
``exponential.PRODUCTS``), where neither p nor v is constant; and on which side of a boundary other
than 0 a result lies with more than 64, where the precision does not tell.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from operator import mul
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..arithmetic.base import F64, Mask
from . import base
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
)
from .limits import settle_limits


@dataclass(frozen=True, eq=False)
class Vectors:
    """Rows of exact numbers that need not be float64: (B, n), approximately, and row by row."""

    approximate: F64
    row: Callable[[int], Exact]

    def constant(self, r: int, kept: NDArray[np.intp]) -> bool:
        """Are all kept entries of a row the same?"""
        values = self.approximate[r][kept] / 2
        if np.ptp(values) > 1e-9 * np.abs(values).max():
            return False
        return len(set(self.row(r)[kept])) == 1


def of_floats(values: F64) -> Vectors:
    return Vectors(values, lambda r: exact(values[r]))


@dataclass(frozen=True, eq=False)
class Bracket:
    """S^2 [...] of one row, element by element."""

    powers: Powers
    p: Exact
    v: Exact
    h: int

    @cached_property
    def _products(self) -> tuple[ExpSum, ExpSum, ExpSum]:
        """S P, S V and 2 P V - S R - h S V."""
        S = self.powers.S
        P, V, R = (self.powers.sum(u) for u in (self.p, self.v, self.p * self.v))
        SV = S * V
        common = (P * V).times(Fraction(2)) - S * R - SV.times(Fraction(self.h))
        return S * P, SV, common

    def at(self, i: int) -> ExpSum:
        SP, SV, common = self._products
        p, v = self.p[i], self.v[i]
        return self.powers.S2.times(p * v + self.h * v) - SV.times(p) - SP.times(v) + common

    def zeros(self, candidates: list[int]) -> list[int]:
        """Which of the candidates are 0, as far as products may be formed."""
        vanishing = self._vanishing_residues()
        candidates = [i for i in candidates if i in vanishing]
        if not candidates or not self.powers.within(2):
            return []
        return [i for i in candidates if self.at(i).is_zero]

    def _vanishing_residues(self) -> set[int]:
        """Elements whose residue modulo a prime is 0: all that can be 0, and cheap to tell."""
        e, p, v = (self.powers.residues(u) for u in (None, self.p, self.v))
        S, P, V = sum(e), sum(map(mul, e, p)), sum(map(mul, e, v))
        R = sum(a * b * c for a, b, c in zip(e, p, v, strict=True))
        h, common = self.h, 2 * P * V - S * R - self.h * S * V
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
    suspects = _suspects(b, p.approximate, v, h)
    candidates = b.equal | suspects.any(axis=1)
    if zero is not None:
        candidates |= zero
    for r in map(int, np.flatnonzero(b.regular & candidates)):
        kept = np.flatnonzero(b.kept[r])
        if zero is not None and zero[r]:
            out.codes[r] = ZERO
        elif b.equal[r]:
            _settle_equal(out, r, kept, p.row(r), exact(v[r]), h, factor(r))
        elif np.ptp(v[r][kept]) == 0:
            out.codes[r] = ZERO
        elif p.constant(r, kept):
            zeros = base.zero_products(b.x[r][kept], v[r][kept]) if h else slice(None)
            out.codes[r, kept[zeros]] = ZERO
        else:
            bracket = Bracket(Powers(b.x[r], b.kept[r]), p.row(r), exact(v[r]), h)
            for i in bracket.zeros(np.flatnonzero(suspects[r]).tolist()):
                out.codes[r, i] = ZERO
    return out


def _settle_equal(
    out: Settled, r: int, kept: NDArray[np.intp], p: Exact, v: Exact, h: int, factor: Fraction
) -> None:
    k = len(kept)
    c, w = (u[kept] - sum(u[kept], Fraction(0)) / k for u in (p, v))
    spread = sum(c * w, Fraction(0)) / k
    for i, c_i, w_i in zip(kept.tolist(), c, w, strict=True):
        out.exact(r, i, factor * ((h + c_i) * w_i - spread) / k)


def _suspects(b: Batch, p: F64, v: F64, h: int) -> Mask:
    """Kept elements that float64 does not tell from 0."""
    s, _ = shifted(b)
    with np.errstate(all="ignore"):
        scales = [np.abs(u).max(axis=1, initial=0.0, keepdims=True) for u in (p, v)]
        one = 1 / np.where(scales[0] > 0, scales[0], 1.0)
        p, v = (u / np.where(k > 0, k, 1.0) for u, k in zip((p, v), scales, strict=True))
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
    powers = first_row(b)
    powers.refuse_beyond(2)
    bracket = Bracket(powers, p.row(0), exact(v[0]), h).at(i).times(factor)
    return Quotient((powers.e(i), bracket), (powers.S, powers.S, powers.S))


@dataclass(frozen=True, eq=False)
class Covariance:
    """<s, p v> - <s, p> <s, v> = (S R - P V) / S^2 of one row."""

    powers: Powers
    p: Exact
    v: Exact

    @classmethod
    def of(cls, b: Batch, p: Vectors, v: F64, r: int = 0) -> Covariance:
        return cls(Powers(b.x[r], b.kept[r]), p.row(r), exact(v[r]))

    def numerator(self) -> ExpSum:
        powers = self.powers
        P, V, R = (powers.sum(u) for u in (self.p, self.v, self.p * self.v))
        return powers.S * R - P * V

    def rational(self) -> Fraction | None:
        """Its value, if that is rational and products may be formed.

        It is that of the largest logits then: the leading coefficients of both sides say so.
        """
        top, k = self.powers.largest, len(self.powers.largest)
        p, v = self.p[top], self.v[top]
        q = (p * v).sum() / k - p.sum() / k * (v.sum() / k)
        e, a, b = (self.powers.residues(u) for u in (None, self.p, self.v))
        S, P, V = sum(e), sum(map(mul, e, a)), sum(map(mul, e, b))
        R = sum(map(mul, map(mul, e, a), b))
        if (S * R - P * V - residue(q) * S * S) % PRIME or not self.powers.within(2):
            return None
        return self.numerator().over(self.powers.S2)

    def quotient(self, factor: Fraction = Fraction(1)) -> Quotient:
        """f cov, exactly."""
        self.powers.refuse_beyond(2)
        return Quotient((self.numerator().times(factor),), (self.powers.S, self.powers.S))


def formula(row: Any, c: Any, w: Any) -> Any:
    """s_i [(1 + c_i) w_i - <s, c w>]."""
    return row.s * ((row.one + c) * w - row.a.sum(row.s * c * w))
