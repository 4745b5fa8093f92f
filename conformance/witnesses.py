"""Witnesses: the worst cases of a run, and everybody's answers to them.

Of each op, derivative, argument, dtype and family the worst cases of all implementations are kept,
a few each, largest test ratio first; then every implementation of the plan is asked for all of them
in eager mode. Both depend on the measurements and the plan alone, so a resumed or merged record has
the witnesses of an uninterrupted run.

A shard keeps the worst of its own cells and asks the implementations of the whole plan: whatever
belongs to the worst of the whole is among the worst of some shard (`merged`).
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from conformance.cells import Cell
from conformance.frameworks import get_framework
from conformance.judge import approximate_text, worst_elements
from conformance.registry import Implementation
from conformance.trial import Trial
from reference import ops
from reference.cases import Case
from reference.cases.base import LACKING
from reference.references import References

__all__ = ["CONCERNS", "MODE", "MOST", "WHOLE", "Kept", "Map", "Witness", "answer",
           "answers_for_others", "chosen", "described", "merged", "most", "refused"]  # fmt: skip

MOST: Mapping[str, int] = {"quick": 1, "standard": 2}
"""By profile, how many cases a group keeps."""
_MOST = 3
WHOLE = 64
"""Rows of up to so many entries are kept in full."""
_FIRST, _AROUND = 8, 2
"""Of longer rows: the first entries, and those around the largest logit, the label and the worst
element of an answer."""

MODE = "eager"
CONCERNS = ("accuracy", "special_values")
_DIGITS = 7
_ROLES = frozenset({"subject", "antipattern"})

Group = tuple[str, str, str, str, str]
Map = tuple[str, str, str, str]
"""Op, derivative, argument and dtype."""


@dataclass(frozen=True)
class Witness:
    """A case that was somebody's worst.

    Attributes
    ----------
    op, derivative, argument, dtype, family, case_id : str
    ratio, ulp : float
        The worst that a cell showed of which it is the worst case; infinite where a NaN or an
        infinity was wrong.
    worst_of : tuple of str
        The keys of these cells.
    """

    op: str
    derivative: str
    argument: str
    dtype: str
    family: str
    case_id: str
    ratio: float
    ulp: float
    worst_of: tuple[str, ...]

    @property
    def map(self) -> Map:
        """What is asked of it."""
        return self.op, self.derivative, self.argument, self.dtype

    @property
    def group(self) -> Group:
        """Among which it was chosen."""
        return (*self.map, self.family)


def most(profile: str) -> int:
    """How many cases a group keeps in a profile."""
    return MOST.get(profile, _MOST)


def chosen(rows: Iterable[Mapping[str, Any]], most: int) -> list[Witness]:
    """The witnesses of measurements, by group and then worst first.

    Parameters
    ----------
    rows : iterable of measurements
    most : int
        How many a group keeps; cases that lack an optional input have as many of their own,
        because no implementation can answer both kinds.
    """
    found = []
    for row in rows:
        if row["concern"] not in CONCERNS or row["role"] not in _ROLES or not row["worst_case"]:
            continue
        special = bool(row["nan_mismatches"] or row["inf_mismatches"])
        found.append(
            Witness(
                row["op"],
                row["derivative"],
                row["argument"],
                row["dtype"],
                row["family"],
                row["worst_case"],
                math.inf if special else row["ratio_weak"] or 0.0,
                math.inf if special else row["max_ulp"] or 0.0,
                (row["key"],),
            )
        )
    joined: dict[tuple[Group, str], Witness] = {}
    for one in found:
        place = one.group, one.case_id
        joined[place] = _joined(joined[place], one) if place in joined else one
    ranked = sorted(joined.values(), key=lambda w: (w.group, -w.ratio, -w.ulp, w.case_id))
    kept: dict[tuple[Group, bool], int] = {}
    out = []
    for witness in ranked:
        kind = witness.group, LACKING in witness.case_id
        kept[kind] = kept.get(kind, 0) + 1
        if kept[kind] <= most:
            out.append(witness)
    return out


def _joined(one: Witness, other: Witness) -> Witness:
    ratio, ulp = max((one.ratio, one.ulp), (other.ratio, other.ulp))
    keys = tuple(sorted({*one.worst_of, *other.worst_of}))
    return Witness(*one.group, one.case_id, ratio, ulp, keys)


def merged(
    rows: Iterable[Mapping[str, Any]], parts: Iterable[Sequence[Mapping[str, Any]]], most: int
) -> list[dict[str, Any]]:
    """The witnesses of the whole, with the answers that its shards hold.

    Parameters
    ----------
    rows : iterable of measurements
        Of all shards.
    parts : iterable of sequences of witnesses
        As the shards' records hold them.
    most : int
        As in `chosen`.
    """
    answers = {
        (*(told[name] for name in ("op", "derivative", "argument", "dtype", "family")),
         told["case_id"]): told
        for part in parts
        for told in part
    }  # fmt: skip
    return [
        {**told, "ratio": w.ratio, "ulp": w.ulp, "worst_of": list(w.worst_of)}
        for w in chosen(rows, most)
        if (told := answers.get((*w.group, w.case_id))) is not None
    ]


# ---------------------------------------------------------------- answers


def answer(entry: Implementation, version: str | None, trial: Trial) -> dict[str, dict[str, Any]]:
    """What an implementation answered, by case id; nothing for cases that it did not answer."""
    out = {}
    for answered in trial.answered:
        for row, (worst, ulp, ratio) in enumerate(worst_elements(answered)):
            case = answered.cases[row]
            result = answered.result[row]
            out[case.case_id] = {
                **_who(entry, version),
                "result": _kept(result, _elements(case, result.size, (worst,))),
                "worst": worst,
                "ulp": _shown(ulp),
                "ratio": _shown(ratio),
            }
    return out


def answers_for_others(cell: Cell, entry: Implementation) -> bool:
    """Whether a cell's answers are what witnesses would be asked for."""
    return (
        cell.mode == MODE
        and cell.concern in CONCERNS
        and entry.role in _ROLES
        and cell.context == get_framework(entry.framework).context_for(cell.dtype)
    )


