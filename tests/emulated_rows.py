"""Sound step-by-step implementations of the row operators, and the closed forms of their bounds.

Both go on where :mod:`test_bounds` stops: forward and second derivatives, masks, entropy and
Kullback-Leibler divergence.
"""

from __future__ import annotations

import math
from typing import Any

import arb_inputs
import numpy as np
from test_bounds import Closed, Emulated

from reference import bounds, cases, formats, metrics, ops, oracle
from reference.formats import FORMATS, Format

Key = tuple[str, str, str]


class Stepwise(Emulated):
    """Textbook algorithms with a rounding after every operation; ``route`` is softmax's."""

    def probabilities(self, x: Any, route: str) -> Any:
        return self.r(np.exp(self.log_softmax(x))) if route == "exp(l)" else self.softmax(x)

    def deviation(self, s: Any, v: Any) -> Any:
        return self.r(v - self.sum(self.r(s * v)))

    def answer(self, key: Key, inputs: dict[str, Any], route: str) -> Any:
        r, x = self.r, inputs["x"]
        op, derivative, argument = key
        if "mask" in inputs:
            return self.masked(key, inputs, route)
        s = self.probabilities(x, route)
        g = inputs["g"].reshape(len(x), -1) if "g" in inputs else None
        v = inputs.get("v_x")
        w = None if v is None else self.deviation(s, v)
        ds = None if w is None else r(s * w)
        match op, derivative:
            case "softmax", "jvp":
                return ds
            case "softmax", "hvp":
                return r(r(ds * self.deviation(s, g)) - r(s * self.sum(r(ds * g))))
            case "log_softmax", "jvp":
                return w
            case "log_softmax", "hvp":
                return r(-ds * self.sum(g))
            case "logsumexp", "jvp":
                return self.sum(r(s * v))
            case "logsumexp", "hvp":
                return r(ds * g)
        if "cross_entropy" in op:
            return self.cross_entropy(derivative, argument, inputs, s, g, w, ds)
        if op == "categorical_entropy":
            return self.entropy(derivative, inputs, s, g, w, ds)
        return self.divergence(derivative, argument, inputs, s, route)

    def cross_entropy(
        self, derivative: str, argument: str, inputs: Any, s: Any, g: Any, w: Any, ds: Any
    ) -> Any:
        r, x = self.r, inputs["x"]
        t = np.eye(x.shape[1])[inputs["label"]] if "label" in inputs else inputs["target"]
        u = inputs.get("v_target")
        match derivative, argument:
            case "jvp", "x":
                return -self.sum(r(t * w))
            case "jvp", "target":
                return -self.sum(np.where(u == 0, 0.0, r(u * self.log_softmax(x))))
            case "hvp", "x.x":
                return r(r(ds * self.sum(t)) * g)
            case "hvp", "x.target":
                return r(g * r(r(s * self.sum(u)) - u))
            case "hvp", "target.x":
                return r(-g * w)
        return np.zeros_like(x)

    def entropy(self, derivative: str, inputs: Any, s: Any, g: Any, w: Any, ds: Any) -> Any:
        r, l = self.r, self.log_softmax(inputs["x"])  # noqa: E741
        H = -self.sum(r(s * l))
        a = r(l + H)
        gradient = -r(s * a)
        match derivative:
            case "value":
                return H
            case "vjp":
                return r(g * gradient)
            case "jvp":
                return self.sum(r(gradient * inputs["v_x"]))
        dH = self.sum(r(gradient * inputs["v_x"]))
        return r(-g * r(r(ds * a) + r(s * r(w + dH))))

    def divergence(self, derivative: str, argument: str, inputs: Any, s: Any, route: str) -> Any:
        r, x, y = self.r, inputs["x"], inputs["y"]
        g = inputs["g"].reshape(len(x), -1) if "g" in inputs else None
        delta = r(self.log_softmax(x) - self.log_softmax(y))
        sy = self.probabilities(y, route)
        a = r(delta - self.sum(r(s * delta)))
        v, u = inputs.get("v_x"), inputs.get("v_y")
        w = None if v is None else self.deviation(s, v)
        ds = None if w is None else r(s * w)
        wy = None if u is None else self.deviation(sy, u)
        match derivative, argument:
            case "value", "-":
                return self.sum(r(s * delta))
            case "vjp", "x":
                return r(g * r(s * a))
            case "vjp", "y":
                return r(g * r(r(sy * self.sum(s)) - s))
            case "jvp", "x":
                return self.sum(r(r(ds * delta) + r(s * w)))
            case "jvp", "y":
                return -self.sum(r(s * wy))
            case "hvp", "x.x":
                change = r(w - self.sum(r(r(ds * delta) + r(s * w))))
                return r(g * r(r(ds * a) + r(s * change)))
            case "hvp", "x.y":
                return r(-g * r(s * r(wy - self.sum(r(s * wy)))))
            case "hvp", "y.x":
                return r(g * r(r(sy * self.sum(ds)) - ds))
        return r(g * r(r(sy * wy) * self.sum(s)))

    def masked(self, key: Key, inputs: Any, route: str) -> Any:
        keep = np.asarray(inputs["mask"]) != 0
        plain = {k: np.where(keep, a, 0.0) for k, a in inputs.items() if k in ("g", "v_x")}
        plain["x"] = np.where(keep, inputs["x"], -np.inf)
        none = ~keep.any(axis=1)
        plain["x"][none] = 0.0
        plain["route"] = route
        if key[1] == "value":
            result = self.probabilities(plain["x"], route)
        elif key[1] == "vjp":
            s = self.probabilities(plain["x"], route)
            result = self.r(s * self.deviation(s, plain["g"]))
        else:
            result = self.answer(("softmax", *key[1:]), plain, route)
        return np.where(keep, result, 0.0)


