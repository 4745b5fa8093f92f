"""The bench: measures one cell. Cases to references on one side, implementation to result on the
other, and the judge where they meet.

A bench lives in one process (a worker of pytest-xdist, or a single run) and keeps what is worth
keeping there: executors by framework and context, references in a bounded memory cache, and the
underflow policy of every implementation that it met.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np

from conformance import concerns, deviations, judge, ladders, witnesses
from conformance import policy as policies
from conformance.answers import Answers, Question
from conformance.cells import Cell, must_catch
from conformance.environment import present
from conformance.execution.executor import Caller, Executor
from conformance.frameworks import get_framework
from conformance.frameworks.base import SCALED_INPUTS, process_context
from conformance.judge import Breach, Judgement
from conformance.plan import Plan
from conformance.policy import Policy
from conformance.registry import BUILTIN_MODULES, Implementation
from conformance.rows import call_rows
from conformance.ruling import ruled
from conformance.trial import Trial, batches, request, scales
from reference import arrangements, bounds, cases, formats, metrics, oracle, situations
from reference.cases import Case
from reference.metrics import Underflow

DEATHS = 12
"""Children that a cell may cost (see `rows.RESTARTS`). An implementation of which nothing came
back from one cell is asked only once in the next."""
_NO_POLICY = Underflow("none", 0.0, float("inf"))


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
    rules : Policy, optional
        What the judge goes by; default: that of this version.
    answers : Answers, optional
        References and bounds to share with other benches.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        plugins: Sequence[str] = (),
        deadline: float | None = None,
        memory_limit: int | None = None,
        registry: deviations.Registry | None = None,
        rules: Policy | None = None,
        executor: Callable[[str, str, tuple[str, ...]], Caller] | None = None,
        answers: Answers | None = None,
    ) -> None:
        self.plan = plan
        registry = deviations.load() if registry is None else registry
        self.registry = registry.under(present(plan.registry))
        self.rules = policies.load() if rules is None else rules
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
        self.answers = Answers() if answers is None else answers
        self._policies: dict[tuple[str, ...], Underflow] = {}
        self._versions: dict[str, str | None] = {}
        self.given: dict[str, dict[str, Any]] = {}
        """What the last cell answered, by case id, where witnesses could ask for it again."""

    def close(self) -> None:
        """End every child."""
        for executor in self._executors.values():
            executor.close()
        self._executors.clear()

    # ------------------------------------------------------------ one cell

    def measure(self, cell: Cell) -> dict[str, Any]:
        """Measure and judge a cell; whatever the implementation does becomes its verdict.

        Returns
        -------
        dict
            The measurement, as a record holds it.
        """
        entry = self.plan.entry(cell)
        self.given = {}
        version = self.version(entry.framework)
        row: dict[str, Any] = {**_identity(cell, entry), "framework_version": version}
        absent = [name for name, v in ((entry.framework, version),) if v is None]
        absent += list(entry.missing_requirements())
        if absent:
            row |= {"verdict": "not installed", "message": f"{', '.join(absent)}: not installed"}
            return row
        reason = get_framework(entry.framework).unsupported_reason(
            entry, cell.derivative, cell.argument, cell.dtype, cell.mode
        )
        if reason is not None:
            return row | {"verdict": "unsupported", "message": reason}

        before = self.answers.seconds
        own = concerns.OWN.get(cell.concern)
        rows = own.cases(self, cell) if own else self.cases(cell)
        policy = self.policy(cell) if entry.role != "control" else _NO_POLICY
        trial = own.run(self, cell, rows, policy) if own else self._run(cell, rows, policy)
        documented = self._witnesses(cell, entry, rows)
        judgement = judge.judge(
            formats.get(cell.dtype),
            trial.answered,
            policy,
            role=entry.role,
            witnesses={case_id for of in documented.values() for case_id in of},
            rules=self.rules,
        )
        judgement.breaches += trial.breaches
        if trial.reused is not None and judgement.breaches:
            judgement.breaches.append(_reused(trial.reused))
        if cell.concern == "underflow" and policy.policy == "premature":
            judgement.breaches.append(_premature(policy, rows))
        row |= judgement.figures
        row |= {
            "seconds_framework": trial.seconds,
            "seconds_compile": trial.compile_seconds,
            "seconds_oracle": self.answers.seconds - before,
            "flags": sorted({*judgement.flags, *trial.flags}),
        }
        if trial.unsupported is not None and not trial.answered:
            return row | {"verdict": "unsupported", "message": trial.unsupported}
        row["witnesses"] = _evidence(documented, judgement)
        if witnesses.answers_for_others(cell, entry):
            self.given = witnesses.answer(entry, version, trial)
        return row | ruled(self.rules, self.registry, cell, entry, version, judgement)

    def _witnesses(
        self, cell: Cell, entry: Implementation, rows: Sequence[Any]
    ) -> dict[str, tuple[str, ...]]:
        """Of the entries about a cell, the witnesses that run in it; whatever the version.

        What another version gives is what a change of the entry is decided by.
        """
        ran = {c.case_id for c in rows}
        return {
            d.id: tuple(w for w in d.witnesses if w in ran)
            for d in self.registry.covering(cell, entry)
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
        found = [
            case
            for n, limit in profile.asked(entry, cell.mode, cell.derivative, cell.family)
            for case in _generated(
                cell.family,
                entry.op,
                cell.dtype,
                n,
                self.plan.seed,
                limit,
                entry.lacks,
            )
        ]
        found += cases.witnesses(entry.op, cell.dtype, cell.family, without=entry.lacks)
        known = {case.case_id for case in found}
        for case_id in self.registry.witnesses(cell, entry):
            if case_id not in known and not of_a_batch(case_id):
                case = cases.by_id(case_id)
                if case.family == cell.family and set(entry.inputs) == case.arguments:
                    found.append(case)
        return _sendable(cell, found)

    # ------------------------------------------------------------ running

    def policy(self, cell: Cell) -> Underflow:
        """The measured underflow policy of an implementation in a derivative, dtype and mode."""
        key = (cell.implementation, cell.derivative, cell.argument, cell.dtype, cell.mode,
               cell.context)  # fmt: skip
        if key not in self._policies:
            self._policies[key] = self._inherited(cell, self._measure_policy(cell))
        return self._policies[key]

    def _inherited(self, cell: Cell, own: Underflow) -> Underflow:
        """A policy: its own, or that of what it is made of.

        What is never small shows nothing on the ladder, and is made of exponentials that are lost
        all the same: those of a derivative's value or first derivative, or of the framework's
        softmax in the same dtype, mode and context.
        """
        if own is _NO_POLICY or own.flushes or own.policy == "premature":
            return own  # what did not answer on the ladder is not asked further
        made_of = []
        if cell.derivative != "value":
            made_of.append(replace(cell, derivative="value", argument="-"))
        if cell.derivative in ("jvp", "hvp"):
            argument = cell.argument.partition(".")[0]
            made_of.append(replace(cell, derivative="vjp", argument=argument))
        for inner in map(self.policy, made_of):
            if inner.flushes:
                return replace(own, policy=inner.policy)
        if own.policy == "none":
            softmax = self._softmax(cell)
            if softmax not in (None, cell.implementation):
                asked = replace(cell, implementation=softmax, derivative="value", argument="-")
                # What loses more than subnormal numbers loses these too.
                if (inner := self.policy(asked)).flushes or inner.policy == "premature":
                    return replace(own, policy="flush")
        return own

    def _softmax(self, cell: Cell) -> str | None:
        """The framework's own softmax, where it runs in the mode of a cell."""
        framework = self.plan.entry(cell).framework
        by_name = sorted(
            self.plan.registry.items(),
            key=lambda item: (item[0].partition(".")[0] != framework, item[0]),
        )
        for name, entry in by_name:
            if (
                (entry.framework, entry.op, entry.role) == (framework, "softmax", "subject")
                and entry.variant == "builtin"
                and entry.module in BUILTIN_MODULES
                and (entry.modes is None or cell.mode in entry.modes)
                and not entry.missing_requirements()
            ):
                return name
        return None

    def _measure_policy(self, cell: Cell) -> Underflow:
        entry = self.plan.entry(cell)
        op = entry.op
        ladder = _sendable(cell, ladders.rungs(op, cell.dtype, entry.lacks))
        trial = self._run(cell, ladder, _NO_POLICY)
        if trial.accidents:
            # The policy holds for every cell that follows: a child that was killed from outside
            # must not decide it.
            trial = self._run(cell, ladder, _NO_POLICY)
        answered = trial.answered
        if not answered:
            return _NO_POLICY
        question = _question(cell, op)
        flushing = [self.answers.bounds(question, a.cases, flushes=True) for a in answered]
        return metrics.underflow(
            np.concatenate([a.result for a in answered]),
            oracle.join([a.references for a in answered]),
            bounds.join([a.bounds for a in answered]),
            bounds.join(flushing),
        )

    def unanswered(self, entry: Implementation, mode: str) -> dict[str, Any]:
        """Who is asked, without a ``result`` yet; with a ``message`` where it is not installed."""
        out = {"implementation": entry.name, "framework": entry.framework, "mode": mode,
               "result": None}  # fmt: skip
        if self.version(entry.framework) is None or entry.missing_requirements():
            out["message"] = "not installed"
        return out

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
        if set(entry.inputs) != case.arguments:
            return None
        out = self.unanswered(entry, mode)
        if "message" in out:
            return out
        cell = Cell("accuracy", entry.name, derivative, argument, case.format, mode, "cpu",
                    framework.context_for(case.format), case.family)  # fmt: skip
        trial = self.ask(cell, [case], entry)
        if not trial.answered:
            return out | {"message": trial.message}
        answered = trial.answered[0]
        ((worst, ulp, ratio),) = judge.worst_elements(answered)
        return out | {"result": answered.result[0].tolist(), "worst": worst, "ulp": ulp,
                      "ratio_weak": ratio}  # fmt: skip

    def ask(
        self,
        cell: Cell,
        rows: Sequence[Case],
        entry: Implementation | None = None,
        deaths: float = DEATHS,
    ) -> Trial:
        """An implementation's answers to any cases that it takes, not judged.

        Parameters
        ----------
        cell : Cell
            In which derivative, argument, dtype, mode and context.
        entry : Implementation, optional
            Default: that of the cell.
        deaths : float
            Children that it may cost.
        """
        return self._run(cell, rows, _NO_POLICY, entry, deaths)

    def _run(
        self,
        cell: Cell,
        rows: Sequence[Case],
        policy: Underflow,
        entry: Implementation | None = None,
        deaths: float = DEATHS,
    ) -> Trial:
        entry = entry or self.plan.entry(cell)
        question = _question(cell, entry.op)
        trial = Trial()
        executor = self.executor(entry, cell.context)
        left = float(deaths)
        for batch in batches(rows):
            if left <= 0:
                trial.flags.add("stopped_early")
                break
            refs = self.answers.references(question, batch.rows)
            limits = self.answers.bounds(question, batch.rows, flushes=policy.flushes)
            sent = request(cell, entry, batch, refs, question.format)
            once = entry.name in self._lost and not trial.answered
            answers = call_rows(executor, sent, restarts=0 if once else left)
            left -= DEATHS if once and answers.restarts else answers.cost
            trial.take(batch, answers, refs, limits, question.format, entry)
        if trial.answered:
            self._lost.discard(entry.name)
        elif left < deaths:
            self._lost.add(entry.name)
        trial.cost = deaths - left
        return trial

    def executor(self, entry: Implementation, context: str) -> Caller:
        """The executor of an implementation: plug-ins never share one with the built-in ones."""
        own = entry.module in BUILTIN_MODULES
        key = (entry.framework, process_context(context), own)
        if key not in self._executors:
            loads = () if own else self._plugins
            self._executors[key] = self._make(*key[:2], loads)
        return self._executors[key]


