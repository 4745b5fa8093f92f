"""From cases to requests, and from an executor's answers to results and breaches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from conformance.execution.protocol import (
    Answer,
    Crashed,
    Raised,
    Request,
    Result,
    TimedOut,
)
from conformance.frameworks import get_framework
from conformance.frameworks.base import CALL_CONTEXTS, SCALE, SCALED_INPUTS, array_names
from conformance.judge import Answered, Breach
from conformance.registry import OPS, Implementation
from conformance.rows import HANG, RowAnswers
from conformance.text import printable
from reference import cases, formats, oracle
from reference.bounds import Bounds
from reference.cases import Case
from reference.formats import F64, Format
from reference.oracle import References

if TYPE_CHECKING:
    from conformance.cells import Cell

_DETAIL = 600
"""Characters of a detail, which may come from an implementation."""


class HarnessError(RuntimeError):
    """The instrument itself failed where an implementation was to be called."""


def height(n: int) -> int:
    """Rows per batch, fixed for a row length so that compiled frameworks see few shapes."""
    return 48 if n <= 4 else 16 if n <= 300 else 2 if n <= 1000 else 1


@dataclass(frozen=True, eq=False)
class Batch:
    """Cases of one length, and the height that they are padded to."""

    rows: list[Case]
    height: int


def batches(rows: Sequence[Case]) -> Iterator[Batch]:
    """Cases in batches of one length and fixed height, in a stable order.

    At least two of them have one shape and different rows, where there are two rows of a length:
    an implementation that keeps its answer for a shape gives itself away.
    """
    by_length: dict[int, list[Case]] = {}
    for case in rows:
        by_length.setdefault(case.n, []).append(case)
    steps = {n: height(n) for n in by_length}
    several = sorted(n for n, group in by_length.items() if len(group) > 1)
    if several and not any(len(group) > height(n) for n, group in by_length.items()):
        shortest = several[0]
        steps[shortest] = (len(by_length[shortest]) + 1) // 2
    for n, group in by_length.items():
        for start in range(0, len(group), steps[n]):
            yield Batch(group[start : start + steps[n]], height(n))


def request(
    cell: Cell, entry: Implementation, batch: Batch, refs: References, fmt: Format
) -> Request:
    """The batch as the child gets it, padded by repeating its last row."""
    inputs = cases.stack(batch.rows)
    arrays: dict[str, NDArray[Any]] = {}
    if entry.role == "control":
        per_row = OPS[entry.op].is_per_row(cell.derivative)
        arrays["answer"] = fmt.cast(_control_answer(refs, per_row=per_row))
    else:
        for name in array_names(entry, cell.derivative, cell.argument):
            value = inputs[name] / SCALE if scaled(cell, name) else inputs[name]
            arrays[name] = value if value.dtype.kind in "ib" else fmt.cast(value)
    padding = batch.height - len(batch.rows)
    padded = {
        name: np.concatenate([a, np.repeat(a[-1:], padding, axis=0)]) if padding else a
        for name, a in arrays.items()
    }
    return call(cell, entry, padded)


def call(
    cell: Cell, entry: Implementation, arrays: Mapping[str, NDArray[Any]], **more: Any
) -> Request:
    """A call of a cell's map on arrays; ``more`` are further fields of the request."""
    return Request(
        implementation=entry.name,
        op=entry.op,
        derivative=cell.derivative,
        argument=cell.argument,
        dtype=cell.dtype,
        mode=cell.mode,
        arrays=arrays,
        call_context=cell.context if cell.context in CALL_CONTEXTS else "",
        **more,
    )


def scaled(cell: Cell, name: str) -> bool:
    """Whether an input goes out divided by what the compiled function multiplies it by."""
    return cell.context == SCALED_INPUTS and name == "x"


def scales(case: Case) -> bool:
    """Whether x can be divided by `SCALE` and multiplied again without rounding."""
    fmt, x = formats.get(case.format), case.inputs["x"]
    return bool(np.all((formats.nearest(fmt, x / SCALE) * SCALE == x) | np.isnan(x)))


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


