"""Arb once more, for the row operators' forward and second derivatives, and for masked_softmax,
categorical_entropy and kl_divergence; and rows of all their inputs to ask about.

As in :mod:`arb`: the contract's formulas with the maximum taken out, and nothing done against
cancellation but more bits.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import against_arb
import arb as base
import mpmath
import numpy as np
from flint import arb, ctx

from reference import cases, formats, ops, oracle
from reference.formats import Format
from reference.ops.base import ZERO

Key = tuple[str, str, str]

# ---------------------------------------------------------------- formulas


def _dot(a: Any, b: Any) -> Any:
    """sum a b, a term whose weight a is exactly 0 left out."""
    return sum((p * q for p, q in zip(a, b, strict=True) if not p.is_zero()),
               arb(0))  # fmt: skip


def _vector(row: Mapping[str, Any], name: str) -> list[Any]:
    return [arb(float(v)) for v in np.ravel(row[name])]


def _spread(s: Any, v: Any) -> list[Any]:
    """v - <s, v>."""
    mean = _dot(s, v)
    return [q - mean for q in v]


def _times(*factors: Any) -> list[Any]:
    return [math.prod(f, start=arb(1)) for f in zip(*factors, strict=True)]


def balls(key: Key, row: Mapping[str, Any], bits: int) -> list[Any | None]:
    """One row at one precision; None for an element that is infinite."""
    op, derivative, argument = key
    ctx.prec = bits
    x = [float(v) for v in row["x"]]
    if "mask" in row:
        x = [v if keep else -math.inf for v, keep in zip(x, row["mask"], strict=True)]
        if max(x) == -math.inf:
            return [arb(0)] * len(x)
    s, l, _ = base._row(x)  # noqa: E741
    n = len(x)
    g = _vector(row, "g") if "g" in row else []
    v = _vector(row, "v_x") if "v_x" in row else []
    w = _spread(s, v) if v else []
    match op, derivative, argument:
        case "masked_softmax", "value", "-":
            return s
        case "masked_softmax", "vjp", "x":
            return _times(s, _spread(s, g))
        case (("softmax" | "masked_softmax"), "jvp", "x"):
            return _times(s, w)
        case (("softmax" | "masked_softmax"), "hvp", "x.x"):
            return _times(s, _spread(s, _times(_spread(s, g), w)))
        case "log_softmax", "jvp", "x":
            return w
        case "log_softmax", "hvp", "x.x":
            return _times([-sum(g, arb(0))] * n, s, w)
        case "logsumexp", "jvp", "x":
            return [_dot(s, v)]
        case "logsumexp", "hvp", "x.x":
            return _times(g * n, s, w)
    if "cross_entropy" in op:
        return _cross_entropy(derivative, argument, row, s, l, w)
    if op == "categorical_entropy":
        return _entropy(derivative, s, l, w, [arb(0) if u == -math.inf else arb(u) for u in x],
                        v, g)  # fmt: skip
    return _divergence(derivative, argument, row, x, s, l, v, w, g)


def _cross_entropy(
    derivative: str,
    argument: str,
    row: Mapping[str, Any],
    s: Any,
    logs: Any,
    w: Any,
) -> list[Any | None]:
    n = len(s)
    t = _vector(row, "target") if "target" in row else [arb(float(i == int(row["label"])))
                                                        for i in range(n)]  # fmt: skip
    g = _vector(row, "g") if "g" in row else []
    match derivative, argument:
        case "jvp", "x":
            return [-_dot(t, w)]
        case "jvp", "target":
            v = _vector(row, "v_target")
            if any(q is None and p != 0 for p, q in zip(v, logs, strict=True)):
                return [None]
            return [-_dot(v, logs)]
        case "hvp", "x.x":
            return _times(g * n, [sum(t, arb(0))] * n, s, w)
        case "hvp", "x.target":
            v = _vector(row, "v_target")
            total = sum(v, arb(0))
            return [g[0] * (p * total - q) for p, q in zip(s, v, strict=True)]
        case "hvp", "target.x":
            return [-g[0] * p for p in w]
        case "hvp", "target.target":
            return [arb(0)] * n
    raise KeyError((derivative, argument))


def _second(s: Any, delta: Any, w: Any, v: Any) -> list[Any]:
    """s [w (1 + c) - <s, c v>], c = delta - <s, delta>."""
    c = _spread(s, delta)
    mean = _dot(_times(s, c), v)
    return [p * (q * (1 + r) - mean) for p, q, r in zip(s, w, c, strict=True)]


def _entropy(derivative: str, s: Any, l: Any, w: Any, x: Any, v: Any, g: Any) -> list[Any]:  # noqa: E741
    n = len(s)
    match derivative:
        case "value":
            return [-_dot(s, l)]
        case "vjp":
            return [-g[0] * p * c for p, c in zip(s, _spread(s, x), strict=True)]
        case "jvp":
            return [-_dot(_times(s, _spread(s, x)), v)]
    return _times([-g[0]] * n, _second(s, x, w, v))


def _divergence(
    derivative: str, argument: str, row: Mapping[str, Any], x: Any, s: Any, l: Any,  # noqa: E741
    v: Any, w: Any, g: Any,
) -> list[Any | None]:  # fmt: skip
    y = [float(u) for u in row["y"]]
    sy, ly, _ = base._row(y)
    n = len(x)
    u = _vector(row, "v_y") if "v_y" in row else []
    infinite = any(p != -math.inf and q == -math.inf for p, q in zip(x, y, strict=True))
    delta = [arb(0) if p == -math.inf or q == -math.inf else arb(p) - arb(q)
             for p, q in zip(x, y, strict=True)]  # fmt: skip
    if infinite and (derivative, argument) in {
        ("value", "-"), ("vjp", "x"), ("jvp", "x"), ("hvp", "x.x")
    }:  # fmt: skip
        return [None] * (1 if derivative in ("value", "jvp") else n)
    match derivative, argument:
        case "value", "-":
            parts = [arb(0) if p is None else p - q for p, q in zip(l, ly, strict=True)
                     if p is None or q is not None]  # fmt: skip
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


def rounded(
    key: Key, row: Mapping[str, Any], format_name: str
) -> tuple[list[float | None], list[tuple[float, float] | None]]:
    """As :func:`arb.rounded`: results, and two candidates where the last one leaves it open."""
    before, bits = ctx.prec, base.FIRST
    results: list[float | None] = []
    try:
        while True:
            made = balls(key, row, bits)
            results = [
                (None if b is None else base._round(format_name, b)) if r is None else r
                for b, r in zip(made, results or [None] * len(made), strict=True)
            ]
            missing = any(r is None and b is not None for b, r in zip(made, results, strict=True))
            if not missing or 2 * bits > base.LAST:
                break
            bits *= 2
        candidates: list[tuple[float, float] | None] = []
        for b, r in zip(made, results, strict=True):
            both = None if r is not None or b is None else base.ends(b)
            pair = None if both is None else [base.nearest(format_name, v) for v in both]
            candidates.append(None if pair is None else (pair[0], pair[1]))
        return results, candidates
    finally:
        ctx.prec = before


# ---------------------------------------------------------------- rows


def tangents(fmt: Format, shape: tuple[int, int], rng: np.random.Generator) -> Any:
    """Random, one-hot, constant, small integers, wide spread, row by row in turn."""
    count, n = shape
    normal = rng.standard_normal(shape)
    kinds = np.stack([
        normal,
        np.asarray(np.arange(n) == rng.integers(0, max(n, 1), count)[:, None], float),
        np.broadcast_to(normal[:, :1], shape),
        rng.integers(-2, 3, shape) * 1.0,
        normal * np.exp2(rng.integers(-8, 8, shape)),
    ])  # fmt: skip
    chosen = kinds[rng.integers(0, len(kinds), count), np.arange(count)]
    limit = fmt.max_finite / 16 / max(n, 1)
    return formats.nearest(fmt, np.clip(chosen, -limit, limit))


def complete(key: Key, x: Any, fmt: Format, rng: np.random.Generator) -> dict[str, Any]:
    """Everything that a map takes, for given logits."""
    op, derivative, argument = key
    definition = ops.get(op)
    made: dict[str, Any] = {"x": x}
    shape = x.shape
    if "target" in definition.inputs:
        made["target"] = np.abs(tangents(fmt, shape, rng))
        signed = np.isfinite(x).all(axis=1) & (rng.random(len(x)) < 0.4)
        made["target"][signed] = tangents(fmt, shape, rng)[signed]
    if "label" in definition.inputs:
        made["label"] = rng.integers(0, shape[1], shape[0])
    if "mask" in definition.inputs:
        made["mask"] = (rng.random(shape) < rng.choice([0.3, 0.7, 1.0], (shape[0], 1))) * 1.0
    if "y" in definition.inputs:
        made["y"] = second_logits(x, fmt, rng)
    if derivative != "value":
        g = tangents(fmt, shape, rng)
        made["g"] = g[:, 0] if definition.per_row else g
    if derivative in ("jvp", "hvp"):
        name = argument.rsplit(".", maxsplit=1)[-1]
        made[f"v_{name}"] = tangents(fmt, shape, rng)
    return made


def second_logits(x: Any, fmt: Format, rng: np.random.Generator) -> Any:
    """Logits beside x: near it, shifted, permuted, or anything."""
    finite = np.where(np.isfinite(x), x, 0.0)
    lowest = -np.inf if fmt.has_infinity else -fmt.max_finite
    kinds = np.stack([
        x + 2.0**-6 * rng.standard_normal(x.shape),
        x + rng.integers(-3, 4, (len(x), 1)),
        rng.permuted(x, axis=1),
        rng.standard_normal(x.shape) * 4,
        np.where(rng.random(x.shape) < 0.2, lowest, finite),
        -finite,
    ])  # fmt: skip
    chosen = kinds[rng.integers(0, len(kinds), len(x)), np.arange(len(x))]
    chosen = np.where(np.isnan(chosen), 0.0, chosen)
    inside = np.clip(chosen, -fmt.max_finite, fmt.max_finite)
    return np.where(np.isinf(chosen), chosen, formats.nearest(fmt, inside))


def family_rows(family: str, fmt: Format, n: int, seed: int, limit: int) -> Any:
    return cases.stack(cases.make(family, "softmax", fmt.name, n, seed=seed, limit=limit))["x"]


def bit_patterns(fmt: Format, count: int, n: int, rng: np.random.Generator) -> Any:
    """Random bits as logits; half of the rows with gaps that leave something to see."""
    x = formats.from_bits(fmt, rng.integers(0, 1 << fmt.bits, (count, n), np.uint64))
    x = np.where(np.isfinite(x), x, 0.0)
    near = rng.random(count) < 0.5
    x[near] = formats.nearest(fmt, np.clip(x[near], -20, 20))
    return x


def covered(row: Mapping[str, Any]) -> bool:
    """Rows that the formulas of this module are for: limits are the tests' own business."""
    for name in ("x", "y"):
        if name in row:
            taking = row[name][np.asarray(row["mask"]) != 0] if "mask" in row else row[name]
            if np.isnan(taking).any() or (taking == np.inf).any():
                return False
            if taking.size and (taking == -np.inf).all():
                return False
    return True


