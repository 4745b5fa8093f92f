"""Metrics of results against references: pure functions.

ULP error of a result y against the exact real r (not its rounding)::

    |y' - r'| / ulp(r'),   ulp(r) = 2^(clamp(floor(log2 |r|), emin, emax) - p + 1)

with both sides clamped to +-2^(emax + 1), which is also what an infinity counts as; r = 0 uses the
smallest subnormal. The metric is total: NaN where NaN is right scores 0, a one-sided NaN scores
infinity, and an undefined reference scores 0 whatever the result.

Correctly rounded is equality with RN(r), decided on integers: the predecessor of 1/2 is half an ulp
from 1/2 and wrong.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .bounds import Bounds
from .formats import F64, I64
from .ops.base import NEG_INF, POS_INF, ZERO
from .oracle import References

Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Errors:
    """Element by element, of the shape of the references.

    Attributes
    ----------
    ulp : ndarray of float64
        ULP error; infinite for a one-sided NaN only (at most the largest float64 otherwise).
    absolute : ndarray of long double
        The absolute error, of the clamped sides; infinite for a one-sided NaN.
    exponent : ndarray of int64
        log2 of the ulp that errors are counted in.
    correct : ndarray of bool
        Correctly rounded (undefined elements count as correct).
    nan : ndarray of bool
        NaN on one side only.
    infinite : ndarray of bool
        An infinity against a finite rounding, or the other way round.
    sign : ndarray of bool
        Non-zero result of the wrong sign.
    zero_sign : ndarray of bool
        A zero with the other sign than the correctly rounded zero.
    lost : ndarray of bool
        The result is zero, the correctly rounded one is not.
    """

    ulp: F64
    absolute: NDArray[np.longdouble]
    exponent: I64
    correct: Mask
    nan: Mask
    infinite: Mask
    sign: Mask
    zero_sign: Mask
    lost: Mask

    def ratio(self, bound: NDArray[np.longdouble]) -> F64:
        """Test ratio: error divided by an absolute bound (infinite where the ULP error is)."""
        with np.errstate(all="ignore"):
            return np.where(self.ulp == 0, 0.0, self.absolute / bound).astype(np.float64)


def errors(result: F64, refs: References) -> Errors:
    """Measure results (format values, as float64) against references of the same shape."""
    fmt = refs.format
    result = np.asarray(result, np.float64)
    if result.shape != refs.shape:
        raise ValueError(f"result of shape {result.shape} against references of {refs.shape}")
    limit_exponent = fmt.emax + 2  # 0.5 * 2^(emax + 2) is the clamp
    hi, lo, exponent = refs.hi, refs.lo, refs.exponent
    infinite = np.isin(refs.codes, (POS_INF, NEG_INF))
    over = (exponent >= limit_exponent) | infinite
    sign = np.where(refs.codes == NEG_INF, -1.0, np.where(infinite, 1.0, np.sign(hi)))
    hi = np.where(over, sign * 0.5, hi)
    lo = np.where(over, 0.0, lo)
    exponent = np.where(over, limit_exponent, exponent)

    # Signs, not lo * hi: the product of the smallest subnormal underflows.
    below = (lo != 0) & (np.signbit(lo) != np.signbit(hi))
    leading = exponent - 1 - ((np.abs(hi) == 0.5) & below)
    leading = np.where(hi == 0, fmt.emin, leading)
    quantum = np.clip(leading, fmt.emin, fmt.emax) - fmt.precision + 1

    shift = np.clip(exponent - quantum, -4000, 4000).astype(np.int32)
    # Long double for its range: 1 in smallest subnormals of float64 is beyond float64.
    with np.errstate(all="ignore"):
        wide = np.where(np.isfinite(result), result, 0.0).astype(np.longdouble)
        in_ulps = np.ldexp(wide, -quantum.astype(np.int32))
        clamp = np.ldexp(np.longdouble(1), (fmt.emax + 1 - quantum).astype(np.int32))
        in_ulps = np.where(np.isinf(result), np.sign(result) * clamp, in_ulps)
        near, rest = (np.ldexp(v.astype(np.longdouble), shift) for v in (hi, lo))
        ulp = np.abs((in_ulps - near) - rest)

    result_nan = np.isnan(result)
    expected_nan = refs.nan
    if not fmt.has_infinity:
        expected_nan = expected_nan | (np.isnan(refs.rounded()) & ~refs.undefined)
    one_sided = (result_nan != expected_nan) & ~refs.undefined
    ulp = np.where(result_nan & expected_nan, 0.0, ulp)
    ulp = np.where(one_sided, np.inf, ulp)
    ulp = np.where(refs.undefined, 0.0, ulp)

    with np.errstate(over="ignore"):
        absolute = np.ldexp(ulp, quantum.astype(np.int32))
        ulp = np.where(one_sided, np.inf, np.minimum(ulp, np.finfo(np.float64).max))

    rounded, sign = refs.rounded(), np.where(hi > 0, 1.0, -1.0)
    judged = ~(refs.undefined | result_nan | expected_nan)
    zero_known = (rounded == 0) & (refs.codes != ZERO)
    return Errors(
        ulp=ulp.astype(np.float64),
        absolute=absolute,
        exponent=quantum.astype(np.int64),
        correct=(result == rounded) | (result_nan & expected_nan) | refs.undefined,
        nan=one_sided,
        infinite=judged & (np.isinf(result) != np.isinf(rounded)),
        sign=judged & (result != 0) & (hi != 0) & (np.copysign(1.0, result) != sign),
        zero_sign=judged & (result == 0) & zero_known & (np.signbit(result) != np.signbit(rounded)),
        lost=judged & (result == 0) & (rounded != 0),
    )


def normwise(errors_: Errors, refs: References, bounds: Bounds, usable: Mask) -> F64:
    """max_i |y_i - r_i| / max_i max(|r_i|, K_i) for each row, over the usable elements."""
    with np.errstate(all="ignore"):
        size = magnitudes(refs)
        scale = np.where(usable, np.maximum(size, bounds.magnitude), 0).max(axis=1, initial=0)
        underflow = bounds.weak - bounds.roundoff
        worst = np.where(usable, errors_.absolute - underflow, 0).max(axis=1, initial=0)
        return np.where(worst == 0, 0.0, worst / scale).astype(np.float64)


def magnitudes(refs: References) -> NDArray[np.longdouble]:
    """|r| as long double; 0 far below every format's range."""
    exponent = np.clip(refs.exponent, -16000, 16000).astype(np.int32)
    with np.errstate(all="ignore"):
        return np.abs(np.ldexp(refs.hi.astype(np.longdouble), exponent))


