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

from conformance import shelf
from conformance.execution.protocol import Array
from conformance.frameworks.layouts import TRANSPOSED
from conformance.registry import OPS, Implementation, distribution_version

__all__ = ["ExchangeError", "Framework", "GarbageError", "Prepared", "UnsupportedError"]

Prepared = Callable[[Mapping[str, Any]], Any]
"""Takes the framework's arrays by name, returns the framework's array."""

DEFAULT = "default"
THREADS = "threads=2"
"""A context with two threads wherever there is one otherwise."""
CONSTANT_INPUTS = "constant_inputs"
"""A context in which compiled functions have their inputs as constants, and compilers fold them."""
SCALED_INPUTS = "scaled_inputs"
"""A context in which compiled functions multiply x by `SCALE` before the op."""
SCALE = 8.0
"""A power of two: where x / SCALE is exact, so is the product, and the right answer is x's."""
CALL_CONTEXTS = (CONSTANT_INPUTS, SCALED_INPUTS)
"""Contexts that belong to a call: they need no process of their own, and share the usual one."""


def process_context(context: str) -> str:
    """What the process is loaded for in which a context's calls are made."""
    return DEFAULT if context in CALL_CONTEXTS else context


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
    derivatives: ClassVar[tuple[str, ...]] = ("value", "vjp", "jvp", "hvp")
    contexts: ClassVar[Mapping[str, str]] = MappingProxyType({})
    """The context that a dtype needs, where it is not ``default``."""
    switched: ClassVar[Mapping[str, tuple[str, ...]]] = MappingProxyType({})
    """Contexts besides these, each with the modes that it is for."""
    lacking: ClassVar[Mapping[tuple[str, str], str]] = MappingProxyType({})
    """By (derivative, mode): why it cannot be had, known without trying."""
    brings_derivatives: ClassVar[bool] = False
    """Whether an implementation has to bring its own derivatives to have them."""
    unsupported_messages: ClassVar[tuple[tuple[str, str], ...]] = ()
    """(type, part of the message) of exceptions that mean `unsupported`, not `error`."""

    layouts: ClassVar[tuple[str, ...]] = ()
    """Ways in which its arrays can lie in memory, of `conformance.frameworks.layouts`."""

    namespaces: ClassVar[tuple[str, ...]] = ()
    """Dotted names of its modules and classes in which an implementation could replace what
    others use; they are watched."""
    derived_names: ClassVar[tuple[str, ...]] = ()
    """Names in them that follow a switch of `state`, and are not watched."""

    context: str = DEFAULT
    """What it was loaded for."""
    call_context: str = ""
    """Of `CALL_CONTEXTS` the one that calls are being prepared for, or empty."""
    layout: str = ""
    """The layout that calls are being prepared for."""

    # --- what the planner asks; imports nothing ---------------------------------------------

    @classmethod
    def known_contexts(cls) -> tuple[str, ...]:
        """Every context that it can be loaded for."""
        return tuple(dict.fromkeys((DEFAULT, *cls.contexts.values(), *cls.switched)))

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
        return cls.contexts.get(dtype, DEFAULT)

    @classmethod
    def takes_labels(cls, label: Array, dtype: str) -> bool:
        """Whether these labels can enter the framework where logits have `dtype`."""
        return True

    @classmethod
    def runs_in(cls, context: str, dtype: str, mode: str) -> bool:
        """Whether a context is for this dtype and mode."""
        if context in cls.switched:
            return mode in cls.switched[context] and cls.context_for(dtype) == DEFAULT
        return context == cls.context_for(dtype)

    @classmethod
    def environment(cls, context: str) -> dict[str, str | None]:
        """Environment variables of a child in `context`; None removes one.

        One thread everywhere and quiet logs. Nothing here changes a figure against what a user
        gets by default.
        """
        known = cls.known_contexts()
        if context not in known:
            raise ValueError(f"{cls.name} has no context {context!r}; known are {', '.join(known)}")
        return cls.variables(2 if context == THREADS else 1)

    @staticmethod
    def variables(threads: int = 1) -> dict[str, str | None]:
        """Environment variables of every child, whatever its framework."""
        return {
            "OMP_NUM_THREADS": str(threads),
            "MKL_NUM_THREADS": str(threads),
            "OPENBLAS_NUM_THREADS": str(threads),
            "NUMEXPR_NUM_THREADS": str(threads),
            "CUDA_VISIBLE_DEVICES": "",
            # Who is asked need not know where the right answers lie.
            shelf.VARIABLE: None,
            # Sets of names come in the same order in every child.
            "PYTHONHASHSEED": os.environ.get("PYTHONHASHSEED", "0"),
        }

    @classmethod
    def unsupported_reason(
        cls, implementation: Implementation, derivative: str, argument: str, dtype: str, mode: str
    ) -> str | None:
        """Why this can be known not to work without trying it; None if it should work."""
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
        to = argument.split(".") if derivative == "hvp" else [argument]
        if len(to) != (2 if derivative == "hvp" else 1):
            return "a second derivative has a pair of arguments, such as x.x"
        for name in to:
            if name in implementation.without:
                return f"{implementation.name} takes no {name}"
            if name not in implementation.differentiable:
                return f"{implementation.op} has no derivative with respect to {name}"
        if implementation.role == "control":
            return None
        if cls.brings_derivatives and getattr(implementation, derivative) is None:
            return f"{implementation.name} brings no {derivative}, and {cls.name} cannot take one"
        return cls.lacking.get((derivative, mode))

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
        self.context = context
        importlib.import_module(self.module)

    def scope(self, context: str) -> contextlib.AbstractContextManager[Any]:
        """What a call in somebody else's process has to be wrapped in."""
        return contextlib.nullcontext()

    def versions(self) -> dict[str, str]:
        """Versions of the framework and of what it computes with."""
        return {self.name: self.installed_version() or "unknown"}

    @abstractmethod
    def to_framework(self, array: Array, layout: str = "") -> Any:
        """A private copy of `array` as the framework's array, bit for bit, in one of `layouts`."""

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

    @abstractmethod
    def value(self, implementation: Implementation, mode: str, axis: int) -> Prepared:
        """The implementation itself in `mode`."""

    @abstractmethod
    def vjp(self, implementation: Implementation, argument: str, mode: str, axis: int) -> Prepared:
        """Its reverse-mode derivative with respect to `argument`, applied to ``g``."""

    @abstractmethod
    def jvp(self, implementation: Implementation, argument: str, mode: str, axis: int) -> Prepared:
        """Its forward-mode derivative with respect to `argument`, along the tangent ``v_...``."""

    @abstractmethod
    def hvp(self, implementation: Implementation, argument: str, mode: str, axis: int) -> Prepared:
        """For `argument` a pair ``a.b``: the derivative along ``v_b`` of the gradient to a.

        Zero where that gradient does not depend on b.
        """

    def prepare(
        self,
        implementation: Implementation,
        derivative: str,
        argument: str,
        mode: str,
        axis: int = -1,
        call_context: str = "",
        layout: str = "",
    ) -> Prepared:
        """A callable for one derivative in one mode, to be kept and called many times.

        A control is called with ``answer`` whatever the derivative is: it shows that what goes
        in and out of the framework is judged as it is.
        """
        self.call_context, self.layout = call_context, layout
        if derivative == "value" or implementation.role == "control":
            return self.value(implementation, mode, axis)
        make = {"vjp": self.vjp, "jvp": self.jvp, "hvp": self.hvp}[derivative]
        return make(implementation, argument, mode, axis)

    def bound(self, implementation: Implementation, axis: int) -> Callable[..., Any]:
        """The function of an implementation, of its inputs alone."""
        function = implementation.function
        keywords = {"axis": axis} if OPS[implementation.op].has_axis else {}
        if self.call_context == SCALED_INPUTS:
            return lambda x, *others: function(x * SCALE, *others, **keywords)
        if self.layout == TRANSPOSED:
            return lambda *inputs: function(*map(self.transposed, inputs), **keywords)
        return lambda *inputs: function(*inputs, **keywords)

    def transposed(self, value: Any) -> Any:
        """An array with its axes in reverse order, for layout `TRANSPOSED`."""
        raise NotImplementedError(f"{self.name} has strides")

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
    return ("answer",) if implementation.role == "control" else implementation.inputs


def array_names(implementation: Implementation, derivative: str, argument: str) -> Sequence[str]:
    """The arrays of a request: the inputs, the cotangent ``g``, and a tangent ``v_...``."""
    if implementation.role == "control":
        return ("answer",)
    names = list(implementation.inputs)
    if derivative in ("vjp", "hvp"):
        names.append("g")
    if derivative in ("jvp", "hvp"):
        names.append(tangent_name(argument))
    return names


def tangent_name(argument: str) -> str:
    """What the tangent of an argument, or of the second one of a pair, is called."""
    return "v_" + argument.rpartition(".")[2]


def single_threaded_xla() -> str:
    """The user's XLA flags and one thread for XLA's kernels."""
    mine = "--xla_cpu_multi_thread_eigen=false"
    flags = os.environ.get("XLA_FLAGS", "")
    return flags if mine in flags else f"{flags} {mine}".strip()
