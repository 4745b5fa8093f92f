"""masked_softmax: softmax of what is kept, nothing of what is dropped.

Against Arb: test_against_arb.py. Against the definitions: test_definitions.py.
"""

from __future__ import annotations

import itertools
import math
from fractions import Fraction
from typing import Any

import arb as first
import emulated_rows
import numpy as np
import pytest
from against_arb import same

from reference import bounds, ops, oracle
from reference.formats import FORMATS
from reference.ops.base import ZERO

INF, NAN = math.inf, math.nan
ANY = "undefined"
MAPS = [("masked_softmax", *key) for key in ops.get("masked_softmax").maps]
VALUE, VJP, JVP, HVP = MAPS


def batch(x: Any, mask: Any, g: Any = None, v: Any = None) -> dict[str, Any]:
    x = np.asarray(x, np.float64)
    n = x.size
    g = np.eye(n)[0] if g is None else np.asarray(g, np.float64)
    v = np.arange(n) * 1.0 if v is None else np.asarray(v, np.float64)
    return {"x": x[None], "mask": np.asarray(mask)[None], "g": g[None], "v_x": v[None]}


def evaluate(key: Any, *row: Any, fmt: str = "float64") -> oracle.References:
    return oracle.evaluate(*key, batch(*row), FORMATS[fmt])


# ---------------------------------------------------------------- the mask


@pytest.mark.parametrize("key", MAPS, ids="-".join)
def test_a_masked_row_is_the_row_without_what_is_dropped(key: Any) -> None:
    """And what is dropped may hold anything, in every input."""
    rng = np.random.default_rng(1)
    fmt = FORMATS["float32"]
    for x, mask in itertools.product(
        ([0.5, 1.0, -2.0, 3.0], [0.0, 0.0, -1e6, 0.0], [1.0, -INF, INF, 2.0], [NAN, 0.0, 1.0, 1.0],
         [INF, INF, 0.0, -INF], [-INF, -INF, -INF, 0.0]),
        itertools.product((0, 1), repeat=4),
    ):  # fmt: skip
        keep = np.array(mask, bool)
        g, v = rng.integers(-3, 4, (2, 4)) * 1.0
        junk = rng.choice([NAN, INF, -INF, 7.0], 4)
        rows = [np.where(keep, u, junk) for u in (x, g, v)]
        refs = oracle.evaluate(*key, batch(rows[0], mask, *rows[1:]), fmt)
        assert (refs.codes[0, ~keep] == ZERO).all()
        if keep.any():
            part = {"x": np.array(x)[None, keep], "g": g[None, keep], "v_x": v[None, keep]}
            alone = oracle.evaluate("softmax", *key[1:], part, fmt)
            assert refs.codes[0, keep].tolist() == alone.codes[0].tolist(), (x, mask)
            for a, b in zip(refs.rounded()[0, keep], alone.rounded()[0], strict=True):
                assert same(float(a), float(b)), (x, mask)


def test_nothing_kept_gives_zeros_and_zero_derivatives() -> None:
    for key in MAPS:
        for x in ([1.0, 2.0], [NAN, INF], [-INF, -INF]):
            assert (evaluate(key, x, [0, 0]).codes == ZERO).all()


def test_masks_are_booleans_or_numbers() -> None:
    for mask in ([True, False, True], [1, 0, 1], [1.0, 0.0, 1.0]):
        assert evaluate(VALUE, [2.0, 9.0, 2.0], mask).rounded()[0].tolist() == [0.5, 0.0, 0.5]


@pytest.mark.parametrize(
    ("x", "mask", "value", "derivative"),
    [
        ([-INF, 1.0, 5.0], [1, 1, 0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0]),
        ([INF, 1.0, 5.0], [1, 1, 0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]),
        ([INF, 1.0, INF], [1, 1, 1], [ANY, 0.0, ANY], [ANY, 0.0, ANY]),
        ([INF, 1.0, INF], [1, 1, 0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]),
        ([-INF, -INF, 0.0], [1, 1, 0], [ANY, ANY, 0.0], [ANY, ANY, 0.0]),
        ([-INF, 4.0, 0.0], [1, 0, 0], [ANY, 0.0, 0.0], [ANY, 0.0, 0.0]),
        ([INF, 4.0, 0.0], [1, 0, 0], [ANY, 0.0, 0.0], [ANY, 0.0, 0.0]),
        ([3.0, 4.0, NAN], [1, 0, 0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]),
        ([NAN, 4.0, 0.0], [1, 1, 0], [NAN, NAN, 0.0], [NAN, NAN, 0.0]),
        ([NAN, 4.0, 4.0], [0, 1, 1], [0.0, 0.5, 0.5], None),
    ],
)  # fmt: skip
def test_limits(x: Any, mask: Any, value: Any, derivative: Any) -> None:
    for key in MAPS:
        expected = value if key == VALUE else derivative
        if expected is None:
            continue
        refs = evaluate(key, x, mask)
        for i, right in enumerate(expected):
            assert bool(refs.undefined[0, i]) == (right == ANY), (key, i)
            assert right == ANY or same(float(refs.rounded()[0, i]), right), (key, i)


