"""Bounds against forms that were derived by hand, exactly: second derivatives, entropy, divergence,
and what underflow adds.

Where :mod:`test_bounds` compares with round figures that cover both routes of a softmax, here the
worse route enters by itself: sigma_j = max(B_j, omega_j + P) is the error of s_j relative to s_j.
"""

from __future__ import annotations

import math
from typing import Any

import emulated_rows
import numpy as np
import pytest
from test_bounds import Closed, L, P

from reference import bounds, ops
from reference.arithmetic.bounds import BoundArithmetic, Constants
from reference.formats import FORMATS
from reference.ops.base import Batch


class Exactly(Closed):
    """W of one row; a, b, ... with ``_a``, ``_b`` for their errors."""

    def __init__(self, row: dict[str, Any], h: float, k: float = 0.0) -> None:
        n = np.size(row["x"])
        super().__init__({"g": np.zeros(n), **row}, h, k)
        self.v = np.asarray(row.get("v_x", row.get("v_y", np.zeros(n))), np.longdouble)
        sigma = np.maximum(self.B, self.omega + P + k * np.abs(self.l))
        self._s = self.s * sigma
        self.other = Exactly({"x": row["y"]}, h, k) if "y" in row else None

    def sum(self, a: Any, _a: Any) -> tuple[Any, Any]:
        return a.sum(), _a.sum() + self.h * np.abs(a).sum()

    def times(self, a: Any, _a: Any, b: Any, _b: Any) -> tuple[Any, Any]:
        return a * b, np.abs(a) * _b + np.abs(b) * _a + np.abs(a * b)

    def deviation(self, v: Any, _v: Any) -> tuple[Any, Any]:
        """v - sum s v."""
        mean, _mean = self.sum(*self.times(self.s, self._s, v, _v))
        return v - mean, _v + _mean + np.abs(v - mean)

    def scaled(self, v: Any) -> tuple[Any, Any]:
        """s (v - sum s v) of exact v."""
        return self.times(self.s, self._s, *self.deviation(v, 0 * v))

    def gradient(self, c: Any, _c: Any) -> Any:
        """g s (c - sum s c) + (g s - g s sum s): the second part is 0, and not its error.

        g meets s first: that is a rounding of each of the three products, where g last is one of
        their sum.
        """
        first, _first = self.times(self.s, self._s, *self.deviation(c, _c))
        _second = self._s + self.s * (self._s.sum() + self.h) + self._s + self.s
        _early = np.abs(first) + 2 * self.s
        return abs(self.g) * (_first + _second + np.abs(first) + _early)

    def weak(self, key: tuple[str, str, str]) -> Any:
        ds, _ds = self.scaled(self.v)
        g = self.g
        match key:
            case ("softmax", "vjp", _):
                return self.scaled(g)[1]
            case ("softmax", "hvp", _):
                a, _a = self.deviation(g, 0 * g)
                total, _total = self.sum(*self.times(ds, _ds, g, 0 * g))
                first, _first = self.times(ds, _ds, a, _a)
                second, _second = self.times(self.s, self._s, total, _total)
                return _first + _second + np.abs(first - second)
            case ("log_softmax", "hvp", _):
                _G = self.h * np.abs(g).sum()
                return np.abs(ds) * _G + abs(g.sum()) * _ds + np.abs(ds * g.sum())
            case ("logsumexp", "hvp", _):
                return abs(g) * (_ds + np.abs(ds))
            case ("softmax_cross_entropy", "hvp", "x.x"):
                t = self.target
                made, _made = self.times(ds, _ds, t.sum(), self.h * np.abs(t).sum())
                return abs(g) * (_made + np.abs(made))
            case ("categorical_entropy", "vjp", _):
                return self.gradient(self.l, self.omega)
            case ("kl_divergence", "vjp", "x"):
                return self.gradient(*self.delta())
            case ("kl_divergence", "hvp", "y.x"):
                _total = _ds.sum() + self.h * np.abs(ds).sum()
                return abs(g) * (self.other.s * _total + _ds + np.abs(ds) + np.abs(ds))
            case ("kl_divergence", "hvp", "y.y"):
                dy, _dy = self.other.scaled(self.v)
                made, _made = self.times(dy, _dy, 1.0, self._s.sum() + self.h)
                return abs(g) * (_made + np.abs(made))
            case ("kl_divergence", "hvp", "x.y"):
                u, _u = self.other.deviation(self.v, 0 * self.v)
                made, _made = self.times(self.s, self._s, *self.deviation(u, _u))
                return abs(g) * (_made + np.abs(made))
            case ("kl_divergence", "value", _):
                return self.sum(*self.times(self.s, self._s, *self.delta()))[1]
            case ("categorical_entropy", "value", _):
                return self.sum(*self.times(self.s, self._s, self.l, self.omega))[1]
        raise KeyError(key)

    def delta(self) -> tuple[Any, Any]:
        """l(x) - l(y)."""
        delta = self.l - self.other.l
        return delta, self.omega + self.other.omega + np.abs(delta)

    def strong(self, key: tuple[str, str, str]) -> Any:
        s, D, q = self.s, self.D, self.q
        without = np.arange(s.size) != self.top
        _t = (s * (D + P))[without].sum() + q * self.h  # of t, relative to S
        match key:
            case ("categorical_entropy", "value", _):
                terms, _terms = self.times(s, s * (D + P + _t + 3), D, D)
                value = self.ell + terms.sum()
                return _t + L * self.ell + self.sum(terms, _terms)[1] + value
            case ("sparse_softmax_cross_entropy", "vjp", _):
                Dt = (s * D)[without].sum() / q
                return abs(self.g) * q * (Dt + self.Db + 2 * P + 2 * self.h + 5)
        raise KeyError(key)


