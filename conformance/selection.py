"""What a user asks for by name, and one line for a name that does not exist."""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

from conformance import concerns
from conformance.cells import Cell, SelectionError
from conformance.frameworks import get_framework
from conformance.profiles import CONCERNS
from conformance.registry import DERIVATIVES, FRAMEWORKS, OPS, Implementation
from reference.cases import FAMILIES


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
    frameworks = [get_framework(name) for name in FRAMEWORKS]
    known: dict[str, Sequence[str]] = {
        "op": tuple(OPS),
        "framework": FRAMEWORKS,
        "dtype": _union(f.dtypes for f in frameworks),
        "mode": _union(f.modes for f in frameworks),
        "family": (*FAMILIES, *(name for c in concerns.OWN.values() for name in c.versions)),
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
