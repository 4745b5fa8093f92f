"""contract: the dtype and shape of results, for arrays of every rank, any axis, and empty ones.

What comes back is put back into rows and judged like any other answer, so that a sum over the
wrong axis cannot hide behind the right shape. Inputs that were modified are breaches here as in
every other concern.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from conformance.answers import Question
from conformance.concerns.arranged import DEATHS, arranged, chosen, failed, finished, is_per_row
from conformance.execution.protocol import Result
from conformance.judge import Answered
from conformance.profiles import Profile
from conformance.registry import Implementation
from conformance.trial import Trial
from reference import arrangements, formats
from reference.arrangements import Arrangement
from reference.bounds import Bounds
from reference.formats import Format
from reference.metrics import Underflow
from reference.ops.base import NEG_INF
from reference.oracle import References

if TYPE_CHECKING:
    from conformance.bench import Bench
    from conformance.cells import Cell

__all__ = ["CONTRACT"]

_FAMILIES = ("axes", "empty")
_SMALL = ("softmax", "logsumexp", "sparse_softmax_cross_entropy", "logaddexp")
"""The ops of a small profile: with and without the class axis in the result, labels, elements."""
_WIDE = ("value", "vjp")
_COSTLY = {"value": 4, "vjp": 2}
"""Arrangements where every shape is compiled for."""


class Contract:
    """See the module."""

    name = "contract"

    @property
    def versions(self) -> dict[str, int]:
        """Of its families of arrangements."""
        return {name: arrangements.FAMILIES[name].version for name in _FAMILIES}

    def asks(self, profile: Profile, entry: Implementation, cell: Cell) -> bool:
        """Values and gradients; where little is to be run, values in float32.

        Compiled modes see some built-ins: what is around them is that of eager mode.
        """
        if entry.role != "subject" or cell.derivative not in _WIDE:
            return False
        if profile.builtins_only:
            ops = _SMALL[:1] if entry.framework == "jax" else _SMALL
            asked = (cell.derivative, cell.dtype, cell.mode) == ("value", "float32", "eager")
            return asked and entry.op in ops
        if profile.name == "exhaustive":
            return True
        if cell.mode != "eager":
            asked = (cell.derivative, cell.dtype) == ("value", "float32")
            few = entry.variant == "builtin" and entry.op in _SMALL
            return asked and few and cell.family == "axes"
        if entry.framework != "jax":
            return True
        return cell.dtype == "float32" and (cell.derivative == "value" or cell.family == "axes")

    def cases(self, bench: Bench, cell: Cell) -> list[Arrangement]:
        """The arrangements of a cell, and witnesses of deviations."""
        entry, profile = bench.plan.entry(cell), bench.plan.profile
        limit = profile.situations_for(entry.framework, cell.mode)
        if entry.framework == "jax" and profile.name != "exhaustive":
            limit = min(limit, _COSTLY[cell.derivative])
        if entry.role == "mutant":
            limit = profile.situations
        return chosen(bench, cell, limit)

    def run(
        self, bench: Bench, cell: Cell, rows: Sequence[Arrangement], policy: Underflow
    ) -> Trial:
        """One call for each arrangement."""
        return self.ask(bench, cell, rows, bench.plan.entry(cell), policy)

    def ask(
        self,
        bench: Bench,
        cell: Cell,
        rows: Sequence[Arrangement],
        entry: Implementation,
        policy: Underflow,
    ) -> Trial:
        """The answers of an implementation."""
        fmt = formats.get(cell.dtype)
        executor, trial = bench.executor(entry, cell.context), Trial()
        shape_of = partial(Arrangement.shape, per_row=is_per_row(entry, cell.derivative))
        for arrangement in rows:
            if trial.cost > DEATHS:
                trial.flags.add("stopped_early")
                break
            answer = executor.call(arranged(cell, entry, arrangement))
            if not isinstance(answer, Result):
                failed(trial, answer, arrangement.case_id, entry)
                continue
            trial.returned(answer, arrangement.case_id)
            if trial.is_of(answer.out, fmt, shape_of(arrangement), arrangement.case_id):
                result = np.asarray(answer.out).astype(np.float64)
                trial.answered.append(_answered(bench, cell, entry, arrangement, result, policy))
        return finished(trial)


CONTRACT = Contract()


def _answered(
    bench: Bench,
    cell: Cell,
    entry: Implementation,
    arrangement: Arrangement,
    result: NDArray[Any],
    policy: Underflow,
) -> Answered:
    """A result of the right shape as rows, beside what is right."""
    fmt = formats.get(cell.dtype)
    if arrangement.rows == 0 or arrangement.n == 0:
        return _of_nothing(arrangement, result, fmt)
    question = Question(entry.op, cell.derivative, cell.argument, fmt)
    refs = bench.answers.references(question, arrangement.cases)
    limits = bench.answers.bounds(question, arrangement.cases, flushes=policy.flushes)
    rows = arrangement.flat(result, per_row=is_per_row(entry, cell.derivative))
    kinds = np.full(rows.shape, "finite")
    return Answered([arrangement] * len(rows), refs, limits, rows, kinds)


def _of_nothing(arrangement: Arrangement, result: NDArray[Any], fmt: Format) -> Answered:
    """Of rows that have no classes, or of no rows: logsumexp is -inf, all else has no numbers."""
    rows = result.reshape(1, -1)
    none, eta = np.zeros(rows.shape), np.full(rows.shape, fmt.smallest_subnormal, np.longdouble)
    codes, tier = np.full(rows.shape, NEG_INF, np.uint8), np.zeros(rows.shape, np.uint8)
    refs = References(none, none, none.astype(np.int64), codes, tier, fmt)
    kinds = np.full(rows.shape, "no_classes")
    return Answered([arrangement], refs, Bounds(eta, eta, eta, eta, eta), rows, kinds)
