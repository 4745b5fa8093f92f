"""Bounds where subnormal numbers are flushed: whatever a sound evaluation loses is in them.

The implementations round after every operation and take subnormal inputs and results for 0, as a
processor does that flushes. Their rows have probabilities around the smallest normal number, where
a product can vanish that the textbook form does not have.
"""

from __future__ import annotations

from itertools import permutations
from typing import Any

import numpy as np
import pytest
from emulated_rows import Stepwise
from test_bounds import Emulated

from reference import bounds, formats, metrics, ops, oracle
from reference.arithmetic.bounds import BoundArithmetic
from reference.formats import FORMATS, Format

Key = tuple[str, str, str]
ROWS = ("softmax", "log_softmax", "logsumexp", "softmax_cross_entropy", "categorical_entropy",
        "kl_divergence")  # fmt: skip
FIRST = [(op, *key) for op in ROWS[:4] for key in ops.get(op).maps if key[0] in ("value", "vjp")]
SECOND = [(op, *key) for op in ROWS for key in ops.get(op).maps if key[0] in ("jvp", "hvp")]


class Flushing(Stepwise):
    """A rounding after every operation, and 0 for what is subnormal then."""

    def r(self, v: Any) -> Any:
        rounded = super().r(v)
        return np.where(np.abs(rounded) < self.fmt.smallest_normal, 0.0, rounded)


class MultipliedOut(Flushing):
    """Products as transposes of derivatives have them: s v - s sum(s v)."""

    def scaled(self, p: Any, s: Any, c: Any) -> Any:
        return self.r(self.r(p * c) - self.r(p * self.sum(self.r(s * c))))

    def out(self, key: Key, inputs: dict[str, Any]) -> Any:
        r, s = self.r, self.softmax(inputs["x"])
        g = inputs["g"].reshape(len(s), -1) if "g" in inputs else None
        v = inputs.get("v_x")
        match key:
            case ("softmax", "vjp", _):
                return self.scaled(s, s, g)
            case ("softmax", "jvp", _):
                return self.scaled(s, s, v)
            case ("softmax", "hvp", _):
                ds = self.scaled(s, s, v)
                return r(self.scaled(ds, s, g) - r(s * self.sum(r(ds * g))))
            case ("log_softmax", "hvp", _):
                return -self.scaled(r(s * self.sum(g)), s, v)
            case ("logsumexp", "hvp", _):
                return self.scaled(r(s * g), s, v)
            case ("softmax_cross_entropy", "vjp", "x"):
                t = inputs["target"]
                return r(r(g * r(s * self.sum(t))) - r(g * t))
        ds, t = self.scaled(s, s, v), inputs["target"]
        return r(g * r(ds * self.sum(t)))

    def without_ds(self, inputs: dict[str, Any]) -> Any:
        """The hvp of softmax as e / S is differentiated: s (v a) - s (a sum(s v) + sum(ds g))."""
        r, s, g, v = self.r, self.softmax(inputs["x"]), inputs["g"], inputs["v_x"]
        a, ds = self.deviation(s, g), self.scaled(s, s, v)
        rest = r(r(a * self.sum(r(s * v))) + self.sum(r(ds * g)))
        return r(r(s * r(v * a)) - r(s * rest))


OUT = [("softmax", "vjp", "x"), ("softmax", "jvp", "x"), ("softmax", "hvp", "x.x"),
       ("log_softmax", "hvp", "x.x"), ("logsumexp", "hvp", "x.x"),
       ("softmax_cross_entropy", "vjp", "x"), ("softmax_cross_entropy", "hvp", "x.x")]  # fmt: skip


def rows(key: Key, fmt: Format, n: int, count: int = 200) -> dict[str, Any]:
    """Logits that far below the maximum that their probabilities are about the smallest normal."""
    rng = np.random.default_rng([n, fmt.precision])
    edge = np.log(fmt.smallest_normal)
    made = {}
    for name in ("x", "y"):
        made[name] = edge + rng.uniform(-2.0, 6.0, (count, n))
        made[name][:, 0] = 0.0
    made["x"][: count // 10] *= (
        fmt.smallest_normal
    )  # subnormal logits, and equal to a flushing unit
    for name in ("v_x", "v_y", "v_target"):
        made[name] = rng.standard_normal((count, n))
    made["target"] = np.abs(rng.standard_normal((count, n))) * rng.choice([0, 1], (count, n))
    made["g"] = rng.standard_normal(count if ops.get(key[0]).per_row else (count, n))
    used = (*ops.get(key[0]).inputs, "g", *(f"v_{a}" for a in key[2].split(".")[-1:]))
    return {k: formats.nearest(fmt, a) for k, a in made.items() if k in used}


def worst(key: Key, fmt: Format, inputs: dict[str, Any], result: Any, *, flushes: bool) -> float:
    refs = oracle.evaluate(*key, inputs, fmt)
    weak = bounds.evaluate(*key, inputs, fmt, flushes=flushes).weak
    return float(metrics.errors(np.reshape(result, refs.shape), refs).ratio(weak).max())


def flushed(fmt: Format, inputs: dict[str, Any]) -> dict[str, Any]:
    return {k: np.where(np.abs(a) < fmt.smallest_normal, 0.0, a) for k, a in inputs.items()}


