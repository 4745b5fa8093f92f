"""How long the two losses take: a ratio, from interleaved rounds. Never part of the exit code."""

from __future__ import annotations

import statistics
from typing import Any

import numpy as np

from conformance.claims.ask import Ask
from conformance.claims.verdicts import DOES_NOT_HOLD, HOLDS, HOLDS_WITHIN, Item

__all__ = ["judge"]

SHAPES = ((128, 10), (64, 5000))
"""A batch of a small classifier's logits, and one with many classes."""
DERIVATIVES = ("value", "vjp")
_ROUNDS = 21
_NOISE = 1.1
"""Ratios closer to 1 than this say nothing."""


def judge(ask: Ask) -> Item:
    """The verdict on `faster`: time by hand over time of the built-in, medians of the rounds."""
    ratios: dict[str, float] = {}
    microseconds: dict[str, float] = {}
    for rows, n in SHAPES:
        rng = np.random.Generator(np.random.PCG64DXSM([rows, n]))
        x = rng.standard_normal((rows, n)).astype(np.float32).astype(np.float64)
        target = np.eye(n)[rng.integers(0, n, rows)]
        for derivative in DERIVATIVES:
            name = f"{rows}x{n} {'loss' if derivative == 'value' else 'loss and gradient'}"
            inputs: dict[str, Any] = {"x": x, "target": target}
            if derivative == "vjp":
                inputs["g"] = np.ones(rows)
            ratios[name], microseconds[name] = _ratio(ask, derivative, inputs)
    low, high = min(ratios.values()), max(ratios.values())
    if low > _NOISE:
        verdict = HOLDS
    elif high < 1 / _NOISE:
        verdict = DOES_NOT_HOLD
    else:
        verdict = HOLDS_WITHIN
    faster = [name for name, ratio in ratios.items() if ratio > _NOISE]
    slower = [f"{name}: {ratio:.2f}" for name, ratio in ratios.items() if ratio < 1 / _NOISE]
    return Item(
        "faster", ask.framework, ask.mode, ask.dtype, verdict,
        short=" ".join(f"{r:.2f}" for r in ratios.values()),
        range=f"faster at {', '.join(faster)}" if faster else "",
        counter_example=f"by hand is faster at {', '.join(slower)}" if slower else "",
        figures={"by_hand_over_builtin": ratios, "builtin_microseconds": microseconds},
    )  # fmt: skip


def _ratio(ask: Ask, derivative: str, inputs: dict[str, Any]) -> tuple[float, float]:
    """The median of the rounds' ratios, and the built-in's median time.

    In each round both are called once, in an order that alternates: what slows the machine down
    slows both.
    """
    for method in ("builtin", "manual"):  # compile, and fill the caches
        ask.call(method, derivative, inputs)
    ratios, times = [], []
    for k in range(_ROUNDS):
        order = ("builtin", "manual") if k % 2 else ("manual", "builtin")
        seconds = {method: ask.call(method, derivative, inputs).seconds for method in order}
        ratios.append(seconds["manual"] / seconds["builtin"])
        times.append(seconds["builtin"])
    return statistics.median(ratios), 1e6 * statistics.median(times)
