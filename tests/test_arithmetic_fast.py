"""The two vectorised tiers: every ball holds the truth, and no ball is wider than it says.

Truth is mpmath at hundreds of bits. REFERENCE_LONG=1 takes fifty times as many arguments.
"""

from __future__ import annotations

import math
from typing import Any

import mpmath
import numpy as np
import pytest
from balls import (
    SCALE,
    assert_encloses,
    assert_tight,
    exactly,
    inexact,
    mp,
    pairs,
    radius,
    rng,
    value,
    wild_floats,
)

from reference.arithmetic import _eft, _tables
from reference.arithmetic._ball import NONNEGATIVE

pytestmark = pytest.mark.usefixtures("strict")


# ---------------------------------------------------------------- transformations and tables


def test_error_free_transformations_lose_nothing() -> None:
    r = rng(1)
    x = np.ldexp(r.uniform(-1, 1, 2000), r.integers(-200, 200, 2000).astype(np.int32))
    y = np.ldexp(r.uniform(-1, 1, 2000), r.integers(-200, 200, 2000).astype(np.int32))
    s, e = _eft.two_sum(x, y)
    p, f = _eft.two_prod(x, y)
    q, g = _eft.two_square(x)
    with mpmath.workprec(2000):
        for i in range(x.size):
            u, v = mp.mpf(x[i]), mp.mpf(y[i])
            assert u + v == mp.mpf(s[i]) + mp.mpf(e[i])
            assert u * v == mp.mpf(p[i]) + mp.mpf(f[i])
            assert u * u == mp.mpf(q[i]) + mp.mpf(g[i])


@pytest.mark.parametrize(
    "shapes",
    [
        ((), ()),
        ((3,), (3,)),
        ((40000,), ()),
        ((300, 100), (300, 1)),
        ((5000, 10), (5000, 1)),
        ((3, 20000), (3, 1)),
        ((2, 30, 700), (2, 30, 1)),
        ((30, 700), (1, 700)),
        ((0, 5), (0, 1)),
        ((4, 0), (4, 1)),
    ],
)
def test_blocks_change_no_bit(shapes: tuple[tuple[int, ...], ...]) -> None:
    r = rng(2)
    x, y = (r.standard_normal(s) for s in shapes)
    expected = _eft.two_sum(x, y)
    got = _eft.blocked(_eft.two_sum, x, y)
    for e, g in zip(expected, got, strict=True):
        np.testing.assert_array_equal(np.asarray(e), g)


