"""Sums of exponentials with exact coefficients: what decides zeros, rationals and near-rationals.

Everything that contains no logarithm is a quotient N / D of two sums

    sum_k c_k e^(E_k),   c_k and E_k dyadic rationals, products collected by the sum of exponents.

By Lindemann and Weierstrass powers of e with distinct algebraic exponents are linearly independent
over the algebraic numbers. Hence N is 0 if and only if all its coefficients are, and N / D is
algebraic if and only if N = q D coefficient by coefficient; q is then rational. Everything else is
transcendental, so it lies on no rounding boundary b, and the sign of N - b D tells its side: with
the largest exponential divided out, the leading coefficient is exact, and the others are as small
as their exponents say, be they e^-1e6 or e^-1e300.

Rows enter with the entries that are kept, groups of equal logits as one term. Products grow: above
``PRODUCTS`` of them a question is left open, which is up to 64 distinct logits for what is of the
third degree in e and 512 for the second degree.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property, reduce
from math import prod
from operator import mul

import numpy as np
from mpmath import libmp
from numpy.typing import NDArray

from ..arithmetic.base import F64, Mask
from ..arithmetic.multiprecision import Ball, Multiprecision, TooWide

Exact = NDArray[np.object_]
"""An array of Fractions."""

PRODUCTS = 1 << 18
_CHUNK = 16
PRIME, _BASE = 2**61 - 1, 37


def exact(values: F64) -> Exact:
    """Finite float64 values as Fractions."""
    out = np.empty(np.shape(values), dtype=object)
    for index, v in np.ndenumerate(values):
        out[index] = Fraction(float(v))
    return out


def _bits(value: Fraction) -> int:
    """k of a denominator 2^k."""
    return value.denominator.bit_length() - 1


def number(a: Multiprecision, value: Fraction) -> Ball:
    """A dyadic rational in the arithmetic, of shape (1, 1)."""
    return a.dyadic(value.numerator, -_bits(value))


def residue(value: Fraction) -> int:
    """A rational modulo the prime."""
    return value.numerator * pow(value.denominator, -1, PRIME) % PRIME


@dataclass(frozen=True, eq=False)
class ExpSum:
    """sum of c 2^-unit e^(E 2^-step) over the items (E, c) of ``terms``, integers all of them."""

    terms: Mapping[int, int]
    unit: int
    step: int

    def _at(self, unit: int) -> dict[int, int]:
        return {e: c << (unit - self.unit) for e, c in self.terms.items()}

    def __add__(self, other: ExpSum) -> ExpSum:
        unit = max(self.unit, other.unit)
        terms = self._at(unit)
        for e, c in other._at(unit).items():
            terms[e] = terms.get(e, 0) + c
        return ExpSum(terms, unit, self.step)

    def __neg__(self) -> ExpSum:
        return ExpSum({e: -c for e, c in self.terms.items()}, self.unit, self.step)

    def __sub__(self, other: ExpSum) -> ExpSum:
        return self + (-other)

    def __mul__(self, other: ExpSum) -> ExpSum:
        terms: dict[int, int] = defaultdict(int)
        for e, c in self.terms.items():
            for f, k in other.terms.items():
                terms[e + f] += c * k
        return ExpSum(terms, self.unit + other.unit, self.step)

    def times(self, factor: Fraction) -> ExpSum:
        """The product with a dyadic rational."""
        shift = _bits(factor)
        terms = {e: c * factor.numerator for e, c in self.terms.items()}
        return ExpSum(terms, self.unit + shift, self.step)

    @property
    def is_zero(self) -> bool:
        return not any(self.terms.values())

    def over(self, other: ExpSum) -> Fraction | None:
        """The rational q with self = q other, if there is one."""
        lead = max(e for e, c in other.terms.items() if c)
        p, q = self.terms.get(lead, 0), other.terms[lead]
        if any(self.terms.get(e, 0) * q != other.terms.get(e, 0) * p
               for e in {*self.terms, *other.terms}):  # fmt: skip
            return None
        return Fraction(p, q) * Fraction(2) ** (other.unit - self.unit)

    def sign(self, a: Multiprecision) -> Ball:
        """A ball with the sign of the sum, where the precision suffices to tell it."""
        return self._collected(a, 0)[0]

    def value(self, a: Multiprecision) -> Ball:
        """The sum, as precise as its exponentials unless they cancel."""
        total, top = self._collected(a, a.bits)
        return total * a.exp(a.dyadic(top, -self.step)) * a.dyadic(1, -self.unit)

    def _collected(self, a: Multiprecision, bits: int) -> tuple[Ball, int]:
        """The sum with its largest exponential divided out, in units, and that one's exponent.

        What is certainly smaller than 2^-bits of the sum is left to the radius.
        """
        terms = sorted(((e, c) for e, c in self.terms.items() if c), reverse=True)
        if not terms:
            return a.dyadic(0, 0), 0
        top = terms[0][0]
        total = a.dyadic(terms[0][1], 0)
        rest = sum(abs(c) for _, c in terms[1:])
        for start in range(1, len(terms), _CHUNK):
            chunk = [(e - top, c) for e, c in terms[start : start + _CHUNK]]
            # e^E <= 2^(1.4426 E) for E <= 0 bounds what is left without an exponential.
            bound = (chunk[0][0] * 7213 // 5000 >> self.step) + 1
            if _certain(total, a.dyadic(rest, bound + bits)):
                return total.widened(a.dyadic(rest, bound)), top
            powers = a.exp(_row(a, [(e, -self.step) for e, _ in chunk]))
            total = total + a.sum(powers * _row(a, [(c, 0) for _, c in chunk]))
            rest -= sum(abs(c) for _, c in chunk)
        return total, top


def _row(a: Multiprecision, values: Iterable[tuple[int, int]]) -> Ball:
    """Dyadic numbers man 2^exp as a row, (1, k)."""
    balls = [a.dyadic(man, exp) for man, exp in values]
    mid, rad = (np.concatenate([getattr(b, n) for b in balls], axis=1) for n in ("mid", "rad"))
    return Ball(mid, rad, a)


def _certain(total: Ball, tail: Ball) -> bool:
    """Is the sign of ``total`` that of every number within ``tail`` of it?"""
    gap = (-total if total.mid[0, 0][0] else total) - tail
    return bool(libmp.mpf_gt(gap.mid[0, 0], gap.rad[0, 0]))


class Powers:
    """e^(d_j) of one row, d = x - max x over the kept entries, for sums over them.

    Parameters
    ----------
    x : ndarray of float64 (n,)
    kept : ndarray of bool (n,)
        At least one; the others have e = 0.
    step : int, optional
        Exponents are multiples of 2^-step; two rows that meet in a product share one.
    """

    def __init__(self, x: F64, kept: Mask, step: int | None = None) -> None:
        self.indices = np.flatnonzero(kept)
        values = exact(x[self.indices])
        self.step = step_of(values) if step is None else step
        scaled = [v.numerator << (self.step - _bits(v)) for v in values]
        top = max(scaled)
        self.exponents = dict(zip(self.indices.tolist(), (v - top for v in scaled), strict=True))
        self.distinct = len(set(scaled))

    def sum(self, values: Exact) -> ExpSum:
        """sum_j v_j e_j, for Fractions v of the whole row."""
        chosen = values[self.indices]
        unit = max(_bits(v) for v in chosen)
        terms: dict[int, int] = defaultdict(int)
        for e, v in zip(self.exponents.values(), chosen, strict=True):
            terms[e] += v.numerator << (unit - _bits(v))
        return ExpSum(terms, unit, self.step)

    @cached_property
    def S(self) -> ExpSum:
        """sum_j e_j."""
        terms: dict[int, int] = defaultdict(int)
        for e in self.exponents.values():
            terms[e] += 1
        return ExpSum(terms, 0, self.step)

    @cached_property
    def S2(self) -> ExpSum:
        return self.S * self.S

    def e(self, i: int) -> ExpSum:
        """e_i of a kept entry, 0 of another."""
        terms = {self.exponents[i]: 1} if i in self.exponents else {0: 0}
        return ExpSum(terms, 0, self.step)

    def residues(self, values: Exact | None = None) -> list[int]:
        """e_j, or dyadic v_j, modulo a prime with a small integer in the place of e^(2^-step).

        A ring homomorphism: a sum of products whose residue is not 0 is not 0.
        """
        if values is None:
            return [pow(_BASE, e % (PRIME - 1), PRIME) for e in self.exponents.values()]
        return [residue(v) for v in values[self.indices]]

    @cached_property
    def largest(self) -> list[int]:
        """The entries that equal the maximum."""
        return [i for i, e in self.exponents.items() if e == 0]

    def within(self, degree: int) -> bool:
        """May products of so many sums be formed?"""
        return bool(self.distinct**degree <= PRODUCTS)

    def refuse_beyond(self, degree: int) -> None:
        """Leave a question of so many products to more precision."""
        if not self.within(degree):
            raise TooWide("too many distinct logits to expand the sum")


def step_of(*rows: Exact) -> int:
    """The step that the exact values of some rows have in common."""
    return max((_bits(v) for row in rows for v in row), default=0)


@dataclass(frozen=True, eq=False)
class Quotient:
    """A result N / D exactly, both products of sums of exponentials, all factors of D positive."""

    numerator: tuple[ExpSum, ...]
    denominator: tuple[ExpSum, ...]

    def value(self, a: Multiprecision) -> Ball:
        """The result. Where its largest terms cancel, they do so exactly, within a factor."""
        numerator, denominator = (
            reduce(mul, [factor.value(a) for factor in factors])
            for factors in (self.numerator, self.denominator)
        )
        return numerator / denominator

    def excess(self, a: Multiprecision, boundary: Fraction) -> Ball:
        """A positive multiple of N / D - b, see :class:`reference.ops.base.Map`."""
        if boundary == 0:
            return reduce(mul, [factor.sign(a) for factor in self.numerator])
        numerator, denominator = expanded(self.numerator), expanded(self.denominator)
        p, q = Fraction(boundary.numerator), Fraction(boundary.denominator)
        return (numerator.times(q) - denominator.times(p)).sign(a)


def expanded(factors: Sequence[ExpSum]) -> ExpSum:
    """The product; one with too many terms is left to more precision."""
    if len(factors) > 1 and prod(len(factor.terms) for factor in factors) > PRODUCTS:
        raise TooWide("too many distinct logits to expand the product")
    return reduce(mul, factors)


def common_mean(
    x: F64, values: F64, fractions: Callable[[], Exact] | None = None
) -> Fraction | None:
    """The mean of the values, if every group of equal logits has the same.

    That is when sum_j s_j v_j is rational: V = q S, coefficient by coefficient. Values that are no
    float64 numbers come as ``fractions``, and approximately.
    """
    keys, group = np.unique(x, return_inverse=True)
    counts = np.bincount(group, minlength=len(keys))
    if len(keys) > 1:
        scale = float(np.abs(values).max(initial=0.0)) or 1.0
        means = np.bincount(group, weights=values / scale, minlength=len(keys)) / counts
        if np.ptp(means) > 1e-9:
            return None
    sums = [Fraction(0)] * len(keys)
    for k, v in zip(
        group.tolist(), exact(values) if fractions is None else fractions(), strict=True
    ):
        sums[k] += v
    found = {total / int(count) for total, count in zip(sums, counts, strict=True)}
    return found.pop() if len(found) == 1 else None


def approximately_zero(value: F64, size: F64) -> Mask:
    """Where a float64 evaluation does not exclude that the exact value is 0."""
    with np.errstate(invalid="ignore"):
        return np.asarray(~(np.abs(value) > 1e-9 * size))


__all__ = [
    "PRODUCTS",
    "Exact",
    "ExpSum",
    "Powers",
    "Quotient",
    "approximately_zero",
    "common_mean",
    "exact",
    "expanded",
    "number",
    "step_of",
]
