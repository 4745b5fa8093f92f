"""What the concerns `contract` and `invariance` share: they ask arrangements.

Each arrangement is a call or two. One that raises, crashes or hangs is a breach, and the others
keep their figures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from conformance.execution.protocol import Answer, Request, Result
from conformance.frameworks import get_framework
from conformance.frameworks.base import array_names
from conformance.registry import OPS, Implementation
from conformance.trial import Trial, call
from reference import arrangements, formats
from reference.arrangements import Arrangement
from reference.formats import Format

if TYPE_CHECKING:
    from conformance.bench import Bench
    from conformance.cells import Cell

__all__ = [
    "DEATHS",
    "answer",
    "arranged",
    "chosen",
    "failed",
    "finished",
    "is_per_row",
    "rows_of",
    "spread",
]

T = TypeVar("T")

DEATHS = 6.0
"""Children that a cell may cost; a hang costs half as much again."""


def chosen(bench: Bench, cell: Cell, limit: int) -> list[Arrangement]:
    """The arrangements of a cell, at most so many, and witnesses of deviations."""
    entry = bench.plan.entry(cell)
    every = _every(cell.family, entry.op, cell.dtype, bench.plan.seed, entry.lacks)
    found = spread(every, limit)
    known = {a.case_id for a in found}
    for case_id in bench.registry.witnesses(cell, entry):
        if case_id not in known and arrangements.is_id(case_id):
            witness = arrangements.by_id(case_id)
            if witness.family == cell.family and set(entry.inputs) == witness.arguments:
                found.append(witness)
    return found


def spread(every: Sequence[T], limit: int) -> list[T]:
    """At most so many, evenly spaced, both ends kept."""
    if len(every) <= limit:
        return list(every)
    if limit < 2:
        return list(every[:limit])
    return [every[k * (len(every) - 1) // (limit - 1)] for k in range(limit)]


@lru_cache(maxsize=256)
def _every(family: str, op: str, dtype: str, seed: int, lacks: str) -> tuple[Arrangement, ...]:
    return tuple(arrangements.make(family, op, dtype, seed=seed, without=lacks))


def is_per_row(entry: Implementation, derivative: str) -> bool:
    """Whether the result has one number for each row."""
    return OPS[entry.op].is_per_row(derivative)


def arranged(cell: Cell, entry: Implementation, arrangement: Arrangement) -> Request:
    """The call that an arrangement is."""
    fmt = formats.get(arrangement.format)
    inputs = {name: arrangement.arranged(array) for name, array in arrangement.inputs.items()}
    return rows_of(cell, entry, fmt, inputs, axis=arrangement.form.axis)


def rows_of(
    cell: Cell, entry: Implementation, fmt: Format, inputs: Mapping[str, NDArray[Any]], **more: Any
) -> Request:
    """A call of a cell's map on inputs in their shapes; ``more`` are fields of the request."""
    arrays = {}
    for name in array_names(entry, cell.derivative, cell.argument):
        array = np.asarray(inputs[name])
        cast = array if array.dtype.kind in "ib" else fmt.cast(array)
        arrays[name] = np.ascontiguousarray(cast).reshape(array.shape)
    return call(cell, entry, arrays, **more)


def answer(
    bench: Bench,
    arrangement: Arrangement,
    entry: Implementation,
    derivative: str,
    argument: str,
    mode: str,
) -> dict[str, Any] | None:
    """One implementation's answer to an arrangement; None where it cannot be asked.

    Returns
    -------
    dict
        ``result`` (nested lists, or None with a ``message``).
    """
    from conformance.cells import Cell

    framework = get_framework(entry.framework)
    if set(entry.inputs) != arrangement.arguments or framework.unsupported_reason(
        entry, derivative, argument, arrangement.format, mode
    ):
        return None
    out = bench.unanswered(entry, mode)
    if "message" in out:
        return out
    cell = Cell("contract", entry.name, derivative, argument, arrangement.format, mode, "cpu",
                framework.context_for(arrangement.format), arrangement.family)  # fmt: skip
    came = bench.executor(entry, cell.context).call(arranged(cell, entry, arrangement))
    if isinstance(came, Result):
        return out | {"result": np.asarray(came.out).astype(np.float64).tolist()}
    trial = Trial()
    trial.failure(came, arrangement.case_id, entry)
    return out | {"message": trial.message}


def failed(trial: Trial, answer: Answer, case_id: str, entry: Implementation) -> None:
    """Count a call that did not come back."""
    trial.died(answer)
    trial.failure(answer, case_id, entry)


def finished(trial: Trial) -> Trial:
    """A trial at its end, with a flag where some arrangements were refused and others not."""
    if trial.unsupported is not None and trial.answered:
        trial.flags.add("unsupported_in_part")
    return trial
