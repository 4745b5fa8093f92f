"""PyTorch: its fused built-ins, antipatterns, a control and mutants."""

from __future__ import annotations

import functools
from typing import Any

from conformance.implementations.common import CLIP, antipatterns, control, mutants
from conformance.registry import implementation

__all__: list[str] = []

_DOCS = "https://docs.pytorch.org/docs/stable/generated/"

NO_IGNORED_INDEX = -(2**63)
"""The contract ignores no label by default, PyTorch ignores -100: a label that cannot occur."""


@implementation(
    op="softmax",
    framework="torch",
    name="torch.nn.functional.softmax",
    url=f"{_DOCS}torch.nn.functional.softmax.html",
)
def softmax(x: Any, *, axis: int = -1) -> Any:
    """The built-in."""
    import torch

    return torch.nn.functional.softmax(x, dim=axis)


@implementation(
    op="log_softmax",
    framework="torch",
    name="torch.nn.functional.log_softmax",
    url=f"{_DOCS}torch.nn.functional.log_softmax.html",
)
def log_softmax(x: Any, *, axis: int = -1) -> Any:
    """The built-in."""
    import torch

    return torch.nn.functional.log_softmax(x, dim=axis)


@implementation(
    op="logsumexp",
    framework="torch",
    name="torch.logsumexp",
    url=f"{_DOCS}torch.logsumexp.html",
)
def logsumexp(x: Any, *, axis: int = -1) -> Any:
    """The built-in."""
    import torch

    return torch.logsumexp(x, dim=axis)


def _classes_second(x: Any, axis: int) -> Any:
    """``cross_entropy`` wants the classes in axis 1, or a single axis."""
    return x.movedim(axis, 1) if x.dim() > 1 else x


@implementation(
    op="softmax_cross_entropy",
    framework="torch",
    name="torch.nn.functional.cross_entropy.probabilities",
    url=f"{_DOCS}torch.nn.functional.cross_entropy.html",
)
def softmax_cross_entropy(x: Any, target: Any, *, axis: int = -1) -> Any:
    """The built-in with class probabilities."""
    import torch

    return torch.nn.functional.cross_entropy(
        _classes_second(x, axis), _classes_second(target, axis), reduction="none"
    )


@implementation(
    op="sparse_softmax_cross_entropy",
    framework="torch",
    name="torch.nn.functional.cross_entropy.indices",
    url=f"{_DOCS}torch.nn.functional.cross_entropy.html",
)
def sparse_softmax_cross_entropy(x: Any, label: Any, *, axis: int = -1) -> Any:
    """The built-in with class indices, none of them ignored."""
    import torch

    return torch.nn.functional.cross_entropy(
        _classes_second(x, axis), label, reduction="none", ignore_index=NO_IGNORED_INDEX
    )


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


mutants(
    "torch",
    unshifted_softmax=_unshifted_softmax,
    softmax_minus_target=_softmax_minus_target,
)
