"""Exact answers to situations: losses of rows with labels, weights and options, and their sums.

With label k, class weights w (1 where there are none), smoothing a over C classes, and soft
targets t in place of the one-hot row of k::

    b_c  = w_c ((1 - a) t_c + a / C)          row loss = -sum_c b_c l_c
    sum  = the sum of the rows that count     mean = that sum / D

D is the sum of w_k over the rows that are not ignored (their number, where there are no weights);
of soft targets it is the number of rows, whatever the targets sum to. Smoothing adds a / C to every
class whatever the target's sum is. With the cotangent G of a row's loss (g, or g / D for a mean)
the gradient to x is G (s_i sum(b) - b_i), that to the targets -G (1 - a) w_i l_i.

Every formula is free of cancellation that is not the mathematics' own, and evaluated in the
oracle's arithmetics until each result is decided. Settled without: ignored rows (exactly 0), rows
without any weight, cotangents of 0, targets whose weights sum to 0 (the log-sum-exp drops out, what
remains is rational), gradients of equal logits, limits at -inf. A row that counts and has nothing
finite is undefined where anything bears on it, and its gradients are in any case. Everything else
is transcendental: a sum of logarithms and rationals, or a quotient of exponentials (see
:mod:`reference.ops`), or all but rational: what no precision tells from a number that is rounded is
`Undecided`. These are, for now, sums and means over rows with signed targets whose logarithms
cancel between the rows, and gradients that are a power of two but for a term below 2^-16384 of it
(smoothing, logits 20,000 apart).

What the contract leaves to an implementation is in `Answer`: a label without a class, or a mean of
nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import fast, formats
from .arithmetic.binary64 import Binary64
from .arithmetic.doubledouble import DoubleDouble
from .arithmetic.multiprecision import Multiprecision, TooWide
from .escalation import MAX_BITS, Undecided, decided, power_of_two
from .formats import F64, Format
from .ops.base import EXACT, FORMULA, NAN, NEG_INF, POS_INF, UNDEFINED, ZERO
from .reduction_terms import Terms
from .references import (
    BINARY64,
    DOUBLE_DOUBLE,
    MULTIPRECISION,
    SETTLED,
    Parts,
    References,
    expand_fraction,
    expand_mpf,
)
from .situations.base import Situation

__all__ = ["MAPS", "Answer", "evaluate"]

MAPS = (("value", "-"), ("vjp", "x"), ("vjp", "target"))
Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Answer:
    """The exact answer to a situation, and what is accepted beside it.

    Attributes
    ----------
    references : References
        (N, 1) for the losses of rows, (1, 1) for a sum or a mean, (N, C) for a gradient.
    or_zero, or_infinite, or_nan : ndarray of bool
        Where 0, an infinity or NaN is as good as what `references` have.
    kinds : ndarray of str
        What kind of element it is, for the names of breaches.
    may_raise : bool
        A label names no class: raising is right.
    """

    references: References
    or_zero: Mask
    or_infinite: Mask
    or_nan: Mask
    kinds: NDArray[np.str_]
    may_raise: bool

    def accepted(self, result: F64) -> F64:
        """A result in which everything that is accepted is what the references have."""
        result = np.where(self.or_nan & np.isnan(result), self.references.rounded(), result)
        missing = (self.or_zero & (result == 0)) | (self.or_infinite & np.isinf(result))
        return np.asarray(np.where(missing, np.nan, result))

    def named(self, result: F64) -> NDArray[np.str_]:
        """`kinds`, and ``.zero`` after that of a mean of nothing which is answered with 0."""
        zero = self.or_infinite & (result == 0)
        return np.where(zero, np.char.add(self.kinds, ".zero"), self.kinds)


# ---------------------------------------------------------------- what needs no evaluation


class _Settling:
    """Codes and rational values of a map's results, as far as they are known."""

    def __init__(self, terms: Terms, argument: str) -> None:
        self.terms = terms
        if argument == "-":
            shape = (terms.rows, 1) if terms.reduction == "none" else (1, 1)
        else:
            shape = terms.x.shape
        self.codes = np.full(shape, FORMULA, np.uint8)
        self.fractions: dict[tuple[int, int], Fraction] = {}
        if argument == "-":
            self._value()
        elif argument == "x":
            self._vjp_x()
        else:
            self._vjp_target()

    def _set(self, row: int, index: int, value: Fraction | int | None) -> None:
        """A rational; a code; or None for what has to be evaluated."""
        if isinstance(value, Fraction):
            self.codes[row, index] = EXACT if value else ZERO
            if value:
                self.fractions[row, index] = value
        elif value is not None:
            self.codes[row, index] = value

    def _loss(self, row: int) -> Fraction | int | None:
        """The loss of a row."""
        terms = self.terms
        if terms.ignored[row]:
            return Fraction(0)
        if terms.invalid[row] or terms.has_nan[row]:
            return NAN
        bears = terms.bears[row]
        if not bears.any():
            return Fraction(0)
        if not terms.batch.count[row]:
            return UNDEFINED
        gone = bears & ~terms.batch.kept[row]
        if gone.any():
            # Beside an infinity only weights and targets >= 0 are judged.
            signs = [b for b, g in zip(terms.b_exactly(row), gone.tolist(), strict=True) if g]
            return POS_INF if min(signs) >= 0 else UNDEFINED
        if terms.batch.count[row] == 1:
            return Fraction(0)
        if terms.soft:
            b = terms.b_exactly(row)
            if not sum(b):
                pairs = zip(b, terms.x[row].tolist(), strict=True)
                return -sum((v * Fraction(x) for v, x in pairs if v), Fraction(0))
        return None

    def _value(self) -> None:
        terms = self.terms
        losses = [self._loss(row) for row in range(terms.rows)]
        if terms.reduction == "none":
            for row, loss in enumerate(losses):
                self._set(row, 0, loss)
        elif terms.of_nothing or NAN in _codes(losses):
            self._set(0, 0, NAN)
        elif UNDEFINED in _codes(losses):
            self._set(0, 0, UNDEFINED)
        elif POS_INF in _codes(losses):
            self._set(0, 0, POS_INF)
        elif all(isinstance(loss, Fraction) for loss in losses):
            total = sum((v for v in losses if isinstance(v, Fraction)), Fraction(0))
            self._set(0, 0, total / terms.denominator)

    def _vjp_x(self) -> None:
        terms, batch = self.terms, self.terms.batch
        for row in range(terms.rows):
            if terms.ignored[row]:
                self.codes[row] = ZERO
            elif terms.invalid[row] or terms.has_nan[row]:
                self.codes[row] = NAN
            elif terms.of_nothing or not batch.count[row]:
                self.codes[row] = UNDEFINED
            elif not terms.bears[row].any() or not terms.cotangent(row):
                self.codes[row] = ZERO
            elif terms.soft or batch.equal[row] or not batch.kept[row].all():
                self._gradient(row)

    def _gradient(self, row: int) -> None:
        """What is rational: targets that sum to 0, equal logits, entries at -inf."""
        terms, batch = self.terms, self.terms.batch
        scale, b = terms.cotangent(row), terms.b_exactly(row)
        total = sum(b, Fraction(0))
        share = total / int(batch.count[row])
        for i in range(terms.n):
            if not batch.kept[row, i]:
                self._set(row, i, -scale * b[i])
            elif batch.equal[row] or not total:
                self._set(row, i, scale * (share - b[i]))

    def _vjp_target(self) -> None:
        terms, batch = self.terms, self.terms.batch
        for row in range(terms.rows):
            factor = terms.cotangent(row) * (1 - Fraction(terms.smoothing))
            if terms.has_nan[row]:
                self.codes[row] = NAN
            elif not batch.count[row]:
                self.codes[row] = UNDEFINED
            elif not factor:
                self.codes[row] = ZERO
            else:
                kept, weightless = batch.kept[row], terms.weight == 0
                certain = kept & (batch.count[row] == 1)  # its logarithm is 0
                self.codes[row, weightless | certain] = ZERO
                positive = (terms.weight > 0) == (factor > 0)
                gone = ~(weightless | kept)
                self.codes[row, gone] = np.where(positive, POS_INF, NEG_INF)[gone]


