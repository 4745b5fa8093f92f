"""Decisions on the bits of float64 against the general way; rows that the filters let through."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reference import fast, formats, oracle
from reference.arithmetic._ball import FloatBall
from reference.arithmetic.binary64 import Binary64
from reference.arithmetic.doubledouble import DoubleDouble
from reference.formats import FORMATS
from reference.ops.base import Batch, sums_to_zero
from reference.ops.deviation import may_share_mean
from reference.ops.exponential import common_mean

NARROW = [name for name, fmt in FORMATS.items() if fmt.precision <= 24]


def midpoints(name: str, rng: np.random.Generator) -> np.ndarray:
    """Format values, boundaries between them, powers of two and their neighbours in float64."""
    fmt = FORMATS[name]
    exponents = rng.integers(max(fmt.emin - fmt.precision - 2, -880), min(fmt.emax, 880) - 1, 400)
    steps = rng.integers(1 << (fmt.precision + 1), 1 << (fmt.precision + 2), 400)
    at = np.ldexp(steps.astype(np.float64), exponents - fmt.precision - 1)
    at = np.concatenate([at, np.ldexp(1.0, exponents[:100]), [0.0]])
    near = at.view(np.int64) + rng.integers(-12, 13, at.size) * (at != 0)
    values = np.concatenate([at, near.view(np.float64), at * rng.uniform(0.9, 1.1, at.size)])
    return values * rng.choice([-1.0, 1.0], values.size)


def agree(quick: fast.Decided, slow: fast.Decided, fmt: formats.Format) -> None:
    """What is decided on bits is decided in general, and alike."""
    assert quick.mask.any()
    assert not (quick.mask & ~slow.mask).any()
    both = quick.mask
    one, other = (
        formats.round_expansion(fmt, d.hi[both], d.lo[both], d.exponent[both])
        for d in (quick, slow)
    )
    np.testing.assert_array_equal(one, other)
    assert (np.abs(quick.hi[both]) >= 0.5).all()
    assert (np.abs(quick.hi[both]) < 1).all()
    # Lost, even among these hardest points, is little: powers of two where no binade begins.
    assert (slow.mask & ~quick.mask).mean() < 0.1


@pytest.mark.parametrize("relative", [2.0**-53, 2.0**-50, 2.0**-46])
@pytest.mark.parametrize("name", NARROW)
def test_ends_are_decided_on_their_bits_as_in_general(name: str, relative: float) -> None:
    fmt = FORMATS[name]
    mid = midpoints(name, np.random.default_rng([1, fmt.precision]))[:, None]
    ball = FloatBall(Binary64(), (mid,), relative=relative)
    quick = fast._near_ends(ball, fmt)
    assert quick is not None
    agree(quick, fast._by_ends(ball, fmt, None), fmt)


@pytest.mark.parametrize("relative", [2.0**-104, 2.0**-96, 2.0**-80])
def test_words_are_decided_on_their_bits_as_in_general(relative: float) -> None:
    fmt, rng = FORMATS["float64"], np.random.default_rng(2)
    high = midpoints("float64", rng)[:, None]
    spread = rng.choice([0.0, 2.0**-53, -(2.0**-53), 2.0**-54, -(2.0**-54), 2.0**-80], high.shape)
    low = high * spread * (1 + rng.integers(-3, 4, high.shape) * 2.0**-40)
    high, low = high + low, low - ((high + low) - high)
    ball = FloatBall(DoubleDouble(), (high, low), relative=relative)
    quick = fast._near_words(ball, fmt)
    assert quick is not None
    agree(quick, fast._by_words(ball, fmt, None), fmt)
    exact = [
        Fraction(float(h)) + Fraction(float(v)) for h, v in zip(high[:, 0], low[:, 0], strict=True)
    ]
    for r in np.flatnonzero(quick.mask[:, 0]):
        value = Fraction(float(quick.hi[r, 0])) + Fraction(float(quick.lo[r, 0]))
        value *= Fraction(2) ** int(quick.exponent[r, 0])
        assert abs(value - exact[r]) <= abs(exact[r]) * Fraction(2) ** -104


@pytest.mark.parametrize(
    "ball",
    [
        FloatBall(Binary64(), (np.ones((1, 1)),), relative=2.0**-40),
        FloatBall(Binary64(), (np.full((1, 1), 2.0**-950),), relative=2.0**-50),
        FloatBall(Binary64(), (np.full((1, 1), 2.0**200),), relative=2.0**-50),
    ],
    ids=["wide", "small", "large"],
)
def test_what_is_not_near_is_left_to_the_general_way(ball: FloatBall) -> None:
    assert fast._near_ends(ball, FORMATS["float32"]) is None


def test_the_order_of_blocks_is_the_order_of_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    x = formats.nearest(FORMATS["float32"], 4 * rng.standard_normal((37, 5)))
    x[5], x[11, 2], x[17, 0], x[23] = 1.0, -np.inf, np.inf, np.nan
    whole = oracle.evaluate("softmax", "value", "-", {"x": x}, FORMATS["float32"])
    monkeypatch.setattr(oracle, "_BLOCK", 20)
    pieces = oracle.evaluate("softmax", "value", "-", {"x": x}, FORMATS["float32"])
    np.testing.assert_array_equal(whole.codes, pieces.codes)
    np.testing.assert_array_equal(whole.rounded(), pieces.rounded())


small = st.integers(-3, 3).map(float)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.tuples(small, small), min_size=2, max_size=6), st.sampled_from([1.0, 1e300, 5e-324])
)
def test_no_row_with_a_common_mean_is_filtered_out(
    pairs: list[tuple[float, float]], scale: float
) -> None:
    x, v = (np.array([column]) for column in zip(*pairs, strict=True))
    v = v * scale
    if common_mean(x[0], v[0]) is not None:
        assert may_share_mean(Batch({"x": x}), v)[0]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=3, max_size=3),
                min_size=1, max_size=4))  # fmt: skip
def test_sums_to_zero_is_exact(rows: list[list[float]]) -> None:
    closed = [[*row, -row[0], -row[1], -row[2]] for row in rows]
    for values in (np.array(rows), np.array(closed)):
        exact = [sum(map(Fraction, row)) == 0 for row in values.tolist()]
        assert sums_to_zero(values).tolist() == exact


def test_a_sum_that_is_nearly_zero_is_not() -> None:
    values = np.array([[1.0, 1e-30, -1.0], [1e308, 1e308, -1e308], [1e308, 1e308, -1.5e308]])
    assert sums_to_zero(values).tolist() == [False, False, False]
    assert sums_to_zero(np.array([[1e308, 1e308, -1e308, -1e308]])).tolist() == [True]
