"""What a run consists of: cells, profiles by content, and the selection of a user.

Nothing here imports a framework: a plan is made from the registry, the frameworks' declared
capabilities and the families.
"""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cache
from typing import Any

from conformance.frameworks import get_framework
from conformance.registry import BUILTIN_MODULES, DERIVATIVES, OPS, Implementation
from reference import ops
from reference.cases import FAMILIES

CONCERNS: Mapping[str, tuple[str, ...]] = {
    "accuracy": ("realistic", "gap_ladder", "shift_ladder", "near_ties", "subnormals"),
    "special_values": ("masks", "infinity_lattice"),
    "underflow": ("gap_ladder",),
}
"""What a cell can ask, and with which families."""

CONTEXT_CELLS = (("accuracy", "realistic"), ("accuracy", "shift_ladder"))
"""Concern and family of the cells that run in contexts beside the usual one."""

LENGTHS = (1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 127, 128, 1000, 4099, 50000, 65504, 65536,
           128256)  # fmt: skip
"""Row lengths: vector remainders, thresholds, half-precision sums, vocabularies."""


class SelectionError(ValueError):
    """A selection that names something unknown or matches nothing."""


@dataclass(frozen=True, order=True)
class Cell:
    """One question to one implementation: the unit of planning, judging and reporting."""

    concern: str
    implementation: str
    derivative: str
    argument: str
    dtype: str
    mode: str
    device: str
    context: str
    family: str

    @property
    def key(self) -> str:
        """The names written out."""
        return "/".join(str(v) for v in asdict(self).values())

    @classmethod
    def from_key(cls, key: str) -> Cell:
        """The inverse of :attr:`key`; SelectionError if it has not nine parts."""
        parts = key.split("/")
        if len(parts) != len(fields(cls)):
            raise SelectionError(
                f"a cell key has {len(fields(cls))} parts separated by '/' "
                f"({'/'.join(f.name for f in fields(cls))}); this one has {len(parts)}"
            )
        return cls(*parts)


@dataclass(frozen=True)
class Profile:
    """How much of the full matrix runs, by content.

    Attributes
    ----------
    families : mapping of str to tuple of str
        Of each concern.
    controls : tuple of (str, str)
        Concern and family of the cells that controls run in.
    derivatives : mapping of str to tuple of str
        Of eager mode, by dtype.
    compiled : mapping of str to tuple of str
        Dtypes of compiled modes (``compiled``, ``xla``), each with its derivatives.
    graph_ops : tuple of str
        Ops whose built-ins run as uncompiled graphs, in float32, value and vjp.
    context_ops : tuple of str
        Ops whose built-ins run in contexts beside the usual one, in float32, their value.
    builtins_only : bool
        Of a framework that has built-ins, only these. Otherwise compositions too, and antipatterns:
        their value and vjp, in the dtypes of compiled modes.
    lengths, costly_lengths, costliest_lengths, compiled_lengths : tuple of int
        Row lengths in eager mode, in eager JAX (which compiles every primitive for every new
        shape), there in forward mode and second order (62 % of the maps, and the longest of
        them), and in compiled modes.
    rows : mapping of int to int
        From which row length on at most how many rows of a family run.
    """

    name: str
    families: Mapping[str, tuple[str, ...]]
    controls: tuple[tuple[str, str], ...]
    derivatives: Mapping[str, tuple[str, ...]]
    compiled: Mapping[str, tuple[str, ...]]
    graph_ops: tuple[str, ...]
    context_ops: tuple[str, ...]
    builtins_only: bool
    lengths: tuple[int, ...]
    costly_lengths: tuple[int, ...]
    costliest_lengths: tuple[int, ...]
    compiled_lengths: tuple[int, ...]
    rows: Mapping[int, int]

    def limit(self, n: int) -> int:
        """At most how many rows of length n a family contributes."""
        return next(count for least, count in sorted(self.rows.items(), reverse=True) if n >= least)

    def lengths_for(self, framework: str, mode: str, derivative: str) -> tuple[int, ...]:
        """The row lengths of a framework, mode and derivative."""
        if mode != "eager":
            return self.compiled_lengths
        if framework != "jax":
            return self.lengths
        return self.costly_lengths if derivative in _FIRST else self.costliest_lengths


_DTYPES = ("float64", "float32", "bfloat16", "float16")
_CONTROLS = (("accuracy", "realistic"), ("special_values", "infinity_lattice"))
_VALUE = ("value",)
_FIRST = (*_VALUE, "vjp")
_EVERY_OP = tuple(OPS)
_EIGHT = (1, 2, 7, 16, 17, 33, 1000, 4099)

