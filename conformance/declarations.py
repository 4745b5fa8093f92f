"""What is declared about an implementation: by its author, and across two processes.

Imports nothing but the standard library: it is read by the command line, which must not import a
framework, and by an executor's child, which must not import ``reference/``.
"""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from conformance.text import printable

__all__ = [
    "DERIVATIVES",
    "FRAMEWORKS",
    "OPS",
    "PARAMETERS",
    "PROMISES",
    "ROLES",
    "VARIANTS",
    "Implementation",
    "OpSignature",
    "RegistrationError",
    "RegistryError",
    "declaration",
    "describe",
    "distribution_version",
    "with_options",
]


class RegistryError(Exception):
    """Something is wrong with what was asked to be put under test."""


class RegistrationError(RegistryError):
    """An implementation was declared with a name, op or option that cannot be right."""


@dataclass(frozen=True)
class OpSignature:
    """How an op is called (docs/contract.md): positional inputs, then the keyword ``axis`` where it
    has one.

    ``reference/ops`` states the mathematics; this table states only what an executor's child
    has to know, because the child runs without ``reference/``.
    """

    inputs: tuple[str, ...]
    """Names of the positional arguments, in order."""
    differentiable: tuple[str, ...]
    """The inputs with respect to which derivatives are measured."""
    keeps_axis: bool = True
    """Whether the output has the shape of ``x`` (else ``axis`` is reduced away)."""
    has_axis: bool = True
    """False for elementwise ops, which are called without ``axis``."""
    optional: tuple[str, ...] = ()
    """Inputs that an implementation may lack (`Implementation.without`)."""

    def is_per_row(self, derivative: str) -> bool:
        """Whether a map's result has one number per row."""
        return not self.keeps_axis and derivative in ("value", "jvp")


OPS: Mapping[str, OpSignature] = MappingProxyType(
    {
        "softmax": OpSignature(("x",), ("x",)),
        "log_softmax": OpSignature(("x",), ("x",)),
        "logsumexp": OpSignature(("x",), ("x",), keeps_axis=False),
        "masked_softmax": OpSignature(("x", "mask"), ("x",)),
        "softmax_cross_entropy": OpSignature(("x", "target"), ("x", "target"), keeps_axis=False),
        "sparse_softmax_cross_entropy": OpSignature(("x", "label"), ("x",), keeps_axis=False),
        "categorical_entropy": OpSignature(("x",), ("x",), keeps_axis=False),
        "kl_divergence": OpSignature(("x", "y"), ("x", "y"), keeps_axis=False),
        "sigmoid": OpSignature(("x",), ("x",), has_axis=False),
        "log_sigmoid": OpSignature(("x",), ("x",), has_axis=False),
        "softplus": OpSignature(("x",), ("x",), has_axis=False),
        "sigmoid_cross_entropy": OpSignature(
            ("x", "target", "pos_weight"),
            ("x", "target", "pos_weight"),
            has_axis=False,
            optional=("pos_weight",),
        ),
        "logaddexp": OpSignature(("x", "y"), ("x", "y"), has_axis=False),
    }
)

FRAMEWORKS: tuple[str, ...] = ("numpy", "torch", "tensorflow", "jax")
ROLES: tuple[str, ...] = ("subject", "antipattern", "control", "mutant")
VARIANTS: tuple[str, ...] = ("builtin", "composition")
DERIVATIVES: tuple[str, ...] = ("value", "vjp", "jvp", "hvp")
PARAMETERS: tuple[str, ...] = ("reduction", "weight", "ignore_index", "label_smoothing")
"""Keyword arguments of losses: ``none``, ``sum`` or ``mean``; an array of class weights; a label
that is not counted, or None; how much of each row goes to all classes."""
PROMISES: tuple[str, ...] = ("batch", "position", "repeat", "lane", "layout", "thread")
"""What the bits of a row may be promised not to depend on (docs/contract.md, Invariance)."""
LABEL_DTYPES: tuple[str, ...] = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64",
                                 "uint64")  # fmt: skip
SUPPLIED = ("vjp", "jvp", "hvp")
"""Derivatives that an implementation in NumPy brings itself."""
_LONGEST_NAME = 120
_LONGEST_URL = 1000
_NAME = re.compile(rf"[A-Za-z0-9_.:-]{{1,{_LONGEST_NAME}}}")
_CAUGHT_BY = frozenset({"concern", "derivative", "argument", "dtype", "mode", "family"})

Function = Callable[..., Any]


