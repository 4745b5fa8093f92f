"""The two vectorised tiers: every ball holds the truth, and no ball is wider than it says.

Truth is mpmath at hundreds of bits. REFERENCE_LONG=1 takes fifty times as many arguments.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from typing import Any

import mpmath
import numpy as np
import pytest

from reference.arithmetic import _double_word, _eft, _tables
from reference.arithmetic._ball import NONNEGATIVE, NONPOSITIVE, FloatBall
from reference.arithmetic.binary64 import Binary64
from reference.arithmetic.doubledouble import DoubleDouble

mp = mpmath.mp
SCALE = 50 if os.environ.get("REFERENCE_LONG") else 1
LN2 = math.log(2.0)


@pytest.fixture(autouse=True)
def _strict() -> Iterator[None]:
    """No floating-point warning may come from inside, and 300 bits judge."""
    with np.errstate(all="raise"), mpmath.workprec(300):
        yield


@pytest.fixture(params=[Binary64(), DoubleDouble()], ids=["binary64", "doubledouble"])
def a(request: pytest.FixtureRequest) -> Any:
    return request.param


# ---------------------------------------------------------------- helpers


def phi(c: Any) -> Any:
    """e^c - 1 - c without cancellation."""
    if abs(c) > 1:
        return mpmath.expm1(c) - c
    with mpmath.workprec(300 + 2 * max(0, -mpmath.frexp(c)[1])):
        return mpmath.exp(c) - 1 - c if abs(c) > mpmath.ldexp(1, -400) else c * c / 2 * (1 + c / 3)


FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "exp": mpmath.exp,
    "expm1": mpmath.expm1,
    "phi": phi,
    "log": mpmath.log,
    "log1p": mpmath.log1p,
}


def exactly(values: Any) -> list[Any]:
    return [mp.mpf(float(v)) for v in np.ravel(values)]


def value(ball: FloatBall) -> list[Any]:
    """Midpoints, exactly."""
    k = np.zeros(ball.shape, int) if ball.exponent is None else ball.exponent
    with mpmath.workprec(3000):
        return [
            mpmath.ldexp(mpmath.fsum(float(w.flat[i]) for w in ball.parts), int(k.flat[i]))
            for i in range(ball.mid.size)
        ]


def radius(ball: FloatBall) -> list[Any]:
    """relative |mid| + absolute, exactly."""
    k = np.zeros(ball.shape, int) if ball.exponent is None else ball.exponent
    absolute = np.zeros(ball.shape) if ball.absolute is None else ball.absolute
    with mpmath.workprec(3000):
        return [
            abs(m) * mp.mpf(ball.relative) + mpmath.ldexp(mp.mpf(float(r)), int(e))
            for m, r, e in zip(
                value(ball),
                np.broadcast_to(absolute, ball.shape).flat,
                np.broadcast_to(k, ball.shape).flat,
                strict=True,
            )
        ]


def assert_encloses(a: Any, ball: FloatBall, truth: list[Any]) -> None:
    """Every true value is in its ball, in the expanded ball, in the enclosure, and on its side."""
    assert ball.mid.size == len(truth)
    assert all(np.isfinite(w).all() for w in ball.parts)
    sign = ball.sign
    mids, radii = value(ball), radius(ball)
    hi, lo, exponent, rad = (v.ravel() for v in a.expand(ball))
    lower, upper = (v.ravel() for v in a.enclosure(ball))
    assert ((np.abs(hi) >= 0.5) & (np.abs(hi) < 1) | (hi == 0)).all()
    with mpmath.workprec(3000):
        for i, t in enumerate(truth):
            where = f"element {i}: truth {mpmath.nstr(t, 25)}, mid {mpmath.nstr(mids[i], 25)}"
            slack = mpmath.ldexp(abs(t), -290)
            assert abs(t - mids[i]) <= radii[i] + slack, where
            if math.isfinite(rad[i]):
                mid = mpmath.ldexp(mp.mpf(hi[i]) + mp.mpf(lo[i]), int(exponent[i]))
                bound = mpmath.ldexp(mp.mpf(rad[i]), int(exponent[i]))
                assert abs(t - mid) <= bound + slack, where
            assert lower[i] - slack <= t <= upper[i] + slack, where
            if sign & NONNEGATIVE:
                assert t >= 0, where
            if sign & NONPOSITIVE:
                assert t <= 0, where


def assert_tight(ball: FloatBall, truth: list[Any], bound: float) -> None:
    """Radius over value is at most the stated bound (and a hair for its own rounding)."""
    for r, t in zip(radius(ball), truth, strict=True):
        assert r <= abs(t) * bound * (1 + 2.0**-20), (mpmath.nstr(t, 20), mpmath.nstr(r / t, 5))


def rng(*key: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64DXSM(key))


def wild_floats(r: np.random.Generator, n: int) -> Any:
    """Every binade alike, subnormals, powers of two, and the corners."""
    with np.errstate(under="ignore"):
        x = np.ldexp(r.uniform(0.5, 1.0, n), r.integers(-1073, 1025, n).astype(np.int32))
    x[: n // 8] = np.ldexp(1.0, r.integers(-1074, 1024, n // 8).astype(np.int32))
    corners = [0.0, 5e-324, 2.0**-1022, np.finfo(float).max, 1.0, 1e300, 1e-300]
    x[n // 8 : n // 8 + len(corners)] = corners
    return x * r.choice([-1.0, 1.0], n)


def pairs(r: np.random.Generator, n: int) -> tuple[Any, Any]:
    """Unrelated pairs, neighbours that cancel, and pairs of similar size."""
    x, y = wild_floats(r, n), wild_floats(r, n)
    third = n // 3
    x[:third] = np.clip(x[:third], -1e300, 1e300)
    with np.errstate(under="ignore"):
        y[:third] = -x[:third] * (1 + r.integers(-3, 4, third) * 2.0**-52)
        shift = r.integers(-60, 3, third).astype(np.int32)
        y[third : 2 * third] = np.ldexp(x[third : 2 * third] / 4, shift)
    return x, y


def inexact(a: Any, mid: Any, r: np.random.Generator, spread: float) -> tuple[FloatBall, list[Any]]:
    """Balls around ``mid`` with both kinds of radius, and a true value somewhere in each."""
    ball = a.exact(mid)
    relative = spread
    with np.errstate(under="ignore"):
        absolute = np.abs(mid) * spread * r.choice([0.0, 0.5, 3.0], mid.shape)
    wide = ball.replace(relative=relative, absolute=absolute)
    theta = r.choice([-1.0, -0.5, 0.0, 0.7, 1.0], mid.size)
    with mpmath.workprec(3000):
        truth = [
            m + mp.mpf(t) * p * (1 - mpmath.ldexp(1, -30))
            for m, t, p in zip(value(wide), theta, radius(wide), strict=True)
        ]
    return wide, truth


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


# ---------------------------------------------------------------- functions


def hard_arguments(name: str, r: np.random.Generator, n: int) -> Any:
    """Random over every scale, both neighbours of the places where the method changes."""
    step = LN2 / _tables.STEPS
    if name in ("exp", "expm1", "phi"):
        edges = [step / 2, step, 1.5 * step, 0.35, LN2 / 2, LN2, 600.0, 602.0, 709.0, 745.2]
        edges += [88.7, 103.97, 2.0**-110, 2.0**-54, 1.0, 1e4, 2.0**40]
        ties = (r.integers(-(2**23), 2**23, n // 4) + r.choice([0.0, 0.5], n // 4)) * step
        multiples = r.integers(-1100, 1100, n // 8) * LN2
        scales = np.exp(r.uniform(np.log(1e-40), np.log(1e3), n // 2))
        small = r.uniform(-0.36, 0.36, n // 8)
        x = np.concatenate([ties, multiples, scales * r.choice([-1.0, 1.0], n // 2), small])
        edges += [-e for e in edges]
    else:
        edges = [2.0**-110, 2.0**110, 2.0**900, 5e-324, 1e-310, 1e308, 0.5, 1.0, 2.0, 1e-17]
        if name == "log":
            edges += [math.sqrt(0.5), math.sqrt(2.0), 0.999999, 1.0000001]
            x = np.abs(wild_floats(r, n // 2))
            near_one = 1 + np.exp(r.uniform(-36, -1, n // 4)) * r.choice([-1.0, 1.0], n // 4)
            x = np.concatenate([x[x > 0], near_one])
        else:
            edges += [-0.29, 0.41, -0.2929, 0.4143, -1 + 2.0**-53, -0.5, -1e-17, -(2.0**-110)]
            x = np.concatenate(
                [
                    np.abs(wild_floats(r, n // 4)),
                    r.uniform(-0.3, 0.42, n // 4),
                    -1 + np.exp(r.uniform(-36, 0, n // 8)),
                    np.exp(r.uniform(-100, 3, n // 4)) * 1.0,
                    -np.exp(r.uniform(-100, -0.01, n // 4)),
                ]
            )
            x = x[x > -1]
    with np.errstate(under="ignore"):
        near = [np.nextafter(e, s) for e in edges for s in (-np.inf, np.inf)]
    return np.concatenate([x, edges, near])


@pytest.mark.parametrize("name", list(FUNCTIONS))
def test_functions_of_exact_numbers(a: Any, name: str) -> None:
    x = hard_arguments(name, rng(8, len(name)), 12000 * SCALE)
    # One relative radius serves a whole array, and far from 0 phi and expm1 are made of exp.
    bound = max(a.EXP, getattr(a, {"log1p": "LOG"}.get(name, name.upper())))
    truth = [FUNCTIONS[name](v) for v in exactly(x)]
    # Once all together (exponents of their own), once the easy ones (the fast path).
    for chosen in (np.ones(x.shape, bool), (np.abs(x) < 500) & (np.abs(x) > 1e-30)):
        ball = getattr(a, name)(a.exact(x[chosen]))
        expected = [t for t, c in zip(truth, chosen, strict=True) if c]
        assert_encloses(a, ball, expected)
        assert_tight(ball, expected, bound * 1.01)
        if name in ("exp", "phi"):
            assert ball.sign == NONNEGATIVE


@pytest.mark.parametrize("name", list(FUNCTIONS))
@pytest.mark.parametrize("spread", [2.0**-95, 2.0**-45, 2.0**-6])
def test_functions_of_balls(a: Any, name: str, spread: float) -> None:
    r = rng(9, len(name), int(-math.log2(spread)))
    x = hard_arguments(name, r, 2000)
    x = x[np.abs(x) < 1e300]
    for chosen in (np.ones(x.shape, bool), (np.abs(x) < 500) & (np.abs(x) > 1e-30)):
        ball, inside = inexact(a, x[chosen], r, spread)
        if name == "log1p":
            inside = [max(t, mp.mpf(-1) + mpmath.ldexp(1, -60)) for t in inside]
        truth = [FUNCTIONS[name](t) for t in inside]
        assert_encloses(a, getattr(a, name)(ball), truth)


def test_exponentials_do_not_suffer_from_long_differences(a: Any) -> None:
    r = rng(10)
    x = r.uniform(0, 700, 3000)
    m = x + r.uniform(0, 1, 3000) + 600 * r.integers(0, 2, 3000)
    d = a.difference(x, m)
    truth = [mpmath.exp(u - v) for u, v in zip(exactly(x), exactly(m), strict=True)]
    ball = a.exp(d)
    assert_encloses(a, ball, truth)
    assert_tight(ball, truth, a.EXP * 1.01)


@pytest.mark.parametrize("name", ["exp", "expm1", "phi", "log1p"])
def test_functions_see_both_words_of_a_difference(a: Any, name: str) -> None:
    r = rng(16)
    x, m = r.uniform(1, 2, 500), r.uniform(0, 1, 500) * 10.0 ** r.integers(-12, 1, 500)
    d = a.difference(x, m)
    truth = [FUNCTIONS[name](u - v) for u, v in zip(exactly(x), exactly(m), strict=True)]
    assert len(d.parts) == 2
    assert_encloses(a, getattr(a, name)(d), truth)


def test_exponentials_beyond_every_range(a: Any) -> None:
    x = np.array([-1e300, -1.7e308, -(2.0**50), -(2.0**49), 2.0**49, 1e300, -1e9, 0.0])
    ball = a.exp(a.exact(x))
    hi, _, exponent, rad = a.expand(ball)
    assert ball.sign == NONNEGATIVE
    assert (exponent[:2] == -(2**50)).all()
    assert (hi[:2] == 0).all()
    assert (rad[:2] == 1).all()
    assert np.isinf(rad[5])
    good = [3, 4, 6, 7]
    with mpmath.workprec(400):
        for i in good:
            truth = mpmath.exp(mp.mpf(x[i]))
            assert abs(mpmath.ldexp(truth, -int(exponent[i])) - mp.mpf(hi[i])) <= 2.0**-50


def test_a_libm_that_is_wrong_widens_the_ball_and_nothing_else(
    a: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = np.log1p

    def wrong(t: Any) -> Any:
        return honest(t) * np.where(np.arange(np.size(t)) % 2, 1.0, 1 + 1e-10)

    monkeypatch.setattr(np, "log1p", wrong)
    x = rng(11).uniform(-0.25, 0.4, 100)
    ball = a.log1p(a.exact(x))
    assert np.isinf(ball.radius()[::2]).all()
    assert np.isfinite(ball.radius()[1::2]).all()
    assert_encloses(a, ball[1::2], [mpmath.log1p(v) for v in exactly(x[1::2])])


def test_logarithms_of_balls_that_reach_zero_are_the_whole_line(a: Any) -> None:
    wide = a.exact(np.array([1.0, 1.0, 0.5])).replace(absolute=np.array([1.0, 0.1, 0.6]))
    assert np.isinf(a.log(wide).radius()).tolist() == [True, False, True]
    assert np.isinf(a.log1p(-wide).radius()).tolist() == [True, True, True]
    outside = a.log1p(a.exact(np.array([-1000.0, -1.0, -1e300, 1e-200, 0.5])))
    assert np.isinf(outside.radius()).tolist() == [True, True, True, False, False]


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


# ---------------------------------------------------------------- compositions


def shifted(a: Any, x: Any) -> tuple[Any, Any]:
    """(d, t): the row without its maximum, and the sum of the other exponentials."""
    top = np.arange(x.shape[-1]) == x.argmax(axis=-1)[:, None]
    d = a.difference(x, x.max(axis=-1, keepdims=True))
    return d, a.sum(a.where(top, a.exact(np.zeros(())), a.exp(d)))


def rows() -> dict[str, Any]:
    r = rng(14)

    def f32(v: Any) -> Any:
        return np.asarray(v, np.float32).astype(np.float64)

    return {
        "gap 1e300": np.array([[0.0, -1e300], [1e300, -1e300], [1.7e308, -1.7e308]]),
        "gap 1000": np.array([[0.0, -1000.0, -1000.0], [3.5, -700.25, -745.0]]),
        "masked": np.array([[1.0, -1e9, 2.0, -1e4], [0.1, -3.4e38, 0.1, -88.0]]),
        "equal": np.full((2, 37), 0.1),
        "single": np.array([[3.0], [-1e300]]),
        "subnormal": np.array([[5e-324, 0.0, -1e-310], [1e-320, 2e-320, 3e-320]]),
        "near ties": 1.0 + r.integers(0, 4, (3, 65)) * 2.0**-52,
        "ten": f32(r.standard_normal((50, 10)) * 10),
        "spread": r.uniform(-800, 0, (4, 300)),
        "vocabulary": f32(r.standard_normal((1, 20000 * (5 if SCALE > 1 else 1))) * 4),
    }


@pytest.mark.parametrize("kind", list(rows()))
def test_softmax_log_softmax_and_logsumexp(a: Any, kind: str) -> None:
    x = rows()[kind]
    d, t = shifted(a, x)
    one = a.exact(np.ones((1, 1)))
    log_sum = a.log1p(t)
    s, log_s = a.exp(d) / (one + t), d - log_sum
    lse = a.exact(x.max(axis=-1, keepdims=True)) + log_sum
    softmax, log_softmax, logsumexp = [], [], []
    for row in x:
        v = exactly(row)
        m = max(v)
        with mpmath.workprec(400):
            rest = mpmath.fsum(map(mpmath.exp, (p - m for p in v))) - 1
            if len(v) < 50:  # without the cancellation of "- 1"
                rest = mpmath.fsum(mpmath.exp(p - m) for p in sorted(v)[:-1])
        with mpmath.workprec(3000 if len(v) < 50 else 400):
            log_rest = mpmath.log1p(rest)
            softmax += [mpmath.exp(p - m) / (1 + rest) for p in v]
            log_softmax += [p - m - log_rest for p in v]
            logsumexp.append(m + log_rest)
    assert s.sign == NONNEGATIVE
    assert log_s.sign & NONPOSITIVE
    assert_encloses(a, s, softmax)
    assert_encloses(a, log_s, log_softmax)
    assert_encloses(a, lse, logsumexp)
    tight = 2.0**-96 if a.words == 2 else 2.0**-48
    visible = [i for i, v in enumerate(softmax) if v > mpmath.ldexp(1, -(2**40))]
    radii = radius(s)
    assert all(radii[i] <= softmax[i] * tight for i in visible)


@pytest.mark.parametrize("kind", ["gap 1000", "masked", "equal", "near ties", "ten", "spread"])
def test_softmax_vjp_cancels_within_its_balls(a: Any, kind: str) -> None:
    x = rows()[kind]
    g = rng(17).standard_normal(x.shape)
    g[0] = 0.3
    d, t = shifted(a, x)
    s = a.exp(d) / (a.exact(np.ones(())) + t)
    c = a.difference(g, g[:, :1])
    ball = s * (c - a.sum(s * c))
    truth = []
    with mpmath.workprec(3000):
        for row, weight in zip(x, g, strict=True):
            e = [mpmath.exp(v - mp.mpf(row.max())) for v in exactly(row)]
            total = mpmath.fsum(e)
            mean = mpmath.fsum(p * q for p, q in zip(e, exactly(weight), strict=True)) / total
            if weight.min() == weight.max():
                mean = mp.mpf(weight[0])
            truth += [p / total * (q - mean) for p, q in zip(e, exactly(weight), strict=True)]
    assert_encloses(a, ball, truth)


def test_what_underflows_keeps_its_sign(a: Any) -> None:
    d, t = shifted(a, np.array([[0.0, -1e300]]))
    log_s = d - a.log1p(t)
    lower, upper = a.enclosure(log_s)
    assert log_s.sign == NONPOSITIVE
    assert lower[0, 0] >= -5e-324
    assert upper[0, 0] == 0


def test_kernels_of_double_words_reach_their_bounds() -> None:
    """An order of magnitude: bounds are within 2^8 of what is observed, so they mean something."""
    r = rng(15)
    d = r.uniform(-100, 0, 3000)
    h, low, k = _double_word.exp(d, np.zeros_like(d))
    worst = max(
        abs(mpmath.ldexp(mp.mpf(p) + mp.mpf(q), int(e)) / mpmath.exp(v) - 1)
        for p, q, e, v in zip(h, low, k, exactly(d), strict=True)
    )
    assert _double_word.EXP / 256 < worst < _double_word.EXP
