"""A plug-in: softmax, log_softmax and cross-entropy as sound code has them, in four frameworks.

Nobody may be accused for one of these:

upcast     everything in float64 (in JAX, which has none by default, in float32)
online     one pass over blocks, the sum scaled whenever the maximum grows
base_2     2^(d log2 e) and log2(S) log 2
chunked    sums of sums of blocks
log1p      the sum t without the maximum, S as 1 + t and log S as log1p(t)

All but the first compute half formats in float32. Each is written once, over the few functions
that an adapter gives it; a row with +inf is replaced by what it tends to.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from conformance import implementation

FORMS = ("upcast", "online", "base_2", "chunked", "log1p")
FRAMEWORKS = ("numpy", "torch", "tensorflow", "jax")
_BLOCK = 32
_NARROW = ("float16", "bfloat16")


class NumPy:
    """The functions that a form is written in; rows lie along the last axis."""

    widest = "float64"

    def __init__(self) -> None:
        self.xp: Any = np

    def cast(self, x: Any, dtype: str) -> Any:
        return x.astype(dtype)

    def name(self, x: Any) -> str:
        return str(x.dtype.name)

    def max(self, x: Any) -> Any:
        return self.xp.max(x, axis=-1, keepdims=True)

    def sum(self, x: Any) -> Any:
        return self.xp.sum(x, axis=-1, keepdims=True)

    def any(self, x: Any) -> Any:
        return self.xp.any(x, axis=-1, keepdims=True)

    def count(self, x: Any) -> Any:
        """How often it was true so far."""
        return self.xp.cumsum(x, axis=-1)

    def constant(self, x: Any) -> Any:
        """Without a gradient."""
        return x

    def where(self, condition: Any, a: Any, b: Any) -> Any:
        return self.xp.where(condition, a, b)

    def isnan(self, x: Any) -> Any:
        return self.xp.isnan(x)

    def function(self, name: str) -> Any:
        return getattr(self.xp, name)

    def one_hot(self, label: Any, n: int) -> Any:
        return label[..., None] == self.xp.arange(n)

    def last(self, x: Any, axis: int) -> Any:
        return self.xp.moveaxis(x, axis, -1)

    def back(self, x: Any, axis: int) -> Any:
        return self.xp.moveaxis(x, -1, axis)


class Torch(NumPy):
    def __init__(self) -> None:
        import torch

        self.xp = torch

    def cast(self, x: Any, dtype: str) -> Any:
        return x.to(getattr(self.xp, dtype))

    def name(self, x: Any) -> str:
        return str(x.dtype).removeprefix("torch.")

    def max(self, x: Any) -> Any:
        return self.xp.amax(x, dim=-1, keepdim=True)

    def sum(self, x: Any) -> Any:
        return self.xp.sum(x, dim=-1, keepdim=True)

    def any(self, x: Any) -> Any:
        return self.xp.any(x, dim=-1, keepdim=True)

    def count(self, x: Any) -> Any:
        return self.xp.cumsum(x, dim=-1)

    def constant(self, x: Any) -> Any:
        return x.detach()

    def one_hot(self, label: Any, n: int) -> Any:
        return super().one_hot(label.long(), n)  # unsigned integers have no comparisons


class Jax(NumPy):
    widest = "float32"

    def __init__(self) -> None:
        import jax
        import jax.numpy as jnp

        self.xp, self.lax = jnp, jax.lax

    def constant(self, x: Any) -> Any:
        return self.lax.stop_gradient(x)


class TensorFlow(NumPy):
    def __init__(self) -> None:
        import tensorflow as tf

        self.xp = tf

    def cast(self, x: Any, dtype: str) -> Any:
        return self.xp.cast(x, dtype)

    def max(self, x: Any) -> Any:
        return self.xp.reduce_max(x, axis=-1, keepdims=True)

    def sum(self, x: Any) -> Any:
        return self.xp.reduce_sum(x, axis=-1, keepdims=True)

    def any(self, x: Any) -> Any:
        return self.xp.reduce_any(x, axis=-1, keepdims=True)

    def count(self, x: Any) -> Any:
        return self.xp.cumsum(self.xp.cast(x, "int32"), axis=-1)

    def constant(self, x: Any) -> Any:
        return self.xp.stop_gradient(x)

    def where(self, condition: Any, a: Any, b: Any) -> Any:
        like = a if self.xp.is_tensor(a) else b
        if self.xp.is_tensor(like):
            a, b = (self.xp.cast(v, like.dtype) for v in (a, b))
        return self.xp.where(condition, a, b)

    def isnan(self, x: Any) -> Any:
        return self.xp.math.is_nan(x)

    def function(self, name: str) -> Any:
        if name == "exp2":
            return lambda v: self.xp.pow(self.xp.constant(2, v.dtype), v)
        if name == "log2":
            return lambda v: self.xp.math.log(v) / self.xp.constant(math.log(2), v.dtype)
        return getattr(self.xp.math, name)

    def one_hot(self, label: Any, n: int) -> Any:
        return self.xp.cast(label, "int64")[..., None] == self.xp.range(n, dtype="int64")

    def last(self, x: Any, axis: int) -> Any:
        return self._permuted(x, axis, invert=False)

    def back(self, x: Any, axis: int) -> Any:
        return self._permuted(x, axis, invert=True)

    def _permuted(self, x: Any, axis: int, *, invert: bool) -> Any:
        order = np.arange(x.shape.rank)
        order = np.append(np.delete(order, axis), order[axis])
        return self.xp.transpose(x, np.argsort(order) if invert else order)


_ADAPTERS = {"numpy": NumPy, "torch": Torch, "jax": Jax, "tensorflow": TensorFlow}


class Rows:
    """One form of one framework, on rows along the last axis: d = x - max, e^d, S and log S."""

    def __init__(self, of: Any, form: str, x: Any) -> None:
        self.of, self.form = of, form
        self.n = int(x.shape[-1])
        self.x = x = self._tending(x)
        top = self._blockwise_maximum() if form == "online" else of.max(x)
        self.m = of.constant(of.where(top > -math.inf, top, 0.0))
        self.d = x - self.m
        self.e = self.exp(self.d)
        self.total = self._sum()
        self.log_total = self.log(self.total)
        if form == "log1p":
            # These values, but the gradients of S and log S: that of 1 + tail has a cancellation.
            largest = x == self.m
            first = largest & (of.count(largest) == 1)
            tail = of.sum(of.where(first, 0.0, self.e))
            self.total = self.total + of.constant(1 + tail - self.total)
            exact = of.function("log1p")(tail)
            self.log_total = self.log_total + of.constant(exact - self.log_total)

    def _tending(self, x: Any) -> Any:
        of, infinite = self.of, x == math.inf
        limit = of.where(infinite | of.isnan(x), of.where(infinite, 0.0, x), -math.inf)
        return of.where(of.any(infinite), limit, x)

    def _blocks(self, x: Any) -> list[Any]:
        return [x[..., k : k + _BLOCK] for k in range(0, self.n, _BLOCK)]

    def _blockwise_maximum(self) -> Any:
        """The last of the maxima; on the way the sum is scaled, see `_sum`."""
        top = self.of.max(self._blocks(self.x)[0])
        for block in self._blocks(self.x)[1:]:
            top = self.of.function("maximum")(top, self.of.max(block))
        return top

    def _sum(self) -> Any:
        if self.form not in ("online", "chunked"):
            return self.of.sum(self.e)
        if self.form == "chunked":
            total = 0.0
            for block in self._blocks(self.e):
                total = total + self.of.sum(block)
            return total
        return self._online()

    def _online(self) -> Any:
        of, total, old = self.of, None, None
        for block in self._blocks(self.x):
            top = of.constant(of.max(block))
            new = top if old is None else of.function("maximum")(old, top)
            safe = of.where(new > -math.inf, new, 0.0)
            added = of.sum(self.exp(block - safe))
            total = added if total is None else total * self.exp(old - safe) + added
            old = new
        return total

    def exp(self, d: Any) -> Any:
        if self.form == "base_2":
            return self.of.function("exp2")(d * math.log2(math.e))
        return self.of.function("exp")(d)

    def log(self, total: Any) -> Any:
        if self.form == "base_2":
            return self.of.function("log2")(total) * math.log(2)
        return self.of.function("log")(total)

    def softmax(self) -> Any:
        return self.e / self.total

    def log_softmax(self) -> Any:
        return self.d - self.log_total

    def loss(self, label: Any) -> Any:
        """Of a label that there is; NaN of any other."""
        of, hit = self.of, self.of.one_hot(label, self.n)
        chosen = of.sum(of.where(hit, self.d, 0.0))
        return of.where(of.any(hit), self.log_total - chosen, math.nan)[..., 0]


def _rows(framework: str, form: str, x: Any, axis: int) -> tuple[Rows, str]:
    of = _ADAPTERS[framework]()
    given = of.name(x)
    inner = of.widest if form == "upcast" else "float32" if given in _NARROW else given
    return Rows(of, form, of.last(of.cast(x, inner) if inner != given else x, axis)), given


def _numpy_gradients(form: str) -> dict[str, Any]:
    """The vjp of each op by hand, for NumPy has no other."""

    def given_back(x: Any, axis: int, gradient: Any) -> dict[str, Any]:
        if not x.shape[axis]:
            return {"x": x}
        rows, dtype = _rows("numpy", form, x, axis)
        with np.errstate(invalid="ignore"):
            made = gradient(rows, rows.softmax())
        return {"x": np.moveaxis(made.astype(dtype), -1, axis)}

    def softmax(g: Any, x: Any, *, axis: int) -> dict[str, Any]:
        def gradient(rows: Rows, p: Any) -> Any:
            v = np.moveaxis(g, axis, -1).astype(p.dtype)
            return p * (v - rows.of.sum(p * v))

        return given_back(x, axis, gradient)

    def log_softmax(g: Any, x: Any, *, axis: int) -> dict[str, Any]:
        def gradient(rows: Rows, p: Any) -> Any:
            v = np.moveaxis(g, axis, -1).astype(p.dtype)
            return v - p * rows.of.sum(v)

        return given_back(x, axis, gradient)

    def loss(g: Any, x: Any, label: Any, *, axis: int) -> dict[str, Any]:
        def gradient(rows: Rows, p: Any) -> Any:
            return g[..., None].astype(p.dtype) * (p - rows.of.one_hot(label, rows.n))

        return given_back(x, axis, gradient)

    return {"softmax": softmax, "log_softmax": log_softmax, "sparse_softmax_cross_entropy": loss}


def _declare(framework: str, form: str) -> None:
    def softmax(x: Any, *, axis: int) -> Any:
        if not x.shape[axis]:
            return x
        rows, dtype = _rows(framework, form, x, axis)
        return rows.of.back(rows.of.cast(rows.softmax(), dtype), axis)

    def log_softmax(x: Any, *, axis: int) -> Any:
        if not x.shape[axis]:
            return x
        rows, dtype = _rows(framework, form, x, axis)
        return rows.of.back(rows.of.cast(rows.log_softmax(), dtype), axis)

    def loss(x: Any, label: Any, *, axis: int) -> Any:
        rows, dtype = _rows(framework, form, x, axis)
        return rows.of.cast(rows.loss(label), dtype)

    # JAX has float64 in a context of its own only, where this would be the textbook in it.
    halves = form == "upcast" and framework == "jax"
    # (2^y log 2) log2 e, as 2^(d log2 e) is differentiated, is lost up to 1.44 times the smallest
    # normal number where subnormal ones are flushed: premature, and flagged with reason.
    values_only = form == "base_2" and framework in ("tensorflow", "jax")
    for op, function in (("softmax", softmax), ("log_softmax", log_softmax),
                         ("sparse_softmax_cross_entropy", loss)):  # fmt: skip
        implementation(
            op=op,
            framework=framework,
            name=f"sound.{framework}.{form}.{op}",
            modes=("compiled",) if framework == "jax" and not halves else ("eager",),
            dtypes=_NARROW if halves else None,
            derivatives=("value",) if values_only else None,
            vjp=_numpy_gradients(form)[op] if framework == "numpy" else None,
        )(function)


for _framework in FRAMEWORKS:
    for _form in FORMS:
        _declare(_framework, _form)
