"""What an operator is made of, and the row of logits that most of them start from.

An :class:`Op` is a table of maps, one per derivative and argument. A :class:`Map` says the same
thing several times, so that the sayings can be held against each other:

definition
    the textbook, a few lines of mpmath: the specification. Naive, hence usable only at a precision
    that outweighs its cancellation.
formula
    the same map, cancellation-free, over the arithmetic interface: what the oracle evaluates, and
    the source of the strong error bound.
textbook
    the shifted algorithm that a sound implementation uses, over the bound arithmetic: the source
    of the weak error bound.
settle
    every element whose value needs no evaluation: rational results, limits at infinity, NaN.

What no precision of the formula tells apart is told by ``quotient``, ``excess`` and ``between``.

Notation: x logits of one row, m = max x, d = x - m, e = exp(d), S = sum e = 1 + t, s = e / S,
l = log_softmax(x), g the cotangent.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..arithmetic.base import F64, Mask
from ..arithmetic.bounds import Bound, BoundArithmetic

if TYPE_CHECKING:
    from .exponential import Quotient

T = TypeVar("T")

FORMULA, ZERO, EXACT, POS_INF, NEG_INF, NAN, UNDEFINED = range(7)
"""How an element is settled: evaluate the formula, or a value known without evaluation."""


@dataclass(eq=False)
class Settled:
    """Codes of every element, and the rational values behind ``EXACT``."""

    codes: NDArray[np.uint8]
    fractions: dict[tuple[int, int], Fraction] = field(default_factory=dict)
    words: tuple[F64, F64, NDArray[np.int64]] | None = None
    """(hi, lo, exponent) of whole arrays, exactly (hi + lo) 2^exponent: for ``EXACT`` elements that
    have no fraction."""

    @classmethod
    def formula(cls, shape: tuple[int, int]) -> Settled:
        return cls(np.full(shape, FORMULA, np.uint8))

    def exact(self, row: int, index: int, value: Fraction) -> None:
        """Settle an element as a rational; a later word on it replaces an earlier one."""
        if value == 0:
            self.codes[row, index] = ZERO
        else:
            self.codes[row, index] = EXACT
            self.fractions[row, index] = value

    def rationals(self) -> Iterator[tuple[tuple[int, int], Fraction]]:
        """The indices and values of all ``EXACT`` elements."""
        for row, index in np.argwhere(self.codes == EXACT).tolist():
            value = self.fractions.get((row, index))
            if value is None:
                assert self.words is not None
                hi, lo, exponent = (w[row, index] for w in self.words)
                value = (Fraction(float(hi)) + Fraction(float(lo))) * Fraction(2) ** int(exponent)
            yield (row, index), value


_SHORT = 48  # classes up to which NumPy's loop over one row is all overhead


def over_rows(
    ufunc: np.ufunc, values: NDArray[Any], dtype: Any = None, **options: Any
) -> NDArray[Any]:
    """``ufunc.reduce`` over the classes, (B,); short rows are turned over, ten times faster."""
    if values.shape[1] > _SHORT:
        return np.asarray(ufunc.reduce(values, axis=1, dtype=dtype, **options))
    turned = np.ascontiguousarray(values.T)
    return np.asarray(ufunc.reduce(turned, axis=0, dtype=dtype, **options))


class Batch:
    """Rows of one length with their parameters, as float64 arrays.

    Parameters
    ----------
    inputs : mapping of str to ndarray
        ``x`` of shape (B, n) always; ``target`` (B, n), ``label`` (B,), ``g`` (B, n) or (B,),
        tangents ``v_x``, ``v_target`` and so on like their arguments. Where there is a ``mask``
        (B, n), what it drops counts as -inf in x and as 0 in ``g`` and ``v_x``.
    """

    def __init__(self, inputs: Mapping[str, NDArray[Any]]) -> None:
        self.inputs = dict(inputs)
        self._kept: dict[Hashable, Any] = {}
        self.x: F64 = np.asarray(inputs["x"], np.float64)
        if self.x.ndim != 2:
            raise ValueError(f"x must have shape (rows, classes), not {self.x.shape}")
        self.rows, self.n = self.x.shape
        if "mask" in inputs:
            self.x = np.where(self.mask, self.x, -np.inf)

    def take(self, rows: Any) -> Batch:
        """Some of the rows (an index or a slice)."""
        return Batch({name: np.asarray(a)[rows] for name, a in self.inputs.items()})

    @cached_property
    def mask(self) -> Mask:
        """Entries that take part."""
        if "mask" not in self.inputs:
            return np.ones(self.x.shape, bool)
        return np.asarray(np.asarray(self.inputs["mask"]) != 0)

    @cached_property
    def g(self) -> F64:
        """The cotangent, (B, n), or (B, 1) for ops with one result per row."""
        g = np.asarray(self.inputs["g"], np.float64)
        g = g if g.ndim == 2 else g.reshape(self.rows, 1)
        return self._finite("g", g)

    def tangent(self, argument: str = "x") -> F64:
        """The tangent of an argument, (B, n)."""
        v = np.asarray(self.inputs[f"v_{argument}"], np.float64)
        return self._finite(f"v_{argument}", v)

    def _finite(self, name: str, values: F64) -> F64:
        """Cotangents or tangents, 0 where a mask drops the entry; ValueError beside inf or NaN."""
        if "mask" in self.inputs:
            values = np.where(self.mask, values, 0.0)
        if not np.isfinite(values).all():
            raise ValueError(f"{name} must be finite: it is a direction, not a limit")
        return values

    @cached_property
    def target(self) -> F64:
        """Soft targets; a label becomes its one-hot row."""
        if "label" in self.inputs:
            label = np.asarray(self.inputs["label"], np.int64).reshape(self.rows)
            if self.rows and (label.min() < 0 or label.max() >= self.n):
                raise ValueError("label outside [0, classes)")
            return np.asarray(np.arange(self.n) == label[:, None], np.float64)
        return np.asarray(self.inputs["target"], np.float64)

    # ---------------------------------------------------------- what kind of row it is

    @cached_property
    def kept(self) -> Mask:
        """Entries that are neither -inf nor special."""
        return np.isfinite(self.x)

    @cached_property
    def whole(self) -> bool:
        """Every entry is kept: what most batches are, and then masks need not be applied."""
        return bool(self.kept.all())

    @cached_property
    def count(self) -> NDArray[np.int64]:
        """Finite entries per row."""
        if self.whole:
            return np.full(self.rows, self.n, np.int64)
        return np.asarray(over_rows(np.add, self.kept, np.int64))

    @cached_property
    def has_nan(self) -> Mask:
        if self.whole:
            return np.zeros(self.rows, bool)
        return np.asarray(over_rows(np.logical_or, np.isnan(self.x)))

    @cached_property
    def infinities(self) -> NDArray[np.int64]:
        """+inf entries per row."""
        if self.whole:
            return np.zeros(self.rows, np.int64)
        return np.asarray(over_rows(np.add, self.x == np.inf, np.int64))

    @cached_property
    def regular(self) -> Mask:
        """Rows that the formula covers: no NaN, no +inf, something finite."""
        return np.asarray(~self.has_nan & (self.infinities == 0) & (self.count > 0))

    @cached_property
    def finite_x(self) -> F64:
        """x with everything that is not finite replaced by the row's maximum (0 if none)."""
        return self.x if self.whole else np.where(self.kept, self.x, self.m)

    @cached_property
    def m(self) -> F64:
        """The largest finite entry of each row, (B, 1); 0 where there is none."""
        x = self.x if self.whole else np.where(self.kept, self.x, -np.inf)
        low = over_rows(np.maximum, x, initial=-np.inf)
        return np.where(np.isfinite(low), low, 0.0)[:, None]

    @cached_property
    def top(self) -> Mask:
        """One-hot: the first finite entry that equals the maximum."""
        is_max = self.x == self.m if self.whole else self.kept & (self.x == self.m)
        top = np.zeros(self.x.shape, bool)
        if self.n:
            rows = np.arange(self.rows), np.argmax(is_max, axis=1)
            top[rows] = is_max[rows]
        return top

    @cached_property
    def equal(self) -> Mask:
        """Regular rows whose finite entries are all the same (a single one included)."""
        same = over_rows(np.logical_and, self.finite_x == self.m)
        return np.asarray(self.regular & same)

    def once(self, name: Hashable, make: Callable[[], T]) -> T:
        """What ``make`` returns, kept under this name for the lifetime of the batch."""
        if name not in self._kept:
            self._kept[name] = make()
        found: T = self._kept[name]
        return found


