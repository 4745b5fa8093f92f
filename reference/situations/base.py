"""Situations: whole batches with their labels, weights and options; each is one call of a loss.

A case is a row, and its answer depends on nothing else. What a reduction makes of rows cannot be
asked row by row: a situation is the smallest question about it. Like a case it has an id that
recreates it anywhere: ``sparse_softmax_cross_entropy-float32-ignored1-s0-q7-3fa9c1`` says op,
format, family and its version, seed, number, and the first six hex digits of a SHA-256 over
everything that is sent.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import formats
from ..cases.base import generator
from ..formats import F64, Format

__all__ = [
    "DEFAULTS",
    "REDUCTIONS",
    "Draft",
    "Family",
    "Situation",
    "drawn",
    "generate",
    "logits",
]

REDUCTIONS = ("none", "sum", "mean")
DEFAULTS: Mapping[str, Any] = MappingProxyType(
    {"reduction": "none", "ignore_index": None, "label_smoothing": 0.0}
)
"""Options, and what they are where a loss does not take them."""

Inputs = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, eq=False)
class Situation:
    """A batch of rows and the options of one call.

    Attributes
    ----------
    case_id, op, format, family : str
    inputs : mapping of str to ndarray
        ``x`` (N, C); ``label`` (N,) of any integer dtype or ``target`` (N, C); ``weight`` (C,),
        where classes have one; the cotangent ``g``, (N,) or, where the rows are reduced, ().
        Float64 values of the format but for labels.
    options : mapping
        ``reduction``, ``ignore_index`` and ``label_smoothing``, see `DEFAULTS`.
    """

    case_id: str
    op: str
    format: str
    family: str
    inputs: Inputs
    options: Mapping[str, Any]

    @property
    def arguments(self) -> set[str]:
        """The op's inputs that it has."""
        return {"x", "label" if "label" in self.inputs else "target"}

    @cached_property
    def parameters(self) -> frozenset[str]:
        """What a loss has to take, beside the op's inputs, to be asked."""
        found = {name for name, usual in DEFAULTS.items() if self.options[name] != usual}
        return frozenset(found | ({"weight"} & self.inputs.keys()))

    @property
    def reduction(self) -> str:
        """``none``, ``sum`` or ``mean``."""
        return str(self.options["reduction"])

    @property
    def rows(self) -> int:
        """N."""
        return int(self.inputs["x"].shape[0])

    @property
    def n(self) -> int:
        """C, the number of classes."""
        return int(self.inputs["x"].shape[1])


@dataclass(frozen=True)
class Draft:
    """What a family says of a situation; the rest is drawn.

    Attributes
    ----------
    x : ndarray (N, C)
    label : ndarray of int (N,), or
    target : ndarray (N, C)
    weight : ndarray (C,), optional
    options : mapping
        Those that differ from `DEFAULTS`.
    """

    x: F64
    label: NDArray[Any] | None = None
    target: F64 | None = None
    weight: F64 | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


Make = Callable[[Format, np.random.Generator], Draft]


@dataclass(frozen=True)
class Family:
    """A list of situations built to break something.

    Attributes
    ----------
    name : str
    version : int
        Raised whenever a situation changes.
    ops : tuple of str
    makers : tuple of callables (Format, Generator) -> Draft
        Each makes one situation from a generator of its own.
    """

    name: str
    version: int
    ops: tuple[str, ...]
    makers: tuple[Make, ...]


def generate(
    family: Family, op: str, fmt: Format, seed: int, index: Iterable[int] | None = None
) -> list[Situation]:
    """The situations of a family, or those with the given numbers."""
    if op not in family.ops:
        return []
    chosen = range(len(family.makers)) if index is None else index
    return [_made(family, op, fmt, seed, k) for k in chosen if 0 <= k < len(family.makers)]


def _made(family: Family, op: str, fmt: Format, seed: int, k: int) -> Situation:
    rng = generator(op, fmt.name, family.name, family.version, seed, k)
    prefix = f"{op}-{fmt.name}-{family.name}{family.version}-s{seed}-q{k}"
    return completed(prefix, op, fmt, family.name, family.makers[k](fmt, rng), rng)


def completed(
    prefix: str, op: str, fmt: Format, family: str, draft: Draft, rng: np.random.Generator
) -> Situation:
    """The situation of a draft: everything in the format, and a cotangent."""
    options = {**DEFAULTS, **draft.options}
    inputs: dict[str, NDArray[Any]] = {"x": formats.nearest(fmt, draft.x)}
    if draft.label is not None:
        inputs["label"] = draft.label
    for name, values in (("target", draft.target), ("weight", draft.weight)):
        if values is not None:
            inputs[name] = formats.nearest(fmt, np.asarray(values, np.float64))
    shape = (len(draft.x),) if options["reduction"] == "none" else ()
    inputs["g"] = formats.nearest(fmt, np.asarray(rng.uniform(0.25, 2.0, shape)))
    case_id = f"{prefix}-{_digest(inputs, options)}"
    return Situation(case_id, op, fmt.name, family, inputs, MappingProxyType(options))


def _digest(inputs: Inputs, options: Mapping[str, Any]) -> str:
    h = hashlib.sha256(json.dumps(options, sort_keys=True).encode())
    for name in sorted(inputs):
        array = np.asarray(inputs[name])
        h.update(f"{name}:{array.shape}:{array.dtype.name}".encode())
        h.update(array.astype(array.dtype.newbyteorder("<")).tobytes())
    return h.hexdigest()[:6]


# ---------------------------------------------------------------- what families draw


def logits(rng: np.random.Generator, rows: int, classes: int) -> F64:
    """Rows of very different confidence: as at the start of training, as at its end, and wide."""
    scale = np.array([1.0, 4.0, 0.25, 12.0])[rng.permutation(4)]
    return rng.standard_normal((rows, classes)) * np.resize(scale, rows)[:, None]


def drawn(rng: np.random.Generator, rows: int, classes: int) -> NDArray[np.int64]:
    """Labels anywhere."""
    return rng.integers(0, classes, rows)