@dataclass(frozen=True)
class Implementation:
    """One callable under test, and what its author declares about it."""

    name: str
    """Unique over all frameworks; letters, digits and ``_ . : -``."""
    op: str
    framework: str
    function: Function = field(repr=False, compare=False)
    """Takes and returns the framework's own arrays, by the op's signature."""
    role: str = "subject"
    variant: str = "builtin"
    url: str = ""
    """Its documentation."""
    dtypes: tuple[str, ...] | None = None
    """The dtypes it supports; None for all that the framework has."""
    modes: tuple[str, ...] | None = None
    derivatives: tuple[str, ...] | None = None
    vjp: Function | None = field(default=None, repr=False, compare=False)
    """NumPy only: ``vjp(g, *inputs, axis) -> {argument: array}``."""
    jvp: Function | None = field(default=None, repr=False, compare=False)
    """NumPy only: ``jvp(v, *inputs, argument, axis) -> array``, v the tangent of the argument."""
    hvp: Function | None = field(default=None, repr=False, compare=False)
    """NumPy only: ``hvp(g, v, *inputs, argument, axis) -> array`` for a pair ``x.target``: the
    derivative along v, a tangent of the second, of the gradient to the first."""
    without: tuple[str, ...] = ()
    """Optional inputs of the op that it does not take."""
    caught_by: Mapping[str, str] | None = None
    """Mutants only: the concern, derivative, argument, dtype, mode and family of the cell that
    must catch it."""
    requires: tuple[str, ...] = ()
    """Distributions needed beside the framework; without one of them it is `not installed`."""
    parameters: tuple[str, ...] = ()
    """Of `PARAMETERS`, the keyword arguments that it takes."""
    label_dtypes: tuple[str, ...] | None = None
    """The integer dtypes of labels that it is documented to take; None for all."""
    bitwise: tuple[str, ...] = ()
    """Of `PROMISES`, what the bits of a row are documented not to depend on."""
    module: str = ""
    """Where it was declared."""
    keywords: tuple[str, ...] = ()
    """Arrays behind the inputs that it gets as keyword arguments, see `with_options`."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """The arrays that it is called with, in order."""
        own = (name for name in OPS[self.op].inputs if name not in self.without)
        return (*own, *self.keywords)

    @property
    def lacks(self) -> str:
        """The optional input that it does not take, if there is one (no op has two)."""
        return self.without[0] if self.without else ""

    @property
    def differentiable(self) -> tuple[str, ...]:
        """The inputs to which it has derivatives."""
        return tuple(n for n in OPS[self.op].differentiable if n not in self.without)

    def missing_requirements(self) -> tuple[str, ...]:
        """The required distributions that are not installed beside this Python."""
        return tuple(name for name in self.requires if distribution_version(name) is None)


def with_options(
    entry: Implementation, options: Mapping[str, Any], keywords: tuple[str, ...]
) -> Implementation:
    """The implementation with its keyword arguments given, and some arrays to be given as such.

    Parameters
    ----------
    entry : Implementation
    options : mapping
        Keyword arguments by name.
    keywords : tuple of str
        Names of arrays: the last of the inputs of what is returned, in this order.
    """
    if not options and not keywords:
        return entry

    def given(function: Function, before: int) -> Function:
        """`before` arguments come before the inputs."""
        count = before + len(entry.inputs)

        def called(*arrays: Any, **more: Any) -> Any:
            named = dict(zip(keywords, arrays[count:], strict=True))
            return function(*arrays[:count], **named, **options, **more)

        return called

    vjp = None if entry.vjp is None else given(entry.vjp, 1)
    return replace(entry, function=given(entry.function, 0), vjp=vjp, keywords=keywords)


def distribution_version(distribution: str) -> str | None:
    """The installed version of a distribution, without importing anything of it."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def describe(declared: Mapping[str, Any]) -> Implementation:
    """Check what is declared about an implementation, and return it without its function.

    Parameters
    ----------
    declared : mapping
        The options of `implementation` by name, and ``module`` where that is known; what
        `declaration` gives, in which ``vjp``, ``jvp`` and ``hvp`` are whether there is one.

    Raises
    ------
    RegistrationError
        If a name is unknown or malformed.
    """
    name = declared.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise RegistrationError(
            f"the name {printable(repr(name), 60)} of an implementation must consist of letters, "
            f"digits and _ . : -, at most {_LONGEST_NAME} of them"
        )
    op, framework, role = (declared[key] for key in ("op", "framework", "role"))
    derivatives, caught_by = declared["derivatives"], declared["caught_by"]
    supplied = {
        which: _elsewhere if given is True else given or None
        for which in SUPPLIED
        for given in (declared[which],)
    }
    url = declared["url"]
    where = f"implementation {name!r}"
    _known(op, tuple(OPS), where, "op")
    _known(framework, FRAMEWORKS, where, "framework")
    _known(role, ROLES, where, "role")
    _known(declared["variant"], VARIANTS, where, "variant")
    if not isinstance(url, str) or len(url) > _LONGEST_URL:
        raise RegistrationError(f"{where}: url must be a text of at most {_LONGEST_URL} characters")
    for option in (
        "dtypes", "modes", "derivatives", "requires", "without", "parameters", "label_dtypes",
        "bitwise",
    ):  # fmt: skip
        values = declared.get(option)
        # A plain string would pass as a sequence of letters and select nothing, silently.
        if values is not None and not _is_strings(values):
            raise RegistrationError(f"{where}: {option} must be a tuple of strings")
    for derivative in derivatives or ():
        _known(derivative, DERIVATIVES, where, "derivative")
    for parameter in declared.get("parameters") or ():
        _known(parameter, PARAMETERS, where, "parameter")
    for dtype in declared.get("label_dtypes") or ():
        _known(dtype, LABEL_DTYPES, where, "dtype of labels")
    for promise in declared.get("bitwise") or ():
        _known(promise, PROMISES, where, "promise")
    for which, function in supplied.items():
        if function is not None and framework != "numpy":
            raise RegistrationError(
                f"{where}: {which}= is for NumPy; {framework} takes the derivative itself"
            )
    for name_ in declared["without"] or ():
        _known(name_, OPS[op].optional, where, "optional input")
    if (caught_by is not None) != (role == "mutant"):
        raise RegistrationError(
            f"{where}: caught_by= names the cell that catches a mutant; give it for every mutant "
            "and for nothing else"
        )
    if caught_by is not None and (
        set(caught_by) != _CAUGHT_BY or not all(map(_is_name, caught_by.values()))
    ):
        raise RegistrationError(
            f"{where}: caught_by= needs exactly {', '.join(sorted(_CAUGHT_BY))}, each a name"
        )

    return Implementation(
        name=name,
        op=op,
        framework=framework,
        function=_elsewhere,
        role=role,
        variant=declared["variant"],
        url=url,
        dtypes=_names(declared["dtypes"]),
        modes=_names(declared["modes"]),
        derivatives=_names(declared["derivatives"]),
        vjp=supplied["vjp"],
        jvp=supplied["jvp"],
        hvp=supplied["hvp"],
        without=tuple(declared["without"] or ()),
        caught_by=None if caught_by is None else MappingProxyType(dict(caught_by)),
        requires=tuple(declared["requires"] or ()),
        parameters=tuple(declared.get("parameters") or ()),
        label_dtypes=_names(declared.get("label_dtypes")),
        bitwise=tuple(declared.get("bitwise") or ()),
        module=str(declared.get("module", "")),
    )


