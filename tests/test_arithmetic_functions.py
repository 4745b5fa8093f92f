"""Functions of the two vectorised tiers, and what is made of them: every ball holds the truth.

Truth is mpmath at hundreds of bits. REFERENCE_LONG=1 takes fifty times as many arguments.
"""

from __future__ import annotations

import math
from typing import Any

import mpmath
import numpy as np
import pytest
from balls import (
    FUNCTIONS,
    LN2,
    SCALE,
    assert_encloses,
    assert_tight,
    exactly,
    inexact,
    mp,
    radius,
    rng,
    wild_floats,
)

from reference.arithmetic import _double_word, _tables
from reference.arithmetic._ball import NONNEGATIVE, NONPOSITIVE

pytestmark = pytest.mark.usefixtures("strict")


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


@pytest.mark.parametrize("scale", [1.0, 30.0, 500.0, 1e4, 1e300, 1.7e308])
@pytest.mark.parametrize("shape", [(3, 0), (5, 1), (40, 3), (7, 129), (2, 20000)])
def test_the_exponential_of_a_difference_is_that_of_its_words(
    a: Any, shape: tuple[int, int], scale: float
) -> None:
    """Bit for bit, where it takes one pass and where it does not: large, lost and equal terms."""
    r = rng(8)
    x = r.uniform(-scale, 0, shape) * r.choice([1.0, 2.0**-60, 0.0], shape)
    m = x.max(axis=-1, keepdims=True, initial=-scale)
    for left, right in ((x, m), (x, -m), (x + 1 / 3, m), (x, np.zeros(())), (m, m), (m[:1], x)):
        found, expected = a.exp_difference(left, right), a.exp(a.difference(left, right))
        for part, word in zip(found.parts, expected.parts, strict=True):
            assert np.array_equal(part, word)
        assert found.relative == expected.relative
        assert found.sign == expected.sign
        assert (found.low, found.high) == (expected.low, expected.high)
        for name in ("exponent", "absolute"):
            one, other = getattr(found, name), getattr(expected, name)
            assert (one is None) == (other is None)
            assert one is None or np.array_equal(one, other)


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
