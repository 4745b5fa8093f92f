"""Sound ways to compute a softmax that no textbook has: powers of two, and one pass over the row.

Both are what kernels do (attention above all), and both are within the weak bound; what looks like
them and is not sound is not.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from test_bounds import MAPS, Emulated, hard_rows, worst_ratio

from reference import formats
from reference.formats import FORMATS, Format

NAMES = ("float64", "float32", "bfloat16", "float16")
SOFTMAX = ("softmax", "value", "-")


class OfBaseTwo(Emulated):
    """e^d as 2^(d log2 e) and log S as log2(S) log 2, the constants rounded to the format."""

    log2_e, log_2 = math.log2(math.e), math.log(2)

    def exp(self, v: Any) -> Any:
        return self.r(np.exp2(self.r(v * self.r(self.log2_e))))

    def log(self, v: Any) -> Any:
        return self.r(self.r(np.log2(v)) * self.r(self.log_2))


class Coarse(OfBaseTwo):
    """Four digits of log2 e."""

    log2_e = 1.4427


class BaseBeforeShift(OfBaseTwo):
    """2^(x log2 e - m log2 e): the error is relative to x, not to x - m."""

    def shifted(self, x: Any) -> Any:
        m, d, _, _ = super().shifted(x)
        c = self.r(self.log2_e)
        e = self.r(np.exp2(self.r(self.r(x * c) - self.r(m * c))))
        return m, d, e, self.sum(e)


class Online(Emulated):
    """One pass: whenever the maximum grows, the sum so far is scaled by e^(old - new)."""

    def shifted(self, x: Any) -> Any:
        m, total = x[..., :1], np.ones_like(x[..., :1])
        for k in range(1, x.shape[-1]):
            new = np.maximum(m, x[..., k : k + 1])
            kept = self.r(total * self.exp(self.r(m - new)))
            total = self.r(kept + self.exp(self.r(x[..., k : k + 1] - new)))
            m = new
        d = self.r(x - m)
        return m, d, self.exp(d), total


def ratio(
    made: Emulated,
    key: tuple[str, str, str],
    inputs: dict[str, Any],
    which: str = "weak",
    *,
    fmt: Format | None = None,
) -> float:
    """The worst test ratio; ``fmt`` where the result is rounded once more."""
    fmt = fmt or made.fmt
    with np.errstate(all="ignore"):
        result = formats.nearest(fmt, made.answer(key, inputs, "e/S"))
    return worst_ratio(key, fmt, inputs, result, which)[0]


def far_below(fmt: Format) -> dict[str, Any]:
    """Gaps as large as the format's exponentials have, whose products with log2 e round."""
    rng = np.random.default_rng(7)
    largest = min(80.0, 0.6 * -math.log(fmt.smallest_normal))
    gaps = rng.uniform(0.7, 1, (4096, 4)) * largest
    x = rng.uniform(0, 8, (4096, 1)) - np.concatenate([np.zeros((4096, 1)), gaps], axis=1)
    return {"x": Emulated(fmt, pairwise=True).r(x), "g": np.ones((4096, 5))}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("key", MAPS, ids="-".join)
@pytest.mark.parametrize("form", [OfBaseTwo, Online])
def test_a_sound_form_is_within_weak(
    form: type[Emulated], key: tuple[str, str, str], name: str
) -> None:
    """In narrower formats in float32, and rounded once, as kernels have it."""
    fmt = FORMATS[name]
    inner = FORMATS["float32"] if fmt.is_narrow else fmt
    for n in (1, 2, 5, 33):
        inputs = hard_rows(key[0], fmt, n)
        assert ratio(form(inner, pairwise=False), key, inputs, fmt=fmt) <= 1.01, n


@pytest.mark.parametrize("name", ["float64", "float32"])
def test_powers_of_two_need_their_share_of_the_bound(name: str) -> None:
    """The bound of base e, to which the better grade is held, is less than they make of it."""
    fmt = FORMATS[name]
    made = OfBaseTwo(fmt, pairwise=True)
    assert ratio(made, SOFTMAX, far_below(fmt), "pairwise") > 1.01
    assert ratio(made, SOFTMAX, far_below(fmt)) < 1


@pytest.mark.parametrize("name", ["float64", "float32"])
def test_a_coarse_constant_is_not_within_weak(name: str) -> None:
    fmt = FORMATS[name]
    assert ratio(Coarse(fmt, pairwise=True), SOFTMAX, far_below(fmt)) > 2


@pytest.mark.parametrize("name", NAMES)
def test_a_base_that_is_changed_before_the_shift_is_not_within_weak(name: str) -> None:
    fmt = FORMATS[name]
    inputs = hard_rows("softmax", fmt, 5)
    assert ratio(BaseBeforeShift(fmt, pairwise=fmt.is_narrow), SOFTMAX, inputs) > 2
