"""Names that everybody in a process shares, and whether somebody has put something else there.

An implementation can replace ``builtins.len``, ``numpy.exp`` or ``torch.Tensor.sum`` for whoever
comes after it. `Namespaces` remembers what such names stood for, finds out cheaply, by identity,
which stand for something else, and puts the old ones back.

What it needs for that it holds on to itself, because the replaced name may be ``len``.
"""

from __future__ import annotations

import importlib
import sys
from builtins import all as _all
from builtins import any as _any
from builtins import delattr as _delattr
from builtins import len as _len
from builtins import map as _map
from builtins import set as _set
from builtins import setattr as _setattr
from builtins import tuple as _tuple
from builtins import vars as _vars
from builtins import zip as _zip
from collections.abc import Collection, Mapping, Sequence
from operator import is_ as _is
from typing import Any

__all__ = ["PROCESS", "Namespaces"]

PROCESS = (
    "builtins",
    "os",
    "os.path",
    "io",
    "json",
    "struct",
    "time",
    "math",
    "operator",
    "functools",
    "itertools",
    "random",
    "numpy",
    "numpy.random",
    "numpy.linalg",
    "numpy._core.fromnumeric",
    "numpy._core.numeric",
    "numpy._core.multiarray",
    "numpy._core.umath",
    "numpy._core._methods",
)
"""Modules that are watched whatever the framework is."""

_ABSENT = object()


class _Namespace:
    """One module or class, as it was."""

    def __init__(self, name: str, owner: Any) -> None:
        self.name = name
        self.owner = owner
        self.names: Mapping[str, Any] = vars(owner)
        self.bases = owner.__mro__[1:] if isinstance(owner, type) else ()
        self.observe()

    def observe(self) -> None:
        """Take what stands there now for what belongs there."""
        self.keys = _tuple(self.names.keys())
        self.values = _tuple(self.names.values())

    def is_as_it_was(self) -> bool:
        """Whether every name stands for the same object, in the same order."""
        return _len(self.names) == _len(self.values) and _all(
            _map(_is, self.names.values(), self.values)
        )

    def replaced(self) -> list[tuple[str, Any]]:
        """The names that stand for something else or are gone, with what they stood for.

        In a class a name can also be new and hide what was inherited; it stood for nothing.
        """
        get = self.names.get
        found = [
            (key, value)
            for key, value in _zip(self.keys, self.values, strict=True)
            if get(key, _ABSENT) is not value
        ]
        inherited = [_vars(base) for base in self.bases]
        if inherited:
            for key in _set(self.names) - _set(self.keys):
                if _any(key in names for names in inherited):
                    found.append((key, _ABSENT))
        return found


class Namespaces:
    """Modules and classes that are watched.

    Parameters
    ----------
    names : sequence of str
        Dotted; what does not exist is left out.
    except_for : collection of str
        Names in them that change along with a switch that is watched itself.
    """

    def __init__(self, names: Sequence[str], except_for: Collection[str] = ()) -> None:
        self._except_for = frozenset(except_for)
        self._watched = [
            _Namespace(name, owner) for name in names if (owner := _find(name)) is not None
        ]

    def restore(self) -> list[str]:
        """Put back what was replaced, and name it; names that were added are nobody's loss."""
        found: list[str] = []
        for namespace in self._watched:
            if namespace.is_as_it_was():
                continue
            for key, value in namespace.replaced():
                name = f"{namespace.name}.{key}"
                if name not in self._except_for:
                    if value is _ABSENT:
                        _delattr(namespace.owner, key)
                    else:
                        _setattr(namespace.owner, key, value)
                    found.append(name)
            namespace.observe()
        return found

    def observe(self) -> None:
        """Take what stands there now for what belongs there."""
        for namespace in self._watched:
            namespace.observe()


def _find(name: str) -> Any:
    """The module or class of a dotted name, or None."""
    if name in sys.modules:
        return sys.modules[name]
    module, _, attribute = name.rpartition(".")
    try:
        return (
            getattr(_find(module) if module else None, attribute)
            if module
            else (importlib.import_module(name))
        )
    except (ImportError, AttributeError):
        return None
