"""At which logit gap a cross-entropy loses its digits: found by bisection, against the oracle.

The rows are (g, 0, 0) with gap g > 0. With the label on a losing class the exact loss is
log(e^g + 2), a little more than g. With the label on the winning class it is log(1 + 2 e^-g), a
small number of which every digit counts as well.

A format with precision p has floor((p - 1) log10 2) decimal digits. A loss has lost a digit where
its relative error is above 10^-(digits - 1), half of them above 10^-(digits / 2), all of them at
100 % or at a NaN or an infinity.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from conformance.claims.ask import Ask, exact
from reference import formats
from reference.formats import F64, Format
from reference.metrics import errors, magnitudes
from reference.oracle import References

__all__ = ["LABELS", "Gap", "Ladder", "digits", "first_gap", "thresholds"]

Bad = NDArray[np.bool_]

HEIGHT = 256
"""Gaps per request: one shape for every question, so that compilers see no second one."""
_ROUNDS = 8
_CLOSE = 2.0**-20
_LABEL_COLUMN: Mapping[str, int] = MappingProxyType({"losing": 1, "winning": 0})
LABELS = tuple(_LABEL_COLUMN)


def digits(fmt: Format) -> int:
    """Decimal digits of a format."""
    return int((fmt.precision - 1) * math.log10(2))


def thresholds(fmt: Format) -> dict[str, float]:
    """The relative error above which a digit, half of the digits and all of them are lost."""
    count = digits(fmt)
    return {"digit": 10.0 ** -(count - 1), "half": 10.0 ** (-count / 2), "all": 1.0}


@dataclass(frozen=True)
class Gap:
    """Where something goes wrong first: at `bad`, and not yet at `good`, just below it."""

    good: float
    bad: float


def grid(fmt: Format) -> F64:
    """Gaps from 1/16 to the format's largest number: dense up to 1024, where formats end."""
    dense = np.geomspace(1 / 16, 1024, 192)
    wide = np.exp2(np.linspace(10, np.log2(fmt.max_finite), HEIGHT - 192 + 1)[1:-1])
    return np.append(formats.nearest(fmt, np.append(dense, wide)), fmt.max_finite)


def first_gap(fmt: Format, bad: Callable[[F64], Bad]) -> Gap | None:
    """The smallest gap of the grid at which `bad` is true, closed in on by bisection.

    Each round asks `HEIGHT` gaps between the last good and the first bad one, until the two are
    neighbours in the format or agree to 2^-20. Between the points of the grid a gap can be missed
    that is bad for itself alone.

    Parameters
    ----------
    fmt : Format
    bad : callable
        Takes `HEIGHT` gaps.

    Returns
    -------
    Gap or None
        None if no gap of the grid is bad.
    """
    points = grid(fmt)
    good = 0.0
    for _ in range(_ROUNDS):
        flags = bad(points)
        if not flags.any():
            return None
        first = int(np.argmax(flags))
        if first:
            good = float(points[first - 1])
        found = Gap(good, float(points[first]))
        if found.bad - found.good <= _CLOSE * found.bad:
            return found
        inside = np.linspace(found.good, found.bad, HEIGHT + 1)[1:]
        points = formats.nearest(fmt, inside)
        if set(points.tolist()) <= {found.good, found.bad}:
            return found
    return found


class Ladder:
    """The rows (g, 0, 0), put to the losses of one framework, mode and dtype."""

    def __init__(self, ask: Ask) -> None:
        self.ask = ask
        self.format = ask.format
        self._answers: dict[tuple[str, str, bytes], F64] = {}

    def rows(self, gaps: F64, label: str) -> dict[str, F64]:
        """The inputs: logits, and one-hot targets."""
        x, target = np.zeros((len(gaps), 3)), np.zeros((len(gaps), 3))
        x[:, 0] = gaps
        target[:, _LABEL_COLUMN[label]] = 1
        return {"x": x, "target": target}

    def value(self, method: str, gaps: F64, label: str) -> F64:
        """The losses of a method."""
        key = method, label, gaps.tobytes()
        if key not in self._answers:
            self._answers[key] = self.ask.value(method, **self.rows(gaps, label))
        return self._answers[key]

    def exact(self, gaps: F64, label: str) -> References:
        """The exact losses."""
        return exact("softmax_cross_entropy", self.format, **self.rows(gaps, label))

    def lost(self, method: str, label: str) -> dict[str, Gap | None]:
        """Where a method first loses a digit, half of its digits, and all of them."""

        def worse(threshold: float) -> Callable[[F64], Bad]:
            def bad(gaps: F64) -> Bad:
                refs = self.exact(gaps, label)
                found = self.value(method, gaps, label)
                error = _relative_error(found, refs)
                # 100 % is what a loss of 0 has: at least, not above.
                over = error >= threshold if threshold == 1 else error > threshold
                return np.asarray((over | ~np.isfinite(found)) & self._judged(refs))

            return bad

        limits = thresholds(self.format)
        return {name: first_gap(self.format, worse(limit)) for name, limit in limits.items()}

    def differ(self, label: str) -> Gap | None:
        """Where the built-in and the hand-written loss first differ by a digit."""
        limit = thresholds(self.format)["digit"]

        def bad(gaps: F64) -> Bad:
            refs = self.exact(gaps, label)
            one, other = (self.value(m, gaps, label) for m in ("builtin", "manual"))
            with np.errstate(all="ignore"):
                apart = np.abs(one - other) / magnitudes(refs)[:, 0].astype(np.float64)
            return np.asarray(~(apart <= limit) & self._judged(refs))

        return first_gap(self.format, bad)

    def not_finite(self, method: str, label: str) -> Gap | None:
        """Where the loss is first NaN or infinite."""
        return first_gap(
            self.format, lambda gaps: np.asarray(~np.isfinite(self.value(method, gaps, label)))
        )

    def gradient_not_finite(self, method: str, label: str) -> Gap | None:
        """Where the gradient first has an entry that is NaN or infinite."""
        return first_gap(
            self.format,
            lambda gaps: np.asarray(
                np.isfinite(self.ask.gradient(method, **self.rows(gaps, label))).all(axis=1) == 0
            ),
        )

    def _judged(self, refs: References) -> Bad:
        """A loss below the smallest normal number has few digits whoever computes it."""
        return np.asarray(magnitudes(refs)[:, 0] >= self.format.smallest_normal)


def _relative_error(found: F64, refs: References) -> F64:
    with np.errstate(all="ignore"):
        error = errors(found[:, None], refs).absolute / magnitudes(refs)
        # Beyond float64 is beyond every threshold.
        return np.where(np.isnan(error), np.inf, error)[:, 0].astype(np.float64)
