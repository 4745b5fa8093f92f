"""The oracle: the exact answer of every element, enclosed tightly enough to decide every bit.

:func:`evaluate` settles what needs no evaluation (rational results, limits at infinity), evaluates
the op's cancellation-free formula in ball arithmetic, and doubles the precision of the elements
that are not decided yet. An element is decided for a format when both ends of its ball round to
the same value of the format and the ball is narrower than 2^-20 ulp (1e-6 ulp).

Precision starts at p + ceil(log2 n) + 40 bits. It ends: results that are not rational are
transcendental (Lindemann and Weierstrass; see each op), hence never on a rounding boundary. They
can come exponentially close to one, though: two equal logits beside one that is 1e6 lower. From
``SIGN_BITS`` on, an element whose ball holds a boundary is decided by the sign of an expression
whose rational part is exact (``excess`` of :class:`reference.ops.base.Map`). The cap is there for
what these arguments do not cover and raises :class:`Undecided` instead of guessing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import fast, ops
from .arithmetic.binary64 import Binary64
from .arithmetic.doubledouble import DoubleDouble
from .decimals import decimal
from .environment import FlushToZero, check_subnormals
from .escalation import MAX_BITS, Undecided, attempt
from .fast import Block, Decided
from .formats import Format
from .ops.base import EXACT, FORMULA, ZERO, Batch, Settled
from .references import (
    BINARY64,
    DOUBLE_DOUBLE,
    MULTIPRECISION,
    SETTLED,
    Parts,
    References,
    expand_fraction,
    join,
    round_element,
)

__all__ = [
    "ZERO",
    "FlushToZero",
    "References",
    "Undecided",
    "check_subnormals",
    "decimal",
    "evaluate",
    "expand_fraction",
    "join",
    "round_element",
]


def evaluate(
    op: str,
    derivative: str,
    argument: str,
    inputs: Mapping[str, NDArray[Any]],
    fmt: Format,
    *,
    max_bits: int = MAX_BITS,
) -> References:
    """The exact answers of one map of an op on rows of one length.

    Parameters
    ----------
    op, derivative, argument : str
        A key of the op's table, e.g. ``"softmax", "vjp", "x"``; the value's argument is ``-``.
    inputs : mapping of str to ndarray
        The op's inputs with a leading axis of rows, exact float64 values; ``g`` for a vjp.
    fmt : Format
        The format whose rounding has to be decided.
    max_bits : int
        Cap of the working precision.

    Returns
    -------
    References
        Of shape (B, n), or (B, 1) for one result per row.

    Raises
    ------
    Undecided
        If some element is still undecided at the cap.
    """
    check_subnormals()
    definition = ops.get(op)
    map_ = definition.maps[derivative, argument]
    batch = Batch(definition.rows_of(inputs))
    out = _Output(map_.settle(batch), fmt)
    for tier, arithmetic in _vector_tiers(fmt):
        for block, found in fast.evaluate(map_, batch.inputs, out.open_rows(), fmt, arithmetic):
            out.take_block(block, found, tier)
    bits = fmt.precision + max(1, batch.n).bit_length() + 40
    while (rows := out.open_rows()).size:
        if bits > max_bits:
            raise Undecided(
                f"{op} {derivative} {argument}: {rows.size} rows undecided at {max_bits} bits "
                f"for {fmt.name}; first x = {[float(v).hex() for v in batch.x[rows[0], :8]]}"
            )
        for index, parts in attempt(map_, batch, rows, out.open, bits, fmt).items():
            out.take(index, parts)
        bits *= 2
    refs = out.references()
    return refs.reshaped(np.shape(inputs["x"])) if definition.elementwise else refs


def _vector_tiers(fmt: Format) -> list[tuple[int, Binary64 | DoubleDouble]]:
    """The tiers of a format: one word decides no float64 rounding."""
    double_double: tuple[int, Binary64 | DoubleDouble] = (DOUBLE_DOUBLE, DoubleDouble())
    return [double_double] if fmt.precision > 24 else [(BINARY64, Binary64()), double_double]


class _Output:
    """Collects decided elements; what is ``open`` still needs a tier."""

    def __init__(self, settled: Settled, fmt: Format) -> None:
        self.format = fmt
        self.codes = settled.codes
        self.open: NDArray[np.bool_] = np.asarray(self.codes == FORMULA)
        self.hi = np.zeros(self.codes.shape)
        self.lo = np.zeros(self.codes.shape)
        self.exponent = np.zeros(self.codes.shape, np.int64)
        self.tier = np.full(self.codes.shape, SETTLED, np.uint8)
        if settled.words is not None:
            exact = self.codes == EXACT
            for array, word in zip((self.hi, self.lo, self.exponent), settled.words, strict=True):
                array[exact] = word[exact]
        for index, value in settled.fractions.items():
            if self.codes[index] == EXACT:
                self._store(index, expand_fraction(value))

    def open_rows(self) -> NDArray[np.intp]:
        """Rows with an open element."""
        return np.flatnonzero(self.open.any(axis=1))

    def take_block(self, rows: Block, found: Decided, tier: int) -> None:
        """Store what a vectorised tier decided of some rows."""
        mask = found.mask & self.open[rows]
        every = bool(mask.all())
        for array, values in (
            (self.hi, found.hi), (self.lo, found.lo), (self.exponent, found.exponent),
            (self.tier, np.full(mask.shape, tier, np.uint8)),
        ):  # fmt: skip
            array[rows] = values if every else np.where(mask, values, array[rows])
        self.open[rows] &= ~mask

    def take(self, index: tuple[int, int], parts: Parts) -> None:
        """Store an element of the last tier."""
        self._store(index, parts)
        self.tier[index] = MULTIPRECISION
        self.open[index] = False

    def _store(self, index: tuple[int, int], parts: Parts) -> None:
        self.hi[index], self.lo[index], self.exponent[index] = parts

    def references(self) -> References:
        """Everything, when nothing is open any more."""
        return References(self.hi, self.lo, self.exponent, self.codes, self.tier, self.format)
