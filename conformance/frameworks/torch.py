"""PyTorch: eager, and through ``torch.compile``."""

from __future__ import annotations

import contextlib
import getpass
import os
import re
import sys
import tempfile
import types
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import ml_dtypes
import numpy as np

from conformance.execution.protocol import Array
from conformance.frameworks.base import (
    SCALED_INPUTS,
    THREADS,
    Framework,
    GarbageError,
    Prepared,
    input_names,
    tangent_name,
)
from conformance.frameworks.layouts import BACKWARDS, STRIDED, laid_out
from conformance.registry import Implementation

__all__ = ["FRAMEWORK", "Torch", "compile_cache"]

NO_ONEDNN = "onednn=off"
_RECURSION_LIMIT = 2000


def compile_cache() -> str:
    """Where torch.compile keeps what it compiled: where torch itself would."""
    return os.environ.get("TORCHINDUCTOR_CACHE_DIR") or _default_cache()


def _default_cache() -> str:
    """Torch's folder among the temporary files of this process."""
    try:
        user = getpass.getuser()
    except (KeyError, ModuleNotFoundError, OSError):
        user = f"uid_{os.getuid()}" if hasattr(os, "getuid") else "unknown_user"
    name = "torchinductor_" + re.sub(r'[\\/:*?"<>|]', "_", user)
    return os.path.join(tempfile.gettempdir(), name)


def _share_compile_cache() -> None:
    """Make the default folder the one that `compile_cache` named.

    Torch keeps precompiled headers in the former whatever it is told, and compiling these takes
    longer than everything else that it compiles; a child's temporary files go when it does.
    """
    default, shared = _default_cache(), compile_cache()
    if default != shared and not os.path.lexists(default):
        with contextlib.suppress(OSError):
            os.makedirs(shared, exist_ok=True)
            os.symlink(shared, default)


