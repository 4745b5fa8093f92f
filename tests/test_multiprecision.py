"""The multiprecision balls hold the truth, and are as narrow as their precision says.

Two independent truths: mpmath at four times the precision, and Arb.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import mpmath
import numpy as np
import pytest
from flint import arb, ctx
from hypothesis import given, settings
from hypothesis import strategies as st
from mpmath import libmp

from reference.arithmetic.multiprecision import Ball, Multiprecision, TooWide

mp = mpmath.mp
BITS = (60, 113, 400, 900)  # from 600 on, mpmath takes integers as powers of e

ARGUMENTS = [
    *(sign * 2.0**k for k in (-1074, -600, -149, -60, -30, -10, -1, 0, 1, 6) for sign in (1, -1)),
    1 + 2.0**-52, 1 - 2.0**-53, -1 + 2.0**-53, -0.5, 0.5, math.log(2), -math.log(2), 3.7, -3.7,
    1e-17, -1e-17, 100.5, -100.5, 709.0, -745.1,
]  # fmt: skip
WIDE_ARGUMENTS = [-1e4, -1e9, -3e38, -1e300, -1.7e308, 1e4, 1e9]


def mp_phi(x: Any) -> Any:
    with mpmath.workprec(mp.prec + 2200 * 2):
        return mpmath.exp(x) - 1 - x


def arb_phi(x: Any) -> Any:
    before, ctx.prec = ctx.prec, ctx.prec + 2 * 2200
    try:
        return x.exp() - 1 - x
    finally:
        ctx.prec = before


FUNCTIONS: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "exp": (mpmath.exp, lambda x: x.exp()),
    "expm1": (mpmath.expm1, lambda x: x.expm1()),
    "phi": (mp_phi, arb_phi),
    "log": (mpmath.log, lambda x: x.log()),
    "log1p": (mpmath.log1p, lambda x: x.log1p()),
}


def allowed(name: str, x: float) -> bool:
    if name == "log":
        return x > 0
    return x > -1 if name == "log1p" else True


def mid(ball: Ball, index: Any = 0) -> Any:
    return mp.make_mpf(ball.mid[index])


def rad(ball: Ball, index: Any = 0) -> Any:
    return mp.make_mpf(ball.rad[index])


def holds(ball: Ball, truth: Any, index: Any = 0) -> bool:
    """|truth - mid| <= rad, computed exactly (the difference at any precision it takes)."""
    with mpmath.workprec(20_000):
        return bool(abs(truth - mid(ball, index)) <= rad(ball, index))


def as_arb(raw: Any) -> Any:
    sign, man, exp, _ = raw
    return arb(-int(man) if sign else int(man)) * arb(2) ** int(exp)


def meets(ball: Ball, truth: Any, index: Any = 0) -> bool:
    """Does the Arb ball overlap ours?"""
    before, ctx.prec = ctx.prec, 20_000
    try:
        distance = abs(as_arb(ball.mid[index]) - truth)
        return not distance > as_arb(ball.rad[index])
    finally:
        ctx.prec = before


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_of_exact_arguments(name: str, bits: int) -> None:
    by_mpmath, by_arb = FUNCTIONS[name]
    a = Multiprecision(bits)
    for x in (*ARGUMENTS, *(WIDE_ARGUMENTS if name == "exp" else ())):
        if not allowed(name, x):
            continue
        ball = getattr(a, name)(a.exact(np.array([x])))
        with mpmath.workprec(4 * bits + 2200 * (abs(x) < 1e-300 or abs(x) > 1e3)):
            truth = by_mpmath(mp.mpf(x))
        assert holds(ball, truth), (name, x)
        before, ctx.prec = ctx.prec, 4 * bits + 1200
        try:
            assert meets(ball, by_arb(arb(x))), (name, x)
        finally:
            ctx.prec = before
        assert rad(ball) <= mpmath.ldexp(abs(mid(ball)), 1 - bits), (name, x)


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("width", [2.0**-40, 2.0**-10, 0.25, 1.0])
def test_functions_of_balls_hold_the_images_of_both_ends(name: str, width: float) -> None:
    by_mpmath, _ = FUNCTIONS[name]
    a = Multiprecision(80)
    for x in ARGUMENTS:
        radius = width if name.startswith("e") or name == "phi" else width * abs(x) / 2
        if not allowed(name, x) or not allowed(name, x - radius):
            continue
        argument = with_radius(a, x, radius)
        ball = getattr(a, name)(argument)
        for t in (-1, -0.5, 0, 0.5, 1):
            with mpmath.workprec(3000):
                truth = by_mpmath(mp.mpf(x) + t * mp.mpf(radius))
            assert holds(ball, truth), (name, x, t)
        with mpmath.workprec(3000):
            centre = by_mpmath(mp.mpf(x))
            spread = max(abs(by_mpmath(mp.mpf(x) + t * mp.mpf(radius)) - centre) for t in (-1, 1))
            # e^x (2 r) against e^x expm1(r), log by its steepest slope: within a factor of four.
            assert rad(ball) <= 4 * spread + mpmath.ldexp(abs(mid(ball)), -70), (name, x)


def with_radius(a: Multiprecision, x: float, radius: float) -> Ball:
    ball = a.exact(np.array([x]))
    ball.rad[0] = libmp.from_float(radius)
    return ball


def test_ball_arithmetic_holds_every_combination_of_ends() -> None:
    rng = np.random.default_rng(7)
    a = Multiprecision(60)
    for _ in range(300):
        x, y = (float(v) for v in rng.standard_normal(2) * np.exp2(rng.integers(-40, 40, 2)))
        rx, ry = (abs(v) * 2.0 ** float(rng.integers(-70, -2)) for v in (x, y))
        bx, by = with_radius(a, x, rx), with_radius(a, y, ry)
        for made, exactly in (
            (bx + by, lambda p, q: p + q),
            (bx - by, lambda p, q: p - q),
            (bx * by, lambda p, q: p * q),
            (bx / by, lambda p, q: p / q),
        ):
            worst = Fraction(0)
            for p in (x, Fraction(x) - Fraction(rx), Fraction(x) + Fraction(rx)):
                for q in (y, Fraction(y) - Fraction(ry), Fraction(y) + Fraction(ry)):
                    worst = max(
                        worst, abs(exactly(Fraction(p), Fraction(q)) - fraction(made.mid[0]))
                    )
            radius = fraction(made.rad[0])
            assert worst <= radius
            assert radius <= 2 * worst + abs(fraction(made.mid[0])) / 2**58


def fraction(raw: Any) -> Fraction:
    sign, man, exp, _ = raw
    return (-1) ** sign * int(man) * Fraction(2) ** int(exp)


@given(
    values=st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=12),
    radii=st.lists(st.floats(0, 1e-3), min_size=12, max_size=12),
    bits=st.sampled_from(BITS),
)
@settings(max_examples=200, deadline=None)
def test_sums_with_mixed_signs(values: list[float], radii: list[float], bits: int) -> None:
    a = Multiprecision(bits)
    ball = a.exact(np.array(values))
    exact = sum((Fraction(v) for v in values), Fraction(0))
    total = a.total(np.array(values))
    assert fraction(total.mid[0]) == exact
    assert fraction(total.rad[0]) == 0
    ball.rad[:] = [libmp.from_float(r * abs(v)) for r, v in zip(radii, values, strict=False)]
    spread = sum((fraction(r) for r in ball.rad), Fraction(0))
    made = a.sum(ball)
    for sign in (-1, 0, 1):
        truth = exact + sign * spread
        assert abs(truth - fraction(made.mid[0])) <= fraction(made.rad[0])
    size = sum((abs(Fraction(v)) for v in values), Fraction(0)) + spread
    assert fraction(made.rad[0]) <= spread * (1 + Fraction(1, 2**50)) + 16 * size / 2**bits


# ---------------------------------------------------------------- one-sided sums


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("big", [1.0, -(2.0**24) - 1, 3.0, -1e300, 2.0**-1074])
def test_a_tiny_addend_leaves_the_exact_one_as_the_near_end(
    big: float, sign: int, bits: int
) -> None:
    a = Multiprecision(bits)
    tiny = a.exp(a.exact(np.array([-1e9]))) * a.exact(np.array([float(sign)]))
    made = a.exact(np.array([big])) + tiny
    near = fraction(made.mid[0]) - sign * fraction(made.rad[0])
    assert near == Fraction(big)
    assert fraction(made.rad[0]) <= abs(Fraction(big)) / 2**bits


def test_exact_factors_and_summands_move_the_near_end_exactly() -> None:
    a = Multiprecision(80)
    tiny = a.exp(a.exact(np.array([-1e9])))
    near_4097 = a.exact(np.array([4097.0])) + tiny
    product = near_4097 * a.exact(np.array([-4097.0]))
    assert fraction(product.mid[0]) + fraction(product.rad[0]) == -(4097**2)
    moved = product + a.exact(np.array([2.0**60]))
    assert fraction(moved.mid[0]) + fraction(moved.rad[0]) == 2**60 - 4097**2


def test_a_tiny_addend_of_unknown_sign_widens_both_sides() -> None:
    a = Multiprecision(80)
    tiny = with_radius(a, 2.0**-900, 2.0**-900)
    made = a.exact(np.array([1.0])) + tiny
    low, high = (fraction(made.mid[0]) + s * fraction(made.rad[0]) for s in (-1, 1))
    assert low <= 1
    assert high >= 1 + Fraction(2) ** -899


def test_differences_are_exact_however_far_apart() -> None:
    a = Multiprecision(60)
    made = a.difference(np.array([1e300]), np.array([-5e-324]))
    assert fraction(made.mid[0]) == Fraction(1e300) + Fraction(5e-324)
    assert fraction(made.rad[0]) == 0


def test_e_to_the_zero_is_exactly_one() -> None:
    a = Multiprecision(60)
    made = a.exp(a.exact(np.array([0.0])))
    assert (fraction(made.mid[0]), fraction(made.rad[0])) == (1, 0)


def test_e_to_the_minus_1e300_is_a_positive_number_to_full_relative_precision() -> None:
    for bits in BITS:
        a = Multiprecision(bits)
        made = a.exp(a.exact(np.array([-1e300])))
        assert made.mid[0][0] == 0
        assert rad(made) <= mpmath.ldexp(mid(made), 1 - bits)
        before, ctx.prec = ctx.prec, 4 * bits + 1200
        try:
            logarithm = as_arb((0, made.mid[0][1], 0, 0)).log() + arb(2).log() * int(made.mid[0][2])
            assert abs(logarithm + arb(1e300)) < arb(2) ** (2 - bits)
        finally:
            ctx.prec = before


@pytest.mark.parametrize("bits", BITS)
def test_numbers_beyond_all_memory_are_rounded(bits: int) -> None:
    """e^(10^30) has 10^30 bits before the point."""
    a = Multiprecision(bits)
    for x in (1e30, 1e300):
        huge = a.exp(a.exact(np.array([x])))
        back = a.log1p(huge)
        with mpmath.workprec(2 * bits + 1100):
            assert abs(mid(back) - mp.mpf(x)) <= rad(back)
            assert rad(back) <= mpmath.ldexp(mp.mpf(x), 1 - bits)
        for name in ("expm1", "phi"):
            power = getattr(a, name)(a.exact(np.array([x])))
            ratio = power / huge
            assert abs(mid(ratio) - 1) <= rad(ratio), name
            assert rad(ratio) <= mpmath.ldexp(1, 3 - bits), name


def test_where_takes_middles_and_radii_together() -> None:
    a = Multiprecision(60)
    x, y = with_radius(a, 1.0, 0.5), with_radius(a, 2.0, 0.25)
    made = a.where(np.array([False]), x, y)
    assert (fraction(made.mid[0]), fraction(made.rad[0])) == (2, Fraction(1, 4))


# ---------------------------------------------------------------- what a ball must not do


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda a: with_radius(a, 1.0, 0.0) / with_radius(a, 0.5, 0.5), "division"),
        (lambda a: a.log(with_radius(a, 1.0, 1.0)), "log"),
        (lambda a: a.log1p(with_radius(a, -0.5, 0.5)), "log1p"),
        (lambda a: a.exp(with_radius(a, 0.0, 1.5)), "exp"),
        (lambda a: a.expm1(with_radius(a, 0.0, 1.5)), "expm1"),
    ],
)
def test_operations_that_would_say_nothing_ask_for_more_precision(
    make: Callable[[Multiprecision], Ball], reason: str
) -> None:
    with pytest.raises(TooWide, match=reason):
        make(Multiprecision(60))


@pytest.mark.parametrize("x", [200.0, 1e30, 1e300])
def test_log1p_of_what_no_memory_holds_beside_1(x: float) -> None:
    a = Multiprecision(60)
    back = a.log1p(a.exp(a.exact(np.array([x]))))
    mid, rad = back.mid[0], back.rad[0]
    gap = libmp.mpf_abs(libmp.mpf_sub(mid, libmp.from_float(x)))
    assert libmp.mpf_le(gap, rad)
    assert libmp.to_float(rad) < 2.0**-50 * x
