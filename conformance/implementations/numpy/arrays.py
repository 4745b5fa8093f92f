"""Arrays in and out, and products with 0: what every op here needs."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeAlias

import ml_dtypes
import numpy as np
import numpy.typing as npt

__all__ = [
    "Array",
    "Function",
    "inside",
    "outside",
    "product",
    "quiet",
    "reduced",
    "times",
    "total",
]

Array: TypeAlias = npt.NDArray[Any]
Function: TypeAlias = Callable[..., Any]

_HALF = (np.dtype(ml_dtypes.bfloat16), np.dtype(np.float16))


def quiet(function: Function) -> Function:
    """Overflow to inf and inf - inf are part of the formulas, and nothing to warn about."""

    @functools.wraps(function)
    def silent(*args: Any, **kwargs: Any) -> Any:
        with np.errstate(all="ignore"):
            return function(*args, **kwargs)

    return silent


def inside(array: Array, axis: int = -1) -> Array:
    """The axis last, half formats in float32."""
    moved = np.moveaxis(array, axis, -1) if np.ndim(array) else array
    return np.asarray(moved, np.float32 if array.dtype in _HALF else None, order="C")


def outside(array: Array, like: Array, axis: int = -1) -> Array:
    """The axis back in its place, and one rounding to the dtype of the input."""
    moved = np.moveaxis(array, -1, axis) if np.ndim(array) else array
    return np.asarray(moved, like.dtype, order="C")


def reduced(array: Array, like: Array) -> Array:
    """The axis gone, and one rounding to the dtype of the input."""
    return np.asarray(array[..., 0], like.dtype, order="C")


def total(values: Array) -> Array:
    """The sum over the classes, kept as an axis of length 1."""
    return np.asarray(np.sum(values, axis=-1, keepdims=True))


def product(*factors: Array) -> Array:
    """The product of several, in which only the result can overflow or underflow, and a factor of
    exactly 0 silences infinities (but no NaN)."""
    mantissa, exponent = np.frexp(factors[0])
    zero, nan = factors[0] == 0, np.isnan(factors[0])
    for factor in factors[1:]:
        part, power = np.frexp(factor)
        mantissa, exponent = mantissa * part, exponent + power
        zero, nan = zero | (factor == 0), nan | np.isnan(factor)
    return np.where(zero & ~nan, mantissa.dtype.type(0), np.ldexp(mantissa, exponent))


def times(weight: Array, value: Array) -> Array:
    """The product, in which a weight of exactly 0 silences an infinity (but no NaN)."""
    product = np.where((weight == 0) & np.isinf(value), weight, weight * value)
    return np.asarray(product)