def disagreements(key: Key, inputs: Mapping[str, Any], fmt: Format) -> against_arb.Comparison:
    """Compare a batch; without candidates a result is infinite, or 0 at a logit of -inf."""
    return against_arb.disagreements(
        key,
        inputs,
        fmt,
        rounded=lambda row: rounded(key, row, fmt.name),
        covered=covered,
        limits=lambda got: math.isinf(got) or got == 0,
    )


def over_families(
    key: Key, fmt: Format, lengths: Mapping[int, int], rng: np.random.Generator
) -> against_arb.Comparison:
    """Compare rows of every family: ``lengths`` says how many of which length."""
    return against_arb.total(
        disagreements(key, complete(key, family_rows(family, fmt, n, 5, count), fmt, rng), fmt)
        for family in cases.FAMILIES
        for n, count in lengths.items()
    )


def close(refs: oracle.References, r: int, i: int, truth: Any) -> bool:
    """Within 1e-6 ulp of the format; within 2^-3500 of a truth that is 0. ``truth`` an mpf."""
    mp, fmt = mpmath.mp, refs.format
    if refs.codes[r, i] == ZERO:
        return bool(abs(truth) < mpmath.ldexp(1, -3500))
    value = mpmath.ldexp(mp.mpf(float(refs.hi[r, i])) + mp.mpf(float(refs.lo[r, i])),
                         int(refs.exponent[r, i]))  # fmt: skip
    exponent = max(mpmath.frexp(truth)[1] - 1, fmt.emin) - fmt.precision + 1
    return bool(abs(value - truth) <= mpmath.ldexp(1, exponent) * 1e-6)
