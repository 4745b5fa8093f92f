"""One file per operator: definition, derivatives, limits, bounds.

A file that defines ``OP`` is an operator; adding one means adding a file.
"""

from __future__ import annotations

import importlib
import pkgutil

from .base import Map, Op

__all__ = ["OPS", "Map", "Op", "get"]


def _load() -> dict[str, Op]:
    found = {}
    for module in pkgutil.iter_modules(__path__):
        op = getattr(importlib.import_module(f"{__name__}.{module.name}"), "OP", None)
        if op is not None:
            found[op.name] = op
    return dict(sorted(found.items()))


OPS: dict[str, Op] = _load()


def get(name: str) -> Op:
    """The operator of this name; KeyError with the known names otherwise."""
    try:
        return OPS[name]
    except KeyError:
        raise KeyError(f"unknown op {name!r}; known: {', '.join(OPS)}") from None
