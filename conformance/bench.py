"""The bench: measures one cell. Cases to references on one side, implementation to result on the
other, and the judge where they meet.

A bench lives in one process (a worker of pytest-xdist, or a single run) and keeps what is worth
keeping there: executors by framework and context, references in a bounded memory cache, and the
underflow policy of every implementation that it met.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conformance import deviations, judge
from conformance.executor import Caller, Executor
from conformance.frameworks import get_framework
from conformance.judge import Answered, Breach, Judgement
from conformance.plan import Cell, Plan, must_catch
from conformance.protocol import Crashed, Raised, Request, Result, TimedOut
from conformance.registry import OPS, Implementation
from conformance.rows import RowAnswers, call_rows
from reference import bounds, cases, formats, metrics, oracle
from reference.bounds import Bounds
from reference.cases import Case
from reference.formats import F64, Format
from reference.metrics import Underflow
from reference.oracle import References

_CACHED_ELEMENTS = 8_000_000
POLICY_FAMILY, POLICY_LENGTH = "gap_ladder", 2
_NO_POLICY = Underflow("none", 0.0, float("inf"))


def height(n: int) -> int:
    """Rows per batch, fixed for a row length so that compiled frameworks see few shapes."""
    return 48 if n <= 4 else 16 if n <= 128 else 2 if n <= 1000 else 1


class References_:  # noqa: N801 - the cache, not the value class
    """References of batches, computed once and kept while there is room."""

    def __init__(self, elements: int = _CACHED_ELEMENTS) -> None:
        self._room = elements
        self._kept: OrderedDict[tuple[str, ...], References] = OrderedDict()
        self.seconds = 0.0

    def get(
        self, op: str, derivative: str, argument: str, rows: Sequence[Case], fmt: Format
    ) -> References:
        """The references of these cases, in their order."""
        key = (op, derivative, argument, fmt.name, *(c.case_id for c in rows))
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        start = time.perf_counter()
        found = oracle.evaluate(op, derivative, argument, cases.stack(list(rows)), fmt)
        self.seconds += time.perf_counter() - start
        self._kept[key] = found
        self._room -= found.codes.size
        while self._room < 0 and len(self._kept) > 1:
            _, dropped = self._kept.popitem(last=False)
            self._room += dropped.codes.size
        return found


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
        executor: Callable[[str, str], Caller] | None = None,
    ) -> None:
        self.plan = plan
        self.registry = deviations.load() if registry is None else registry
        options: dict[str, Any] = {"plugins": tuple(plugins)}
        if deadline is not None:
            options["deadline"] = deadline
        if memory_limit is not None:
            options["memory_limit"] = memory_limit
        self._make = executor or (lambda name, context: Executor(name, context, **options))
        self._executors: dict[tuple[str, str], Caller] = {}
        self._references = References_()
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

        before = self._references.seconds
        rows = self.cases(cell)
        policy = self.policy(cell) if entry.role != "control" else _NO_POLICY
        trial = self._run(cell, rows, policy)
        judgement = judge.judge(
            formats.get(cell.dtype), trial.answered, policy, role=entry.role
        )
        judgement.breaches += trial.breaches
        if cell.concern == "underflow" and policy.policy == "premature":
            judgement.breaches.append(_premature(policy, rows))
        row |= judgement.figures
        row |= {
            "seconds_framework": trial.seconds,
            "seconds_compile": trial.compile_seconds,
            "seconds_oracle": self._references.seconds - before,
            "flags": sorted({*judgement.flags, *trial.flags}),
        }
        if trial.unsupported is not None and not trial.answered:
            return Measured(row | {"verdict": "unsupported", "message": trial.unsupported}, {})
        return self._ruled(cell, entry, version, judgement, row)

    def _ruled(
        self,
        cell: Cell,
        entry: Implementation,
        version: str | None,
        judgement: Judgement,
        row: dict[str, Any],
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
        return Measured(row, self._witnesses(cell, entry, version, judgement))

    def _witnesses(
        self, cell: Cell, entry: Implementation, version: str | None, judgement: Judgement
    ) -> dict[str, dict[str, bool]]:
        """Which witnesses of applicable entries met the contract in this cell."""
        premature = {b.case_id for b in judgement.breaches if b.kind == "premature"}
        failing = judgement.failing_cases | premature
        if any(b.kind in ("crash", "timeout", "error") for b in judgement.breaches):
            failing |= {b.case_id for b in judgement.breaches}
        return {
            d.id: {
                f"{w} @ {cell.key}": w not in failing
                for w in d.witnesses
                if w.startswith(f"{entry.op}-{cell.dtype}-")
            }
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
            for case in cases.make(
                cell.family, entry.op, cell.dtype, n,
                seed=self.plan.seed, limit=profile.limit(n),
            )
        ]  # fmt: skip
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
        ladder = cases.make(POLICY_FAMILY, op, cell.dtype, POLICY_LENGTH, seed=0)
        answered = self._run(cell, ladder, _NO_POLICY).answered
        if not answered:
            return _NO_POLICY
        flushing = [
            bounds.evaluate(
                op, cell.derivative, cell.argument, cases.stack(list(a.cases)),
                a.references.format, flushes=True,
            )
            for a in answered
        ]  # fmt: skip
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
    ) -> _Trial:
        entry = entry or self.plan.entry(cell)
        fmt = formats.get(cell.dtype)
        trial = _Trial()
        executor = self._executor(entry.framework, cell.context)
        for batch in batches(rows):
            refs = self._references.get(
                entry.op, cell.derivative, cell.argument, batch.rows, fmt
            )
            limits = bounds.evaluate(
                entry.op, cell.derivative, cell.argument, cases.stack(batch.rows), fmt,
                flushes=policy.flushes,
            )  # fmt: skip
            request = _request(cell, entry, batch, refs, fmt)
            trial.take(batch, call_rows(executor, request), refs, limits, fmt, entry)
        return trial

    def _executor(self, framework: str, context: str) -> Caller:
        key = (framework, context)
        if key not in self._executors:
            self._executors[key] = self._make(framework, context)
        return self._executors[key]


# ---------------------------------------------------------------- batches


@dataclass(frozen=True, eq=False)
class Batch:
    """Cases of one length, and the height that they are padded to."""

    rows: list[Case]
    height: int


def batches(rows: Sequence[Case]) -> Iterator[Batch]:
    """Cases in batches of one length and fixed height, in a stable order."""
    by_length: dict[int, list[Case]] = {}
    for case in rows:
        by_length.setdefault(case.n, []).append(case)
    for n, group in by_length.items():
        step = height(n)
        for start in range(0, len(group), step):
            yield Batch(group[start : start + step], step)


def _request(
    cell: Cell, entry: Implementation, batch: Batch, refs: References, fmt: Format
) -> Request:
    """The batch as the child gets it, padded by repeating its last row."""
    inputs = cases.stack(batch.rows)
    arrays: dict[str, NDArray[Any]] = {}
    for name in OPS[entry.op].inputs:
        value = inputs[name]
        arrays[name] = value if value.dtype.kind == "i" else fmt.cast(value)
    if cell.derivative == "vjp":
        arrays["g"] = fmt.cast(inputs["g"])
    if entry.role == "control":
        arrays = {"answer": fmt.cast(_control_answer(refs, per_row=_per_row(cell, entry)))}
    padding = batch.height - len(batch.rows)
    padded = {
        name: np.concatenate([a, np.repeat(a[-1:], padding, axis=0)]) if padding else a
        for name, a in arrays.items()
    }
    return Request(
        implementation=entry.name,
        op=entry.op,
        derivative=cell.derivative,
        argument=cell.argument,
        dtype=cell.dtype,
        mode=cell.mode,
        arrays=padded,
    )


def _per_row(cell: Cell, entry: Implementation) -> bool:
    return cell.derivative == "value" and not OPS[entry.op].keeps_axis


def _control_answer(refs: References, *, per_row: bool) -> F64:
    """The correctly rounded answers, by the scalar integer path and not the judge's own."""
    values = np.array(
        [
            [oracle.round_element(refs, r, i) for i in range(refs.shape[1])]
            for r in range(refs.shape[0])
        ]
    ).reshape(refs.shape)
    return values[:, 0] if per_row else values


