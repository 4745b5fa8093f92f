"""Optax: its losses. JAX itself has none; beside logits some take (log-)probabilities."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from conformance.implementations.jax_reductions import counting, reduced
from conformance.registry import implementation

__all__: list[str] = []

_URL = "https://optax.readthedocs.io/en/latest/api/losses.html#optax.losses."

Function = Callable[..., Any]


def _loss(op: str, name: str, **options: Any) -> Callable[[Function], Function]:
    return implementation(
        op=op,
        framework="jax",
        name=f"optax.losses.{name}",
        url=f"{_URL}{name}",
        requires=("optax",),
        **options,
    )


@_loss("softmax_cross_entropy", "softmax_cross_entropy",
       parameters=("reduction", "label_smoothing"))  # fmt: skip
def softmax_cross_entropy(
    x: Any,
    target: Any,
    *,
    label_smoothing: float = 0.0,
    reduction: str = "none",
    axis: int = -1,
) -> Any:
    """The sum of target times log_softmax; ``smooth_labels`` and ``mean`` around it."""
    import jax.numpy as jnp
    import optax

    if label_smoothing:
        target = jnp.moveaxis(
            optax.losses.smooth_labels(jnp.moveaxis(target, axis, -1), label_smoothing), -1, axis
        )
    losses = optax.losses.softmax_cross_entropy(x, target, axis=axis)
    return reduced(losses, jnp.ones_like(losses), reduction)


@_loss("softmax_cross_entropy", "safe_softmax_cross_entropy")
def safe_softmax_cross_entropy(x: Any, target: Any, *, axis: int = -1) -> Any:
    """The same, where a target of 0 contributes 0; of the last axis only."""
    import jax.numpy as jnp
    import optax

    return optax.losses.safe_softmax_cross_entropy(
        jnp.moveaxis(x, axis, -1), jnp.moveaxis(target, axis, -1)
    )


@_loss("sparse_softmax_cross_entropy", "softmax_cross_entropy_with_integer_labels",
       parameters=("reduction", "ignore_index"))  # fmt: skip
def sparse_softmax_cross_entropy(
    x: Any,
    label: Any,
    *,
    ignore_index: int | None = None,
    reduction: str = "none",
    axis: int = -1,
) -> Any:
    """logsumexp minus the logit of the label; ``where`` leaves ignored rows out."""
    import jax.numpy as jnp
    import optax

    counts = counting(label, ignore_index)
    losses = optax.losses.softmax_cross_entropy_with_integer_labels(
        x, label, axis=axis, where=None if ignore_index is None else counts
    )
    return reduced(losses, jnp.where(counts, 1, jnp.zeros((), x.dtype)), reduction)


@_loss("sigmoid_cross_entropy", "sigmoid_binary_cross_entropy", without=("pos_weight",))
def sigmoid_cross_entropy(x: Any, target: Any) -> Any:
    """Both terms by log_sigmoid."""
    import optax

    return optax.losses.sigmoid_binary_cross_entropy(x, target)


@_loss("kl_divergence", "kl_divergence", variant="composition")
def kl_divergence(x: Any, y: Any, *, axis: int = -1) -> Any:
    """Of log-probabilities and probabilities, as its documentation asks."""
    import jax
    import optax

    return optax.losses.kl_divergence(
        jax.nn.log_softmax(y, axis=axis), jax.nn.softmax(x, axis=axis), axis=axis
    )


@_loss("kl_divergence", "generalized_kl_divergence", variant="composition")
def generalized_kl_divergence(x: Any, y: Any, *, axis: int = -1) -> Any:
    """The same plus sum q - sum p, which is 0 here; ``convex_kl_divergence`` is its old name."""
    import jax
    import optax

    return optax.losses.generalized_kl_divergence(
        jax.nn.log_softmax(y, axis=axis), jax.nn.softmax(x, axis=axis), axis=axis
    )


@_loss("kl_divergence", "kl_divergence_with_log_targets", variant="composition")
def kl_divergence_with_log_targets(x: Any, y: Any, *, axis: int = -1) -> Any:
    """Of log-probabilities both."""
    import jax
    import optax

    return optax.losses.kl_divergence_with_log_targets(
        jax.nn.log_softmax(y, axis=axis), jax.nn.log_softmax(x, axis=axis), axis=axis
    )
