"""The training example in exact arithmetic, as far as anybody can tell: the certified trajectory.

Every framework starts from the same float32 inputs, labels and weights. Here the same steps are
taken in mpmath,

    logits = inputs @ weights + biases,   s = softmax(logits),   loss = mean of -log s at the label,
    d loss / d logits = (s - label) / rows,
    m = b1 m + (1 - b1) g,   v = b2 v + (1 - b2) g^2,
    parameter -= rate * (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + epsilon),

(Kingma and Ba, "Adam", ICLR 2015, algorithm 1), twice, at different precision. Where both agree to
the digits that are used, those digits are the trajectory's; otherwise the precision is doubled.
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass
from functools import cache
from typing import Any

import mpmath
from mpmath import libmp

from conformance.claims.problem import (
    BETA1,
    BETA2,
    CLASSES,
    EPSILON,
    RATE,
    STEPS,
    Problem,
    accuracy,
    problem,
)

__all__ = ["DIGITS", "Trajectory", "Uncertified", "certified", "run"]

DIGITS = 17
"""Digits that two precisions must agree in: what a float64 can show."""
_BITS = 160
_MOST_BITS = 1300


class Uncertified(ArithmeticError):
    """Two precisions do not agree: there is no reference to hold a training run to."""


@dataclass(frozen=True)
class Trajectory:
    """One scale's reference.

    Attributes
    ----------
    loss : tuple of float
        Before each step.
    accuracy : float
        After the last step.
    bits : tuple of int
        The two precisions that were compared.
    digits : float
        In how many digits the losses agree, at the worst step.
    """

    loss: tuple[float, ...]
    accuracy: float
    bits: tuple[int, int]
    digits: float


def certified(scale: int) -> Trajectory:
    """The trajectory at a scale, computed once.

    Raises
    ------
    Uncertified
        If no two precisions up to 1300 bits agree to `DIGITS` digits.
    """
    with _lock:  # two threads that want the same one share the work
        return _certified(scale)


_lock = threading.Lock()


@cache
def _certified(scale: int) -> Trajectory:
    data = problem(scale)
    bits = _BITS
    coarse, _ = run(data, bits)
    while 2 * bits <= _MOST_BITS:
        fine, parameters = run(data, 2 * bits)
        agree = agreement(coarse, fine)
        if agree >= DIGITS:
            hit = accuracy(*parameters, data)
            losses = tuple(float(v) for v in fine)
            return Trajectory(losses, hit, (bits, 2 * bits), agree)
        bits, coarse = 2 * bits, fine
    raise Uncertified(f"scale {scale}: {bits} bits give {agree:.0f} digits, {DIGITS} are needed")


def agreement(coarse: list[Any], fine: list[Any]) -> float:
    """Digits that two runs have in common, at the worst step."""
    worst = 0.0
    for a, b in zip(coarse, fine, strict=True):
        # Exact differences: an mpf would be rounded to the precision of its own context.
        apart = libmp.mpf_abs(libmp.mpf_sub(a._mpf_, b._mpf_))
        worst = max(worst, libmp.to_float(libmp.mpf_div(apart, b._mpf_, 53)))
    return -math.log10(worst) if worst else math.inf


def run(data: Problem, bits: int) -> tuple[list[Any], tuple[Any, Any]]:
    """The losses of all steps, and weights and biases (as floats) after the last one."""
    # A context of its own: mpmath's global one belongs to whoever uses it in other threads.
    mp: Any = mpmath.ctx_mp.MPContext()
    mp.prec = bits
    number = mp.mpf
    inputs = [[number(float(v)) for v in row] for row in data.inputs]
    columns = list(zip(*inputs, strict=True))
    labels = [list(row).index(1) for row in data.labels]
    # A row of weights per class, and the bias at its end.
    table = [
        [*(number(float(v)) for v in data.weights[:, k]), number(float(data.biases[k]))]
        for k in range(CLASSES)
    ]
    rate, b1, b2, epsilon = (number(float(v)) for v in (RATE, BETA1, BETA2, EPSILON))
    first = [[number(0)] * len(table[0]) for _ in table]
    second = [[number(0)] * len(table[0]) for _ in table]
    losses = []
    for step in range(1, STEPS + 1):
        slopes: list[list[Any]] = []
        terms = []
        for row, label in zip(inputs, labels, strict=True):
            logits = [mp.fdot(row, weights[:-1]) + weights[-1] for weights in table]
            top = max(logits)
            powers = [mp.exp(z - top) for z in logits]
            total = mp.fsum(powers)
            # Where one class dominates, total is 1 + a small number, which log1p takes as it is.
            others = mp.fsum(p for p, z in zip(powers, logits, strict=True) if z is not top)
            terms.append(mp.log1p(others) + (top - logits[label]))
            slopes.append(
                [
                    -mp.fsum(q for j, q in enumerate(powers) if j != k) / total
                    if k == label
                    else p / total
                    for k, p in enumerate(powers)
                ]
            )
        losses.append(mp.fsum(terms) / len(inputs))
        for k in range(CLASSES):
            slope = [row[k] for row in slopes]
            gradient = [mp.fdot(slope, column) for column in columns] + [mp.fsum(slope)]
            for j, total in enumerate(gradient):
                g = total / len(inputs)
                first[k][j] = b1 * first[k][j] + (1 - b1) * g
                second[k][j] = b2 * second[k][j] + (1 - b2) * g * g
                mean = first[k][j] / (1 - b1**step)
                spread = mp.sqrt(second[k][j] / (1 - b2**step))
                table[k][j] -= rate * mean / (spread + epsilon)
    weights = [[float(table[k][j]) for k in range(CLASSES)] for j in range(len(columns))]
    return losses, (weights, [float(row[-1]) for row in table])