class Logits:
    """The shifted row in an arithmetic: d, e, t, S, s and l, none of them by cancellation."""

    def __init__(self, arithmetic: Any, batch: Batch) -> None:
        self.a, self.batch = arithmetic, batch
        self.zero = arithmetic.exact(np.zeros((1, 1)))
        self.one = arithmetic.exact(np.ones((1, 1)))

    @cached_property
    def d(self) -> Any:
        return self.a.difference(self.batch.finite_x, self.batch.m)

    @cached_property
    def e(self) -> Any:
        if "d" in self.__dict__:
            e = self.a.exp(self.d)
        else:
            e = self.a.exp_difference(self.batch.finite_x, self.batch.m)
        return e if self.batch.whole else self.a.where(self.batch.kept, e, self.zero)

    @cached_property
    def t(self) -> Any:
        """The sum without the first maximum: never S - 1."""
        return self.a.sum(self.a.where(self.batch.top, self.zero, self.e))

    @cached_property
    def S(self) -> Any:
        return self.one + self.t

    @cached_property
    def s(self) -> Any:
        return self.e / self.S

    @cached_property
    def l(self) -> Any:  # noqa: E743 - the contract's name
        """d - log1p(t): both terms are <= 0."""
        return self.d - self.a.log1p(self.t)


