"""Verdicts on the training example: every run against the certified trajectory of its scale."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from conformance.claims.article import LOSSES
from conformance.claims.problem import SAMPLES, SCALES
from conformance.claims.trajectory import Trajectory
from conformance.claims.verdicts import (
    DOES_NOT_HOLD,
    HOLDS,
    HOLDS_WITHIN,
    NOT_MEASURED,
    Item,
    number,
    slashed,
)

__all__ = ["CLAIM_OF", "DTYPE", "Outcome", "judge", "outcome"]

DTYPE = "float32"
CLAIM_OF = {"builtin": "training", "manual": "training-fails", "clipped": "clipping-trains"}
LEAVES = 1e-3
"""The relative difference of the losses at which a run counts as having left the trajectory."""


@dataclass(frozen=True)
class Outcome:
    """What became of one training run; steps are counted from 1.

    Attributes
    ----------
    kind : str
        ``trains``; ``NaN``: loss or gradient became NaN or infinite; ``stalls``: samples remain
        that the exact trajectory gets right, and the gradient is 0; ``behind``: they remain.
    step, gap : int, float or None
        Where it went wrong, and the largest logit gap there.
    leaves : int or None
        The step from which the loss is no longer the trajectory's to three digits.
    """

    kind: str
    step: int | None
    gap: float | None
    accuracy: float
    leaves: int | None

    def told(self) -> str:
        """In a few words."""
        if self.kind == "NaN":
            return f"NaN in step {self.step}, gap {number(self.gap)}"
        if self.kind == "stalls":
            return f"stalls in step {self.step}, {self.accuracy:.0%} right"
        if self.kind == "behind":
            return f"{self.accuracy:.0%} right at the end"
        return "trains"


def outcome(curve: Mapping[str, Any], exact: Trajectory) -> Outcome:
    """Compare a curve with the trajectory of its scale.

    A run trains if it stays finite and gets at least as many samples right as the trajectory.
    """
    leaves = next(
        (
            k + 1
            for k, (found, right) in enumerate(zip(curve["loss"], exact.loss, strict=True))
            if not abs(found - right) <= LEAVES * right
        ),
        None,
    )
    broken = next((k for k, finite in enumerate(curve["finite"]) if not finite), None)
    if broken is not None:
        return Outcome("NaN", broken + 1, curve["gap"][broken], curve["accuracy"], leaves)
    if curve["accuracy"] >= exact.accuracy:
        return Outcome("trains", None, None, curve["accuracy"], leaves)
    stuck = next((k for k, moved in enumerate(curve["moved"]) if not moved), None)
    if stuck is not None:
        return Outcome("stalls", stuck + 1, curve["gap"][stuck], curve["accuracy"], leaves)
    return Outcome("behind", None, None, curve["accuracy"], leaves)


def judge(
    framework: str, curves: Sequence[Mapping[str, Any]], exact: Mapping[int, Trajectory]
) -> Iterator[Item]:
    """The verdicts on `training`, `training-fails` and `clipping-trains`, mode by mode."""
    modes = dict.fromkeys(curve["mode"] for curve in curves)
    for mode in modes:
        for method in LOSSES:
            mine = [c for c in curves if (c["mode"], c["method"]) == (mode, method)]
            yield _judge(framework, mode, method, mine, exact)


def _judge(
    framework: str,
    mode: str,
    method: str,
    curves: Sequence[Mapping[str, Any]],
    exact: Mapping[int, Trajectory],
) -> Item:
    claim = CLAIM_OF[method]
    errors = [str(c["error"]) for c in curves if "error" in c]
    if errors:
        return Item(claim, framework, mode, DTYPE, NOT_MEASURED, short="error",
                    counter_example=errors[0])  # fmt: skip
    found = {int(c["scale"]): outcome(c, exact[int(c["scale"])]) for c in curves}
    figures = {
        "runs": {
            str(scale): {
                "outcome": o.kind,
                "step": o.step,
                "gap": o.gap,
                "accuracy": o.accuracy,
                "leaves_trajectory_in_step": o.leaves,
            }
            for scale, o in found.items()
        },
        "loss": {str(c["scale"]): c["loss"] for c in curves},
        "gap": {str(c["scale"]): c["gap"] for c in curves},
    }
    scales = ", ".join(str(scale) for scale in SCALES)
    more = {
        f"The step in which the loss leaves the exact one by 0.1 %, at scales {scales}": slashed(
            found[scale].leaves for scale in SCALES
        ),
        f"Samples right at the end, of {SAMPLES}": slashed(
            round(SAMPLES * found[scale].accuracy) for scale in SCALES
        ),
    }
    bad = next((scale for scale in SCALES if found[scale].kind != "trains"), None)
    if method == "manual":
        if bad is None:
            return Item(
                claim, framework, mode, DTYPE, DOES_NOT_HOLD, short="never fails",
                figures=figures, more=more, range=f"it trains up to scale {SCALES[-1]}",
            )  # fmt: skip
        told = found[bad].told()
        return Item(
            claim, framework, mode, DTYPE, HOLDS, limit=float(bad), figures=figures, more=more,
            short=f"from scale {bad}: {told}", range=f"from scale {bad} on: {told}",
            counter_example=f"at scale {_before(bad)} it trains" if bad > SCALES[0] else "",
        )  # fmt: skip
    if bad is None:
        return Item(claim, framework, mode, DTYPE, HOLDS, limit=float(SCALES[-1]), short="yes",
                    figures=figures, more=more, range=f"at every scale, 1 to {SCALES[-1]}, all of "
                    f"{SAMPLES} samples right as in exact arithmetic")  # fmt: skip
    told = found[bad].told()
    return Item(
        claim, framework, mode, DTYPE, HOLDS_WITHIN if bad > SCALES[0] else DOES_NOT_HOLD,
        limit=float(bad), figures=figures, more=more, short=f"scale < {bad}: then {told}",
        range=f"scales up to {_before(bad)}" if bad > SCALES[0] else "",
        counter_example=f"at scale {bad} it {told}" if found[bad].kind == "stalls"
        else f"at scale {bad}: {told}",
    )  # fmt: skip


def _before(scale: int) -> int:
    return SCALES[SCALES.index(scale) - 1]
