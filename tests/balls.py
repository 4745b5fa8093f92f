"""What the tests of the vectorised tiers share: truth at hundreds of bits, and hard arguments."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np

from reference.arithmetic._ball import NONNEGATIVE, NONPOSITIVE, FloatBall

mp = mpmath.mp
SCALE = 50 if os.environ.get("REFERENCE_LONG") else 1
LN2 = math.log(2.0)


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
