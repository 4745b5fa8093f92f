"""Process-wide state that an implementation could leave changed, and what differs after a call.

`State.capture` looks before and after; `State.changes` names what differs. A changed process
measures something else from then on, so an executor replaces its child; in somebody else's process
`State.restore` puts back what can be put back.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from conformance.execution.leftovers import Child, Thread, children, left_behind, threads
from conformance.execution.protocol import clean_text
from conformance.execution.switches import STREAMS, SWITCHES
from conformance.frameworks.base import Framework

__all__ = ["State"]

_MOST = 40
"""Changes that are named one by one."""
_READABLE = 100
"""Characters of a value that somebody would read; the state of a generator has thousands."""


@dataclass(frozen=True)
class State:
    """What is watched, at one moment.

    Attributes
    ----------
    switches : mapping of str to object
        Of Python, NumPy, the processor and the operating system; see `switches`.
    framework : mapping of str to str
        The framework's own.
    environment : mapping of str to str
    filters : tuple
        Of warnings.
    threads, children : frozenset
        Python's threads, and processes below this one (only in a process of our own).
    modules : int
        How many modules were imported; not compared, see `changes`.
    """

    switches: Mapping[str, Any]
    framework: Mapping[str, str]
    environment: Mapping[str, str]
    filters: tuple[Any, ...]
    threads: frozenset[Thread]
    children: frozenset[Child]
    modules: int

    @staticmethod
    def capture(framework: Framework, own_process: bool) -> State:
        """The state now."""
        watched = (*SWITCHES, *STREAMS) if own_process else SWITCHES
        return State(
            switches={switch.name: switch.read() for switch in watched},
            framework=framework.state(),
            environment=dict(os.environ),
            filters=tuple(warnings.filters),
            threads=threads(),
            children=children() if own_process else frozenset(),
            modules=len(sys.modules),
        )

    def changes(self, after: State) -> tuple[str, ...]:
        """What differs in `after`, one line each; empty if nothing leaked.

        Importing a module for the first time may add warnings filters and environment variables,
        and frameworks import parts of themselves late (torch on the first compilation). That
        happens once, whoever is called first, and is nobody's leak.
        """
        imported = after.modules > self.modules
        found = self.switched(after)
        if self.environment != after.environment:
            found += self._variables(after, imported)
        if after.filters != self.filters and not (imported and _contains(after, self)):
            found.append(f"warnings filters: {len(self.filters)} -> {len(after.filters)} entries")
        found += left_behind(self.threads, after.threads, self.children, after.children)
        if len(found) > _MOST:
            found[_MOST:] = [f"and {len(found) - _MOST} more"]
        return tuple(clean_text(line, 400) for line in found)

    def switched(self, after: State) -> list[str]:
        """The switches that stand differently in `after`, one line each."""
        found = []
        for switch in (*SWITCHES, *STREAMS):
            if switch.name in self.switches:
                found += switch.changes(self.switches[switch.name], after.switches[switch.name])
        for name, old in self.framework.items():
            new = after.framework.get(name)
            if new != old:
                long = len(old) > _READABLE
                found.append(f"{name}: changed" if long else f"{name}: {old} -> {new}")
        return found

    def _variables(self, after: State, imported: bool) -> list[str]:
        found = []
        for name in sorted(self.environment.keys() | after.environment.keys()):
            old, new = self.environment.get(name), after.environment.get(name)
            if old != new and not (imported and old is None):
                # Values stay out of records: an environment holds secrets.
                how = "removed" if new is None else "added" if old is None else "changed"
                found.append(f"environment variable {name}: {how}")
        return found

    def restore(self, framework: Framework) -> None:
        """Put back what can be put back."""
        for switch in SWITCHES:
            switch.restore(self.switches[switch.name])
        if dict(os.environ) != self.environment:
            for name in os.environ.keys() - self.environment.keys():
                del os.environ[name]
            os.environ.update(self.environment)
        if tuple(warnings.filters) != self.filters:
            warnings.resetwarnings()  # also forgets which warnings were shown
            warnings.filters[:] = list(self.filters)  # type: ignore[index]
        if framework.state() != self.framework:
            framework.restore(self.framework)

    def summary(self) -> dict[str, str]:
        """In words, for `Hello` and the doctor."""
        told = {
            switch.name: switch.summary(self.switches[switch.name])
            for switch in SWITCHES
            if switch.summary is not None
        }
        mine = {name: text for name, text in self.framework.items() if len(text) <= _READABLE}
        return {**told, "warnings filters": str(len(self.filters)), **mine}


def _contains(after: State, before: State) -> bool:
    return all(entry in after.filters for entry in before.filters)