def _codes(losses: list[Fraction | int | None]) -> set[int]:
    return {loss for loss in losses if isinstance(loss, int)}


# ---------------------------------------------------------------- evaluation


def evaluate(
    situation: Situation, derivative: str, argument: str, *, max_bits: int = MAX_BITS
) -> Answer:
    """The exact answer to a situation.

    Parameters
    ----------
    situation : Situation
        Logits of rows that count are finite, -inf or NaN.
    derivative, argument : str
        One of `MAPS`.

    Raises
    ------
    Undecided
        If some element is still undecided at ``max_bits``.
    """
    terms = Terms(situation)
    if (terms.counts[:, None] & (terms.x == np.inf)).any():
        raise ValueError(f"{situation.case_id}: +inf in a row that counts")
    settled = _Settling(terms, argument)
    references = _decide(terms, settled, formats.get(situation.format), argument, max_bits)
    return _answer(terms, references, derivative)


def _decide(
    terms: Terms, settled: _Settling, fmt: Format, argument: str, max_bits: int
) -> References:
    shape = settled.codes.shape
    hi, lo, exponent = np.zeros(shape), np.zeros(shape), np.zeros(shape, np.int64)
    tier = np.full(shape, SETTLED, np.uint8)
    for index, value in settled.fractions.items():
        hi[index], lo[index], exponent[index] = expand_fraction(value)
    open_ = settled.codes == FORMULA
    formula = terms.formula(argument)
    tiers: list[tuple[int, Any]] = [(DOUBLE_DOUBLE, DoubleDouble())]
    if fmt.precision <= 24:
        tiers.insert(0, (BINARY64, Binary64()))
    with np.errstate(all="ignore"):
        for name, arithmetic in tiers:
            if not open_.any():
                break
            found = fast.decide(formula(arithmetic), fmt)
            new = open_ & found.mask
            for array, values in ((hi, found.hi), (lo, found.lo), (exponent, found.exponent)):
                array[new] = np.broadcast_to(values, shape)[new]
            tier[new], open_ = name, open_ & ~new
    bits = fmt.precision + max(1, terms.n).bit_length() + 40
    while open_.any():
        if bits > max_bits:
            raise Undecided(f"{terms.situation.case_id}: undecided at {max_bits} bits")
        for index, parts in _attempt(formula, bits, open_, fmt).items():
            hi[index], lo[index], exponent[index] = parts
            tier[index], open_[index] = MULTIPRECISION, False
        bits *= 2
    return References(hi, lo, exponent, settled.codes, tier, fmt)


