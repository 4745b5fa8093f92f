"""Losses, their reductions and gradients in plain mpmath, straight from docs/contract.md.

Nothing here is shared with ``reference/``: the naive definitions at a precision that outweighs what
they cancel, for finite logits and labels that name a class or are ignored.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import mpmath
import numpy as np

DIGITS = 120


def losses(x: Any, b: list[Any]) -> Any:
    """-sum_c b_c log softmax(x)_c."""
    lse = mpmath.log(mpmath.fsum(mpmath.exp(v) for v in x))
    return -mpmath.fsum(w * (v - lse) for w, v in zip(b, x, strict=True) if w)


def _numbers(values: Any) -> list[Any]:
    return [mpmath.mpf(float(v)) for v in np.ravel(values)]


class Loss:
    """A batch with its options; ``rows`` holds (logits, b) of each row that counts, else None."""

    def __init__(self, inputs: Mapping[str, Any], options: Mapping[str, Any]) -> None:
        self.reduction = options["reduction"]
        x, a = np.asarray(inputs["x"]), mpmath.mpf(options["label_smoothing"])
        n = x.shape[1]
        w = _numbers(inputs.get("weight", np.ones(n)))
        self.shape = x.shape
        self.a, self.w = a, w
        self.rows: list[tuple[list[Any], list[Any]] | None] = []
        self.divisor = mpmath.mpf(0)
        for r in range(len(x)):
            if "target" in inputs:
                t = _numbers(inputs["target"][r])
                self.divisor += 1
            else:
                k = int(inputs["label"][r])
                if k == options["ignore_index"]:
                    self.rows.append(None)
                    continue
                t = [mpmath.mpf(c == k) for c in range(n)]
                self.divisor += w[k]
            b = [w[c] * ((1 - a) * t[c] + a / n) for c in range(n)]
            self.rows.append((_numbers(x[r]), b))

    def value(self) -> list[Any] | None:
        """Flat; None for a mean of nothing."""
        each = [mpmath.mpf(0) if row is None else losses(*row) for row in self.rows]
        if self.reduction == "none":
            return each
        total = mpmath.fsum(each)
        if self.reduction == "sum":
            return [total]
        return [total / self.divisor] if self.divisor else None

    def _scale(self, g: Any, r: int) -> Any:
        of_row = _numbers(g)[r if self.reduction == "none" else 0]
        return of_row / self.divisor if self.reduction == "mean" else of_row

    def to_x(self, g: Any) -> list[Any] | None:
        """Flat; None where a mean has nothing to divide by."""
        if self.reduction == "mean" and not self.divisor:
            return None
        out: list[Any] = []
        for r, row in enumerate(self.rows):
            if row is None:
                out += [mpmath.mpf(0)] * self.shape[1]
                continue
            x, b = row
            e = [mpmath.exp(v) for v in x]
            total, weight = mpmath.fsum(e), mpmath.fsum(b)
            out += [self._scale(g, r) * (v / total * weight - w) for v, w in zip(e, b, strict=True)]
        return out

    def to_target(self, g: Any) -> list[Any]:
        """Flat."""
        out: list[Any] = []
        for r, row in enumerate(self.rows):
            assert row is not None
            lse = mpmath.log(mpmath.fsum(mpmath.exp(v) for v in row[0]))
            scale = self._scale(g, r) * (1 - self.a)
            out += [-scale * w * (v - lse) for w, v in zip(self.w, row[0], strict=True)]
        return out


def expected(
    inputs: Mapping[str, Any], options: Mapping[str, Any], argument: str
) -> list[Any] | None:
    """The flat answer of a map: to ``-`` the value, to ``x`` or ``target`` the gradient."""
    with mpmath.workdps(DIGITS):
        loss = Loss(inputs, options)
        if argument == "-":
            return loss.value()
        return loss.to_x(inputs["g"]) if argument == "x" else loss.to_target(inputs["g"])