WEAK = [
    ("softmax", "vjp", "x"), ("softmax", "hvp", "x.x"), ("log_softmax", "hvp", "x.x"),
    ("logsumexp", "hvp", "x.x"), ("softmax_cross_entropy", "hvp", "x.x"),
    ("categorical_entropy", "value", "-"), ("categorical_entropy", "vjp", "x"),
    ("kl_divergence", "value", "-"), ("kl_divergence", "vjp", "x"),
    ("kl_divergence", "hvp", "x.y"), ("kl_divergence", "hvp", "y.x"),
    ("kl_divergence", "hvp", "y.y"),
]  # fmt: skip


def both_ways(key: tuple[str, str, str], n: int, which: str, *, at_top: bool = False) -> Any:
    """W of the bound arithmetic, W by hand, and the row that it was derived for."""
    fmt = FORMATS["float64"]
    inputs = emulated_rows.random_rows(key, fmt, n, 6)
    if at_top:
        inputs["label"] = np.argmax(inputs["x"], axis=1)
    h = n - 1.0 if which == "weak" else float(math.ceil(math.log2(n)))
    made = getattr(bounds.evaluate(*key, inputs, fmt), which) / np.longdouble(fmt.unit_roundoff)
    found = []
    for r in range(len(made)):
        row = Exactly({i: a[r] for i, a in inputs.items()}, h, 2.0 if which == "weak" else 0.0)
        closed = row.strong(key) if which == "strong" else row.weak(key)
        found.append((made[r], closed, row))
    return found


@pytest.mark.parametrize("n", [2, 3, 10, 60])
@pytest.mark.parametrize("which", ["weak", "pairwise"])
@pytest.mark.parametrize("key", WEAK, ids="-".join)
def test_the_weak_bound_is_its_form_by_hand(key: tuple[str, str, str], which: str, n: int) -> None:
    for made, closed, _ in both_ways(key, n, which):
        np.testing.assert_allclose(np.asarray(made, float), np.asarray(closed, float), rtol=1e-9)


@pytest.mark.parametrize("n", [2, 3, 10, 60])
def test_the_strong_bound_of_the_entropy_is_its_form_by_hand(n: int) -> None:
    for made, closed, _ in both_ways(("categorical_entropy", "value", "-"), n, "strong"):
        np.testing.assert_allclose(float(made[0]), float(closed), rtol=1e-9)


@pytest.mark.parametrize("n", [2, 3, 10, 60])
def test_the_strong_gradient_at_a_label_on_top_is_its_closed_form_within_a_factor(n: int) -> None:
    """W = q (Dt + Db + 2 P + 2 H + 5): not the factor 1 of p - 1, but that of what is left, q.

    The arithmetic also charges H for the sum of the targets, which is exact for a label.
    """
    key = ("sparse_softmax_cross_entropy", "vjp", "x")
    found = []
    for made, closed, row in both_ways(key, n, "strong", at_top=True):
        assert int(np.argmax(row.target)) == row.top
        found.append(float(made[row.top] / closed))
    assert min(found) > 0.6
    assert max(found) < 1.5


# ---------------------------------------------------------------- underflow


def underflow(op: str, derivative: str, argument: str, **row: Any) -> tuple[Any, Any, Any]:
    """Y of the textbook, and the values and normal threshold that it was made of."""
    c = Constants(2.0**-24, 2.0**-126)
    b = Batch({k: np.asarray(a, float)[None] for k, a in row.items()})
    made = ops.get(op).maps[derivative, argument].textbook(BoundArithmetic(c), b)
    return made.y[0], made.v[0], c.smallest_normal


def test_underflow_is_charged_once_for_each_term_that_can_underflow() -> None:
    """U terms of S below the normal range: log S is off by U / S, and e_i / S by more than 1."""
    x = np.array([0.0, 0.0, -90.0, -100.0, -95.0, -3.0])
    e = np.exp(x)
    U, S = 3, e.sum()
    tiny = x < -80
    s = e / S
    np.testing.assert_allclose(
        np.asarray(underflow("softmax", "value", "-", x=x)[0], float),
        (tiny + s * U) / S + tiny, rtol=1e-6,
    )  # fmt: skip
    for op in ("log_softmax", "logsumexp"):
        y = np.asarray(underflow(op, "value", "-", x=x)[0], float)
        np.testing.assert_allclose(y, U / S, rtol=1e-6)


def test_a_product_charges_its_own_underflow_however_small_the_cotangent() -> None:
    """|g| times that of s, and 1: a form that says |g| alone would be too small."""
    x, g = np.array([0.0, -90.0]), 1e-3
    s_1 = float(underflow("softmax", "value", "-", x=x)[0][1])
    y = float(underflow("logsumexp", "vjp", "x", x=x, g=[g])[0][1])
    assert y == pytest.approx(g * s_1 + 1, rel=0.01)
    assert y > 100 * g


def test_a_logarithm_of_90_multiplies_the_underflow_of_its_probability() -> None:
    """s_j l_j is off by |l_j| where s_j is lost: an entropy has more than one unit for each."""
    x = np.array([0.0, -90.0, -91.0])
    y = float(underflow("categorical_entropy", "value", "-", x=x)[0][0])
    assert y > 90 + 91
    assert y < 2 * (90 + 91) + 10
