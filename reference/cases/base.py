"""Cases: input rows with stable names, recreated anywhere from the name alone.

A case id such as ``softmax-float32-gap_ladder1-n17-s0-r12-3fa9c1`` says op, format, family and its
version, row length, seed, row number, and the first six hex digits of a SHA-256 over the row's
bits (but for tangents), which makes a silent change impossible. Rows named in ``witnesses.toml``
have ids like ``softmax-float16-w.equal_70000-0c12ab``. The same rows without an optional input are
cases of their own: ``sigmoid_cross_entropy-float32-masks1-n2-s0-r1-no.pos_weight-0a1b2c``.

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

from .. import ops
from ..formats import F64, Format
from .inputs import TANGENT, complete, one_hot

__all__ = [
    "Case",
    "CaseError",
    "Family",
    "Rows",
    "digest",
    "generate",
    "named",
    "one_hot",
    "spread",
    "stack",
]

Inputs = Mapping[str, NDArray[Any]]

LACKING = "-no."
"""What comes before the name of the input that a case lacks, in its id."""


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
        One row each: the op's inputs, (n,) like ``x`` (``label`` is () int64), the cotangent
        ``g``, (n,) or () like the op's result, and for each differentiable argument its tangent,
        ``v_x`` (n,) and so on. Float64 values of the format, but for a ``mask``, which is boolean.
    """

    case_id: str
    op: str
    format: str
    family: str
    inputs: Inputs

    @property
    def arguments(self) -> set[str]:
        """The op's inputs that the row has."""
        return {name for name in ops.get(self.op).inputs if name in self.inputs}

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
    lengths : tuple of int
        Of a family that is asked whole: the row lengths at which all of its rows run.
    """

    name: str
    version: int
    generate: Callable[[str, Format, int, np.random.Generator], Rows]
    lengths: tuple[int, ...] = ()


def generator(*key: str | int) -> np.random.Generator:
    """A random generator that depends on the key alone."""
    digest = hashlib.sha256("\x1f".join(str(k) for k in key).encode()).digest()
    words = [int.from_bytes(digest[i : i + 4], "little") for i in range(0, 32, 4)]
    return np.random.Generator(np.random.PCG64DXSM(np.random.SeedSequence(words)))


def digest(inputs: Inputs) -> str:
    """The first six hex digits of SHA-256 over names and little-endian bits, tangents left out.

    One row has one id, whether or not anybody takes forward derivatives there.
    """
    h = hashlib.sha256()
    for name in sorted(name for name in inputs if not name.startswith(TANGENT)):
        array = np.asarray(inputs[name])
        h.update(f"{name}:{array.shape}".encode())
        h.update(array.astype("<i8" if array.dtype.kind == "i" else "<f8").tobytes())
    return h.hexdigest()[:6]


# ---------------------------------------------------------------- rows of a family


def generate(
    family: Family,
    op: str,
    fmt: Format,
    n: int,
    seed: int,
    index: Iterable[int] | None = None,
    without: str = "",
) -> list[Case]:
    """The cases of a family, or those with the given row numbers, maybe without an input."""
    key = (op, fmt.name, family.name, family.version, n, seed)
    rng = generator(*key)
    rows = family.generate(op, fmt, n, rng)
    inputs = complete(
        op,
        fmt,
        rows.x,
        rng,
        lambda name: generator(*key, name),
        target=rows.target,
        label=rows.label,
    )
    count = inputs["x"].shape[0]
    chosen = range(count) if index is None else index
    prefix = f"{op}-{fmt.name}-{family.name}{family.version}-n{n}-s{seed}"
    made = []
    for r in chosen:
        if 0 <= r < count:
            row = {name: array[r] for name, array in inputs.items()}
            made.append(named(f"{prefix}-r{r}", op, fmt, family.name, row, without))
    return made


def named(prefix: str, op: str, fmt: Format, family: str, row: Inputs, without: str = "") -> Case:
    """A case whose id ends with the digest of its row, maybe without an optional input."""
    lacking = (without, TANGENT + without) if without else ()
    kept = {name: array for name, array in row.items() if name not in lacking}
    mark = f"{LACKING}{without}" if without else ""
    return Case(f"{prefix}{mark}-{digest(kept)}", op, fmt.name, family, kept)


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