class Textbook:
    """The shifted row as a sound implementation computes it, in the bound arithmetic.

    A row without anything finite counts as equal logits: what does not depend on it, as a result of
    two rows may not, has a bound whatever it is.
    """

    def __init__(self, arithmetic: BoundArithmetic, batch: Batch) -> None:
        self.a, self.batch = arithmetic, batch
        self.zero = arithmetic.exact(np.zeros((1, 1)))

    @cached_property
    def d(self) -> Bound:
        return self.a.difference(self.batch.finite_x, self.batch.m)

    @cached_property
    def e(self) -> Bound:
        return self.a.where(self._kept, self.a.exp(self.d), self.zero)

    @cached_property
    def _kept(self) -> Mask:
        return np.asarray(self.batch.kept | (self.batch.count == 0)[:, None])

    @cached_property
    def log_sum(self) -> Bound:
        return self.a.log(self.a.sum(self.e))

    @cached_property
    def l(self) -> Bound:  # noqa: E743 - the contract's name
        return self.d - self.log_sum

    @cached_property
    def quotient(self) -> Bound:
        """Softmax by e / S, as the forward op computes it."""
        return self.e / self.a.sum(self.e)

    @cached_property
    def s(self) -> Bound:
        """Softmax inside a derivative: the worse of e / S and exp(l)."""
        by_log = self.a.where(self._kept, self.a.exp(self.l), self.zero)
        return self.a.worse(self.quotient, by_log)


Formula = Callable[[Any, Batch], Any]


@dataclass(frozen=True)
class Map:
    """One map of an op: its value, or a derivative with respect to one argument.

    Attributes
    ----------
    definition : callable (mp, row) -> list of mpf
        ``mp`` an mpmath context, ``row`` a mapping of the inputs of one row. Finite logits and
        -inf only.
    formula : callable (arithmetic, batch) -> numbers of shape (B, k)
    textbook : callable (bound arithmetic, batch) -> Bound of shape (B, k)
    settle : callable (batch) -> Settled
    quotient : callable (batch of one regular row, index) -> Quotient, optional
        The result as a quotient of sums of exponentials, exactly
        (:mod:`reference.ops.exponential`): for results without a logarithm.
    excess : callable (arithmetic, batch of one regular row, index, Fraction) -> number, optional
        A positive multiple of ``r_i - b`` in which everything rational is exact. It tells on which
        side of a rounding boundary b the result lies where no precision would: masked logits of
        -1e9 move the probabilities of two equal logits below 1/2, but not within a million bits.
        By default the quotient's.
    between : callable (batch) -> (F64, F64), optional
        Numbers strictly between which each result lies (infinite where nothing is known), for
        results that are not rational: 0 < sigmoid(x) < 1. No ball around 1 can tell.
    """

    definition: Callable[[Any, Mapping[str, Any]], list[Any]]
    formula: Formula
    textbook: Callable[[BoundArithmetic, Batch], Bound]
    settle: Callable[[Batch], Settled]
    quotient: Callable[[Batch, int], Quotient] | None = None
    excess: Callable[[Any, Batch, int, Fraction], Any] | None = None
    between: Callable[[Batch], tuple[F64, F64]] | None = None

    def side(self, a: Any, batch: Batch, index: int, boundary: Fraction) -> Any:
        """``excess``, or None for a map that has none."""
        if self.excess is not None:
            return self.excess(a, batch, index, boundary)
        if self.quotient is not None:
            return self.quotient(batch, index).excess(a, boundary)
        return None


