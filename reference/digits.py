"""Rounding to decimal digits: of rationals, and of real numbers that are enclosed.

All of it is exact or rounded outwards: powers of ten are products of integers, kept whole up to
what a result that is nearly rational can need, and as an upper and a lower bound beyond, so that
e^-1e300 has its digits, too.

A number that is not rational is never halfway between two decimals. It can come exponentially
close, though, as it does to the boundaries of binary formats: then what is left is a
:class:`Halfway`, and somebody else has to tell the side.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any

from mpmath import libmp

Raw = tuple[int, int, int, int]
"""A number of :mod:`mpmath.libmp`: sign, mantissa, exponent, bits of the mantissa."""

_BITS_PER_DIGIT = 3.3220
_SPARE = 4096
"""Decimal places beyond the asked digits up to which powers of ten are exact: results that are
nearly rational are products of three float64 numbers at most, divided by powers of a row length."""
_NARROW = 5
"""An enclosure has to be narrower than 2^-5 units of the last digit."""


def bits_for(digits: int) -> int:
    """The bits that so many decimal digits have."""
    return int(digits * _BITS_PER_DIGIT) + 1


@dataclass(frozen=True)
class Decimal:
    """coefficient * 10^exponent, the coefficient with all the digits that were asked for.

    ``exact`` says that the number itself is that, and not only its rounding.
    """

    negative: bool
    coefficient: int
    exponent: int
    digits: int
    exact: bool = False

    def __str__(self) -> str:
        """All digits; of an exact number those that are not trailing zeros.

        Positional from 1e-5 (or a third of the digits in zeros) up to the last digit.
        """
        text = str(libmp.numeral(self.coefficient, 10, self.digits))
        point = self.exponent + self.digits  # digits in front of the decimal point
        power = ""
        if not min(-(self.digits // 3), -5) < point - 1 < self.digits:
            power, point = f"e{point - 1:+d}", 1
        if point <= 0:
            text, point = "0" * (1 - point) + text, 1
        whole, rest = text[:point], text[point:]
        if self.exact:
            rest = rest.rstrip("0") or "0"
        return "-" * self.negative + whole + "." * bool(rest) + rest + power


@dataclass(frozen=True)
class Halfway:
    """A number beside (coefficient + 1/2) * 10^exponent, and the side is not known."""

    negative: bool
    coefficient: int
    exponent: int
    digits: int

    @property
    def boundary(self) -> Fraction | None:
        """That number, with its sign; None where it has too many digits to be nearly rational."""
        if abs(self.exponent) > self.digits + _SPARE:
            return None
        value = Fraction(2 * self.coefficient + 1, 2) * Fraction(10) ** self.exponent
        return -value if self.negative else value

    def decide(self, side: int) -> Decimal:
        """The rounding of a number above (1) or below (-1) the boundary."""
        away = side == (-1 if self.negative else 1)
        return _carried(self.negative, self.coefficient + away, self.exponent, self.digits)


def of_fraction(value: Fraction, digits: int) -> Decimal:
    """A rational that is not 0, to nearest, ties to even."""
    num, den = abs(value.numerator), value.denominator
    # 10^(lead - 1) <= value < 10^(lead + 1): one step decides.
    lead = int((num.bit_length() - den.bit_length()) * 0.30103)
    for exponent in range(lead - digits + 2, lead - digits - 3, -1):
        scaled, unit = num * 10 ** max(-exponent, 0), den * 10 ** max(exponent, 0)
        kept, rest = divmod(scaled, unit)
        if kept >= 10 ** (digits - 1):
            break
    exact = rest == 0
    kept += 2 * rest > unit or (2 * rest == unit and kept % 2)
    return _carried(value < 0, kept, exponent, digits, exact)


def of_ball(mid: Raw, rad: Raw, digits: int, bits: int) -> Decimal | Halfway | None:
    """A number that is not rational and lies strictly between mid - rad and mid + rad.

    Parameters
    ----------
    mid, rad : raw mpmath numbers
    digits : int
    bits : int
        The precision that the ball was computed with.

    Returns
    -------
    Decimal, Halfway or None
        None where the ball is too wide, or holds 0.
    """
    negative, size = bool(mid[0]), libmp.mpf_abs(mid)
    # Rounded outwards: a radius may be e^-1e23 of its midpoint.
    low = libmp.mpf_sub(size, rad, bits + bits_for(digits), "d")
    high = libmp.mpf_add(size, rad, bits + bits_for(digits), "u")
    if libmp.mpf_sign(low) <= 0:
        return None
    if rad == libmp.fzero:
        return of_fraction(_fraction(mid), digits)
    return _between(negative, low, high, digits)


def _between(negative: bool, low: Raw, high: Raw, digits: int) -> Decimal | Halfway | None:
    least, beyond = 10 ** (digits - 1), 10**digits
    exponent = _leading_place(high) - digits + 1
    while True:
        above = _scaled(high, exponent, digits, "u")
        if _floor(above) < least:
            exponent -= 1
        elif _ceiling(above) > beyond:
            exponent += 1
        else:
            break
    below = _scaled(low, exponent, digits, "d")
    if libmp.mpf_gt(libmp.mpf_sub(above, below, 64, "u"), libmp.mpf_shift(libmp.fone, -_NARROW)):
        return None
    # The number lies strictly inside: above floor(low + 1/2) - 1/2, below ceil(high - 1/2) + 1/2.
    # Below a power of ten units are ten times smaller: half of one of these is not as near, either.
    first = (_floor(libmp.mpf_shift(below, 1)) + 1) >> 1
    last = _ceiling(libmp.mpf_shift(above, 1)) >> 1
    if first == last:
        return _carried(negative, first, exponent, digits)
    return Halfway(negative, first, exponent, digits) if first < last else None


def _carried(
    negative: bool, coefficient: int, exponent: int, digits: int, exact: bool = False
) -> Decimal:
    """A coefficient that was rounded up may have one digit more."""
    if coefficient == 10**digits:
        coefficient, exponent = coefficient // 10, exponent + 1
    return Decimal(negative, coefficient, exponent, digits, exact)


# ---------------------------------------------------------------- numbers of mpmath


def _fraction(value: Raw) -> Fraction:
    sign, man, exp, _ = value
    return Fraction(int(-man if sign else man)) * Fraction(2) ** int(exp)


def _floor(value: Raw) -> int:
    """Of a positive number."""
    _, man, exp, _ = value
    return int(man << exp if exp >= 0 else man >> -exp)


def _ceiling(value: Raw) -> int:
    """Of a positive number."""
    _, man, exp, _ = value
    return int(man << exp if exp >= 0 else -(-man >> -exp))


def _leading_place(value: Raw) -> int:
    """floor(log10), or one less or more."""
    lead = value[2] + value[3] - 1
    bits = lead.bit_length() + 32
    log = libmp.mpf_div(libmp.mpf_ln2(bits), libmp.mpf_ln10(bits), bits)
    place = libmp.mpf_mul(libmp.from_int(lead), log, bits)
    return int(libmp.to_int(libmp.mpf_floor(place, bits)))


def _scaled(value: Raw, exponent: int, digits: int, toward: str) -> Raw:
    """A positive number times 10^-exponent, rounded down ("d") or up ("u")."""
    size, bits = abs(exponent), bits_for(digits + 64)
    bits += bits_for(size) if size <= digits + _SPARE else 2 * size.bit_length()
    if exponent <= 0:
        power = _power_of_ten(-exponent, bits, toward)
        return libmp.mpf_mul(value, power, bits, toward)  # type: ignore[no-any-return]
    power = _power_of_ten(exponent, bits, "d" if toward == "u" else "u")
    return libmp.mpf_div(value, power, bits, toward)  # type: ignore[no-any-return]


@lru_cache(maxsize=8)
def _power_of_ten(n: int, bits: int, toward: str) -> Raw:
    """10^n rounded in a direction, by squaring; exact where it has no more than ``bits``."""
    power: Any = libmp.fone
    for digit in f"{n:b}":
        power = libmp.mpf_mul(power, power, bits, toward)
        if digit == "1":
            power = libmp.mpf_mul(power, libmp.ften, bits, toward)
    return power  # type: ignore[no-any-return]
