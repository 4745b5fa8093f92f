"""The rows on which an implementation's underflow policy is measured.

Every step of the family `gap_ladder` at two classes, and the subnormal range between its thresholds
from `subnormals`. Results of elementwise ops vanish on either side of 0, so these ops get every row
mirrored as well.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

from reference import cases, ops
from reference.cases import Case

FAMILIES = ("gap_ladder", "subnormals")
LENGTH = 2


@lru_cache(maxsize=256)
def rungs(op: str, dtype: str, without: str = "") -> tuple[Case, ...]:
    """The cases of an op in a dtype, for implementations that lack an optional input or none."""
    made = [c for name in FAMILIES for c in cases.make(name, op, dtype, LENGTH, without=without)]
    if ops.get(op).elementwise:
        made += [_mirrored(case) for case in made]
    return tuple(made)


def _mirrored(case: Case) -> Case:
    inputs = {name: -a if name in ("x", "y") else a for name, a in case.inputs.items()}
    return replace(case, case_id=f"{case.case_id}-mirrored", inputs=inputs)