PROFILES: dict[str, Profile] = {
    p.name: p
    for p in (
        Profile(
            "quick",
            families={
                "accuracy": ("realistic",),
                "special_values": ("infinity_lattice",),
                "underflow": ("gap_ladder",),
            },
            controls=_CONTROLS[1:],
            derivatives={
                "float32": _FIRST,
                "bfloat16": _FIRST,
                "float64": _VALUE,
                "float16": _VALUE,
            },
            compiled={"float32": _FIRST},
            graph_ops=("softmax",),
            context_ops=("softmax",),
            builtins_only=True,
            lengths=(2, 17, 1000),
            costly_lengths=(2, 17),
            costliest_lengths=(2, 17),
            compiled_lengths=(2, 17, 1000),
            rows={1: 48, 4: 16, 129: 2},
        ),
        Profile(
            "standard",
            families=CONCERNS,
            controls=_CONTROLS,
            derivatives=dict.fromkeys(_DTYPES, DERIVATIVES),
            compiled={"float32": DERIVATIVES, "bfloat16": _FIRST},
            graph_ops=_EVERY_OP,
            context_ops=_EVERY_OP,
            builtins_only=False,
            lengths=tuple(n for n in LENGTHS if n < 5000),
            costly_lengths=_EIGHT,
            costliest_lengths=(2, 17, 1000),
            compiled_lengths=(2, 7, 17, 128, 1000),
            rows={1: 96, 4: 16, 129: 4, 1001: 1},
        ),
        Profile(
            "exhaustive",
            families=CONCERNS,
            controls=_CONTROLS,
            derivatives=dict.fromkeys(_DTYPES, DERIVATIVES),
            compiled=dict.fromkeys(_DTYPES, DERIVATIVES),
            graph_ops=_EVERY_OP,
            context_ops=_EVERY_OP,
            builtins_only=False,
            lengths=LENGTHS,
            costly_lengths=LENGTHS,
            costliest_lengths=LENGTHS,
            compiled_lengths=LENGTHS,
            rows={1: 96, 129: 16, 1001: 2},
        ),
    )
}

GRAPH_MODES = ("graph", "session")
"""Modes that run a graph without compiling kernels for it."""

SESSION_OPS = ("softmax",)
"""Ops that run in TensorFlow 1 style below profile exhaustive; the kernels are those of `graph`."""


# ---------------------------------------------------------------- the cells of a profile


def applies(
    profile: Profile, entry: Implementation, derivative: str, dtype: str, mode: str
) -> bool:
    """Does this implementation run this derivative in this dtype and mode?"""
    if entry.role == "antipattern":
        shown = dtype in profile.compiled and derivative in _FIRST
        return mode == "eager" and not profile.builtins_only and shown
    if mode == "eager":
        if derivative not in profile.derivatives.get(dtype, ()):
            return False
        return entry.variant == "builtin" or not profile.builtins_only or _stands_alone(entry)
    if entry.role != "subject":
        return False
    if mode in GRAPH_MODES:
        if entry.op not in profile.graph_ops or entry.variant != "builtin":
            return False
        if profile.name == "exhaustive":
            return True
        if dtype != "float32" or derivative not in _FIRST:
            return False
        return mode != "session" or entry.op in SESSION_OPS
    if entry.variant != "builtin" and profile.builtins_only:
        return False
    return derivative in profile.compiled.get(dtype, ())


def applies_in_context(profile: Profile, entry: Implementation, cell: Cell) -> bool:
    """Does this cell belong to the contexts beside the usual one?"""
    return (
        entry.role == "subject"
        and entry.variant == "builtin"
        and entry.op in profile.context_ops
        and (cell.derivative, cell.dtype) == ("value", "float32")
        and (cell.concern, cell.family) in CONTEXT_CELLS
    )


def _stands_alone(entry: Implementation) -> bool:
    """Controls, mutants, a user's own, and compositions of a framework without such built-ins."""
    return (
        entry.role in ("control", "mutant")
        or entry.framework == "numpy"
        or entry.module not in BUILTIN_MODULES
    )


def cells_of(entry: Implementation, profile: Profile) -> list[Cell]:
    """The cells of one implementation, in a fixed order."""
    if entry.role == "mutant":
        return [must_catch(entry)]
    framework = get_framework(entry.framework)
    pairs = [
        (concern, family)
        for concern, families in profile.families.items()
        for family in families
        if entry.role != "control" or (concern, family) in profile.controls
    ]
    found = [
        Cell(concern, entry.name, derivative, argument, dtype, mode, "cpu", context, family)
        for context in framework.known_contexts()
        for mode in framework.modes
        for dtype in framework.dtypes
        if framework.runs_in(context, dtype, mode)
        for derivative, argument in ops.get(entry.op).maps
        if framework.unsupported_reason(entry, derivative, argument, dtype, mode) is None
        for concern, family in pairs
    ]
    return [
        cell
        for cell in found
        if (
            applies_in_context(profile, entry, cell)
            if cell.context in framework.switched
            else applies(profile, entry, cell.derivative, cell.dtype, cell.mode)
        )
    ]


