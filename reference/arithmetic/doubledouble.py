"""Double-double balls: 106 bits, vectorised; decides float64 roundings.

Midpoints are double words, radii as in :mod:`._ball`. The kernels and the derivations of their
bounds are in :mod:`._double_word`; this module gives them their places in the interface and keeps
them working in blocks that fit the cache. A softmax of n <= 2^17 classes comes out within 2^-96.
"""

from __future__ import annotations

import numpy as np

from . import _double_word as dw
from ._ball import FloatBall, Parts
from ._eft import BLOCK, Array, IntArray, blocked
from ._functions import FloatArithmetic
from .base import Mask

_SHORT = 128
"""Rows up to this length are summed class axis first, where NumPy's inner loops are long."""


class DoubleDouble(FloatArithmetic):
    """Ball arithmetic with two float64 words per midpoint, u^2 = 2^-106.

    Examples
    --------
    >>> import numpy as np
    >>> a = DoubleDouble()
    >>> third = a.exact(np.ones(1)) / a.exact(np.full(1, 3.0))
    >>> third.relative < 2.0**-100
    True
    """

    words = 2

    ADD = dw.ADD
    MUL = dw.MUL
    DIV = dw.DIV + dw.MUL + dw.U**3
    """A quotient, or the product with the reciprocal."""
    EXP = dw.EXP
    EXPM1 = dw.EXPM1
    PHI = dw.PHI
    LOG = dw.LOG

    def total_bound(self, levels: int) -> float:
        """See :func:`._double_word.total`."""
        return dw.total_bound(levels)

    def _add(self, a: Parts, b: Parts) -> Parts:
        return blocked(dw.add, *a, *b)

    def _mul(self, a: Parts, b: Parts) -> Parts:
        return blocked(dw.mul, *a, *b)

    def _div(self, a: Parts, b: Parts) -> Parts:
        if 4 * b[0].size <= a[0].size:
            one = np.ones(())
            return blocked(dw.mul, *a, *blocked(dw.div, one, np.zeros(()), *b))
        return blocked(dw.div, *a, *b)

    def _total(self, a: Parts) -> Parts:
        high, low = a
        n = high.shape[-1]
        rows = [np.broadcast_to(p, high.shape).reshape(-1, n) for p in (high, low)]
        out = np.empty(rows[0].shape[0]), np.empty(rows[0].shape[0])
        step = max(1, 4 * BLOCK // n)
        for start in range(0, len(out[0]), step):
            band = slice(start, start + step)
            pieces = [p[band].T for p in rows]
            if n <= _SHORT:
                pieces = [np.ascontiguousarray(p) for p in pieces]
            out[0][band], out[1][band] = dw.total(*pieces)
        shape = (*high.shape[:-1], 1)
        return out[0].reshape(shape), out[1].reshape(shape)

    def _exp(self, a: Parts) -> tuple[Parts, IntArray]:
        high, low, k = blocked(dw.exp, *a)
        return (high, low), k

    def _exp_easy(self, a: Parts) -> Parts:
        return blocked(_exp_scaled, *a)

    def _expm1(self, a: Parts) -> Parts:
        return blocked(dw.expm1, *a)

    def _phi(self, a: Parts) -> Parts:
        return blocked(dw.phi, *a)

    def _log(self, a: Parts, k: Array | None) -> tuple[Parts, Mask]:
        high, low, confirmed = blocked(_log, *a, np.zeros(()) if k is None else k)
        return (high, low), confirmed

    def _log1p(self, a: Parts) -> tuple[Parts, Mask]:
        high, low, confirmed = blocked(dw.log1p, *a)
        return (high, low), confirmed


def _exp_scaled(high: Array, low: Array) -> tuple[Array, Array]:
    return dw.scale(*dw.exp(high, low))


def _log(high: Array, low: Array, k: Array) -> tuple[Array, Array, Mask]:
    th, tl, e = dw.log_argument(high, low)
    return dw.log(th, tl, e + k)


__all__ = ["DoubleDouble", "FloatBall"]
