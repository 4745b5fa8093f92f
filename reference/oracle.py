"""The oracle: the exact answer of every element, enclosed tightly enough to decide every bit.

:func:`evaluate` settles what needs no evaluation (rational results, limits at infinity), evaluates
the op's cancellation-free formula in ball arithmetic, and doubles the precision of the elements
that are not decided yet. An element is decided for a format when both ends of its ball round to
the same value of the format and the ball is narrower than 2^-20 ulp (1e-6 ulp).

Precision starts at p + ceil(log2 n) + 40 bits. It ends: results that are not rational are
transcendental (Lindemann and Weierstrass; see each op), hence never on a rounding boundary. They
can come exponentially close to one, though: two equal logits beside one that is 1e6 lower. From
``_SIGN_BITS`` on, an element whose ball holds a boundary is decided by the sign of an expression
whose rational part is exact (``excess`` of :class:`reference.ops.base.Map`). The cap is there for
what these arguments do not cover and raises :class:`Undecided` instead of guessing.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import mpmath
import numpy as np
from mpmath import libmp
from numpy.typing import NDArray

from . import fast, ops
from .arithmetic.binary64 import Binary64
from .arithmetic.doubledouble import DoubleDouble
from .arithmetic.multiprecision import Ball, Multiprecision, TooWide
from .escalation import attempt
from .fast import Block, Decided
from .formats import Format
from .ops.base import EXACT, FORMULA, NAN, NEG_INF, POS_INF, UNDEFINED, ZERO, Batch, Map, Settled
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

MAX_BITS = 1 << 14
"""Where escalation stops and :class:`Undecided` is raised."""


class Undecided(ArithmeticError):
    """An element could not be decided at the cap of the precision."""


class FlushToZero(RuntimeError):
    """This thread flushes subnormals to zero, so no reference can be computed here."""


def check_subnormals() -> None:
    """Raise :class:`FlushToZero` where this thread's flush-to-zero bit is on."""
    with np.errstate(under="ignore"):
        smallest = np.nextafter(np.zeros(1), 1.0)
        flushes = (smallest * np.ones(1))[0] == 0 or (smallest + smallest)[0] == 0
    if flushes:
        raise FlushToZero("subnormal numbers are flushed to zero in this thread")


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


def decimal(
    op: str,
    derivative: str,
    argument: str,
    inputs: Mapping[str, NDArray[Any]],
    digits: int,
    *,
    max_bits: int | None = None,
) -> list[list[str]]:
    """The exact answers as decimal strings of ``digits`` significant digits, correctly rounded.

    Undefined elements read ``undefined``. Parameters as in :func:`evaluate`.
    """
    check_subnormals()
    definition = ops.get(op)
    map_ = definition.maps[derivative, argument]
    batch = Batch(definition.rows_of(inputs))
    settled = map_.settle(batch)
    names = {ZERO: "0", POS_INF: "inf", NEG_INF: "-inf", NAN: "nan", UNDEFINED: "undefined"}
    out = [[names.get(int(c), "") for c in row] for row in settled.codes]
    for (r, i), value in settled.rationals():
        out[r][i] = _fraction_text(value, digits)
    needed = int(digits * 3.33) + batch.n.bit_length() + 40
    cap = max_bits or max(MAX_BITS, 4 * needed)
    for r in np.flatnonzero((settled.codes == FORMULA).any(axis=1)).tolist():
        part = Batch({name: np.asarray(a)[[r]] for name, a in batch.inputs.items()})
        columns = np.flatnonzero(settled.codes[r] == FORMULA).tolist()
        texts = _decimal_row(map_, part, columns, digits, needed, cap)
        for i, text in zip(columns, texts, strict=True):
            out[r][i] = text
    if definition.elementwise:
        n = np.shape(inputs["x"])[1]
        return [[row[0] for row in out[r * n : r * n + n]] for r in range(len(inputs["x"]))]
    return out


def _decimal_row(
    map_: Map, part: Batch, columns: Any, digits: int, bits: int, cap: int
) -> list[str]:
    while bits <= cap:
        try:
            ball: Ball = map_.formula(Multiprecision(bits), part)
        except TooWide:
            bits *= 2
            continue
        texts = [_ball_text(ball.mid[0, i], ball.rad[0, i], digits) for i in columns]
        if all(t is not None for t in texts):
            return [t for t in texts if t is not None]
        bits *= 2
    raise Undecided(f"not decided to {digits} digits at {cap} bits")


def _ball_text(mid: Any, rad: Any, digits: int) -> str | None:
    low = libmp.to_str(libmp.mpf_sub(mid, rad), digits)
    high = libmp.to_str(libmp.mpf_add(mid, rad), digits)
    return str(low) if low == high else None


def _fraction_text(value: Fraction, digits: int) -> str:
    with mpmath.workprec(int(digits * 3.33) + 64):
        quotient = mpmath.mpf(value.numerator) / value.denominator
        return str(mpmath.nstr(quotient, digits))
