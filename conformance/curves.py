"""Curves of a cell: how its errors are spread, and where they are largest. Pure functions.

``ulp`` and ``ratio`` count elements by ULP error and by test ratio against the weak bound, in half
octaves: bin ``k`` holds errors from 2^(k/2) up to 2^((k+1)/2), and the lowest one, -40, whatever is
smaller (references are proven to 2^-20 ULP). Exact elements are in bin ``zero``, one-sided NaN and
infinities in ``inf``; each curve's counts add up to the cell's elements.

The others hold the largest ULP error per binade of where it occurred, bin ``k`` from 2^k up to
2^(k+1):

* ``gap`` for ops on rows: x_max - x_i of the element, over the kept entries of a mask. Where a row
  has one result, the gap from the largest logit to the next one. For ``logaddexp``, the log-sum-exp
  of two, it is |x - y|.
* ``positive`` and ``negative`` for the other elementwise ops: |x| on either side of zero.

Bin ``zero`` is a gap or an argument of zero, ``inf`` an infinite one. A gap that is none (NaN, or
between infinities) is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reference import ops
from reference.cases import Case
from reference.formats import F64

__all__ = ["Measured", "curves"]

ZERO, INFINITE = "zero", "inf"
_ZERO, _INFINITE, _NONE = -(1 << 20), 1 << 20, 1 << 21
"""Codes of the bins without a number, and of no bin."""
LOWEST = -40
_HALF_OCTAVE = float(np.sqrt(0.5))
_DIGITS = 4
"""Of the largest errors: a curve is drawn, and a record holds many."""

Wide = NDArray[np.longdouble]
Bins = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Measured:
    """Rows of one length, with errors of the shape of the results (rows, k).

    Attributes
    ----------
    cases : sequence of Case
    ulp, ratio : ndarray
        Infinite where a NaN or an infinity is wrong, 0 where a special value is right.
    placed : bool
        Whether the rows are rows of logits, where a gap or an argument says where an error is.
    """

    cases: Sequence[Case]
    ulp: F64
    ratio: F64
    placed: bool = True


def curves(parts: Iterable[Measured]) -> dict[str, dict[str, Any]]:
    """The curves of a cell: bins by name, empty ones left out, in ascending order."""
    counts: dict[str, dict[int, int]] = {"ulp": {}, "ratio": {}}
    largest: dict[str, dict[int, float]] = {}
    for part in parts:
        if not part.cases:
            continue
        for name, values in (("ulp", part.ulp), ("ratio", part.ratio)):
            bins, number = np.unique(half_octaves(values), return_counts=True)
            for k, count in zip(bins.tolist(), number.tolist(), strict=True):
                counts[name][k] = counts[name].get(k, 0) + count
        for name, bins in _places(part).items() if part.placed else ():
            curve = largest.setdefault(name, {})
            for k in np.unique(bins[bins != _NONE]).tolist():
                curve[k] = max(curve.get(k, 0.0), float(part.ulp[bins == k].max()))
    return {
        **{name: _named(curve) for name, curve in counts.items()},
        **{
            name: {k: _short(error) for k, error in _named(curve).items()}
            for name, curve in sorted(largest.items())
        },
    }


def half_octaves(values: F64) -> Bins:
    """floor(2 log2 v), by comparison and not by a logarithm that rounds; `LOWEST` at least."""
    mantissa, exponent = np.frexp(values)
    bins = 2 * (exponent.astype(np.int64) - 1) + (mantissa >= _HALF_OCTAVE)
    bins = np.maximum(bins, LOWEST)
    return np.where(values == 0, _ZERO, np.where(np.isfinite(values), bins, _INFINITE))


def binades(values: Wide) -> Bins:
    """floor(log2 |v|); no bin for NaN."""
    size = np.abs(values)
    bins = np.frexp(size)[1].astype(np.int64) - 1
    bins = np.where(size == 0, _ZERO, np.where(np.isinf(size), _INFINITE, bins))
    return np.where(np.isnan(size), _NONE, bins)


def _places(part: Measured) -> dict[str, Bins]:
    """By curve, the bin of every element."""
    op = ops.get(part.cases[0].op)
    x = _stacked(part.cases, "x")
    if op.elementwise:
        if op.name == "logaddexp":
            with np.errstate(invalid="ignore"):
                return {"gap": binades(x - _stacked(part.cases, "y"))}
        bins = binades(x)
        return {
            "positive": np.where(np.signbit(x), _NONE, bins),
            "negative": np.where(np.signbit(x), bins, _NONE),
        }
    kept = np.ones(x.shape, bool)
    if "mask" in part.cases[0].inputs:
        kept = np.stack([np.asarray(c.inputs["mask"]) != 0 for c in part.cases])
    inside = np.where(kept, x, -np.inf)
    with np.errstate(invalid="ignore"):
        gaps = inside.max(axis=1, keepdims=True) - inside
    if part.ulp.shape[1] == 1 < x.shape[1]:
        two = np.sort(inside, axis=1)[:, -2:]
        with np.errstate(invalid="ignore"):
            gaps = two[:, 1:] - two[:, :1]
        return {"gap": binades(gaps)}
    return {"gap": np.where(kept, binades(gaps), _NONE)}


def _stacked(cases: Sequence[Case], name: str) -> Wide:
    """An input of all rows; long double, whose range holds the difference of any two."""
    return np.stack([np.asarray(c.inputs[name], np.float64) for c in cases]).astype(np.longdouble)


def _named(curve: Mapping[int, Any]) -> dict[str, Any]:
    words = {_ZERO: ZERO, _INFINITE: INFINITE}
    return {words.get(k, str(k)): curve[k] for k in sorted(curve)}


def _short(error: float) -> float:
    return float(f"{error:.{_DIGITS}g}")
