"""Rounding to decimal digits, against Python's decimal module and exact fractions."""

from __future__ import annotations

import decimal
from fractions import Fraction
from typing import Any

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mpmath import libmp

from reference import digits as d
from reference.digits import Decimal, Halfway

WIDE = decimal.Context(Emax=decimal.MAX_EMAX, Emin=decimal.MIN_EMIN)


def python_rounds(value: Fraction, digits: int) -> decimal.Decimal:
    """A fraction to nearest, ties to even, by Python."""
    context = WIDE.copy()
    context.prec, context.rounding = digits, decimal.ROUND_HALF_EVEN
    return context.divide(decimal.Decimal(value.numerator), decimal.Decimal(value.denominator))


def raw(value: Fraction) -> Any:
    """A dyadic fraction as a raw mpmath number."""
    return libmp.from_man_exp(value.numerator, 1 - value.denominator.bit_length())


def ball(middle: Fraction, radius: Fraction, digits: int, bits: int = 4000) -> Any:
    """What becomes of a ball with dyadic middle and radius."""
    return d.of_ball(raw(middle), raw(radius), digits, bits)


# ---------------------------------------------------------------- rationals


@given(
    st.fractions(min_value=Fraction(-(10**9)), max_value=10**9).filter(bool),
    st.integers(-400, 400),
    st.integers(1, 60),
)
def test_fractions_are_rounded_as_python_rounds_them(
    value: Fraction, scale: int, digits: int
) -> None:
    value *= Fraction(2) ** scale
    made = d.of_fraction(value, digits)
    right = python_rounds(value, digits)
    assert decimal.Decimal(str(made)) == right
    assert len(str(made.coefficient)) == digits
    assert made.exact == (Fraction(right) == value)


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        # halfway: to even (and not away from zero, as mpmath's nstr does)
        (Fraction(1, 8), 2, "0.12"),
        (Fraction(3, 8), 2, "0.38"),
        (Fraction(-5, 2), 1, "-2"),
        (Fraction(-7, 2), 1, "-4"),
        (Fraction(19999, 2), 4, "1.000e+4"),
        (Fraction(1, 3), 5, "0.33333"),
        (Fraction(2, 3), 5, "0.66667"),
        (Fraction(1, 2), 30, "0.5"),
        (Fraction(1), 30, "1.0"),
        (Fraction(-1200), 30, "-1200.0"),
        (Fraction(1200), 2, "1.2e+3"),
        (Fraction(10**40), 30, "1.0e+40"),
        (Fraction(12345, 10**7), 30, "0.0012345"),
        (Fraction(1, 10**20), 3, "1.0e-20"),
        (Fraction(1, 3 * 10**20), 3, "3.33e-21"),
        (Fraction(99999, 100000), 2, "1.0"),
        (Fraction(99999, 100000), 5, "0.99999"),
        (Fraction(805, 1), 3, "805.0"),
        (Fraction(8053, 10), 3, "805"),
        (Fraction(2) ** -1074, 3, "4.94e-324"),
    ],
)
def test_fractions_read_well(value: Fraction, digits: int, text: str) -> None:
    assert str(d.of_fraction(value, digits)) == text


def test_more_digits_than_python_turns_into_text_are_written_out() -> None:
    text = str(d.of_fraction(Fraction(1, 7), 30_000))
    assert text == "0." + "142857" * 5000
    power = str(d.of_fraction(Fraction(1, 5**10_000), 20_000))  # 2^10000 with the point moved
    assert power.replace(".", "") == str(decimal.Decimal(2**10_000)) + "e-6990"


# ---------------------------------------------------------------- enclosures


@given(
    st.integers(1, 2**200), st.integers(-600, 600), st.booleans(), st.integers(1, 40),
    st.integers(0, 60), st.floats(-0.999, 0.999),
)  # fmt: skip
def test_a_decided_ball_rounds_as_every_number_in_it(
    man: int, exp: int, negative: bool, digits: int, slack: int, where: float
) -> None:
    middle = Fraction(-man if negative else man) * Fraction(2) ** exp
    # Radii from half of the middle down to far below the last digit.
    leading = man.bit_length() + exp
    radius = Fraction(2) ** (leading - int(3.33 * digits * slack / 40) - 2)
    made = ball(middle, radius, digits)
    truth = middle + radius * Fraction(where)
    if isinstance(made, Decimal):
        assert decimal.Decimal(str(made)) == python_rounds(truth, digits)
        assert made.digits == len(str(made.coefficient)) == digits
        assert not made.exact
    elif isinstance(made, Halfway):
        boundary = made.boundary
        assert boundary is not None
        assert abs(boundary - middle) < radius
        if truth != boundary:
            side = 1 if truth > boundary else -1
            decided = decimal.Decimal(str(made.decide(side)))
            assert decided == python_rounds(truth, digits)
    else:
        # Only what is wide stays open: a 32nd of a unit of the last digit, or more.
        assert radius * 2 > abs(middle) * Fraction(10) ** -digits / 40


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(
    ("boundary", "below", "above"),
    [
        (Fraction(1, 8), "0.12", "0.13"),
        (Fraction(995, 10), "99", "1.0e+2"),
        (Fraction(115, 10), "11", "12"),
        (Fraction(125 * 10**20), "1.2e+22", "1.3e+22"),
        (Fraction(5, 1024), "0.0049", "0.0049"),  # no boundary of two digits
        (Fraction(1), "1.0", "1.0"),
        (Fraction(1000), "1.0e+3", "1.0e+3"),
    ],
)
def test_a_near_end_on_a_boundary_is_enough(
    boundary: Fraction, below: str, above: str, sign: int
) -> None:
    """The ball (b, b + tiny) of a one-sided sum has its boundary as an end."""
    tiny = Fraction(2) ** -500
    prefix = "-" if sign < 0 else ""
    for middle, text in ((boundary - tiny, below), (boundary + tiny, above)):
        assert str(ball(sign * middle, tiny, 2)) == prefix + text