class Trial:
    """Everything that came back for the cases of a cell."""

    def __init__(self) -> None:
        self.answered: list[Answered] = []
        self.breaches: list[Breach] = []
        self.flags: set[str] = set()
        self.seconds = 0.0
        self.compile_seconds = 0.0
        self.unsupported: str | None = None
        self.reused: str | None = None
        """A case whose batch got the very answer that another one of its shape had got."""
        self._outputs: dict[tuple[int, ...], tuple[bytes, F64]] = {}
        self.accidents = 0
        """Failures that no row repeated, and children that did not start."""
        self.cost = 0.0
        """Children that it took, see `conformance.rows`."""

    @property
    def message(self) -> str:
        """Why there is no answer."""
        return self.unsupported or "; ".join(breach.detail for breach in self.breaches)

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
                self.add(wrong, batch.rows[min(part.start, real - 1)].case_id)
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
                self.failure(part.answer, batch.rows[part.start].case_id, entry)
        for answer in answers.unreproduced:
            self.accidents += 1
            self.failure(answer, batch.rows[0].case_id, entry)
        for breach in answers.breaches:
            hit = min(breach.rows, default=0)
            self.add((breach.kind, breach.detail), batch.rows[min(hit, real - 1)].case_id)
        for leak in answers.leaks:
            self.add(("leak", leak), batch.rows[0].case_id)
        if answers.retried:
            self.flags.add("retried")
        if len(answers.parts) == 1:
            for _, result in answers.results:
                self._compare(batch, result.out, refs.rounded())

    def _compare(self, batch: Batch, out: NDArray[Any], right: F64) -> None:
        """Notice an answer that is bit for bit that of another batch of this shape.

        A constant, wrong as it may be, was not kept from anywhere.
        """
        values = np.asarray(out).astype(np.float64)
        if np.unique(values[np.isfinite(values) & (values != 0)]).size < 2:
            return
        answer = out.tobytes()
        before, of = self._outputs.setdefault(out.shape, (answer, right))
        rows = min(len(of), len(right))
        if answer == before and rows and of.shape[1:] == right.shape[1:]:
            same = (of[:rows] == right[:rows]) | (np.isnan(of[:rows]) & np.isnan(right[:rows]))
            if 2 * int(same.all(axis=1).sum()) < rows:
                self.reused = batch.rows[0].case_id

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

    def returned(self, answer: Result, case_id: str) -> None:
        """Count what was seen while a call was made that came back."""
        self.seconds += answer.seconds
        self.compile_seconds += answer.compile_seconds
        for breach in answer.breaches:
            self.add((breach.kind, breach.detail), case_id)
        for leak in answer.leaks:
            self.add(("leak", leak), case_id)
        if answer.retried:
            self.flags.add("retried")

    def is_of(self, out: NDArray[Any], fmt: Format, shape: tuple[int, ...], case_id: str) -> bool:
        """Whether an array has the dtype and the shape that are right; a breach if it has not."""
        if out.dtype != fmt.dtype:
            self.add(("dtype", f"the output is {out.dtype}, the input {fmt.name}"), case_id)
            return False
        if out.shape != shape:
            self.add(("shape", f"the output has shape {out.shape}, {shape} is right"), case_id)
            return False
        return True

    def died(self, answer: Answer) -> None:
        """Count a child that an answer cost."""
        if not isinstance(answer, Raised):
            self.cost += HANG if isinstance(answer, TimedOut) else 1.0

    def failure(self, answer: Any, case_id: str, entry: Implementation) -> None:
        """Count an answer that is no result."""
        if isinstance(answer, Raised):
            text = f"{answer.type}: {answer.text}"
            if answer.kind == "harness":
                raise HarnessError(f"{case_id}: {text}")
            if answer.kind == "unsupported" or get_framework(entry.framework).means_unsupported(
                answer.type, answer.text
            ):
                self.unsupported = printable(text, _DETAIL)
            else:
                self.add(("error", text), case_id)
        elif isinstance(answer, TimedOut):
            self.accidents += answer.phase == "start"
            self.add(("timeout", f"no answer within {answer.seconds:g} s"), case_id)
        elif isinstance(answer, Crashed):
            self.accidents += answer.phase == "start"
            detail = f"{answer.reason} {answer.text}".strip()
            self.add(("crash", detail), case_id)

    def add(self, found: tuple[str, str], case_id: str) -> None:
        """Count a breach; the first of a kind gives the case and the detail, in one line."""
        kind, detail = printable(found[0], 100), printable(found[1], _DETAIL)
        for k, breach in enumerate(self.breaches):
            if breach.kind == kind:
                self.breaches[k] = Breach(kind, breach.case_id, breach.detail, breach.figure + 1)
                return
        self.breaches.append(Breach(kind, case_id, detail, 1.0))
