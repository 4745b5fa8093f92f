"""The numbers that the article prints, to the last digit, against the oracle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import ml_dtypes
import mpmath
import numpy as np

from conformance.claims.article import (
    MEAN_LOSS_LABELS,
    MEAN_LOSS_LOGITS,
    PRINTED_MEAN_LOSS,
    PRINTED_SOFTMAX,
    SOFTMAX_LOGITS,
)
from conformance.claims.ask import exact
from conformance.claims.verdicts import DOES_NOT_HOLD, HOLDS, Item
from reference import formats, oracle
from reference.formats import Format
from reference.metrics import errors

__all__ = ["exact_mean", "exact_softmax", "judge_mean_loss", "judge_softmax", "printed"]


def printed(fmt: Format, value: float) -> str:
    """A number as NumPy prints it in an array of this format: shortest, at most 8 decimals."""
    kind = np.float32 if fmt.dtype == ml_dtypes.bfloat16 else fmt.dtype.type
    return np.format_float_positional(kind(value), precision=8, unique=True, trim="-")


def exact_softmax(digits: int = 20) -> list[str]:
    """The softmax of the article's four logits, the decimals taken at their word.

    Rationals as they are printed, not their float64: a program that no rounding touched.
    """
    with mpmath.workdps(digits + 20):
        powers = [mpmath.exp(mpmath.mpf(str(x))) for x in SOFTMAX_LOGITS]
        total = mpmath.fsum(powers)
        return [str(mpmath.nstr(p / total, digits)) for p in powers]


def exact_mean(digits: int = 20) -> str:
    """The mean loss of the article's two rows, the decimals taken at their word."""
    with mpmath.workdps(digits + 20):
        losses = []
        for row, labels in zip(MEAN_LOSS_LOGITS, MEAN_LOSS_LABELS, strict=True):
            logits = [mpmath.mpf(str(x)) for x in row]
            total = mpmath.log(mpmath.fsum(mpmath.exp(x) for x in logits))
            losses.append(total - logits[labels.index(1.0)])
        return str(mpmath.nstr(mpmath.fsum(losses) / len(losses), digits))


def judge_softmax(framework: str, answer: Mapping[str, Any]) -> Item:
    """The verdict on `printed-softmax`."""
    mode, dtype = answer["mode"], answer["dtype"]
    fmt = formats.get(dtype)
    row = formats.nearest(fmt, np.array([SOFTMAX_LOGITS]))
    refs = exact("softmax", fmt, x=row)
    right = [printed(fmt, v) for v in refs.rounded()[0]]
    found = [printed(fmt, v) for v in answer["softmax"]]
    # A number that prints like this would be the nearest one to what is printed.
    possible = [
        printed(fmt, float(formats.nearest(fmt, np.array(float(text))))) == text
        for text in PRINTED_SOFTMAX
    ]
    figures = {
        "printed": found,
        "correctly_rounded": right,
        "exact": exact_softmax(),
        "exact_of_rounded_logits": oracle.decimal("softmax", "value", "-", {"x": row}, 20)[0],
        "ulp": float(np.max(errors(np.array([answer["softmax"]]), refs).ulp)),
        "possible": possible,
    }
    more = {"Worst error in ULP": f"{figures['ulp']:.2f}"}
    same = sum(a == b for a, b in zip(found, PRINTED_SOFTMAX, strict=True))
    if same == len(PRINTED_SOFTMAX):
        return Item(
            "printed-softmax", framework, mode, dtype, HOLDS, short="yes",
            figures=figures, more=more, range="all four numbers, to the last digit",
        )  # fmt: skip
    never = [t for t, can in zip(PRINTED_SOFTMAX, possible, strict=True) if not can]
    return Item(
        "printed-softmax", framework, mode, dtype, DOES_NOT_HOLD,
        short=f"no, {same} of 4", figures=figures, more=more,
        counter_example=f"prints [{' '.join(found)}]; the correctly rounded {dtype} is "
        f"[{' '.join(right)}]; no {dtype} prints as {', '.join(never)}",
    )  # fmt: skip


def judge_mean_loss(framework: str, answer: Mapping[str, Any]) -> Item:
    """The verdict on `mean-loss`: with six decimals, as the article prints it."""
    mode, dtype = answer["mode"], answer["dtype"]
    fmt = formats.get(dtype)
    right = float(formats.nearest(fmt, np.array(float(exact_mean(17)))))
    found = {method: f"{answer[method]:.6f}" for method in ("builtin", "manual")}
    unit = float(formats.ulp(fmt, np.array(right)))
    figures = {
        "printed": found,
        "values": {method: answer[method] for method in found},
        "nearest_in_format": right,
        "exact": exact_mean(),
        "ulp_apart": abs(answer["builtin"] - answer["manual"]) / unit,
    }
    if set(found.values()) == {PRINTED_MEAN_LOSS}:
        return Item("mean-loss", framework, mode, dtype, HOLDS, short="yes", figures=figures,
                    range=f"both, {figures['ulp_apart']:.0f} ULP apart")  # fmt: skip
    texts = list(dict.fromkeys(found.values()))
    return Item(
        "mean-loss", framework, mode, dtype, DOES_NOT_HOLD, figures=figures,
        short=texts[0] if len(texts) == 1 else "/".join(t[1:6] for t in texts),
        counter_example=f"built-in {found['builtin']}, by hand {found['manual']}; the nearest "
        f"{dtype} to the exact mean is {right:.6f}",
    )  # fmt: skip
