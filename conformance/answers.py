"""References and bounds of batches, kept in memory while there is room.

No disk cache: at the oracle's speed an answer that was right once and is believed for ever is the
larger risk.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from reference import bounds, cases, oracle, reduction_bounds, reductions
from reference.bounds import Bounds
from reference.cases import Case
from reference.formats import Format
from reference.oracle import References
from reference.situations import Situation

A = TypeVar("A", References, Bounds, reductions.Answer)

_Kept = References | Bounds | reductions.Answer

_CACHED_ELEMENTS = 8_000_000


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
    """

    def __init__(self, elements: int = _CACHED_ELEMENTS) -> None:
        self._lock = threading.Lock()
        self._room = elements
        self._kept: OrderedDict[tuple[Any, ...], _Kept] = OrderedDict()
        self.seconds = 0.0

    def references(self, question: Question, rows: Sequence[Case]) -> References:
        """The exact answers for these cases, in their order."""
        return self._get(
            (question, *(c.case_id for c in rows)),
            lambda: oracle.evaluate(
                question.op, question.derivative, question.argument, cases.stack(list(rows)),
                question.format,
            ),
        )  # fmt: skip

    def bounds(self, question: Question, rows: Sequence[Case], *, flushes: bool) -> Bounds:
        """The error bounds for these cases."""
        return self._get(
            (question, flushes, *(c.case_id for c in rows)),
            lambda: bounds.evaluate(
                question.op, question.derivative, question.argument, cases.stack(list(rows)),
                question.format, flushes=flushes,
            ),
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

    def _get(self, key: tuple[Any, ...], make: Callable[[], A]) -> A:
        with self._lock:
            return self._made(key, make)

    def _made(self, key: tuple[Any, ...], make: Callable[[], A]) -> A:
        if key in self._kept:
            self._kept.move_to_end(key)
            return cast(A, self._kept[key])
        start = time.perf_counter()
        found = make()
        self.seconds += time.perf_counter() - start
        self._kept[key] = found
        self._room -= _size(found)
        while self._room < 0 and len(self._kept) > 1:
            _, dropped = self._kept.popitem(last=False)
            self._room += _size(dropped)
        return found


def _size(answer: _Kept) -> int:
    if isinstance(answer, reductions.Answer):
        answer = answer.references
    return int(answer.codes.size if isinstance(answer, References) else 2 * answer.weak.size)