class ClosedRows(Closed):
    """W in units of u of one row, from its textbook formula: weak of the forward derivatives and of
    entropy and divergence, strong of the jvp of log_softmax."""

    def __init__(self, row: dict[str, Any], h: float, k: float = 0.0) -> None:
        n = np.size(row["x"])
        super().__init__({"g": np.zeros(n), **row}, h, k)
        for name in ("v_x", "v_y"):
            setattr(self, name, np.asarray(row.get(name, np.zeros(n)), np.longdouble))
        self.other = Closed({"x": row["y"], "g": 0.0}, h, k) if "y" in row else None

    def weak(self, key: Key) -> Any:
        s, v, h, rho = self.s, self.v_x, self.h, self.rho
        match key:
            case (("softmax" | "masked_softmax"), "jvp", _):
                c = np.abs(v - (s * v).sum())
                return s * (c * (rho + 2) + (s * np.abs(v) * (rho + h + 2)).sum())
            case ("log_softmax", "jvp", _):
                r = np.abs(v - (s * v).sum())
                return r + (s * np.abs(v) * (rho + h + 2)).sum()
            case ("logsumexp", "jvp", _):
                return np.array([(s * np.abs(v) * (rho + h + 2)).sum()])
            case ("categorical_entropy", "value", _):
                l = np.abs(self.l)  # noqa: E741
                return np.array([(s * (l * (rho + h + 2) + self.omega)).sum()])
            case ("kl_divergence", "value", _):
                delta = np.abs(self.l - self.other.l)
                terms = delta * (rho + h + 3) + self.omega + self.other.omega
                return np.array([(s * terms).sum()])
            case ("kl_divergence", "vjp", "y"):
                o = self.other
                return abs(self.g) * (
                    o.s * (o.rho + h + 3 + (s * rho).sum()) + s * (rho + 3) + np.abs(o.s - s)
                )
            case _:
                return super().weak(key)

    def strong(self, key: Key) -> Any:
        if key == ("log_softmax", "jvp", "x"):
            v = self.v_x
            terms = self.s * np.abs(v[:, None] - v) * (self.B + self.h + 3)
            np.fill_diagonal(terms, 0)
            return terms.sum(axis=1)
        return super().strong(key)


