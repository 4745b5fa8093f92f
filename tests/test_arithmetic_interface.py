"""The interface that formulas are written over: in every arithmetic, and at the ends of ranges."""

from __future__ import annotations

import inspect
import itertools
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from reference.arithmetic import base
from reference.arithmetic._ball import FloatBall
from reference.arithmetic.binary64 import Binary64
from reference.arithmetic.bounds import Bound, BoundArithmetic, Constants
from reference.arithmetic.doubledouble import DoubleDouble
from reference.arithmetic.multiprecision import Ball, Multiprecision

ARITHMETICS = {Binary64: FloatBall, DoubleDouble: FloatBall, Multiprecision: Ball,
               BoundArithmetic: Bound}  # fmt: skip
VALUES = [0.0, 1.0, -1.0, 5e-324, 1e-300, -1e300, 1.7e308, 700.0, -700.0, 1e15, 2.0**110, -0.5]
RADII = [0.0, 5e-324, 1e-300, 1e-20, 0.5, 1e10, 1.7e308, np.inf, np.nan]
EXPONENTS = [None, 5000, -5000, 1 << 60, -(1 << 60)]


def names(protocol: type) -> list[str]:
    """What a protocol asks for."""
    own = [n for n in vars(protocol) if inspect.isfunction(vars(protocol)[n])]
    return [n for n in own if n in ("__getitem__", "__neg__") or not n.startswith("_")] + [
        n for n in own if n in ("__add__", "__sub__", "__mul__", "__truediv__")
    ]


def parameters(function: Any) -> list[tuple[str, Any, Any]]:
    signature = inspect.signature(inspect.unwrap(function))
    return [(p.name, p.kind, p.default) for p in signature.parameters.values()]


@pytest.mark.parametrize("arithmetic", ARITHMETICS)
def test_every_arithmetic_has_the_names_and_signatures_of_the_interface(arithmetic: type) -> None:
    asked = names(base.Arithmetic)
    assert {"exact", "difference", "exp_difference", "total", "exp", "expm1", "phi", "log",
            "log1p", "sum", "where"} == set(asked)  # fmt: skip
    for name in asked:
        assert parameters(getattr(arithmetic, name)) == parameters(getattr(base.Arithmetic, name))


@pytest.mark.parametrize("number", sorted({*ARITHMETICS.values()}, key=lambda t: t.__name__))
def test_numbers_of_every_arithmetic_have_the_operators(number: type) -> None:
    asked = names(base.Number)
    assert {"__add__", "__sub__", "__mul__", "__truediv__", "__neg__", "__getitem__"} == set(asked)
    for name in asked:
        theirs, ours = getattr(number, name), getattr(base.Number, name)
        assert len(parameters(theirs)) == len(parameters(ours))
    assert isinstance(number.shape, property)  # type: ignore[attr-defined]


@pytest.mark.parametrize("arithmetic", ARITHMETICS)
def test_results_have_the_shapes_of_the_interface(arithmetic: type) -> None:
    arguments = {Multiprecision: (80,), BoundArithmetic: (Constants(2.0**-24, 2.0**-126),)}
    a = arithmetic(*arguments.get(arithmetic, ()))
    x = np.array([[0.25, 0.5, -0.75]])
    row = a.exact(x)
    for made in (
        row, a.difference(x, np.ones((1, 1))), a.exp(row), a.expm1(row), a.phi(row), a.log1p(row),
        a.where(x > 0, row, a.exp(row)), -row, row * row, row / row, row + row, row - row[:, :1],
    ):  # fmt: skip
        assert made.shape == (1, 3)
    assert a.sum(row).shape == a.total(x).shape == (1, 1)
    assert a.log(a.exact(np.abs(x))).shape == (1, 3)
    assert row[:, 1:].shape == (1, 2)


# ---------------------------------------------------------------- the ends of ranges


def balls(a: Any) -> list[FloatBall]:
    """Every midpoint with every radius, with and without exponents and relative radii."""
    pairs = list(itertools.product(VALUES, RADII))
    mid, radius = (np.array(column) for column in zip(*pairs, strict=True))
    words = (mid,) if a.words == 1 else (mid, np.zeros_like(mid))
    return [
        FloatBall(
            a, words, relative=relative, absolute=radius.copy(),
            exponent=None if e is None else np.full(mid.shape, e, np.int64),
        )
        for e, relative in itertools.product(EXPONENTS, (0.0, 1e-10))
    ]  # fmt: skip


@pytest.mark.parametrize("a", [Binary64(), DoubleDouble()], ids=["binary64", "double-double"])
def test_no_ball_is_too_large_or_too_wide_for_an_operation(a: Any) -> None:
    """Neither a warning nor a midpoint that is no number, whatever the exponents and radii."""
    made = balls(a)
    with np.errstate(all="raise"):
        for ball in made:
            for function in (a.exp, a.expm1, a.phi, a.log, a.log1p):
                check(function(ball))
        for x, y in itertools.product(made, made):
            for function in (a.add, a.mul, a.div):
                check(function(x, y))


def check(ball: FloatBall) -> None:
    assert all(np.isfinite(word).all() for word in ball.parts)
    lower, upper = ball.enclosure()
    assert not (lower > upper).any()
    assert not np.isnan(ball.expand()[3]).any()


@pytest.mark.parametrize("a", [Binary64(), DoubleDouble()], ids=["binary64", "double-double"])
def test_a_divisor_that_is_lost_beside_its_radius_gives_the_whole_line(a: Any) -> None:
    words = (np.array([1e-300, 2.0]), np.zeros(2))[: a.words]
    divisor = FloatBall(a, words, absolute=np.array([1e300, 0.0]))
    lower, upper = a.div(a.exact(np.ones(2)), divisor).enclosure()
    assert (lower[0], upper[0]) == (-np.inf, np.inf)
    assert lower[1] <= 0.5 <= upper[1]
    assert upper[1] - lower[1] < 1e-15


def test_balls_of_wild_exponents_hold_what_fractions_say() -> None:
    rng = np.random.default_rng(9)
    for a in (Binary64(), DoubleDouble()):
        for _ in range(200):
            e = int(rng.choice([0, 900, -900]))
            p, q = rng.standard_normal(2) * 2.0 ** rng.integers(-60, 60, 2)
            rp, rq = (abs(v) * 2.0 ** -rng.integers(0, 60) for v in (p, q))
            x, y = (
                FloatBall(
                    a,
                    (np.array([v]), np.zeros(1))[: a.words],
                    absolute=np.array([r]),
                    exponent=np.array([e]),
                )
                for v, r in ((p, rp), (q, rq))
            )
            u, v = (
                (Fraction(m) + Fraction(r) * Fraction(float(t))) * Fraction(2) ** e
                for m, r, t in ((p, rp, rng.uniform(-1, 1)), (q, rq, rng.uniform(-1, 1)))
            )
            for found, truth in ((x + y, u + v), (x * y, u * v), (x / y, u / v if v else None)):
                hi, lo, exponent, radius = found.expand()
                if truth is None or not np.isfinite(radius[0]):
                    continue
                middle = Fraction(float(hi[0])) + Fraction(float(lo[0]))
                gap = abs(truth / Fraction(2) ** int(exponent[0]) - middle)
                assert gap <= Fraction(float(radius[0]))