def declaration(entry: Implementation) -> dict[str, Any]:
    """The inverse of `describe`, as data that JSON holds; ``vjp`` is whether there is one."""
    return {
        "name": entry.name,
        "op": entry.op,
        "framework": entry.framework,
        "role": entry.role,
        "variant": entry.variant,
        "url": entry.url,
        "dtypes": entry.dtypes,
        "modes": entry.modes,
        "derivatives": entry.derivatives,
        **{which: getattr(entry, which) is not None for which in SUPPLIED},
        "without": entry.without,
        "caught_by": None if entry.caught_by is None else dict(entry.caught_by),
        "requires": entry.requires,
        "parameters": entry.parameters,
        "label_dtypes": entry.label_dtypes,
        "bitwise": entry.bitwise,
        "module": entry.module,
    }


def _elsewhere(*inputs: Any, **options: Any) -> Any:
    """Stands for a function that only an executor's child has."""
    raise RuntimeError("this implementation was declared here and is run by an executor")


def _known(value: str, choices: tuple[str, ...], where: str, what: str) -> None:
    if value not in choices:
        raise RegistrationError(
            f"{where}: unknown {what} {value!r}; known are {', '.join(choices)}"
        )


def _names(values: Any) -> tuple[str, ...] | None:
    return None if values is None else tuple(values)


def _is_strings(values: object) -> bool:
    return isinstance(values, (tuple, list)) and all(map(_is_name, values))


def _is_name(value: object) -> bool:
    return isinstance(value, str) and _NAME.fullmatch(value) is not None
