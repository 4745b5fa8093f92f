"""Floating-point formats and correct rounding, on integers.

A format is binary with precision ``p`` (implicit bit included) and exponents ``emin..emax``; its
finite values are ``m * 2^(e - p + 1)`` with integer ``m``, ``|m| < 2^p`` and ``emin <= e <= emax``.
Every value of every format here is exactly a float64, so arrays of format values are held as
float64 throughout ``reference``.

Rounding is done once, on integers: value = man * 2^exp, quantum exponent
``max(e, emin) - p + 1``, one shift with a sticky bit, ties to even, then overflow. Subnormals need
no special case. Going through an intermediate format (``float(mpf)``, a cast from float64 through
float32) rounds twice and is wrong near midpoints.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]


@dataclass(frozen=True)
class Format:
    """A binary floating-point format.

    Attributes
    ----------
    name : str
        The name of the format, which is also the user's ``--dtype``.
    precision : int
        Significand bits ``p``, the implicit one included.
    emin, emax : int
        Exponents of the smallest and the largest normal binade.
    bits : int
        Width of the encoding.
    has_infinity : bool
        False for float8_e4m3fn, whose overflow is NaN.
    max_finite : float
        Largest finite value.
    """

    name: str
    precision: int
    emin: int
    emax: int
    bits: int
    has_infinity: bool
    max_finite: float

    @property
    def unit_roundoff(self) -> float:
        """u = 2^-p."""
        return 2.0**-self.precision

    @property
    def smallest_normal(self) -> float:
        """2^emin."""
        return 2.0**self.emin

    @property
    def smallest_subnormal(self) -> float:
        """eta = 2^(emin - p + 1), the distance between subnormals."""
        return float(np.ldexp(1.0, self.emin - self.precision + 1))

    @property
    def is_narrow(self) -> bool:
        """True below float32: formats whose sums are held to pairwise bounds."""
        return self.precision < 24

    @property
    def dtype(self) -> np.dtype[Any]:
        """The NumPy (or ml_dtypes) dtype of this format."""
        return np.dtype(getattr(ml_dtypes, self.name, self.name))

    def cast(self, values: F64) -> NDArray[Any]:
        """Format values held as float64, as an array of the format's own dtype (exact).

        Raises
        ------
        ValueError
            If a value is not representable in the format.
        """
        values = np.asarray(values, np.float64)
        with np.errstate(over="ignore"):
            out = values.astype(self.dtype)
        back = out.astype(np.float64)
        if not np.array_equal(back, values, equal_nan=True):
            bad = values[(back != values) & ~np.isnan(values)]
            raise ValueError(f"not representable in {self.name}: {float(bad.flat[0]).hex()}")
        return out

    def holds(self, values: F64) -> NDArray[np.bool_]:
        """Element by element: is this float64 a value of the format?"""
        values = np.asarray(values, np.float64)
        with np.errstate(over="ignore", invalid="ignore"):
            back = values.astype(self.dtype).astype(np.float64)
        return np.asarray((back == values) | np.isnan(values))


FORMATS: dict[str, Format] = {
    f.name: f
    for f in (
        Format("float64", 53, -1022, 1023, 64, True, float(np.finfo(np.float64).max)),
        Format("float32", 24, -126, 127, 32, True, float(np.finfo(np.float32).max)),
        Format("bfloat16", 8, -126, 127, 16, True, float.fromhex("0x1.fep127")),
        Format("float16", 11, -14, 15, 16, True, 65504.0),
        Format("float8_e4m3fn", 4, -6, 8, 8, False, 448.0),
        Format("float8_e5m2", 3, -14, 15, 8, True, 57344.0),
    )
}


def get(name: str) -> Format:
    """The format of this name; KeyError with the known names otherwise."""
    try:
        return FORMATS[name]
    except KeyError:
        raise KeyError(f"unknown format {name!r}; known: {', '.join(FORMATS)}") from None


# ---------------------------------------------------------------- rounding one exact value


def round_integer(fmt: Format, man: int, exp: int, sticky: int = 0) -> float:
    """Round ``(man + sticky * epsilon) * 2^exp`` to nearest, ties to even.

    Parameters
    ----------
    fmt : Format
    man : int
        Signed integer significand.
    exp : int
        Exponent of its last bit.
    sticky : int
        -1, 0 or 1: the sign of an infinitesimal that was left out of ``man`` (``0 < epsilon < 1``,
        arbitrarily small).

    Returns
    -------
    float
        A format value; on overflow infinity, or NaN where the format has none. Zero keeps the
        sign of the value.
    """
    if man == 0:
        if sticky == 0:
            return 0.0
        return -0.0 if sticky < 0 else 0.0
    sign = -1.0 if man < 0 else 1.0
    # Two bits below everything that matters hold the infinitesimal: 4 man +- 1 is on the right side
    # of every boundary as soon as man has more bits than the format.
    grow = max(0, fmt.precision + 2 - man.bit_length())
    man, exp = man << grow, exp - grow
    twice = 4 * abs(man) + sticky * (-1 if man < 0 else 1)
    exp -= 2
    e = exp + twice.bit_length() - 1
    if e < fmt.emin - fmt.precision - 1:
        return sign * 0.0
    if e > fmt.emax + 1:
        return sign * (np.inf if fmt.has_infinity else np.nan)
    quantum = max(e, fmt.emin) - fmt.precision + 1
    shift = quantum - exp
    if shift <= 0:
        kept = twice << -shift
    else:
        kept = twice >> shift
        rest = twice - (kept << shift)
        half = 1 << (shift - 1)
        if rest > half or (rest == half and kept & 1):
            kept += 1
    if kept == 0:
        return sign * 0.0
    if kept.bit_length() + quantum - 1 > fmt.emax:
        return sign * (np.inf if fmt.has_infinity else np.nan)
    value = math.ldexp(kept, quantum)
    if value > fmt.max_finite:
        return sign * (np.inf if fmt.has_infinity else np.nan)
    return sign * value


def round_fraction(fmt: Format, value: Fraction) -> float:
    """Round an exact rational to nearest, ties to even."""
    num, den = value.numerator, value.denominator
    if num == 0:
        return 0.0
    # Enough quotient bits for every format, the remainder becomes the sticky infinitesimal.
    shift = max(0, den.bit_length() - num.bit_length() + 128)
    man, rest = divmod(abs(num) << shift, den)
    if num < 0:
        return round_integer(fmt, -man, -shift, -1 if rest else 0)
    return round_integer(fmt, man, -shift, 1 if rest else 0)


# ---------------------------------------------------------------- rounding arrays of expansions


def round_expansion(fmt: Format, hi: F64, lo: F64, exponent: I64) -> F64:
    """Round ``(hi + lo) * 2^exponent`` to nearest, ties to even, for whole arrays.

    Parameters
    ----------
    fmt : Format
    hi, lo : ndarray of float64
        ``hi`` is zero or has ``0.5 <= |hi| < 1`` and is the exact value rounded to 53 bits
        (nearest, ties to even); ``lo`` is the rest, non-zero wherever ``hi`` is not exact.
    exponent : ndarray of int64

    Returns
    -------
    ndarray of float64
        Format values; infinity or NaN on overflow.
    """
    hi, lo = np.asarray(hi, np.float64), np.asarray(lo, np.float64)
    exponent = np.asarray(exponent, np.int64)
    negative = np.signbit(hi)
    # 4 * (53-bit significand) + infinitesimal with the sign of lo: at most 55 bits. hi is already
    # the nearest on the 53-bit grid, every coarser boundary is a multiple of one of its steps.
    man = np.ldexp(np.abs(hi), 53).astype(np.int64)
    infinitesimal = np.sign(np.where(negative, -lo, lo)).astype(np.int64)
    twice = 4 * man + infinitesimal
    # exponent of the leading bit: twice is in [2^54 - 1, 2^55)
    lead = np.where(twice >= (1 << 54), 54, 53)
    exp = exponent - 55
    e = np.clip(exp + lead, -(1 << 40), 1 << 40)
    quantum = np.maximum(e, fmt.emin) - fmt.precision + 1
    shift = np.clip(quantum - exp, 0, 60)
    kept = twice >> shift
    rest = twice - (kept << shift)
    half = np.where(shift > 0, np.int64(1) << np.maximum(shift - 1, 0), 0)
    up = (shift > 0) & ((rest > half) | ((rest == half) & ((kept & 1) == 1)))
    kept = kept + up
    # quantum - exp < 0 happens only for huge exponents, where the value overflows anyway
    scale = np.clip(quantum, -1200, 1200).astype(np.int32)
    with np.errstate(over="ignore", under="ignore"):
        value = np.ldexp(kept.astype(np.float64), scale)
    overflow = (value > fmt.max_finite) | (e > fmt.emax)
    value = np.where(overflow, np.inf if fmt.has_infinity else np.nan, value)
    value = np.where(hi == 0, 0.0, value)
    return np.where(negative, -value, value)


def nearest(fmt: Format, values: F64) -> F64:
    """Round float64 values to the format; infinities and NaN stay what they are."""
    values = np.asarray(values, np.float64)
    finite = np.isfinite(values)
    hi, exponent = np.frexp(np.where(finite, values, 0.0))
    rounded = round_expansion(fmt, hi, np.zeros_like(hi), exponent.astype(np.int64))
    return np.where(finite, rounded, values)


def round_to_odd(hi: F64, lo: F64) -> F64:
    """``hi + lo`` truncated to float64 with the last bit set where inexact.

    One later rounding to nearest even in any format of at most 51 bits is then correct (Boldo and
    Melquiond, "Emulation of a FMA and correctly rounded sums", IEEE TC 2008). ``|lo|`` must be at
    most half an ulp of ``hi``.
    """
    hi, lo = np.asarray(hi, np.float64), np.asarray(lo, np.float64)
    toward = np.where(np.signbit(hi) == np.signbit(lo), hi, np.nextafter(hi, 0.0))
    truncated = np.where(lo == 0, hi, toward)
    odd = (truncated.view(np.int64) | 1).view(np.float64)
    return np.where(lo == 0, hi, odd)


# ---------------------------------------------------------------- ulps, neighbours, bits


def exponent_of(values: F64) -> I64:
    """floor(log2 |v|) of float64 values (0 for zero, whose exponent nobody may use)."""
    _, e = np.frexp(np.asarray(values, np.float64))
    return e.astype(np.int64) - 1


def ulp(fmt: Format, values: F64) -> F64:
    """ulp of float64-representable reals: 2^(clamp(floor(log2|r|), emin, emax) - p + 1)."""
    values = np.asarray(values, np.float64)
    e = np.where(values == 0, fmt.emin, exponent_of(values))
    e = np.where(np.isfinite(values), np.clip(e, fmt.emin, fmt.emax), fmt.emax)
    return np.ldexp(1.0, (e - fmt.precision + 1).astype(np.int32))


def to_bits(fmt: Format, values: F64) -> NDArray[np.uint64]:
    """The encoding of format values, as unsigned integers."""
    cast = fmt.cast(values)
    unsigned = np.dtype(f"u{fmt.bits // 8}")
    return cast.view(unsigned).astype(np.uint64)


def from_bits(fmt: Format, bits: NDArray[Any]) -> F64:
    """Format values of encodings (the inverse of :func:`to_bits`)."""
    unsigned = np.dtype(f"u{fmt.bits // 8}")
    with np.errstate(invalid="ignore"):  # a signalling NaN becomes a quiet one
        return np.asarray(bits).astype(unsigned).view(fmt.dtype).astype(np.float64)


def step(fmt: Format, values: F64, count: int | I64) -> F64:
    """The value ``count`` representable numbers above (below, if negative).

    Zero is one number; stepping beyond the largest finite value stays there.
    """
    bits = to_bits(fmt, np.asarray(values, np.float64)).astype(object)
    top = 1 << (fmt.bits - 1)
    last = int(to_bits(fmt, np.asarray(fmt.max_finite)).item())
    counts = np.broadcast_to(np.asarray(count, object), np.shape(bits))
    ordered = [
        (-(int(b) - top) if int(b) >= top else int(b)) + int(c)
        for b, c in zip(np.ravel(bits), np.ravel(counts), strict=True)
    ]
    clipped = [max(-last, min(last, k)) for k in ordered]
    encoded = np.array([top - k if k < 0 else k for k in clipped], dtype=np.uint64)
    return from_bits(fmt, encoded).reshape(np.shape(bits))