class Kept:
    """Answers that came with the cells of a run, so that nobody is asked twice; packed."""

    def __init__(self) -> None:
        self._packed: dict[str, bytes] = {}

    def add(self, key: str, text: str) -> None:
        """Keep the answers of a cell, as JSON."""
        self._packed[key] = zlib.compress(text.encode("ascii"), 1)

    def of(
        self, entry: Implementation, derivative: str, argument: str, dtype: str, family: str
    ) -> dict[str, dict[str, Any]]:
        """An implementation's answers to a family, by case id; empty where none were kept."""
        context = get_framework(entry.framework).context_for(dtype)
        found: dict[str, dict[str, Any]] = {}
        for concern in CONCERNS:
            cell = Cell(concern, entry.name, derivative, argument, dtype, MODE, "cpu", context,
                        family)  # fmt: skip
            packed = self._packed.get(cell.key)
            if packed is not None:
                found |= json.loads(zlib.decompress(packed))
        return found


def _shown(figure: float) -> float:
    """A figure to the digits that references are proven to; what a batch adds to them is noise."""
    return float(f"{figure:.{_DIGITS}g}")


def refused(entry: Implementation, version: str | None, message: str) -> dict[str, Any]:
    """The answer of an implementation that gave none."""
    return {**_who(entry, version), "result": None, "message": message}


def _who(entry: Implementation, version: str | None) -> dict[str, Any]:
    return {
        "implementation": entry.name,
        "framework": entry.framework,
        "framework_version": version or "",
        "role": entry.role,
    }


def described(
    witness: Witness,
    case: Case,
    references: References,
    row: int,
    answers: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """A witness as a record holds it.

    Parameters
    ----------
    witness : Witness
    case : Case
    references : References
        The exact answers, to this case in `row`.
    answers : sequence of mappings
        Of the implementations, in a fixed order.
    """
    worst = sorted({a["worst"] for a in answers if a["result"] is not None})
    op = ops.get(case.op)
    needed = op.needs(witness.derivative, witness.argument)
    inputs = {}
    for name in needed:
        if name in case.inputs:
            value = np.asarray(case.inputs[name])
            inputs[name] = _kept(value, _elements(case, value.size, worst))
    rounded = references.rounded()[row]
    return {
        "op": witness.op,
        "derivative": witness.derivative,
        "argument": witness.argument,
        "dtype": witness.dtype,
        "family": witness.family,
        "case_id": witness.case_id,
        "n": case.n,
        "ratio": witness.ratio,
        "ulp": witness.ulp,
        "worst_of": list(witness.worst_of),
        "inputs": inputs,
        "rounded": _kept(rounded, _elements(case, rounded.size, worst)),
        "exact": {str(i): approximate_text(references, row, i) for i in worst},
        "answers": list(answers),
    }


def _elements(case: Case, size: int, worst: Sequence[int]) -> list[int] | None:
    """Which entries of a row are kept; None for all."""
    if size <= WHOLE:
        return None
    x = np.asarray(case.inputs["x"])
    centres = {int(np.argmax(np.where(np.isnan(x), -np.inf, x))), *worst}
    if "label" in case.inputs:
        centres.add(int(case.inputs["label"]))
    near = {i for c in centres for i in range(c - _AROUND, c + _AROUND + 1)}
    return sorted(i for i in {*range(_FIRST), *near} if 0 <= i < size)


def _kept(values: Any, elements: list[int] | None) -> Any:
    """A row as it is written: a number, all entries, or some of them by index."""
    array = np.asarray(values)
    if elements is None:
        return array.tolist()
    return {str(i): array[i].item() for i in elements}
