"""JAX: op by op, and under ``jax.jit``."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from conformance.execution.protocol import Array
from conformance.frameworks.base import (
    ExchangeError,
    Framework,
    GarbageError,
    Prepared,
    aligned_copy,
    input_names,
    single_threaded_xla,
)
from conformance.registry import OPS, Implementation

__all__ = ["FRAMEWORK", "Jax"]

X64 = "x64=on"


class Jax(Framework):
    """Arrays on the CPU; reverse mode by ``jax.vjp``; float64 only in the context x64=on."""

    name = "jax"
    distributions = ("jax",)
    module = "jax"
    dtypes = ("float64", "float32", "bfloat16", "float16")
    modes = ("eager", "compiled")
    # Without an outer jit every primitive is still compiled once per shape.
    compiling_modes = ("eager", "compiled")
    contexts = MappingProxyType({"float64": X64})
    known_contexts = ("default", X64)
    namespaces = ("jax", "jax.numpy", "jax.nn", "jax.lax", "jax.scipy.special")

    @classmethod
    def environment(cls, context: str) -> dict[str, str | None]:
        """CPU, one thread (NPROC is what sizes XLA's pool), and x64 as the context says."""
        return {
            **super().environment(context),
            "JAX_PLATFORMS": "cpu",
            "JAX_ENABLE_X64": "1" if context == X64 else "0",
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "NPROC": "1",
            "XLA_FLAGS": single_threaded_xla(),
        }

    def load(self, context: str, *, own_process: bool = True) -> None:
        """Import JAX; the environment has said the rest."""
        import jax

        self.jax = jax
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

    def to_framework(self, array: Array) -> Any:
        """By ``device_put`` of a copy; 64-bit labels become JAX's natural integer."""
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

    def value(self, implementation: Implementation, mode: str, axis: int) -> Prepared:
        """The function, under jit in compiled mode."""
        names = input_names(implementation)

        def under_test(*inputs: Any) -> Any:
            return implementation.function(*inputs, axis=axis)

        function = self.jax.jit(under_test) if mode == "compiled" else under_test
        return lambda arrays: function(*(arrays[n] for n in names))

    def vjp(self, implementation: Implementation, argument: str, mode: str, axis: int) -> Prepared:
        """``jax.vjp`` in one argument; in compiled mode all of it under one jit."""
        jax = self.jax
        names = OPS[implementation.op].inputs
        position = names.index(argument)

        def under_test(g: Any, *inputs: Any) -> Any:
            def in_one(x: Any) -> Any:
                return implementation.function(
                    *inputs[:position], x, *inputs[position + 1 :], axis=axis
                )

            out, pull = jax.vjp(in_one, inputs[position])
            if not isinstance(out, jax.Array):
                raise GarbageError(f"returned {type(out).__name__}, not a jax.Array")
            (gradient,) = pull(g.astype(out.dtype))
            return gradient

        function = jax.jit(under_test) if mode == "compiled" else under_test
        return lambda arrays: function(arrays["g"], *(arrays[n] for n in names))

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
