"""Cases: input rows with stable names, recreated anywhere from the name alone.

A case id such as ``softmax-float32-gap_ladder1-n17-s0-r12-3fa9c1`` says op, format, family and its
version, row length, seed, row number, and the first six hex digits of a SHA-256 over the row's
bits, which makes a silent change impossible. Rows named in ``witnesses.toml`` have ids like
``softmax-float16-w.equal_70000-0c12ab``.

Random numbers come from PCG64DXSM on a key made of op, format, family, length and seed; the same
key gives the same rows on every platform.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import formats, ops
from ..formats import F64, Format

Inputs = Mapping[str, NDArray[Any]]


class CaseError(ValueError):
    """A case id that names nothing, or no longer names what it did."""


@dataclass(frozen=True, eq=False)
class Case:
    """One input row with its parameters.

    Attributes
    ----------
    case_id : str
    op, format, family : str
    inputs : mapping of str to ndarray
        One row each, float64 values of the format: ``x`` (n,), ``target`` (n,), ``label`` ()
        int64, and the cotangent ``g``, (n,) or () like the op's result.
    """

    case_id: str
    op: str
    format: str
    family: str
    inputs: Inputs

    @property
    def n(self) -> int:
        """The number of classes."""
        return int(self.inputs["x"].shape[-1])


@dataclass(frozen=True)
class Rows:
    """What a family makes for one op, format and length.

    Attributes
    ----------
    x : ndarray (rows, n)
    target : ndarray (rows, n), optional
        Replaces the default soft targets.
    label : ndarray of int (rows,), optional
        Replaces the default labels.
    """

    x: F64
    target: F64 | None = None
    label: NDArray[np.int64] | None = None


@dataclass(frozen=True)
class Family:
    """A generator of cases built to break something.

    Attributes
    ----------
    name : str
    version : int
        Raised whenever the rows change.
    generate : callable (op name, Format, n, Generator) -> Rows
    """

    name: str
    version: int
    generate: Callable[[str, Format, int, np.random.Generator], Rows]


def generator(*key: str | int) -> np.random.Generator:
    """A random generator that depends on the key alone."""
    digest = hashlib.sha256("\x1f".join(str(k) for k in key).encode()).digest()
    words = [int.from_bytes(digest[i : i + 4], "little") for i in range(0, 32, 4)]
    return np.random.Generator(np.random.PCG64DXSM(np.random.SeedSequence(words)))


def digest(inputs: Inputs) -> str:
    """The first six hex digits of SHA-256 over names and little-endian bits."""
    h = hashlib.sha256()
    for name in sorted(inputs):
        array = np.asarray(inputs[name])
        h.update(f"{name}:{array.shape}".encode())
        h.update(array.astype("<i8" if array.dtype.kind == "i" else "<f8").tobytes())
    return h.hexdigest()[:6]


# ---------------------------------------------------------------- the other inputs of a row


def one_hot(index: Any, n: int) -> F64:
    """Rows with a single 1 (not by way of an identity matrix, which n = 128256 has no room for)."""
    hit: NDArray[np.bool_] = np.arange(n) == np.asarray(index)[:, None]
    return hit.astype(np.float64)


def complete(op: str, fmt: Format, rows: Rows, rng: np.random.Generator) -> dict[str, Any]:
    """Add targets, labels and cotangents to the rows of a family.

    Soft targets take turns: one-hot on the largest logit, one-hot anywhere, uniform, a random
    distribution, a distribution with zeros, and sums of one half and of two.
    """
    definition = ops.get(op)
    x = rows.x
    count, n = x.shape
    top = np.argmax(np.where(np.isnan(x), -np.inf, x), axis=1) if n else np.zeros(count, int)
    inputs: dict[str, Any] = {"x": x}
    target, label = _targets(fmt, x, top, rng), rng.integers(0, max(n, 1), count)
    cotangent = _cotangents(fmt, count, 1 if definition.per_row else n, top, rng)
    if "target" in definition.inputs:
        inputs["target"] = target if rows.target is None else rows.target
    if "label" in definition.inputs:
        inputs["label"] = (label if rows.label is None else rows.label).astype(np.int64)
    inputs["g"] = cotangent[:, 0] if definition.per_row else cotangent
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
    limit = fmt.max_finite / 8 / k
    largest = float(formats.nearest(fmt, np.array(limit)))
    if largest > limit:
        largest = float(formats.step(fmt, np.array(largest), -1))
    return formats.nearest(fmt, np.clip(chosen, -largest, largest))


# ---------------------------------------------------------------- rows of a family


def generate(
    family: Family, op: str, fmt: Format, n: int, seed: int, index: Iterable[int] | None = None
) -> list[Case]:
    """The cases of a family, or those with the given row numbers."""
    rng = generator(op, fmt.name, family.name, family.version, n, seed)
    inputs = complete(op, fmt, family.generate(op, fmt, n, rng), rng)
    count = inputs["x"].shape[0]
    chosen = range(count) if index is None else index
    return [_case(family, op, fmt, n, seed, r, inputs) for r in chosen if 0 <= r < count]


def _case(family: Family, op: str, fmt: Format, n: int, seed: int, r: int, inputs: Inputs) -> Case:
    row = {name: array[r] for name, array in inputs.items()}
    name = f"{op}-{fmt.name}-{family.name}{family.version}-n{n}-s{seed}-r{r}-{digest(row)}"
    return Case(name, op, fmt.name, family.name, row)


def spread(cases: list[Case], limit: int | None) -> list[Case]:
    """At most ``limit`` of the cases, evenly spaced, both ends kept."""
    if limit is None or len(cases) <= limit:
        return cases
    if limit == 1:
        return cases[:1]
    picks = [math.floor(i * (len(cases) - 1) / (limit - 1)) for i in range(limit)]
    return [cases[i] for i in picks]


def stack(cases: list[Case]) -> dict[str, NDArray[Any]]:
    """Inputs of cases of one length as arrays with a leading axis of rows."""
    return {name: np.stack([c.inputs[name] for c in cases]) for name in cases[0].inputs}
