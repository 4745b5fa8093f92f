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

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import mpmath
import numpy as np
from mpmath import libmp
from numpy.typing import NDArray

from . import formats, ops
from .arithmetic.multiprecision import Ball, Multiprecision, TooWide
from .formats import F64, I64, Format
from .ops.base import EXACT, FORMULA, NAN, NEG_INF, POS_INF, UNDEFINED, ZERO, Batch, Map, Settled

MAX_BITS = 1 << 14
"""Where escalation stops and :class:`Undecided` is raised."""

_SIGN_BITS = 1 << 11
_TIGHT = 20  # balls end up narrower than 2^-20 ulp
_FAR = 1 << 62  # exponents are kept within this; no format cares beyond

Parts = tuple[float, float, int]
"""(hi, lo, exponent)"""


class Undecided(ArithmeticError):
    """An element could not be decided at the cap of the precision."""


class FlushToZero(RuntimeError):
    """This thread flushes subnormals to zero, so no reference can be computed here."""


@dataclass(frozen=True, eq=False)
class References:
    """Exact answers of a batch, shape (B, k).

    The value of a ``FORMULA`` or ``EXACT`` element is ``(hi + lo) * 2^exponent`` to 1e-6 ulp of the
    format it was evaluated for, ``hi`` being the value rounded to 53 bits and ``lo`` having the
    sign of what remains. Zero, infinities, NaN and undefined elements are told by ``codes``.

    Attributes
    ----------
    hi, lo : ndarray of float64
    exponent : ndarray of int64
    codes : ndarray of uint8
        See :mod:`reference.ops.base`.
    format : Format
    """

    hi: F64
    lo: F64
    exponent: I64
    codes: NDArray[np.uint8]
    format: Format

    @property
    def shape(self) -> tuple[int, ...]:
        return self.codes.shape

    @property
    def finite(self) -> NDArray[np.bool_]:
        return np.isin(self.codes, (FORMULA, EXACT, ZERO))

    @property
    def nan(self) -> NDArray[np.bool_]:
        return self.codes == NAN

    @property
    def undefined(self) -> NDArray[np.bool_]:
        return self.codes == UNDEFINED

    def rounded(self, fmt: Format | None = None) -> F64:
        """The correctly rounded results, NaN where NaN or undefined."""
        value = formats.round_expansion(fmt or self.format, self.hi, self.lo, self.exponent)
        return self._special(value)

    def approximate(self) -> F64:
        """The nearest float64, for display and plots (infinity beyond float64's range)."""
        return self.rounded(formats.FORMATS["float64"])

    def _special(self, value: F64) -> F64:
        for code, special in ((ZERO, 0.0), (POS_INF, np.inf), (NEG_INF, -np.inf),
                              (NAN, np.nan), (UNDEFINED, np.nan)):  # fmt: skip
            value = np.where(self.codes == code, special, value)
        return value

    def rows(self, index: Any) -> References:
        """The references of some rows."""
        return References(
            self.hi[index], self.lo[index], self.exponent[index], self.codes[index], self.format
        )


def join(parts: Sequence[References]) -> References:
    """References of several batches of one format, one below the other."""
    return References(
        np.concatenate([p.hi for p in parts]),
        np.concatenate([p.lo for p in parts]),
        np.concatenate([p.exponent for p in parts]),
        np.concatenate([p.codes for p in parts]),
        parts[0].format,
    )


def check_subnormals() -> None:
    """Raise :class:`FlushToZero` where this thread's flush-to-zero bit is on."""
    smallest = np.nextafter(np.zeros(1), 1.0)
    if (smallest * np.ones(1))[0] == 0 or (smallest + smallest)[0] == 0:
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
    map_ = ops.get(op).maps[derivative, argument]
    batch = Batch(inputs)
    settled = map_.settle(batch)
    out = _Output(settled, fmt)
    pending = np.flatnonzero((settled.codes == FORMULA).any(axis=1))
    bits = fmt.precision + max(1, batch.n).bit_length() + 40
    while pending.size:
        if bits > max_bits:
            raise Undecided(
                f"{op} {derivative} {argument}: {pending.size} rows undecided at {max_bits} bits "
                f"for {fmt.name}; first x = {[float(v).hex() for v in batch.x[pending[0], :8]]}"
            )
        pending = _attempt(map_, batch, pending, bits, out)
        bits *= 2
    return out.references()