# ---------------------------------------------------------------- answers


class _Trial:
    """Everything that came back for the cases of a cell."""

    def __init__(self) -> None:
        self.answered: list[Answered] = []
        self.breaches: list[Breach] = []
        self.flags: set[str] = set()
        self.seconds = 0.0
        self.compile_seconds = 0.0
        self.unsupported: str | None = None

    def take(
        self,
        batch: Batch,
        answers: RowAnswers,
        refs: References,
        limits: Bounds,
        fmt: Format,
        entry: Implementation,
    ) -> None:
        """Sort the answers to a batch into results and breaches."""
        self.seconds += answers.seconds
        self.compile_seconds += answers.compile_seconds
        real = len(batch.rows)
        good: list[int] = []
        values: list[F64] = []
        for part, result in answers.results:
            wrong = self._shape_or_dtype(batch, result, part.rows, refs, fmt)
            if wrong is not None:
                self._add(wrong, batch.rows[min(part.start, real - 1)].case_id)
                continue
            keep = [r for r in part.rows if r < real]
            good += keep
            out = np.asarray(result.out).astype(np.float64).reshape(len(part.rows), -1)
            values.append(out[: len(keep)])
        if good:
            picked = np.array(good)
            self.answered.append(
                Answered([batch.rows[r] for r in good], refs.rows(picked), limits[picked],
                         np.concatenate(values))
            )  # fmt: skip
        for part in answers.failures:
            if part.start < real:
                self._failure(part.answer, batch.rows[part.start].case_id, entry)
        for answer in answers.unreproduced:
            self._failure(answer, batch.rows[0].case_id, entry)
        for breach in answers.breaches:
            hit = min([*breach.rows, 0])
            self._add((breach.kind, breach.detail), batch.rows[min(hit, real - 1)].case_id)
        for leak in answers.leaks:
            self._add(("leak", leak), batch.rows[0].case_id)

    def _shape_or_dtype(
        self, batch: Batch, result: Result, rows: range, refs: References, fmt: Format
    ) -> tuple[str, str] | None:
        out = result.out
        if out.dtype != fmt.dtype:
            return "dtype", f"the output is {out.dtype}, the input {fmt.name}"
        columns = refs.shape[1]
        expected = (len(rows), columns)
        if out.shape not in (expected, expected[:1] if columns == 1 else expected):
            return "shape", f"the output has shape {out.shape}, {expected} is right"
        return None

    def _failure(self, answer: Any, case_id: str, entry: Implementation) -> None:
        if isinstance(answer, Raised):
            text = f"{answer.type}: {answer.text}"
            if answer.kind == "unsupported" or get_framework(entry.framework).means_unsupported(
                answer.type, answer.text
            ):
                self.unsupported = text
            else:
                self._add(("error", text), case_id)
        elif isinstance(answer, TimedOut):
            self._add(("timeout", f"no answer within {answer.seconds:g} s"), case_id)
        elif isinstance(answer, Crashed):
            detail = f"{answer.reason} {answer.text}".strip()
            self._add(("crash", detail), case_id)

    def _add(self, found: tuple[str, str], case_id: str) -> None:
        """Count a breach; the first of a kind gives the case and the detail."""
        kind, detail = found
        for k, breach in enumerate(self.breaches):
            if breach.kind == kind:
                self.breaches[k] = Breach(kind, breach.case_id, breach.detail, breach.figure + 1)
                return
        self.breaches.append(Breach(kind, case_id, detail, 1.0))


def _premature(policy: Underflow, rows: Sequence[Case]) -> Breach:
    return Breach(
        "premature",
        rows[0].case_id if rows else "",
        f"a normal result of magnitude {policy.lost_up_to:.9g} came back as 0; the smallest "
        f"non-zero result is {policy.last_nonzero:.9g}",
        policy.lost_up_to,
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
    return bool(row["key"] == must_catch(entry).key and row["verdict"] in ("fail", "error"))