def must_catch(entry: Implementation) -> Cell:
    """The cell that has to catch a mutant."""
    if entry.caught_by is None:
        raise ValueError(f"{entry.name} is not a mutant")
    by = entry.caught_by
    context = get_framework(entry.framework).context_for(by["dtype"])
    return Cell(by["concern"], entry.name, by["derivative"], by["argument"], by["dtype"],
                by["mode"], "cpu", context, by["family"])  # fmt: skip


# ---------------------------------------------------------------- selection


@dataclass(frozen=True)
class Selection:
    """What a user asked for; empty tuples select everything."""

    op: tuple[str, ...] = ()
    framework: tuple[str, ...] = ()
    implementation: tuple[str, ...] = ()
    dtype: tuple[str, ...] = ()
    mode: tuple[str, ...] = ()
    family: tuple[str, ...] = ()
    derivative: tuple[str, ...] = ()
    concern: tuple[str, ...] = ()
    context: tuple[str, ...] = ()
    cell: tuple[str, ...] = ()

    @property
    def everything(self) -> bool:
        """Nothing was asked for in particular."""
        return not any(asdict(self).values())

    def accepts(self, cell: Cell, entry: Implementation) -> bool:
        """Is this cell wanted?"""
        if self.cell:
            return cell.key in self.cell
        exact = {
            "op": entry.op,
            "framework": entry.framework,
            "dtype": cell.dtype,
            "mode": cell.mode,
            "family": cell.family,
            "derivative": cell.derivative,
            "concern": cell.concern,
            "context": cell.context,
        }
        if any(wanted and exact[name] not in wanted for name, wanted in self._exact().items()):
            return False
        names = self.implementation
        return not names or any(fnmatch.fnmatchcase(entry.name, pattern) for pattern in names)

    def _exact(self) -> dict[str, tuple[str, ...]]:
        named = asdict(self)
        del named["implementation"], named["cell"]
        return named


def check_names(selection: Selection, registry: Mapping[str, Implementation]) -> None:
    """Raise SelectionError, with the nearest name, for a name that does not exist."""
    from conformance.registry import DERIVATIVES, FRAMEWORKS

    frameworks = [get_framework(name) for name in FRAMEWORKS]
    known: dict[str, Sequence[str]] = {
        "op": tuple(OPS),
        "framework": FRAMEWORKS,
        "dtype": _union(f.dtypes for f in frameworks),
        "mode": _union(f.modes for f in frameworks),
        "family": tuple(FAMILIES),
        "derivative": DERIVATIVES,
        "concern": tuple(CONCERNS),
        "context": _union(f.known_contexts() for f in frameworks),
    }
    for option, names in known.items():
        for value in getattr(selection, option):
            if value not in names:
                raise SelectionError(unknown(option, value, names))
    for pattern in selection.implementation:
        if not any(fnmatch.fnmatchcase(name, pattern) for name in registry):
            raise SelectionError(unknown("implementation", pattern, tuple(registry), show=False))


def unknown(option: str, value: str, names: Sequence[str], *, show: bool = True) -> str:
    """One line: what is unknown, what is nearest, what there is."""
    close = difflib.get_close_matches(value, names, 1)
    hint = f"; did you mean {close[0]}?" if close else ""
    listing = f" (known: {', '.join(names)})" if show else f"; `list {option}s` shows them"
    return f"unknown {option} {value!r}{hint}{listing}"


def _union(groups: Iterable[Sequence[str]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for group in groups for name in group))


@dataclass(frozen=True)
class Plan:
    """The cells of a run, framework first, and what they were chosen by.

    Attributes
    ----------
    cells : tuple of Cell
        What the run measures.
    whole : tuple of Cell
        Of a shard: the cells of all shards; otherwise empty.
    """

    profile: Profile
    seed: int
    selection: Selection
    registry: Mapping[str, Implementation] = field(repr=False)
    cells: tuple[Cell, ...] = field(repr=False)
    whole: tuple[Cell, ...] = field(default=(), repr=False)

    @property
    def every(self) -> tuple[Cell, ...]:
        """The cells of the plan, those of other shards among them."""
        return self.whole or self.cells

    def entry(self, cell: Cell) -> Implementation:
        """The implementation of a cell."""
        return self.registry[cell.implementation]

    def counts(self) -> dict[str, int]:
        """Planned cells per framework."""
        found: dict[str, int] = {}
        for cell in self.cells:
            framework = self.entry(cell).framework
            found[framework] = found.get(framework, 0) + 1
        return found


