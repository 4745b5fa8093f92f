"""The training example in NumPy: gradients and Adam written out."""

from __future__ import annotations

from typing import Any

import numpy as np

from conformance.claims.problem import BETA1, BETA2, EPSILON, RATE, Problem
from conformance.claims.trainers.base import Step, Trainer

__all__ = ["TRAINER", "NumPyTrainer"]


class NumPyTrainer(Trainer):
    """Everything in float32."""

    def mean(self, values: Any) -> Any:
        """``np.mean``."""
        return np.mean(values)

    def start(self, loss: str, mode: str, data: Problem) -> Step:
        """Backward by the loss's own vjp, then through the matrix product."""
        inputs, labels = data.inputs, data.labels
        parameters = [data.weights.copy(), data.biases.copy()]
        first = [np.zeros_like(p) for p in parameters]
        second = [np.zeros_like(p) for p in parameters]
        vjp = self.losses[loss].vjp
        assert vjp is not None
        g = np.full(len(inputs), 1 / len(inputs), np.float32)
        count = 0

        def step() -> Any:
            nonlocal count
            count += 1
            weights, biases = parameters
            with np.errstate(all="ignore"):
                logits = inputs @ weights + biases
                value = self.mean_loss(loss, logits, labels)
                slope = vjp(g, logits, labels, axis=-1)["x"]
                gradients = [inputs.T @ slope, np.sum(slope, axis=0)]
                for k, gradient in enumerate(gradients):
                    first[k] = BETA1 * first[k] + (1 - BETA1) * gradient
                    second[k] = BETA2 * second[k] + (1 - BETA2) * gradient * gradient
                    mean = first[k] / (1 - BETA1**count)
                    spread = np.sqrt(second[k] / (1 - BETA2**count))
                    parameters[k] = parameters[k] - RATE * mean / (spread + EPSILON)
            return logits, value, gradients, *parameters

        return step


TRAINER = NumPyTrainer
