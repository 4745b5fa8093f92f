"""One file per operator: definition, derivatives, limits, bounds.

A file that defines ``OP`` is an operator; adding one means adding a file.
"""

from __future__ import annotations

from ..discovery import offered
from .base import Map, Op

__all__ = ["OPS", "Map", "Op", "get"]


OPS: dict[str, Op] = {op.name: op for op in offered(__name__, __path__, "OP")}


def get(name: str) -> Op:
    """The operator of this name; KeyError with the known names otherwise."""
    try:
        return OPS[name]
    except KeyError:
        raise KeyError(f"unknown op {name!r}; known: {', '.join(OPS)}") from None
