"""JAX: op by op, and under ``jax.jit``."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from conformance.execution.protocol import Array
from conformance.frameworks.base import (
    CONSTANT_INPUTS,
    SCALED_INPUTS,
    ExchangeError,
    Framework,
    GarbageError,
    Prepared,
    input_names,
    single_threaded_xla,
    tangent_name,
)
from conformance.frameworks.layouts import TRANSPOSED, aligned_copy, stored
from conformance.registry import Implementation

__all__ = ["FRAMEWORK", "Jax"]

X64 = "x64=on"
NO_JIT = "disable_jit=on"


class Jax(Framework):
    """Arrays on the CPU; ``jax.vjp``, ``jax.jvp``, the latter of the former; float64 in x64=on."""

    name = "jax"
    distributions = ("jax",)
    module = "jax"
    dtypes = ("float64", "float32", "bfloat16", "float16")
    modes = ("eager", "compiled")
    # Without an outer jit every primitive is still compiled once per shape.
    compiling_modes = ("eager", "compiled")
    layouts = (TRANSPOSED,)
    contexts = MappingProxyType({"float64": X64})
    switched = MappingProxyType(
        {
            NO_JIT: ("eager",),
            CONSTANT_INPUTS: ("compiled",),
            SCALED_INPUTS: ("compiled",),
        }
    )
    namespaces = ("jax", "jax.numpy", "jax.nn", "jax.lax", "jax.scipy.special")

    @classmethod
    def environment(cls, context: str) -> dict[str, str | None]:
        """CPU, one thread (NPROC is what sizes XLA's pool), and x64 as the context says."""
        return {
            **super().environment(context),
            "JAX_PLATFORMS": "cpu",
            "JAX_ENABLE_X64": "1" if context == X64 else "0",
            "JAX_DISABLE_JIT": "1" if context == NO_JIT else "0",
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "NPROC": "1",
            "XLA_FLAGS": single_threaded_xla(),
        }

    @classmethod
    def takes_labels(cls, label: Array, dtype: str) -> bool:
        """Without x64 there are no 64-bit integers, but `to_framework` makes int32 of int64."""
        if cls.context_for(dtype) == X64 or label.dtype.itemsize < 8:
            return True
        return label.dtype == np.int64 and bool(np.all(label == label.astype(np.int32)))

    def load(self, context: str, *, own_process: bool = True) -> None:
        """Import JAX; the environment has said the rest."""
        import jax

        self.jax, self.context = jax, context
        if own_process and bool(jax.config.jax_enable_x64) != (context == X64):
            raise RuntimeError(f"JAX did not take x64 from its environment in context {context}")

    def scope(self, context: str) -> contextlib.AbstractContextManager[Any]:
        """Switch x64 for the time of a call."""
        scope: contextlib.AbstractContextManager[Any] = self.jax.enable_x64(context == X64)
        return scope

    def versions(self) -> dict[str, str]:
        """JAX's and jaxlib's."""
        import jaxlib

        return {"jax": str(self.jax.__version__), "jaxlib": str(jaxlib.__version__)}

    def to_framework(self, array: Array, layout: str = "") -> Any:
        """By ``device_put`` of a copy; 64-bit labels become JAX's natural integer."""
        array = stored(array, layout)
        if array.dtype == np.int64 and not self.jax.config.jax_enable_x64:
            narrow = array.astype(np.int32)
            if not np.array_equal(narrow, array):
                raise ExchangeError("a label does not fit into int32, and x64 is off")
            array = narrow
        value = self.jax.device_put(aligned_copy(array))
        if value.dtype != array.dtype:
            raise ExchangeError(f"JAX made {value.dtype.name} of {array.dtype.name} (x64 is off)")
        return value

    def from_framework(self, value: Any) -> Array:
        """The memory of the array."""
        if not isinstance(value, self.jax.Array):
            raise GarbageError(f"returned {type(value).__name__}, not a jax.Array")
        return np.asarray(value)

    def wait(self, value: Any) -> None:
        """JAX computes in the background."""
        if isinstance(value, self.jax.Array):
            value.block_until_ready()

    def transposed(self, value: Any) -> Any:
        """Inside the function, where a compiler may choose a layout."""
        return self.jax.numpy.transpose(value)

    def value(self, implementation: Implementation, mode: str, axis: int) -> Prepared:
        """The function, under jit in compiled mode."""
        names, function = input_names(implementation), self.bound(implementation, axis)
        if self.call_context == CONSTANT_INPUTS:
            return lambda arrays: self._of_constants(function, [arrays[n] for n in names])
        function = self._in_mode(function, mode)
        return lambda arrays: function(*(arrays[n] for n in names))

    def _of_constants(self, function: Callable[..., Any], inputs: list[Any]) -> Any:
        """A compiled function of nothing, its inputs among its code."""
        constants = [np.asarray(a) for a in inputs]
        return self.jax.jit(lambda: function(*map(self.jax.numpy.asarray, constants)))()

    def _in_mode(self, function: Callable[..., Any], mode: str) -> Callable[..., Any]:
        compiled: Callable[..., Any] = self.jax.jit(function) if mode == "compiled" else function
        return compiled

    def vjp(self, implementation: Implementation, argument: str, mode: str, axis: int) -> Prepared:
        """``jax.vjp`` in one argument; in compiled mode all of it under one jit."""
        gradient = self._gradient(implementation, argument, axis)
        function = self._in_mode(gradient, mode)
        return lambda arrays: function(arrays["g"], *(arrays[n] for n in implementation.inputs))

    def jvp(self, implementation: Implementation, argument: str, mode: str, axis: int) -> Prepared:
        """``jax.jvp`` in one argument; in compiled mode all of it under one jit."""
        along = self._along(self.bound(implementation, axis), implementation.inputs.index(argument))
        function, v = self._in_mode(along, mode), tangent_name(argument)
        return lambda arrays: function(arrays[v], *(arrays[n] for n in implementation.inputs))

    def hvp(self, implementation: Implementation, argument: str, mode: str, axis: int) -> Prepared:
        """Forward over reverse: ``jax.jvp`` of ``jax.vjp``."""
        first, second = argument.split(".")
        gradient = self._gradient(implementation, first, axis)
        along = self._along(gradient, 1 + implementation.inputs.index(second))
        function, v = self._in_mode(along, mode), tangent_name(argument)
        names = ("g", *implementation.inputs)
        return lambda arrays: function(arrays[v], *(arrays[n] for n in names))

    def _gradient(
        self, implementation: Implementation, argument: str, axis: int
    ) -> Callable[..., Any]:
        """The function of g and the inputs that is the gradient to one of them."""
        jax = self.jax
        position = implementation.inputs.index(argument)
        function = self.bound(implementation, axis)

        def gradient(g: Any, *inputs: Any) -> Any:
            def in_one(x: Any) -> Any:
                return function(*inputs[:position], x, *inputs[position + 1 :])

            out, pull = jax.vjp(in_one, inputs[position])
            if not isinstance(out, jax.Array):
                raise GarbageError(f"returned {type(out).__name__}, not a jax.Array")
            (found,) = pull(g.astype(out.dtype))
            return found

        return gradient

    def _along(self, function: Callable[..., Any], position: int) -> Callable[..., Any]:
        """The derivative of a function along a tangent of one of its inputs."""

        def along(v: Any, *inputs: Any) -> Any:
            def in_one(x: Any) -> Any:
                return function(*inputs[:position], x, *inputs[position + 1 :])

            return self.jax.jvp(in_one, (inputs[position],), (v,))[1]

        return along

    def state(self) -> dict[str, str]:
        """The configuration that changes results."""
        config = self.jax.config
        return {
            f"jax {name.removeprefix('jax_')}": str(getattr(config, name, None))
            for name in _SWITCHES
        }

    def restore(self, state: Mapping[str, str]) -> None:
        """Put the boolean switches back."""
        for name in _SWITCHES:
            text = state[f"jax {name.removeprefix('jax_')}"]
            if text in ("True", "False"):
                self.jax.config.update(name, text == "True")


_SWITCHES = (
    "jax_enable_x64",
    "jax_disable_jit",
    "jax_debug_nans",
    "jax_debug_infs",
    "jax_default_matmul_precision",
    "jax_numpy_dtype_promotion",
    "jax_numpy_rank_promotion",
    "jax_default_device",
    "jax_default_dtype_bits",
    "jax_default_prng_impl",
    "jax_platforms",
    "jax_threefry_partitionable",
)

FRAMEWORK = Jax
