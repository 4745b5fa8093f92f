"""Holding batches of the oracle against Arb, whoever writes the formulas in Arb."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from reference import oracle
from reference.formats import Format

Key = tuple[str, str, str]
Comparison = tuple[int, int, list[Any]]
"""(elements compared, left open by Arb, wrong ones)"""


def same(a: float, b: float) -> bool:
    return a == b or (math.isnan(a) and math.isnan(b))


def disagreements(
    key: Key,
    inputs: Mapping[str, Any],
    fmt: Format,
    *,
    rounded: Callable[[Mapping[str, Any]], tuple[Any, Any]],
    covered: Callable[[Mapping[str, Any]], bool],
    limits: Callable[[float], bool] = math.isinf,
) -> Comparison:
    """Compare a batch, element by element.

    ``rounded`` gives Arb's results of a row (None where it leaves one open) and, for these, the
    candidates that are left; ``covered`` tells the rows that its formulas are for; ``limits`` what
    is right where there is not even a candidate.
    """
    refs = oracle.evaluate(*key, inputs, fmt)
    values = refs.rounded()
    compared, left_open, wrong = 0, 0, []
    for r in range(values.shape[0]):
        row = {name: a[r] for name, a in inputs.items()}
        if not covered(row):
            continue
        results, candidates = rounded(row)
        for i, (right, open_) in enumerate(zip(results, candidates, strict=True)):
            got = float(values[r, i])
            assert same(got, oracle.round_element(refs, r, i))
            if refs.undefined[r, i]:
                continue
            compared += 1
            left_open += right is None and open_ is not None
            if right is not None:
                fits = same(got, right)
            else:
                fits = any(same(got, v) for v in open_) if open_ else limits(got)
            if not fits:
                wrong.append((row, i, got, right, open_))
    return compared, left_open, wrong


def total(found: Iterable[Comparison]) -> Comparison:
    """The sum of comparisons."""
    parts = list(found)
    wrong = [w for part in parts for w in part[2]]
    return sum(p[0] for p in parts), sum(p[1] for p in parts), wrong