def random_rows(key: Key, fmt: Format, n: int, seed: int) -> dict[str, Any]:
    """Rows of moderate spread; for divergences, y near x or not."""
    rng = np.random.default_rng([seed, n, fmt.precision])
    count = 30
    x = rng.standard_normal((count, n)) * rng.choice([0.1, 1, 4, 12], (count, 1))
    x += rng.choice([0, 0, 30, -30], (count, 1))
    made = {"x": x, "y": x * rng.choice([0.5, 1, -1], (count, 1)) + rng.standard_normal(x.shape)}
    for name in ("v_x", "v_y", "v_target"):
        made[name] = rng.standard_normal((count, n))
    made["target"] = np.abs(rng.standard_normal((count, n)))
    made["g"] = rng.standard_normal(count if ops.get(key[0]).per_row else (count, n))
    made = {k: formats.nearest(fmt, a) for k, a in made.items()}
    made["label"] = rng.integers(0, n, count)
    made["mask"] = np.ones((count, n))
    used = (*ops.get(key[0]).inputs, "g", "v_" + key[2].rsplit(".", maxsplit=1)[-1])
    return {k: a for k, a in made.items() if k in used}


def ratios_to_closed(key: Key, n: int, which: str, seed: int = 1) -> Any:
    """The bound arithmetic's W divided by the closed form, for float64 rows."""
    fmt = FORMATS["float64"]
    inputs = random_rows(key, fmt, n, seed)
    h = n - 1.0 if which == "weak" else float(math.ceil(math.log2(n)))
    made = getattr(bounds.evaluate(*key, inputs, fmt), which) / np.longdouble(fmt.unit_roundoff)
    found = []
    for r in range(len(made)):
        k = 2.0 if which == "weak" else 0.0
        closed = ClosedRows({i: a[r] for i, a in inputs.items()}, h, k)
        found.append(made[r] / (closed.strong(key) if which == "strong" else closed.weak(key)))
    return np.concatenate(found)


def hard_rows(key: Key, fmt: Format, n: int, seed: int = 3) -> dict[str, Any]:
    """Finite rows of every family, with cotangents and tangents whose products do not overflow."""
    rng = np.random.default_rng([seed, n, fmt.precision, fmt.emax])
    rows = [
        c.inputs["x"]
        for family in cases.FAMILIES
        for c in cases.make(family, "softmax", fmt.name, n, seed=seed, limit=16)
        if np.isfinite(c.inputs["x"]).all() and np.ptp(c.inputs["x"]) <= fmt.max_finite / 4
    ]
    inputs = arb_inputs.complete(key, np.stack(rows), fmt, rng)
    if "y" in inputs:
        y = np.where(np.isfinite(inputs["y"]), inputs["y"], 0.0)
        inputs["y"] = np.where(np.ptp(y, axis=1, keepdims=True) <= fmt.max_finite / 4, y, 0.0)
    limit = float(formats.nearest(fmt, np.array(min(16.0, math.sqrt(fmt.max_finite / 16 / n)))))
    for name in ("g", "v_x", "v_y", "v_target"):
        if name in inputs:
            inputs[name] = np.clip(inputs[name], -limit, limit)
    return inputs


def worst(key: Key, fmt: Format, inputs: dict[str, Any], result: Any, which: str) -> Any:
    """(largest test ratio, its row), over elements whose result did not overflow on the way."""
    refs = oracle.evaluate(*key, inputs, fmt)
    bound = getattr(bounds.evaluate(*key, inputs, fmt), which)
    ratio = metrics.errors(result, refs).ratio(bound)
    counts = refs.finite & np.isfinite(refs.rounded()) & np.isfinite(result)
    ratio = np.where(counts, ratio, 0.0)
    assert counts.mean() > 0.5
    r = int(np.argmax(ratio.max(axis=1)))
    return float(ratio.max()), {k: a[r] for k, a in inputs.items()}
