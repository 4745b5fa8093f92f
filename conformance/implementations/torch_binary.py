"""PyTorch's elementwise ops and losses of two classes: built-ins and sound compositions."""

from __future__ import annotations

from typing import Any

from conformance.registry import implementation

__all__: list[str] = []

_DOCS = "https://docs.pytorch.org/docs/stable/"
_GENERATED = f"{_DOCS}generated/"
_BCE = f"{_GENERATED}torch.nn.functional.binary_cross_entropy_with_logits.html"


# --- sigmoid --------------------------------------------------------------------------------


@implementation(
    op="sigmoid",
    framework="torch",
    name="torch.sigmoid",
    url=f"{_GENERATED}torch.sigmoid.html",
)
def sigmoid(x: Any) -> Any:
    """The built-in."""
    import torch

    return torch.sigmoid(x)


@implementation(
    op="sigmoid",
    framework="torch",
    name="torch.special.expit",
    url=f"{_DOCS}special.html#torch.special.expit",
)
def expit(x: Any) -> Any:
    """The same kernel under SciPy's name."""
    import torch

    return torch.special.expit(x)


# --- log_sigmoid and softplus ---------------------------------------------------------------


@implementation(
    op="log_sigmoid",
    framework="torch",
    name="torch.nn.functional.logsigmoid",
    url=f"{_GENERATED}torch.nn.functional.logsigmoid.html",
)
def log_sigmoid(x: Any) -> Any:
    """The built-in."""
    import torch

    return torch.nn.functional.logsigmoid(x)


@implementation(
    op="log_sigmoid",
    framework="torch",
    name="torch.nn.functional.softplus.negated",
    variant="composition",
    url=f"{_GENERATED}torch.nn.functional.softplus.html",
)
def negated_softplus(x: Any) -> Any:
    """-softplus(-x)."""
    import torch

    return -torch.nn.functional.softplus(-x)


@implementation(
    op="softplus",
    framework="torch",
    name="torch.nn.functional.softplus",
    url=f"{_GENERATED}torch.nn.functional.softplus.html",
)
def softplus(x: Any) -> Any:
    """The built-in, with its default threshold: the identity from 20 on."""
    import torch

    return torch.nn.functional.softplus(x)


@implementation(
    op="softplus",
    framework="torch",
    name="torch.logaddexp.of_zero",
    variant="composition",
    url=f"{_GENERATED}torch.logaddexp.html",
)
def logaddexp_of_zero(x: Any) -> Any:
    """log(exp(x) + exp(0))."""
    import torch

    return torch.logaddexp(x, torch.zeros_like(x))


# --- binary cross-entropy -------------------------------------------------------------------


@implementation(
    op="sigmoid_cross_entropy",
    framework="torch",
    name="torch.nn.functional.binary_cross_entropy_with_logits",
    without=("pos_weight",),
    url=_BCE,
)
def binary_cross_entropy(x: Any, target: Any) -> Any:
    """The built-in without weights."""
    import torch

    return torch.nn.functional.binary_cross_entropy_with_logits(x, target, reduction="none")


@implementation(
    op="sigmoid_cross_entropy",
    framework="torch",
    name="torch.nn.functional.binary_cross_entropy_with_logits.pos_weight",
    url=_BCE,
)
def weighted_binary_cross_entropy(x: Any, target: Any, pos_weight: Any) -> Any:
    """The built-in with weights of positive targets."""
    import torch

    return torch.nn.functional.binary_cross_entropy_with_logits(
        x, target, reduction="none", pos_weight=pos_weight
    )


@implementation(
    op="sigmoid_cross_entropy",
    framework="torch",
    name="torch.nn.functional.softplus.minus_x_z",
    variant="composition",
    without=("pos_weight",),
    url=f"{_GENERATED}torch.nn.functional.softplus.html",
)
def softplus_minus_x_z(x: Any, target: Any) -> Any:
    """softplus(x) - x z."""
    import torch

    return torch.nn.functional.softplus(x) - x * target


@implementation(
    op="sigmoid_cross_entropy",
    framework="torch",
    name="torch.nn.functional.softplus.of_both_signs",
    variant="composition",
    url=f"{_GENERATED}torch.nn.functional.softplus.html",
)
def softplus_of_both_signs(x: Any, target: Any, pos_weight: Any) -> Any:
    """w z softplus(-x) + (1 - z) softplus(x): a sum of losses, nothing cancels."""
    import torch

    positive = torch.nn.functional.softplus(-x)
    negative = torch.nn.functional.softplus(x)
    return pos_weight * target * positive + (1 - target) * negative


# --- logaddexp ------------------------------------------------------------------------------


@implementation(
    op="logaddexp",
    framework="torch",
    name="torch.logaddexp",
    url=f"{_GENERATED}torch.logaddexp.html",
)
def logaddexp(x: Any, y: Any) -> Any:
    """The built-in."""
    import torch

    return torch.logaddexp(x, y)