@pytest.mark.parametrize("name", ["float32", "float64", "bfloat16"])
@pytest.mark.parametrize("key", FIRST + SECOND, ids="-".join)
def test_what_flushes_after_every_operation_is_within_weak(key: Key, name: str) -> None:
    fmt = FORMATS[name]
    for n in (2, 5, 17):
        inputs = rows(key, fmt, n)
        made = Flushing(fmt, pairwise=fmt.is_narrow)
        for route in ("e/S", "exp(l)"):
            if key[1] == "value" and route == "exp(l)":
                continue
            with np.errstate(all="ignore"):
                ask = Emulated.answer if key in FIRST else Stepwise.answer
                result = ask(made, key, flushed(fmt, inputs), route)
            assert worst(key, fmt, inputs, result, flushes=True) <= 1.01, (n, route)


@pytest.mark.parametrize("name", ["float32", "float64", "bfloat16"])
@pytest.mark.parametrize("key", OUT, ids="-".join)
def test_what_multiplies_out_before_it_subtracts_is_within_weak(key: Key, name: str) -> None:
    fmt = FORMATS[name]
    for n in (2, 5, 17):
        inputs = rows(key, fmt, n)
        made = MultipliedOut(fmt, pairwise=fmt.is_narrow)
        with np.errstate(all="ignore"):
            results = [made.out(key, flushed(fmt, inputs))]
            if key == ("softmax", "hvp", "x.x"):
                results.append(made.without_ds(flushed(fmt, inputs)))
        for result in results:
            assert worst(key, fmt, inputs, result, flushes=True) <= 1.01, n


BCE = "sigmoid_cross_entropy"
PRODUCTS = [(BCE, "vjp", "pos_weight"), (BCE, "jvp", "pos_weight"),
            (BCE, "hvp", "pos_weight.target"), (BCE, "hvp", "target.pos_weight")]  # fmt: skip


@pytest.mark.parametrize("name", ["float16", "float32", "float64"])
@pytest.mark.parametrize("key", PRODUCTS, ids="-".join)
def test_factors_of_a_product_may_meet_in_any_order(key: Key, name: str) -> None:
    """z softplus(-x) and softplus(-x) times cotangent and tangent: any two of them may vanish."""
    fmt = FORMATS[name]
    rng = np.random.default_rng(5)
    shape = (300, 7)
    low = max(-np.log(fmt.smallest_normal) - 6, 1.0)
    inputs = {
        "x": rng.uniform(low, low + 5, shape) * rng.choice([1, 1, -1], shape),
        "target": rng.choice([0.05, 1.0, 1.5], shape),
        "pos_weight": rng.choice([0.0, 1.0, 2.0], shape),
        "g": rng.choice([1e-3, 0.4, 20.0], shape) * rng.standard_normal(shape),
        f"v_{key[2].split('.')[-1]}": rng.choice([1e-3, 1.0, 15.0], shape),
    }
    inputs = {k: formats.nearest(fmt, a) for k, a in inputs.items()}
    flushing = fmt.precision > 11
    made = (Flushing if flushing else Stepwise)(fmt, pairwise=True)
    loss = made.r(np.maximum(-inputs["x"], 0) + made.r(np.log1p(np.exp(-np.abs(inputs["x"])))))
    scale = ["g"] if key[1] == "vjp" else [n for n in inputs if n.startswith("v_")]
    scale += ["g"] if key[1] == "hvp" else ["target"]
    for order in permutations([loss, *(inputs[n] for n in scale)]):
        result = order[0]
        for factor in order[1:]:
            result = made.r(result * factor)
        assert worst(key, fmt, inputs, result, flushes=flushing) <= 1.01


@pytest.mark.parametrize("key", OUT, ids="-".join)
def test_who_flushes_is_not_within_the_bound_of_who_does_not(key: Key) -> None:
    fmt = FORMATS["float32"]
    inputs = rows(key, fmt, 17)
    with np.errstate(all="ignore"):
        result = MultipliedOut(fmt, pairwise=False).out(key, flushed(fmt, inputs))
    assert worst(key, fmt, inputs, result, flushes=False) > 100


@pytest.mark.parametrize("key", OUT, ids="-".join)
def test_losing_normal_numbers_is_not_within_the_bound_of_who_flushes(key: Key) -> None:
    """An exponential that is 0 below 64 times the smallest normal number."""

    class Premature(MultipliedOut):
        def softmax(self, x: Any) -> Any:
            s = super().softmax(x)
            return np.where(s < 64 * self.fmt.smallest_normal, 0.0, s)

    fmt = FORMATS["float32"]
    inputs = rows(key, fmt, 17)
    with np.errstate(all="ignore"):
        result = Premature(fmt, pairwise=False).out(key, flushed(fmt, inputs))
    assert worst(key, fmt, inputs, result, flushes=True) > 5


def test_gradual_underflow_gets_no_allowance_for_additions_and_inputs() -> None:
    """The same bound, to the bit, as from the rules without flushing."""
    fmt = FORMATS["float32"]
    tiny = fmt.smallest_normal / 2
    chosen = bounds.constants(fmt)["weak"]
    flushing = bounds.constants(fmt, flushes=True)["weak"]
    values = np.array([[tiny, 1.0, -tiny, 0.0]])
    for constants, inputs, total in ((chosen, [0, 0, 0, 0], 0), (flushing, [1, 0, 1, 0], 2)):
        a = BoundArithmetic(constants)
        assert a.exact(values).y.tolist() == [inputs]
        assert a.sum(a.exact(values)).y.item() == total
    small = np.array([[tiny * 8, -tiny * 7, 0.0]])
    assert BoundArithmetic(chosen).sum(BoundArithmetic(chosen).exact(small)).y.item() == 0
    assert BoundArithmetic(flushing).sum(BoundArithmetic(flushing).exact(small)).y.item() == 2