def make_plan(
    registry: Mapping[str, Implementation],
    *,
    profile: str = "quick",
    seed: int = 0,
    selection: Selection | None = None,
) -> Plan:
    """Choose the cells of a run.

    Controls and mutants belong to every selection that has a subject of their framework and op,
    whatever else it asks for: they prove that the instrument that judged it works. A selection of
    single cells runs exactly those. A family or derivative that a selection names runs whether or
    not the profile has it.

    Raises
    ------
    SelectionError
        If a name is unknown or nothing is selected.
    """
    chosen = PROFILES.get(profile)
    if chosen is None:
        raise SelectionError(unknown("profile", profile, tuple(PROFILES)))
    selection = selection or Selection()
    check_names(selection, registry)
    chosen = _widened(chosen, selection)
    if selection.cell:
        cells = [_single(key, registry) for key in selection.cell]
        return Plan(chosen, seed, selection, registry, tuple(dict.fromkeys(cells)))

    everything = [(entry, cell) for entry in registry.values() for cell in cells_of(entry, chosen)]
    wanted = [(entry, cell) for entry, cell in everything if selection.accepts(cell, entry)]
    if not wanted:
        raise SelectionError(
            f"the selection matches no cell of profile {chosen.name}; "
            "`--dry-run` shows what a selection matches, `--profile exhaustive` plans everything"
        )
    covered = {(entry.framework, entry.op) for entry, _ in wanted}
    selected = {cell for _, cell in wanted}
    cells = [
        cell
        for entry, cell in everything
        if cell in selected
        or (entry.role in ("control", "mutant") and (entry.framework, entry.op) in covered)
    ]
    return Plan(chosen, seed, selection, registry, tuple(sorted(cells, key=_order(registry))))


def _widened(profile: Profile, selection: Selection) -> Profile:
    """The profile with the families and derivatives that were asked for by name."""
    if selection.family:
        families = {
            concern: tuple(name for name in names if name in selection.family)
            for concern, names in CONCERNS.items()
        }
        profile = replace(profile, families=families)
    if selection.derivative:
        profile = replace(
            profile,
            derivatives=dict.fromkeys(_DTYPES, selection.derivative),
            compiled=dict.fromkeys(profile.compiled, selection.derivative),
        )
    return profile


def _single(key: str, registry: Mapping[str, Implementation]) -> Cell:
    """The cell of a key, which need not belong to the profile."""
    cell = Cell.from_key(key)
    entry = registry.get(cell.implementation)
    if entry is None:
        raise SelectionError(
            unknown("implementation", cell.implementation, tuple(registry), show=False)
        )
    every = set(cells_of(entry, PROFILES["exhaustive"]))
    framework = get_framework(entry.framework)
    if cell in every or (
        cell.family in FAMILIES
        and cell.family in CONCERNS.get(cell.concern, ())
        and cell.device == "cpu"
        and framework.runs_in(cell.context, cell.dtype, cell.mode)
        and framework.unsupported_reason(
            entry, cell.derivative, cell.argument, cell.dtype, cell.mode
        )
        is None
    ):
        return cell
    close = difflib.get_close_matches(key, [c.key for c in every], 1)
    hint = f"; did you mean {close[0]}?" if close else ""
    raise SelectionError(f"there is no cell {key!r}{hint}")


MODE_ORDER = ("compiled", "xla", "graph", "session", "eager")
FRAMEWORK_ORDER = ("torch", "numpy", "tensorflow", "jax")
"""Slow starters at the two ends: with two workers each gets a half that takes about as long."""


def _order(registry: Mapping[str, Implementation]) -> Any:
    """Framework first, so that one worker holds one framework; then by executor and mode.

    Families come last: cells that share references and compiled shapes stay together, also when
    a worker that is done takes over half of what another one has left.
    """

    @cache
    def rank(name: str) -> tuple[int, str]:
        entry = registry[name]
        return FRAMEWORK_ORDER.index(entry.framework), entry.op

    def key(cell: Cell) -> tuple[Any, ...]:
        framework, op = rank(cell.implementation)
        return (
            framework,
            cell.context,
            MODE_ORDER.index(cell.mode),
            cell.dtype,
            op,
            cell.implementation,
            cell.derivative,
            cell.argument,
            cell,
        )

    return key
