"""The operators on rows of logits once more, in Arb balls: the contract's formulas as they stand,
with the maximum taken out and nothing done against cancellation but more bits.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from flint import arb

Key = tuple[str, str, str]


def _row(x: Any) -> tuple[list[Any], list[Any], Any]:
    """(s, l, lse) of logits that are finite or -inf; l is None at -inf."""
    top = max(v for v in x if v != -math.inf)
    masked = [v == -math.inf for v in x]
    d = [arb(0) if gone else arb(v) - arb(top) for v, gone in zip(x, masked, strict=True)]
    e = [arb(0) if gone else v.exp() for v, gone in zip(d, masked, strict=True)]
    total = sum(e, arb(0))
    log_total = total.log()
    s = [v / total for v in e]
    l = [None if gone else v - log_total for v, gone in zip(d, masked, strict=True)]  # noqa: E741
    return s, l, arb(top) + log_total


def _dot(a: Any, b: Any) -> Any:
    """sum a b, a term whose weight a is exactly 0 left out."""
    return sum((p * q for p, q in zip(a, b, strict=True) if not p.is_zero()), arb(0))


def _vector(row: Mapping[str, Any], name: str) -> list[Any]:
    return [arb(float(v)) for v in np.ravel(row[name])]


def _spread(s: Any, v: Any) -> list[Any]:
    """v - <s, v>."""
    mean = _dot(s, v)
    return [q - mean for q in v]


def _times(*factors: Any) -> list[Any]:
    return [math.prod(f, start=arb(1)) for f in zip(*factors, strict=True)]


def balls(key: Key, row: Mapping[str, Any]) -> list[Any | None]:
    """One row at the precision of the context; None for an element that is infinite."""
    op, derivative, argument = key
    x = [float(v) for v in row["x"]]
    if "mask" in row:
        x = [v if keep else -math.inf for v, keep in zip(x, row["mask"], strict=True)]
        if max(x) == -math.inf:
            return [arb(0)] * len(x)
    s, l, lse = _row(x)  # noqa: E741
    g = _vector(row, "g") if "g" in row else []
    v = _vector(row, "v_x") if "v_x" in row else []
    if "mask" in row:  # what is dropped may hold anything
        g, v = ([q if keep else arb(0) for q, keep in zip(u, row["mask"], strict=True)]
                if u else u for u in (g, v))  # fmt: skip
    w = _spread(s, v) if v else []
    match op:
        case "softmax" | "masked_softmax":
            return _softmax(derivative, s, g, w)
        case "log_softmax":
            return _log_softmax(derivative, s, l, g, w)
        case "logsumexp":
            return _logsumexp(derivative, s, lse, g, v, w)
        case "softmax_cross_entropy" | "sparse_softmax_cross_entropy":
            return _cross_entropy(derivative, argument, row, s, l, g, w)
        case "categorical_entropy":
            return _entropy(derivative, s, l, x, g, v, w)
        case "kl_divergence":
            return _divergence(derivative, argument, row, x, s, l, g, v, w)
    raise KeyError(key)


def _softmax(derivative: str, s: Any, g: Any, w: Any) -> list[Any]:
    match derivative:
        case "value":
            return list(s)
        case "vjp":
            return _times(s, _spread(s, g))
        case "jvp":
            return _times(s, w)
        case "hvp":
            return _times(s, _spread(s, _times(_spread(s, g), w)))
    raise KeyError(derivative)


def _log_softmax(derivative: str, s: Any, l: Any, g: Any, w: Any) -> list[Any | None]:  # noqa: E741
    match derivative:
        case "value":
            return list(l)
        case "vjp":
            total = sum(g, arb(0))
            return [q - p * total for p, q in zip(s, g, strict=True)]
        case "jvp":
            return list(w)
        case "hvp":
            return _times([-sum(g, arb(0))] * len(s), s, w)
    raise KeyError(derivative)


def _logsumexp(derivative: str, s: Any, lse: Any, g: Any, v: Any, w: Any) -> list[Any]:
    match derivative:
        case "value":
            return [lse]
        case "vjp":
            return [g[0] * p for p in s]
        case "jvp":
            return [_dot(s, v)]
        case "hvp":
            return _times(g * len(s), s, w)
    raise KeyError(derivative)


def _cross_entropy(
    derivative: str, argument: str, row: Mapping[str, Any], s: Any, logs: Any, g: Any, w: Any
) -> list[Any | None]:
    n = len(s)
    if "label" in row:
        t = [arb(float(i == int(row["label"]))) for i in range(n)]
    else:
        t = _vector(row, "target")
    u = _vector(row, "v_target") if "v_target" in row else []
    match derivative, argument:
        case "value", "-":
            return _loss(t, logs)
        case "vjp", "x":
            total = sum(t, arb(0))
            return [g[0] * (p * total - q) for p, q in zip(s, t, strict=True)]
        case "vjp", "target":
            return [None if q is None else -g[0] * q for q in logs]
        case "jvp", "x":
            return [-_dot(t, w)]
        case "jvp", "target":
            return _loss(u, logs)
        case "hvp", "x.x":
            return _times(g * n, [sum(t, arb(0))] * n, s, w)
        case "hvp", "x.target":
            total = sum(u, arb(0))
            return [g[0] * (p * total - q) for p, q in zip(s, u, strict=True)]
        case "hvp", "target.x":
            return [-g[0] * p for p in w]
        case "hvp", "target.target":
            return [arb(0)] * n
    raise KeyError((derivative, argument))


def _loss(t: Any, logs: Any) -> list[Any | None]:
    """-<t, l>."""
    if any(q is None and not p.is_zero() for p, q in zip(t, logs, strict=True)):
        return [None]
    return [-_dot(t, logs)]


def _second(s: Any, delta: Any, w: Any, v: Any) -> list[Any]:
    """s [w (1 + c) - <s, c v>], c = delta - <s, delta>."""
    c = _spread(s, delta)
    mean = _dot(_times(s, c), v)
    return [p * (q * (1 + r) - mean) for p, q, r in zip(s, w, c, strict=True)]


def _entropy(derivative: str, s: Any, l: Any, x: Any, g: Any, v: Any, w: Any) -> list[Any]:  # noqa: E741
    finite = [arb(0) if u == -math.inf else arb(u) for u in x]
    match derivative:
        case "value":
            return [-_dot(s, l)]
        case "vjp":
            return [-g[0] * p * c for p, c in zip(s, _spread(s, finite), strict=True)]
        case "jvp":
            return [-_dot(_times(s, _spread(s, finite)), v)]
        case "hvp":
            return _times([-g[0]] * len(s), _second(s, finite, w, v))
    raise KeyError(derivative)


_WITH_DELTA = {("value", "-"), ("vjp", "x"), ("jvp", "x"), ("hvp", "x.x")}


def _divergence(
    derivative: str, argument: str, row: Mapping[str, Any], x: Any, s: Any, l: Any,  # noqa: E741
    g: Any, v: Any, w: Any,
) -> list[Any | None]:  # fmt: skip
    y = [float(u) for u in row["y"]]
    sy, ly, _ = _row(y)
    n = len(x)
    u = _vector(row, "v_y") if "v_y" in row else []
    infinite = any(p != -math.inf and q == -math.inf for p, q in zip(x, y, strict=True))
    if infinite and (derivative, argument) in _WITH_DELTA:
        return [None] * (1 if derivative in ("value", "jvp") else n)
    delta = [arb(0) if p == -math.inf or q == -math.inf else arb(p) - arb(q)
             for p, q in zip(x, y, strict=True)]  # fmt: skip
    match derivative, argument:
        case "value", "-":
            parts = [arb(0) if p is None or q is None else p - q
                     for p, q in zip(l, ly, strict=True)]  # fmt: skip
            return [_dot(s, parts)]
        case "vjp", "x":
            return _times(g * n, s, _spread(s, delta))
        case "vjp", "y":
            return [g[0] * (q - p) for p, q in zip(s, sy, strict=True)]
        case "jvp", "x":
            return [_dot(_times(s, _spread(s, delta)), v)]
        case "jvp", "y":
            return [_dot([q - p for p, q in zip(s, sy, strict=True)], u)]
        case "hvp", "x.x":
            return _times(g * n, _second(s, delta, w, v))
        case "hvp", "x.y":
            return _times([-g[0]] * n, s, _spread(s, u))
        case "hvp", "y.x":
            return _times([-g[0]] * n, s, w)
        case "hvp", "y.y":
            return _times(g * n, sy, _spread(sy, u))
    raise KeyError((derivative, argument))
