"""PyTorch's ops on rows of logits: built-ins and sound compositions."""

from __future__ import annotations

from typing import Any

from conformance.registry import implementation

__all__: list[str] = []

_DOCS = "https://docs.pytorch.org/docs/stable/generated/"
_SPECIAL = "https://docs.pytorch.org/docs/stable/special.html"

NO_IGNORED_INDEX = -(2**63) + 1
"""The contract ignores no label by default, PyTorch ignores -100: a label that hardly occurs."""

LABELS = ("int64",)
"""What PyTorch documents for class indices; it takes bytes in some of its kernels, too."""


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
    op="log_softmax",
    framework="torch",
    name="torch.special.log_softmax",
    url=f"{_SPECIAL}#torch.special.log_softmax",
)
def special_log_softmax(x: Any, *, axis: int = -1) -> Any:
    """The same kernel under SciPy's name."""
    import torch

    return torch.special.log_softmax(x, axis)


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


# --- cross-entropies ------------------------------------------------------------------------


def _classes_second(x: Any, axis: int) -> Any:
    """``cross_entropy`` wants the classes in axis 1, or a single axis."""
    return x.movedim(axis, 1) if x.dim() > 1 else x


def _in_the_middle(x: Any, axis: int) -> Any:
    """Rows as (rows, classes, 1): the layout of segmentation, which has kernels of its own."""
    rows = x.movedim(axis, -1)
    return rows.reshape(rows.shape[:-1].numel(), rows.shape[-1], 1)


@implementation(
    op="softmax_cross_entropy",
    framework="torch",
    name="torch.nn.functional.cross_entropy.probabilities",
    url=f"{_DOCS}torch.nn.functional.cross_entropy.html",
    parameters=("reduction", "weight", "label_smoothing"),
)
def softmax_cross_entropy(
    x: Any,
    target: Any,
    *,
    weight: Any = None,
    label_smoothing: float = 0.0,
    reduction: str = "none",
    axis: int = -1,
) -> Any:
    """The built-in with class probabilities."""
    import torch

    return torch.nn.functional.cross_entropy(
        _classes_second(x, axis),
        _classes_second(target, axis),
        weight=weight,
        label_smoothing=label_smoothing,
        reduction=reduction,
    )


@implementation(
    op="softmax_cross_entropy",
    framework="torch",
    name="torch.nn.functional.cross_entropy.probabilities.middle",
    url=f"{_DOCS}torch.nn.functional.cross_entropy.html",
)
def softmax_cross_entropy_in_the_middle(x: Any, target: Any, *, axis: int = -1) -> Any:
    """The built-in with class probabilities, the classes in the middle."""
    import torch

    losses = torch.nn.functional.cross_entropy(
        _in_the_middle(x, axis), _in_the_middle(target, axis), reduction="none"
    )
    return losses.reshape(x.movedim(axis, -1).shape[:-1])


@implementation(
    op="sparse_softmax_cross_entropy",
    framework="torch",
    name="torch.nn.functional.cross_entropy.indices",
    url=f"{_DOCS}torch.nn.functional.cross_entropy.html",
    parameters=("reduction", "weight", "ignore_index", "label_smoothing"),
    label_dtypes=LABELS,
)
def sparse_softmax_cross_entropy(
    x: Any,
    label: Any,
    *,
    weight: Any = None,
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    reduction: str = "none",
    axis: int = -1,
) -> Any:
    """The built-in with class indices, none of them ignored unless that is asked for."""
    import torch

    return torch.nn.functional.cross_entropy(
        _classes_second(x, axis),
        label,
        weight=weight,
        ignore_index=NO_IGNORED_INDEX if ignore_index is None else ignore_index,
        label_smoothing=label_smoothing,
        reduction=reduction,
    )


@implementation(
    op="sparse_softmax_cross_entropy",
    framework="torch",
    name="torch.nn.functional.cross_entropy.indices.middle",
    url=f"{_DOCS}torch.nn.functional.cross_entropy.html",
    label_dtypes=LABELS,
)
def sparse_softmax_cross_entropy_in_the_middle(x: Any, label: Any, *, axis: int = -1) -> Any:
    """The built-in with class indices, the classes in the middle."""
    import torch

    losses = torch.nn.functional.cross_entropy(
        _in_the_middle(x, axis),
        label.reshape(label.numel(), 1),
        reduction="none",
        ignore_index=NO_IGNORED_INDEX,
    )
    return losses.reshape(label.shape)


@implementation(
    op="sparse_softmax_cross_entropy",
    framework="torch",
    name="torch.nn.functional.nll_loss",
    variant="composition",
    url=f"{_DOCS}torch.nn.functional.nll_loss.html",
    parameters=("reduction", "weight", "ignore_index"),
    label_dtypes=LABELS,
)
def nll_loss(
    x: Any,
    label: Any,
    *,
    weight: Any = None,
    ignore_index: int | None = None,
    reduction: str = "none",
    axis: int = -1,
) -> Any:
    """log_softmax, then ``nll_loss``: the two halves of ``cross_entropy``."""
    import torch

    return torch.nn.functional.nll_loss(
        _classes_second(torch.nn.functional.log_softmax(x, dim=axis), axis),
        label,
        weight=weight,
        ignore_index=NO_IGNORED_INDEX if ignore_index is None else ignore_index,
        reduction=reduction,
    )


@implementation(
    op="sparse_softmax_cross_entropy",
    framework="torch",
    name="torch.nn.functional.log_softmax.gather",
    variant="composition",
    url=f"{_DOCS}torch.gather.html",
    label_dtypes=LABELS,
)
def gather_of_log_softmax(x: Any, label: Any, *, axis: int = -1) -> Any:
    """The log-probability at the label."""
    import torch

    log_p = torch.nn.functional.log_softmax(x, dim=axis)
    return -log_p.gather(axis, label.unsqueeze(axis)).squeeze(axis)
