"""The article's programs, one file per framework, each in the framework's own idiom.

Run in a child only (`conformance.claims.child`); importing these modules imports no framework.
"""

from __future__ import annotations

import importlib

from conformance.claims.trainers.base import Trainer
from conformance.frameworks import Framework

__all__ = ["Trainer", "trainer_for"]


def trainer_for(framework: Framework) -> Trainer:
    """The trainer of a loaded framework."""
    module = importlib.import_module(f"conformance.claims.trainers.{framework.name}")
    found: type[Trainer] = module.TRAINER
    return found(framework)
