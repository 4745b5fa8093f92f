"""References and bounds of batches, kept in memory while there is room.

No disk cache: at the oracle's speed an answer that was right once and is believed for ever is the
larger risk. Only the processes of one run share what took long (:mod:`conformance.shelf`).
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from conformance.shelf import Shelf
from reference import bounds, cases, oracle, reduction_bounds, reductions
from reference.bounds import Bounds
from reference.cases import Case
from reference.formats import Format
from reference.oracle import References
from reference.situations import Situation

A = TypeVar("A", References, Bounds, reductions.Answer)
Arrays = list[NDArray[Any]]

_Kept = References | Bounds | reductions.Answer

_CACHED_ELEMENTS = 8_000_000
_WORTH_SHARING = 0.005
"""Seconds from which on an answer is left for the other processes of a run; reading takes less."""


@dataclass(frozen=True)
class Question:
    """One map of an op in one format: what references and bounds depend on beside the rows."""

    op: str
    derivative: str
    argument: str
    format: Format


class Answers:
    """References and bounds of batches, computed once and kept while there is room.

    Benches in several threads may share one: mpmath's precision belongs to the process, so one
    batch is evaluated at a time.

    Parameters
    ----------
    elements : int
        What is kept, in elements of references.
    shared : Shelf, optional
        Of the run that this process works for.
    """

    def __init__(self, elements: int = _CACHED_ELEMENTS, *, shared: Shelf | None = None) -> None:
        self._lock = threading.Lock()
        self._room = elements
        self._kept: OrderedDict[tuple[Any, ...], _Kept] = OrderedDict()
        self._shelf = shared
        self.seconds = 0.0

    def references(self, question: Question, rows: Sequence[Case]) -> References:
        """The exact answers for these cases, in their order."""
        return self._get(
            ("references", question, *(c.case_id for c in rows)),
            lambda: oracle.evaluate(
                question.op, question.derivative, question.argument, cases.stack(list(rows)),
                question.format,
            ),
            lambda arrays: _references(question.format, len(rows), arrays),
        )  # fmt: skip

    def bounds(self, question: Question, rows: Sequence[Case], *, flushes: bool) -> Bounds:
        """The error bounds for these cases."""
        return self._get(
            ("bounds", question, flushes, *(c.case_id for c in rows)),
            lambda: bounds.evaluate(
                question.op, question.derivative, question.argument, cases.stack(list(rows)),
                question.format, flushes=flushes,
            ),
            lambda arrays: _bounds(len(rows), arrays),
        )  # fmt: skip

    def of_situation(
        self, situation: Situation, derivative: str, argument: str
    ) -> reductions.Answer:
        """The exact answer to a situation."""
        return self._get(
            (situation.case_id, derivative, argument),
            lambda: reductions.evaluate(situation, derivative, argument),
        )

    def situation_bounds(
        self, situation: Situation, derivative: str, argument: str, *, flushes: bool
    ) -> Bounds:
        """The error bounds of a situation."""
        return self._get(
            (situation.case_id, derivative, argument, flushes),
            lambda: reduction_bounds.evaluate(situation, derivative, argument, flushes=flushes),
        )

    def _get(
        self,
        key: tuple[Any, ...],
        make: Callable[[], A],
        of: Callable[[Arrays], A | None] | None = None,
    ) -> A:
        """An answer from memory, from the shelf where ``of`` makes it of arrays, or made."""
        with self._lock:
            return self._made(key, make, of)

    def _made(
        self, key: tuple[Any, ...], make: Callable[[], A], of: Callable[[Arrays], A | None] | None
    ) -> A:
        if key in self._kept:
            self._kept.move_to_end(key)
            return cast(A, self._kept[key])
        start = time.perf_counter()
        arrays = self._shelf.get(key) if self._shelf and of else None
        left = of(arrays) if of and arrays is not None else None
        found = make() if left is None else left
        seconds = time.perf_counter() - start
        self.seconds += seconds
        if self._shelf and of and left is None and seconds >= _WORTH_SHARING:
            self._shelf.put(key, _arrays(found))
        self._kept[key] = found
        self._room -= _size(found)
        while self._room < 0 and len(self._kept) > 1:
            _, dropped = self._kept.popitem(last=False)
            self._room += _size(dropped)
        return found


_REFERENCES = [np.dtype(t) for t in (np.float64, np.float64, np.int64, np.uint8, np.uint8)]
_BOUNDS = [np.dtype(np.longdouble)] * len(fields(Bounds))


def _are(arrays: Arrays, dtypes: list[np.dtype[Any]], rows: int) -> bool:
    """Whether they are arrays of one shape, with so many rows, of these dtypes."""
    shapes = {a.shape for a in arrays}
    return (
        [a.dtype for a in arrays] == dtypes
        and {s[:1] for s in shapes} == {(rows,)}
        and (len(shapes) == 1)
    )


def _references(fmt: Format, rows: int, arrays: Arrays) -> References | None:
    """References of the arrays that were left; None if they are something else."""
    if not _are(arrays, _REFERENCES, rows):
        return None
    hi, lo, exponent, codes, tier = arrays
    return References(hi, lo, exponent, codes, tier, fmt)


def _bounds(rows: int, arrays: Arrays) -> Bounds | None:
    """The same of bounds."""
    return Bounds(*arrays) if _are(arrays, _BOUNDS, rows) else None


def _arrays(answer: _Kept) -> Arrays:
    """The arrays of an answer in the order of its fields; a format, the last one, is none."""
    return [getattr(answer, f.name) for f in fields(answer) if f.name != "format"]


def _size(answer: _Kept) -> int:
    if isinstance(answer, reductions.Answer):
        answer = answer.references
    return int(answer.codes.size if isinstance(answer, References) else 2 * answer.weak.size)
