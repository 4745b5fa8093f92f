"""What every framework's file declares in the same way: controls, mutants and antipatterns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from conformance.registry import OPS, implementation

__all__ = ["CLIP", "antipatterns", "control", "mutants"]

Function = Callable[..., Any]

CLIP = 1e-7
"""Where the clipped loss cuts a probability off: Keras's epsilon."""


def control(framework: str, function: Function) -> None:
    """Register ``conformance.control.<framework>.<op>`` for every op.

    Parameters
    ----------
    framework : str
    function : callable
        ``function(answer, *, axis)`` gives back the framework's array `answer`, which is the
        oracle's rounding: what comes out must be bit-equal to it, or the exchange of arrays, the
        judge or the oracle is broken.
    """
    for op in OPS:
        implementation(
            op=op,
            framework=framework,
            name=f"conformance.control.{framework}.{op}",
            role="control",
            variant="composition",
        )(function)


def mutants(
    framework: str,
    *,
    unshifted_softmax: Function,
    softmax_minus_target: Function,
    softmax_minus_target_vjp: Function | None = None,
    mean_of_all: Function,
    last_axis_softmax: Function,
    shared_maximum_softmax: Function,
) -> None:
    """Register the mutants that every framework has.

    Parameters
    ----------
    framework : str
    unshifted_softmax : callable
        exp(x) / sum(exp(x)): overflows as soon as a logit passes log(max).
    softmax_minus_target : callable
        Cross-entropy with the gradient s - t in place of s sum(t) - t: right only where the
        targets sum to 1.
    softmax_minus_target_vjp : callable, optional
        Its gradient, for NumPy.
    mean_of_all : callable
        ``function(x, label, *, ignore_index, reduction, axis)``: right but for a mean that divides
        by the number of all rows, ignored ones included.
    last_axis_softmax : callable
        A softmax that takes the axis that it is told of a matrix, and the last one of anything
        with more axes.
    shared_maximum_softmax : callable
        A softmax shifted by the maximum of the whole array and not of each row.
    """
    implementation(
        op="softmax",
        framework=framework,
        name=f"mutant.{framework}.unshifted_softmax",
        role="mutant",
        variant="composition",
        modes=("eager",),
        derivatives=("value",),
        caught_by={
            "concern": "accuracy",
            "derivative": "value",
            "argument": "-",
            "dtype": "float32",
            "mode": "eager",
            "family": "shift_ladder",
        },
    )(unshifted_softmax)
    implementation(
        op="softmax_cross_entropy",
        framework=framework,
        name=f"mutant.{framework}.softmax_minus_target",
        role="mutant",
        variant="composition",
        modes=("eager",),
        vjp=softmax_minus_target_vjp,
        caught_by={
            "concern": "accuracy",
            "derivative": "vjp",
            "argument": "x",
            "dtype": "float32",
            "mode": "eager",
            "family": "realistic",
        },
    )(softmax_minus_target)
    implementation(
        op="sparse_softmax_cross_entropy",
        framework=framework,
        name=f"mutant.{framework}.mean_of_all_rows",
        role="mutant",
        variant="composition",
        modes=("eager",),
        derivatives=("value",),
        parameters=("reduction", "ignore_index"),
        label_dtypes=("int64",),
        caught_by={
            "concern": "reduction",
            "derivative": "value",
            "argument": "-",
            "dtype": "float32",
            "mode": "eager",
            "family": "ignored",
        },
    )(mean_of_all)
    implementation(
        op="softmax",
        framework=framework,
        name=f"mutant.{framework}.last_axis_softmax",
        role="mutant",
        variant="composition",
        modes=("eager",),
        derivatives=("value",),
        caught_by={
            "concern": "contract",
            "derivative": "value",
            "argument": "-",
            "dtype": "float32",
            "mode": "eager",
            "family": "axes",
        },
    )(last_axis_softmax)
    implementation(
        op="softmax",
        framework=framework,
        name=f"mutant.{framework}.shared_maximum_softmax",
        role="mutant",
        variant="composition",
        modes=("eager",),
        derivatives=("value",),
        caught_by={
            "concern": "invariance",
            "derivative": "value",
            "argument": "-",
            "dtype": "float32",
            "mode": "eager",
            "family": "batches",
        },
    )(shared_maximum_softmax)


def antipatterns(
    framework: str,
    *,
    log_of_softmax: Function,
    clipped_log_of_softmax: Function,
    log_of_softmax_vjp: Function | None = None,
    clipped_log_of_softmax_vjp: Function | None = None,
) -> None:
    """Register the two hand-written cross-entropies that people use.

    Parameters
    ----------
    framework : str
    log_of_softmax : callable
        -sum t log(softmax(x)): the logarithm of a probability that has underflowed to 0.
    clipped_log_of_softmax : callable
        -sum t log(clip(softmax(x), CLIP, 1)): finite, but wrong beyond the clip, where its
        gradient is 0.
    log_of_softmax_vjp, clipped_log_of_softmax_vjp : callable, optional
        Their gradients, for NumPy.
    """
    for name, function, vjp in (
        ("log_of_softmax", log_of_softmax, log_of_softmax_vjp),
        ("clipped_log_of_softmax", clipped_log_of_softmax, clipped_log_of_softmax_vjp),
    ):
        implementation(
            op="softmax_cross_entropy",
            framework=framework,
            name=f"antipattern.{framework}.{name}",
            role="antipattern",
            variant="composition",
            vjp=vjp,
        )(function)