def test_around_a_boundary_the_side_decides() -> None:
    for sign in (1, -1):
        made = ball(sign * Fraction(1, 8), Fraction(2) ** -500, 2)
        assert made == Halfway(sign < 0, 12, -2, 2)
        assert made.boundary == sign * Fraction(1, 8)
        assert [str(made.decide(side)) for side in (sign, -sign)] == [
            "-0.13" if sign < 0 else "0.13", "-0.12" if sign < 0 else "0.12",
        ]  # fmt: skip
    # 0.15 is a boundary of one digit, and no dyadic number
    near = Fraction(15 * 2**400 // 100, 2**400)
    made = ball(near, Fraction(2) ** -390, 1)
    assert made.boundary == Fraction(15, 100)
    assert (str(made.decide(1)), str(made.decide(-1))) == ("0.2", "0.1")
    nines = ball(Fraction(199, 2), Fraction(2) ** -300, 2)
    assert (str(nines.decide(1)), str(nines.decide(-1))) == ("1.0e+2", "99")


def test_an_end_that_reaches_beyond_a_boundary_by_next_to_nothing_decides_nothing() -> None:
    boundary, near, over = Fraction(1, 8), Fraction(2) ** -300, Fraction(2) ** -5000
    for side in (1, -1):
        for sign in (1, -1):
            made = ball(sign * (boundary + side * near), near + over, 2, bits=400)
            assert isinstance(made, Halfway)


def test_around_a_power_of_ten_nothing_is_open() -> None:
    """Units are ten times smaller below it: half of one of these is far away all the same."""
    for exponent in (-30, -3, 0, 1, 2, 15):
        power = Fraction(10) ** exponent
        step = Fraction(2) ** -700
        made = ball(power // step * step, Fraction(2) ** -400, 20)
        assert isinstance(made, Decimal)
        assert decimal.Decimal(str(made)) == decimal.Decimal(10) ** exponent


def test_a_ball_that_is_wide_or_holds_zero_stays_open() -> None:
    one = Fraction(1)
    assert ball(one, one / 4, 1) is None
    assert ball(one, one / 2**10, 4) is None
    assert isinstance(ball(one, one / 2**20, 4), Decimal)
    assert ball(Fraction(0), one, 3) is None
    assert ball(one, one, 3) is None
    assert ball(-one, 2 * one, 3) is None
    assert str(ball(Fraction(3, 8), Fraction(0), 2)) == "0.38"  # no radius: a dyadic number


# ---------------------------------------------------------------- far away


@pytest.mark.parametrize("power", [-(2**1020) - 7, -(10**9), -54321, 54321, 10**12, 3**640])
def test_digits_of_powers_of_two_far_beyond_any_format(power: int) -> None:
    """Against mantissa and exponent by logarithms at a precision that holds the exponent."""
    digits = 50
    with mpmath.workprec(power.bit_length() + 400):
        log = power * mpmath.log10(2)
        place = int(mpmath.floor(log))
        expected = mpmath.nstr(10 ** (log - place), digits, strip_zeros=False)
    one, tiny = (0, 1, power, 1), (0, 1, power - 300, 1)
    made = d.of_ball(libmp.mpf_add(one, tiny), tiny, digits, 400)
    assert str(made) == f"{expected}e{place:+d}"
    assert made is not None
    assert Halfway(False, 1, made.exponent, digits).boundary is None or abs(power) < 100_000


def test_powers_of_ten_are_exact_or_bounds() -> None:
    for n in (0, 1, 22, 23, 700):
        for toward in "du":
            assert d._fraction(d._power_of_ten(n, 3000, toward)) == 10**n
    for n in (700, 12_345):
        low, high = (d._fraction(d._power_of_ten(n, 64, toward)) for toward in "du")
        assert low < 10**n < high
        assert high - low < low / 2**50
    for exponent in (20_000, -20_000):  # no longer exact
        value = raw(Fraction(123) * 10 ** (2 * abs(exponent)))
        low, high = (d._fraction(d._scaled(value, exponent, 5, toward)) for toward in "du")
        right = Fraction(123) * Fraction(10) ** (2 * abs(exponent) - exponent)
        assert low < right < high
        assert high - low < right / 2**150
    generator = np.random.default_rng(0)
    for _ in range(200):
        value = Fraction(int(generator.integers(1, 2**60)), 1) * Fraction(2) ** int(
            generator.integers(-300, 300)
        )
        exponent = int(generator.integers(-90, 90))
        low, high = (d._fraction(d._scaled(raw(value), exponent, 5, toward)) for toward in "du")
        assert low <= value * Fraction(10) ** -exponent <= high
        assert high - low <= high / 2**200
