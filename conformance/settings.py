"""What a run was asked for, handed from the command line to pytest's processes.

The settings travel as JSON in the environment variable ``CONFORMANCE_RUN``, which pytest-xdist's
workers inherit. Without it the suite runs profile quick, everything.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from conformance.plan import Plan, Selection, make_plan
from conformance.probe import declared
from conformance.registry import (
    Implementation,
    RegistrationError,
    entry_point_plugins,
    load_builtin,
)

VARIABLE = "CONFORMANCE_RUN"


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
    """

    profile: str = "quick"
    seed: int = 0
    selection: Selection = field(default_factory=Selection)
    plugins: tuple[str, ...] = ()
    deadline: float | None = None
    memory_limit: int | None = None

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
        """The cells to run."""
        return make_plan(
            self.registry(), profile=self.profile, seed=self.seed, selection=self.selection
        )

    def to_json(self) -> str:
        """For the environment variable, and for a record."""
        return json.dumps(asdict(self))

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
