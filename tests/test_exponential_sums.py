"""Sums of exponentials with exact coefficients, and the decisions that many logits lead to."""

from __future__ import annotations

import itertools
from fractions import Fraction
from typing import Any

import mpmath
import numpy as np
import pytest

from reference import ops, oracle
from reference.arithmetic.multiprecision import Multiprecision, TooWide
from reference.formats import FORMATS
from reference.ops import curvature, exponential
from reference.ops.base import ZERO, Batch
from reference.ops.exponential_sums import PRODUCTS, ExpSum

SOFTMAX_H, ENTROPY_H = ("softmax", "hvp", "x.x"), ("categorical_entropy", "hvp", "x.x")
KL_H, KL_JX, KL_JY = (("kl_divergence", *k) for k in
                      (("hvp", "x.x"), ("jvp", "x"), ("jvp", "y")))  # fmt: skip


def sum_of(*terms: tuple[int, int], unit: int = 0) -> ExpSum:
    return ExpSum.collected(terms, unit, 0)


def as_dict(s: ExpSum) -> dict[int, Fraction]:
    return {e: Fraction(c, 2**s.unit) for e, c in s.items()}


def evaluate(key: Any, fmt: str = "float32", **row: Any) -> oracle.References:
    made = {k: np.atleast_1d(np.asarray(a, np.float64))[None] for k, a in row.items()}
    return oracle.evaluate(*key, made, FORMATS[fmt])


def zeros(refs: oracle.References) -> list[int]:
    return np.flatnonzero(refs.codes[0] == ZERO).tolist()


# ---------------------------------------------------------------- the sums


def test_sums_and_products_are_those_of_dictionaries() -> None:
    rng = np.random.default_rng(3)
    for _ in range(60):
        made = []
        for _ in range(2):
            e, c = rng.integers(-6, 1, 5).tolist(), rng.integers(-3, 4, 5).tolist()
            made.append(sum_of(*zip(e, c, strict=True), unit=int(rng.integers(0, 3))))
        a, b = made
        p, q = as_dict(a), as_dict(b)
        added: dict[int, Fraction] = dict(p)
        for e, v in q.items():
            added[e] = added.get(e, Fraction(0)) + v
        multiplied: dict[int, Fraction] = {}
        for (e, v), (f, w) in itertools.product(p.items(), q.items()):
            multiplied[e + f] = multiplied.get(e + f, Fraction(0)) + v * w
        for result, expected in ((a + b, added), (a * b, multiplied)):
            found = as_dict(result)
            assert list(found) == sorted(found, reverse=True)
            assert found == {e: v for e, v in expected.items() if v}
            size = sum((abs(v) for v in found.values()), Fraction(0))
            assert Fraction(result.size, 2**result.unit) >= size
        assert (a - a).is_zero
        assert as_dict(a.times(Fraction(-3, 4))) == {e: v * Fraction(-3, 4) for e, v in p.items()}
        assert a.times(Fraction(0)).is_zero


def test_multiples_are_found_and_nothing_else() -> None:
    a = sum_of((0, 3), (-1, 6), (-7, 1), unit=1)
    assert a.times(Fraction(5, 8)).over(a) == Fraction(5, 8)
    assert sum_of((0, 1), (-1, 2)).over(sum_of((0, 3), (-1, 6))) == Fraction(1, 3)
    assert sum_of().over(a) == 0
    assert (a + sum_of((-9, 1))).over(a) is None
    assert a.over(a + sum_of((-9, 1))) is None
    assert sum_of((-1, 3), (-2, 6)).over(sum_of((0, 3), (-1, 6))) is None


def test_only_the_terms_that_matter_are_made() -> None:
    made = []

    def items() -> Any:
        for k in range(10**9):
            made.append(k)
            yield -k * 10**9, 1

    endless = ExpSum(items(), 10**9, 0, 0)
    assert not endless.is_zero
    ball = (endless * endless - endless.times(Fraction(2))).sign(Multiprecision(64))
    assert mpmath.libmp.mpf_sign(ball.mid[0, 0]) < 0
    assert len(made) < 10


def test_a_product_that_would_not_end_leaves_the_question_open_each_time() -> None:
    side = int(PRODUCTS**0.5) + 40
    a = sum_of(*((-k * k, 1) for k in range(side)))
    zero = a * a - a * a
    for _ in range(2):  # an exhausted source must not pass for the end of the sum
        with pytest.raises(TooWide, match="too many"):
            _ = zero.is_zero


# ---------------------------------------------------------------- zeros


def test_zeros_of_a_bracket_are_those_of_its_products() -> None:
    """The linear forms for rational means against the quadratic one."""
    rng = np.random.default_rng(4)
    found, linear = 0, 0
    for _ in range(400):
        n = int(rng.integers(2, 6))
        x, p, v = (rng.integers(-1, 2, (1, n)) * 1.0 for _ in range(3))
        h = int(rng.integers(0, 2))
        bracket = curvature.Bracket.of(Batch({"x": x}), curvature.of_floats(p), v)
        right = [i for i in range(n) if bracket.at(i, h).is_zero]
        assert bracket.zeros(list(range(n)), h) == right
        found += len(right)
        linear += (bracket.mean_p is not None) != (bracket.mean_v is not None)
    assert found > 150
    assert linear > 50


