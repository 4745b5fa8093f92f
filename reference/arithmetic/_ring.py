"""Sums, products and quotients of balls over float64 words, whatever the tier."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import numpy as np

from ._ball import (
    BOTTOM,
    NONNEGATIVE,
    NONPOSITIVE,
    TINY,
    UP,
    FloatBall,
    Parts,
    compound,
    flipped,
    plus,
    quiet,
    radii,
)
from ._eft import Array, IntArray, blocked, two_sum
from .base import Mask

_SAFE = 900  # kernels of mul and div: operands and results within 2^+-900
_SAFE_RADIUS = -500  # with absolute radii, products stay above this, where TINY is nothing
_SHORT = 64  # a ball of so few elements tells its range at once
_SAFE_SUM = -700  # relative * |mid| cannot underflow above this


def _product_sign(a: FloatBall, b: FloatBall) -> int | None:
    """What the signs of the factors say; None (to be looked up later) where looking is enough."""
    if None in (a._sign, b._sign) and a.absolute is None and b.absolute is None:
        return None
    x, y = a.sign, b.sign
    return (NONNEGATIVE if x & y else 0) | (NONPOSITIVE if flipped(x) & y else 0)


class RingArithmetic(ABC):
    """Sums, products and quotients of balls, by kernels that a tier supplies with their bounds.

    The class axis is the last one. Every method is vectorised and broadcasts.
    """

    words: int
    """Words of a midpoint."""

    ADD: float
    MUL: float
    DIV: float
    """Bounds of the relative errors of the kernels, each derived beside its kernel."""

    # ------------------------------------------------------------------ kernels

    @abstractmethod
    def total_bound(self, levels: int) -> float:
        """Error of :meth:`_total` relative to the sum of magnitudes, for so many levels."""

    @abstractmethod
    def _add(self, a: Parts, b: Parts) -> Parts: ...

    @abstractmethod
    def _mul(self, a: Parts, b: Parts) -> Parts: ...

    @abstractmethod
    def _div(self, a: Parts, b: Parts) -> Parts: ...

    @abstractmethod
    def _total(self, a: Parts) -> Parts:
        """Sum over the last axis, which is kept."""

    # ------------------------------------------------------------------ making balls

    def exact(self, values: Array) -> FloatBall:
        """Finite float64 values, exactly."""
        values = np.asarray(values, np.float64)
        zeros = (np.zeros(values.shape),) * (self.words - 1)
        return FloatBall(self, (values, *zeros))

    @quiet
    def difference(self, a: Array, b: Array) -> FloatBall:
        """a - b, exactly (as two words; Knuth's two_sum), for all finite a and b.

        Where a magnitude reaches 2^1000 both are divided by 4 first, with an exponent of 2; what a
        subnormal loses there is below 2^-2000 of the result.
        """
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        if max(np.abs(a).max(initial=0.0), np.abs(b).max(initial=0.0)) < 2.0**1000:
            return FloatBall(self, self._two_words(a, -b))
        big = np.maximum(np.abs(a), np.abs(b)) >= 2.0**1000
        factor = np.where(big, 0.25, 1.0)
        words = self._two_words(a * factor, -b * factor)
        return FloatBall(self, words, exponent=np.where(big, 2, 0), relative=2.0**-1000)

    def _two_words(self, a: Array, b: Array) -> Parts:
        """a + b as two words; binary64 keeps the second one, if there is one, until it is used."""
        return blocked(two_sum, a, b)

    def _single(self, a: FloatBall) -> FloatBall:
        """The ball with no more words than the tier has: the surplus goes into the radius."""
        if len(a.parts) == self.words:
            return a
        rest = np.abs(a.parts[1])
        return FloatBall(
            self,
            a.parts[:1],
            exponent=a.exponent,
            relative=a.relative * UP,
            absolute=rest if a.absolute is None else plus(rest, a.absolute),
            low=a._low,
            high=a._high,
            sign=a.sign,
        )

    # ------------------------------------------------------------------ ring operations

    @quiet
    def add(self, a: FloatBall, b: FloatBall) -> FloatBall:
        """a + b.

        The kernel is within ADD of its own result c, whatever cancels. Exact operands: that is all.
        Operands of one sign: ea |a| + eb |b| <= max(ea, eb) |a + b|. Otherwise ea |a| + eb |b| is
        an absolute radius.
        """
        a, b = self._single(a), self._single(b)
        exact = a.is_exact and b.is_exact
        sign = 0 if exact else a.sign & b.sign
        deep = not exact and not sign and min(_depth(a), _depth(b)) < _SAFE_SUM
        if a.exponent is not None or b.exponent is not None or deep or max(a.high, b.high) > 1020:
            a, b = a.normalised(), b.normalised()
            assert a.exponent is not None
            assert b.exponent is not None
            exponent = np.maximum(a.exponent, b.exponent)
            a, b = a.at_exponent(exponent), b.at_exponent(exponent)
            exact = exact and a.is_exact and b.is_exact
        parts = self._add(a.parts, b.parts)
        absolute = plus(a.absolute, b.absolute)
        relative = self.ADD
        if sign:
            relative = compound(max(a.relative, b.relative), self.ADD)
        elif not exact:
            spread = [np.abs(x.mid) * (x.relative * UP**2) for x in (a, b) if x.relative]
            absolute = plus(absolute, *spread)
        if absolute is not None:
            with radii():
                absolute = np.broadcast_to(absolute * UP, parts[0].shape)
        return FloatBall(
            self,
            parts,
            exponent=a.exponent,
            relative=relative,
            absolute=absolute,
            sign=sign if sign or absolute is not None else None,
            low=min(a._low, b._low) if sign and a._low is not None and b._low is not None else None,
            high=max(a.high, b.high) + 1,
        )

    @quiet
    def mul(self, a: FloatBall, b: FloatBall) -> FloatBall:
        """a b: |a b - c| <= |c| (ea + eb + MUL + ...) + (|a| + ra) rb + |b| ra, to a few roundings.

        For a = a'(1 + ea) + ra and b likewise, with the kernel's c within MUL of a' b'.
        """
        a, b = self._single(a), self._single(b)
        floor = -_SAFE if a.absolute is None and b.absolute is None else _SAFE_RADIUS
        if not (a.low + b.low >= floor and max(a.high, b.high, a.high + b.high) <= _SAFE):
            a, b = a.normalised(), b.normalised()
        parts = self._mul(a.parts, b.parts)
        absolute = None
        if a.absolute is not None or b.absolute is not None:
            with radii():
                x, y = np.abs(a.mid) * (1 + a.relative), np.abs(b.mid) * (1 + b.relative)
                rx = np.zeros(()) if a.absolute is None else a.absolute
                ry = np.zeros(()) if b.absolute is None else b.absolute
                present = ((rx > 0) & ((y > 0) | (ry > 0))) | ((ry > 0) & ((x > 0) | (rx > 0)))
                bad = ~np.isfinite(rx) | ~np.isfinite(ry)
                absolute = ((x + rx) * ry + y * rx) * UP + TINY * present
                absolute = np.where(bad, math.inf, absolute)
        return self._bounded(
            FloatBall(
                self,
                parts,
                exponent=_combine(a, b, 1, parts[0].shape),
                relative=compound(a.relative, b.relative, self.MUL),
                absolute=absolute,
                sign=_product_sign(a, b),
                low=a.low + b.low - 1,
                high=a.high + b.high + 1,
            )
        )

    @quiet
    def div(self, a: FloatBall, b: FloatBall) -> FloatBall:
        """a / b: |a / b - q| <= |q| (ea + eb + DIV + ...) + (ra + |q| rb) / (|b| (1 - eb) - rb).

        Where the divisor's ball holds 0 the quotient is the whole line.
        """
        a, b = self._single(a), self._single(b)
        floor = -_SAFE if a.absolute is None and b.absolute is None else _SAFE_RADIUS
        if not (
            min(a.low, b.low, a.low - b.high) >= floor
            and max(a.high, b.high, a.high - b.low) <= _SAFE
        ):
            a, b = a.normalised(), b.normalised()
        if not b.mid.all():  # given as 0, or lost beside a radius
            b = self._without_zeros(b)
        parts = self._div(a.parts, b.parts)
        absolute = None
        if a.absolute is not None or b.absolute is not None:
            with radii():
                rx = np.zeros(()) if a.absolute is None else a.absolute
                ry = np.zeros(()) if b.absolute is None else b.absolute
                least = np.abs(b.mid) * ((1 - b.relative) / UP) - ry * UP
                quotient = np.abs(parts[0]) * ((1 + a.relative) * (1 + 4 * b.relative) * UP)
                present = (rx > 0) | (ry > 0)
                spread = (rx + quotient * ry + TINY * present) / least * UP**2 + TINY * present
                absolute = np.where((least > 0) & (spread >= 0), spread, math.inf)
        return self._bounded(
            FloatBall(
                self,
                parts,
                exponent=_combine(a, b, -1, parts[0].shape),
                relative=compound(a.relative, b.relative, self.DIV),
                absolute=absolute,
                sign=_product_sign(a, b),
                low=a.low - b.high - 1,
                high=a.high - b.low + 1,
            )
        )

    def _without_zeros(self, b: FloatBall) -> FloatBall:
        """Divisors with midpoint 0 as 1 and the whole line around it."""
        zero = b.mid == 0
        return FloatBall(
            self,
            (np.where(zero, 1.0, b.mid), *b.parts[1:]),
            exponent=None if b.exponent is None else np.where(zero, 0, b.exponent),
            relative=b.relative,
            absolute=np.where(zero, math.inf, 0.0 if b.absolute is None else b.absolute),
            sign=b._sign,
        )

    def _bounded(self, a: FloatBall) -> FloatBall:
        """Keep exponents within +-2^61: below, a ball around 0; above, the whole line."""
        if a.exponent is None or not a.exponent.size:
            return a
        if a.exponent.min() >= BOTTOM and a.exponent.max() <= -BOTTOM:
            return a
        empty = (a.mid == 0) & (True if a.absolute is None else a.absolute == 0)
        exponent = np.where(empty, BOTTOM, a.exponent)
        under, over = exponent < BOTTOM, exponent > -BOTTOM
        absolute = a.absolute
        if under.any() or over.any():
            # |mid| + radius are below 2^1000 where two normalised numbers met.
            absolute = np.zeros(a.shape) if absolute is None else absolute
            absolute = np.where(under & np.isfinite(absolute), 1.0, absolute)
            absolute = np.where(over, math.inf, absolute)
        return FloatBall(
            self,
            tuple(np.where(under | over, 0.0, p) for p in a.parts),
            exponent=np.where(under, BOTTOM + 2000, np.where(over, 0, exponent)),
            relative=a.relative,
            absolute=absolute,
            sign=a.sign,
        )

    @quiet
    def sum(self, a: FloatBall) -> FloatBall:
        """Sum over the class axis, which stays with length 1, as a tree of halves.

        The kernel is within ``total_bound(H)`` of sum |a_i|, H = ceil(log2 n). For terms of one
        sign that is the sum itself, and so is sum e |a_i|; otherwise both are absolute.
        """
        a = self._single(a)
        n = a.shape[-1]
        levels = max(n - 1, 0).bit_length()
        if n == 0:
            return self.exact(np.zeros((*a.shape[:-1], 1)))
        if n == 1:
            return a
        sign = a.sign
        if a.exponent is not None or a.high + levels > 1000 or (not sign and a.low < _SAFE_SUM):
            a = a.normalised()
            assert a.exponent is not None
            top = a.exponent.max(axis=-1, keepdims=True)
            a = a.at_exponent(np.broadcast_to(top, a.shape))
        else:
            top = None
        parts = self._total(a.parts)
        bound = self.total_bound(levels)
        # Radii are added up in whatever order NumPy likes: below n roundings.
        slack = UP * (1 + n * 2.0**-52)
        absolute = None
        with radii():
            if a.absolute is not None:
                absolute = a.absolute.sum(axis=-1, keepdims=True) * slack
            if not sign:
                size = np.abs(a.mid).sum(axis=-1, keepdims=True)
                spread = size * (compound(a.relative, bound) * slack)
                absolute = spread if absolute is None else absolute + spread
        return FloatBall(
            self,
            parts,
            exponent=top,
            relative=compound(a.relative, bound) if sign else 0.0,
            absolute=absolute,
            sign=sign,
            low=a._low if sign else None,
            high=a.high + levels + 1,
        )

    def total(self, values: Array) -> FloatBall:
        """Sum of float64 values over the class axis."""
        return self.sum(self.exact(values))

    def where(self, mask: Mask, a: FloatBall, b: FloatBall) -> FloatBall:
        """a where the mask is true, else b."""
        if len(a.parts) != len(b.parts):
            a, b = self._single(a), self._single(b)
        parts = tuple(np.where(mask, x, y) for x, y in zip(a.parts, b.parts, strict=True))
        exponent = absolute = None
        if a.exponent is not None or b.exponent is not None:
            zero = np.zeros((), np.int64)
            exponent = np.where(
                mask,
                zero if a.exponent is None else a.exponent,
                zero if b.exponent is None else b.exponent,
            )
        if a.absolute is not None or b.absolute is not None:
            absolute = np.where(
                mask,
                0.0 if a.absolute is None else a.absolute,
                0.0 if b.absolute is None else b.absolute,
            )
        sign = a.sign & b.sign
        low, high = None, None
        if all(ball.mid.size <= _SHORT or ball.spans for ball in (a, b)):
            low, high = min(a.low, b.low), max(a.high, b.high)
        return FloatBall(
            self,
            parts,
            exponent=exponent,
            relative=max(a.relative, b.relative),
            absolute=absolute,
            sign=sign if sign or absolute is not None else None,
            low=low,
            high=high,
        )

    def expand(self, a: FloatBall) -> tuple[Array, Array, IntArray, Array]:
        """See :meth:`FloatBall.expand`."""
        return a.expand()

    def enclosure(self, a: FloatBall) -> tuple[Array, Array]:
        """See :meth:`FloatBall.enclosure`."""
        return a.enclosure()


def _depth(a: FloatBall) -> int:
    return a.low if a.relative else 0


def _combine(a: FloatBall, b: FloatBall, sign: int, shape: tuple[int, ...]) -> IntArray | None:
    """Exponents of a product (sign 1) or a quotient (sign -1)."""
    if a.exponent is None and b.exponent is None:
        return None
    # Halved and doubled nowhere: each is within 2^61, so the sum fits into 63 bits.
    x = np.zeros((), np.int64) if a.exponent is None else a.exponent
    y = np.zeros((), np.int64) if b.exponent is None else b.exponent
    return np.broadcast_to(x + sign * y, shape)
