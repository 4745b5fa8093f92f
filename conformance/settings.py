"""What a run was asked for, handed from the command line to pytest's processes.

The settings travel as JSON in the environment variable ``CONFORMANCE_RUN``, which pytest-xdist's
workers inherit. Without it the suite runs profile quick, everything.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from conformance import shards
from conformance.cells import Cell
from conformance.plan import Plan, make_plan
from conformance.probe import declared
from conformance.registry import (
    Implementation,
    RegistrationError,
    entry_point_plugins,
    load_builtin,
)
from conformance.selection import Selection

VARIABLE = "CONFORMANCE_RUN"


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) for text in value)


def _is_limit(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and value > 0)


@dataclass(frozen=True)
class Settings:
    """The options of a run that change what is measured.

    Attributes
    ----------
    profile : str
    seed : int
    selection : Selection
    plugins : tuple of str
        Modules or paths of ``.py`` files that register implementations.
    deadline : float or None
        Seconds for one call of an implementation.
    memory_limit : int or None
        Resident bytes of one executor.
    shard : str
        Which part of the plan, such as ``2/4``; empty for all of it.
    todo : str
        Which of the plan's cells are still to be measured, as a bit mask in hex whose lowest bit
        is the first cell; empty for all of them. (A list of keys would be too long for an
        environment variable, and a file would outlive a run that is killed.)
    """

    profile: str = "quick"
    seed: int = 0
    selection: Selection = field(default_factory=Selection)
    plugins: tuple[str, ...] = ()
    deadline: float | None = None
    memory_limit: int | None = None
    shard: str = ""
    todo: str = ""

    @property
    def loaded(self) -> tuple[str, ...]:
        """The plug-ins that executors load: those of the environment, then those asked for."""
        return tuple(dict.fromkeys((*entry_point_plugins(), *self.plugins)))

    def registry(self) -> dict[str, Implementation]:
        """All implementations; those of plug-ins without their functions.

        Raises
        ------
        RegistryError
            If a plug-in cannot be loaded, or declares a name that is taken.
        """
        entries = load_builtin()
        for plugin in self.loaded:
            for name, entry in declared(plugin).items():
                if name in entries:
                    raise RegistrationError(
                        f"implementation {name!r} is declared twice: in {entries[name].module} "
                        f"and in {entry.module}"
                    )
                entries[name] = entry
        return entries

    def plan(self) -> Plan:
        """The plan of the run."""
        plan = make_plan(
            self.registry(), profile=self.profile, seed=self.seed, selection=self.selection
        )
        if not self.shard:
            return plan
        cells = shards.part(plan.cells, plan.registry, shards.parse(self.shard))
        return replace(plan, cells=cells, whole=plan.cells)

    def only(self, plan: Plan, cells: Iterable[Cell]) -> Settings:
        """The same settings for a run of some of the plan's cells."""
        wanted = set(cells)
        mask = sum(1 << k for k, cell in enumerate(plan.cells) if cell in wanted)
        return replace(self, todo=f"{mask:x}")

    def cells(self, plan: Plan) -> tuple[Cell, ...]:
        """The plan's cells that are to be measured."""
        if not self.todo:
            return plan.cells
        mask = int(self.todo, 16)
        return tuple(cell for k, cell in enumerate(plan.cells) if mask >> k & 1)

    def to_json(self) -> str:
        """For the environment variable."""
        return json.dumps(asdict(self))

    def row(self) -> dict[str, Any]:
        """As a record holds it."""
        values = asdict(self)
        del values["todo"]
        return values

    @classmethod
    def from_row(cls, found: Mapping[str, Any]) -> Settings:
        """The settings that a record holds; ValueError names the entry that is wrong."""
        names = {f.name for f in fields(cls)} - {"todo"}
        if unknown := sorted(found.keys() - names):
            raise ValueError(f"unknown entry {unknown[0]}")
        checks: dict[str, Callable[[Any], bool]] = {
            "profile": lambda v: isinstance(v, str),
            "seed": lambda v: isinstance(v, int) and not isinstance(v, bool) and v >= 0,
            "plugins": _is_texts,
            "shard": lambda v: isinstance(v, str),
            "selection": lambda v: (
                isinstance(v, dict)
                and v.keys() <= {f.name for f in fields(Selection)}
                and all(_is_texts(texts) for texts in v.values())
            ),
        }
        for name in sorted(names):
            if name in found and not checks.get(name, _is_limit)(found[name]):
                raise ValueError(f"{name} holds {found[name]!r}")
        return cls.from_json(json.dumps(dict(found)))

    @classmethod
    def from_json(cls, text: str) -> Settings:
        """The inverse of :meth:`to_json`."""
        values: dict[str, Any] = json.loads(text)
        chosen = {k: tuple(v) for k, v in values.pop("selection", {}).items()}
        plugins = tuple(values.pop("plugins", ()))
        return cls(selection=Selection(**chosen), plugins=plugins, **values)

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> Settings:
        """The settings of this process's run."""
        text = (os.environ if environ is None else environ).get(VARIABLE)
        return cls.from_json(text) if text else cls()