def test_zeros_of_a_divergence_are_those_of_its_definition() -> None:
    """x - y is halved where float64 looks for suspects, and 1 + c_i is not."""
    rng = np.random.default_rng(8)
    rows = [
        {"x": [-1, -1, -1, 0], "y": [0, -1, -2, 0], "v_x": [1, 0, 1, 0], "g": 2.0},
        {"x": [0, 1, 0, 1, 0], "y": [1, 0, -2, 0, -2], "v_x": [-1, -1, -1, -1, 0], "g": 1.0},
    ]
    for _ in range(60):
        made = {k: rng.integers(-1, 2, 4).tolist() for k in ("x", "y", "v_x")}
        rows.append({**made, "g": 1.0})
    single = 0
    for row in rows:
        found = zeros(evaluate(KL_H, **row))
        with mpmath.workprec(1000):
            truths = ops.get(KL_H[0]).maps[KL_H[1:]].definition(mpmath.mp, row)
            assert found == [i for i, t in enumerate(truths) if abs(t) < mpmath.ldexp(1, -900)]
        single += 0 < len(found) < len(truths)
    assert single >= 3


@pytest.mark.parametrize("n", [2000, 8000])
def test_symmetric_tangents_of_any_number_of_logits_give_zeros(n: int) -> None:
    """Pairs of equal logits with opposite cotangents and tangents: all means are 0, or 1."""
    x = np.repeat(np.random.default_rng(5).standard_normal(n // 2), 2)
    sign = np.where(np.arange(n) % 2, 1.0, -1.0)
    assert len(zeros(evaluate(SOFTMAX_H, x=x, g=sign, v_x=sign))) == n
    # <s, v> = 0, and <s, g v> + <s, g> = 1 although neither is rational: 0 where g_i v_i = v_i = 1
    odd = evaluate(SOFTMAX_H, x=x, g=np.where(sign > 0, 1.0, x), v_x=sign)
    assert zeros(odd) == list(range(1, n, 2))
    assert zeros(evaluate(SOFTMAX_H, x=x, g=x, v_x=sign)) == []


def test_a_divergence_of_permuted_logits_is_rational_along_symmetric_tangents() -> None:
    x = np.linspace(-3.0, 4.0, 1500)
    v = np.minimum(np.arange(1500), np.arange(1500)[::-1]) * 1.0
    assert zeros(evaluate(KL_JY, x=x, y=x[::-1] + 2.0, v_y=v)) == [0]
    v[3] += 1
    assert zeros(evaluate(KL_JY, x=x, y=x[::-1] + 2.0, v_y=v)) == []


def test_a_covariance_that_is_half_of_the_smallest_number_is_settled() -> None:
    """float64 underflows on the way to the suspects."""
    eta = 5e-324
    row = {"x": [0, 0, 1, 1], "y": [1, 0, 2, 1], "v_x": [eta, 0, eta, 0]}
    for fmt in ("float64", "float32"):
        refs = evaluate(KL_JX, fmt, **row)
        assert refs.codes[0, 0] == oracle.EXACT
        assert refs.rounded()[0, 0] == 0


def test_constant_cotangents_of_many_distinct_logits_are_settled_at_once() -> None:
    n = 40_000
    x = np.random.default_rng(6).standard_normal(n)
    g = np.tile([0.5, 1.5], n // 2)
    x[1::2] = x[::2]
    for values in (np.full(n, 0.1), g):
        mean = exponential.common_mean(x, values)
        assert mean is not None
        assert mean == Fraction(float(values[:2].sum())) / 2
    assert len(exponential.zero_products(x, np.full(n, 0.1))) == n


# ---------------------------------------------------------------- sides


@pytest.mark.parametrize("far", [-1e4, -1e9, -1e300])
@pytest.mark.parametrize("key", [SOFTMAX_H, ENTROPY_H], ids="-".join)
def test_ties_above_hundreds_of_masked_logits_are_decided(key: Any, far: float) -> None:
    """Finite masks: the results at the top are e^-10000 beside 0 or a power of two."""
    n = 600
    rng = np.random.default_rng(7)
    noise = rng.standard_normal(n) * abs(far) / 1000
    x = np.where(np.arange(n) < 4, 0.0, far + noise)
    v = np.where(np.arange(n) % 2, 1.0, -1.0)
    per_row = ops.get(key[0]).per_row
    g: Any = 1.0 if per_row else np.where(np.arange(n) < 2, 1.0, 0.0)
    refs = evaluate(key, x=x, g=g, v_x=v)
    assert (refs.hi[0, :4] != 0).all()
    near = np.where(np.arange(n) < 4, x, np.maximum(x * 60 / abs(far), -100.0))
    with mpmath.workprec(1000):
        row = {"x": near, "g": g, "v_x": v}
        truths = ops.get(key[0]).maps[key[1:]].definition(mpmath.mp, row)[:4]
    assert refs.rounded()[0, :4].tolist() == [float(mpmath.nstr(t, 12)) for t in truths]


def test_levels_of_far_logits_that_cancel_one_after_the_other_end() -> None:
    """softmax_vjp - b has no e^0, e^-1e6 and e^-2e6, as e^-1e6 squared meets another logit."""
    b = 2.0**24 + 1
    x, g = [0.0, 0.0, -1e6, -2e6], [0.0, -4 * b, -4 * b, -5 * b]
    refs = evaluate(("softmax", "vjp", "x"), x=x, g=g)
    # - b (2 e^-3e6 + ...) is left at the first logit
    assert refs.rounded()[0, 0] == 2.0**24