@lru_cache(maxsize=1024)
def _generated(
    family: str, op: str, dtype: str, n: int, seed: int, limit: int | None, lacks: str
) -> tuple[Case, ...]:
    """The rows of a family, made once for all implementations of an op."""
    return tuple(cases.make(family, op, dtype, n, seed=seed, limit=limit, without=lacks))


def of_a_batch(case_id: str) -> bool:
    """Whether an id is that of rows in one call, and not of a row."""
    return situations.is_id(case_id) or arrangements.is_id(case_id)


def _sendable(cell: Cell, rows: Sequence[Case]) -> list[Case]:
    """The rows that a context can be given: those that a scaled one can undo."""
    return [case for case in rows if cell.context != SCALED_INPUTS or scales(case)]


def _question(cell: Cell, op: str) -> Question:
    return Question(op, cell.derivative, cell.argument, formats.get(cell.dtype))


def _evidence(
    witnesses: Mapping[str, Sequence[str]], judgement: Judgement
) -> dict[str, dict[str, dict[str, float]]]:
    """What each witness gave; one that did not come back, or came back too small, is broken."""
    bad = {
        b.case_id for b in judgement.breaches
        if b.kind in ("premature", "crash", "timeout", "error")
    }  # fmt: skip
    found: dict[str, dict[str, dict[str, float]]] = {}
    for entry, case_ids in witnesses.items():
        for case_id in case_ids:
            evidence = judgement.evidence.get(case_id, {"broken": 1})
            if case_id in bad:
                evidence = {**evidence, "broken": evidence["broken"] + 1}
            found.setdefault(entry, {})[case_id] = evidence
    return found


def _premature(policy: Underflow, rows: Sequence[Any]) -> Breach:
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
        "must_catch": cell == must_catch(entry) if entry.role == "mutant" else None,
    }
