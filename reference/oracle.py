"""The oracle: the exact answer of every element, enclosed tightly enough to decide every bit.

:func:`evaluate` goes through a batch in blocks of rows. What needs no evaluation (rational results,
limits at infinity) is settled first. Then the op's cancellation-free formula is evaluated in ball
arithmetic, in one float64 word, in two (:mod:`reference.fast`), and in mpmath at a precision that
doubles (:mod:`reference.escalation`), each for the elements that are still open. An element is
decided for a format when both ends of its ball round to the same value of the format, its sign and
binade are certain, and the ball is narrower than 2^-20 ulp (1e-6 ulp).

mpmath starts at p + ceil(log2 n) + 40 bits. It ends: results that are not rational are
transcendental (Lindemann and Weierstrass; see each op), hence never on a rounding boundary. They
can come exponentially close to one, though: two equal logits beside one that is 1e6 lower. An
element whose ball is narrow and holds a boundary, at a precision that resolves the gaps between the
logits, is decided by the sign of an expression whose coefficients are exact (``quotient`` and
``excess`` of :class:`reference.ops.base.Map`). The cap is there for what these arguments do not
cover and raises :class:`Undecided` instead of guessing.
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
from .fast import Decided
from .formats import Format
from .ops.base import EXACT, FORMULA, ZERO, Batch, Map, Settled, over_rows
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

_BLOCK = 1 << 16
"""Elements evaluated at a time: what bounds the memory."""


@np.errstate(under="ignore")  # as NumPy has it anyway: results that underflow have a code
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
    rows = definition.rows_of(definition.given(inputs, derivative, argument))
    count, n = np.shape(rows["x"])
    step = max(1, _BLOCK // max(1, n))
    out: References | None = None
    for start in range(0, max(1, count), step):
        block = slice(start, start + step)
        batch = Batch({name: np.asarray(a)[block] for name, a in rows.items()})
        try:
            part = _block(map_, batch, fmt, max_bits)
        except Undecided as error:
            raise Undecided(f"{op} {derivative} {argument}: {error}") from None
        if count <= step:
            out = part
            break
        if out is None:
            out = _empty((count, part.shape[1]), fmt)
        out.rows(block).assign(part)
    assert out is not None
    return out.reshaped(np.shape(inputs["x"])) if definition.elementwise else out


def _empty(shape: tuple[int, int], fmt: Format) -> References:
    """Room for references."""
    hi, lo, exponent = np.empty(shape), np.zeros(shape), np.empty(shape, np.int64)
    return References(hi, lo, exponent, np.empty(shape, np.uint8), np.empty(shape, np.uint8), fmt)


def _block(map_: Map, batch: Batch, fmt: Format, max_bits: int) -> References:
    """The exact answers of one block: what is settled, then tier by tier what is still open."""
    out = _Output(map_.settle(batch), fmt)
    for tier, arithmetic in _vector_tiers(fmt):
        rows = out.open_rows()
        if rows.size == batch.rows:
            out.take_rows(slice(None), fast.attempt(map_, batch, fmt, arithmetic), tier)
        elif rows.size:
            out.take_rows(rows, fast.attempt(map_, batch.take(rows), fmt, arithmetic), tier)
    bits = fmt.precision + max(1, batch.n).bit_length() + 40
    while (rows := out.open_rows()).size:
        if bits > max_bits:
            raise Undecided(
                f"{rows.size} rows undecided at {max_bits} bits for {fmt.name}; "
                f"first x = {[float(v).hex() for v in batch.x[rows[0], :8]]}"
            )
        for index, parts in attempt(map_, batch, rows, out.open, bits, fmt, max_bits).items():
            out.take(index, parts)
        bits *= 2
    return out.references()


def _vector_tiers(fmt: Format) -> list[tuple[int, Binary64 | DoubleDouble]]:
    """The tiers of a format: one word decides no float64 rounding."""
    double_double: tuple[int, Binary64 | DoubleDouble] = (DOUBLE_DOUBLE, DoubleDouble())
    return [double_double] if fmt.precision > 24 else [(BINARY64, Binary64()), double_double]


class _Output:
    """Collects decided elements of a block; what is ``open`` still needs a tier."""

    def __init__(self, settled: Settled, fmt: Format) -> None:
        shape = settled.codes.shape
        self.format = fmt
        self.codes = settled.codes
        self.open: NDArray[np.bool_] = np.asarray(self.codes == FORMULA)
        self.hi = np.zeros(shape)
        self.lo = np.zeros(shape)
        self.exponent = np.zeros(shape, np.int64)
        self.tier = np.full(shape, SETTLED, np.uint8)
        if settled.words is not None:
            exact = self.codes == EXACT
            for array, word in zip((self.hi, self.lo, self.exponent), settled.words, strict=True):
                array[exact] = word[exact]
        for index, value in settled.fractions.items():
            if self.codes[index] == EXACT:
                self._store(index, expand_fraction(value))

    def open_rows(self) -> NDArray[np.intp]:
        """Rows with an open element."""
        return np.flatnonzero(over_rows(np.logical_or, self.open))

    def take_rows(self, rows: NDArray[np.intp] | slice, found: Decided, tier: int) -> None:
        """Store what a vectorised tier decided of some rows."""
        mask = found.mask & self.open[rows]
        if isinstance(rows, slice) and mask.all():
            self.hi, self.lo, self.exponent = found.hi, found.lo, found.exponent
            self.tier[:], self.open[:] = tier, False
            return
        for array, values in (
            (self.hi, found.hi), (self.lo, found.lo), (self.exponent, found.exponent),
            (self.tier, np.full(mask.shape, tier, np.uint8)),
        ):  # fmt: skip
            array[rows] = np.where(mask, values, array[rows])
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
