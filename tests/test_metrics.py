"""The metrics, by the examples of their definitions."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reference import bounds, formats, metrics, oracle
from reference.formats import FORMATS, Format
from reference.ops.base import EXACT, NAN, NEG_INF, POS_INF, UNDEFINED, ZERO

F32 = FORMATS["float32"]
CODES = {"inf": POS_INF, "-inf": NEG_INF, "nan": NAN, "undefined": UNDEFINED}


def references(fmt: Format, values: list[Fraction | float | str]) -> oracle.References:
    """One row of references that are known exactly."""
    shape = (1, len(values))
    hi, lo = np.zeros(shape), np.zeros(shape)
    exponent, codes = np.zeros(shape, np.int64), np.full(shape, EXACT, np.uint8)
    for i, value in enumerate(values):
        if isinstance(value, str):
            codes[0, i] = CODES[value]
        elif value == 0:
            codes[0, i] = ZERO
        else:
            hi[0, i], lo[0, i], exponent[0, i] = oracle.expand_fraction(Fraction(value))
    return oracle.References(hi, lo, exponent, codes, np.zeros_like(codes), fmt)


def measure(fmt: Format, result: Any, exact: Any) -> metrics.Errors:
    return metrics.errors(np.array([result], np.float64), references(fmt, exact))


def ulp(fmt: Format, result: float, exact: Any) -> float:
    return float(measure(fmt, [result], [exact]).ulp[0, 0])


def correct(fmt: Format, result: float, exact: Any) -> bool:
    return bool(measure(fmt, [result], [exact]).correct[0, 0])


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("r", [0.5, 1.0, 0.25])
def test_the_predecessor_of_a_power_of_two_is_half_an_ulp_away_and_wrong(
    name: str, r: float
) -> None:
    fmt = FORMATS[name]
    below, above = (float(formats.step(fmt, np.array(r), k)) for k in (-1, 1))
    assert ulp(fmt, r, r) == 0
    assert correct(fmt, r, r)
    assert ulp(fmt, below, r) == 0.5
    assert not correct(fmt, below, r)
    assert ulp(fmt, above, r) == 1


@pytest.mark.parametrize("distance", [-60, -300, -2000])
def test_just_below_a_power_of_two_the_ulp_is_that_of_the_lower_binade(distance: int) -> None:
    for sign in (1, -1):
        just_below = sign * (1 - Fraction(2) ** distance)
        assert ulp(F32, sign * float(np.nextafter(np.float32(1), 0)), just_below) == pytest.approx(
            1
        )
        assert ulp(F32, sign * 1.0, just_below) == pytest.approx(0, abs=2.0**-30)
        just_above = sign * (1 + Fraction(2) ** distance)
        assert ulp(F32, sign * float(np.nextafter(np.float32(1), 0)), just_above) == pytest.approx(
            0.5
        )


def test_infinity_is_right_beyond_the_range_and_one_ulp_from_the_largest_value_at_its_edge() -> (
    None
):
    assert ulp(F32, math.inf, Fraction(6 * 10**38)) == 0
    assert correct(F32, math.inf, Fraction(6 * 10**38))
    assert ulp(F32, F32.max_finite, Fraction(6 * 10**38)) == 1
    assert ulp(F32, math.inf, Fraction(F32.max_finite)) == 1
    assert ulp(F32, math.inf, "inf") == 0
    assert ulp(F32, -math.inf, "inf") == 2.0**25
    assert ulp(F32, F32.max_finite, "inf") == 1
    assert ulp(F32, -math.inf, "-inf") == 0


def test_zero_counts_in_smallest_subnormals() -> None:
    eta = F32.smallest_subnormal
    assert ulp(F32, 3 * eta, 0.0) == 3
    assert ulp(F32, 0.0, 0.0) == 0
    assert ulp(F32, 0.0, Fraction(eta) / 2) == 0.5
    assert correct(F32, 0.0, Fraction(eta) / 2)
    assert not correct(F32, eta, Fraction(eta) / 2)
    assert ulp(F32, 0.0, Fraction(1, 2**4000)) == 0


def test_the_metric_is_total_over_nan() -> None:
    e = measure(F32, [math.nan, 1.0, math.nan, math.nan, 7.0, math.nan],
                ["nan", "nan", 1.0, "undefined", "undefined", "inf"])  # fmt: skip
    assert e.ulp[0].tolist() == [0, math.inf, math.inf, 0, 0, math.inf]
    assert e.nan[0].tolist() == [False, True, True, False, False, True]
    assert e.correct[0].tolist() == [True, False, False, True, True, False]
    assert e.ratio(np.full((1, 6), np.longdouble(1)))[0].tolist()[:3] == [0, math.inf, math.inf]


def test_errors_beyond_the_range_of_float64_ulps_are_finite() -> None:
    """A float64 result of 1 has 2^1074 smallest subnormals; only NaN scores infinity."""
    f64 = FORMATS["float64"]
    e = measure(f64, [1.0, 1e300, -math.inf], [Fraction(1, 2**1074), 0.0, Fraction(1, 2**1074)])
    assert np.isfinite(e.ulp).all()
    assert float(e.absolute[0, 0]) == pytest.approx(1.0)
    assert e.ratio(np.full((1, 3), np.longdouble(4.0)))[0, 0] == pytest.approx(0.25)


def test_signs_zeros_and_infinities_have_columns_of_their_own() -> None:
    tiny = Fraction(1, 2**300)
    e = measure(
        F32,
        [-1.0, 1.0, 0.0, -0.0, 0.0, 0.0, math.inf, 1.0],
        [1.0, 1.0, -tiny, -tiny, 0.0, 1.0, 1.0, "inf"],
    )
    assert e.sign[0].tolist() == [True] + [False] * 7
    assert e.zero_sign[0].tolist() == [False, False, True, False, False, False, False, False]
    assert e.lost[0].tolist() == [False] * 5 + [True, False, False]
    assert e.infinite[0].tolist() == [False] * 6 + [True, True]


def test_in_a_format_without_infinity_overflow_is_nan() -> None:
    fmt = FORMATS["float8_e4m3fn"]
    e = measure(
        fmt, [math.nan, 448.0, 448.0, math.nan], [Fraction(465), Fraction(464), 448.0, 448.0]
    )
    assert e.correct[0].tolist() == [True, True, True, False]
    assert e.nan[0].tolist() == [False, False, False, True]


def test_shapes_must_agree() -> None:
    with pytest.raises(
        ValueError, match=r"result of shape \(1, 2\) against references of \(1, 1\)"
    ):
        metrics.errors(np.zeros((1, 2)), references(F32, [1.0]))


@given(
    name=st.sampled_from(sorted(FORMATS)),
    num=st.integers(-(1 << 80), 1 << 80),
    den=st.integers(1, 1 << 80),
    scale=st.integers(-160, 130),
    steps=st.integers(-5, 5),
)
@settings(max_examples=300, deadline=None)
def test_ulp_errors_are_those_of_fractions(
    name: str, num: int, den: int, scale: int, steps: int
) -> None:
    fmt, exact = FORMATS[name], Fraction(num, den) * Fraction(2) ** scale
    nearest = formats.round_fraction(fmt, exact)
    if not math.isfinite(nearest) or abs(exact) > fmt.max_finite:
        return
    y = float(formats.step(fmt, np.array(nearest), steps))
    e = max(_floor_log2(exact), fmt.emin) if exact else fmt.emin
    quantum = Fraction(2) ** (e - fmt.precision + 1)
    expected = abs(Fraction(y) - exact) / quantum
    assert ulp(fmt, y, exact) == pytest.approx(float(expected), rel=1e-9, abs=1e-9)
    assert correct(fmt, y, exact) == (y == nearest)


def _floor_log2(value: Fraction) -> int:
    e = value.numerator.bit_length() - value.denominator.bit_length()
    e -= value < 0 and 0
    return e if Fraction(2) ** e <= abs(value) else e - 1


# ---------------------------------------------------------------- underflow policies

GAPS = np.array([10.0, 50, 80, 85, 87, 87.3, 87.4, 88, 90, 95, 100, 103, 103.5, 104.5, 120, 1000])


def ladder(name: str = "float32") -> tuple[dict[str, Any], oracle.References]:
    fmt = FORMATS[name]
    scale = -math.log(fmt.smallest_normal) / -math.log(F32.smallest_normal)
    x = np.stack([np.zeros(GAPS.size), formats.nearest(fmt, -GAPS * scale)], axis=1)
    inputs = {"x": x}
    return inputs, oracle.evaluate("softmax", "value", "-", inputs, fmt)


def policy(result: Any, inputs: Any, refs: oracle.References) -> metrics.Underflow:
    both = [
        bounds.evaluate("softmax", "value", "-", inputs, refs.format, flushes=f)
        for f in (False, True)
    ]
    return metrics.underflow(result, refs, *both)


@pytest.mark.parametrize("name", ["float64", "float32", "bfloat16", "float16"])
def test_underflow_policies_of_made_implementations(name: str) -> None:
    inputs, refs = ladder(name)
    right, smallest = refs.rounded(), FORMATS[name].smallest_normal
    found = {
        "gradual": right,
        "flush": np.where(right < smallest, 0, right),
        "partial": np.where(right < smallest / 4, 0, right),
        "premature": np.where(right < smallest * 64, 0, right),
    }
    for expected, result in found.items():
        got = policy(result, inputs, refs)
        assert got.policy == expected
        assert got.flushes == (expected in ("flush", "partial"))
        assert got.last_nonzero == result[result > 0].min()
        lost = (result == 0) & (right > 0)
        assert not lost.any() or got.lost_up_to == pytest.approx(right[lost].max(), rel=0.3)


def test_a_ladder_that_never_leaves_the_normal_range_says_nothing_of_underflow() -> None:
    inputs = {"x": np.array([[0.0, -10.0]])}
    refs = oracle.evaluate("softmax", "value", "-", inputs, F32)
    assert policy(refs.rounded(), inputs, refs).policy == "none"


def test_zeros_that_gradual_underflow_rounds_to_say_nothing_of_underflow() -> None:
    inputs = {"x": np.array([[0.0, -10.0], [0.0, -103.9]])}
    refs = oracle.evaluate("softmax", "value", "-", inputs, F32)
    result = refs.rounded()
    assert 0 < result[1, 1] < F32.smallest_normal
    assert policy(result, inputs, refs).policy == "gradual"
    result[1, 1] = 0.0  # within a rounding of the smallest subnormal number
    assert policy(result, inputs, refs).policy == "none"


def test_zeros_are_explained_by_a_flushing_policy_below_the_smallest_normal_only() -> None:
    inputs, refs = ladder()
    flushing = bounds.evaluate("softmax", "value", "-", inputs, F32, flushes=True)
    right = refs.rounded()
    flush = metrics.Underflow("flush", 0.0, 0.0)
    flushed = np.where(right < F32.smallest_normal, 0, right)
    explained = metrics.explained(flushed, refs, flushing, flush)
    assert (explained == ((flushed == 0) & (right != 0))).all()
    everything = metrics.explained(np.zeros_like(right), refs, flushing, flush)
    assert not everything[right > 4 * F32.smallest_normal].any()
    gradual = metrics.Underflow("gradual", 0.0, 0.0)
    assert not metrics.explained(flushed, refs, flushing, gradual).any()


def test_the_normwise_error_is_relative_to_the_largest_reference_or_size() -> None:
    refs = references(F32, [1.0, Fraction(1, 1000)])
    e = metrics.errors(np.array([[1.0, 0.101]]), refs)
    size = np.array([[0.0, 0.0]], np.longdouble)
    made = bounds.Bounds(size, size, size, size, size)
    usable = np.ones((1, 2), bool)
    assert metrics.normwise(e, refs, made, usable)[0] == pytest.approx(0.1)
    made = bounds.Bounds(size, size, size, size + 10, size)
    assert metrics.normwise(e, refs, made, usable)[0] == pytest.approx(0.01)
    assert metrics.normwise(e, refs, made, usable & [[True, False]])[0] == 0
