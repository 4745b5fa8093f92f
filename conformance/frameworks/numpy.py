"""NumPy, with ml_dtypes for bfloat16."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np

from conformance.execution.protocol import Array
from conformance.frameworks.base import (
    Framework,
    GarbageError,
    Prepared,
    UnsupportedError,
    input_names,
    tangent_name,
)
from conformance.frameworks.layouts import STRIDED, laid_out
from conformance.registry import OPS, Implementation

__all__ = ["FRAMEWORK", "NumPy"]


class NumPy(Framework):
    """Arrays are NumPy's own; an implementation brings its derivatives itself."""

    name = "numpy"
    distributions = ("numpy",)
    module = "numpy"
    dtypes = ("float64", "float32", "bfloat16", "float16")
    modes = ("eager",)
    brings_derivatives = True
    layouts = STRIDED

    def versions(self) -> dict[str, str]:
        """NumPy's and ml_dtypes'."""
        return {"numpy": np.__version__, "ml_dtypes": ml_dtypes.__version__}

    def to_framework(self, array: Array, layout: str = "") -> Array:
        """A copy at an aligned address, or as the layout says."""
        return laid_out(array, layout)

    def from_framework(self, value: Any) -> Array:
        """The array itself; a NumPy scalar counts as an array without axes."""
        if isinstance(value, (np.ndarray, np.generic)):
            return np.asarray(value)
        raise GarbageError(f"returned {type(value).__name__}, not a numpy.ndarray")

    def value(self, implementation: Implementation, mode: str, axis: int) -> Prepared:
        """The function on the inputs."""
        names, function = input_names(implementation), self.bound(implementation, axis)
        return lambda arrays: function(*(arrays[n] for n in names))

    def vjp(self, implementation: Implementation, argument: str, mode: str, axis: int) -> Prepared:
        """The implementation's own ``vjp``."""
        function, names = _supplied(implementation, "vjp", axis), implementation.inputs

        def call(arrays: Any) -> Any:
            gradients = function(arrays["g"], *(arrays[n] for n in names))
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

    def jvp(self, implementation: Implementation, argument: str, mode: str, axis: int) -> Prepared:
        """The implementation's own ``jvp``."""
        names = (tangent_name(argument), *implementation.inputs)
        function = functools.partial(_supplied(implementation, "jvp", axis), argument=argument)
        return lambda arrays: function(*(arrays[n] for n in names))

    def hvp(self, implementation: Implementation, argument: str, mode: str, axis: int) -> Prepared:
        """The implementation's own ``hvp``."""
        names = ("g", tangent_name(argument), *implementation.inputs)
        function = functools.partial(_supplied(implementation, "hvp", axis), argument=argument)
        return lambda arrays: function(*(arrays[n] for n in names))


def _supplied(implementation: Implementation, derivative: str, axis: int) -> Callable[..., Any]:
    function: Callable[..., Any] | None = getattr(implementation, derivative)
    if function is None:
        raise UnsupportedError(f"{implementation.name} brings no {derivative}")
    return functools.partial(function, axis=axis) if OPS[implementation.op].has_axis else function


FRAMEWORK = NumPy