def test_tables_hold_what_they_say() -> None:
    t = _tables.tables()
    first = -(_tables.STEPS // 2) - _tables.PAD
    for i in range(0, len(t.power_high), 7):
        j = first + i
        exact = mpmath.power(2, mp.mpf(j) / _tables.STEPS)
        step = mpmath.log(2) / _tables.STEPS
        for high, low, v in (
            (t.power_high[i], t.power_low[i], exact),
            (t.minus_one_high[i], t.minus_one_low[i], exact - 1),
            (t.remainder_high[i], t.remainder_low[i], exact - 1 - j * step),
        ):
            assert abs(mp.mpf(high) + mp.mpf(low) - v) <= abs(v) * mpmath.ldexp(1, -106)
            assert float(v) == high
    assert t.power_high[-first] == 1.0
    for parts, v in (
        ((_tables.STEP_1, _tables.STEP_2, _tables.STEP_3), mpmath.log(2) / _tables.STEPS),
        (_tables.LN2_PARTS, mpmath.log(2)),
        ((_tables.LN2_HIGH, _tables.LN2_LOW), mpmath.log(2)),
    ):
        bits = {3: 105, 2: 106}[len(parts)]
        assert abs(mpmath.fsum(parts) / v - 1) < mpmath.ldexp(1, -bits)
    assert math.frexp(_tables.STEP_1)[0] * 2**29 % 1 == 0
    assert math.frexp(_tables.STEP_2)[0] * 2**29 % 1 == 0


# ---------------------------------------------------------------- ring operations


def test_differences_are_exact_up_to_the_largest_numbers(a: Any) -> None:
    x, y = pairs(rng(3), 3000)
    x[:2], y[:2] = np.finfo(float).max, -np.finfo(float).max
    with mpmath.workprec(3000):
        truth = [u - v for u, v in zip(exactly(x), exactly(y), strict=True)]
    ball = a.difference(x, y)
    assert_encloses(a, ball, truth)
    assert ball.relative <= 2.0**-1000
    small = (np.abs(x) < 1e300) & (np.abs(y) < 1e300)
    exact = a.difference(x[small], y[small])
    assert exact.is_exact
    assert value(exact) == [t for t, s in zip(truth, small, strict=True) if s]


@pytest.mark.parametrize("name", ["add", "sub", "mul", "div"])
def test_ring_operations_on_exact_numbers(a: Any, name: str) -> None:
    x, y = pairs(rng(4), 4000 * SCALE)
    if name == "div":
        y[y == 0] = 1.0
    u, v = a.exact(x), a.exact(y)
    op = {"add": "__add__", "sub": "__sub__", "mul": "__mul__", "div": "__truediv__"}[name]
    ball = getattr(u, op)(v)
    with mpmath.workprec(3000):
        truth = [getattr(p, op)(q) for p, q in zip(exactly(x), exactly(y), strict=True)]
    assert_encloses(a, ball, truth)
    bound = {"add": a.ADD, "sub": a.ADD, "mul": a.MUL, "div": a.DIV}[name]
    if name in ("mul", "div"):
        assert_tight(ball, truth, bound * 1.001)


@pytest.mark.parametrize("name", ["add", "sub", "mul", "div"])
@pytest.mark.parametrize("spread", [2.0**-90, 2.0**-40, 2.0**-3])
@pytest.mark.parametrize("tame", [True, False])
def test_ring_operations_on_balls(a: Any, name: str, spread: float, tame: bool) -> None:
    r = rng(5, int(-math.log2(spread)), tame)
    x, y = (r.standard_normal(1000), r.standard_normal(1000)) if tame else pairs(r, 1500)
    x, y = np.clip(x, -1e303, 1e303), np.clip(y, -1e303, 1e303)
    (u, p), (v, q) = inexact(a, x, r, spread), inexact(a, y, r, spread)
    op = {"add": "__add__", "sub": "__sub__", "mul": "__mul__", "div": "__truediv__"}[name]
    ball = getattr(u, op)(v)
    with mpmath.workprec(3000):
        truth = [
            getattr(s, op)(t) if t != 0 or name != "div" else mp.mpf(1)
            for s, t in zip(p, q, strict=True)
        ]
    assert_encloses(a, ball, truth)


def test_quotients_by_balls_that_hold_zero_are_the_whole_line(a: Any) -> None:
    one = a.exact(np.ones(3))
    divisor = a.exact(np.array([0.0, 1.0, 1.0])).replace(absolute=np.array([0.0, 1.0, 0.5]))
    *_, rad = a.expand(one / divisor)
    assert np.isinf(rad[:2]).all()
    assert rad[2] < 1.1


def test_exponents_that_leave_every_range_stay_sound(a: Any) -> None:
    tiny = a.exp(a.exact(np.array([-1e15, -1e15, 1e15, -1e300, 0.0])))
    power = tiny
    for _ in range(12):  # 2^-5.9e18 is beyond 2^61
        power = power * power
    assert power.sign == NONNEGATIVE
    hi, lo, exponent, rad = a.expand(power)
    assert np.isfinite(rad).tolist() == [True, True, False, True, True]
    assert (exponent[[0, 1, 3]] < -(10**15)).all()
    assert hi[-1] + lo[-1] == 0.5
    lower, upper = a.enclosure(power)
    assert (lower[[0, 1, 3]] == 0).all()
    assert (upper[[0, 1, 3]] <= 5e-324).all()


# ---------------------------------------------------------------- sums


@pytest.mark.parametrize("n", [1, 2, 3, 7, 10, 127, 128, 129, 1000, 30001])
def test_sums(a: Any, n: int) -> None:
    r = rng(6, n)
    rows = max(2, 60 // n)
    for kind in range(5):
        x = r.standard_normal((rows, n)) * 10.0 ** r.integers(-20, 20, (rows, n))
        if kind == 1:
            x = np.abs(x)
        elif kind == 2 and n > 1:  # cancels to almost nothing
            half = n // 2
            x[:, half : 2 * half] = -x[:, :half]
            x[:, -1] = 1e-30
            r.permuted(x, axis=1, out=x)
        elif kind == 3:
            x = wild_floats(r, rows * n if rows * n > 100 else 200)[: rows * n].reshape(rows, n)
        elif kind == 4:
            x = -np.full((rows, n), 0.1)
        ball = a.sum(a.exact(x))
        with mpmath.workprec(3000):
            truth = [mpmath.fsum(exactly(row)) for row in x]
            size = [mpmath.fsum(exactly(np.abs(row))) for row in x]
        assert ball.shape == (rows, 1)
        assert_encloses(a, ball, truth)
        levels = (n - 1).bit_length()
        for got, s in zip(radius(ball), size, strict=True):
            assert got <= s * a.total_bound(levels) * 1.01 + s * mpmath.ldexp(1, -450)
        if kind in (1, 4):
            assert ball.absolute is None


def test_sums_of_balls_with_exponents_of_their_own(a: Any) -> None:
    r = rng(7)
    x = r.uniform(-3000, 3000, (20, 50))
    e = a.exp(a.exact(x))
    assert e.exponent is not None
    signs = r.choice([-1.0, 1.0], x.shape)
    total = a.sum(e * a.exact(signs))
    truth = [
        mpmath.fsum(mpmath.exp(v) * int(s) for v, s in zip(exactly(row), sign, strict=True))
        for row, sign in zip(x, signs, strict=True)
    ]
    assert_encloses(a, total, truth)
    assert_tight(total, truth, 2.0**-40)
    plain = a.sum(e)
    assert plain.sign == NONNEGATIVE
    assert_encloses(a, plain, [mpmath.fsum(map(mpmath.exp, exactly(row))) for row in x])
    zeros = a.sum(a.exact(np.zeros((2, 5))) * e[:2, :5])
    assert_encloses(a, zeros, [mp.mpf(0)] * 2)
    assert max(radius(zeros)) == 0


def test_totals_are_sums_of_exact_numbers(a: Any) -> None:
    x = rng(18).standard_normal((5, 40))
    assert_encloses(a, a.total(x), [mpmath.fsum(exactly(row)) for row in x])


def test_empty_rows_sum_to_zero(a: Any) -> None:
    ball = a.sum(a.exact(np.empty((3, 0))))
    assert ball.shape == (3, 1)
    assert_encloses(a, ball, [mp.mpf(0)] * 3)


# ---------------------------------------------------------------- shapes and selection


def test_indexing_and_where_keep_everything(a: Any) -> None:
    x = rng(12).uniform(-2000, 2, (6, 5))
    e, small = a.exp(a.exact(x)), a.exact(np.full((1, 5), 0.25)).replace(absolute=np.ones((1, 5)))
    picked = e[np.array([1, 3]), 2:4]
    assert picked.shape == (2, 2)
    assert_encloses(a, picked, [mpmath.exp(v) for v in exactly(x[[1, 3], 2:4])])
    assert e[0, 0].shape == ()
    mask = x > -1000
    both = a.where(mask, e, small)
    truth = [
        mpmath.exp(v) if m else mp.mpf(1.25) for v, m in zip(exactly(x), mask.flat, strict=True)
    ]
    assert_encloses(a, both, truth)
    assert_encloses(
        a, (-both)[:, ::2], [-t for t in np.array(truth, object).reshape(6, 5)[:, ::2].flat]
    )


def test_a_column_broadcasts(a: Any) -> None:
    x = rng(13).standard_normal((40, 33))
    column = np.abs(x[:, :1]) + 1
    ball = a.exact(x) / a.exact(column)
    truth = [u / v for row, v in zip(x, exactly(column), strict=True) for u in exactly(row)]
    assert_encloses(a, ball, truth)
