"""Implementations for the rules of deviations: what they make of a +inf logit is NaN, or mended."""

from __future__ import annotations

from typing import Any

import numpy as np

from conformance import implementation


def _shows(x: Any, *, axis: int) -> Any:
    with np.errstate(all="ignore"):
        e = np.exp(x - x.max(axis=axis, keepdims=True))  # inf - inf
        return e / e.sum(axis=axis, keepdims=True)


def _mended(x: Any, *, axis: int) -> Any:
    top = np.isposinf(x)
    hot = top.any(axis=axis, keepdims=True) & ~np.isnan(x).any(axis=axis, keepdims=True)
    with np.errstate(all="ignore"):
        limit = top / top.sum(axis=axis, keepdims=True)
    return np.where(hot, limit, _shows(x, axis=axis)).astype(x.dtype)


def _register(name: str, function: Any, *requires: str) -> None:
    implementation(op="softmax", framework="numpy", name=f"deviating.{name}", dtypes=("float32",),
                   requires=requires)(function)  # fmt: skip


# The same under several names: each belongs to the entry of that name alone.
for _name in ("shows", "worse", "elsewhere"):
    _register(_name, _shows)
_register("mended", _mended)
_register("twin", _mended)
_register("absent", _mended, "no-such-distribution")