class Torch(Framework):
    """Tensors on the CPU; ``torch.autograd.grad`` once and twice, ``torch.func.jvp``."""

    name = "torch"
    distributions = ("torch",)
    module = "torch"
    dtypes = ("float64", "float32", "bfloat16", "float16")
    modes = ("eager", "compiled")
    compiling_modes = ("compiled",)
    layouts = tuple(name for name in STRIDED if name != BACKWARDS)
    switched = MappingProxyType(
        {
            THREADS: ("eager", "compiled"),
            NO_ONEDNN: ("eager", "compiled"),
            SCALED_INPUTS: ("compiled",),
        }
    )
    unsupported_messages = (
        ("RuntimeError", "torch.compile with aot_autograd does not currently support double back"),
        ("RuntimeError", "was compiled with non-empty donated buffers which requires create_graph"),
        ("RuntimeError", "is not differentiable with respect to argument 'pos_weight'"),
        ("TorchRuntimeError", "is not differentiable with respect to argument 'pos_weight'"),
    )
    namespaces = ("torch", "torch.nn.functional", "torch.special", "torch.autograd", "torch.Tensor")
    derived_names = ("torch.Storage",)  # of the default dtype

    @classmethod
    def environment(cls, context: str) -> dict[str, str | None]:
        """One thread, no pool of compiler processes, and the user's own cache of what it compiled.

        The cache is by default among the temporary files, and a child has a folder of its own for
        these, which goes when the child does.
        """
        return {
            **super().environment(context),
            "TORCHINDUCTOR_COMPILE_THREADS": "1",
            "TORCHINDUCTOR_CACHE_DIR": compile_cache(),
        }

    def load(self, context: str, *, own_process: bool = True) -> None:
        """Import torch; in a child also pin it to one thread."""
        import torch

        self.torch, self.context = torch, context
        if not own_process:
            return
        torch.manual_seed(0)
        torch.set_num_threads(2 if context == THREADS else 1)
        torch.set_num_interop_threads(1)
        _share_compile_cache()
        # Compiling raises the limit to this for good; it must not pass for a leak of whoever is
        # compiled first.
        sys.setrecursionlimit(max(sys.getrecursionlimit(), _RECURSION_LIMIT))
        if context == NO_ONEDNN:
            torch.backends.mkldnn.set_flags(False)
        # Past a few recompilations torch falls back to eager without a word, and the figures
        # would be those of another mode. Say so instead.
        import torch._dynamo.config

        torch._dynamo.config.fail_on_recompile_limit_hit = True
        torch._dynamo.config.recompile_limit = 64

    def versions(self) -> dict[str, str]:
        """Torch's, and the vector instructions it dispatches to."""
        return {
            "torch": str(self.torch.__version__),
            "torch.cpu_capability": str(self.torch.backends.cpu.get_cpu_capability()),
        }

    def to_framework(self, array: Array, layout: str = "") -> Any:
        """By way of the integers of the same bits for bfloat16, which NumPy does not know."""
        view = laid_out(array, layout)
        if array.dtype == ml_dtypes.bfloat16:
            return self.torch.from_numpy(view.view(np.int16)).view(self.torch.bfloat16)
        return self.torch.from_numpy(view)

    def from_framework(self, value: Any) -> Array:
        """The memory of the tensor."""
        torch = self.torch
        if not isinstance(value, torch.Tensor):
            raise GarbageError(f"returned {type(value).__name__}, not a torch.Tensor")
        if value.device.type != "cpu" or value.layout != torch.strided or value.is_quantized:
            raise GarbageError(f"returned a tensor that is {value.layout} on {value.device}")
        dense = value.detach().resolve_conj().resolve_neg().contiguous()
        if dense.dtype == torch.bfloat16:
            bits: Array = dense.view(torch.int16).numpy()
            return bits.view(ml_dtypes.bfloat16)
        array: Array = dense.numpy()
        return array

    def value(self, implementation: Implementation, mode: str, axis: int) -> Prepared:
        """The function without a gradient."""
        names = input_names(implementation)
        function = self._in_mode(self.bound(implementation, axis), mode)
        return lambda arrays: function(*(arrays[n] for n in names))

    def vjp(self, implementation: Implementation, argument: str, mode: str, axis: int) -> Prepared:
        """Forward in `mode` with a gradient recorded, then one pass backward."""
        torch = self.torch
        forward = self._recorded(implementation, (argument,), mode, axis)

        def call(arrays: Mapping[str, Any]) -> Any:
            out, inputs = forward(arrays)
            g = arrays["g"].to(out.dtype)
            (gradient,) = torch.autograd.grad(out, (inputs[argument],), grad_outputs=(g,))
            return gradient

        return call

    def jvp(self, implementation: Implementation, argument: str, mode: str, axis: int) -> Prepared:
        """``torch.func.jvp``; in compiled mode all of it in one compiled function."""
        torch = self.torch
        names = implementation.inputs
        position = names.index(argument)
        function = self.bound(implementation, axis)

        def along(v: Any, *inputs: Any) -> Any:
            def in_one(x: Any) -> Any:
                return function(*inputs[:position], x, *inputs[position + 1 :])

            return torch.func.jvp(in_one, (inputs[position],), (v,))[1]

        compiled = self._in_mode(along, mode)
        v = tangent_name(argument)
        return lambda arrays: compiled(arrays[v], *(arrays[n].detach() for n in names))

    def hvp(self, implementation: Implementation, argument: str, mode: str, axis: int) -> Prepared:
        """Reverse over reverse: of <v, gradient to b>, the gradient to a."""
        torch = self.torch
        first, second = argument.split(".")
        forward = self._recorded(implementation, (first, second), mode, axis)
        v = tangent_name(argument)

        def call(arrays: Mapping[str, Any]) -> Any:
            out, inputs = forward(arrays)
            g = arrays["g"].to(out.dtype)
            (slope,) = torch.autograd.grad(out, (inputs[second],), (g,), create_graph=True)
            if not slope.requires_grad:
                return torch.zeros_like(inputs[first])
            (curvature,) = torch.autograd.grad(
                slope, (inputs[first],), (arrays[v],), allow_unused=True, materialize_grads=True
            )
            return curvature

        return call

    def _recorded(
        self, implementation: Implementation, to: tuple[str, ...], mode: str, axis: int
    ) -> Callable[[Mapping[str, Any]], tuple[Any, dict[str, Any]]]:
        """The function in `mode`, recording what a gradient to some of its inputs needs."""
        names = implementation.inputs
        function = self._in_mode(self.bound(implementation, axis), mode)

        def forward(arrays: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
            inputs = {n: arrays[n].detach() for n in names}
            for name in to:
                inputs[name].requires_grad_(True)
            out = function(*(inputs[n] for n in names))
            if not isinstance(out, self.torch.Tensor):
                raise GarbageError(f"returned {type(out).__name__}, not a torch.Tensor")
            # An output of another dtype is a breach that the value's cell names; it must not keep
            # the gradient from being taken, so callers cast g to it.
            return out, inputs

        return forward

    def _in_mode(self, inner: Callable[..., Any], mode: str) -> Any:
        def under_test(*inputs: Any) -> Any:
            return inner(*inputs)

        if mode == "eager":
            return under_test
        # torch keeps compiled versions per code object, with one limit for all of them: each
        # derivative, argument and dtype gets a code object of its own.
        fresh = types.FunctionType(
            under_test.__code__.replace(co_name="under_test"),
            under_test.__globals__,
            under_test.__name__,
            under_test.__defaults__,
            under_test.__closure__,
        )
        return self.torch.compile(fresh, dynamic=True)

    def state(self) -> dict[str, str]:
        """Default dtype, threads, gradient mode and the switches that change results."""
        torch = self.torch
        return {
            "torch default dtype": str(torch.get_default_dtype()),
            "torch threads": str(torch.get_num_threads()),
            "torch grad enabled": str(torch.is_grad_enabled()),
            "torch inference mode": str(torch.is_inference_mode_enabled()),
            "torch deterministic": str(torch.are_deterministic_algorithms_enabled()),
            "torch matmul precision": str(torch.get_float32_matmul_precision()),
            "torch default device": str(torch.get_default_device()),
            "torch autocast": str(torch.is_autocast_enabled("cpu")),
            "torch random state": torch.get_rng_state().numpy().tobytes().hex(),
        }

    def restore(self, state: Mapping[str, str]) -> None:
        """Put back what has a setter."""
        torch = self.torch
        torch.set_default_dtype(getattr(torch, state["torch default dtype"].rpartition(".")[2]))
        torch.set_num_threads(int(state["torch threads"]))
        torch.set_grad_enabled(state["torch grad enabled"] == "True")
        torch.use_deterministic_algorithms(state["torch deterministic"] == "True")
        torch.set_float32_matmul_precision(state["torch matmul precision"])
        torch.set_flush_denormal(False)
        drawn = bytearray.fromhex(state["torch random state"])
        torch.set_rng_state(torch.frombuffer(drawn, dtype=torch.uint8))


FRAMEWORK = Torch
