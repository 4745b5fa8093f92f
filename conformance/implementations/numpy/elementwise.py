"""sigmoid, log_sigmoid, softplus and logaddexp, all of t = exp(-|d|) <= 1.

With d = x, or x - y, nothing overflows and nothing cancels in

    sigmoid(d)   = 1 / (1 + t)  for d >= 0,  t / (1 + t)  for d < 0
    softplus(d)  = max(d, 0) + log1p(t)
    sigmoid'(d)  = t / (1 + t)^2
    sigmoid''(d) = sign(d) sigmoid'(d) expm1(-|d|) / (1 + t)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from conformance.implementations.numpy.arrays import (
    Array,
    Function,
    inside,
    outside,
    product,
    quiet,
)
from conformance.registry import implementation

__all__ = ["derivatives", "log1p_exp", "sigmoid_of", "slope_of"]

MAECHLER = "https://cran.r-project.org/web/packages/Rmpfr/vignettes/log1mexp-note.pdf"
"""Maechler (2012) on log(1 + exp(x))."""


def sigmoid_of(d: Array) -> Array:
    """1 / (1 + exp(-d))."""
    t = np.exp(-np.abs(d))
    return np.asarray(np.where(d >= 0, d.dtype.type(1), t) / (1 + t))


def log1p_exp(d: Array) -> Array:
    """log(1 + exp(d))."""
    return np.asarray(np.maximum(d, 0) + np.log1p(np.exp(-np.abs(d))))


def slope_of(d: Array) -> Array:
    """sigmoid'(d)."""
    t = np.exp(-np.abs(d))
    return np.asarray(t / (1 + t) / (1 + t))


def _curvature_of(d: Array) -> Array:
    """sigmoid''(d)."""
    change = np.expm1(-np.abs(d)) / (1 + np.exp(-np.abs(d)))
    return np.asarray(slope_of(d) * np.where(d >= 0, change, -change))


def _scaled(part: Array | tuple[tuple[Array, Array], ...], *scale: Array) -> Array:
    if not isinstance(part, tuple):
        return product(part, *scale)
    return np.asarray(sum(product(*pair, *scale) for pair in part))


def derivatives(first: Mapping[str, Function], second: Mapping[str, Function]) -> dict[str, Any]:
    """vjp, jvp and hvp of an elementwise op from its partial derivatives.

    Parameters
    ----------
    first : mapping
        By argument, functions of the op's inputs. Where the terms of a sum overflow which g or v
        may make small again, the result is a tuple of pairs of factors.
    second : mapping
        By pair of arguments, ``x.y``.
    """

    def vjp(g: Array, *inputs: Array) -> dict[str, Array]:
        arrays = [inside(a) for a in inputs]
        return {
            name: outside(_scaled(part(*arrays), inside(g)), inputs[0])
            for name, part in first.items()
        }

    def jvp(v: Array, *inputs: Array, argument: str) -> Array:
        part = first[argument](*(inside(a) for a in inputs))
        return outside(_scaled(part, inside(v)), inputs[0])

    def hvp(g: Array, v: Array, *inputs: Array, argument: str) -> Array:
        part = second[argument](*(inside(a) for a in inputs))
        return outside(_scaled(part, inside(g), inside(v)), inputs[0])

    return {"vjp": quiet(vjp), "jvp": quiet(jvp), "hvp": quiet(hvp)}


@implementation(
    op="sigmoid",
    framework="numpy",
    name="conformance.numpy.sigmoid",
    variant="composition",
    url=MAECHLER,
    **derivatives({"x": slope_of}, {"x.x": _curvature_of}),
)
@quiet
def sigmoid(x: Array) -> Array:
    """The branch whose exponential does not overflow."""
    return outside(sigmoid_of(inside(x)), x)


@implementation(
    op="log_sigmoid",
    framework="numpy",
    name="conformance.numpy.log_sigmoid",
    variant="composition",
    url=MAECHLER,
    **derivatives({"x": lambda x: sigmoid_of(-x)}, {"x.x": lambda x: -slope_of(x)}),
)
@quiet
def log_sigmoid(x: Array) -> Array:
    """-softplus(-x) = min(x, 0) - log1p(exp(-|x|))."""
    return outside(-log1p_exp(-inside(x)), x)


@implementation(
    op="softplus",
    framework="numpy",
    name="conformance.numpy.softplus",
    variant="composition",
    url=MAECHLER,
    **derivatives({"x": sigmoid_of}, {"x.x": slope_of}),
)
@quiet
def softplus(x: Array) -> Array:
    """max(x, 0) + log1p(exp(-|x|))."""
    return outside(log1p_exp(inside(x)), x)


# --- logaddexp: of the difference, which two equal infinities leave open ---------------------


@implementation(
    op="logaddexp",
    framework="numpy",
    name="conformance.numpy.logaddexp",
    variant="composition",
    url=MAECHLER,
    **derivatives(
        {"x": lambda x, y: sigmoid_of(x - y), "y": lambda x, y: sigmoid_of(y - x)},
        {
            "x.x": lambda x, y: slope_of(x - y),
            "x.y": lambda x, y: -slope_of(x - y),
            "y.x": lambda x, y: -slope_of(x - y),
            "y.y": lambda x, y: slope_of(x - y),
        },
    ),
)
@quiet
def logaddexp(x: Array, y: Array) -> Array:
    """max(x, y) + log1p(exp(-|x - y|)), two equal infinities being at no distance."""
    first, second = inside(x), inside(y)
    distance = np.where(first == second, first.dtype.type(0), np.abs(first - second))
    return outside(np.maximum(first, second) + np.log1p(np.exp(-distance)), x)


@implementation(
    op="logaddexp",
    framework="numpy",
    name="numpy.logaddexp",
    url="https://numpy.org/doc/stable/reference/generated/numpy.logaddexp.html",
)
@quiet
def numpy_logaddexp(x: Array, y: Array) -> Any:
    """NumPy's own; for bfloat16 that of ml_dtypes, which registers it there."""
    return np.logaddexp(x, y)
