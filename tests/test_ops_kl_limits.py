"""The divergence and its derivatives with infinite logits, entry by entry, for every pattern.

What is expected comes from the two softmaxes and log-probabilities alone, as the table of
docs/contract.md gives them: an entry is a number, or None where it is undefined.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest

from reference import oracle
from reference.formats import FORMATS
from reference.ops.base import ZERO

INF = math.inf
KL = "kl_divergence"
PATTERNS = np.array(list(itertools.product([-INF, INF, 0.5, -1.0], repeat=3)))
X = np.repeat(PATTERNS, len(PATTERNS), axis=0)
Y = np.tile(PATTERNS, (len(PATTERNS), 1))
V = [1.0, -2.0, 0.5]
G = 2.0


def softmax(x: Any) -> list[float | None]:
    top = [v == INF for v in x]
    if any(top):
        return [None if t and sum(top) > 1 else float(t) for t in top]
    if all(v == -INF for v in x):
        return [None] * len(x)
    e = [math.exp(v) for v in x]
    return [v / sum(e) for v in e]


def log_softmax(x: Any) -> list[float | None]:
    return [s if s is None else (math.log(s) if s else -INF) for s in softmax(x)]


def value(x: Any, y: Any) -> float | None:
    s, l, other = softmax(x), log_softmax(x), log_softmax(y)  # noqa: E741 - the contract's name
    if None in s:
        reached = [o for p, o in zip(s, other, strict=True) if p is None]
        return INF if all(o == -INF for o in reached) else None
    terms = [(p, q, o) for p, q, o in zip(s, l, other, strict=True) if p]
    if any(o == -INF for *_, o in terms):
        return INF
    if any(o is None for *_, o in terms):
        return None
    return sum(p * (q - o) for p, q, o in terms)  # type: ignore[operator]


def gradient_to_y(x: Any, y: Any) -> list[float | None]:
    pairs = zip(softmax(x), softmax(y), strict=True)
    return [None if None in (p, q) else G * (q - p) for p, q in pairs]  # type: ignore[operator]


def along_y(x: Any, y: Any) -> float | None:
    change = gradient_to_y(x, y)
    return None if None in change else sum(c / G * v for c, v in zip(change, V, strict=True))  # type: ignore[operator]


def block(x: Any, sign: int) -> list[float | None]:
    s = softmax(x)
    if None in s:
        return s  # 0 beside the undefined ones
    mean = sum(p * v for p, v in zip(s, V, strict=True))  # type: ignore[operator]
    return [sign * G * p * (v - mean) for p, v in zip(s, V, strict=True)]  # type: ignore[operator]


EXPECTED: dict[tuple[str, str], Any] = {
    ("value", "-"): lambda x, y: [value(x, y)],
    ("vjp", "y"): gradient_to_y,
    ("jvp", "y"): lambda x, y: [along_y(x, y)],
    ("hvp", "x.y"): lambda x, y: block(x, -1),
    ("hvp", "y.x"): lambda x, y: block(x, -1),
    ("hvp", "y.y"): lambda x, y: block(y, 1),
}


@pytest.mark.parametrize("key", EXPECTED, ids="-".join)
def test_every_pattern_follows_from_its_two_softmaxes(key: tuple[str, str]) -> None:
    count = len(X)
    inputs = {"x": X, "y": Y, "g": np.full(count, G)}
    inputs |= {f"v_{name}": np.tile(V, (count, 1)) for name in "xy"}
    refs = oracle.evaluate(KL, *key, inputs, FORMATS["float32"])
    got, undefined = refs.approximate(), refs.undefined
    answered = 0
    for r in range(count):
        for i, right in enumerate(EXPECTED[key](X[r], Y[r])):
            where = X[r].tolist(), Y[r].tolist(), i, right
            assert bool(undefined[r, i]) == (right is None), where
            if right is not None:
                answered += 1
                assert got[r, i] == pytest.approx(right, rel=1e-12, abs=1e-12), where
    assert answered > 0.3 * got.size


@pytest.mark.parametrize("key", [("vjp", "x"), ("hvp", "x.x")], ids="-".join)
def test_the_derivatives_to_x_are_zero_wherever_the_probability_is(key: tuple[str, str]) -> None:
    count = len(X)
    inputs = {"x": X, "y": Y, "g": np.full(count, G), "v_x": np.tile(V, (count, 1))}
    refs = oracle.evaluate(KL, *key, inputs, FORMATS["float32"])
    for r in range(count):
        for i, s in enumerate(softmax(X[r])):
            assert not refs.nan[r, i]
            if s is None:
                assert refs.undefined[r, i], X[r]
            elif s in (0.0, 1.0):
                assert refs.codes[r, i] == ZERO, (X[r], Y[r], i)


@pytest.mark.parametrize("row", ["x", "y"])
def test_nan_reaches_what_depends_on_it(row: str) -> None:
    inputs = {"x": np.array([[0.0, 1.0]]), "y": np.array([[2.0, 1.0]]), "g": np.ones(1),
              "v_x": np.array([[1.0, 3.0]]), "v_y": np.array([[1.0, 3.0]])}  # fmt: skip
    inputs[row] = np.array([[math.nan, 1.0]])
    for key in EXPECTED:
        refs = oracle.evaluate(KL, *key, inputs, FORMATS["float32"])
        depends = key[0] != "hvp" or (row == "y") == (key[1] == "y.y")
        assert (refs.nan if depends else refs.undefined).all(), key


def test_a_row_whose_probability_is_where_y_has_none_is_decided() -> None:
    """y is one-hot by +inf beside what x keeps: no ratio of the two softmaxes exists."""
    x, y = np.array([[1.0, -INF, -1.0]]), np.array([[-1.0, INF, 1.0]])
    refs = oracle.evaluate(KL, "jvp", "y", {"x": x, "y": y, "v_y": np.array([[2.0, 2.0, 1.0]])},
                           FORMATS["float64"])  # fmt: skip
    share = 1 / (1 + math.exp(2.0))
    assert refs.approximate()[0, 0] == pytest.approx(share, rel=1e-15)
