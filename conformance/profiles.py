"""The profiles: how much of the full matrix runs, by content."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from conformance.registry import DERIVATIVES, OPS, Implementation
from reference.cases import FAMILIES

CONCERNS: Mapping[str, tuple[str, ...]] = {
    "accuracy": ("realistic", "gap_ladder", "shift_ladder", "near_ties", "subnormals"),
    "special_values": ("masks", "infinity_lattice", "limit_table"),
    "underflow": ("gap_ladder",),
    "reduction": ("labels", "high_labels", "ignored", "weights", "soft_targets"),
    "contract": ("axes", "empty"),
    "invariance": ("batches", "layouts", "symmetries", "threads", "modes"),
}
"""What a cell can ask, and with which families."""

CONTEXT_CELLS = (
    ("accuracy", "realistic"),
    ("accuracy", "shift_ladder"),
    ("invariance", "threads"),
)
"""Concern and family of the cells that run in contexts beside the usual one."""

LENGTHS = (1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 127, 128, 300, 1000, 4099, 50000, 65504, 65536,
           128256)  # fmt: skip
"""Row lengths: vector remainders, thresholds, half-precision sums, vocabularies."""


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
    lengths, further_lengths : tuple of int
        Row lengths in eager mode: of value and vjp, and of what costs most and says least about
        lengths: forward mode and second order (62 % of the maps, and the longest of them), and
        antipatterns.
    costly_lengths, further_costly_lengths : tuple of int
        The same in eager JAX, which compiles every primitive for every new shape; there
        compositions have the further ones in value and vjp too. Witnesses of other lengths are not
        asked for there.
    compiled_lengths : tuple of int
        Row lengths in compiled modes.
    elementwise_lengths : tuple of int
        Of ops without a class axis, where every shape is compiled for and where others have the
        further ones: there a row is as good as another, and only vectors and what is left over of
        them tell lengths apart.
    longest : mapping of str to int
        Families that are asked at no greater row length, but for the smallest that there is.
    rows : mapping of int to int
        From which row length on at most how many rows of a family run.
    situations, costly_situations, compiled_situations : int
        At most how many situations (and arrangements) of a family run in eager mode, in eager JAX,
        and in compiled modes, where each is a compilation of its own.
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
    further_lengths: tuple[int, ...]
    costly_lengths: tuple[int, ...]
    further_costly_lengths: tuple[int, ...]
    compiled_lengths: tuple[int, ...]
    elementwise_lengths: tuple[int, ...]
    longest: Mapping[str, int]
    rows: Mapping[int, int]
    situations: int
    costly_situations: int
    compiled_situations: int

    def limit(self, n: int) -> int:
        """At most how many rows of length n a family contributes."""
        return next(count for least, count in sorted(self.rows.items(), reverse=True) if n >= least)

    def situations_for(self, framework: str, mode: str) -> int:
        """At most how many situations of a family a framework is asked in a mode."""
        if mode != "eager":
            return self.compiled_situations
        return self.costly_situations if framework == "jax" else self.situations

    def lengths_for(self, entry: Implementation, mode: str, derivative: str) -> tuple[int, ...]:
        """The row lengths of an implementation in a mode and derivative."""
        costly = entry.framework == "jax"
        further = derivative not in FIRST or entry.role == "antipattern"
        if not OPS[entry.op].has_axis and (mode != "eager" or costly or further):
            return self.elementwise_lengths
        if mode != "eager":
            return self.compiled_lengths
        if costly:
            further = further or entry.variant == "composition"
            return self.further_costly_lengths if further else self.costly_lengths
        return self.further_lengths if further else self.lengths

    def asked(
        self, entry: Implementation, mode: str, derivative: str, family: str
    ) -> list[tuple[int, int | None]]:
        """At which row lengths a family is asked, and with how many rows at most."""
        whole = FAMILIES[family].lengths
        if whole:
            return [(n, None) for n in whole]
        lengths = self.lengths_for(entry, mode, derivative)
        longest = self.longest.get(family, max(lengths))
        return [(n, self.limit(n)) for n in lengths if n <= longest] or [
            (lengths[0], self.limit(lengths[0]))
        ]

    def answers(self, entry: Implementation, derivative: str, n: int) -> bool:
        """Whether an implementation is asked for a witness of n classes, in eager mode."""
        return entry.framework != "jax" or n in self.lengths_for(entry, "eager", derivative)


_DTYPES = ("float64", "float32", "bfloat16", "float16")
_CONTROLS = (
    ("accuracy", "realistic"),
    ("special_values", "infinity_lattice"),
    ("reduction", "weights"),
    ("reduction", "soft_targets"),
)
_VALUE = ("value",)
FIRST = (*_VALUE, "vjp")
_EVERY_OP = tuple(OPS)
_WITHOUT_VECTOR_REMAINDER = (8, 16, 32)  # as 128 has none
_FEW = (2, 9, 17, 300)

PROFILES: dict[str, Profile] = {
    p.name: p
    for p in (
        Profile(
            "quick",
            families={
                "accuracy": ("realistic",),
                "special_values": ("infinity_lattice",),
                "underflow": ("gap_ladder",),
                "reduction": ("ignored", "weights"),
                "contract": ("axes",),
                "invariance": ("batches", "layouts", "symmetries", "threads", "modes"),
            },
            controls=_CONTROLS[1:2],
            derivatives={
                "float32": FIRST,
                "bfloat16": FIRST,
                "float64": _VALUE,
                "float16": _VALUE,
            },
            compiled={"float32": FIRST},
            graph_ops=("softmax",),
            context_ops=("softmax",),
            builtins_only=True,
            lengths=(2, 17, 1000),
            further_lengths=(2, 17, 1000),
            costly_lengths=(17,),
            further_costly_lengths=(17,),
            compiled_lengths=(300,),
            elementwise_lengths=(17,),
            longest={},
            rows={1: 48, 4: 16, 129: 4, 1000: 2},
            situations=9,
            costly_situations=2,
            compiled_situations=0,
        ),
        Profile(
            "standard",
            families=CONCERNS,
            controls=_CONTROLS,
            derivatives=dict.fromkeys(_DTYPES, DERIVATIVES),
            compiled={"float32": DERIVATIVES, "bfloat16": FIRST},
            graph_ops=_EVERY_OP,
            context_ops=_EVERY_OP,
            builtins_only=False,
            lengths=tuple(n for n in LENGTHS if n < 5000 and n not in _WITHOUT_VECTOR_REMAINDER),
            further_lengths=_FEW,
            costly_lengths=(*_FEW, 4099),
            further_costly_lengths=(2, 9, 300),
            compiled_lengths=(*_FEW, 1000),
            elementwise_lengths=(17, 300),
            longest={"infinity_lattice": 9},  # beyond it repeats what limit_table has
            rows={1: 96, 4: 16, 129: 4, 1001: 1},
            situations=100,
            costly_situations=4,
            compiled_situations=2,
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
            further_lengths=LENGTHS,
            costly_lengths=LENGTHS,
            further_costly_lengths=LENGTHS,
            compiled_lengths=LENGTHS,
            elementwise_lengths=LENGTHS,
            longest={},
            rows={1: 96, 129: 16, 1001: 2},
            situations=100,
            costly_situations=100,
            compiled_situations=100,
        ),
    )
}

GRAPH_MODES = ("graph", "session")
"""Modes that run a graph without compiling kernels for it."""

SESSION_OPS = ("softmax",)
"""Ops that run in TensorFlow 1 style below profile exhaustive; the kernels are those of `graph`."""
