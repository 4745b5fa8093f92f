"""NumPy, with ml_dtypes for bfloat16."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

from conformance.execution.protocol import Array
from conformance.frameworks.base import (
    Framework,
    GarbageError,
    Prepared,
    UnsupportedError,
    aligned_copy,
    input_names,
)
from conformance.registry import OPS, Implementation

__all__ = ["FRAMEWORK", "NumPy"]


class NumPy(Framework):
    """Arrays are NumPy's own; an implementation brings its derivatives itself (``vjp=``)."""

    name = "numpy"
    distributions = ("numpy",)
    module = "numpy"
    dtypes = ("float64", "float32", "bfloat16", "float16")
    modes = ("eager",)
    needs_vjp = True

    def versions(self) -> dict[str, str]:
        """NumPy's and ml_dtypes'."""
        return {"numpy": np.__version__, "ml_dtypes": ml_dtypes.__version__}

    def to_framework(self, array: Array) -> Array:
        """A copy at an aligned address."""
        return aligned_copy(array)

    def from_framework(self, value: Any) -> Array:
        """The array itself; a NumPy scalar counts as an array without axes."""
        if isinstance(value, (np.ndarray, np.generic)):
            return np.asarray(value)
        raise GarbageError(f"returned {type(value).__name__}, not a numpy.ndarray")

    def value(self, implementation: Implementation, mode: str, axis: int) -> Prepared:
        """The function on the inputs."""
        names = input_names(implementation)
        return lambda arrays: implementation.function(*(arrays[n] for n in names), axis=axis)

    def vjp(self, implementation: Implementation, argument: str, mode: str, axis: int) -> Prepared:
        """The implementation's own ``vjp``."""
        function = implementation.vjp
        if function is None:
            raise UnsupportedError(f"{implementation.name} brings no vjp")
        names = OPS[implementation.op].inputs

        def call(arrays: Any) -> Any:
            gradients = function(arrays["g"], *(arrays[n] for n in names), axis=axis)
            if not isinstance(gradients, dict):
                raise GarbageError(
                    f"its vjp returned {type(gradients).__name__}, not a dict of arrays"
                )
            if argument not in gradients:
                raise UnsupportedError(
                    f"the vjp of {implementation.name} has no entry for {argument}"
                )
            return gradients[argument]

        return call


FRAMEWORK = NumPy
