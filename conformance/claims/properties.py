"""Claims about logits and softmax: unnormalised log-probabilities, order, and a sum of 1."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from conformance.claims.article import THREE_LOGITS
from conformance.claims.ask import Ask
from conformance.claims.gaps import HEIGHT, first_gap
from conformance.claims.verdicts import DOES_NOT_HOLD, HOLDS, HOLDS_WITHIN, Item, number
from reference import formats
from reference.formats import F64, Format

__all__ = ["judge", "usual_rows"]

_SEED = 3
SPREAD = 5.0
"""Usual logits lie in [-SPREAD, SPREAD]."""
_CLASSES = 1000


def usual_rows(fmt: Format, n: int, rows: int = HEIGHT) -> F64:
    """Logits as classifiers have them, uniform in [-5, 5]; the first of three are the article's."""
    rng = np.random.Generator(np.random.PCG64DXSM([_SEED, n]))
    drawn = rng.uniform(-SPREAD, SPREAD, (rows, n))
    if n == len(THREE_LOGITS):
        drawn[0] = THREE_LOGITS
    return formats.nearest(fmt, drawn)


def judge(ask: Ask) -> Iterator[Item]:
    """The verdicts on `logits`, `order` and `probabilities`."""
    yield _logits(ask)
    yield _order(ask)
    yield _probabilities(ask)


def _item(ask: Ask, claim: str, verdict: str, **rest: Any) -> Item:
    return Item(claim, ask.framework, ask.mode, ask.dtype, verdict, **rest)


def _logits(ask: Ask) -> Item:
    """log_softmax(z)_i = z_i - c with one c per row; and softmax of the largest numbers."""
    fmt = ask.format
    rows = usual_rows(fmt, 3)
    found = ask.value("log_softmax", x=rows)
    shift = rows - found
    unit = formats.ulp(fmt, np.max(np.maximum(np.abs(rows), np.abs(found)), axis=1))
    spread = float(np.max(np.ptp(shift, axis=1) / unit))
    top = fmt.max_finite
    extreme = np.tile(
        [[top, 0.0, -top], [top, top, top], [-top, -top, -top], [0.0, 1.0, -top]], (HEIGHT // 4, 1)
    )
    right = [[1, 0, 0], [1 / 3] * 3, [1 / 3] * 3, [1 / (1 + math.e), math.e / (1 + math.e), 0]]
    answers = ask.value("softmax", x=extreme)[:4]
    near = np.abs(answers - np.array(right)) <= 4 * fmt.unit_roundoff
    figures = {
        "sum_of_three": float(math.fsum(THREE_LOGITS)),
        "spread_ulp": spread,
        "extreme_rows_right": int(near.all(axis=1).sum()),
    }
    if not near.all():
        row = int(np.argmin(near.all(axis=1)))
        return _item(
            ask, "logits", DOES_NOT_HOLD, short="no", figures=figures,
            counter_example=f"softmax({_row(extreme[row])}) is {_row(answers[row])}",
        )  # fmt: skip
    return _item(
        ask, "logits", HOLDS, short=f"yes, {spread:.1f} ULP", figures=figures,
        range=f"up to {number(top)}; one constant per row within {spread:.1f} ULP",
    )  # fmt: skip


def _order(ask: Ask) -> Item:
    """Two losing logits, 1 apart, until their probabilities are equal."""
    fmt = ask.format
    rows = usual_rows(fmt, 3)
    order = np.argsort(rows, axis=1)
    sorted_ = np.take_along_axis(ask.value("softmax", x=rows), order, axis=1)
    inversions = int(np.sum(np.diff(sorted_, axis=1) < 0))

    def pairs(gaps: F64) -> F64:
        # 1 apart where the format can tell; no probability is left where it cannot.
        with np.errstate(over="ignore"):
            below = np.minimum(gaps + np.maximum(1, gaps / 100), fmt.max_finite)
        below = formats.nearest(fmt, below)
        return np.stack([np.zeros_like(gaps), -gaps, -below], axis=1)

    gap = first_gap(
        fmt,
        lambda gaps: np.asarray(
            (lambda p: ~(p[:, 1] > p[:, 2]))(ask.value("softmax", x=pairs(gaps)))
        ),
    )
    figures: dict[str, Any] = {"inversions": inversions, "equal_from_gap": gap and gap.bad}
    if inversions or gap is None:
        verdict = DOES_NOT_HOLD if inversions else HOLDS
        text = f"{inversions} of {rows.size} pairs are the wrong way round" if inversions else ""
        return _item(ask, "order", verdict, short="no" if inversions else "yes", figures=figures,
                     counter_example=text)  # fmt: skip
    row = pairs(np.full(HEIGHT, gap.bad))
    answer = ask.value("softmax", x=row)[0]
    return _item(
        ask, "order", HOLDS_WITHIN, limit=gap.bad, figures=figures,
        short=f"gap < {number(gap.bad)}",
        range=f"logits less than {number(gap.bad)} below the largest (beyond, never lower)",
        counter_example=f"softmax({_row(row[0])}) is {_row(answer)}",
    )  # fmt: skip


def _probabilities(ask: Ask) -> Item:
    """Sums of the outputs, taken exactly."""
    fmt = ask.format
    unit = 2.0 ** (1 - fmt.precision)
    worst, where, outside = 0.0, "", 0
    for n, count in ((3, HEIGHT), (_CLASSES, 16)):
        rows = usual_rows(fmt, n, count)
        found = ask.value("softmax", x=rows)
        outside += int(np.sum(~((found >= 0) & (found <= 1))))
        for row in found:
            distance = abs(math.fsum(row.tolist()) - 1) / unit
            if distance > worst:
                worst, where = distance, f"{n} classes"
    figures = {"sum_ulp": worst, "classes": where, "outside": outside}
    if outside:
        return _item(ask, "probabilities", DOES_NOT_HOLD, short="no", figures=figures,
                     counter_example=f"{outside} outputs outside [0, 1]")  # fmt: skip
    return _item(
        ask, "probabilities", HOLDS_WITHIN, short=f"{worst:.3g} ULP", figures=figures,
        range=f"the sum is 1 within {worst:.3g} ULP ({worst * unit:.1e})",
        counter_example=f"a row of {where} sums to 1 +- {worst * unit:.1e}",
    )  # fmt: skip


def _row(values: Any) -> str:
    return "[" + ", ".join(f"{float(v):.8g}" for v in np.ravel(values)) + "]"