def _attempt(map_: Map, batch: Batch, pending: Any, bits: int, out: _Output) -> Any:
    """Evaluate the pending rows at one precision; the rows that need more come back."""
    part = Batch({name: np.asarray(a)[pending] for name, a in batch.inputs.items()})
    try:
        ball: Ball = map_.formula(Multiprecision(bits), part)
    except TooWide:
        return pending
    undecided = []
    for k, row in enumerate(pending):
        if not out.take(int(row), ball[k], _SignTest(map_, part, k, bits, out.format)):
            undecided.append(row)
    return np.array(undecided, np.intp)


class _SignTest:
    """Decides elements of one row by the side of the rounding boundary that they lie on."""

    def __init__(self, map_: Map, batch: Batch, row: int, bits: int, fmt: Format) -> None:
        self.excess, self.format, self.batch, self.index = map_.excess, fmt, batch, row
        self.arithmetic = Multiprecision(bits)

    def rounding(self, index: int, mid: Any, rad: Any) -> Parts | None:
        """(hi, lo, exponent) of an undecided element, or None where it stays so."""
        at = boundary(self.format, mid, rad) if self.arithmetic.bits >= _SIGN_BITS else None
        return None if at is None else self._beside(index, *at)

    def binade(self, index: int, mid: Any, rad: Any) -> Parts | None:
        """The same of a decided element whose ball holds a power of two, where the ulp changes."""
        at = power_of_two(self.format, mid, rad)
        return None if at is None else self._beside(index, *at)

    def _beside(self, index: int, man: int, exp: int) -> Parts | None:
        if self.excess is None:
            return None
        row = Batch({name: np.asarray(a)[[self.index]] for name, a in self.batch.inputs.items()})
        try:
            side = self.excess(self.arithmetic, row, index, self.arithmetic.dyadic(man, exp))
        except TooWide:
            return None
        value, error = side.mid[0, 0], side.rad[0, 0]
        sign = int(libmp.mpf_sign(value))
        if not sign or libmp.mpf_le(libmp.mpf_abs(value), error):
            return None
        return _expand(man, exp, sign) if man else (0.5 * sign, 0.0, -_FAR)


class _Output:
    """Collects decided elements as (hi, lo, exponent)."""

    def __init__(self, settled: Settled, fmt: Format) -> None:
        self.format = fmt
        self.codes = settled.codes
        self.hi = np.zeros(self.codes.shape)
        self.lo = np.zeros(self.codes.shape)
        self.exponent = np.zeros(self.codes.shape, np.int64)
        for index, value in settled.fractions.items():
            if self.codes[index] == EXACT:
                self._store(index, *expand_fraction(value))

    def _store(self, index: tuple[int, int], hi: float, lo: float, exponent: int) -> None:
        self.hi[index], self.lo[index], self.exponent[index] = hi, lo, exponent

    def take(self, row: int, ball: Ball, sign: _SignTest) -> bool:
        """Store a row if all its elements are decided, by their balls or by a sign."""
        found = {}
        for i in np.flatnonzero(self.codes[row] == FORMULA):
            mid, rad = ball.mid[i], ball.rad[i]
            if decided(self.format, mid, rad):
                found[row, int(i)] = sign.binade(int(i), mid, rad) or expand_mpf(mid)
            elif (parts := sign.rounding(int(i), mid, rad)) is None:
                return False
            else:
                found[row, int(i)] = parts
        for index, parts in found.items():
            self._store(index, *parts)
        return True

    def references(self) -> References:
        return References(self.hi, self.lo, self.exponent, self.codes, self.format)


def round_element(refs: References, row: int, index: int) -> float:
    """The correctly rounded value of one element by scalar integer arithmetic.

    The same as :meth:`References.rounded`, by another way: for checks of one by the other.
    """
    code = int(refs.codes[row, index])
    if code not in (FORMULA, EXACT):
        special = {ZERO: 0.0, POS_INF: math.inf, NEG_INF: -math.inf}
        return special.get(code, math.nan)
    man = int(math.ldexp(float(refs.hi[row, index]), 53))
    lo = float(refs.lo[row, index])
    sticky = (lo > 0) - (lo < 0)
    return formats.round_integer(refs.format, man, int(refs.exponent[row, index]) - 53, sticky)


def decided(fmt: Format, mid: Any, rad: Any) -> bool:
    """Do both ends of the ball round alike, is its sign known, is it below 2^-20 ulp wide?"""
    _, man, exp, bc = mid
    if not man:
        return False
    low = libmp.mpf_sub(libmp.mpf_abs(mid), rad)
    if libmp.mpf_sign(low) < 0:
        return False
    if rad == libmp.fzero:
        return True
    leading = max(exp + bc - 1, fmt.emin)
    if rad[2] + rad[3] > leading - fmt.precision + 1 - _TIGHT:
        return False
    high = libmp.mpf_add(libmp.mpf_abs(mid), rad)
    # The truth is no dyadic rational, so it lies strictly between the ends.
    below = formats.round_integer(fmt, int(low[1]), int(low[2]), 1)
    above = formats.round_integer(fmt, int(high[1]), int(high[2]), -1)
    return below == above or (math.isnan(below) and math.isnan(above))


