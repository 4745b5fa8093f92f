"""PyTorch: antipatterns, a control and mutants."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from conformance.implementations.common import CLIP, antipatterns, control, mutants
from conformance.implementations.torch import NO_IGNORED_INDEX
from conformance.registry import implementation

__all__: list[str] = []


# --- hand-written cross-entropies -----------------------------------------------------------


def _log_of_softmax(x: Any, target: Any, *, axis: int = -1) -> Any:
    import torch

    p = torch.nn.functional.softmax(x, dim=axis)
    return -(target * torch.log(p)).sum(dim=axis)


def _clipped_log_of_softmax(x: Any, target: Any, *, axis: int = -1) -> Any:
    import torch

    p = torch.nn.functional.softmax(x, dim=axis)
    return -(target * torch.log(torch.clamp(p, CLIP, 1.0))).sum(dim=axis)


antipatterns(
    "torch",
    log_of_softmax=_log_of_softmax,
    clipped_log_of_softmax=_clipped_log_of_softmax,
)


# --- the other ops, written by hand ---------------------------------------------------------


def _antipattern(
    op: str, what: str, without: tuple[str, ...] = ()
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    return implementation(
        op=op,
        framework="torch",
        name=f"antipattern.torch.{what}",
        role="antipattern",
        variant="composition",
        without=without,
    )


@_antipattern("log_softmax", "log_of_softmax_values")
def log_of_softmax_values(x: Any, *, axis: int = -1) -> Any:
    """log(s): -inf where s has underflowed, 0 where it was rounded to 1."""
    import torch

    return torch.log(torch.softmax(x, dim=axis))


@_antipattern("log_softmax", "x_minus_logsumexp")
def x_minus_logsumexp(x: Any, *, axis: int = -1) -> Any:
    """x - lse: the rounding of lse grows with a common offset."""
    import torch

    return x - torch.logsumexp(x, dim=axis, keepdim=True)


@_antipattern("logsumexp", "unshifted_logsumexp")
def unshifted_logsumexp(x: Any, *, axis: int = -1) -> Any:
    """log(sum(exp(x))): exp overflows."""
    import torch

    return torch.log(torch.exp(x).sum(dim=axis))


@_antipattern("masked_softmax", "masked_by_minus_1e9")
def masked_by_minus_1e9(x: Any, mask: Any, *, axis: int = -1) -> Any:
    """-1e9 for dropped logits: uniform where nothing is kept, out of range in float16."""
    import torch

    # The product and not masked_fill, as it is mostly written; in float16 it is -inf.
    return torch.softmax(x + (1.0 - mask.to(x.dtype)) * -1e9, dim=axis)


@_antipattern("categorical_entropy", "p_log_p_entropy")
def p_log_p_entropy(x: Any, *, axis: int = -1) -> Any:
    """-sum s log s: 0 * -inf where a probability has underflowed."""
    import torch

    p = torch.softmax(x, dim=axis)
    return -(p * torch.log(p)).sum(dim=axis)


@_antipattern("categorical_entropy", "entr_of_softmax")
def entr_of_softmax(x: Any, *, axis: int = -1) -> Any:
    """sum entr(s): the value is right, but the slope of entr at 0 is inf, and 0 * inf is NaN."""
    import torch

    return torch.special.entr(torch.softmax(x, dim=axis)).sum(dim=axis)


@_antipattern("log_sigmoid", "log_of_sigmoid")
def log_of_sigmoid(x: Any) -> Any:
    """log(sigmoid(x)): -inf where the sigmoid has underflowed, 0 where it was rounded to 1."""
    import torch

    return torch.log(torch.sigmoid(x))


@_antipattern("softplus", "log_of_one_plus_exp")
def log_of_one_plus_exp(x: Any) -> Any:
    """log(1 + exp(x)): exp overflows, and 1 + exp(x) rounds to 1."""
    import torch

    return torch.log(1 + torch.exp(x))


@_antipattern("sigmoid_cross_entropy", "max_abs_bce", without=("pos_weight",))
def max_abs_bce(x: Any, target: Any) -> Any:
    """max(x, 0) - x z + log1p(exp(-|x|)): the value is right, its automatic derivative at 0 not."""
    import torch

    return torch.clamp(x, min=0) - x * target + torch.log1p(torch.exp(-torch.abs(x)))


@_antipattern("logaddexp", "logsumexp_of_two")
def logsumexp_of_two(x: Any, y: Any) -> Any:
    """logsumexp of both, stacked: log(1 + t) without log1p, and a gradient from the rounded lse."""
    import torch

    return torch.logsumexp(torch.stack((x, y), dim=-1), dim=-1)


# --- control and mutants --------------------------------------------------------------------


def _answer(answer: Any, *, axis: int = -1) -> Any:
    return answer.clone()


control("torch", _answer)


def _unshifted_softmax(x: Any, *, axis: int = -1) -> Any:
    e = x.exp()
    return e / e.sum(dim=axis, keepdim=True)


@functools.cache
def _minus_target() -> Any:
    import torch

    class SoftmaxMinusTarget(torch.autograd.Function):  # type: ignore[misc]
        @staticmethod
        def forward(ctx: Any, x: Any, target: Any, axis: int) -> Any:
            l = torch.nn.functional.log_softmax(x, dim=axis)  # noqa: E741 - the contract's name
            ctx.save_for_backward(l, target)
            ctx.axis = axis
            return -(target * l).sum(dim=axis)

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            l, target = ctx.saved_tensors  # noqa: E741
            g = g.unsqueeze(ctx.axis)
            return g * (l.exp() - target), -g * l, None

    return SoftmaxMinusTarget


def _softmax_minus_target(x: Any, target: Any, *, axis: int = -1) -> Any:
    return _minus_target().apply(x, target, axis)


def _mean_of_all(
    x: Any, label: Any, *, ignore_index: int | None = None, reduction: str = "none", axis: int = -1
) -> Any:
    import torch

    index = NO_IGNORED_INDEX if ignore_index is None else ignore_index
    losses = torch.nn.functional.cross_entropy(
        x.movedim(axis, 1), label, ignore_index=index, reduction="none"
    )
    return {"none": lambda: losses, "sum": losses.sum, "mean": losses.mean}[reduction]()


def _last_axis_softmax(x: Any, *, axis: int = -1) -> Any:
    import torch

    return torch.nn.functional.softmax(x, dim=axis if x.dim() <= 2 else -1)


def _shared_maximum_softmax(x: Any, *, axis: int = -1) -> Any:
    return _unshifted_softmax(x - x.max(), axis=axis)


mutants(
    "torch",
    unshifted_softmax=_unshifted_softmax,
    softmax_minus_target=_softmax_minus_target,
    mean_of_all=_mean_of_all,
    last_axis_softmax=_last_axis_softmax,
    shared_maximum_softmax=_shared_maximum_softmax,
)
