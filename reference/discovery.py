"""What a package offers: one file for each, found by looking."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from typing import Any

__all__ = ["offered"]


def offered(package: str, path: list[str], attribute: str) -> Iterator[Any]:
    """``attribute`` of every module of a package that has it, in the order of module names.

    Parameters
    ----------
    package : str
        Its ``__name__``.
    path : list of str
        Its ``__path__``.
    attribute : str
    """
    for module in sorted(info.name for info in pkgutil.iter_modules(path)):
        found = getattr(importlib.import_module(f"{package}.{module}"), attribute, None)
        if found is not None:
            yield found
