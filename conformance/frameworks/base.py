"""What a framework is to this suite: capabilities without an import, and a way in and out.

The class attributes are read by the planner and never import the framework. The methods below
`load` run only in the process that holds the framework, an executor's child as a rule.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np

from conformance.execution.protocol import Array
from conformance.registry import OPS, Implementation, distribution_version

__all__ = ["ExchangeError", "Framework", "GarbageError", "Prepared", "UnsupportedError"]

Prepared = Callable[[Mapping[str, Any]], Any]
"""Takes the framework's arrays by name, returns the framework's array."""


class UnsupportedError(Exception):
    """The framework or the implementation cannot do what was asked, by declaration."""


class GarbageError(Exception):
    """The implementation returned something that is not an array of its framework."""


class ExchangeError(Exception):
    """An array cannot enter the framework bit for bit."""


class Framework(ABC):
    """How arrays, modes and derivatives work in one framework."""

    name: ClassVar[str]
    distributions: ClassVar[tuple[str, ...]]
    """Distributions that provide it, the usual one first."""
    module: ClassVar[str]
    """The module whose presence means that it is installed."""
    dtypes: ClassVar[tuple[str, ...]]
    """Formats that it computes in."""
    modes: ClassVar[tuple[str, ...]]
    """Execution modes, eager first."""
    compiling_modes: ClassVar[tuple[str, ...]] = ()
    """Modes in which the first call of a shape compiles something."""
    derivatives: ClassVar[tuple[str, ...]] = ("value", "vjp")
    contexts: ClassVar[Mapping[str, str]] = MappingProxyType({})
    """The context that a dtype needs, where it is not ``default``."""
    known_contexts: ClassVar[tuple[str, ...]] = ("default",)
    needs_vjp: ClassVar[bool] = False
    """Whether an implementation has to bring its own ``vjp`` to have one."""
    unsupported_messages: ClassVar[tuple[tuple[str, str], ...]] = ()
    """(type, part of the message) of exceptions that mean `unsupported`, not `error`."""

    namespaces: ClassVar[tuple[str, ...]] = ()
    """Dotted names of its modules and classes in which an implementation could replace what
    others use; they are watched."""
    derived_names: ClassVar[tuple[str, ...]] = ()
    """Names in them that follow a switch of `state`, and are not watched."""

    # --- what the planner asks; imports nothing ---------------------------------------------

    @classmethod
    def installed_version(cls) -> str | None:
        """The installed version, or None; found without importing the framework."""
        try:
            if importlib.util.find_spec(cls.module) is None:
                return None
        except (ImportError, ValueError):
            return None
        for distribution in cls.distributions:
            version = distribution_version(distribution)
            if version is not None:
                return version
        return "unknown"

    @classmethod
    def context_for(cls, dtype: str) -> str:
        """The context that `dtype` runs in."""
        return cls.contexts.get(dtype, "default")

    @classmethod
    def environment(cls, context: str) -> dict[str, str | None]:
        """Environment variables of a child in `context`; None removes one.

        One thread everywhere and quiet logs. Nothing here changes a figure against what a user
        gets by default.
        """
        if context not in cls.known_contexts:
            raise ValueError(
                f"{cls.name} has no context {context!r}; known are {', '.join(cls.known_contexts)}"
            )
        return cls.variables()

    @staticmethod
    def variables() -> dict[str, str | None]:
        """Environment variables of every child, whatever its framework."""
        return {
            "OMP_NUM_THREADS": "1",
            "MKL_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
            "NUMEXPR_NUM_THREADS": "1",
            "CUDA_VISIBLE_DEVICES": "",
            # Sets of names come in the same order in every child.
            "PYTHONHASHSEED": os.environ.get("PYTHONHASHSEED", "0"),
        }

    @classmethod
    def unsupported_reason(
        cls, implementation: Implementation, derivative: str, argument: str, dtype: str, mode: str
    ) -> str | None:
        """Why this can be known not to work without trying it; None if it should work."""
        op = OPS[implementation.op]
        for what, value, has, declared in (
            ("dtype", dtype, cls.dtypes, implementation.dtypes),
            ("mode", mode, cls.modes, implementation.modes),
            ("derivative", derivative, cls.derivatives, implementation.derivatives),
        ):
            if value not in has:
                return f"{cls.name} has no {what} {value}"
            if declared is not None and value not in declared:
                return f"{implementation.name} declares no {what} {value}"
        if derivative == "value":
            return None if argument == "-" else "the value has no argument; write -"
        if argument not in op.differentiable:
            return f"{implementation.op} has no derivative with respect to {argument}"
        if cls.needs_vjp and implementation.vjp is None and implementation.role != "control":
            return f"{implementation.name} brings no {derivative}, and {cls.name} cannot take one"
        return None

    @classmethod
    def means_unsupported(cls, type_name: str, text: str) -> bool:
        """Whether an exception is on the framework's list of known refusals."""
        return any(type_name == known and part in text for known, part in cls.unsupported_messages)

    # --- what the process with the framework asks -------------------------------------------

    def load(self, context: str, *, own_process: bool = True) -> None:
        """Import the framework and set it up for `context`.

        In a process that is not ours (`own_process` false) nothing is set that would outlast
        a call; see `scope`.
        """
        importlib.import_module(self.module)

    def scope(self, context: str) -> contextlib.AbstractContextManager[Any]:
        """What a call in somebody else's process has to be wrapped in."""
        return contextlib.nullcontext()

    def versions(self) -> dict[str, str]:
        """Versions of the framework and of what it computes with."""
        return {self.name: self.installed_version() or "unknown"}

    @abstractmethod
    def to_framework(self, array: Array) -> Any:
        """A private copy of `array` as the framework's array, bit for bit."""

    @abstractmethod
    def from_framework(self, value: Any) -> Array:
        """The framework's array as a NumPy array, bit for bit, dtype and shape as they are.

        Raises
        ------
        GarbageError
            If `value` is not an array of the framework.
        """

    def wait(self, value: Any) -> None:
        """Return when `value` has been computed."""
        return None

    def value(self, implementation: Implementation, mode: str, axis: int) -> Prepared:
        """The implementation itself in `mode`."""
        raise NotImplementedError

    def vjp(self, implementation: Implementation, argument: str, mode: str, axis: int) -> Prepared:
        """Its reverse-mode derivative with respect to `argument`, applied to ``g``."""
        raise NotImplementedError

    def prepare(
        self,
        implementation: Implementation,
        derivative: str,
        argument: str,
        mode: str,
        axis: int = -1,
    ) -> Prepared:
        """A callable for one derivative in one mode, to be kept and called many times.

        A control is called with ``answer`` whatever the derivative is: it shows that what goes
        in and out of the framework is judged as it is.
        """
        if derivative == "value" or implementation.role == "control":
            return self.value(implementation, mode, axis)
        if derivative == "vjp":
            return self.vjp(implementation, argument, mode, axis)
        raise UnsupportedError(f"{self.name} has no derivative {derivative}")

    def state(self) -> dict[str, str]:
        """Process-wide switches of the framework that an implementation could leave changed.

        A state of random numbers belongs to them; it is a text too, of any length.
        """
        return {}

    def restore(self, state: Mapping[str, str]) -> None:
        """Put the switches of `state` back, where that is possible."""
        return None


def input_names(implementation: Implementation) -> Sequence[str]:
    """The arrays that the function is called with, in order."""
    if implementation.role == "control":
        return ("answer",)
    return OPS[implementation.op].inputs


def aligned_copy(array: Array) -> Array:
    """A contiguous copy that starts at a multiple of 64 bytes.

    Vector loops peel off unaligned elements, so the bits of a result could otherwise depend on
    where the allocator happened to put an input.
    """
    raw = np.empty(array.nbytes + 64, np.uint8)
    start = -raw.ctypes.data % 64
    copy = raw[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def single_threaded_xla() -> str:
    """The user's XLA flags and one thread for XLA's kernels."""
    mine = "--xla_cpu_multi_thread_eigen=false"
    flags = os.environ.get("XLA_FLAGS", "")
    return flags if mine in flags else f"{flags} {mine}".strip()
