"""Balls over float64 words: what binary64 and double-double have in common.

A :class:`FloatBall` is an array of midpoints, each an unevaluated sum of float64 words times
2^exponent, with a radius in two parts:

    |value - mid| <= relative * |mid| + absolute        (times 2^exponent)

``relative`` is one number for the whole array, so that products, quotients, exponentials and sums
of one sign, which is most of what operators on logits do, cost no radius arithmetic at all.
``absolute`` is an array that exists only where it is needed: after a sum of mixed signs, or a
function of something inexact. A radius that is not finite stands for the whole real line; radius
arithmetic may therefore overflow, and meet inf * 0 = nan, without harm.

Range. As long as nothing comes near the ends of float64's range, which is decided for the whole
array from the exponents ``low`` and ``high``, there is no exponent array and every operation is its
kernel. Otherwise both operands are normalised, and the binary exponent is an int64 array of its own
from there on: nothing overflows and nothing underflows. Values below 2^-2^50, e^x beyond |x| = 2^50,
become a ball around 0, or the whole line.

Radii are computed in float64 with fewer than 2^9 roundings each and scaled by ``UP`` = 1 + 2^-40;
where a product of radii might underflow, ``TINY`` is added.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import wraps
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from ._eft import Array, IntArray, blocked, two_sum
from .base import Mask

Parts = tuple[Array, ...]

UP = 1 + 2.0**-40
TINY = 2.0**-1060

NONNEGATIVE, NONPOSITIVE = 1, 2
"""Bits of :attr:`FloatBall.sign`; an array of exact zeros has both."""

LIMIT = 2.0**50
"""|x| up to which e^x is computed; beyond, it is 0 or the whole line."""

BOTTOM = -(1 << 61)
"""Smallest exponent carried, and the exponent of an exact 0."""

_SAFE = 900  # kernels of mul and div: operands and results within 2^+-900
_SAFE_RADIUS = -500  # with absolute radii, products stay above this, where TINY is nothing
_SAFE_SUM = -700  # relative * |mid| cannot underflow above this
_GONE = 500  # a term this many bits below another one becomes part of the radius
_SPILL = 2.0**-500  # relative cost of low words that underflow when a number is scaled
_EASY = 600.0  # |x| up to which e^x needs no exponent array
_SMALL = -110  # below 2^-110, e^x - 1 and log(1 + x) are x

P = ParamSpec("P")
R = TypeVar("R")
_S = TypeVar("_S")


def compound(*errors: float) -> float:
    """Bound the relative error that several relative errors make together.

    prod (1 + e_i) / prod (1 - e_j) - 1 <= s / (1 - s) with s = sum of all e, for s < 1.
    """
    total = sum(errors)
    return total / (1 - total) * UP if total < 0.5 else math.inf


def quiet(method: Callable[Concatenate[_S, P], R]) -> Callable[Concatenate[_S, P], R]:
    """Let underflow pass inside a method, as the module and the kernels account for it.

    What underflows are low-order words and radii: 2^-1074 at the scale of a midpoint above 2^-900.
    Overflow, division by zero and invalid operations keep the caller's setting.
    """

    @wraps(method)
    def wrapped(self: _S, /, *args: P.args, **kwargs: P.kwargs) -> R:
        with np.errstate(under="ignore"):
            return method(self, *args, **kwargs)

    return wrapped


def _radii() -> np.errstate:
    """Radii may overflow to inf, and inf * 0 is nan: both mean the whole line."""
    return np.errstate(over="ignore", invalid="ignore", under="ignore", divide="ignore")


def _plus(*terms: Array | None) -> Array | None:
    """Sum of the radii that exist."""
    present = [t for t in terms if t is not None]
    if not present:
        return None
    with _radii():
        return sum(present[1:], present[0])


def _scaled(values: Array, shift: Any) -> Array:
    """values * 2^shift, where shift may be any int64."""
    return np.ldexp(values, np.clip(shift, -4000, 4000).astype(np.int32))


class FloatBall:
    """An array of balls; made by a :class:`FloatArithmetic`, immutable by convention.

    Attributes
    ----------
    parts : tuple of ndarray of float64
        Words of the midpoints, the leading one rounded to nearest; finite always.
    exponent : ndarray of int64, or None for 0
    relative : float
    absolute : ndarray of float64, or None for 0
    """

    __array_ufunc__ = None  # an ndarray on the left must not take over

    def __init__(
        self,
        arithmetic: FloatArithmetic,
        parts: Parts,
        *,
        exponent: IntArray | None = None,
        relative: float = 0.0,
        absolute: Array | None = None,
        sign: int | None = None,
        low: int | None = None,
        high: int | None = None,
    ) -> None:
        self.arithmetic = arithmetic
        self.parts = parts
        self.exponent = exponent
        if relative == math.inf:
            relative, absolute = 0.0, np.full(parts[0].shape, math.inf)
        self.relative = relative
        self.absolute = absolute
        self._sign = sign
        self._low = low
        self._high = high

    @property
    def mid(self) -> Array:
        """The leading words of the midpoints."""
        return self.parts[0]

    @property
    def shape(self) -> tuple[int, ...]:
        return self.mid.shape

    @property
    def is_exact(self) -> bool:
        """No radius at all."""
        return self.relative == 0 and self.absolute is None

    @property
    def sign(self) -> int:
        """What is known of the sign of *all* midpoints and true values together.

        ``NONNEGATIVE``, ``NONPOSITIVE``, both (zeros) or 0 (nothing). It is carried through
        products, quotients, sums of one sign, exp, expm1, log1p and phi, and so survives where a
        ball is too wide to tell.
        """
        if self._sign is None:
            self._sign = 0
            if self.absolute is None:
                if self.mid.min(initial=0.0) >= 0:
                    self._sign |= NONNEGATIVE
                if self.mid.max(initial=0.0) <= 0:
                    self._sign |= NONPOSITIVE
        return self._sign

    @property
    def low(self) -> int:
        """Every leading word that is not 0 is at least 2^low in magnitude."""
        if self._low is None:
            self._span()
        return self._low or 0

    @property
    def high(self) -> int:
        """Every leading word is at most 2^high in magnitude."""
        if self._high is None:
            self._span()
        return self._high or 0

    def _span(self) -> None:
        if self._high is None:
            self._high = math.frexp(float(np.abs(self.mid).max(initial=0.0)))[1]
        if self._low is None:
            # As integers, magnitudes of float64 keep their order, and 0 - 1 wraps to the largest.
            bits = np.abs(self.mid).reshape(-1).view(np.uint64)
            least = int((bits - np.uint64(1)).min(initial=2**64 - 1)) + 1
            value = float(np.uint64(least).view(np.float64)) if least < 2**64 else 1.0
            self._low = math.frexp(value)[1] - 1

    def radius(self) -> Array:
        """relative * |mid| + absolute, as an array (times 2^exponent)."""
        with _radii():
            if self.relative == 0:
                return np.zeros(self.shape) if self.absolute is None else self.absolute
            spread = np.abs(self.mid) * (self.relative * UP)
            return spread if self.absolute is None else spread + self.absolute

    def replace(self, **changes: Any) -> Self:
        """A ball with the same values and another radius or sign."""
        old: dict[str, Any] = {
            "exponent": self.exponent,
            "relative": self.relative,
            "absolute": self.absolute,
            "sign": self._sign,
            "low": self._low,
            "high": self._high,
        }
        return type(self)(self.arithmetic, self.parts, **(old | changes))

    def __getitem__(self, index: Any) -> FloatBall:
        return FloatBall(
            self.arithmetic,
            tuple(np.asarray(p[index]) for p in self.parts),
            exponent=None if self.exponent is None else np.asarray(self.exponent[index]),
            relative=self.relative,
            absolute=None if self.absolute is None else np.asarray(self.absolute[index]),
            sign=self._sign,
            low=self._low,
            high=self._high,
        )

    def __neg__(self) -> FloatBall:
        return FloatBall(
            self.arithmetic,
            tuple(-p for p in self.parts),
            exponent=self.exponent,
            relative=self.relative,
            absolute=self.absolute,
            sign=None if self._sign is None else _flipped(self._sign),
            low=self._low,
            high=self._high,
        )

    def __add__(self, other: FloatBall) -> FloatBall:
        return self.arithmetic.add(self, other)

    def __sub__(self, other: FloatBall) -> FloatBall:
        return self.arithmetic.add(self, -other)

    def __mul__(self, other: FloatBall) -> FloatBall:
        return self.arithmetic.mul(self, other)

    def __truediv__(self, other: FloatBall) -> FloatBall:
        return self.arithmetic.div(self, other)

    def normalised(self) -> FloatBall:
        """The same balls with an exponent array: 2^-400 <= |mid| <= 1 or 0, radius <= 1 (or inf).

        An exact 0 gets the exponent ``BOTTOM``. A midpoint that is 2^400 times smaller than its
        radius becomes 0, and goes into the radius.
        """
        size = np.abs(self.mid)
        absolute = self.absolute
        if absolute is not None:
            size = np.maximum(size, np.where(np.isfinite(absolute), absolute, 0.0))
        shift = np.frexp(size)[1].astype(np.int64)
        parts = tuple(_scaled(p, -shift) for p in self.parts)
        if absolute is not None:
            with _radii():
                absolute = _scaled(absolute, -shift) + TINY * (absolute > 0)
                lost = (np.abs(parts[0]) < 2.0**-400) & (parts[0] != 0)
                absolute = absolute + 2.0**-399 * lost
            parts = tuple(np.where(lost, 0.0, p) for p in parts)
        exponent = shift if self.exponent is None else self.exponent + shift
        empty = size == 0
        if absolute is not None:
            empty &= ~(absolute > 0) & ~np.isnan(absolute)
        return FloatBall(
            self.arithmetic,
            parts,
            exponent=np.where(empty, BOTTOM, exponent),
            relative=0.0 if self.relative == 0 and len(parts) == 1 else self.relative + _SPILL,
            absolute=absolute,
            sign=self._sign,
            low=-1 if absolute is None else -400,
            high=0,
        )

    def at_exponent(self, target: IntArray) -> FloatBall:
        """Normalised balls rewritten for larger exponents; what is ``_GONE`` bits below is radius."""
        assert self.exponent is not None
        shift = self.exponent - target
        gone = shift < -_GONE
        shift = np.maximum(shift, -_GONE)
        parts = tuple(np.where(gone, 0.0, _scaled(p, shift)) for p in self.parts)
        extra = np.where(gone & (self.exponent > BOTTOM), 2.0 ** (2 - _GONE), 0.0)
        absolute: Array | None = extra if extra.any() else None
        if self.absolute is not None:
            with _radii():
                moved = _scaled(np.broadcast_to(self.absolute, parts[0].shape), shift)
                moved = np.where(gone, 0.0, moved + TINY * (self.absolute > 0))
                absolute = _plus(absolute, np.where(np.isfinite(self.absolute), moved, math.inf))
        spill = 0.0 if self.relative == 0 and len(parts) == 1 else _SPILL
        return FloatBall(
            self.arithmetic,
            parts,
            exponent=target,
            relative=self.relative + spill,
            absolute=absolute,
            sign=self._sign,
            high=0,
        )


def _flipped(sign: int) -> int:
    return ((sign & NONNEGATIVE) and NONPOSITIVE) | ((sign & NONPOSITIVE) and NONNEGATIVE)


def _product_sign(a: FloatBall, b: FloatBall) -> int | None:
    """What the signs of the factors say; None (to be looked up later) where looking is enough."""
    if None in (a._sign, b._sign) and a.absolute is None and b.absolute is None:
        return None
    x, y = a.sign, b.sign
    return (NONNEGATIVE if x & y else 0) | (NONPOSITIVE if _flipped(x) & y else 0)


class FloatArithmetic(ABC):
    """Ball arithmetic over arrays, by kernels that a tier supplies with their error bounds.

    The class axis is the last one. Every method is vectorised and broadcasts.
    """

    words: int
    """Words of a midpoint."""

    ADD: float
    MUL: float
    DIV: float
    EXP: float
    EXPM1: float
    PHI: float
    LOG: float
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

    @abstractmethod
    def _exp(self, a: Parts) -> tuple[Parts, IntArray]:
        """e^a = parts * 2^k with parts in [0.7, 1.42), for |a| <= LIMIT."""

    @abstractmethod
    def _exp_easy(self, a: Parts) -> Parts:
        """e^a for |a| <= 600."""

    @abstractmethod
    def _expm1(self, a: Parts) -> Parts:
        """e^a - 1 for |a| <= 600."""

    @abstractmethod
    def _phi(self, a: Parts) -> Parts:
        """e^a - 1 - a for |a| <= 600."""

    @abstractmethod
    def _log(self, a: Parts, k: Array | None) -> tuple[Parts, Mask]:
        """log(a 2^k) for a > 0 within 2^+-900, and where the bound is confirmed."""

    @abstractmethod
    def _log1p(self, a: Parts) -> tuple[Parts, Mask]:
        """log(1 + a) for -1 < a < 2^900, and where the bound is confirmed."""

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
            hi, lo = blocked(two_sum, a, -b)
            return FloatBall(self, self._two_words(hi, lo))
        big = np.maximum(np.abs(a), np.abs(b)) >= 2.0**1000
        factor = np.where(big, 0.25, 1.0)
        hi, lo = two_sum(a * factor, -b * factor)
        exponent = np.where(big, 2, 0)
        return FloatBall(self, self._two_words(hi, lo), exponent=exponent, relative=2.0**-1000)

    def _two_words(self, hi: Array, lo: Array) -> Parts:
        """Words of hi + lo; binary64 keeps the second one until it is consumed."""
        return hi, lo

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
            absolute=rest if a.absolute is None else _plus(rest, a.absolute),
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
        absolute = _plus(a.absolute, b.absolute)
        relative = self.ADD
        if sign:
            relative = compound(max(a.relative, b.relative), self.ADD)
        elif not exact:
            spread = [np.abs(x.mid) * (x.relative * UP**2) for x in (a, b) if x.relative]
            absolute = _plus(absolute, *spread)
        if absolute is not None:
            with _radii():
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
            with _radii():
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
        zero = b.mid == 0
        if zero.any():
            parts = (np.where(zero, 1.0, b.mid), *b.parts[1:])
            wide = np.where(zero, math.inf, 0.0 if b.absolute is None else b.absolute)
            b = FloatBall(
                self, parts, exponent=b.exponent, relative=b.relative, absolute=wide, sign=b._sign
            )
        floor = -_SAFE if a.absolute is None and b.absolute is None else _SAFE_RADIUS
        if not (
            min(a.low, b.low, a.low - b.high) >= floor
            and max(a.high, b.high, a.high - b.low) <= _SAFE
        ):
            a, b = a.normalised(), b.normalised()
        parts = self._div(a.parts, b.parts)
        absolute = None
        if a.absolute is not None or b.absolute is not None:
            with _radii():
                rx = np.zeros(()) if a.absolute is None else a.absolute
                ry = np.zeros(()) if b.absolute is None else b.absolute
                least = np.abs(b.mid) * ((1 - b.relative) / UP) - ry * UP
                quotient = np.abs(parts[0]) * ((1 + a.relative) * (1 + 4 * b.relative) * UP)
                spread = (rx + quotient * ry + TINY * (ry > 0)) / least * UP**2 + TINY * (rx > 0)
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
        with _radii():
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
        spans = (a._low, b._low, a._high, b._high)
        low, high = (None, None) if None in spans else (
            min(a.low, b.low), max(a.high, b.high)
        )  # fmt: skip
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

    # ------------------------------------------------------------------ functions

    @quiet
    def exp(self, a: FloatBall) -> FloatBall:
        """e^a.

        The kernel is within EXP; a radius r of a costs e^a (e^r - 1), and e^r - 1 <= r + r^2 for
        r <= 1 (beyond, the whole line). Below -2^50 the result is 0 with radius 2^-2^50.
        """
        if a.exponent is None:
            bottom, top = float(a.mid.min(initial=0.0)), float(a.mid.max(initial=0.0))
            if -_EASY <= bottom and top <= _EASY:
                parts = self._exp_easy(a.parts)
                absolute = None
                if not a.is_exact:
                    with _radii():
                        absolute = parts[0] * _exponential_spread(_spread(a))
                return FloatBall(
                    self,
                    parts,
                    relative=self.EXP,
                    absolute=absolute,
                    sign=NONNEGATIVE,
                    low=math.floor(bottom * 1.4427) - 2,
                    high=math.ceil(top * 1.4427) + 2,
                )
        words, spread = self._plain(a)
        with _radii():
            far = words[0] + spread < -LIMIT
            wide = ~far & ~((spread < 1.0) & (words[0] + spread < LIMIT))
        skip = far | wide
        parts, exponent = self._exp(tuple(np.where(skip, 0.0, w) for w in words))
        with _radii():
            absolute = parts[0] * _exponential_spread(spread)
        absolute = np.where(far, 1.0, np.where(wide, math.inf, absolute))
        if a.is_exact and not skip.any():
            absolute = None
        return FloatBall(
            self,
            tuple(np.where(far, 0.0, p) for p in parts),
            exponent=np.where(far, -int(LIMIT), exponent),
            relative=self.EXP,
            absolute=absolute,
            sign=NONNEGATIVE,
            low=-1,
            high=1,
        )

    @quiet
    def expm1(self, a: FloatBall) -> FloatBall:
        """e^a - 1: the kernel is within EXPM1; a radius r costs e^a (r + r^2) for r <= 1.

        Tiny a: itself, within 2^-109. Below -600: -1, within 2^-860. Above 600: e^a, likewise.
        """
        return self._by_range(
            a,
            self._expm1_near,
            lambda b: self.exact(np.full(b.shape, -1.0)).replace(relative=2.0**-860),
            lambda b: self._looser(self.exp(b), 2.0**-860),
            self._itself,
        )

    def _expm1_near(self, a: FloatBall) -> FloatBall:
        parts = self._expm1(a.parts[: self.words])
        absolute = None
        if not a.is_exact:
            with _radii():
                absolute = (np.abs(parts[0]) + 1) * _exponential_spread(_spread(a))
        sign = a._sign if a._sign is not None else (a.sign if absolute is not None else None)
        return FloatBall(self, parts, relative=self.EXPM1, absolute=absolute, sign=sign)

    @quiet
    def phi(self, a: FloatBall) -> FloatBall:
        """e^a - 1 - a: the kernel is within PHI; phi' = e^a - 1 bounds what a radius costs.

        |phi(a + h) - phi(a)| <= r (|e^a - 1| + e^a (r + r^2)) for |h| <= r <= 1, where
        |e^a - 1| <= phi(a) + |a|. Tiny a: a^2 / 2, within 2^-109. Below -600: -1 - a, and above
        600: e^a, within 2^-850.
        """
        one = self.exact(np.ones(()))
        result = self._by_range(
            a,
            self._phi_near,
            lambda b: self._looser(-b - one, 2.0**-850),
            lambda b: self._looser(self.exp(b), 2.0**-850),
            lambda b: self._looser(b * b * self.exact(np.full((), 0.5)), 2.0**-109),
        )
        return result.replace(sign=NONNEGATIVE)

    def _phi_near(self, a: FloatBall) -> FloatBall:
        parts = self._phi(a.parts[: self.words])
        absolute = None
        if not a.is_exact:
            with _radii():
                r = _spread(a)
                slope = (np.abs(parts[0]) + np.abs(a.mid)) * UP
                absolute = r * (slope + (1 + slope) * _exponential_spread(r)) * UP + TINY * (r > 0)
        return FloatBall(self, parts, relative=self.PHI, absolute=absolute, sign=NONNEGATIVE)

    @quiet
    def log(self, a: FloatBall) -> FloatBall:
        """log a for a > 0: the kernel is within LOG; a relative radius p costs p / (1 - p).

        Where the ball reaches 0 the result is the whole line.
        """
        a = self._single(a).normalised()
        assert a.exponent is not None
        good = (a.mid > 0) & (np.abs(a.exponent) < 1 << 53)
        with _radii():
            p = a.radius() / np.where(good, a.mid, 1.0) * UP
            good &= p < 0.5
            absolute = p / (1 - p) * UP
        safe = tuple(np.where(good, w, 0.5 if i == 0 else 0.0) for i, w in enumerate(a.parts))
        parts, confirmed = self._log(safe, a.exponent.astype(np.float64))
        wide = ~(good & confirmed)
        bound: Array | None = np.where(wide, math.inf, absolute)
        if a.is_exact and not wide.any():
            bound = None
        return FloatBall(self, parts, relative=self.LOG, absolute=bound)

    @quiet
    def log1p(self, a: FloatBall) -> FloatBall:
        """log(1 + a) for a > -1: the kernel is within LOG.

        For a >= 0, log1p(a) >= a / (1 + a), so a relative radius stays what it is (over 1 - e).
        Otherwise a radius r costs r / (1 + a - r). Tiny a: itself, within 2^-109. Above 2^110:
        log a, to which 1 / a adds less than 2^-116 of it.
        """
        return self._by_range(
            a,
            self._log1p_near,
            self._log1p_near,
            lambda b: self._looser(self.log(b), 2.0**-110),
            self._itself,
            edge=2.0**110,
        )

    def _log1p_near(self, a: FloatBall) -> FloatBall:
        a = self._single(a)
        inside = a.mid > -1
        safe = a.parts
        if not inside.all():
            safe = tuple(np.where(inside, w, 0.0) for w in a.parts)
        parts, confirmed = self._log1p(safe)
        relative, absolute = self.LOG, None
        nonnegative = a.sign & NONNEGATIVE
        if nonnegative and a.absolute is None:
            relative = compound(a.relative, self.LOG)
        elif not a.is_exact:
            with _radii():
                r = _spread(a)
                # 1 + a from both words: rounding it is safe where a is far from -1 only.
                least = (1 + a.mid) + sum(a.parts[1:]) - r * UP
                least = least - 2.0**-50 * np.abs(least)
                inside &= least > 0
                absolute = r / np.where(inside, least, 1.0) * UP
        wide = ~(inside & confirmed)
        if wide.any():
            absolute = np.where(wide, math.inf, 0.0 if absolute is None else absolute)
        sign = a._sign if a._sign is not None else (a.sign if absolute is not None else None)
        return FloatBall(self, parts, relative=relative, absolute=absolute, sign=sign)

    def _by_range(
        self,
        a: FloatBall,
        near: Callable[[FloatBall], FloatBall],
        below: Callable[[FloatBall], FloatBall],
        above: Callable[[FloatBall], FloatBall],
        tiny: Callable[[FloatBall], FloatBall],
        edge: float = _EASY,
    ) -> FloatBall:
        """Apply the form that fits each element's range, and put them together."""
        if a.exponent is None and a.mid.size:
            lowest, highest = a.mid.min(), a.mid.max()
            if -_EASY <= lowest and highest <= edge and a.low >= _SMALL:
                if a.absolute is None:
                    return near(a)
                with _radii():
                    if float((np.abs(a.mid) + a.absolute).min()) >= 2.0**_SMALL:
                        return near(a)
        words, spread = self._plain(a)
        with _radii():
            is_tiny = np.abs(words[0]) + spread < 2.0**_SMALL
            is_below = words[0] + spread < -_EASY
            is_above = words[0] - spread > edge
        # Balls that reach from one range far into another tell nothing.
        wild = ((words[0] < -_EASY - 2) & ~is_below) | ((words[0] > 2 * edge) & ~is_above)
        if edge == _EASY:
            wild |= (words[0] > edge + 2) & ~is_above
        rest = is_tiny | is_below | is_above | wild
        zero = FloatBall(self, (np.zeros(()), np.zeros(()))[: len(a.parts)])
        middle = self.where(~rest, a, zero)
        # The middle is representable without exponents, the rest of it being 0 now.
        parts, spread = self._plain(middle)
        absolute = None if middle.is_exact else spread
        result = near(FloatBall(self, parts, absolute=absolute, sign=a._sign))
        one = self.exact(np.ones(()))
        for mask, form, filler in (
            (is_tiny, tiny, zero),
            (is_below, below, -one),
            (is_above, above, one),
        ):
            if mask.any():
                result = self.where(mask, form(self.where(mask, a, filler)), result)
        if wild.any():
            absolute = np.zeros(()) if result.absolute is None else result.absolute
            result = result.replace(absolute=np.where(wild, math.inf, absolute))
        return result

    def _itself(self, a: FloatBall) -> FloatBall:
        return self._looser(self._single(a), 2.0**-109)

    def _looser(self, a: FloatBall, relative: float) -> FloatBall:
        """The same balls, for values that differ by another relative error."""
        absolute = None if a.absolute is None else a.absolute * (1 + 2 * relative)
        return a.replace(relative=compound(a.relative, relative), absolute=absolute)

    def _plain(self, a: FloatBall) -> tuple[Parts, Array]:
        """Words and radii without exponents, for |a| clipped to 2^60 (keeping the ratio of both).

        Below 2^-1000 the words underflow, which goes into the radius.
        """
        if a.exponent is None and a.high <= 60:
            return a.parts, _spread(a)
        size = np.frexp(a.mid)[1].astype(np.int64)
        exponent = np.zeros((), np.int64) if a.exponent is None else a.exponent
        shift = np.minimum(exponent, 60 - size)
        words = tuple(_scaled(p, shift) for p in a.parts)
        with _radii():
            spread = _scaled(_spread(a), shift)
            lost = (exponent + size < -900) & ((a.mid != 0) | (spread > 0))
        return words, spread + 2.0**-1000 * lost

    # ------------------------------------------------------------------ results

    @quiet
    def expand(self, a: FloatBall) -> tuple[Array, Array, IntArray, Array]:
        """Return (hi, lo, exponent, radius): the value is within radius of hi + lo, all times
        2^exponent, with 1/2 <= |hi| < 1 or hi = 0. A radius of inf is the whole line.
        """
        hi, shift = np.frexp(a.mid)
        scale = shift.astype(np.int64)
        lo = _scaled(a.parts[1], -scale) if len(a.parts) > 1 else np.zeros(hi.shape)
        spill = 2.0**-1000 if a.relative or len(a.parts) > 1 else 0.0
        with _radii():
            radius = np.abs(hi) * ((a.relative + spill) * UP)
            if a.absolute is not None:
                radius = radius + _scaled(a.absolute, -scale) + TINY * (a.absolute > 0)
                radius = np.where(np.isfinite(radius), radius, math.inf)
        exponent = scale if a.exponent is None else scale + a.exponent
        return hi, lo, exponent, radius

    @quiet
    def enclosure(self, a: FloatBall) -> tuple[Array, Array]:
        """Return (lower, upper), float64 numbers between which the true values lie.

        To decide a rounding to a narrower format it is enough that both ends round alike.
        """
        with _radii():
            low = a.low if a.exponent is None else -1100
            spread = np.abs(a.mid) * ((a.relative + 2.0**-51) * UP)
            if a.absolute is not None:
                spread = (spread + a.absolute) * UP
            if len(a.parts) > 1:
                spread = (spread + np.abs(a.parts[1])) * UP
            lower, upper = a.mid - spread, a.mid + spread
            if a.exponent is not None:
                lower, upper = _scaled(lower, a.exponent), _scaled(upper, a.exponent)
            if low < -900 or a.absolute is not None:
                # Subnormal, overflown or undefined ends: one step outwards covers their rounding.
                whole = ~(spread < math.inf)
                lower = np.where(whole, -math.inf, np.nextafter(lower, -math.inf))
                upper = np.where(whole, math.inf, np.nextafter(upper, math.inf))
            if a.absolute is not None:
                # The sign is known better than the ball does.
                if a.sign & NONNEGATIVE:
                    lower = np.maximum(lower, 0.0)
                if a.sign & NONPOSITIVE:
                    upper = np.minimum(upper, 0.0)
        return lower, upper


def _depth(a: FloatBall) -> int:
    return a.low if a.relative else 0


def _spread(a: FloatBall) -> Array:
    """Radii of the words without exponent; never 0 for an inexact number that is not 0."""
    with _radii():
        spread = a.radius()
        if a.relative:
            spread = spread + 2.0**-1000 * (a.mid != 0)
        return spread


def _exponential_spread(r: Array) -> Array:
    """Bound e^r - 1: r + r^2 for r < 1, else inf; at least 2^-130 so that it survives products."""
    return np.where(r < 1.0, (r + r * r) * UP + 2.0**-130 * (r > 0), math.inf)


def _combine(a: FloatBall, b: FloatBall, sign: int, shape: tuple[int, ...]) -> IntArray | None:
    """Exponents of a product (sign 1) or a quotient (sign -1)."""
    if a.exponent is None and b.exponent is None:
        return None
    # Halved and doubled nowhere: each is within 2^61, so the sum fits into 63 bits.
    x = np.zeros((), np.int64) if a.exponent is None else a.exponent
    y = np.zeros((), np.int64) if b.exponent is None else b.exponent
    return np.broadcast_to(x + sign * y, shape)


__all__ = ["FloatArithmetic", "FloatBall", "NDArray"]
