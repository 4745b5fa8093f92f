"""Formats and rounding, against exact fractions."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import arb
import ml_dtypes
import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reference import formats
from reference.formats import FORMATS, Format

NARROW = [f for f in FORMATS.values() if f.name != "float64"]
ALL = list(FORMATS.values())
ENCODED = [f for f in ALL if f.bits <= 16]


def by_name(fmt: Format) -> str:
    return fmt.name


def same(a: float, b: float) -> bool:
    return a == b or (math.isnan(a) and math.isnan(b))


def near_midpoints(fmt: Format, count: int, seed: int, *, subnormal: bool) -> Iterator[Fraction]:
    """Midpoints of neighbours of the format, and their surroundings down to 2^-90 quanta."""
    rng = np.random.default_rng([seed, fmt.bits, fmt.precision, subnormal])
    for _ in range(count):
        if subnormal:
            quantum = Fraction(2) ** (fmt.emin - fmt.precision + 1)
            kept = int(rng.integers(0, 1 << (fmt.precision - 1)))
        else:
            quantum = Fraction(2) ** (int(rng.integers(fmt.emin, fmt.emax)) - fmt.precision + 1)
            kept = int(rng.integers(1 << (fmt.precision - 1), 1 << fmt.precision))
        off = int(rng.choice((0, 1, -1))) * Fraction(2) ** -int(rng.integers(2, 90))
        yield (kept + Fraction(1, 2) + off) * quantum * int(rng.choice((1, -1)))


def dyadic(value: Fraction) -> tuple[int, int]:
    return value.numerator, -(value.denominator.bit_length() - 1)


def expansion(value: Fraction) -> tuple[float, float, int]:
    """(hi, lo, exponent) by fractions alone."""
    exponent = arb.floor_log2(value) + 1
    scaled = value / Fraction(2) ** exponent
    hi = float(scaled)  # Python's division of integers is correctly rounded
    lo = scaled - Fraction(hi)
    if abs(hi) == 1.0:
        hi, lo, exponent = hi / 2, lo / 2, exponent + 1
    return hi, float(lo), exponent


def round_one_expansion(fmt: Format, value: Fraction) -> float:
    hi, lo, exponent = expansion(value)
    return float(formats.round_expansion(fmt, *(np.array([v]) for v in (hi, lo, exponent)))[0])


def round_one_integer(fmt: Format, value: Fraction) -> float:
    return formats.round_integer(fmt, *dyadic(value))


def round_one_fraction(fmt: Format, value: Fraction) -> float:
    return formats.round_fraction(fmt, value)


ROUTES = [round_one_integer, round_one_fraction, round_one_expansion]


# ---------------------------------------------------------------- the table of formats


@pytest.mark.parametrize("fmt", ALL, ids=by_name)
def test_the_parameters_are_those_of_the_encoding(fmt: Format) -> None:
    info = ml_dtypes.finfo(fmt.dtype)
    assert fmt.max_finite == float(info.max)
    assert fmt.smallest_normal == float(info.smallest_normal) == 2.0**fmt.emin
    assert fmt.smallest_subnormal == float(info.smallest_subnormal)
    assert fmt.precision == info.nmant + 1
    assert fmt.unit_roundoff == 2.0**-fmt.precision
    assert fmt.bits == info.bits
    precision, emin, emax, largest, has_infinity = arb.FORMATS[fmt.name]
    assert (precision, emin, emax) == (fmt.precision, fmt.emin, fmt.emax)
    assert (largest, has_infinity) == (Fraction(fmt.max_finite), fmt.has_infinity)


def test_an_unknown_format_is_named_with_the_known_ones() -> None:
    with pytest.raises(KeyError, match=r"unknown format 'float12'; known: float64, float32"):
        formats.get("float12")


# ---------------------------------------------------------------- rounding


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("subnormal", [False, True], ids=["normal", "subnormal"])
@pytest.mark.parametrize("fmt", ALL, ids=by_name)
def test_near_midpoints_round_like_fractions(
    fmt: Format, subnormal: bool, route: Callable[[Format, Fraction], float]
) -> None:
    wrong = [
        v
        for v in near_midpoints(fmt, 400, 1, subnormal=subnormal)
        if not same(route(fmt, v), arb.nearest(fmt.name, v))
    ]
    assert wrong == []


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("fmt", ALL, ids=by_name)
def test_random_subnormals_round_like_fractions(
    fmt: Format, route: Callable[[Format, Fraction], float]
) -> None:
    rng = np.random.default_rng(2)
    eta = Fraction(2) ** (fmt.emin - fmt.precision + 1)
    for _ in range(400):
        value = eta * Fraction(int(rng.integers(1, 1 << 62)), 1 << int(rng.integers(9, 64)))
        if value < Fraction(2) ** fmt.emin:
            assert route(fmt, value) == arb.nearest(fmt.name, value)


@pytest.mark.parametrize("fmt", ALL, ids=by_name)
def test_thirds_and_sevenths_round_like_fractions(fmt: Format) -> None:
    for num in range(-40, 41):
        for den in (3, 7, 10, 1000, 3 * 2**140, 3**40):
            value = Fraction(num, den)
            assert formats.round_fraction(fmt, value) == arb.nearest(fmt.name, value)


@pytest.mark.parametrize("fmt", ALL, ids=by_name)
def test_the_sticky_infinitesimal_is_on_the_right_side_of_every_boundary(fmt: Format) -> None:
    rng = np.random.default_rng(3)
    tiny = Fraction(1, 1 << 5000)
    for _ in range(400):
        man = int(rng.integers(-(1 << 62), 1 << 62)) >> int(rng.integers(0, 62))
        exp = int(rng.integers(fmt.emin - fmt.precision - 70, fmt.emax + 3))
        for sticky in (-1, 0, 1):
            value = (man + sticky * tiny) * Fraction(2) ** exp
            rounded = formats.round_integer(fmt, man, exp, sticky)
            assert same(rounded, arb.nearest(fmt.name, value)), (man, exp, sticky)
            assert value == 0 or math.isnan(rounded) or np.signbit(rounded) == (value < 0)


def test_one_rounding_not_two() -> None:
    value = 1 + Fraction(1, 2**8) + Fraction(1, 2**40)
    assert float(np.float64(value).astype(ml_dtypes.bfloat16)) == 1.0  # through float32: wrong
    for route in ROUTES:
        assert route(FORMATS["bfloat16"], value) == 1.0078125
    assert formats.nearest(FORMATS["bfloat16"], np.array(float(value))) == 1.0078125


def test_mpmath_to_float32_by_way_of_float_rounds_twice() -> None:
    value = 1 + Fraction(1, 2**24) + Fraction(1, 2**60)
    with mpmath.workprec(100):
        through_float = np.float32(float(mpmath.mpf(value.numerator) / value.denominator))
    assert through_float == 1.0
    for route in ROUTES:
        assert route(FORMATS["float32"], value) == 1 + 2**-23


@pytest.mark.parametrize(
    ("name", "last_finite", "first_over"),
    [
        ("float64", (2 - Fraction(1, 2**53)) * 2**1023 - 1, (2 - Fraction(1, 2**53)) * 2**1023),
        ("float32", Fraction(2) ** 128 * (1 - Fraction(1, 2**25)) - 1,
         Fraction(2) ** 128 * (1 - Fraction(1, 2**25))),
        ("bfloat16", Fraction(2) ** 128 * (1 - Fraction(1, 2**9)) - 1,
         Fraction(2) ** 128 * (1 - Fraction(1, 2**9))),
        ("float16", Fraction(65520) - Fraction(1, 10**9), Fraction(65520)),
        ("float8_e4m3fn", Fraction(464), Fraction(464) + Fraction(1, 10**9)),
        ("float8_e5m2", Fraction(61440) - Fraction(1, 10**9), Fraction(61440)),
    ],
)  # fmt: skip
def test_overflow_starts_half_an_ulp_beyond_the_largest_value(
    name: str, last_finite: Fraction, first_over: Fraction
) -> None:
    fmt = FORMATS[name]
    over = math.inf if fmt.has_infinity else math.nan
    for route in (round_one_fraction, round_one_expansion):
        for sign in (1, -1):
            assert route(fmt, sign * last_finite) == sign * fmt.max_finite
            assert same(route(fmt, sign * first_over), sign * over)
            assert same(route(fmt, sign * first_over * 2**3000), sign * over)


def test_bfloat16_overflows_from_3_39618e38() -> None:
    threshold = float.fromhex("0x1.ffp127")
    assert threshold == pytest.approx(3.39618e38, rel=1e-5)
    below = np.nextafter(threshold, 0)
    values = formats.nearest(FORMATS["bfloat16"], np.array([below, threshold]))
    assert values.tolist() == [float.fromhex("0x1.fep127"), math.inf]


@pytest.mark.parametrize("fmt", NARROW, ids=by_name)
def test_round_to_odd_then_nearest_is_one_rounding(fmt: Format) -> None:
    """1e5 values within 2^-5..2^-53 of a midpoint, with a tail below that."""
    rng = np.random.default_rng([4, fmt.bits, fmt.precision])
    count, p = 100_000, fmt.precision
    exponent = rng.integers(fmt.emin - p, fmt.emax + 1, count)
    quantum = np.maximum(exponent, fmt.emin) - p + 1
    kept = np.floor(np.ldexp(1 + rng.random(count), exponent - quantum))
    midpoint = np.ldexp(2 * kept + 1, quantum - 1)
    room = np.clip(np.log2(np.maximum(kept, 1)).astype(int) + 1, 1, p)
    offset = np.ldexp(1.0, -rng.integers(1, 52 - room)) * rng.choice((-1, 0, 1), count)
    hi = midpoint + np.ldexp(offset, quantum - 1)
    lo = np.ldexp(np.spacing(np.abs(hi)), -rng.integers(2, 30, count)) * rng.choice(
        (-1, 0, 1), count
    )
    odd = formats.round_to_odd(hi, lo)
    at_once = formats.nearest(fmt, odd)
    mantissa, power = np.frexp(hi)
    scaled_lo = np.ldexp(lo, -power)
    correct = formats.round_expansion(fmt, mantissa, scaled_lo, power.astype(np.int64))
    np.testing.assert_array_equal(at_once, correct)
    for i in range(0, count, 200):
        exact = Fraction(float(hi[i])) + Fraction(float(lo[i]))
        assert same(float(at_once[i]), arb.nearest(fmt.name, exact))
    assert (formats.nearest(fmt, hi) != correct).sum() > 1000  # the tail matters


@given(
    name=st.sampled_from(sorted(FORMATS)),
    man=st.integers(-(1 << 200), 1 << 200).filter(bool),
    exp=st.integers(-1300, 1000),
)
@settings(max_examples=300, deadline=None)
def test_expansion_and_integer_routes_agree(name: str, man: int, exp: int) -> None:
    fmt, value = FORMATS[name], Fraction(man) * Fraction(2) ** exp
    by_integer = formats.round_integer(fmt, man, exp)
    assert same(round_one_expansion(fmt, value), by_integer)
    assert same(by_integer, arb.nearest(name, value))


@given(
    name=st.sampled_from(sorted(FORMATS)),
    values=st.lists(st.fractions(max_denominator=1 << 80), min_size=2, max_size=8),
    scale=st.integers(-200, 200),
)
@settings(max_examples=200, deadline=None)
def test_rounding_is_monotone(name: str, values: list[Fraction], scale: int) -> None:
    rounded = [
        formats.round_fraction(FORMATS[name], v * Fraction(2) ** scale) for v in sorted(values)
    ]
    kept = [v for v in rounded if not math.isnan(v)]
    assert kept == sorted(kept)


def test_expansions_far_beyond_every_range_round_to_zero_or_infinity() -> None:
    far = 1 << 62
    for fmt in ALL:
        hi, lo = np.array([0.5, -0.5, 0.75, -0.75, 0.0]), np.array([1e-300, 0, 0, 0, 0])
        exponent = np.array([-far, -far, far, far, 7])
        over = math.inf if fmt.has_infinity else math.nan
        got = formats.round_expansion(fmt, hi, lo, exponent)
        np.testing.assert_array_equal(got, [0, -0.0, over, -over, 0])
        assert np.signbit(got[:2]).tolist() == [False, True]


def test_nearest_keeps_infinities_nan_and_the_sign_of_zero() -> None:
    got = formats.nearest(FORMATS["float16"], np.array([np.inf, -np.inf, np.nan, -0.0, -1e-30]))
    np.testing.assert_array_equal(got, [np.inf, -np.inf, np.nan, 0, 0])
    assert np.signbit(got[3:]).all()


# ---------------------------------------------------------------- encodings, neighbours, ulps


@pytest.mark.parametrize("fmt", ENCODED, ids=by_name)
def test_every_encoding_comes_back(fmt: Format) -> None:
    patterns = np.arange(1 << fmt.bits, dtype=np.uint64)
    values = formats.from_bits(fmt, patterns)
    finite = np.isfinite(values)
    np.testing.assert_array_equal(formats.to_bits(fmt, values[finite]), patterns[finite])
    assert fmt.holds(values[finite]).all()
    np.testing.assert_array_equal(formats.nearest(fmt, values[finite]), values[finite])
    positive = values[finite & ~np.signbit(values)]
    assert (np.diff(positive) > 0).all()
    assert positive[-1] == fmt.max_finite
    assert positive[1] == fmt.smallest_subnormal


@pytest.mark.parametrize("fmt", ALL, ids=by_name)
def test_random_encodings_come_back(fmt: Format) -> None:
    patterns = np.random.default_rng(5).integers(0, 1 << fmt.bits, 2000, np.uint64)
    values = formats.from_bits(fmt, patterns)
    finite = np.isfinite(values)
    np.testing.assert_array_equal(formats.to_bits(fmt, values[finite]), patterns[finite])


@pytest.mark.parametrize("fmt", ENCODED, ids=by_name)
def test_steps_walk_through_all_values(fmt: Format) -> None:
    values = formats.from_bits(fmt, np.arange(1 << fmt.bits))
    ladder = np.unique(values[np.isfinite(values)])  # -0 and 0 are one value
    start = np.full(ladder.size, -fmt.max_finite)
    np.testing.assert_array_equal(formats.step(fmt, start, np.arange(ladder.size)), ladder)
    np.testing.assert_array_equal(formats.step(fmt, ladder[:-1], 1), ladder[1:])
    np.testing.assert_array_equal(formats.step(fmt, ladder[1:], -1), ladder[:-1])


@pytest.mark.parametrize("fmt", ALL, ids=by_name)
def test_a_step_beyond_the_end_stays_there(fmt: Format) -> None:
    ends = np.array([fmt.max_finite, -fmt.max_finite])
    np.testing.assert_array_equal(formats.step(fmt, ends, np.array([5, -5])), ends)
    assert formats.step(fmt, np.array(-0.0), 1) == fmt.smallest_subnormal
    assert formats.step(fmt, np.array(0.0), -1) == -fmt.smallest_subnormal


@pytest.mark.parametrize("fmt", ALL, ids=by_name)
def test_the_ulp_is_the_distance_to_the_next_value_outwards(fmt: Format) -> None:
    patterns = np.random.default_rng(6).integers(0, 1 << (fmt.bits - 1), 500, np.uint64)
    values = formats.from_bits(fmt, patterns)
    values = values[np.isfinite(values) & (values < fmt.max_finite)]
    outwards = formats.step(fmt, values, 1) - values
    np.testing.assert_array_equal(formats.ulp(fmt, values), outwards)
    np.testing.assert_array_equal(formats.ulp(fmt, -values), outwards)


@pytest.mark.parametrize("fmt", ALL, ids=by_name)
def test_the_ulp_is_clamped_at_both_ends(fmt: Format) -> None:
    largest = 2.0 ** (fmt.emax - fmt.precision + 1)
    eta = fmt.smallest_subnormal
    values = np.array([0.0, -0.0, eta, eta / 4 if fmt.name != "float64" else eta, np.inf, -np.inf])
    np.testing.assert_array_equal(formats.ulp(fmt, values), [eta] * 4 + [largest] * 2)
    if fmt.name != "float64":
        assert formats.ulp(fmt, np.array(2.0 ** (fmt.emax + 9))) == largest


@pytest.mark.parametrize("fmt", NARROW, ids=by_name)
def test_values_between_two_of_the_format_are_not_held(fmt: Format) -> None:
    good = np.array([1.0, -fmt.max_finite, fmt.smallest_subnormal, np.nan, -0.0])
    bad = np.array([1 + fmt.unit_roundoff, fmt.max_finite * 1.01, fmt.smallest_subnormal / 2])
    assert fmt.holds(good).all()
    assert not fmt.holds(bad).any()
    assert bool(fmt.holds(np.array(np.inf))) == fmt.has_infinity
    np.testing.assert_array_equal(fmt.cast(good).astype(np.float64), good)
    for value in bad:
        with pytest.raises(ValueError, match=f"not representable in {fmt.name}"):
            fmt.cast(np.array([1.0, value]))


@given(
    name=st.sampled_from(sorted(FORMATS)),
    value=st.floats(allow_nan=False, allow_infinity=False),
    count=st.integers(-300, 300),
)
@settings(max_examples=300, deadline=None)
def test_steps_are_undone_by_steps_back(name: str, value: float, count: int) -> None:
    fmt = FORMATS[name]
    start: Any = formats.nearest(fmt, np.array(value))
    if not np.isfinite(start):
        return
    there = formats.step(fmt, start, count)
    if abs(float(there)) < fmt.max_finite:
        assert formats.step(fmt, there, -count) == start
    assert (float(there) > float(start)) == (count > 0 and float(start) < fmt.max_finite)
