"""Error-free transformations on float64 arrays, and the loop that keeps them in cache.

Notation: RN rounds to nearest even, u = 2^-53. Every function returns the rounded result of an
operation and its *exact* error, so that nothing is lost. Sources: Dekker, "A floating-point
technique for extending the available precision" (1971); Knuth, TAOCP 2, 4.2.2; Muller et al.,
*Handbook of Floating-Point Arithmetic*, 2nd ed., chapter 4. No fused multiply-add is assumed:
NumPy does not expose one.

These functions are exact as long as nothing overflows and the products stay above 2^-968; the
callers in ``_ball`` see to that by looking at the exponents of their operands.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
IntArray = NDArray[np.int64]
Pair = tuple[Array, Array]

SPLITTER = 134217729.0
"""2^27 + 1: Veltkamp's constant, which cuts 53 bits into 26 and 26 (and a sign)."""

BLOCK = 16384
"""Elements worked on at a time: some fifteen temporaries of 128 KiB stay in a level-2 cache."""

np.empty(1 << 21)
"""Allocated, never touched, and freed at once: glibc then stops giving the top of the heap back to
the system after every block (its thresholds follow the largest freed mapping), which would cost
three times what the arithmetic does. No other allocator minds."""

_NARROW = 64
"""Rows shorter than this are flattened: NumPy's inner loop over one row would be all overhead."""


def two_sum(a: Array, b: Array) -> Pair:
    """Return s = RN(a + b) and a + b - s (Knuth; no condition on the order of magnitude)."""
    s = a + b
    t = s - a
    return s, (a - (s - t)) + (b - t)


def fast_two_sum(a: Array, b: Array) -> Pair:
    """Return s = RN(a + b) and a + b - s, provided that |a| >= |b| or a = 0 (Dekker)."""
    s = a + b
    return s, b - (s - a)


def split(a: Array) -> Pair:
    """Return high + low = a with at most 26 bits in each (Veltkamp), for |a| < 2^996."""
    c = SPLITTER * a
    high = c - (c - a)
    return high, a - high


def two_prod(a: Array, b: Array) -> Pair:
    """Return p = RN(a b) and a b - p (Dekker)."""
    ah, al = split(a)
    return two_prod_presplit(a, ah, al, b)


def two_prod_presplit(a: Array, ah: Array, al: Array, b: Array) -> Pair:
    """Return :func:`two_prod` of a and b where ``split(a)`` is at hand."""
    bh, bl = split(b)
    p = a * b
    return p, ((ah * bh - p) + ah * bl + al * bh) + al * bl


def two_square(a: Array) -> Pair:
    """Return p = RN(a a) and a a - p."""
    h, low = split(a)
    p = a * a
    return p, ((h * h - p) + (h + h) * low) + low * low


def blocked(kernel: Callable[..., tuple[NDArray[Any], ...]], *arrays: Array) -> tuple[Any, ...]:
    """Apply an elementwise kernel in pieces of about ``BLOCK`` elements.

    Parameters
    ----------
    kernel
        Takes as many arrays as are given, broadcastable against each other, and returns a tuple
        of arrays of the broadcast shape.
    *arrays
        Operands; they are broadcast against each other.

    Returns
    -------
    tuple of arrays of the broadcast shape, with the dtypes that the kernel returned.
    """
    shape = np.broadcast_shapes(*(a.shape for a in arrays))
    size = math.prod(shape)
    if all(a.shape == shape for a in arrays):
        if size <= BLOCK and shape:
            return kernel(*arrays)
        return _flat(kernel, shape, [np.reshape(a, -1) for a in arrays])
    if size == 0 or len(shape) < 2:
        if size <= BLOCK and shape:
            return kernel(*(np.broadcast_to(a, shape) for a in arrays))
        return _flat(kernel, shape, [np.broadcast_to(a, shape).reshape(-1) for a in arrays])
    # Two dimensions are enough: rows (all leading axes) and the class axis.
    width = shape[-1]
    rows = [np.broadcast_to(a, shape).reshape(-1, width) for a in arrays]
    return _by_rows(kernel, shape, rows)


def _flat(
    kernel: Callable[..., Any], shape: tuple[int, ...], arrays: list[Array]
) -> tuple[Any, ...]:
    size = arrays[0].size
    if size <= BLOCK:
        return tuple(np.reshape(r, shape) for r in kernel(*arrays))
    results: tuple[NDArray[Any], ...] = ()
    for start in range(0, size, BLOCK):
        piece = slice(start, start + BLOCK)
        values = kernel(*(a[piece] for a in arrays))
        results = results or tuple(np.empty(size, v.dtype) for v in values)
        for result, value in zip(results, values, strict=True):
            result[piece] = value
    return tuple(r.reshape(shape) for r in results)


def _by_rows(
    kernel: Callable[..., Any], shape: tuple[int, ...], arrays: list[Array]
) -> tuple[Any, ...]:
    count, width = arrays[0].shape
    # An operand that is constant along the row is handed over as a column, so that what the
    # kernel prepares for it (splitting it, say) is done once per row and not once per element.
    constant = [a.strides[1] == 0 for a in arrays]
    high = max(1, BLOCK // width)
    wide = min(width, BLOCK)
    results: tuple[NDArray[Any], ...] = ()
    for top in range(0, count, high):
        band = slice(top, min(top + high, count))
        for left in range(0, width, wide):
            piece = (band, slice(left, left + wide))
            if width < _NARROW:
                area = arrays[0][piece].shape
                flat = [np.ascontiguousarray(a[piece]).reshape(-1) for a in arrays]
                values = tuple(v.reshape(area) for v in kernel(*flat))
            else:
                values = kernel(
                    *(a[band, :1] if c else a[piece] for a, c in zip(arrays, constant, strict=True))
                )
            results = results or tuple(np.empty((count, width), v.dtype) for v in values)
            for result, value in zip(results, values, strict=True):
                result[piece] = value
    return tuple(r.reshape(shape) for r in results)