def test_rational_results_are_settled_without_evaluation() -> None:
    third = Fraction(1, 3)
    for key, expected in (
        (VALUE, [third, 0, third, third]), (VJP, [2 * third / 3, 0, -third / 3, -third / 3]),
        (JVP, [-5 * third / 3, 0, third / 3, 4 * third / 3]),
    ):  # fmt: skip
        refs = evaluate(key, [0.5, 9.0, 0.5, 0.5], [1, 0, 1, 1], [1, 5, 0, 0], [0, 5, 2, 3])
        assert not (refs.codes == 0).any()
        assert refs.rounded()[0].tolist() == [first.nearest("float64", Fraction(v))
                                              for v in expected]  # fmt: skip


def test_a_dropped_logit_does_not_shift_the_row() -> None:
    """A maximum taken over everything makes every kept probability vanish."""
    refs = evaluate(VALUE, [0.0, 1.0, 1e300], [1, 1, 0])
    assert refs.rounded()[0].tolist() == [1 / (1 + math.e), 1 / (1 + 1 / math.e), 0.0]


@pytest.mark.parametrize("gap", [1e4, 1e8, 1e300])
def test_gaps_are_decided(gap: float) -> None:
    for key in MAPS:
        refs = evaluate(
            key, [0.0, 5e299, -gap, -gap / 2], [1, 0, 1, 1], [1, 2, -3, 0], [1, 0, 1, 4]
        )
        assert np.isfinite(refs.rounded()).all()
        assert ((refs.hi != 0) | (refs.codes == ZERO)).all()


# ---------------------------------------------------------------- bounds


@pytest.mark.parametrize("n", [2, 3, 10, 100])
@pytest.mark.parametrize("key", [VALUE, VJP, JVP], ids="-".join)
def test_the_bounds_are_softmaxs(key: Any, n: int) -> None:
    fmt = FORMATS["float32"]
    made = emulated_rows.random_rows(key, fmt, n, 4)
    plain = bounds.evaluate("softmax", *key[1:], made, fmt)
    padded = {k: np.concatenate([a, np.full_like(a, 0.0 if k == "mask" else 3.0)], axis=1)
              for k, a in made.items()}  # fmt: skip
    masked = bounds.evaluate(*key, padded, fmt)
    # one level of summation more for the padding, in formats that sum in pairs
    ratio = masked.pairwise[:, :n] / plain.pairwise
    assert ratio.min() >= 1
    assert ratio.max() < 1.35


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("key", MAPS, ids="-".join)
def test_implementations_that_round_every_step_are_within_weak(key: Any, name: str) -> None:
    fmt = FORMATS[name]
    for n in (1, 2, 5, 17):
        inputs = emulated_rows.hard_rows(key, fmt, n)
        for route in ("e/S", "exp(l)"):
            if route == "exp(l)" and key == VALUE:
                continue
            with np.errstate(all="ignore"):
                made = emulated_rows.Stepwise(fmt, pairwise=fmt.is_narrow)
                result = made.answer(key, inputs, route)
            ratio, row = emulated_rows.worst(key, fmt, inputs, result, "weak")
            assert ratio <= 1.01, (n, route, ratio, row)


def test_bounds_of_rows_with_junk_in_dropped_entries_are_those_of_the_kept() -> None:
    fmt = FORMATS["float32"]
    for key in MAPS:
        clean = bounds.evaluate(*key, batch([1.0, 0.0, 2.0], [1, 0, 1]), fmt)
        junk = bounds.evaluate(*key, batch([1.0, NAN, 2.0], [1, 0, 1]), fmt)
        assert (clean.weak == junk.weak).all()
        assert (clean.strong == junk.strong).all()
