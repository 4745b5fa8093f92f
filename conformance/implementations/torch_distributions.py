"""PyTorch on whole distributions: masked softmax, entropy, Kullback-Leibler divergence.

`torch.distributions` checks its arguments by default and raises on infinite logits; the contract
has answers for them, so the check is switched off.
"""

from __future__ import annotations

from typing import Any

from conformance.registry import implementation

__all__: list[str] = []

_DOCS = "https://docs.pytorch.org/docs/stable/"
_GENERATED = f"{_DOCS}generated/"
_SOFTMAX = f"{_GENERATED}torch.nn.functional.softmax.html"
_LOG_SOFTMAX = f"{_GENERATED}torch.nn.functional.log_softmax.html"


# --- masked softmax -------------------------------------------------------------------------


@implementation(
    op="masked_softmax",
    framework="torch",
    name="torch.masked.softmax",
    url=f"{_DOCS}masked.html",
)
def masked_softmax(x: Any, mask: Any, *, axis: int = -1) -> Any:
    """The built-in of masked tensors (a prototype); what it leaves out holds anything."""
    import torch

    return torch.masked.softmax(x, axis, mask=mask).masked_fill(~mask, 0.0)


@implementation(
    op="masked_softmax",
    framework="torch",
    name="torch.nn.functional.softmax.masked_fill",
    variant="composition",
    url=_SOFTMAX,
)
def softmax_of_masked_fill(x: Any, mask: Any, *, axis: int = -1) -> Any:
    """Dropped logits are -inf: what attention layers do."""
    import torch

    return torch.nn.functional.softmax(x.masked_fill(~mask, -torch.inf), dim=axis)


@implementation(
    op="masked_softmax",
    framework="torch",
    name="torch.nn.functional.softmax.masked_fill_both_ways",
    variant="composition",
    url=_SOFTMAX,
)
def softmax_of_masked_fill_both_ways(x: Any, mask: Any, *, axis: int = -1) -> Any:
    """Rows of which nothing is kept are finite inside, and every dropped result is 0."""
    import torch

    nothing = ~mask.any(dim=axis, keepdim=True)
    filled = x.masked_fill(~mask, -torch.inf).masked_fill(nothing, 0.0)
    return torch.nn.functional.softmax(filled, dim=axis).masked_fill(~mask, 0.0)


# --- entropy --------------------------------------------------------------------------------


@implementation(
    op="categorical_entropy",
    framework="torch",
    name="torch.distributions.Categorical.entropy",
    url=f"{_DOCS}distributions.html#torch.distributions.categorical.Categorical",
)
def categorical_entropy(x: Any, *, axis: int = -1) -> Any:
    """The method of the built-in distribution."""
    import torch

    logits = x.movedim(axis, -1)
    return torch.distributions.Categorical(logits=logits, validate_args=False).entropy()


@implementation(
    op="categorical_entropy",
    framework="torch",
    name="torch.nn.functional.log_softmax.entropy",
    variant="composition",
    url=_LOG_SOFTMAX,
)
def entropy_of_log_softmax(x: Any, *, axis: int = -1) -> Any:
    """-sum exp(l) l, in which a probability of 0 contributes 0."""
    import torch

    l = torch.nn.functional.log_softmax(x, dim=axis)  # noqa: E741 - the contract's name
    p = l.exp()
    return -(p * l.masked_fill(p == 0, 0.0)).sum(dim=axis)


# --- Kullback-Leibler divergence ------------------------------------------------------------


@implementation(
    op="kl_divergence",
    framework="torch",
    name="torch.distributions.kl_divergence",
    url=f"{_DOCS}distributions.html#torch.distributions.kl.kl_divergence",
)
def kl_divergence(x: Any, y: Any, *, axis: int = -1) -> Any:
    """The built-in for two ``Categorical``."""
    import torch
    from torch.distributions import Categorical

    p = Categorical(logits=x.movedim(axis, -1), validate_args=False)
    q = Categorical(logits=y.movedim(axis, -1), validate_args=False)
    return torch.distributions.kl_divergence(p, q)


@implementation(
    op="kl_divergence",
    framework="torch",
    name="torch.nn.functional.kl_div",
    url=f"{_GENERATED}torch.nn.functional.kl_div.html",
)
def kl_div(x: Any, y: Any, *, axis: int = -1) -> Any:
    """The built-in, which takes log-probabilities, y's first."""
    import torch

    log_p = torch.nn.functional.log_softmax(x, dim=axis)
    log_q = torch.nn.functional.log_softmax(y, dim=axis)
    each = torch.nn.functional.kl_div(log_q, log_p, log_target=True, reduction="none")
    return each.sum(dim=axis)


@implementation(
    op="kl_divergence",
    framework="torch",
    name="torch.nn.functional.log_softmax.kl_divergence",
    variant="composition",
    url=_LOG_SOFTMAX,
)
def kl_of_log_softmax(x: Any, y: Any, *, axis: int = -1) -> Any:
    """sum exp(l(x)) (l(x) - l(y)), in which a probability of 0 contributes 0."""
    import torch

    log_p = torch.nn.functional.log_softmax(x, dim=axis)
    log_q = torch.nn.functional.log_softmax(y, dim=axis)
    p = log_p.exp()
    difference = torch.where(p == 0, 0.0, log_p - log_q)
    return (p * difference).sum(dim=axis)
