"""A batch that must not be lost to one of its rows.

`call_rows` runs a batch and, where it crashes, hangs or raises, halves it until the rows to blame
are named; the other rows keep their figures.
"""

from __future__ import annotations

from dataclasses import dataclass

from conformance.execution.executor import Caller
from conformance.execution.protocol import Answer, Breach, Raised, Request, Result, TimedOut

__all__ = ["Part", "RowAnswers", "call_rows"]

RESTARTS = 12
"""Children that one batch may cost, by crashes; a hang costs `HANG` times as much."""
HANG = 1.5
CALLS = 256
"""Calls that one batch may cost."""
_HOPELESS = 3


@dataclass(frozen=True)
class Part:
    """Consecutive rows that were answered by one call."""

    start: int
    stop: int
    answer: Answer

    @property
    def rows(self) -> range:
        """Their numbers in the batch."""
        return range(self.start, self.stop)


@dataclass(frozen=True)
class RowAnswers:
    """What became of every row of a batch."""

    parts: tuple[Part, ...]
    """In the order of the rows; together they cover the batch exactly once."""
    restarts: int = 0
    """Children that died on the way."""
    cost: float = 0.0
    """The same, with hangs at their price."""
    unreproduced: tuple[Answer, ...] = ()
    """Failures of a batch none of whose rows failed again: a verdict of its own, because the
    figures of the rows do not show it."""

    def answer(self, row: int) -> Answer:
        """The answer of the call that `row` was last part of."""
        for part in self.parts:
            if part.start <= row < part.stop:
                return part.answer
        raise IndexError(f"the batch has no row {row}")

    @property
    def results(self) -> tuple[tuple[Part, Result], ...]:
        """The parts that came back with arrays."""
        return tuple((p, p.answer) for p in self.parts if isinstance(p.answer, Result))

    @property
    def failures(self) -> tuple[Part, ...]:
        """The parts that did not."""
        return tuple(p for p in self.parts if not isinstance(p.answer, Result))

    @property
    def seconds(self) -> float:
        """In the implementation."""
        return sum(result.seconds for _, result in self.results)

    @property
    def compile_seconds(self) -> float:
        """In compilation."""
        return sum(result.compile_seconds for _, result in self.results)

    @property
    def breaches(self) -> tuple[Breach, ...]:
        """With rows counted in the whole batch."""
        return tuple(
            Breach(b.kind, b.detail, tuple(part.start + row for row in b.rows))
            for part, result in self.results
            for b in result.breaches
        )

    @property
    def retried(self) -> tuple[str, ...]:
        """Why calls were made a second time, each reason once."""
        return tuple(dict.fromkeys(r.retried for _, r in self.results if r.retried))

    @property
    def leaks(self) -> tuple[str, ...]:
        """Every state change that any of the calls left, each once."""
        found = [
            leak
            for part in self.parts
            if isinstance(part.answer, (Result, Raised))
            for leak in part.answer.leaks
        ]
        return tuple(dict.fromkeys(found))


def call_rows(
    executor: Caller, request: Request, *, restarts: float = RESTARTS, calls: int = CALLS
) -> RowAnswers:
    """Run a batch; name the rows that crash, hang or raise, and keep the others.

    The batch is halved, depth first, wherever a call does not return; after a crash the executor
    starts a fresh child by itself. When the first three rows fail one by one and nothing has
    succeeded, or when `restarts` or `calls` are used up, what is left is not divided further and
    keeps the last answer it had.

    Parameters
    ----------
    executor : Caller
        Any executor.
    request : Request
        With the batch as first axis of every array.
    restarts : float
        Children that may die; see `RESTARTS`.
    calls : int
        Calls that may be made.
    """
    return _Halving(executor, request, restarts, calls).run()


class _Halving:
    def __init__(self, executor: Caller, request: Request, restarts: float, calls: int) -> None:
        self._executor = executor
        self._request = request
        self._restarts_allowed = restarts
        self._calls_left = calls
        self._restarts = 0
        self._cost = 0.0
        self._succeeded = False
        self._failed_rows = 0
        self._unreproduced: list[Answer] = []

    def run(self) -> RowAnswers:
        rows = self._request.rows
        parts = self._divide(0, rows, self._call(0, rows))
        return RowAnswers(
            tuple(parts), self._restarts, self._cost, unreproduced=tuple(self._unreproduced)
        )

    def _call(self, start: int, stop: int) -> Answer:
        self._calls_left -= 1
        whole = start == 0 and stop == self._request.rows
        answer = self._executor.call(self._request if whole else self._request.part(start, stop))
        if isinstance(answer, Result):
            self._succeeded = True
        elif not isinstance(answer, Raised):
            self._restarts += 1
            self._cost += HANG if isinstance(answer, TimedOut) else 1.0
        return answer

    def _divide(self, start: int, stop: int, answer: Answer) -> list[Part]:
        if isinstance(answer, Result):
            return [Part(start, stop, answer)]
        if stop - start <= 1:
            self._failed_rows += 1
            return [Part(start, stop, answer)]
        if not _is_of_the_rows(answer) or self._is_over():
            return [Part(start, stop, answer)]
        middle = (start + stop) // 2
        parts: list[Part] = []
        for low, high in ((start, middle), (middle, stop)):
            if self._is_over():
                parts.append(Part(low, high, answer))
            else:
                parts += self._divide(low, high, self._call(low, high))
        if all(isinstance(part.answer, Result) for part in parts):
            self._unreproduced.append(answer)
        return _joined(parts)

    def _is_over(self) -> bool:
        return (
            self._cost > self._restarts_allowed
            or self._calls_left <= 0
            or (self._failed_rows >= _HOPELESS and not self._succeeded)
        )


def _is_of_the_rows(answer: Answer) -> bool:
    """Whether fewer rows could fare better: not for what is no matter of the values."""
    if isinstance(answer, Raised):
        return answer.kind in ("exception", "garbage")
    return getattr(answer, "phase", "call") == "call"


def _joined(parts: list[Part]) -> list[Part]:
    """Neighbours that failed in the same way, as one part; results stay as they came."""
    joined: list[Part] = []
    for part in parts:
        last = joined[-1] if joined else None
        if (
            last is not None
            and not isinstance(part.answer, Result)
            and type(last.answer) is type(part.answer)
            and _told(last.answer) == _told(part.answer)
        ):
            joined[-1] = Part(last.start, part.stop, last.answer)
        else:
            joined.append(part)
    return joined


def _told(answer: Answer) -> tuple[object, ...]:
    if isinstance(answer, Raised):
        return answer.kind, answer.type, answer.text
    return tuple(getattr(answer, name, None) for name in ("reason", "signal", "exit_code"))
