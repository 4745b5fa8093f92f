"""One file per framework: arrays in and out bit-exactly, modes, derivatives, versions.

Imported by the planner for the capabilities and by an executor's child for the rest; importing
these modules imports no framework.
"""

from __future__ import annotations

import importlib

from conformance.frameworks.base import Framework
from conformance.registry import FRAMEWORKS

__all__ = ["Framework", "get_framework", "installed_version"]


def get_framework(name: str) -> type[Framework]:
    """The class of a framework.

    Raises
    ------
    ValueError
        If there is no framework of that name.
    """
    if name not in FRAMEWORKS:
        raise ValueError(f"unknown framework {name!r}; known are {', '.join(FRAMEWORKS)}")
    module = importlib.import_module(f"conformance.frameworks.{name}")
    found: type[Framework] = module.FRAMEWORK
    return found


def installed_version(name: str) -> str | None:
    """The installed version of a framework, or None; nothing is imported."""
    return get_framework(name).installed_version()
