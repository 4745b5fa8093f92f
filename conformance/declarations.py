"""What is declared about an implementation: by its author, and across two processes.

Imports nothing but the standard library: it is read by the command line, which must not import a
framework, and by an executor's child, which must not import ``reference/``.
"""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from conformance.text import printable

__all__ = [
    "DERIVATIVES",
    "FRAMEWORKS",
    "OPS",
    "ROLES",
    "VARIANTS",
    "Implementation",
    "OpSignature",
    "RegistrationError",
    "RegistryError",
    "declaration",
    "describe",
    "distribution_version",
]


class RegistryError(Exception):
    """Something is wrong with what was asked to be put under test."""


class RegistrationError(RegistryError):
    """An implementation was declared with a name, op or option that cannot be right."""


@dataclass(frozen=True)
class OpSignature:
    """How an op is called (docs/contract.md): positional inputs, then the keyword ``axis``.

    ``reference/ops`` states the mathematics; this table states only what an executor's child
    has to know, because the child runs without ``reference/``.
    """

    inputs: tuple[str, ...]
    """Names of the positional arguments, in order."""
    differentiable: tuple[str, ...]
    """The inputs with respect to which derivatives are measured."""
    keeps_axis: bool
    """Whether the output has the shape of ``x`` (else ``axis`` is reduced away)."""


OPS: Mapping[str, OpSignature] = MappingProxyType(
    {
        "softmax": OpSignature(("x",), ("x",), keeps_axis=True),
        "log_softmax": OpSignature(("x",), ("x",), keeps_axis=True),
        "logsumexp": OpSignature(("x",), ("x",), keeps_axis=False),
        "softmax_cross_entropy": OpSignature(("x", "target"), ("x", "target"), keeps_axis=False),
        "sparse_softmax_cross_entropy": OpSignature(("x", "label"), ("x",), keeps_axis=False),
    }
)

FRAMEWORKS: tuple[str, ...] = ("numpy", "torch", "tensorflow", "jax")
ROLES: tuple[str, ...] = ("subject", "antipattern", "control", "mutant")
VARIANTS: tuple[str, ...] = ("builtin", "composition")
DERIVATIVES: tuple[str, ...] = ("value", "vjp")
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
    caught_by: Mapping[str, str] | None = None
    """Mutants only: the concern, derivative, argument, dtype, mode and family of the cell that
    must catch it."""
    requires: tuple[str, ...] = ()
    """Distributions needed beside the framework; without one of them it is `not installed`."""
    module: str = ""
    """Where it was declared."""

    def missing_requirements(self) -> tuple[str, ...]:
        """The required distributions that are not installed beside this Python."""
        return tuple(name for name in self.requires if distribution_version(name) is None)


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
        `declaration` gives, in which ``vjp`` is whether there is one.

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
    derivatives, vjp, caught_by = (declared[key] for key in ("derivatives", "vjp", "caught_by"))
    if isinstance(vjp, bool):
        vjp = _elsewhere if vjp else None
    url = declared["url"]
    where = f"implementation {name!r}"
    _known(op, tuple(OPS), where, "op")
    _known(framework, FRAMEWORKS, where, "framework")
    _known(role, ROLES, where, "role")
    _known(declared["variant"], VARIANTS, where, "variant")
    if not isinstance(url, str) or len(url) > _LONGEST_URL:
        raise RegistrationError(f"{where}: url must be a text of at most {_LONGEST_URL} characters")
    for option in ("dtypes", "modes", "derivatives", "requires"):
        values = declared[option]
        # A plain string would pass as a sequence of letters and select nothing, silently.
        if values is not None and not _is_strings(values):
            raise RegistrationError(f"{where}: {option} must be a tuple of strings")
    for derivative in derivatives or ():
        _known(derivative, DERIVATIVES, where, "derivative")
    if vjp is not None and framework != "numpy":
        raise RegistrationError(
            f"{where}: vjp= is for NumPy; {framework} takes the derivative itself"
        )
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
        **{
            option: None if declared[option] is None else tuple(declared[option])
            for option in ("dtypes", "modes", "derivatives")
        },
        vjp=vjp,
        caught_by=None if caught_by is None else MappingProxyType(dict(caught_by)),
        requires=tuple(declared["requires"] or ()),
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
        "vjp": entry.vjp is not None,
        "caught_by": None if entry.caught_by is None else dict(entry.caught_by),
        "requires": entry.requires,
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


def _is_strings(values: object) -> bool:
    return isinstance(values, (tuple, list)) and all(map(_is_name, values))


def _is_name(value: object) -> bool:
    return isinstance(value, str) and _NAME.fullmatch(value) is not None