@dataclass(frozen=True)
class Op:
    """A mathematical operator with a contract.

    Attributes
    ----------
    name : str
    inputs : tuple of str
        Names of the inputs of one row, in the order of the signature.
    differentiable : tuple of str
        The arguments that derivatives are taken to.
    per_row : bool
        True where the result is one number per row.
    maps : mapping of (derivative, argument) to Map
        The value's argument is ``-``.
    elementwise : bool
        Every element stands for itself; inputs and results are arrays (B, n) alike.
    optional : tuple of str
        Inputs that may be left out.
    """

    name: str
    inputs: tuple[str, ...]
    differentiable: tuple[str, ...]
    per_row: bool
    maps: Mapping[tuple[str, str], Map]
    elementwise: bool = False
    optional: tuple[str, ...] = ()

    def needs(self, derivative: str, argument: str) -> tuple[str, ...]:
        """The inputs of a map: the op's own, the cotangent ``g`` and the tangent ``v_...``."""
        names = list(self.inputs)
        if derivative in ("vjp", "hvp"):
            names.append("g")
        if derivative in ("jvp", "hvp"):
            names.append("v_" + argument.rsplit(".", 1)[-1])
        return tuple(names)

    def given(
        self, inputs: Mapping[str, NDArray[Any]], derivative: str, argument: str
    ) -> dict[str, NDArray[Any]]:
        """Those of the inputs that a map depends on: a case has tangents that a vjp does not."""
        return {k: inputs[k] for k in self.needs(derivative, argument) if k in inputs}

    def rows_of(self, inputs: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        """Inputs as rows that can be evaluated apart: one element each for elementwise ops."""
        if not self.elementwise:
            return inputs
        shape = np.shape(inputs["x"])
        return {
            name: np.broadcast_to(np.asarray(a, np.float64), shape).reshape(-1, 1)
            for name, a in inputs.items()
        }


# ---------------------------------------------------------------- shared pieces of formulas


def residual(row: Logits, values: F64) -> Any:
    """v_i - s_i V with V = sum v, without cancellation that is not the mathematics' own.

    The first maximum has s_i = 1 - c near 1 and takes c V - (V - v_i), the sum of the others being
    exact; everywhere else s_i <= 1/2 and the plain form is safe.
    """
    a, top = row.a, row.batch.top
    total = a.total(values)
    rest = a.total(np.where(top, 0.0, values))
    at_top = row.t / row.S * total - rest
    return a.where(top, at_top, a.exact(values) - row.s * total)


def sums_to_zero(values: F64) -> Mask:
    """Rows whose exact sum is 0, of finite values (B, n).

    :func:`math.fsum` rounds correctly, so it is 0 for a sum of 0 only; it is asked where the sum
    in float64 does not exclude that.
    """
    with np.errstate(all="ignore"):
        size = np.abs(values).sum(axis=1)
        zero: Mask = ~(np.abs(values.sum(axis=1)) > 1e-9 * size)
    for r in np.flatnonzero(zero & ~(size == 0)).tolist():
        zero[r] = _exact_sum_is_zero(values[r].tolist())
    return zero


def _exact_sum_is_zero(values: list[float]) -> bool:
    try:
        return math.fsum(values) == 0
    except OverflowError:  # of an intermediate sum
        return fraction_total(np.array(values)) == 0


def fraction_total(values: F64) -> Fraction:
    """The exact sum of float64 values."""
    distinct, counts = np.unique(values, return_counts=True)
    pairs = zip(distinct.tolist(), counts.tolist(), strict=True)
    return sum((Fraction(v) * n for v, n in pairs), Fraction(0))


def settle_linear(
    out: Settled,
    row: int,
    index: NDArray[np.intp],
    values: F64,
    scale: Fraction | int = 1,
    shift: Fraction | int = 0,
) -> None:
    """Settle elements whose result is scale * value + shift; equal values are computed once."""
    distinct, which = np.unique(values[index], return_inverse=True)
    results = [scale * Fraction(v) + shift for v in distinct.tolist()]
    for i, k in zip(index.tolist(), which.tolist(), strict=True):
        out.exact(row, i, results[k])


def mpf_row(mp: Any, values: Any) -> list[Any]:
    """Float64 values as mpf, exactly."""
    return [mp.mpf(float(v)) for v in values]
