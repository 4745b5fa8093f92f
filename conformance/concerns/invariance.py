"""invariance: what does not depend on anything else, and what agrees with its mirror image.

Each arrangement is asked plainly, and once more in another way: in another batch, place, layout,
mode or number of threads, or with inputs whose answer is the same or follows from it. Both answers
are judged like any other. Where their bits differ, the cell carries a flag, ``batch_variant`` and
the like; where they differ by more than the sum of their bounds, or where equal bits were promised,
that is a breach of the same name. Probabilities are never outside [0, 1].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from conformance.answers import Question
from conformance.concerns import variants
from conformance.concerns.arranged import DEATHS, chosen, failed, finished, is_per_row, rows_of
from conformance.concerns.variants import Variant
from conformance.execution.protocol import Result
from conformance.frameworks import get_framework
from conformance.frameworks.base import DEFAULT, THREADS
from conformance.frameworks.layouts import TRANSPOSED
from conformance.judge import BEYOND, Answered
from conformance.profiles import Profile
from conformance.registry import Implementation
from conformance.trial import Trial
from reference import arrangements, formats, ops
from reference.arrangements import Arrangement, as_cases
from reference.cases import Case
from reference.formats import F64
from reference.metrics import Underflow

if TYPE_CHECKING:
    from conformance.bench import Bench
    from conformance.cells import Cell

__all__ = ["INVARIANCE", "other"]

_FAMILIES = ("batches", "layouts", "symmetries", "threads", "modes")
_SMALL = ("softmax", "logsumexp")
"""The ops of a small profile; where every shape is compiled for, the first of them."""
_PROBABILITIES = ("softmax", "masked_softmax", "sigmoid")
_MANY = 32
_JUDGED = 2
"""Of more than so many rows, so many are held against the oracle."""
_COMPARED = 8
"""Rows that differ, and whose bounds are asked for: the most different ones."""

Wide = NDArray[np.longdouble]


class Invariance:
    """See the module."""

    name = "invariance"

    @property
    def versions(self) -> dict[str, int]:
        """Of its families of arrangements."""
        return {name: arrangements.FAMILIES[name].version for name in _FAMILIES}

    def asks(self, profile: Profile, entry: Implementation, cell: Cell) -> bool:
        """Values and gradients; in compiled modes values of built-ins, and how far they are from
        eager mode.
        """
        if entry.role != "subject" or cell.derivative not in ("value", "vjp"):
            return False
        names = arrangements.FAMILIES[cell.family].forms(ops.get(entry.op))
        if not any(_applies(cell, entry, name, costly=False) for name in names):
            return False
        framework = get_framework(entry.framework)
        if cell.family == "threads" or cell.context != framework.context_for(cell.dtype):
            asked = cell.family == "threads" and cell.context == THREADS
            return asked and (cell.mode == "eager" or not profile.builtins_only)
        plain = (cell.derivative, cell.dtype) == ("value", "float32")
        if cell.family == "layouts" and (TRANSPOSED in framework.layouts) == (cell.mode == "eager"):
            return False  # without strides, only a compiler sees that something was transposed
        if profile.builtins_only:
            one = entry.framework == "jax" or cell.mode != "eager"
            few = plain and entry.op in (_SMALL[:1] if one else _SMALL)
            return few and (cell.mode == "eager") == (cell.family != "modes")
        if cell.family == "modes":
            return cell.mode != "eager"
        return cell.mode == "eager" or (plain and entry.variant == "builtin")

    def cases(self, bench: Bench, cell: Cell) -> list[Arrangement]:
        """The arrangements of a cell, and witnesses of deviations."""
        entry, profile = bench.plan.entry(cell), bench.plan.profile
        costly = entry.framework == "jax" or cell.mode != "eager"
        return [
            arrangement
            for arrangement in chosen(bench, cell, profile.situations)
            if _applies(cell, entry, arrangement.name, costly=costly)
        ]

    def run(
        self, bench: Bench, cell: Cell, rows: Sequence[Arrangement], policy: Underflow
    ) -> Trial:
        """Two calls for each arrangement, of which the plain one is shared."""
        asking = _Asking(bench, cell, bench.plan.entry(cell), policy)
        for arrangement in rows:
            if asking.trial.cost > DEATHS:
                asking.trial.flags.add("stopped_early")
                break
            asking.ask(arrangement)
        return finished(asking.trial)


INVARIANCE = Invariance()


def _applies(cell: Cell, entry: Implementation, name: str, *, costly: bool) -> bool:
    """Whether an arrangement is for a cell: not a new shape where these have to be compiled."""
    if cell.family == "layouts":
        return name in get_framework(entry.framework).layouts
    if name in ("alone", "part"):
        return not costly
    if name == "mirrored":
        return cell.argument != "pos_weight"
    return cell.derivative == "value" or name not in ("ordered", "swapped")


def other(
    bench: Bench,
    arrangement: Arrangement,
    entry: Implementation,
    derivative: str,
    argument: str,
    mode: str,
) -> dict[str, Any] | None:
    """One implementation's answer in the other way; None where there is none.

    Returns
    -------
    dict
        ``flag``, the ``rows`` that it holds of the plain answer, and ``result`` (nested lists, or
        None with a ``message``).
    """
    from conformance.cells import Cell

    framework = get_framework(entry.framework)
    threads = arrangement.family == "threads"
    context = THREADS if threads else framework.context_for(arrangement.format)
    cell = Cell("invariance", entry.name, derivative, argument, arrangement.format, mode, "cpu",
                context, arrangement.family)  # fmt: skip
    known = framework.runs_in(context, cell.dtype, mode)
    if not known or not _applies(cell, entry, arrangement.name, costly=False):
        return None
    found = variants.variant(arrangement, cell)
    if found is None:
        return None
    asking = _Asking(bench, cell, entry, Underflow("none", 0.0, float("inf")))
    result = asking.call(arrangement, found)
    out: dict[str, Any] = {"flag": found.flag, "rows": list(found.of), "result": None}
    if result is None:
        return out | {"message": asking.trial.message}
    return out | {"result": result[list(found.at)].tolist()}


class _Asking:
    """The calls of one cell."""

    def __init__(self, bench: Bench, cell: Cell, entry: Implementation, policy: Underflow) -> None:
        self.bench, self.cell, self.entry, self.policy = bench, cell, entry, policy
        self.trial = Trial()
        self.fmt = formats.get(cell.dtype)
        self.question = Question(self.entry.op, cell.derivative, cell.argument, self.fmt)
        self.per_row = is_per_row(self.entry, cell.derivative)
        self._plain: dict[bytes, tuple[F64 | None, tuple[Case, ...]]] = {}

    def ask(self, arrangement: Arrangement) -> None:
        """One arrangement."""
        before, cases = self._base(arrangement)
        if before is None:
            return
        variant = variants.variant(arrangement, self.cell)
        if variant is None:
            self._judge(arrangement, cases, before)
            self._ordered(arrangement, cases, before)
            return
        after = self.call(arrangement, variant)
        if after is None:
            return
        if variant.same:
            own = [cases[r] for r in variant.of]
        else:
            made = as_cases(arrangement, variant.inputs, f".{variant.flag}")
            own = [made[r] for r in variant.at]
        after = after[list(variant.at)]
        self._judge(arrangement, own, after)
        self._compare(arrangement, variant, before, after, [cases[r] for r in variant.of], own)

    # ------------------------------------------------------------ calls

    def _base(self, arrangement: Arrangement) -> tuple[F64 | None, tuple[Case, ...]]:
        """The plain answer, asked once for all arrangements of the same rows."""
        key = b"".join(np.asarray(a).tobytes() for a in arrangement.inputs.values())
        if key not in self._plain:
            plain = variants.plain(arrangement)
            if arrangement.family == "threads":
                plain = replace(plain, context=DEFAULT)
            if arrangement.family == "modes":
                plain = replace(plain, mode="eager")
            self._plain[key] = self.call(arrangement, plain), arrangement.cases
        return self._plain[key]

    def call(self, arrangement: Arrangement, variant: Variant) -> F64 | None:
        """An answer as rows; None where there is none, and the breach has been counted."""
        cell, case_id = self.cell, arrangement.case_id
        request = rows_of(cell, self.entry, self.fmt, variant.inputs, layout=variant.layout)
        if variant.mode is not None:
            request = replace(request, mode=variant.mode)
        context = cell.context if variant.context is None else variant.context
        answer = self.bench.executor(self.entry, context).call(request)
        if not isinstance(answer, Result):
            failed(self.trial, answer, case_id, self.entry)
            return None
        self.trial.returned(answer, case_id)
        count, n = variant.inputs["x"].shape
        shape = (count,) if self.per_row else (count, n)
        if not self.trial.is_of(answer.out, self.fmt, shape, case_id):
            return None
        result = np.asarray(answer.out).astype(np.float64).reshape(count, -1)
        self._probable(arrangement, result)
        return result

    # ------------------------------------------------------------ verdicts

    def _judge(self, arrangement: Arrangement, cases: Sequence[Case], result: F64) -> None:
        """Answers beside what is right."""
        few = _JUDGED if len(cases) > _MANY else len(cases)
        cases, result = list(cases[:few]), result[:few]
        refs = self.bench.answers.references(self.question, cases)
        limits = self.bench.answers.bounds(self.question, cases, flushes=self.policy.flushes)
        kinds = np.full(result.shape, "finite")
        same = [arrangement] * len(cases)
        self.trial.answered.append(Answered(same, refs, limits, result, kinds))

    def _probable(self, arrangement: Arrangement, result: F64) -> None:
        if self.entry.op in _PROBABILITIES and self.cell.derivative == "value":
            outside = result[(result < 0) | (result > 1)]
            if outside.size:
                detail = f"{float(outside[0]):.9g} is no probability"
                self.trial.add(("outside_0_1", detail), arrangement.case_id)

    def _weak(self, cases: Sequence[Case]) -> Wide:
        """The bounds of grade B."""
        return self.bench.answers.bounds(
            self.question, list(cases), flushes=self.policy.flushes
        ).weak

    def _compare(
        self, arrangement: Arrangement, variant: Variant, before: F64, after: F64,
        cases: Sequence[Case], own: Sequence[Case],
    ) -> None:  # fmt: skip
        """The two answers: equal bits, equal up to their bounds, or neither."""
        expected = before[list(variant.of)].astype(np.longdouble)
        order = variant.classes
        if order is not None and not self.per_row:
            expected = expected[:, order]
        expected = variant.scale * expected
        if np.any(variant.offset):  # adding 0 would take the sign of a zero away
            expected = expected + variant.offset
        difference = _difference(after.astype(np.longdouble), expected)
        if variant.exact and _bits_differ(after, expected):
            self.trial.flags.add(variant.flag)
            if variant.flag.removesuffix("_variant") in self.entry.bitwise:
                detail = f"{arrangement.name}: other bits, where equal ones are promised"
                self.trial.add((variant.flag, detail), arrangement.case_id)
        if not difference.any():
            return
        worst = np.argsort(-difference.max(axis=1), kind="stable")[:_COMPARED]
        limit = self._weak([cases[r] for r in worst])
        if order is not None and not self.per_row:
            limit = limit[:, order]
        limit = limit + self._weak([own[r] for r in worst])
        ratio = np.where(difference[worst] == 0, 0, difference[worst] / limit)
        row, index = np.unravel_index(int(np.argmax(ratio)), ratio.shape)
        if ratio[row, index] > BEYOND:
            at = int(worst[row])
            detail = (
                f"{arrangement.name}: row {at}, element {index}: {after[at, index]:.9g} where "
                f"{float(expected[at, index]):.9g} was to be expected, "
                f"{float(ratio[row, index]):.3g} times the sum of the bounds"
            )
            self.trial.add((variant.flag, detail), arrangement.case_id)

    def _ordered(self, arrangement: Arrangement, cases: Sequence[Case], result: F64) -> None:
        """Equal logits have equal results, and larger ones no smaller results."""
        limit = self._weak(cases)
        x = np.asarray(arrangement.inputs["x"])
        kept = np.asarray(arrangement.inputs.get("mask", np.ones(x.shape, bool)))
        if self.entry.op in _PROBABILITIES[:2] or self.entry.op == "log_softmax":
            rows = [(x[r], result[r], limit[r], kept[r]) for r in range(len(x))]
        else:  # of an elementwise op all elements are one row
            rows = [(x.ravel(), result.ravel(), limit.ravel(), kept.ravel())]
        for logits, values, bound, keep in rows:
            self._in_order(arrangement, logits[keep], values[keep], bound[keep])

    def _in_order(self, arrangement: Arrangement, x: F64, y: F64, bound: Wide) -> None:
        order = np.lexsort((y, x))
        x, y, bound = x[order], y[order], bound[order]
        excess = y[:-1].astype(np.longdouble) - y[1:]
        for flag, there in (
            ("ties_variant", (x[:-1] == x[1:]) & (excess != 0)),
            ("order_variant", (x[:-1] < x[1:]) & ~(excess <= 0)),
        ):
            if not there.any():
                continue
            self.trial.flags.add(flag)
            ratio = np.where(there, np.abs(excess) / (bound[:-1] + bound[1:]), 0)
            k = int(np.argmax(ratio))
            if not ratio[k] <= BEYOND:
                detail = (
                    f"{y[k]:.9g} of {x[k]:.9g} and {y[k + 1]:.9g} of {x[k + 1]:.9g}, "
                    f"{float(ratio[k]):.3g} times the sum of the bounds apart"
                )
                self.trial.add((flag, detail), arrangement.case_id)


def _difference(after: Wide, expected: Wide) -> Wide:
    """|after - expected|: 0 between equal infinities and two NaN, infinite beside one NaN."""
    with np.errstate(invalid="ignore"):
        apart = np.abs(after - expected)
    same = (after == expected) | (np.isnan(after) & np.isnan(expected))
    return np.where(same, 0, np.where(np.isnan(apart), np.inf, apart))


def _bits_differ(after: F64, expected: Wide) -> bool:
    """Also 0 and -0 do; what a NaN carries does not count."""
    plain = expected.astype(np.float64)
    same = (after == plain) & (np.signbit(after) == np.signbit(plain))
    return not bool((same | (np.isnan(after) & np.isnan(plain))).all())
