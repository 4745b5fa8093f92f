"""The textbook definitions at high precision: a second oracle that shares nothing with the first.

``Map.definition`` is a few lines of mpmath without any care for cancellation, so it needs rows
whose gaps 6000 bits outweigh.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import against_arb
import mpmath
import numpy as np

from reference import ops, oracle
from reference.formats import Format
from reference.ops.base import FORMULA, ZERO

BITS = 6000
_LARGEST, _GAP = 1e6, 1000.0
_ZERO = -3500


def usable(row: Mapping[str, Any]) -> bool:
    """Can 6000 bits tell the results of a row? All the logits that take part are of that kind."""
    if not against_arb.covered(row):
        return False
    for name in ("x", "y"):
        if name in row:
            x = np.asarray(row[name])
            kept = x[np.isfinite(x) & (np.asarray(row.get("mask", np.ones(x.shape))) != 0)]
            if kept.size and (np.abs(kept).max() > _LARGEST or np.ptp(kept) > _GAP):
                return False
    return all(np.abs(row[name]).max() < _LARGEST for name in ("target", "pos_weight")
               if name in row)  # fmt: skip


def close(refs: oracle.References, r: int, i: int, truth: Any) -> bool:
    """Within 1e-6 ulp of the format; within 2^-3500 of a truth that is 0. ``truth`` an mpf."""
    mp, fmt = mpmath.mp, refs.format
    if refs.codes[r, i] == ZERO:
        return bool(abs(truth) < mpmath.ldexp(1, _ZERO))
    value = mpmath.ldexp(mp.mpf(float(refs.hi[r, i])) + mp.mpf(float(refs.lo[r, i])),
                         int(refs.exponent[r, i]))  # fmt: skip
    exponent = max(mpmath.frexp(truth)[1] - 1, fmt.emin) - fmt.precision + 1
    return bool(abs(value - truth) <= mpmath.ldexp(1, exponent) * 1e-6)


def disagreements(
    key: against_arb.Key, inputs: Mapping[str, Any], fmt: Format
) -> tuple[int, list[Any]]:
    """(elements compared, wrong ones)."""
    given = against_arb.rows_of(key, inputs)
    keep = [usable({name: a[r] for name, a in given.items()}) for r in range(len(given["x"]))]
    given = {name: a[keep] for name, a in given.items()}
    if not any(keep):
        return 0, []
    refs = oracle.evaluate(*key, given, fmt)
    compared, wrong = 0, []
    with mpmath.workprec(BITS):
        for r in range(refs.shape[0]):
            row = {name: a[r] for name, a in given.items()}
            truths = ops.get(key[0]).maps[key[1:]].definition(mpmath.mp, row)
            for i, truth in enumerate(truths):
                settled = refs.codes[r, i] != FORMULA
                if not refs.finite[r, i] or (settled and not mpmath.isfinite(truth)):
                    continue  # limits, and 0 times them
                compared += 1
                if not mpmath.isfinite(truth) or not close(refs, r, i, truth):
                    wrong.append((row, i, truth))
    return compared, wrong
