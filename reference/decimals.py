"""The oracle's answers as decimal strings, with as many digits as are asked, all of them right.

As for the binary formats, a row is evaluated in balls of rising precision until both ends of an
element's ball round to the same decimal. Where that never happens, for the result is exponentially
close to a rational number, or is what exponentially larger terms leave over, the exact forms of
:class:`reference.ops.base.Map` decide: the side of the decimal boundary, or the quotient of sums.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import ops
from .arithmetic.multiprecision import Ball, Multiprecision, TooWide
from .digits import Decimal, Halfway, bits_for, of_ball, of_fraction
from .environment import check_subnormals
from .escalation import MAX_BITS, Undecided, side
from .ops.base import FORMULA, NAN, NEG_INF, POS_INF, UNDEFINED, ZERO, Batch, Map, Settled

_NAMES = {ZERO: "0", POS_INF: "inf", NEG_INF: "-inf", NAN: "nan", UNDEFINED: "undefined"}

QUOTIENT_BITS = 1 << 11
"""From here on a ball that stays wide is replaced by the exact quotient."""


def decimal(
    op: str,
    derivative: str,
    argument: str,
    inputs: Mapping[str, NDArray[Any]],
    digits: int,
    *,
    max_bits: int | None = None,
) -> list[list[str]]:
    """The exact answers as decimal strings, correctly rounded to ``digits`` significant digits.

    Parameters as in :func:`reference.oracle.evaluate`.

    Returns
    -------
    list of list of str
        One list per row. A result that is a decimal number of at most so many digits has a decimal
        point and no trailing zeros (``0.5``, ``1.0``); one that is rounded has all its digits.
        Rationals are rounded to nearest, ties to even. Otherwise ``0``, ``inf``, ``-inf``, ``nan``
        or ``undefined``.

    Raises
    ------
    Undecided
        If the digits of an element are still open at the cap of the precision.
    """
    check_subnormals()
    definition = ops.get(op)
    map_ = definition.maps[derivative, argument]
    batch = Batch(definition.rows_of(inputs))
    settled = map_.settle(batch)
    out = [[_NAMES.get(int(c), "") for c in row] for row in settled.codes]
    for (r, i), value in settled.rationals():
        out[r][i] = str(of_fraction(value, digits))
    bits, cap = _precisions(digits, batch.n, max_bits)
    for r, part in _open_rows(batch, settled):
        columns = np.flatnonzero(settled.codes[r] == FORMULA).tolist()
        for i, rounded in _row(map_, part, columns, digits, bits, cap).items():
            out[r][i] = str(rounded)
    if definition.elementwise:
        n = np.shape(inputs["x"])[1]
        return [[row[0] for row in out[r * n : r * n + n]] for r in range(len(inputs["x"]))]
    return out


def reduced(op: str, inputs: Mapping[str, NDArray[Any]], digits: int, *, mean: bool = False) -> str:
    """The sum or the mean of all values of an op, as :func:`decimal` writes it.

    Raises
    ------
    Undecided
        If the values cancel, or nearly so, to something that no precision tells from a boundary.
    """
    check_subnormals()
    definition = ops.get(op)
    map_ = definition.maps["value", "-"]
    batch = Batch(definition.rows_of(inputs))
    settled = map_.settle(batch)
    codes = set(settled.codes.ravel().tolist())
    for code in (NAN, UNDEFINED):
        if code in codes:
            return _NAMES[code]
    infinite = codes & {POS_INF, NEG_INF}
    if infinite:
        return _NAMES[infinite.pop()] if len(infinite) == 1 else "undefined"
    count = settled.codes.size if mean else 1
    known = sum((value for _, value in settled.rationals()), Fraction(0)) / max(count, 1)
    rows = [part for _, part in _open_rows(batch, settled)]
    if not rows:
        return str(of_fraction(known, digits)) if known else _NAMES[ZERO]
    bits, cap = _precisions(digits, batch.n + len(rows), None)
    while bits <= cap:
        value = of_sum(map_, rows, known, count, Multiprecision(bits), digits)
        if isinstance(value, Decimal):
            return str(value)
        bits *= 2
    raise Undecided(f"the sum is not decided to {digits} digits at {cap} bits")


def of_sum(
    map_: Map, rows: Sequence[Batch], known: Fraction, count: int, a: Multiprecision, digits: int
) -> Decimal | Halfway | None:
    """known + (the sum of all results of some rows) / count."""
    total = a.dyadic(known.numerator, 0) / a.dyadic(known.denominator, 0)
    try:
        for part in rows:
            total = total + a.sum(map_.formula(a, part)) / a.dyadic(count, 0)
    except TooWide:
        return None
    return of_ball(total.mid[0, 0], total.rad[0, 0], digits, a.bits)


def _precisions(digits: int, n: int, max_bits: int | None) -> tuple[int, int]:
    """The first precision, and the last."""
    needed = bits_for(digits) + n.bit_length() + 40
    return needed, max_bits or max(MAX_BITS, 4 * needed)


def _open_rows(batch: Batch, settled: Settled) -> list[tuple[int, Batch]]:
    """The rows that have to be evaluated, as batches of one row."""
    rows = np.flatnonzero((settled.codes == FORMULA).any(axis=1)).tolist()
    return [
        (r, Batch({name: np.asarray(a)[[r]] for name, a in batch.inputs.items()})) for r in rows
    ]


def _row(
    map_: Map, part: Batch, columns: Sequence[int], digits: int, bits: int, cap: int
) -> dict[int, Decimal]:
    """The elements of one row that are not settled."""
    found: dict[int, Decimal] = {}
    while len(found) < len(columns):
        if bits > cap:
            x = [float(v).hex() for v in part.x[0, :8]]
            raise Undecided(f"not decided to {digits} digits at {cap} bits; first x = {x}")
        a = Multiprecision(bits)
        try:
            ball: Ball | None = map_.formula(a, part)
        except TooWide:
            ball = None
        for i in columns:
            value = None if i in found else _element(map_, a, part, i, ball, digits)
            if value is not None:
                found[i] = value
        bits *= 2
    return found


def _element(
    map_: Map, a: Multiprecision, part: Batch, i: int, ball: Ball | None, digits: int
) -> Decimal | None:
    """An element by its ball; where that stays wide by the quotient, near a boundary by a side."""
    near = None
    if ball is not None:
        near = of_ball(ball.mid[0, i], ball.rad[0, i], digits, a.bits)
    if near is None and map_.quotient is not None and a.bits >= QUOTIENT_BITS:
        try:
            exact = map_.quotient(part, i).value(a)
            near = of_ball(exact.mid[0, 0], exact.rad[0, 0], digits, a.bits)
        except TooWide:
            pass
    if isinstance(near, Halfway):
        boundary = near.boundary
        sign = 0 if boundary is None else side(map_, a, part, i, boundary)
        return near.decide(sign) if sign else None
    return near