# ---------------------------------------------------------------- underflow


@dataclass(frozen=True)
class Underflow:
    """How an implementation's results leave the normal range, measured on a gap ladder.

    Attributes
    ----------
    policy : str
        ``gradual``: nothing was lost but by rounding. ``partial``: some
        subnormal results came back, others were lost. ``flush``: no subnormal result came back.
        ``premature``: normal results were lost, a defect. ``none``: the ladder shows nothing, no
        subnormal result and no loss that the rounding errors of gradual underflow do not allow.
    lost_up_to : float
        Z, the largest exact magnitude that came back as 0.
    last_nonzero : float
        The smallest non-zero result.
    """

    policy: str
    lost_up_to: float
    last_nonzero: float

    @property
    def flushes(self) -> bool:
        """Results below the smallest normal may be 0: lambda is the smallest normal."""
        return self.policy in ("flush", "partial")


def underflow(result: F64, refs: References, gradual: Bounds, flushing: Bounds) -> Underflow:
    """Measure the underflow policy from results on a gap ladder (arrays of equal shape).

    Parameters
    ----------
    result : ndarray of float64
    refs : References
    gradual, flushing : Bounds
        Of an implementation that keeps subnormal results, and of one that flushes them. A zero
        that the first allow is a rounding, one that the second do not allow is premature.
    """
    fmt = refs.format
    size = magnitudes(refs)
    # Only results that the rounding errors allowed by the weak bound cannot cancel to 0.
    obliged = refs.finite & (refs.codes != ZERO) & (gradual.roundoff < size / 2)
    zero = obliged & (result == 0)
    nonzero = obliged & (result != 0) & np.isfinite(result)
    subnormal = nonzero & (np.abs(result) < fmt.smallest_normal)
    last = float(np.abs(result[nonzero]).min(initial=np.inf))
    lost = float(size[zero].max(initial=0))
    if (size[zero] <= gradual.weak[zero]).all():
        return Underflow("gradual" if subnormal.any() else "none", lost, last)
    if (size[zero] > flushing.weak[zero]).any():
        return Underflow("premature", lost, last)
    return Underflow("partial" if subnormal.any() else "flush", lost, last)


def explained(result: F64, refs: References, bounds: Bounds, policy: Underflow) -> Mask:
    """Zeros that the measured underflow policy explains: they do not count against a grade."""
    if not policy.flushes:
        return np.zeros(refs.shape, bool)
    lost = (result == 0) & refs.finite & (refs.codes != ZERO) & (refs.rounded() != 0)
    beyond_rounding = magnitudes(refs) > bounds.roundoff
    return np.asarray(lost & beyond_rounding & (magnitudes(refs) <= bounds.weak))
