"""The other inputs of a family's rows: targets, labels, cotangents, second logits, masks, weights
and tangents, each of several kinds that take turns.

Targets, labels and cotangents come from the generator that made the rows. Every other input has a
generator of its own, so that adding one changes no other, and no case id.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import formats, ops
from ..formats import F64, Format

Draw = Callable[[str], np.random.Generator]
"""The generator of an input, by its name."""

Kind = Callable[[F64], Any]
"""Makes an input for some rows x."""

TANGENT = "v_"
"""What names of tangents begin with."""


def one_hot(index: Any, n: int) -> F64:
    """Rows with a single 1 (not by way of an identity matrix, which n = 128256 has no room for)."""
    hit: NDArray[np.bool_] = np.arange(n) == np.asarray(index)[:, None]
    return hit.astype(np.float64)


def complete(
    op: str,
    fmt: Format,
    x: F64,
    rng: np.random.Generator,
    draw: Draw,
    *,
    target: F64 | None = None,
    label: NDArray[np.int64] | None = None,
) -> dict[str, Any]:
    """All inputs of an op for rows x, and a cotangent and tangents.

    Soft targets take turns: one-hot on the largest logit, one-hot anywhere, uniform, a random
    distribution, a distribution with zeros, and sums of one half and of two.

    Parameters
    ----------
    op : str
    fmt : Format
    x : ndarray (rows, n)
    rng : Generator
        The one that made x.
    draw : callable (str) -> Generator
    target, label : ndarray, optional
        What a family has chosen itself.
    """
    definition = ops.get(op)
    count, n = x.shape
    top = np.argmax(np.where(np.isnan(x), -np.inf, x), axis=1) if n else np.zeros(count, int)
    inputs: dict[str, Any] = {"x": x}
    soft, hard = _targets(fmt, x, top, rng), rng.integers(0, max(n, 1), count)
    cotangent = _cotangents(fmt, count, 1 if definition.per_row else n, top, rng)
    for name in definition.inputs[1:]:
        if name == "target" and definition.elementwise:
            inputs[name] = binary_targets(fmt, x, draw("z"))
        elif name == "target":
            inputs[name] = soft if target is None else target
        elif name == "label":
            inputs[name] = (hard if label is None else label).astype(np.int64)
        else:
            inputs[name] = _OTHERS[name](fmt, x, draw(name))
    inputs["g"] = cotangent[:, 0] if definition.per_row else cotangent
    for argument in definition.differentiable:
        inputs[TANGENT + argument] = tangents(fmt, x, draw(TANGENT + argument))
    return inputs


def _targets(fmt: Format, x: F64, top: Any, rng: np.random.Generator) -> F64:
    count, n = x.shape
    weights = rng.exponential(size=(count, n)) + 1e-3
    distribution = weights / weights.sum(axis=1, keepdims=True)
    sparse = distribution * (rng.random((count, n)) < 0.5)
    kinds = [
        one_hot(top, n),
        one_hot(rng.integers(0, n, count), n),
        np.full((count, n), 1.0 / n),
        distribution,
        sparse,
        distribution / 2,
        distribution * 2,
    ]
    chosen = np.stack(kinds)[np.arange(count) % len(kinds), np.arange(count)]
    return formats.nearest(fmt, chosen)


def _cotangents(fmt: Format, count: int, k: int, top: Any, rng: np.random.Generator) -> F64:
    """Random, one-hot on the largest logit, ones, random with large spread; k |g| <= max / 8."""
    normal = rng.standard_normal((count, k))
    spread = normal * np.exp2(rng.integers(-8, 4, (count, k)))
    on_top = one_hot(np.minimum(top, k - 1), k)
    kinds = np.stack([normal, on_top, np.ones((count, k)), spread])
    chosen = kinds[np.arange(count) % len(kinds), np.arange(count)]
    return _within(fmt, chosen, k)


def _within(fmt: Format, values: F64, k: int) -> F64:
    """Rounded to the format, with k |v| <= max / 8: no sum of k products with s overflows."""
    limit = fmt.max_finite / 8 / max(k, 1)
    largest = float(formats.nearest(fmt, np.array(limit)))
    if largest > limit:
        largest = float(formats.step(fmt, np.array(largest), -1))
    return formats.nearest(fmt, np.clip(values, -largest, largest))


# ---------------------------------------------------------------- inputs with their own generator


def _in_turns(x: F64, rng: np.random.Generator, kinds: Sequence[Kind]) -> NDArray[Any]:
    """As many rows of each kind as of any other (but one), in random order."""
    turn = rng.permutation(np.arange(len(x)) % len(kinds))
    out = np.zeros(x.shape, kinds[0](x[:0]).dtype)
    for k, kind in enumerate(kinds):
        rows = np.flatnonzero(turn == k)
        if rows.size:
            out[rows] = kind(x[rows])
    return out


def _power(exponents: NDArray[np.int64]) -> F64:
    """2^exponent, exactly (NumPy's exp2 promises no such thing)."""
    return np.ldexp(1.0, exponents.astype(np.int32))


def _finite(fmt: Format, values: F64) -> F64:
    """Rounded to the format; what would overflow becomes the largest finite number."""
    limit = fmt.max_finite
    clipped = np.where(np.isfinite(values), np.clip(values, -limit, limit), values)
    return formats.nearest(fmt, clipped)


def second_logits(fmt: Format, x: F64, rng: np.random.Generator) -> F64:
    """y: x moved by a constant, x a few ulps off, the same logits in another order, half of x,
    minus x, and independent rows, also with -inf (or the minimum) at other places than x has.
    """
    lowest = -np.inf if fmt.has_infinity else -fmt.max_finite

    def moved(x: F64) -> Any:
        return x + rng.choice([0.0, 1.0, -2.0, 8.0, -64.0], (len(x), 1))

    def near(x: F64) -> Any:
        return x + formats.ulp(fmt, x) * rng.integers(-3, 4, x.shape)

    def independent(x: F64) -> Any:
        return rng.standard_normal(x.shape) * rng.choice([0.5, 3.0, 20.0], (len(x), 1))

    def cut(x: F64) -> Any:
        return np.where(rng.random(x.shape) < 0.3, lowest, independent(x))

    kinds = (moved, near, lambda x: rng.permuted(x, axis=1), lambda x: x / 2, np.negative,
             independent, cut)  # fmt: skip
    with np.errstate(over="ignore"):
        return _finite(fmt, _in_turns(x, rng, kinds))


def masks(fmt: Format, x: F64, rng: np.random.Generator) -> NDArray[np.bool_]:
    """True keeps: everything, nothing, a single entry, all but one, at random, all but the largest
    logit, and what is finite.
    """
    n = x.shape[1]

    def one(x: F64) -> Any:
        return np.arange(n) == rng.integers(0, max(n, 1), (len(x), 1))

    def largest(x: F64) -> Any:
        known = np.where(np.isnan(x), -np.inf, x)
        return known == known.max(axis=1, initial=-np.inf, keepdims=True)

    kinds = (
        lambda x: np.ones(x.shape, bool),
        lambda x: np.zeros(x.shape, bool),
        one,
        lambda x: ~one(x),
        lambda x: rng.random(x.shape) < 0.5,
        lambda x: ~largest(x),
        np.isfinite,
    )
    return _in_turns(x, rng, kinds)


def binary_targets(fmt: Format, x: F64, rng: np.random.Generator) -> F64:
    """z: labels 0 and 1, only 0, only 1, smoothed labels, anything in [0, 1], and a bit outside."""

    def labels(x: F64) -> Any:
        return rng.integers(0, 2, x.shape).astype(np.float64)

    kinds = (
        labels,
        lambda x: np.zeros(x.shape),
        lambda x: np.ones(x.shape),
        lambda x: 0.05 + 0.9 * labels(x),
        lambda x: rng.random(x.shape),
        lambda x: rng.random(x.shape),
        lambda x: rng.uniform(-0.5, 1.5, x.shape),
    )
    return formats.nearest(fmt, _in_turns(x, rng, kinds))


def positive_weights(fmt: Format, x: F64, rng: np.random.Generator) -> F64:
    """w: 1, 0, large, small, around 1, and all of these in one row."""

    def large(x: F64) -> Any:
        return _power(rng.integers(3, fmt.emax, x.shape) // rng.choice([1, 4], (len(x), 1)))

    def small(x: F64) -> Any:
        return _power(rng.integers(fmt.emin, 0, x.shape) // rng.choice([1, 4], (len(x), 1)))

    def around(x: F64) -> Any:
        return rng.uniform(0.5, 4.0, x.shape)

    def mixed(x: F64) -> Any:
        some = np.stack([np.ones(x.shape), np.zeros(x.shape), large(x), small(x), around(x)])
        return rng.permuted(some, axis=0)[0]

    kinds = (lambda x: np.ones(x.shape), lambda x: np.zeros(x.shape), large, small, around, mixed)
    return _finite(fmt, _in_turns(x, rng, kinds))


def tangents(fmt: Format, x: F64, rng: np.random.Generator) -> F64:
    """v: random, one-hot anywhere, the same number everywhere, random with large spread;
    n |v| <= max / 8.
    """
    n = x.shape[1]

    def normal(x: F64) -> Any:
        return rng.standard_normal(x.shape)

    def constant(x: F64) -> Any:
        return np.broadcast_to(rng.choice([1.0, -1.0, 0.375], (len(x), 1)), x.shape)

    kinds = (
        normal,
        lambda x: one_hot(rng.integers(0, max(n, 1), len(x)), n),
        constant,
        lambda x: normal(x) * _power(rng.integers(-8, 4, x.shape)),
    )
    return _within(fmt, _in_turns(x, rng, kinds), n)


_OTHERS: dict[str, Callable[[Format, F64, np.random.Generator], NDArray[Any]]] = {
    "y": second_logits,
    "mask": masks,
    "pos_weight": positive_weights,
}
