"""How an array can lie in memory: the same numbers, read the same way, at other addresses.

What lies between them is NaN (or a number that is none of them), so that whoever reads it shows it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np

from conformance.execution.protocol import Array

__all__ = ["BACKWARDS", "STRIDED", "TRANSPOSED", "aligned_copy", "laid_out", "stored"]

ALIGNMENT = 64
TRANSPOSED = "transposed"
"""Of frameworks whose arrays have no strides: the function transposes what it is given."""
BACKWARDS = "backwards"
"""From the last element to the first, by negative strides."""
_GAP = 3
"""Elements between two rows: each row begins in another vector lane."""


def aligned_copy(array: Array, offset: int = 0) -> Array:
    """A contiguous copy that starts at a multiple of 64 bytes, or so many elements behind one.

    Vector loops peel off unaligned elements, so the bits of a result could otherwise depend on
    where the allocator happened to put an input.
    """
    ahead = offset * array.itemsize
    raw = np.empty(array.nbytes + ALIGNMENT + ahead, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT + ahead
    copy = raw[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def laid_out(array: Array, layout: str) -> Array:
    """A copy that is equal to an array and lies as `layout` says.

    Raises
    ------
    ValueError
        If there is no such layout, or none of such an array.
    """
    if not layout:
        return aligned_copy(array)
    if layout not in _LAYOUTS:
        raise ValueError(f"there is no layout {layout!r}")
    if not array.ndim:
        return aligned_copy(array)
    view = _LAYOUTS[layout](array)
    if view.shape != array.shape or view.tobytes() != array.tobytes():
        raise ValueError(f"the array cannot lie {layout}")
    return view


def stored(array: Array, layout: str) -> Array:
    """What a framework without strides is given."""
    return array.T if layout == TRANSPOSED else array


def _between(shape: tuple[int, ...], array: Array) -> Array:
    """An array of nothing that belongs to the input."""
    filler = np.ones((), array.dtype) if array.dtype.kind in "biu" else np.nan
    buffer = aligned_copy(np.empty(shape, array.dtype))
    buffer[...] = filler
    return buffer


def _columns(array: Array) -> Array:
    return aligned_copy(array.T).T


def _strided(array: Array) -> Array:
    view = _between((*array.shape[:-1], 2 * array.shape[-1]), array)[..., ::2]
    view[...] = array
    return view


def _padded(array: Array) -> Array:
    view = _between((*array.shape[:-1], array.shape[-1] + _GAP), array)[..., : array.shape[-1]]
    view[...] = array
    return view


def _broadcast(array: Array) -> Array:
    first = aligned_copy(array[:1])
    return np.lib.stride_tricks.as_strided(first, array.shape, (0, *first.strides[1:]))


def _backwards(array: Array) -> Array:
    turned = (slice(None, None, -1),) * array.ndim
    return aligned_copy(array[turned])[turned]


_LAYOUTS: Mapping[str, Callable[[Array], Array]] = MappingProxyType(
    {
        "offset_1": lambda array: aligned_copy(array, 1),
        "offset_3": lambda array: aligned_copy(array, 3),
        "columns": _columns,
        "strided": _strided,
        "padded": _padded,
        "broadcast": _broadcast,
        BACKWARDS: _backwards,
    }
)
STRIDED: tuple[str, ...] = tuple(_LAYOUTS)
"""Of frameworks whose arrays have strides; ``broadcast`` is for rows that are all equal."""
