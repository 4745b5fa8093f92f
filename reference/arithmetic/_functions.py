"""Exponential, logarithm and their relatives of balls over float64 words, whatever the tier.

A kernel covers the range where neither overflow nor underflow is near. Outside it the functions are
something simpler: e^x - 1 and log(1 + x) are x itself for tiny x, e^x - 1 is e^x or -1 for large
|x|, and so on; each docstring says what that costs. Beyond |x| = 2^50, e^x is a ball around 0 of
radius 2^-2^50, or the whole line.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable

import numpy as np

from ._ball import NONNEGATIVE, TINY, UP, FloatBall, Parts, compound, quiet, radii, scaled
from ._eft import Array, IntArray
from ._ring import RingArithmetic
from .base import Mask

LIMIT = 2.0**50
"""|x| up to which e^x is computed; beyond, it is 0 or the whole line."""

EASY = 600.0
"""|x| up to which e^x needs no exponent array."""
_SMALL = -110  # below 2^-110, e^x - 1 and log(1 + x) are x


class FloatArithmetic(RingArithmetic):
    """The whole interface; a tier supplies the kernels."""

    EXP: float
    EXPM1: float
    PHI: float
    LOG: float
    """Bounds of the relative errors of the kernels, each derived beside its kernel."""

    @abstractmethod
    def _exp(self, a: Parts) -> tuple[Parts, IntArray]:
        """e^a = parts * 2^k with parts in [0.7, 1.42), for |a| <= LIMIT."""

    @abstractmethod
    def _exp_easy(self, a: Parts) -> Parts:
        """e^a for |a| <= 600."""

    @abstractmethod
    def _expm1(self, a: Parts) -> Parts:
        """e^a - 1 for |a| <= 602."""

    @abstractmethod
    def _phi(self, a: Parts) -> Parts:
        """e^a - 1 - a for |a| <= 602."""

    @abstractmethod
    def _log(self, a: Parts, k: Array | None) -> tuple[Parts, Mask]:
        """log(a 2^k) for a > 0 within 2^+-900, and where the bound is confirmed."""

    @abstractmethod
    def _log1p(self, a: Parts) -> tuple[Parts, Mask]:
        """log(1 + a) for -1 < a < 2^900, and where the bound is confirmed."""

    @quiet
    def exp(self, a: FloatBall) -> FloatBall:
        """e^a.

        The kernel is within EXP; a radius r of a costs e^a (e^r - 1), and e^r - 1 <= r + r^2 for
        r <= 1 (beyond, the whole line). Below -2^50 the result is 0 with radius 2^-2^50.
        """
        if a.exponent is None:
            bottom, top = float(a.mid.min(initial=0.0)), float(a.mid.max(initial=0.0))
            if bottom >= -EASY and top <= EASY:
                parts = self._exp_easy(a.parts)
                absolute = None
                if not a.is_exact:
                    with radii():
                        absolute = parts[0] * _exponential_spread(_spread(a))
                return self._exponential(parts, bottom, top, absolute)
        words, spread = self._plain(a)
        with radii():
            far = words[0] + spread < -LIMIT
            wide = ~far & ~((spread < 1.0) & (words[0] + spread < LIMIT))
        skip = far | wide
        parts, exponent = self._exp(tuple(np.where(skip, 0.0, w) for w in words))
        with radii():
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

    def exp_difference(self, a: Array, b: Array) -> FloatBall:
        """e^(a - b)."""
        return self.exp(self.difference(a, b))

    def _exponential(
        self, parts: Parts, bottom: float, top: float, absolute: Array | None = None
    ) -> FloatBall:
        """What a kernel made of exponents between two numbers."""
        return FloatBall(
            self,
            parts,
            relative=self.EXP,
            absolute=absolute,
            sign=NONNEGATIVE,
            low=math.floor(bottom * 1.4427) - 2,
            high=math.ceil(top * 1.4427) + 2,
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
        a = self._single(a)
        parts = self._expm1(a.parts)
        absolute = None
        if not a.is_exact:
            with radii():
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
        a = self._single(a)
        parts = self._phi(a.parts)
        absolute = None
        if not a.is_exact:
            with radii():
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
        with radii():
            p = a.radius() / np.where(good, a.mid, 1.0) * UP
            good &= p < 0.5
            absolute = p / (1 - p) * UP + TINY * (p > 0)
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
        Otherwise a radius r costs r / (1 + a - r), and a ball that reaches -1 gives the whole line.
        Tiny a: itself, within 2^-109. Above 2^110: log a, to which 1 / a adds less than 2^-116 of
        it.
        """
        return self._by_range(
            a,
            self._log1p_near,
            lambda b: self.exact(np.zeros(b.shape)).replace(absolute=np.full(b.shape, math.inf)),
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
            with radii():
                r = _spread(a)
                # 1 + a from both words: rounding it is safe where a is far from -1 only.
                least = (1 + a.mid) + sum(a.parts[1:]) - r * UP
                least = least - 2.0**-50 * np.abs(least)
                inside &= least > 0
                absolute = r / np.where(inside, least, 1.0) * UP + TINY * (r > 0)
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
        edge: float = EASY,
    ) -> FloatBall:
        """Apply the form that fits each element's range, and put them together."""
        if a.exponent is None and a.mid.size:
            lowest, highest = a.mid.min(), a.mid.max()
            if lowest >= -EASY and highest <= edge and a.low >= _SMALL:
                if a.absolute is None:
                    return near(a)
                with radii():
                    if float((np.abs(a.mid) + a.absolute).min()) >= 2.0**_SMALL:
                        return near(a)
        words, spread = self._plain(a)
        with radii():
            is_tiny = np.abs(words[0]) + spread < 2.0**_SMALL
            is_below = words[0] + spread < -EASY
            is_above = words[0] - spread > edge
        # Kernels go a little beyond the ranges' edges. Balls that reach from one range far into
        # another tell nothing.
        wild = (words[0] < -1.003 * EASY) & ~is_below
        wild |= (words[0] > 1.003 * edge) & ~is_above
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
        absolute = a.absolute
        if absolute is not None:
            with radii():
                absolute = absolute * (1 + 2 * relative) + TINY * (absolute > 0)
        return a.replace(relative=compound(a.relative, relative), absolute=absolute)

    def _plain(self, a: FloatBall) -> tuple[Parts, Array]:
        """Words and radii without exponents, for |a| clipped to 2^900 (keeping the ratio of both).

        Below 2^-1000 the words underflow, which goes into the radius.
        """
        if a.exponent is None and a.high <= 900:
            return a.parts, _spread(a)
        size = np.frexp(a.mid)[1].astype(np.int64)
        exponent = np.zeros((), np.int64) if a.exponent is None else a.exponent
        shift = np.minimum(exponent, 900 - size)
        words = tuple(scaled(p, shift) for p in a.parts)
        with radii():
            spread = scaled(_spread(a), shift)
            lost = (exponent + size < -900) & ((a.mid != 0) | (spread > 0))
        return words, spread + 2.0**-1000 * lost


def _spread(a: FloatBall) -> Array:
    """Radii of the words without exponent; never 0 for an inexact number that is not 0."""
    with radii():
        spread = a.radius()
        if a.relative:
            spread = spread + 2.0**-1000 * (a.mid != 0)
        return spread


def _exponential_spread(r: Array) -> Array:
    """Bound e^r - 1: r + r^2 for r < 1, else inf; at least 2^-130 so that it survives products."""
    return np.where(r < 1.0, (r + r * r) * UP + 2.0**-130 * (r > 0), math.inf)
