"""The article's training example as data: the same in every framework, from a seed.

    logits = inputs @ weights + biases,   loss = mean of the cross-entropy,   minimised with Adam

The scale multiplies the inputs, as features that nobody normalised would: the logits grow with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]

SCALES = (1, 10, 100, 1000, 10000)
STEPS = 60
RATE = 0.05
BETA1 = 0.9
BETA2 = 0.999
EPSILON = 1e-8
"""Adam's, given to every framework: their defaults differ."""

SAMPLES, FEATURES, CLASSES = 32, 8, 3
_SEED = 2026


@dataclass(frozen=True, eq=False)
class Problem:
    """What training starts from; everything is float32."""

    inputs: F32
    labels: F32
    """One-hot."""
    weights: F32
    biases: F32


def problem(scale: int) -> Problem:
    """The problem at one scale; weights and labels are the same at all."""
    rng = np.random.Generator(np.random.PCG64DXSM(_SEED))
    inputs = rng.standard_normal((SAMPLES, FEATURES)).astype(np.float32)
    teacher = rng.standard_normal((FEATURES, CLASSES))
    noise = rng.standard_normal((SAMPLES, CLASSES))
    classes = np.argmax(inputs.astype(np.float64) @ teacher + noise, axis=1)
    labels = (np.arange(CLASSES) == classes[:, None]).astype(np.float32)
    weights = (0.02 * rng.standard_normal((FEATURES, CLASSES))).astype(np.float32)
    return Problem(np.float32(scale) * inputs, labels, weights, np.zeros(CLASSES, np.float32))


@dataclass(frozen=True)
class Curve:
    """One training run, step by step; figures belong to the parameters before the update.

    Attributes
    ----------
    loss : list of float
        As the framework computed it.
    gap : list of float
        The largest difference of two logits of one sample.
    moved : list of bool
        Whether the gradient had an entry that is not 0.
    finite : list of bool
        Whether loss and gradient were.
    accuracy : float
        Share of samples whose label has the largest logit, after the last step; 0 for NaN.
    weights, biases : list
        After the last step.
    """

    loss: list[float]
    gap: list[float]
    moved: list[bool]
    finite: list[bool]
    accuracy: float
    weights: list[list[float]]
    biases: list[float]


def follow(step: Any, data: Problem) -> Curve:
    """Run the training loop and write down what happened.

    Parameters
    ----------
    step : callable
        Makes one update; returns the logits, the loss and the gradients (to weights and biases)
        of before, and weights and biases of after, as NumPy arrays.
    data : Problem
    """
    curve = Curve([], [], [], [], 0.0, [], [])
    weights, biases = data.weights, data.biases
    for _ in range(STEPS):
        logits, loss, gradients, weights, biases = step()
        logits = np.asarray(logits, np.float64)
        curve.loss.append(float(loss))
        curve.gap.append(float(np.max(np.max(logits, axis=1) - np.min(logits, axis=1))))
        curve.moved.append(any(bool(np.any(g != 0)) for g in gradients))
        sound = np.isfinite(loss) and all(np.isfinite(g).all() for g in gradients)
        curve.finite.append(bool(sound))
    return Curve(
        curve.loss,
        curve.gap,
        curve.moved,
        curve.finite,
        accuracy(weights, biases, data),
        np.asarray(weights, np.float64).tolist(),
        np.asarray(biases, np.float64).tolist(),
    )


def accuracy(weights: Any, biases: Any, data: Problem) -> float:
    """Share of samples whose label has the largest logit (in float64)."""
    logits = data.inputs.astype(np.float64) @ np.asarray(weights, np.float64)
    logits = logits + np.asarray(biases, np.float64)
    hit = np.argmax(logits, axis=1) == np.argmax(data.labels, axis=1)
    return float(np.mean(hit & np.isfinite(logits).all(axis=1)))
