"""The ball over float64 words: what binary64 and double-double have in common.

A :class:`FloatBall` is an array of midpoints, each an unevaluated sum of float64 words times
2^exponent, with a radius in two parts:

    |value - mid| <= relative * |mid| + absolute        (times 2^exponent)

``relative`` is one number for the whole array, so that products, quotients, exponentials and sums
of one sign, which is most of what operators on logits do, cost no radius arithmetic at all.
``absolute`` is an array that exists only where it is needed: after a sum of mixed signs, or a
function of something inexact. A radius that is not finite stands for the whole real line; radius
arithmetic may therefore overflow, and meet inf * 0 = nan, without harm.

Range. As long as nothing comes near the ends of float64's range, which is decided for the whole
array from the exponents ``low`` and ``high``, there is no exponent array and every operation is
its kernel. Otherwise both operands are normalised, and the binary exponent is an int64 array of its
own from there on: nothing overflows and nothing underflows.

Radii are computed in float64 with fewer than 2^9 roundings each and scaled by ``UP`` = 1 + 2^-40;
where a radius might be subnormal, so that this is no margin, ``TINY`` is added. An exact 0 stays
exact.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Self, TypeVar

import numpy as np

from ._eft import Array, IntArray

if TYPE_CHECKING:
    from ._ring import RingArithmetic

Parts = tuple[Array, ...]

UP = 1 + 2.0**-40
TINY = 2.0**-1060

NONNEGATIVE, NONPOSITIVE = 1, 2
"""Bits of :attr:`FloatBall.sign`; an array of exact zeros has both."""

BOTTOM = -(1 << 61)
"""Smallest exponent carried, and the exponent of an exact 0."""

_GONE = 500  # a term this many bits below another one becomes part of the radius
_SPILL = 2.0**-500  # relative cost of low words that underflow when a number is scaled

P = ParamSpec("P")
R = TypeVar("R")
_S = TypeVar("_S")


def compound(*errors: float) -> float:
    """Bound the relative error that several relative errors make together.

    prod (1 + e_i) / prod (1 - e_j) - 1 <= s / (1 - s) with s = sum of all e, for s < 1. Beyond a
    quarter it is not followed any more, so that a bound that is finite is at most a third.
    """
    total = sum(errors)
    return total / (1 - total) * UP if total < 0.25 else math.inf


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


def radii() -> np.errstate:
    """Radii may overflow to inf, and inf * 0 is nan: both mean the whole line."""
    return np.errstate(over="ignore", invalid="ignore", under="ignore", divide="ignore")


def plus(*terms: Array | None) -> Array | None:
    """Sum of the radii that exist."""
    present = [t for t in terms if t is not None]
    if not present:
        return None
    with radii():
        total: Array = sum(present[1:], present[0])
        return total


def scaled(values: Array, shift: Any) -> Array:
    """values * 2^shift, where shift may be any int64."""
    result: Array = np.ldexp(values, np.clip(shift, -4000, 4000).astype(np.int32))
    return result


class FloatBall:
    """An array of balls; made by an arithmetic, immutable by convention.

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
        arithmetic: RingArithmetic,
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
    def spans(self) -> bool:
        """Whether low and high are known without looking."""
        return self._low is not None and self._high is not None

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
        with radii():
            if self.relative == 0:
                return np.zeros(self.shape) if self.absolute is None else self.absolute
            spread: Array = np.abs(self.mid) * (self.relative * UP) + 2.0**-1074 * (self.mid != 0)
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
            sign=None if self._sign is None else flipped(self._sign),
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

    @quiet
    def expand(self) -> tuple[Array, Array, IntArray, Array]:
        """Return (hi, lo, exponent, radius): the value is within radius of hi + lo, all times
        2^exponent, with 1/2 <= |hi| < 1 or hi = 0. A radius of inf is the whole line.
        """
        hi, shift = np.frexp(self.mid)
        scale = shift.astype(np.int64)
        lo = scaled(self.parts[1], -scale) if len(self.parts) > 1 else np.zeros(hi.shape)
        spill = 2.0**-1000 if self.relative or len(self.parts) > 1 else 0.0
        with radii():
            radius = np.abs(hi) * ((self.relative + spill) * UP)
            if self.absolute is not None:
                radius = radius + scaled(self.absolute, -scale) + TINY * (self.absolute > 0)
                radius = np.where(np.isfinite(radius), radius, math.inf)
        exponent = scale if self.exponent is None else scale + self.exponent
        return hi, lo, exponent, radius

    @quiet
    def enclosure(self) -> tuple[Array, Array]:
        """Return (lower, upper), float64 numbers between which the true values lie.

        To decide a rounding to a narrower format it is enough that both ends round alike.
        """
        with radii():
            low = self.low if self.exponent is None else -1100
            spread = np.abs(self.mid) * ((self.relative + 2.0**-51) * UP)
            if self.absolute is not None:
                spread = (spread + self.absolute) * UP
            if len(self.parts) > 1:
                spread = (spread + np.abs(self.parts[1])) * UP
            lower, upper = self.mid - spread, self.mid + spread
            if self.exponent is not None:
                lower, upper = scaled(lower, self.exponent), scaled(upper, self.exponent)
            if low < -900 or self.absolute is not None:
                # Subnormal, overflown or undefined ends: one step outwards covers their rounding.
                whole = ~(spread < math.inf)
                lower = np.where(whole, -math.inf, np.nextafter(lower, -math.inf))
                upper = np.where(whole, math.inf, np.nextafter(upper, math.inf))
            if self.absolute is not None:
                # The sign is known better than the ball does.
                if self.sign & NONNEGATIVE:
                    lower = np.maximum(lower, 0.0)
                if self.sign & NONPOSITIVE:
                    upper = np.minimum(upper, 0.0)
        return lower, upper

    def _spill(self) -> float:
        """What scaling may cost: low-order words that underflow."""
        return _SPILL if self.relative or any(w.any() for w in self.parts[1:]) else 0.0

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
        parts = tuple(scaled(p, -shift) for p in self.parts)
        if absolute is not None:
            with radii():
                absolute = scaled(absolute, -shift) + TINY * (absolute > 0)
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
            relative=self.relative + self._spill(),
            absolute=absolute,
            sign=self._sign,
            low=-1 if absolute is None else -400,
            high=0,
        )

    def at_exponent(self, target: IntArray) -> FloatBall:
        """Normalised balls at larger exponents; what is ``_GONE`` bits below becomes radius."""
        assert self.exponent is not None
        shift = self.exponent - target
        gone = shift < -_GONE
        shift = np.maximum(shift, -_GONE)
        parts = tuple(np.where(gone, 0.0, scaled(p, shift)) for p in self.parts)
        extra = np.where(gone & (self.exponent > BOTTOM), 2.0 ** (2 - _GONE), 0.0)
        absolute: Array | None = extra if extra.any() else None
        if self.absolute is not None:
            with radii():
                moved = scaled(np.broadcast_to(self.absolute, parts[0].shape), shift)
                moved = np.where(gone, 0.0, moved + TINY * (self.absolute > 0))
                absolute = plus(absolute, np.where(np.isfinite(self.absolute), moved, math.inf))
        return FloatBall(
            self.arithmetic,
            parts,
            exponent=target,
            relative=self.relative + self._spill(),
            absolute=absolute,
            sign=self._sign,
            high=0,
        )


def flipped(sign: int) -> int:
    return ((sign & NONNEGATIVE) and NONPOSITIVE) | ((sign & NONPOSITIVE) and NONNEGATIVE)
