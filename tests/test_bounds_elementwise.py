"""Bounds of the elementwise ops: against their closed forms, and against sound implementations."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from against_arb import needed
from arb_inputs import elements
from test_ops_elementwise import BCE, FORMATS, MAPS, UNARY, evaluate

from reference import bounds, formats, metrics, oracle
from reference.formats import Format

P, L = 4.0, 5.0

# ---------------------------------------------------------------- the closed forms


class Closed:
    """W in units of u, as derived by hand, over arrays of inputs."""

    def __init__(self, op: str, inputs: dict[str, Any]) -> None:
        wide = {name: a.astype(np.longdouble) for name, a in inputs.items()}
        x = -wide["x"] if op == "log_sigmoid" else wide["x"]
        self.x, self.g = x, np.abs(wide.get("g", np.ones_like(x)))
        d = x - wide["y"] if op == "logaddexp" else x
        self.D, self.d = np.abs(d), d
        self.t = np.exp(-self.D)
        self.ell, self.q = np.log1p(self.t), self.t / (1 + self.t)
        self.s = np.where(d >= 0, 1, self.t) / (1 + self.t)
        self.other = np.where(d >= 0, self.t, 1) / (1 + self.t)
        self.softplus = [np.maximum(x, 0) + self.ell, np.maximum(-x, 0) + self.ell]
        self.log_sum = np.maximum(x, wide.get("y", x)) + self.ell
        self.z, self.w = wide.get("target", x), wide.get("pos_weight", np.ones_like(x))
        self.lam = 1 + np.abs(self.z) + np.abs(self.w * self.z)

    def weak(self, op: str, derivative: str, argument: str) -> Any:
        s, g, ell, q, D, w, z = self.s, self.g, self.ell, self.q, self.D, self.w, self.z
        right, left = self.softplus
        match op, derivative, argument:
            case "sigmoid", "value", _:
                return s * (P + 6)
            case "sigmoid", _, _:
                return g * s * ((1 - s) * (P + 9) + s * (P + 6))
            case "softplus" | "log_sigmoid", "value", _:
                return (L + 1) * right + P * s
            case "softplus" | "log_sigmoid", _, _:
                return g * s * (P + 4 + D)
            case "logaddexp", "value", _:
                return np.abs(self.log_sum) + L * ell + (P + D) * q
            case "logaddexp", _, "x":
                return g * s * (P + 4 + D)
            case "logaddexp", _, "y":
                return g * self.other * (P + 4 + D)
            case _, "value", _:
                r = w * z * left + (1 - z) * right
                return 6 * D * self.lam + self.lam * ((L + 6) * ell + P * q) + np.abs(r)
            case _, _, "x":
                r = (1 - z) * s - w * z * (1 - s)
                return g * (np.abs(r) + self.lam * (P + 6))
            case _, _, "target":
                r = w * left - right
                return g * (np.abs(r) + (1 + np.abs(w)) * (3 * D + (L + 3) * ell + P * q))
        raise KeyError((op, derivative, argument))

    def strong(self, op: str, derivative: str, argument: str) -> Any:
        s, g, D, w, z = self.s, self.g, self.D, self.w, self.z
        other = self.other
        right, left = self.softplus
        match op, derivative, argument:
            case "sigmoid", "vjp", _:
                return g * s * other * (2 * P + 10)
            case "softplus" | "log_sigmoid", "vjp", _:
                return g * s * (2 * P + 10)
            case "logaddexp", "vjp", _:
                return g * (s if argument == "x" else other) * (2 * P + 10 + D)
            case "sigmoid_cross_entropy", "value", _:
                return (L + P + 4) * (np.abs(w * z) * left + np.abs(1 - z) * right)
            case "sigmoid_cross_entropy", "vjp", "x":
                return g * (P + 6) * (np.abs(1 - z) * s + np.abs(w * z) * other)
        raise KeyError((op, derivative, argument))


def moderate(seed: int) -> dict[str, Any]:
    """Numbers of everyday size, targets in [0, 1], at all distances."""
    rng = np.random.default_rng(seed)
    shape = (40, 50)
    x = rng.standard_normal(shape) * rng.choice([0.01, 1, 5, 30, 150], shape)  # nothing underflows
    z = rng.choice([0.0, 1.0, 0.5], shape)
    z = np.where(rng.random(shape) < 0.5, rng.random(shape), z)
    return {
        "x": x, "y": x + rng.standard_normal(shape) * rng.choice([0.01, 1, 5, 30], shape),
        "target": z, "pos_weight": np.where(rng.random(shape) < 0.5, 1.0, 4 * rng.random(shape)),
        "g": rng.standard_normal(shape),
    }  # fmt: skip


CLOSED = [k for k in MAPS if k[1] in ("value", "vjp") and k != (BCE, "vjp", "pos_weight")]
# (least, largest) of arithmetic / closed form. Below 1 where the closed form charges one worst case
# for all: |x| in the slope of softplus for x > 0, D in that of logaddexp, and Lam, or 6 |x|, for
# every z and w. Above 1 where it counts on the errors of t in numerator and denominator of
# t / (1 + t) to cancel in part, and in the slope of softplus, where exp(x - f) passes on the
# error (L + 1) log 2 + P / 2 of f at x = 0. The logistic loss may be made of softplus as log1p(e^x)
# or of a term for each sign, and its gradient of exp(x - f): its closed form knows none of these.
WEAK = {
    ("sigmoid", "value"): (0.29, 1.0), ("sigmoid", "vjp"): (0.29, 1.0),
    ("softplus", "value"): (0.8, 1.001), ("softplus", "vjp"): (0.008, 1.4),
    ("log_sigmoid", "value"): (0.8, 1.001), ("log_sigmoid", "vjp"): (0.008, 1.4),
    ("logaddexp", "value"): (0.999, 1.001), ("logaddexp", "vjp"): (0.02, 1.26),
    (BCE, "value"): (0.07, 1.7), (BCE, "vjp", "x"): (0.05, 4.0),
    (BCE, "vjp", "target"): (0.15, 2.4),
}  # fmt: skip


@pytest.mark.parametrize("key", CLOSED, ids="-".join)
def test_the_weak_bound_is_its_closed_form_within_a_factor(key: tuple[str, str, str]) -> None:
    fmt = FORMATS["float64"]
    inputs = {name: a for name, a in moderate(1).items() if name in needed(key)}
    made = bounds.evaluate(*key, inputs, fmt)
    np.testing.assert_array_equal(made.weak, made.pairwise)  # nothing is summed
    ratio = made.weak / np.longdouble(fmt.unit_roundoff) / Closed(key[0], inputs).weak(*key)
    least, largest = WEAK.get(key, WEAK.get(key[:2], (0, 0)))
    assert ratio.min() >= least
    assert ratio.max() <= largest


STRONG = {
    ("sigmoid", "vjp"): (0.6, 0.95), ("softplus", "vjp"): (0.2, 0.6),
    ("log_sigmoid", "vjp"): (0.2, 0.6), ("logaddexp", "vjp"): (0.02, 0.95),
    (BCE, "value"): (0.2, 1.001), (BCE, "vjp", "x"): (0.09, 1.6),
}  # fmt: skip


@pytest.mark.parametrize("key", [k for k in CLOSED if k in STRONG or k[:2] in STRONG], ids="-".join)
def test_the_strong_bound_is_its_closed_form_within_a_factor(key: tuple[str, str, str]) -> None:
    fmt = FORMATS["float64"]
    inputs = {name: a for name, a in moderate(2).items() if name in needed(key)}
    made = bounds.evaluate(*key, inputs, fmt)
    ratio = made.strong / np.longdouble(fmt.unit_roundoff) / Closed(key[0], inputs).strong(*key)
    least, largest = STRONG.get(key, STRONG.get(key[:2], (0, 0)))
    assert ratio.min() >= least
    assert ratio.max() <= largest


# ---------------------------------------------------------------- sound implementations


class Emulated:
    """NumPy as if it had the format: float64 inside one operation, one rounding after it."""

    def __init__(self, fmt: Format, inputs: dict[str, Any]) -> None:
        self.fmt, self.inputs = fmt, inputs
        self.x = inputs["x"]

    def r(self, v: Any) -> Any:
        rounded = formats.nearest(self.fmt, v)
        if self.fmt.has_infinity:
            return rounded
        largest = self.fmt.max_finite  # saturating, as is usual where there is no infinity
        return np.where(np.isnan(rounded), np.clip(v, -largest, largest), rounded)

    def t(self, d: Any) -> Any:
        return self.r(np.exp(-np.abs(d)))

    def sigmoid(self, d: Any, route: str) -> Any:
        r, t = self.r, self.t(d)
        if route == "textbook":  # where exp(-d) does not overflow
            direct = r(1 / r(1 + r(np.exp(-d))))
            return np.where(d > -0.9 * np.log(self.fmt.max_finite), direct, r(t / r(1 + t)))
        if route == "exp(log)":
            return r(np.exp(r(d - self.softplus(d, "branch"))))
        return r(np.where(d >= 0, 1, t) / r(1 + t))

    def softplus(self, d: Any, route: str) -> Any:
        r = self.r
        shifted = r(np.maximum(d, 0) + r(np.log1p(self.t(d))))
        if route != "textbook":
            return shifted
        return np.where(d > 4, shifted, r(np.log1p(r(np.exp(np.minimum(d, 4))))))

    def first(self, op: str, argument: str, route: str) -> Any:
        """The derivative of the value."""
        r, x = self.r, self.x
        match op, argument:
            case "sigmoid", _:
                s = self.sigmoid(x, route)
                return r(s * r(1 - s))
            case "softplus", _:
                return self.sigmoid(x, route)
            case "log_sigmoid", _:
                return self.sigmoid(-x, route)
            case "logaddexp", _:
                d = r(x - self.inputs["y"])
                return self.sigmoid(d if argument == "x" else -d, route)
            case _, "x":
                z, w = self.inputs["target"], self.inputs["pos_weight"]
                k = r(1 + r(r(w - 1) * z))
                if route == "textbook":
                    return r(r(k * self.sigmoid(x, route)) - r(w * z))
                if route == "mirrored":
                    return r(r(1 - z) - r(k * self.sigmoid(-x, "branch")))
                s, other = self.sigmoid(x, "branch"), self.sigmoid(-x, "branch")
                return r(r(r(1 - z) * s) - r(r(w * z) * other))
            case _, "target":
                w = self.inputs["pos_weight"]
                if route == "mirrored":
                    return r(r(r(w - 1) * self.softplus(-x, "branch")) - x)
                return r(r(w * self.softplus(-x, "branch")) - self.softplus(x, "branch"))
        return r(self.inputs["target"] * self.softplus(-x, "branch"))

    def value(self, op: str, route: str) -> Any:
        r, x = self.r, self.x
        match op:
            case "sigmoid":
                return self.sigmoid(x, route)
            case "softplus":
                return self.softplus(x, route)
            case "log_sigmoid":
                return -self.softplus(-x, route)
            case "logaddexp":
                y = self.inputs["y"]
                return r(np.maximum(x, y) + r(np.log1p(self.t(r(x - y)))))
        z, w = self.inputs["target"], self.inputs["pos_weight"]
        k = r(1 + r(r(w - 1) * z))
        left, right = self.softplus(-x, "branch"), self.softplus(x, "branch")
        if route == "textbook":
            return r(r(k * left) + r(r(1 - z) * x))
        if route == "mirrored":
            return r(r(k * right) - r(r(w * z) * x))
        return r(r(r(w * z) * left) + r(r(1 - z) * right))

    def second(self, op: str, block: str) -> Any:
        r, x = self.r, self.x
        s = self.sigmoid(x if op != "logaddexp" else r(x - self.inputs["y"]), "textbook")
        slope = r(s * r(1 - s))
        match op, block:
            case "sigmoid", _:
                return r(r(slope * r(1 - s)) - r(s * slope))
            case "softplus", _:
                return slope
            case "log_sigmoid", _:
                return -slope
            case "logaddexp", _:
                return slope if block in ("x.x", "y.y") else -slope
        z, w, other = (*(self.inputs.get(n, x) for n in ("target", "pos_weight")),
                       self.sigmoid(-x, "branch"))  # fmt: skip
        match block:
            case "x.x":
                return r(r(1 + r(r(w - 1) * z)) * slope)
            case "x.target" | "target.x":
                return -r(r(w * other) + s)
            case "x.pos_weight" | "pos_weight.x":
                return -r(z * other)
            case "target.pos_weight" | "pos_weight.target":
                return self.softplus(-x, "branch")
        return np.zeros_like(x)

    def answer(self, key: tuple[str, str, str], route: str) -> Any:
        op, derivative, argument = key
        match derivative:
            case "value":
                return self.value(op, route)
            case "vjp":
                return self.r(self.inputs["g"] * self.first(op, argument, route))
            case "jvp":
                return self.r(self.inputs[f"v_{argument}"] * self.first(op, argument, route))
        v = self.inputs["v_" + argument.split(".")[1]]
        return self.r(self.inputs["g"] * self.r(v * self.second(op, argument)))


def judged(key: tuple[str, str, str], fmt: Format) -> dict[str, Any]:
    """Everyday and extreme elements, 0 <= target <= 1 and weights >= 0, without overflow inside."""
    made = elements(fmt, 3000, 21 + MAPS.index(key))
    everyday = {n: formats.nearest(fmt, a.reshape(1, -1)) for n, a in moderate(3).items()}
    everyday |= {n: everyday["g"][:, ::-1] for n in made if n.startswith("v_")}
    joined = {n: np.concatenate([a, everyday[n]], axis=1) for n, a in made.items()}
    good = (joined["target"] >= 0) & (joined["target"] <= 1)
    good &= (joined["pos_weight"] >= 0) & (joined["pos_weight"] <= 4)
    limit = fmt.max_finite / 32
    for name in needed(key):
        good &= np.abs(joined[name]) <= limit
    if key[1] == "hvp":
        v = np.abs(joined["v_" + key[2].split(".")[1]])
        good &= (np.log2(1 + v) + np.log2(1 + np.abs(joined["g"]))) < fmt.emax - 4
        good &= (np.log2(1 + v) + np.log2(1 + np.abs(joined["x"]))) < fmt.emax - 4
    return {n: joined[n][good][None] for n in needed(key)}


def ratios(key: Any, fmt: Format, inputs: Any, result: Any, which: str) -> Any:
    refs = oracle.evaluate(*key, inputs, fmt)
    bound = getattr(bounds.evaluate(*key, inputs, fmt), which)
    with np.errstate(all="ignore"):
        ratio = metrics.errors(result, refs).ratio(bound)
    return np.where(np.isfinite(refs.rounded()), ratio, 0.0)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("key", MAPS, ids="-".join)
def test_textbook_implementations_that_round_every_step_are_within_weak(
    key: tuple[str, str, str], name: str
) -> None:
    fmt = FORMATS[name]
    inputs = judged(key, fmt)
    assert inputs["x"].size > 500
    routes = ["branch"]
    if key[1] != "hvp":
        routes.append("textbook")
    if key[0] == BCE:
        routes.append("mirrored")
    if key[0] in ("softplus", "log_sigmoid") and key[1] in ("vjp", "jvp"):
        routes.append("exp(log)")
    for route in routes:
        with np.errstate(all="ignore"):
            result = Emulated(fmt, inputs).answer(key, route)
        ratio = ratios(key, fmt, inputs, result, "weak")
        worst = np.unravel_index(np.argmax(ratio), ratio.shape)
        where = {n: float(a[worst]) for n, a in inputs.items()}
        assert ratio.max() <= 1.01, (route, ratio.max(), where, result[worst])


STRONG_MAPS = [
    k for k in MAPS
    if k[1] == "value" or (k[0] in ("softplus", "log_sigmoid", "logaddexp") and k[1] == "vjp")
]  # fmt: skip


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("key", STRONG_MAPS, ids="-".join)
def test_cancellation_free_implementations_are_within_strong(
    key: tuple[str, str, str], name: str
) -> None:
    """In narrower formats everything in float32, and one rounding at the end."""
    fmt = FORMATS[name]
    inner = FORMATS["float32"] if fmt.is_narrow else fmt
    inputs = judged(key, fmt)
    with np.errstate(all="ignore"):
        result = formats.nearest(fmt, Emulated(inner, inputs).answer(key, "branch"))
    ratio = ratios(key, fmt, inputs, result, "strong")
    worst = np.unravel_index(np.argmax(ratio), ratio.shape)
    assert ratio.max() <= 1.01, {n: float(a[worst]) for n, a in inputs.items()}


@pytest.mark.parametrize("name", ["float64", "float32", "bfloat16", "float16"])
def test_a_loss_that_loses_a_sure_prediction_is_within_weak_but_breaks_strong(name: str) -> None:
    """max(x, 0) - x z + log1p(t) with x large and z = 1: only rounding, and a loss of 0."""
    fmt = FORMATS[name]
    x = formats.nearest(fmt, np.array([[fmt.precision * np.log(2) * 0.6 + 1.0]]))
    inputs = {"x": x, "target": np.ones_like(x), "pos_weight": np.ones_like(x)}
    result = Emulated(fmt, inputs).answer((BCE, "value", "-"), "mirrored")
    assert ratios((BCE, "value", "-"), fmt, inputs, result, "weak")[0, 0] <= 1
    assert ratios((BCE, "value", "-"), fmt, inputs, result, "strong")[0, 0] > 10


@pytest.mark.parametrize("key", MAPS, ids="-".join)
def test_bounds_beside_infinities_are_small_and_finite(key: tuple[str, str, str]) -> None:
    inf, nan = np.inf, np.nan
    x = np.array([[inf, -inf, nan, 1.0]])
    inputs = {name: np.full((1, 4), 0.5) for name in needed(key)} | {"x": x}
    made = bounds.evaluate(*key, inputs, FORMATS["float32"])
    for bound in (made.weak, made.pairwise, made.strong, made.magnitude, made.roundoff):
        assert bound.shape == (1, 4)
        assert np.isfinite(bound).all()
    assert (made.weak < 1e-5).all()
    assert (made.weak > 0).all()


def test_a_wrong_branch_is_far_outside() -> None:
    """1 - sigmoid(-x) for x < 0, and log(sigmoid(x)) without care, are what the bounds are for."""
    fmt = FORMATS["float32"]
    x = formats.nearest(fmt, np.array([[-30.0, -60.0, 12.0]]))
    em = Emulated(fmt, {"x": x})
    s = em.r(1 - em.sigmoid(-x, "branch"))
    assert (ratios(("sigmoid", "value", "-"), fmt, {"x": x}, s, "weak")[0, :2] > 100).all()
    with np.errstate(divide="ignore"):
        log = em.r(np.log(em.sigmoid(x, "branch")))
    assert ratios(("log_sigmoid", "value", "-"), fmt, {"x": x}, log, "weak")[0, 2] > 10
    right = evaluate(("sigmoid", "value", "-"), x=x[0]).rounded()
    assert (ratios(("sigmoid", "value", "-"), fmt, {"x": x}, right, "weak") < 0.3).all()


def test_unary_ops_have_no_sums() -> None:
    for op in UNARY:
        x = {"x": np.array([[-1.0, 2.0, 400.0]])}
        made = bounds.evaluate(op, "value", "-", x, FORMATS["float32"])
        np.testing.assert_array_equal(made.weak, made.pairwise)


def test_the_size_of_an_answer_beside_an_infinity_is_that_of_its_factors() -> None:
    inputs = {"x": np.array([[np.inf, 0.0]]), "target": np.ones((1, 2)),
              "pos_weight": np.full((1, 2), 0.5), "g": np.full((1, 2), 3.0)}  # fmt: skip
    made = bounds.evaluate(BCE, "vjp", "x", inputs, FORMATS["float32"])
    assert made.magnitude[0, 0] == 3.0 * 2.0 * 1.5
    assert made.weak[0, 0] == pytest.approx(2 * 2.0**-24 * float(made.magnitude[0, 0]))
