"""Constants of the exponential, made from integer arithmetic: nothing here is trusted to a libm.

With B = 14, L = ln 2 / 2^B and j = -2^(B-1) - PAD ... 2^(B-1) + PAD - 1 the tables hold, as
unevaluated sums high + low of two float64 numbers,

    T_j = 2^(j / 2^B),     M_j = T_j - 1,     Q_j = T_j - 1 - j L.

M and Q are tables of their own because T_j - 1 cancels for small j. Numbers are computed in fixed
point with 256 fractional bits; the accumulated error is below 2^-235 and the smallest non-zero
entry is Q_1 > 2^-31, so high + low is off by at most 2^-106 of the entry (two roundings to
nearest of 53 bits, and the sign bit of low).
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np

from ._eft import Array, split

BITS = 14
"""Binary logarithm of the number of table entries per octave."""

STEPS = 1 << BITS
PAD = 128
"""Entries beyond half an octave on either side, so that |d| <= 0.35 needs no exponent."""

_FRACTION = 256
_ONE = 1 << _FRACTION


def _ln2() -> int:
    """Return ln 2 in fixed point: 2 atanh(1/3) = 2 sum 3^-(2k+1) / (2k+1)."""
    guard = 32
    power = (2 << (_FRACTION + guard)) // 3
    total, k = 0, 0
    while power:
        total += power // (2 * k + 1)
        power //= 9
        k += 1
    return total >> guard


LN2_FIXED = _ln2()


def _leading(value: int, scale: int, bits: int) -> tuple[float, int]:
    """Return value / 2^scale truncated to ``bits`` bits, and the remainder in the same scale."""
    drop = value.bit_length() - bits
    kept = (value >> drop) << drop
    return kept / (1 << scale), value - kept


def _parts(value: int, scale: int, *bits: int) -> tuple[float, ...]:
    """Return value / 2^scale as a sum of floats with the given numbers of bits."""
    result = []
    for width in bits:
        part, value = _leading(value, scale, width)
        result.append(part)
    return tuple(result)


STEP_1, STEP_2, STEP_3 = _parts(LN2_FIXED, _FRACTION + BITS, 29, 29, 53)
"""L = ln 2 / 2^B in 29 + 29 + 53 bits: N STEP_1 and N STEP_2 are exact for |N| < 2^24."""

LN2_PARTS = _parts(LN2_FIXED, _FRACTION, 53, 53, 53)
"""ln 2 to 159 bits, for arguments so large that k ln 2 must be subtracted to many bits."""

LN2_HIGH = LN2_FIXED / _ONE
LN2_LOW = (LN2_FIXED - int(math.ldexp(LN2_HIGH, 60)) * (1 << (_FRACTION - 60))) / _ONE
"""ln 2 = LN2_HIGH + LN2_LOW to 2^-107."""

PER_STEP = (1 << (2 * _FRACTION + BITS)) // LN2_FIXED / _ONE
"""2^B / ln 2, rounded."""


@dataclass(frozen=True)
class ExponentialTables:
    """T, M and Q of the module's docstring.

    ``octave_*`` are T for -2^(B-1) <= j < 2^(B-1) alone, and Veltkamp's high part of it.
    """

    power_high: Array
    power_low: Array
    minus_one_high: Array
    minus_one_low: Array
    remainder_high: Array
    remainder_low: Array
    octave_high: Array
    octave_low: Array
    octave_split: Array


@functools.cache
def tables() -> ExponentialTables:
    """Return the tables, built on first use (some 0.1 s)."""
    root = 2 << _FRACTION
    for _ in range(BITS):
        root = math.isqrt(root << _FRACTION)
    count = STEPS + 2 * PAD
    first = -(STEPS // 2) - PAD
    # 2^(first / STEPS): start half an octave down, then PAD steps more.
    power = math.isqrt(1 << (2 * _FRACTION - 1))
    for _ in range(PAD):
        power = (power << _FRACTION) // root
    columns: list[list[int]] = [[], [], []]
    for i in range(count):
        j = first + i
        value = _ONE if j == 0 else power
        columns[0].append(value)
        columns[1].append(value - _ONE)
        columns[2].append(value - _ONE - ((j * LN2_FIXED) >> BITS) if j else 0)
        power = (power * root) >> _FRACTION
    (th, tl), (mh, ml), (qh, ql) = (_double_word(c) for c in columns)
    octave = slice(PAD, PAD + STEPS)
    return ExponentialTables(th, tl, mh, ml, qh, ql, th[octave], tl[octave], split(th[octave])[0])


def _double_word(values: list[int]) -> tuple[Array, Array]:
    """Return correctly rounded high parts, and low parts that hold what they left over."""
    high = [v / _ONE for v in values]
    # A float64 above 2^-31 has no bit below 2^-84: shifting by 128 turns it into an integer.
    low = [
        (v - (int(math.ldexp(h, 128)) << (_FRACTION - 128))) / _ONE
        for v, h in zip(values, high, strict=True)
    ]
    return np.array(high), np.array(low)
