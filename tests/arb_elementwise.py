"""The elementwise ops once more, in Arb balls: the contract's formulas, element by element.

Nothing is done against cancellation but more bits.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flint import arb

Key = tuple[str, str, str]


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


def balls(key: Key, row: Mapping[str, Any]) -> list[Any]:
    """Elements of finite inputs at the precision of the context."""
    op, derivative, argument = key
    found = []
    for i in range(len(row["x"])):
        given = {name: arb(float(v[i])) for name, v in row.items()}
        numbers = (given["x"], given.get("y"), given.get("target"), given.get("pos_weight", arb(1)))
        match derivative:
            case "value":
                made = _value(op, *numbers)
            case "vjp":
                made = given["g"] * _first(op, argument, *numbers)
            case "jvp":
                made = given[f"v_{argument}"] * _first(op, argument, *numbers)
            case "hvp":
                v = given["v_" + argument.split(".")[1]]
                made = given["g"] * v * _second(op, argument, *numbers)
            case _:
                raise KeyError(key)
        found.append(made)
    return found
