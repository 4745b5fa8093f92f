"""Sums of exponentials with exact coefficients, made term by term from the largest exponent on.

    sum_k c_k e^(E_k),   c_k and E_k dyadic rationals, products collected by the sum of exponents.

Terms are made when they are asked for. The sign of a sum is decided by its first terms, be there
ten thousand others that are e^-1e9 of them; a sum that is not 0 says so with its first term; and
two sums that are no multiples of each other with the first one that differs.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from fractions import Fraction
from functools import lru_cache
from itertools import groupby
from operator import itemgetter

from mpmath import libmp

from ..arithmetic.multiprecision import Ball, Multiprecision, TooWide

PRODUCTS = 1 << 18
"""Terms of a product that are made before the question is left open."""

_CHUNK = 16

Item = tuple[int, int]


def bits_below(value: Fraction) -> int:
    """k of a denominator 2^k."""
    return value.denominator.bit_length() - 1


class ExpSum:
    """sum of c 2^-unit e^(E 2^-step) over items (E, c), integers all of them, largest E first.

    Parameters
    ----------
    items : iterable of (int, int)
        Exponents strictly descending, no coefficient 0. Read as far as needed, and kept.
    size : int
        A bound of the sum of all |c|.
    unit, step : int
    """

    def __init__(self, items: Iterable[Item], size: int, unit: int, step: int) -> None:
        self._source = iter(items)
        self._made: list[Item] = []
        self._left_open: TooWide | None = None
        self.size, self.unit, self.step = size, unit, step

    @classmethod
    def collected(cls, terms: Iterable[Item], unit: int, step: int) -> ExpSum:
        """The sum of terms in any order, equal exponents included."""
        total: dict[int, int] = {}
        for e, c in terms:
            total[e] = total.get(e, 0) + c
        items = sorted(((e, c) for e, c in total.items() if c), reverse=True)
        return cls(items, sum(abs(c) for _, c in items), unit, step)

    def item(self, k: int) -> Item | None:
        """Number k of the items; None behind the last.

        Raises
        ------
        TooWide
            If it would take more than ``PRODUCTS`` terms of a product.
        """
        while len(self._made) <= k:
            if self._left_open is not None:
                raise self._left_open
            try:
                self._made.append(next(self._source))
            except StopIteration:
                return None
            except TooWide as error:  # the source is closed now, which is not its end
                self._left_open = error
        return self._made[k]

    def items(self) -> Iterator[Item]:
        """All items."""
        k = 0
        while (found := self.item(k)) is not None:
            yield found
            k += 1

    def _at(self, unit: int) -> Iterator[Item]:
        shift = unit - self.unit
        return ((e, c << shift) for e, c in self.items())

    def __add__(self, other: ExpSum) -> ExpSum:
        unit = max(self.unit, other.unit)
        size = sum(s.size << (unit - s.unit) for s in (self, other))
        merged = heapq.merge(self._at(unit), other._at(unit), key=_descending)
        return ExpSum(_grouped(merged), size, unit, self.step)

    def __neg__(self) -> ExpSum:
        return ExpSum(((e, -c) for e, c in self.items()), self.size, self.unit, self.step)

    def __sub__(self, other: ExpSum) -> ExpSum:
        return self + (-other)

    def __mul__(self, other: ExpSum) -> ExpSum:
        terms, size = _grouped(_products(self, other)), self.size * other.size
        return ExpSum(terms, size, self.unit + other.unit, self.step)

    def times(self, factor: Fraction) -> ExpSum:
        """The product with a dyadic rational."""
        n = factor.numerator
        items = ((e, c * n) for e, c in self.items()) if n else ()
        return ExpSum(items, self.size * abs(n), self.unit + bits_below(factor), self.step)

    @property
    def is_zero(self) -> bool:
        return self.item(0) is None

    def over(self, other: ExpSum) -> Fraction | None:
        """The rational q with self = q other, if there is one; ``other`` is not 0."""
        lead, own = other.item(0), self.item(0)
        assert lead is not None
        if own is None:
            return Fraction(0)
        p, q, k = own[1], lead[1], 0
        while True:
            mine, others = self.item(k), other.item(k)
            if mine is None or others is None:
                break
            if mine[0] != others[0] or mine[1] * q != others[1] * p:
                return None
            k += 1
        if mine is not others:  # one of them goes on
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
        lead = self.item(0)
        if lead is None:
            return a.dyadic(0, 0), 0
        top = lead[0]
        total, k = a.dyadic(lead[1], 0), 1
        while (first := self.item(k)) is not None:
            # e^E <= 2^(1.4426 E) for E <= 0 bounds what is left without an exponential.
            bound = ((first[0] - top) * 7213 // 5000 >> self.step) + 1
            if _certain(total, a.dyadic(self.size, bound + bits)):
                return total.widened(a.dyadic(self.size, bound)), top
            for _ in range(_CHUNK):
                found = self.item(k)
                if found is None:
                    break
                power = _power(a.bits, found[0] - top, self.step)
                total = total + power * a.dyadic(found[1], 0)
                k += 1
        return total, top


def _descending(item: Item) -> int:
    return -item[0]


def _grouped(items: Iterable[Item]) -> Iterator[Item]:
    """Items with descending exponents, those of one exponent as one."""
    for e, group in groupby(items, key=itemgetter(0)):
        total = sum(c for _, c in group)
        if total:
            yield e, total


def _products(a: ExpSum, b: ExpSum) -> Iterator[Item]:
    """All products, largest exponent first: of each item of ``a`` the next one is in the heap."""
    heap: list[tuple[int, int, int, int]] = []

    def offer(i: int, j: int) -> None:
        p, q = a.item(i), b.item(j)
        if p is not None and q is not None:
            heapq.heappush(heap, (-p[0] - q[0], i, j, p[1] * q[1]))

    offer(0, 0)
    count = 0
    while heap:
        count += 1
        if count > PRODUCTS:
            raise TooWide("too many products of exponentials to tell a sign")
        e, i, j, c = heapq.heappop(heap)
        yield -e, c
        offer(i, j + 1)
        if j == 0:
            offer(i + 1, 0)


@lru_cache(maxsize=1 << 14)
def _power(bits: int, exponent: int, step: int) -> Ball:
    """e^(exponent 2^-step)."""
    a = Multiprecision(bits)
    return a.exp(a.dyadic(exponent, -step))


def _certain(total: Ball, tail: Ball) -> bool:
    """Is the sign of ``total`` that of every number within ``tail`` of it?"""
    gap = (-total if total.mid[0, 0][0] else total) - tail
    return bool(libmp.mpf_gt(gap.mid[0, 0], gap.rad[0, 0]))
