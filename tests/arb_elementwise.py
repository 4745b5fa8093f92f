"""The elementwise ops once more, in Arb balls: the contract's formulas, element by element.

Nothing is done against cancellation but more bits. Rounding and formats are those of ``arb``.
"""

from __future__ import annotations

import math
from typing import Any

import arb as rows
import numpy as np
from flint import arb, ctx


def _softplus(x: Any) -> Any:
    return (1 + x.exp()).log()


def _first(op: str, argument: str, x: Any, y: Any, z: Any, w: Any) -> Any:
    s, other = 1 / (1 + (-x).exp()), 1 / (1 + x.exp())
    match op, argument:
        case "sigmoid", _:
            return s * other
        case "log_sigmoid", _:
            return other
        case "softplus", _:
            return s
        case "logaddexp", "x":
            return 1 / (1 + (y - x).exp())
        case "logaddexp", "y":
            return 1 / (1 + (x - y).exp())
        case "sigmoid_cross_entropy", "x":
            return (1 - z) * s - w * z * other
        case "sigmoid_cross_entropy", "target":
            return w * _softplus(-x) - _softplus(x)
        case "sigmoid_cross_entropy", "pos_weight":
            return z * _softplus(-x)
    raise KeyError((op, argument))


def _second(op: str, block: str, x: Any, y: Any, z: Any, w: Any) -> Any:
    s, other = 1 / (1 + (-x).exp()), 1 / (1 + x.exp())
    match op, block:
        case "sigmoid", _:
            return s * other * (other - s)
        case "log_sigmoid", _:
            return -s * other
        case "softplus", _:
            return s * other
        case "logaddexp", _:
            d = x - y
            slope = 1 / (1 + d.exp()) / (1 + (-d).exp())
            return slope if block in ("x.x", "y.y") else -slope
        case _, "x.x":
            return (1 - z + w * z) * s * other
        case _, "x.target" | "target.x":
            return -(w * other + s)
        case _, "x.pos_weight" | "pos_weight.x":
            return -z * other
        case _, "target.pos_weight" | "pos_weight.target":
            return _softplus(-x)
        case _, "target.target" | "pos_weight.pos_weight":
            return arb(0)
    raise KeyError((op, block))


def _value(op: str, x: Any, y: Any, z: Any, w: Any) -> Any:
    match op:
        case "sigmoid":
            return 1 / (1 + (-x).exp())
        case "log_sigmoid":
            return -_softplus(-x)
        case "softplus":
            return _softplus(x)
        case "logaddexp":
            return x + _softplus(y - x)
        case "sigmoid_cross_entropy":
            return w * z * _softplus(-x) + (1 - z) * _softplus(x)
    raise KeyError(op)


def ball(key: tuple[str, str, str], element: dict[str, float], bits: int) -> Any:
    """One element of finite inputs at one precision."""
    ctx.prec = bits
    op, derivative, argument = key
    given = {name: arb(float(v)) for name, v in element.items()}
    numbers = (given["x"], given.get("y"), given.get("target"), given.get("pos_weight", arb(1)))
    match derivative:
        case "value":
            return _value(op, *numbers)
        case "vjp":
            return given["g"] * _first(op, argument, *numbers)
        case "jvp":
            return given[f"v_{argument}"] * _first(op, argument, *numbers)
    v = given["v_" + argument.split(".")[1]]
    return given["g"] * v * _second(op, argument, *numbers)


def rounded(
    key: tuple[str, str, str], element: dict[str, float], format_name: str
) -> tuple[float | None, tuple[float, ...]]:
    """The correctly rounded result, or None and the two candidates where it is left open."""
    before, bits = ctx.prec, rows.FIRST
    try:
        while True:
            made = ball(key, element, bits)
            result = rows._round(format_name, made)
            both = rows.ends(made)
            if result is not None or 2 * bits > rows.LAST:
                break
            bits *= 2
        if result is not None or both is None:
            return result, ()
        return None, tuple(rows.nearest(format_name, end) for end in both)
    finally:
        ctx.prec = before


def fits(got: float, right: float | None, candidates: tuple[float, ...]) -> bool:
    """Is this the right result, or one of those that are left open? (No ball at all: infinite.)"""
    allowed = (right,) if right is not None else candidates or (math.inf, -math.inf)
    return any(got == v or (math.isnan(got) and math.isnan(v)) for v in allowed)


def middles(key: tuple[str, str, str], elements: Any) -> tuple[Any, Any]:
    """Float64 middles of balls, and whether they are good to 2^-60 of themselves, or 2^-190."""
    before = ctx.prec
    try:
        values, good = [], []
        for x in elements:
            made = ball(key, {"x": float(x), "g": 1.0}, 256)
            values.append(float(made.mid()))
            good.append(made.rel_accuracy_bits() > 60 or made.rad() < arb(2) ** -190)
        return np.array(values), np.array(good)
    finally:
        ctx.prec = before
