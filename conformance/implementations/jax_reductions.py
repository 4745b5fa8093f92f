"""JAX: what the compositions of cross-entropy share for class weights, smoothing, ignored rows and
reductions.

Nothing is registered here; `conformance.implementations.jax_compositions` and ``optax`` use it.
"""

from __future__ import annotations

from typing import Any

__all__ = ["class_of", "counting", "hard_losses", "reduced"]


def class_of(label: Any, n: int) -> Any:
    """Labels as JAX's natural integer, n in place of what names no class: gathers give NaN there,
    where they would count negative labels from the end and cut others off after 32 bits."""
    import jax.numpy as jnp

    # What does not fit, such as the top half of uint32, becomes negative.
    wide = label.astype(jnp.asarray(0).dtype)
    return jnp.where((wide < 0) | (wide >= n), n, wide)


def counting(label: Any, ignore_index: int | None) -> Any:
    """The rows that are not ignored."""
    import jax.numpy as jnp

    info = jnp.iinfo(label.dtype)
    if ignore_index is None or not info.min <= ignore_index <= info.max:
        return jnp.ones(label.shape, bool)
    return label != ignore_index


def hard_losses(log_p: Any, k: Any, weight: Any, label_smoothing: float) -> tuple[Any, Any]:
    """-(1 - a) w_k l_k - a / C sum w l of log-probabilities with the classes last, and w_k."""
    import jax.numpy as jnp

    n = log_p.shape[-1]
    at_label = -jnp.take_along_axis(log_p, k[..., None], axis=-1)[..., 0]
    of_label = jnp.ones_like(at_label) if weight is None else jnp.take(weight, k)
    losses = at_label if weight is None else of_label * at_label
    if label_smoothing:
        # A class of weight 0 contributes 0, also at -inf.
        every = log_p if weight is None else jnp.where(weight == 0, 0, weight * log_p)
        smooth = jnp.sum(every, axis=-1)
        losses = (1 - label_smoothing) * losses - label_smoothing / n * smooth
    return losses, of_label


def reduced(losses: Any, weights: Any, reduction: str) -> Any:
    """The losses, their sum or their mean over weights that add up to something."""
    import jax.numpy as jnp

    if reduction == "none":
        return losses
    total = jnp.sum(losses)
    return total / jnp.sum(weights) if reduction == "mean" else total
