"""Arrangements: rows of logits, and the form in which a call gets them.

A case is a row, and its answer depends on nothing else. Whether an implementation agrees (that it
takes the axis that it is told, that a row does not depend on its neighbours or on where it lies in
memory) can only be asked of several rows at once, in one call or two. An arrangement is the
smallest question of that kind. Its rows are tame, multiples of 1/16 between -4 and 4, so that what
goes wrong is due to the form. Like a case it has an id that recreates it anywhere:
``softmax-float32-axes1-2x7x3.1-s0-3fa9c1`` says op, format, family and its version, name, seed, and
the first six hex digits of a SHA-256 over everything that is sent.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import formats, ops
from .cases.base import LACKING, Case, CaseError, digest, generator, named
from .cases.inputs import TANGENT
from .formats import Format
from .ops import Op

__all__ = ["FAMILIES", "Arrangement", "Family", "by_id", "is_id", "make"]

Inputs = Mapping[str, NDArray[Any]]

_LEVELS = 32
_STEP = 16.0
"""Logits are k / 16 with |k| <= 64: exact in every format, also after a shift by 8."""


@dataclass(frozen=True)
class Form:
    """What a name stands for: the shape of x, and which of its axes holds the classes."""

    shape: tuple[int, ...]
    axis: int = -1

    @property
    def batch(self) -> tuple[int, ...]:
        """The shape without the classes."""
        axis = self.axis % len(self.shape)
        return self.shape[:axis] + self.shape[axis + 1 :]

    @property
    def n(self) -> int:
        """The number of classes."""
        return self.shape[self.axis]


@dataclass(frozen=True)
class Family:
    """Arrangements of one kind.

    Attributes
    ----------
    name : str
    version : int
        Raised whenever an arrangement changes.
    summary : str
        What is asked, in a line.
    forms : callable (Op) -> mapping of str to Form
        Of an op, by name, in order.
    """

    name: str
    version: int
    summary: str
    forms: Callable[[Op], Mapping[str, Form]]


@dataclass(frozen=True, eq=False)
class Arrangement:
    """Rows, and how they are handed over.

    Attributes
    ----------
    case_id, op, format, family, name : str
    form : Form
    inputs : mapping of str to ndarray
        As of cases, with all rows one below the other: ``x`` (rows, n), ``label`` (rows,), ``g``
        and tangents.
    """

    case_id: str
    op: str
    format: str
    family: str
    name: str
    form: Form
    inputs: Inputs

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return int(self.inputs["x"].shape[0])

    @property
    def n(self) -> int:
        """The number of classes."""
        return self.form.n

    @property
    def arguments(self) -> set[str]:
        """The op's inputs that it has."""
        return {name for name in ops.get(self.op).inputs if name in self.inputs}

    @cached_property
    def cases(self) -> tuple[Case, ...]:
        """The rows as cases; their ids are known to nobody else."""
        return as_cases(self, self.inputs)

    def arranged(self, array: NDArray[Any]) -> NDArray[Any]:
        """An input, (rows, n) or (rows,), in the form of the call."""
        batch = self.form.batch
        if array.ndim == 1:
            return array.reshape(batch)
        return np.moveaxis(array.reshape(*batch, self.n), -1, self.form.axis)

    def shape(self, *, per_row: bool) -> tuple[int, ...]:
        """Of a right result, with one number for a row or one for each class."""
        return self.form.batch if per_row else self.form.shape

    def flat(self, result: NDArray[Any], *, per_row: bool) -> NDArray[Any]:
        """A result of the right shape as rows again, (rows, k)."""
        if per_row:
            return result.reshape(self.rows, 1)
        return np.moveaxis(result, self.form.axis, -1).reshape(self.rows, self.n)


def as_cases(arrangement: Arrangement, inputs: Inputs, mark: str = "") -> tuple[Case, ...]:
    """Inputs, those of an arrangement or what was made of them, as cases."""
    fmt = formats.get(arrangement.format)
    prefix = f"{arrangement.case_id}{mark}-n{inputs['x'].shape[1]}"
    return tuple(
        named(f"{prefix}-r{r}", arrangement.op, fmt, arrangement.family,
              {name: array[r] for name, array in inputs.items()})
        for r in range(len(inputs["x"]))
    )  # fmt: skip


# ---------------------------------------------------------------- families

