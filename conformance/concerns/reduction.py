"""reduction: losses reduced over a batch, with labels, weights and options.

A cell asks the situations of its family that its implementation takes: those whose options are
among its ``parameters`` and whose labels have a dtype that it is documented to take. Each is one
call. A label that names no class may raise; any other exception is a verdict.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from conformance.concerns.arranged import DEATHS, spread
from conformance.execution.protocol import Answer, Raised, Request, Result
from conformance.frameworks import get_framework
from conformance.judge import Answered
from conformance.profiles import Profile
from conformance.registry import Implementation
from conformance.trial import Trial, call
from reference import formats, situations
from reference.formats import Format
from reference.metrics import Underflow
from reference.reductions import Answer as Exact
from reference.situations import Situation

if TYPE_CHECKING:
    from conformance.bench import Bench
    from conformance.cells import Cell

__all__ = ["RAISES", "REDUCTION", "answer", "answerable", "request"]

RAISES = "raises_on_labels"
"""The flag of a cell in which labels without a class raised."""

_NEEDS: Mapping[str, frozenset[str]] = {
    "labels": frozenset(),
    "high_labels": frozenset(),
    "ignored": frozenset({"ignore_index"}),
    "weights": frozenset({"weight", "label_smoothing"}),
    "soft_targets": frozenset(),
}
"""Of each family, parameters of which an implementation has to have one."""


class Reduction:
    """See the module."""

    name = "reduction"

    @property
    def versions(self) -> dict[str, int]:
        """Of the families of situations."""
        return {name: family.version for name, family in situations.FAMILIES.items()}

    def asks(self, profile: Profile, entry: Implementation, cell: Cell) -> bool:
        """Values and gradients of the losses.

        Where little is to be run (a small profile, compiled modes), of those with options: what has
        none has little to show.
        """
        family = situations.FAMILIES[cell.family]
        if entry.op not in family.ops or cell.derivative not in ("value", "vjp"):
            return False
        if entry.role == "control":
            return cell.mode == "eager"
        if entry.role != "subject":
            return False
        needs = _NEEDS[cell.family]
        if needs and not needs & set(entry.parameters):
            return False
        if cell.mode != "eager":
            return (
                bool(entry.parameters)
                and entry.variant == "builtin"
                and (profile.compiled_situations > 0)
            )
        small = profile.builtins_only
        return not small or (bool(entry.parameters) and cell.dtype in ("float32", "bfloat16"))

    def cases(self, bench: Bench, cell: Cell) -> list[Situation]:
        """The situations of a cell, and witnesses of deviations."""
        entry, profile = bench.plan.entry(cell), bench.plan.profile
        every = [
            s
            for s in _every(cell.family, entry.op, cell.dtype, bench.plan.seed)
            if answerable(entry, s)
        ]
        limit = profile.situations_for(entry.framework, cell.mode)
        if entry.role == "mutant":  # it must be caught however little is asked
            limit = profile.situations
        found = spread(every, limit)
        known = {s.case_id for s in found}
        for case_id in bench.registry.witnesses(cell, entry):
            if case_id not in known and situations.is_id(case_id):
                situation = situations.by_id(case_id)
                if situation.family == cell.family and answerable(entry, situation):
                    found.append(situation)
        return found

    def run(self, bench: Bench, cell: Cell, rows: Sequence[Situation], policy: Underflow) -> Trial:
        """One call for each situation."""
        return self.ask(bench, cell, rows, bench.plan.entry(cell), policy)

    def ask(
        self,
        bench: Bench,
        cell: Cell,
        rows: Sequence[Situation],
        entry: Implementation,
        policy: Underflow,
    ) -> Trial:
        """The answers of an implementation."""
        fmt = formats.get(cell.dtype)
        executor, trial = bench.executor(entry, cell.context), Trial()
        for situation in rows:
            if trial.cost > DEATHS:
                trial.flags.add("stopped_early")
                break
            exact = bench.answers.of_situation(situation, cell.derivative, cell.argument)
            answer = executor.call(request(cell, entry, situation, fmt, exact))
            if not isinstance(answer, Result):
                _failed(trial, answer, situation, exact, entry)
                continue
            self._take(bench, cell, trial, situation, exact, answer, policy)
        return trial

    def _take(
        self, bench: Bench, cell: Cell, trial: Trial, situation: Situation, exact: Exact,
        answer: Result, policy: Underflow,
    ) -> None:  # fmt: skip
        trial.returned(answer, situation.case_id)
        out, fmt = answer.out, formats.get(cell.dtype)
        if not trial.is_of(out, fmt, _shape(situation, cell.derivative), situation.case_id):
            return
        refs = exact.references
        result = np.asarray(out).astype(np.float64).reshape(refs.shape)
        limits = bench.answers.situation_bounds(
            situation, cell.derivative, cell.argument, flushes=policy.flushes
        )
        rows = [situation] * refs.shape[0]
        trial.answered.append(
            Answered(rows, refs, limits, exact.accepted(result), exact.named(result))
        )


REDUCTION = Reduction()


def answerable(entry: Implementation, situation: Situation) -> bool:
    """Whether an implementation is documented to take a situation."""
    if entry.role == "control":
        return True
    if not situation.parameters <= set(entry.parameters):
        return False
    label = situation.inputs.get("label")
    if label is None:
        return True
    if entry.label_dtypes is not None and label.dtype.name not in entry.label_dtypes:
        return False
    return get_framework(entry.framework).takes_labels(label, situation.format)


def answer(
    bench: Bench,
    situation: Situation,
    entry: Implementation,
    derivative: str,
    argument: str,
    mode: str,
) -> dict[str, Any] | None:
    """One implementation's answer to one situation; None where it cannot be asked.

    Returns
    -------
    dict
        ``result`` (rows, or None with a ``message``).
    """
    from conformance.cells import Cell

    framework = get_framework(entry.framework)
    if not answerable(entry, situation) or framework.unsupported_reason(
        entry, derivative, argument, situation.format, mode
    ):
        return None
    out = bench.unanswered(entry, mode)
    if "message" in out:
        return out
    cell = Cell("reduction", entry.name, derivative, argument, situation.format, mode, "cpu",
                framework.context_for(situation.format), situation.family)  # fmt: skip
    trial = REDUCTION.ask(bench, cell, [situation], entry, Underflow("none", 0.0, float("inf")))
    if not trial.answered:
        raised = "raises, as it may for a label that names no class"
        return out | {"message": raised if RAISES in trial.flags else trial.message}
    return out | {"result": trial.answered[0].result.tolist()}


def request(
    cell: Cell, entry: Implementation, situation: Situation, fmt: Format, exact: Exact | None = None
) -> Request:
    """A situation as the child gets it; a control needs the exact answer."""
    options: dict[str, Any] = {}
    keywords: tuple[str, ...] = ()
    arrays: dict[str, NDArray[Any]] = {}
    if exact is not None and entry.role == "control":
        answer = exact.references.rounded().reshape(_shape(situation, cell.derivative))
        arrays["answer"] = np.asarray(fmt.cast(answer))
    else:
        names = [*entry.inputs, "weight", "g"]
        for name in names:
            if name in situation.inputs and (name != "g" or cell.derivative == "vjp"):
                array = situation.inputs[name]
                arrays[name] = array if name == "label" else np.asarray(fmt.cast(array))
        keywords = ("weight",) if "weight" in arrays else ()
        options = {k: v for k, v in situation.options.items() if k in entry.parameters}
    return call(cell, entry, arrays, options=options, keywords=keywords)


def _shape(situation: Situation, derivative: str) -> tuple[int, ...]:
    if derivative == "vjp":
        return (situation.rows, situation.n)
    return (situation.rows,) if situation.reduction == "none" else ()


def _failed(
    trial: Trial, answer: Answer, situation: Situation, exact: Exact, entry: Implementation
) -> None:
    """Raising on a label that names no class is right; everything else is a failure."""
    if isinstance(answer, Raised):
        if exact.may_raise and answer.kind == "exception":
            trial.flags.add(RAISES)
            return
        for leak in answer.leaks:
            trial.add(("leak", leak), situation.case_id)
    trial.died(answer)
    trial.failure(answer, situation.case_id, entry)


@lru_cache(maxsize=64)
def _every(family: str, op: str, dtype: str, seed: int) -> tuple[Situation, ...]:
    return tuple(situations.make(family, op, dtype, seed=seed))