def _attempt(formula: Any, bits: int, open_: Mask, fmt: Format) -> dict[tuple[int, int], Parts]:
    """What one precision decides."""
    try:
        ball = formula(Multiprecision(bits))
    except TooWide:
        return {}
    found = {}
    for row, i in np.argwhere(open_).tolist():
        mid, rad = ball.mid[row, i], ball.rad[row, i]
        if decided(fmt, mid, rad) and power_of_two(fmt, mid, rad) is None:
            found[row, i] = expand_mpf(mid)
    return found


def _answer(terms: Terms, references: References, derivative: str) -> Answer:
    """What is accepted beside the references, and the kinds of elements."""
    shape = references.shape
    none = np.zeros(shape, bool)
    or_zero, or_infinite, or_nan = none.copy(), none.copy(), none.copy()
    kinds = np.array([_kind(terms, row) for row in range(terms.rows)])[:, None]
    if derivative == "vjp":
        or_zero |= terms.invalid[:, None]
        if terms.of_nothing:
            or_nan |= terms.ignored[:, None]
    elif terms.reduction != "none":
        or_infinite |= terms.of_nothing
        kinds = np.array([[_kind_of_all(terms, kinds[:, 0].tolist())]])
    return Answer(
        references, or_zero, or_infinite, or_nan, np.broadcast_to(kinds, shape),
        may_raise=bool(terms.invalid.any()),
    )  # fmt: skip


def _kind(terms: Terms, row: int) -> str:
    """What kind of row this is: ``ignored.nan_input``, ``invalid_label``, ``minus_inf``."""
    if terms.invalid[row]:
        return "invalid_label"
    x = terms.x[row]
    found = (
        ("nan_input", np.isnan(x)), ("plus_inf", x == np.inf), ("minus_inf", x == -np.inf)
    )  # fmt: skip
    kind = next((name for name, where in found if where.any()), "finite")
    return f"ignored.{kind}" if terms.ignored[row] else kind


def _kind_of_all(terms: Terms, kinds: list[str]) -> str:
    """What kind of batch a sum or a mean is of."""
    if terms.of_nothing:
        return "zero_denominator"
    for name in ("invalid_label", "nan_input", "minus_inf"):
        if name in kinds:
            return name
    poisoned = [k for k in kinds if k.startswith("ignored.") and k != "ignored.finite"]
    return f"beside_{poisoned[0]}" if poisoned else "finite"