_AXES = (
    Form((7,)), Form((7, 4), 0), Form((4, 7)), Form((4, 7), 1), Form((7, 4), -2), Form((7,), 0),
    Form((2, 3, 7)), Form((2, 7, 3), -2), Form((7, 2, 3), 0), Form((3, 3, 3), 1),
    Form((2, 3, 2, 7), 3), Form((7, 2, 3, 2), 0), Form((2, 3, 7, 2), 2), Form((2, 7, 3, 2), -3),
    Form((2, 7, 3), 1),
)  # fmt: skip
"""Both ends and a few between are what a small profile asks."""
_ELEMENTS = (Form((7,)), Form((4, 7)), Form((2, 3, 2, 7)), Form((2, 7, 3)))
_NO_ROWS = (Form((0, 7)), Form((0, 7, 3), 1), Form((2, 0, 7)))
_NO_CLASSES = (Form((3, 0)), Form((0, 3), 0), Form((2, 0, 3), 1))
_WITHOUT_CLASSES = ("softmax", "log_softmax", "logsumexp")
"""Ops of which the contract says what they are of no classes."""


def _by_axis(form: Form) -> str:
    return f"{'x'.join(map(str, form.shape))}.{form.axis}"


def _axes(op: Op) -> dict[str, Form]:
    if op.elementwise:
        return {"x".join(map(str, form.shape)): form for form in _ELEMENTS}
    return {_by_axis(form): form for form in _AXES}


def _empty(op: Op) -> dict[str, Form]:
    if op.elementwise:
        return {name: Form(shape) for name, shape in (("0", (0,)), ("3x0", (3, 0)))}
    forms = _NO_ROWS + (_NO_CLASSES if op.name in _WITHOUT_CLASSES else ())
    return {_by_axis(form): form for form in forms}


_PLAIN = Form((16, 17))
_LARGE = Form((64, 1000))
"""More elements than frameworks leave to one thread."""


def _named(*names: str, form: Form = _PLAIN) -> Callable[[Op], dict[str, Form]]:
    return lambda op: dict.fromkeys(names, form)


def _symmetries(op: Op) -> dict[str, Form]:
    return dict.fromkeys(SYMMETRIES.get(op.name, ("shifted", "permuted")), _PLAIN)


SYMMETRIES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "softmax": ("shifted", "permuted", "ordered"),
        "log_softmax": ("shifted", "permuted", "ordered"),
        "masked_softmax": ("shifted", "permuted", "ordered"),
        "sigmoid": ("mirrored", "ordered"),
        "log_sigmoid": ("mirrored", "ordered"),
        "softplus": ("mirrored", "ordered"),
        "sigmoid_cross_entropy": ("mirrored",),
        "logaddexp": ("swapped", "shifted"),
    }
)
"""What the results of an op agree under; of all others a shift and a permutation."""

FAMILIES: Mapping[str, Family] = MappingProxyType(
    {
        family.name: family
        for family in (
            Family("axes", 1, "one to four axes, the classes along any of them.", _axes),
            Family("empty", 1, "no rows, and no classes.", _empty),
            Family("batches", 1, "rows alone, in parts, beside others, in another order, again.",
                   _named("beside", "alone", "part", "repeated", "reversed")),
            Family("layouts", 1, "other places in memory, and other strides.",
                   _named("offset_1", "offset_3", "columns", "strided", "padded", "broadcast",
                          "backwards", "transposed")),
            Family("symmetries", 1, "shifts, permutations, mirror images, ties and order.",
                   _symmetries),
            Family("threads", 1, "two threads and one.", _named("two", form=_LARGE)),
            Family("modes", 1, "compiled modes and eager mode.", _named("eager")),
        )
    }
)  # fmt: skip

_ID = re.compile(
    rf"(?P<op>\w+)-(?P<format>\w+)-(?P<family>{'|'.join(FAMILIES)})(?P<version>\d{{1,6}})"
    r"-(?P<name>[\w.-]{1,40}?)-s(?P<seed>\d{1,20})(-no\.(?P<without>\w+))?"
    r"-(?P<digest>[0-9a-f]{6})"
)


# ---------------------------------------------------------------- making them


def make(
    family: str, op: str, format_name: str, *, seed: int = 0, without: str = ""
) -> list[Arrangement]:
    """The arrangements of a family for an op and a format, maybe without an optional input."""
    fmt, definition = formats.get(format_name), ops.get(op)
    forms = FAMILIES[family].forms(definition)
    return [_made(FAMILIES[family], definition, fmt, name, seed, without) for name in forms]