def boundary(fmt: Format, mid: Any, rad: Any) -> tuple[int, int] | None:
    """The one rounding boundary (or 0) in a ball narrower than 2^-20 ulp, as man * 2^exp."""
    _, man, exp, bc = mid
    leading = max(exp + bc - 1 if man else fmt.emin, fmt.emin)
    if rad[2] + rad[3] > leading - fmt.precision + 1 - _TIGHT:
        return None
    if libmp.mpf_le(libmp.mpf_abs(mid), rad):
        return 0, 0
    # Boundaries are the odd multiples of half a quantum; powers of two, where it changes, are none.
    half = leading - fmt.precision
    scaled = libmp.mpf_shift(mid, -half)
    nearest = int(libmp.to_int(scaled, "n"))
    gap = libmp.mpf_abs(libmp.mpf_sub(scaled, libmp.from_int(nearest)))
    if nearest % 2 and libmp.mpf_le(gap, libmp.mpf_shift(rad, -half)):
        return nearest, half
    return None


def power_of_two(fmt: Format, mid: Any, rad: Any) -> tuple[int, int] | None:
    """The power of two in a ball, as man * 2^exp, where the ulp is another on its two sides."""
    sign = mid[0]
    high = libmp.mpf_add(libmp.mpf_abs(mid), rad, 64, "u")
    low = libmp.mpf_sub(libmp.mpf_abs(mid), rad)
    leading = high[2] + high[3] - 1
    if rad == libmp.fzero or leading <= fmt.emin or low[2] + low[3] - 1 == leading:
        return None
    return (-1 if sign else 1), leading


def expand_mpf(value: Any) -> Parts:
    """A raw mpmath number as (hi, lo, exponent)."""
    sign, man, exp, _ = value
    return _expand(int(-man if sign else man), int(exp), 0)


def expand_fraction(value: Fraction) -> Parts:
    """A rational as (hi, lo, exponent)."""
    num, den = abs(value.numerator), value.denominator
    shift = max(0, den.bit_length() - num.bit_length() + 128)
    man, rest = divmod(num << shift, den)
    return _expand(-man if value < 0 else man, -shift, (rest != 0) * (-1 if value < 0 else 1))


def _expand(man: int, exp: int, sticky: int) -> Parts:
    """(man + sticky * epsilon) * 2^exp as hi in [0.5, 1), lo with the right sign, exponent."""
    if man == 0:
        return 0.0, 0.0, 0
    length = man.bit_length()
    # Scaled to [0.5, 1): float(Fraction) rounds correctly, and no exponent can overflow here.
    scaled = formats.round_integer(formats.FORMATS["float64"], man, -length, sticky)
    rest = man - int(math.ldexp(scaled, 53)) * (1 << (length - 53)) if length > 53 else 0
    lo = formats.round_integer(formats.FORMATS["float64"], rest, -length, sticky)
    exponent = exp + length
    if abs(scaled) == 1.0:
        scaled, lo, exponent = scaled / 2, lo / 2, exponent + 1
    if lo == 0 and (rest or sticky):
        lo = 5e-324 if (rest or sticky) > 0 else -5e-324
    return scaled, lo, max(-_FAR, min(_FAR, exponent))


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
    map_ = ops.get(op).maps[derivative, argument]
    batch = Batch(inputs)
    settled = map_.settle(batch)
    names = {ZERO: "0", POS_INF: "inf", NEG_INF: "-inf", NAN: "nan", UNDEFINED: "undefined"}
    out = [[names.get(int(c), "") for c in row] for row in settled.codes]
    for (r, i), value in settled.fractions.items():
        if settled.codes[r, i] == EXACT:
            out[r][i] = _fraction_text(value, digits)
    needed = int(digits * 3.33) + batch.n.bit_length() + 40
    cap = max_bits or max(MAX_BITS, 4 * needed)
    for r in np.flatnonzero((settled.codes == FORMULA).any(axis=1)):
        part = Batch({name: np.asarray(a)[[r]] for name, a in batch.inputs.items()})
        columns = np.flatnonzero(settled.codes[r] == FORMULA)
        for i, text in zip(columns, _decimal_row(map_, part, columns, digits, needed, cap),
                           strict=True):  # fmt: skip
            out[r][i] = text
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
