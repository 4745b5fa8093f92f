"""The bench: measures one cell. Cases to references on one side, implementation to result on the
other, and the judge where they meet.

A bench lives in one process (a worker of pytest-xdist, or a single run) and keeps what is worth
keeping there: executors by framework and context, references in a bounded memory cache, and the
underflow policy of every implementation that it met.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from conformance import deviations, judge
from conformance.answers import Answers, Question
from conformance.executor import Caller, Executor
from conformance.frameworks import get_framework
from conformance.judge import Breach, Judgement
from conformance.plan import Cell, Plan, must_catch
from conformance.registry import BUILTIN_MODULES, Implementation
from conformance.rows import call_rows
from conformance.trial import Trial, batches, request
from reference import bounds, cases, formats, metrics, oracle
from reference.cases import Case
from reference.metrics import Underflow

POLICY_FAMILY, POLICY_LENGTH = "gap_ladder", 2
DEATHS = 12
"""Children that a cell may cost (see `rows.RESTARTS`). An implementation of which nothing came
back from one cell is asked only once in the next."""
_NO_POLICY = Underflow("none", 0.0, float("inf"))


@dataclass(frozen=True)
class Measured:
    """What the bench found out about a cell.

    Attributes
    ----------
    row : dict
        The measurement, as a record holds it.
    witnesses : dict of str to dict of str to bool
        Deviation entry to witnessing case to whether it met the contract here.
    """

    row: dict[str, Any]
    witnesses: dict[str, dict[str, bool]]


class Bench:
    """Measures cells of a plan.

    Parameters
    ----------
    plan : Plan
    plugins : sequence of str
        What the executors' children load beside the built-in implementations.
    deadline : float, optional
        Seconds for one call.
    memory_limit : int, optional
        Resident bytes for one child.
    registry : deviations.Registry, optional
    """

    def __init__(
        self,
        plan: Plan,
        *,
        plugins: Sequence[str] = (),
        deadline: float | None = None,
        memory_limit: int | None = None,
        registry: deviations.Registry | None = None,
        executor: Callable[[str, str, tuple[str, ...]], Caller] | None = None,
    ) -> None:
        self.plan = plan
        self.registry = deviations.load() if registry is None else registry
        options: dict[str, Any] = {}
        if deadline is not None:
            options["deadline"] = deadline
        if memory_limit is not None:
            options["memory_limit"] = memory_limit
        self._plugins = tuple(plugins)
        self._make = executor or (
            lambda name, context, loads: Executor(name, context, plugins=loads, **options)
        )
        self._executors: dict[tuple[str, str, bool], Caller] = {}
        self._lost: set[str] = set()
        self._answers = Answers()
        self._policies: dict[tuple[str, ...], Underflow] = {}
        self._versions: dict[str, str | None] = {}

    def close(self) -> None:
        """End every child."""
        for executor in self._executors.values():
            executor.close()
        self._executors.clear()

    # ------------------------------------------------------------ one cell

    def measure(self, cell: Cell) -> Measured:
        """Measure and judge a cell; whatever the implementation does becomes its verdict."""
        entry = self.plan.entry(cell)
        version = self.version(entry.framework)
        row: dict[str, Any] = {**_identity(cell, entry), "framework_version": version}
        absent = [name for name, v in ((entry.framework, version),) if v is None]
        absent += list(entry.missing_requirements())
        if absent:
            row |= {"verdict": "not installed", "message": f"{', '.join(absent)}: not installed"}
            return Measured(row, {})
        reason = get_framework(entry.framework).unsupported_reason(
            entry, cell.derivative, cell.argument, cell.dtype, cell.mode
        )
        if reason is not None:
            return Measured(row | {"verdict": "unsupported", "message": reason}, {})

        before = self._answers.seconds
        rows = self.cases(cell)
        policy = self.policy(cell) if entry.role != "control" else _NO_POLICY
        trial = self._run(cell, rows, policy)
        judgement = judge.judge(formats.get(cell.dtype), trial.answered, policy, role=entry.role)
        judgement.breaches += trial.breaches
        if trial.reused is not None and judgement.breaches:
            judgement.breaches.append(_reused(trial.reused))
        if cell.concern == "underflow" and policy.policy == "premature":
            judgement.breaches.append(_premature(policy, rows))
        row |= judgement.figures
        row |= {
            "seconds_framework": trial.seconds,
            "seconds_compile": trial.compile_seconds,
            "seconds_oracle": self._answers.seconds - before,
            "flags": sorted({*judgement.flags, *trial.flags}),
        }
        if trial.unsupported is not None and not trial.answered:
            return Measured(row | {"verdict": "unsupported", "message": trial.unsupported}, {})
        ran = {c.case_id for c in rows}
        return self._ruled(cell, entry, version, judgement, row, ran)

    def _ruled(
        self,
        cell: Cell,
        entry: Implementation,
        version: str | None,
        judgement: Judgement,
        row: dict[str, Any],
        ran: set[str],
    ) -> Measured:
        """Grade and verdict, with the registry of deviations asked for failing subjects."""
        grade = judgement.grade
        if judgement.breaches and grade in judge.PASSING:
            grade = "F"
        row |= {
            "grade": grade,
            "verdict": judgement.verdict,
            "breaches": [b.row() for b in judgement.breaches],
            "message": judgement.breaches[0].detail if judgement.breaches else "",
        }
        if entry.role != "subject":
            return Measured(row, {})
        if row["verdict"] != "pass":
            ruling = self.registry.rule(cell, entry, version, judgement.breaches)
            if ruling.id is not None:
                row |= {"verdict": "deviation", "deviation": ruling.id}
            elif ruling.worse:
                row["message"] = (
                    f"worse than documented in {', '.join(ruling.worse)}: {row['message']}"
                )
        return Measured(row, self._witnesses(cell, entry, version, judgement, ran))

    def _witnesses(
        self,
        cell: Cell,
        entry: Implementation,
        version: str | None,
        judgement: Judgement,
        ran: set[str],
    ) -> dict[str, dict[str, bool]]:
        """Which witnesses of applicable entries, of those that ran here, met the contract."""
        premature = {b.case_id for b in judgement.breaches if b.kind == "premature"}
        failing = judgement.failing_cases | premature
        if any(b.kind in ("crash", "timeout", "error") for b in judgement.breaches):
            failing |= {b.case_id for b in judgement.breaches}
        return {
            d.id: {f"{w} @ {cell.key}": w not in failing for w in d.witnesses if w in ran}
            for d in self.registry.covering(cell, entry)
            if d.accepts_version(version)
        }

    def version(self, framework: str) -> str | None:
        """The installed version of a framework, None if it is not installed."""
        if framework not in self._versions:
            self._versions[framework] = get_framework(framework).installed_version()
        return self._versions[framework]

    # ------------------------------------------------------------ cases

    def cases(self, cell: Cell) -> list[Case]:
        """The cases of a cell: generated rows, named rows, and witnesses of deviations."""
        entry = self.plan.entry(cell)
        profile = self.plan.profile
        lengths = profile.lengths_for(entry.framework, cell.mode)
        found = [
            case
            for n in lengths
            for case in _generated(
                cell.family, entry.op, cell.dtype, n, self.plan.seed, profile.limit(n)
            )
        ]
        found += cases.witnesses(entry.op, cell.dtype, cell.family)
        known = {case.case_id for case in found}
        for case_id in self.registry.witnesses(cell, entry):
            if case_id not in known:
                case = cases.by_id(case_id)
                if case.family == cell.family:
                    found.append(case)
        return found

    # ------------------------------------------------------------ running

    def policy(self, cell: Cell) -> Underflow:
        """The measured underflow policy of an implementation in a derivative, dtype and mode."""
        key = (cell.implementation, cell.derivative, cell.argument, cell.dtype, cell.mode,
               cell.context)  # fmt: skip
        if key not in self._policies:
            self._policies[key] = self._measure_policy(cell)
        return self._policies[key]

    def _measure_policy(self, cell: Cell) -> Underflow:
        op = self.plan.entry(cell).op
        ladder = list(_generated(POLICY_FAMILY, op, cell.dtype, POLICY_LENGTH, 0, 1 << 20))
        answered = self._run(cell, ladder, _NO_POLICY).answered
        if not answered:
            return _NO_POLICY
        question = _question(cell, op)
        flushing = [self._answers.bounds(question, a.cases, flushes=True) for a in answered]
        return metrics.underflow(
            np.concatenate([a.result for a in answered]),
            oracle.join([a.references for a in answered]),
            bounds.join([a.bounds for a in answered]),
            bounds.join(flushing),
        )

    def answer(
        self, case: Case, entry: Implementation, derivative: str, argument: str, mode: str
    ) -> dict[str, Any] | None:
        """One implementation's answer to one case; None where it cannot be asked.

        Returns
        -------
        dict
            ``result`` (a list, or None with a ``message``), the ``worst`` element with its
            ``ulp`` error and its ``ratio_weak``.
        """
        framework = get_framework(entry.framework)
        if framework.unsupported_reason(entry, derivative, argument, case.format, mode):
            return None
        out: dict[str, Any] = {"implementation": entry.name, "framework": entry.framework,
                               "mode": mode, "result": None}  # fmt: skip
        if self.version(entry.framework) is None or entry.missing_requirements():
            return out | {"message": "not installed"}
        cell = Cell("accuracy", entry.name, derivative, argument, case.format, mode, "cpu",
                    framework.context_for(case.format), case.family)  # fmt: skip
        trial = self._run(cell, [case], _NO_POLICY, entry)
        if not trial.answered:
            details = [b.detail for b in trial.breaches]
            return out | {"message": trial.unsupported or "; ".join(details)}
        answered = trial.answered[0]
        errors = metrics.errors(answered.result, answered.references)
        ratio = errors.ratio(answered.bounds.weak)
        worst = int(np.argmax(np.where(np.isnan(ratio), np.inf, ratio)[0]))
        return out | {
            "result": answered.result[0].tolist(),
            "worst": worst,
            "ulp": float(errors.ulp[0, worst]),
            "ratio_weak": float(ratio[0, worst]),
        }

    def _run(
        self,
        cell: Cell,
        rows: Sequence[Case],
        policy: Underflow,
        entry: Implementation | None = None,
    ) -> Trial:
        entry = entry or self.plan.entry(cell)
        question = _question(cell, entry.op)
        trial = Trial()
        executor = self._executor(entry, cell.context)
        left = float(DEATHS)
        for batch in batches(rows):
            if left <= 0:
                trial.flags.add("stopped_early")
                break
            refs = self._answers.references(question, batch.rows)
            limits = self._answers.bounds(question, batch.rows, flushes=policy.flushes)
            sent = request(cell, entry, batch, refs, question.format)
            once = entry.name in self._lost and not trial.answered
            answers = call_rows(executor, sent, restarts=0 if once else left)
            left -= DEATHS if once and answers.restarts else answers.cost
            trial.take(batch, answers, refs, limits, question.format, entry)
        if trial.answered:
            self._lost.discard(entry.name)
        elif left < DEATHS:
            self._lost.add(entry.name)
        return trial

    def _executor(self, entry: Implementation, context: str) -> Caller:
        """The executor of an implementation: plug-ins never share one with the built-in ones."""
        own = entry.module in BUILTIN_MODULES
        key = (entry.framework, context, own)
        if key not in self._executors:
            loads = () if own else self._plugins
            self._executors[key] = self._make(entry.framework, context, loads)
        return self._executors[key]


@lru_cache(maxsize=1024)
def _generated(family: str, op: str, dtype: str, n: int, seed: int, limit: int) -> tuple[Case, ...]:
    """The rows of a family, made once for all implementations of an op."""
    return tuple(cases.make(family, op, dtype, n, seed=seed, limit=limit))


def _question(cell: Cell, op: str) -> Question:
    return Question(op, cell.derivative, cell.argument, formats.get(cell.dtype))


def _premature(policy: Underflow, rows: Sequence[Case]) -> Breach:
    return Breach(
        "premature",
        rows[0].case_id if rows else "",
        f"a normal result of magnitude {policy.lost_up_to:.9g} came back as 0; the smallest "
        f"non-zero result is {policy.last_nonzero:.9g}",
        policy.lost_up_to,
    )


def _reused(case_id: str) -> Breach:
    return Breach(
        "reused", case_id, "two different batches of one shape came back with the same answer", 1.0
    )


def _identity(cell: Cell, entry: Implementation) -> dict[str, Any]:
    return {
        "key": cell.key,
        "concern": cell.concern,
        "framework": entry.framework,
        "implementation": entry.name,
        "op": entry.op,
        "role": entry.role,
        "variant": entry.variant,
        "derivative": cell.derivative,
        "argument": cell.argument,
        "dtype": cell.dtype,
        "mode": cell.mode,
        "device": cell.device,
        "context": cell.context,
        "family": cell.family,
    }


def caught(entry: Implementation, row: Mapping[str, Any]) -> bool:
    """Was this mutant caught in the cell that must catch it?"""
    return bool(row["key"] == must_catch(entry).key and row["verdict"] == "fail")