def is_id(case_id: str) -> bool:
    """Whether an id has the form of an arrangement's; a case's and a situation's have others."""
    return _ID.fullmatch(case_id) is not None


def by_id(case_id: str) -> Arrangement:
    """Recreate an arrangement from its id.

    Raises
    ------
    CaseError
        If the id names nothing, or its digest does not fit what is made today.
    """
    found = _ID.fullmatch(case_id)
    if found is None or found["op"] not in ops.OPS or found["format"] not in formats.FORMATS:
        raise CaseError(f"no arrangement {case_id[:80]!r}")
    family, op = FAMILIES[found["family"]], ops.get(found["op"])
    if int(found["version"]) != family.version:
        raise CaseError(
            f"family {family.name} is at version {family.version}, not {found['version']}"
        )
    without = found["without"] or ""
    if found["name"] not in family.forms(op) or (without and without not in op.optional):
        raise CaseError(f"family {family.name} has no arrangement of that name of {op.name}")
    fmt = formats.get(found["format"])
    made = _made(family, op, fmt, found["name"], int(found["seed"]), without)
    if made.case_id != case_id:
        raise CaseError(f"the digest does not fit: today this arrangement is {made.case_id}")
    return made


def _made(
    family: Family, op: Op, fmt: Format, name: str, seed: int, without: str
) -> Arrangement:  # fmt: skip
    form = family.forms(op)[name]
    # Arrangements of one form have the same rows, so that what they are compared with is one call.
    lies = f"{form.shape}.{form.axis}"
    key = (op.name, fmt.name, family.name, family.version, lies, seed)
    drawn = _drawn(op, fmt, math.prod(form.batch), form.n, lambda of: generator(*key, of))
    lacking = (without, TANGENT + without) if without else ()
    inputs = {of: array for of, array in drawn.items() if of not in lacking}
    if name == "mirrored" and "pos_weight" in inputs:  # which has no mirror image but for 1
        inputs["pos_weight"] = np.ones(inputs["x"].shape)
    if name == "broadcast":
        inputs = {of: np.repeat(array[:1], len(array), axis=0) for of, array in inputs.items()}
    mark = f"{LACKING}{without}" if without else ""
    prefix = f"{op.name}-{fmt.name}-{family.name}{family.version}-{name}-s{seed}{mark}"
    h = hashlib.sha256(f"{form.shape}:{form.axis}:{digest(inputs)}".encode())
    return Arrangement(f"{prefix}-{h.hexdigest()[:6]}", op.name, fmt.name, family.name, name, form,
                       inputs)  # fmt: skip


def _drawn(
    op: Op, fmt: Format, rows: int, n: int, draw: Callable[[str], np.random.Generator]
) -> dict[str, NDArray[Any]]:
    """The op's inputs, a cotangent and tangents: everything moderate, and exact in the format."""
    shape = (rows, n)
    found: dict[str, NDArray[Any]] = {}
    for name in op.inputs:
        rng = draw(name)
        if name in ("x", "y"):
            # Neither 0 nor equal to each other, where slopes of max and abs are another question;
            # and no logaddexp near 0, where what is left of a sum of logarithms is one.
            least = 0 if op.name == "logaddexp" else -_LEVELS
            found[name] = (2 * rng.integers(least, _LEVELS, shape) + (name == "x")) / _STEP
        elif name == "label":
            found[name] = rng.integers(0, max(n, 1), rows)
        elif name == "mask":
            found[name] = rng.random(shape) < 0.7
            found[name][:, :2] = True
        elif name == "target" and op.elementwise:
            found[name] = rng.integers(0, 5, shape) / 4
        elif name == "target":  # whose sum is 1: other sums are another question too
            found[name] = rng.multinomial(8, np.full(n, 1 / n), rows) / 8
        else:
            found[name] = rng.choice([0.5, 1.0, 2.0, 4.0], shape)
    rng = draw("g")
    size = rng.integers(1, 17, (rows,) if op.per_row else shape) / 8
    found["g"] = size * rng.choice([-1.0, 1.0], size.shape)
    for argument in op.differentiable:
        found[TANGENT + argument] = draw(TANGENT + argument).integers(-16, 17, shape) / 8
    for name, array in found.items():
        if name not in ("label", "mask"):
            found[name] = formats.nearest(fmt, array)
    return found
