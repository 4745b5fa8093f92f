"""What a trainer is: the mean of a loss, one training step at a time, and a count of operations."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from conformance.claims.article import LOSSES, implementation_names
from conformance.claims.problem import Problem
from conformance.frameworks import Framework
from conformance.registry import load_builtin

__all__ = ["Step", "Trainer"]

Step = Callable[[], tuple[Any, Any, list[Any], Any, Any]]
"""See `conformance.claims.problem.follow`."""


class Trainer(ABC):
    """The article's programs in one framework.

    Parameters
    ----------
    framework : Framework
        Loaded.
    """

    def __init__(self, framework: Framework) -> None:
        self.framework = framework
        entries, names = load_builtin(), implementation_names(framework.name)
        self.losses = {loss: entries[names[loss]] for loss in LOSSES}

    def mean_loss(self, loss: str, logits: Any, labels: Any) -> Any:
        """The mean of a cross-entropy over the batch, as the framework writes it."""
        return self.mean(self.losses[loss].function(logits, labels, axis=-1))

    @abstractmethod
    def mean(self, values: Any) -> Any:
        """The mean of a vector."""

    @abstractmethod
    def start(self, loss: str, mode: str, data: Problem) -> Step:
        """Weights at their beginning and Adam with no memory; returns what makes a step."""

    def operations(self, loss: str, data: Problem) -> int | None:
        """How many operations the framework records for the mean loss and its gradient.

        None where it records none.
        """
        return None
