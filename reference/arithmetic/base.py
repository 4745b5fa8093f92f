"""The small interface that formulas are written over.

Every arithmetic offers these names; a formula that uses nothing else runs in all of them. Arrays
have the class axis last.
"""

from __future__ import annotations

from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
Mask = NDArray[np.bool_]


class Number(Protocol):
    """An array of numbers of one arithmetic."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __add__(self, other: Any) -> Any: ...

    def __sub__(self, other: Any) -> Any: ...

    def __mul__(self, other: Any) -> Any: ...

    def __truediv__(self, other: Any) -> Any: ...

    def __neg__(self) -> Any: ...

    def __getitem__(self, index: Any) -> Any: ...


N = TypeVar("N", bound=Number)


class Arithmetic(Protocol[N]):
    """Operations on arrays of numbers ``N``; ``exact`` and ``difference`` take float64 arrays."""

    def exact(self, values: F64) -> N:
        """Finite float64 values, exactly."""

    def difference(self, a: F64, b: F64) -> N:
        """a - b of float64 arrays, the one subtraction that must not round early."""

    def total(self, values: F64) -> N:
        """Sum of float64 values along the class axis (kept with length 1), as exact as can be."""

    def exp(self, a: N) -> N:
        """e^a."""

    def exp_difference(self, a: F64, b: F64) -> N:
        """e^(a - b) of float64 arrays: ``exp`` of ``difference``, which need not be kept."""

    def expm1(self, a: N) -> N:
        """e^a - 1."""

    def phi(self, a: N) -> N:
        """e^a - 1 - a."""

    def log(self, a: N) -> N:
        """Natural logarithm of positive numbers."""

    def log1p(self, a: N) -> N:
        """log(1 + a), a > -1."""

    def sum(self, a: N) -> N:
        """Sum along the class axis, which stays with length 1."""

    def where(self, mask: Mask, a: N, b: N) -> N:
        """a where the mask is true, else b."""
