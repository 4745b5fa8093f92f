"""A bound wherever the answer is finite, whatever infinities the row has."""

from __future__ import annotations

import itertools
from dataclasses import fields
from typing import Any

import numpy as np
import pytest

from reference import bounds, cases, ops, oracle
from reference.formats import FORMATS

MAPS = [(op.name, *key) for op in ops.OPS.values() for key in op.maps]
KL = [key for key in MAPS if key[0] == "kl_divergence"]


def without_bound(key: tuple[str, str, str], inputs: dict[str, Any], fmt: Any) -> list[str]:
    """The names of bounds that are NaN beside a finite answer."""
    finite = oracle.evaluate(*key, inputs, fmt).finite
    made = bounds.evaluate(*key, inputs, fmt)
    return [f.name for f in fields(made) if np.isnan(getattr(made, f.name)[finite]).any()]


@pytest.mark.parametrize("key", MAPS, ids="-".join)
@pytest.mark.parametrize("name", ["float32", "bfloat16"])
def test_finite_answers_have_bounds_in_every_family(key: tuple[str, str, str], name: str) -> None:
    for family, n in itertools.product(cases.FAMILIES, (1, 2, 3)):
        made = cases.make(family, key[0], name, n, limit=24)
        assert not without_bound(key, cases.stack(made), FORMATS[name]), (family, n)


@pytest.mark.parametrize("key", KL, ids="-".join)
@pytest.mark.parametrize("n", [1, 2])
def test_finite_answers_have_bounds_for_all_pairs_of_infinities(
    key: tuple[str, str, str], n: int
) -> None:
    """y = -inf with a single class, x = -inf everywhere beside a y of its own: all of them."""
    rows = np.array(list(itertools.product((-np.inf, np.inf, 1.0, -2.0), repeat=2 * n)))
    v = np.broadcast_to([1.0, -3.0][:n], (len(rows), n))
    inputs = {"x": rows[:, :n], "y": rows[:, n:], "g": np.ones(len(rows)), "v_x": v, "v_y": v}
    for fmt in FORMATS.values():
        assert not without_bound(key, inputs, fmt), fmt.name


def test_a_row_without_anything_finite_is_bounded_as_equal_logits() -> None:
    """The block of the Hessian to y alone, which does not depend on x."""
    y, v, g = np.array([[1.0, 0.0, -3.0]]), np.array([[1.0, 2.0, -1.0]]), np.ones(1)
    key, fmt = ("kl_divergence", "hvp", "y.y"), FORMATS["float32"]
    nothing, equal = (
        bounds.evaluate(*key, {"x": np.full((1, 3), x), "y": y, "v_y": v, "g": g}, fmt).weak
        for x in (-np.inf, 0.0)
    )
    np.testing.assert_array_equal(nothing, equal)
