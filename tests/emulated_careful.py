"""Cancellation-free implementations of the row operators with a rounding after every operation.

What the strong bounds promise can be met: each step below is one operation of the format, and each
map follows the formula that its module in :mod:`reference.ops` derives.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from test_bounds import Emulated

from reference.formats import Format
from reference.ops.base import Batch
from reference.ops.deviation import anchor
from reference.ops.pairs import Pair

Key = tuple[str, str, str]


def phi(c: Any) -> Any:
    """e^c - 1 - c, by its series where the difference would cancel."""
    c = np.asarray(c, np.longdouble)
    term = total = c * c / 2
    for k in range(3, 20):
        term = term * c / k
        total = total + term
    return np.asarray(np.where(np.abs(c) < 0.5, total, np.expm1(c) - c), np.float64)


class Careful(Emulated):
    """Everything of some rows in a format, pairwise sums, no difference of nearly equal numbers."""

    def __init__(self, fmt: Format, inputs: dict[str, Any]) -> None:
        super().__init__(fmt, pairwise=True)
        self.inputs = inputs
        self.batch = Batch(inputs)
        self.d, self.t, self.e = self._row(self.batch)
        self.S = self.r(1 + self.t)
        self.s = self.r(self.e / self.S)
        self.l = self.r(self.d - self.r(np.log1p(self.t)))
        self.g = self.batch.g if "g" in inputs else None

    def _row(self, b: Batch) -> tuple[Any, Any, Any]:
        """d, t and e."""
        d = self.r(b.finite_x - b.m)
        e = np.where(b.kept, self.r(np.exp(d)), 0.0)
        return d, self.sum(np.where(b.top, 0.0, e)), e

    def centred(self, s: Any, c: Any) -> Any:
        """c - sum s c."""
        return self.r(c - self.sum(self.r(s * c)))

    def deviation(self, b: Batch, s: Any, v: Any) -> Any:
        return self.centred(s, self.r(v - anchor(b, v)))

    def second(self, c: Any, w: Any) -> Any:
        """s [(1 + c) w - sum s c w]."""
        r, s = self.r, self.s
        spread = self.sum(r(r(s * c) * w))
        return r(s * r(r(r(1 + c) * w) - spread))

    def answer(self, key: Key) -> Any:
        op, derivative, argument = key
        if op == "kl_divergence":
            return Divergence(self).answer(derivative, argument)
        r, s, g, b = self.r, self.s, self.g, self.batch
        if op == "categorical_entropy" and derivative == "value":
            return r(r(np.log1p(self.t)) - self.sum(r(s * self.d)))
        v = self.inputs.get("v_x")
        w = None if v is None else self.deviation(b, s, v)
        if op == "categorical_entropy":
            a = self.deviation(b, s, b.finite_x)
            match derivative:
                case "vjp":
                    return r(r(-g * s) * a)
                case "jvp":
                    return -self.sum(r(r(s * a) * w))
            return r(-g * self.second(a, w))
        match op, derivative:
            case "softmax", "vjp":
                return r(s * self.deviation(b, s, g))
            case "softmax", "jvp":
                return r(s * w)
            case "softmax", "hvp":
                return r(s * self.centred(s, r(self.deviation(b, s, g) * w)))
            case "log_softmax", "jvp":
                return w
            case "log_softmax", "hvp":
                return r(r(-self.sum(g) * s) * w)
            case "logsumexp", "jvp":
                start = anchor(b, v)
                return r(start + self.sum(r(s * r(v - start))))
            case "logsumexp", "hvp":
                return r(r(g * s) * w)
        return self.cross_entropy(derivative, argument, w)

    def cross_entropy(self, derivative: str, argument: str, w: Any) -> Any:
        r, s, g = self.r, self.s, self.g
        t, u = self.batch.target, self.inputs.get("v_target")
        match derivative, argument:
            case "jvp", "x":
                v = self.inputs["v_x"]
                c = r(v - anchor(self.batch, v))
                return r(r(self.sum(t) * self.sum(r(s * c))) - self.sum(r(t * c)))
            case "jvp", "target":
                return self.loss(u)
            case "hvp", "x.x":
                return r(r(r(g * self.sum(t)) * s) * w)
            case "hvp", "x.target":
                return r(-g * self.residual(u))
            case "hvp", "target.x":
                return r(-g * w)
        return np.zeros_like(s)

    def loss(self, t: Any) -> Any:
        """sum t log1p(tail) - sum t d."""
        r = self.r
        return r(r(self.sum(t) * r(np.log1p(self.t))) - self.sum(r(t * self.d)))

    def residual(self, u: Any) -> Any:
        """u - s sum u: at the top the tail of s, and the sum of the others."""
        r, top = self.r, self.batch.top
        total, rest = self.sum(u), self.sum(np.where(top, 0.0, u))
        at_top = r(r(r(self.t / self.S) * total) - rest)
        return np.where(top, at_top, r(u - r(self.s * total)))


class Divergence:
    """Kullback-Leibler divergence of rows that are all finite."""

    def __init__(self, x: Careful) -> None:
        self.x, self.pair = x, Pair(x.batch)
        r, s = x.r, x.s
        self.y = self.pair.y
        self.f, self.u, e = x._row(self.y)
        self.sy = r(e / r(1 + self.u))
        rx, ry = self.pair.reference
        delta = r(r(x.batch.x - self.y.x) - r(rx - ry))
        apart = r(r(x.batch.x - rx) - r(self.y.x - ry))
        delta = np.where(self.pair.direct, delta, apart)
        self.c = x.centred(s, delta)
        gentle = self.c >= -1
        small = r(s * r(phi(np.where(gentle, -self.c, 0.0))))
        power = r(r(np.exp(np.where(gentle, 0.0, r(x.d - self.c)))) / x.S)
        large = r(power - r(s * r(1 - self.c)))
        self.A = x.sum(np.where(gentle, small, large))

    def answer(self, derivative: str, argument: str) -> Any:
        x, pair, c = self.x, self.pair, self.c
        r, s, g = x.r, x.s, x.g
        v, u = x.inputs.get("v_x"), x.inputs.get("v_y")
        w = None if v is None else x.deviation(x.batch, s, v)
        match derivative, argument:
            case "value", "-":
                return np.where(pair.near, r(np.log1p(self.A)), self.above())
            case "vjp", "x":
                return r(r(g * s) * c)
            case "vjp", "y":
                return r(g * self.change())
            case "jvp", "x":
                return x.sum(r(r(s * c) * w))
            case "jvp", "y":
                return x.sum(r(self.change() * r(u - anchor(x.batch, u))))
            case "hvp", "x.x":
                return r(g * x.second(c, w))
            case "hvp", "x.y":
                return r(r(-g * s) * x.deviation(x.batch, s, u))
            case "hvp", "y.x":
                return r(r(-g * s) * w)
        return r(r(g * self.sy) * x.deviation(self.y, self.sy, u))

    def above(self) -> Any:
        """[lse(y) - <s, y>] - [lse(x) - <s, x>]."""
        x, pair = self.x, self.pair
        r = x.r
        start = np.where(pair.dominated, pair.top_y, self.y.m)
        gaps = r(x.d - r(self.y.x - start))
        logs = r(r(np.log1p(self.u)) - r(np.log1p(x.t)))
        return r(r(self.y.m - start) + r(logs + x.sum(r(x.s * gaps))))

    def change(self) -> Any:
        """s(y) - s(x)."""
        x = self.x
        close = self.pair.near & (np.abs(self.c) <= 1)
        ratio = x.r(x.r(np.expm1(np.where(close, -self.c, 0.0))) - self.A)
        return np.where(close, x.r(x.r(x.s * ratio) / x.r(1 + self.A)), x.r(self.sy - x.s))
