"""References: exact answers as expansions, and their correct rounding to any format."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import formats
from .formats import F64, I64, Format
from .ops.base import EXACT, FORMULA, NAN, NEG_INF, POS_INF, UNDEFINED, ZERO

Parts = tuple[float, float, int]
"""(hi, lo, exponent)"""

FAR = 1 << 62
"""Exponents are kept within this; no format cares beyond."""

TIGHT = 20
"""Enclosures of decided elements are narrower than 2^-TIGHT ulp, which is 1e-6 ulp."""

SETTLED, BINARY64, DOUBLE_DOUBLE, MULTIPRECISION = range(4)
"""Which tier decided an element."""


@dataclass(frozen=True, eq=False)
class References:
    """Exact answers of a batch, shape (B, k).

    The value of a ``FORMULA`` or ``EXACT`` element is ``(hi + lo) * 2^exponent`` to 1e-6 ulp of the
    format it was evaluated for, on the right side of every rounding boundary of that format and of
    every power of two above its smallest normal number, where the ulp changes. ``0.5 <= |hi| < 1``.
    Zero, infinities, NaN and undefined elements are told by ``codes``.

    Attributes
    ----------
    hi, lo : ndarray of float64
    exponent : ndarray of int64
    codes : ndarray of uint8
        See :mod:`reference.ops.base`.
    tier : ndarray of uint8
        ``SETTLED``, ``BINARY64``, ``DOUBLE_DOUBLE`` or ``MULTIPRECISION``.
    format : Format
    """

    hi: F64
    lo: F64
    exponent: I64
    codes: NDArray[np.uint8]
    tier: NDArray[np.uint8]
    format: Format

    @property
    def shape(self) -> tuple[int, ...]:
        """(rows, results per row)."""
        return self.codes.shape

    @property
    def finite(self) -> NDArray[np.bool_]:
        """Elements whose answer is a real number."""
        return np.asarray(np.isin(self.codes, (FORMULA, EXACT, ZERO)))

    @property
    def nan(self) -> NDArray[np.bool_]:
        """Elements whose answer is NaN."""
        return np.asarray(self.codes == NAN)

    @property
    def undefined(self) -> NDArray[np.bool_]:
        """Elements for which the contract has no answer."""
        return np.asarray(self.codes == UNDEFINED)

    def rounded(self, fmt: Format | None = None) -> F64:
        """The correctly rounded results, NaN where NaN or undefined."""
        value = formats.round_expansion(fmt or self.format, self.hi, self.lo, self.exponent)
        return self._special(value)

    def approximate(self) -> F64:
        """The nearest float64, for display and plots (infinity beyond float64's range)."""
        return self.rounded(formats.FORMATS["float64"])

    def _special(self, value: F64) -> F64:
        for code, special in ((ZERO, 0.0), (POS_INF, np.inf), (NEG_INF, -np.inf),
                              (NAN, np.nan), (UNDEFINED, np.nan)):  # fmt: skip
            value = np.where(self.codes == code, special, value)
        return value

    def reshaped(self, shape: tuple[int, ...]) -> References:
        """The same references in another shape."""
        return replace(self, **{name: getattr(self, name).reshape(shape) for name in _ARRAYS})

    def rows(self, index: Any) -> References:
        """The references of some rows."""
        return replace(self, **{name: getattr(self, name)[index] for name in _ARRAYS})

    def assign(self, other: References) -> None:
        """Take over another's answers, of the same shape, in place; ``lo`` must hold zeros."""
        for name in _ARRAYS:
            if name != "lo" or any(other.lo.strides):  # else it is a single 0 in that shape
                getattr(self, name)[...] = getattr(other, name)


_ARRAYS = ("hi", "lo", "exponent", "codes", "tier")


def join(parts: Sequence[References]) -> References:
    """References of several batches of one format, one below the other."""
    joined: dict[str, Any] = {
        name: np.concatenate([getattr(p, name) for p in parts]) for name in _ARRAYS
    }
    return replace(parts[0], **joined)


def round_element(refs: References, row: int, index: int) -> float:
    """The correctly rounded value of one element by scalar integer arithmetic.

    The same as :meth:`References.rounded`, by another way: for checks of one by the other.
    """
    code = int(refs.codes[row, index])
    if code not in (FORMULA, EXACT):
        special = {ZERO: 0.0, POS_INF: math.inf, NEG_INF: -math.inf}
        return special.get(code, math.nan)
    man = int(math.ldexp(float(refs.hi[row, index]), 53))
    lo = float(refs.lo[row, index])
    sticky = (lo > 0) - (lo < 0)
    return formats.round_integer(refs.format, man, int(refs.exponent[row, index]) - 53, sticky)


def expand_mpf(value: Any) -> Parts:
    """A raw mpmath number as (hi, lo, exponent)."""
    sign, man, exp, _ = value
    return expand(int(-man if sign else man), int(exp), 0)


@lru_cache(maxsize=4096)
def expand_fraction(value: Fraction) -> Parts:
    """A rational as (hi, lo, exponent)."""
    num, den = abs(value.numerator), value.denominator
    shift = max(0, den.bit_length() - num.bit_length() + 128)
    man, rest = divmod(num << shift, den)
    return expand(-man if value < 0 else man, -shift, (rest != 0) * (-1 if value < 0 else 1))


def expand(man: int, exp: int, sticky: int) -> Parts:
    """(man + sticky * epsilon) * 2^exp as hi in [0.5, 1), lo with the right sign, exponent."""
    if man == 0:
        return 0.0, 0.0, 0
    length = man.bit_length()
    # Scaled to [0.5, 1): float(Fraction) rounds correctly, and no exponent can overflow here.
    scaled = formats.round_integer(formats.FORMATS["float64"], man, -length, sticky)
    rest = man - int(math.ldexp(scaled, 53)) * (1 << (length - 53)) if length > 53 else 0
    lo = formats.round_integer(formats.FORMATS["float64"], rest, -length, sticky)
    exponent = exp + length
    if abs(scaled) == 1.0:
        scaled, lo, exponent = scaled / 2, lo / 2, exponent + 1
    if lo == 0 and (rest or sticky):
        lo = 5e-324 if (rest or sticky) > 0 else -5e-324
    return scaled, lo, max(-FAR, min(FAR, exponent))
