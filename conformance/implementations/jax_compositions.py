"""JAX: losses and the like put together from its built-ins, claimed to be sound."""

from __future__ import annotations

import functools
from typing import Any

from conformance.implementations.jax_reductions import (
    class_of,
    counting,
    hard_losses,
    reduced,
)
from conformance.registry import implementation

__all__: list[str] = []

_JAX = "https://docs.jax.dev/en/latest/_autosummary/"


@functools.cache
def _weighted() -> Any:
    """t l with 0 where t is 0 and the row sound (without a NaN), and its derivatives.

    A plain ``where`` has the right value, but its derivative to t is 0 there instead of l. What
    has no tangent adds nothing, lest l = -inf meets a tangent of zeros.
    """
    import jax
    import jax.numpy as jnp

    absent = jax.custom_derivatives.SymbolicZero

    def product(t: Any, log_p: Any, sound: Any) -> Any:
        return jnp.where((t == 0) & sound, 0, t * log_p)

    def derivative(primals: Any, tangents: Any) -> Any:
        t, log_p, _ = primals
        t_dot, l_dot, _ = tangents
        value = product(*primals)
        terms = [a * b for a, b in ((log_p, t_dot), (t, l_dot)) if not isinstance(b, absent)]
        return value, sum(terms[1:], terms[0]) if terms else jnp.zeros_like(value)

    weighted = jax.custom_jvp(product)
    weighted.defjvp(derivative, symbolic_zeros=True)
    return weighted


@implementation(
    op="softmax_cross_entropy",
    framework="jax",
    name="jax.nn.log_softmax.weighted_sum",
    variant="composition",
    url=f"{_JAX}jax.nn.log_softmax.html",
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
    """-sum t log_softmax(x), where t = 0 contributes 0 whatever l is, but hides no NaN in x."""
    import jax
    import jax.numpy as jnp

    if label_smoothing:
        target = (1 - label_smoothing) * target + label_smoothing / x.shape[axis]
    if weight is not None:
        target = target * jnp.moveaxis(jnp.expand_dims(weight, range(x.ndim - 1)), -1, axis)
    sound = ~jnp.any(jnp.isnan(x), axis=axis, keepdims=True)
    terms = _weighted()(target, jax.nn.log_softmax(x, axis=axis), sound)
    losses = -jnp.sum(terms, axis=axis)
    return reduced(losses, jnp.ones_like(losses), reduction)


@implementation(
    op="sparse_softmax_cross_entropy",
    framework="jax",
    name="jax.nn.log_softmax.gather",
    variant="composition",
    url=f"{_JAX}jax.nn.log_softmax.html",
    parameters=("reduction", "weight", "ignore_index", "label_smoothing"),
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
    """-log_softmax(x) at the label; ignored rows are taken out of x before anything else."""
    import jax
    import jax.numpy as jnp

    rows, k = jnp.moveaxis(x, axis, -1), class_of(label, x.shape[axis])
    counts = counting(label, ignore_index)
    rows, k = jnp.where(counts[..., None], rows, 0), jnp.where(counts, k, 0)
    losses, weights = hard_losses(jax.nn.log_softmax(rows), k, weight, label_smoothing)
    zero = jnp.zeros((), x.dtype)
    return reduced(jnp.where(counts, losses, zero), jnp.where(counts, weights, zero), reduction)


@implementation(
    op="masked_softmax",
    framework="jax",
    name="jax.nn.log_softmax.where_exp",
    variant="composition",
    url=f"{_JAX}jax.nn.log_softmax.html",
)
def masked_softmax(x: Any, mask: Any, *, axis: int = -1) -> Any:
    """exp of log_softmax with its own mask, which makes -inf of what is dropped."""
    import jax
    import jax.numpy as jnp

    return jnp.exp(jax.nn.log_softmax(x, axis=axis, where=mask))


@implementation(
    op="categorical_entropy",
    framework="jax",
    name="jax.nn.log_softmax.entropy",
    variant="composition",
    url=f"{_JAX}jax.nn.log_softmax.html",
)
def categorical_entropy(x: Any, *, axis: int = -1) -> Any:
    """-sum exp(l) l; l is replaced before -inf or a huge l meets a 0, in derivatives too."""
    import jax
    import jax.numpy as jnp

    log_p = jax.nn.log_softmax(x, axis=axis)
    p = jnp.exp(log_p)
    return -jnp.sum(p * jnp.where(p == 0, 0, log_p), axis=axis)


@implementation(
    op="kl_divergence",
    framework="jax",
    name="jax.nn.log_softmax.kl",
    variant="composition",
    url=f"{_JAX}jax.nn.log_softmax.html",
)
def kl_divergence(x: Any, y: Any, *, axis: int = -1) -> Any:
    """sum exp(l) (l - l'); an entry without probability counts 0 unless it makes an infinity."""
    import jax
    import jax.numpy as jnp

    log_p, other = jax.nn.log_softmax(x, axis=axis), jax.nn.log_softmax(y, axis=axis)
    p = jnp.exp(log_p)
    # Masked in x, or underflowed beside a finite difference; a NaN of y is never hidden.
    nothing = (p == 0) & ((jnp.isneginf(log_p) & ~jnp.isnan(other)) | jnp.isfinite(log_p - other))
    return jnp.sum(p * jnp.where(nothing, 0, log_p - other), axis=axis)


@implementation(
    op="sigmoid_cross_entropy",
    framework="jax",
    name="jax.nn.softplus.two_terms",
    variant="composition",
    url=f"{_JAX}jax.nn.softplus.html",
)
def sigmoid_cross_entropy(x: Any, target: Any, pos_weight: Any) -> Any:
    """w z softplus(-x) + (1 - z) softplus(x); a weight of 0 contributes 0 at infinity too."""
    import jax
    import jax.numpy as jnp

    weighted, sound = _weighted(), ~jnp.isnan(x)
    log_loss = jax.nn.softplus(-x)
    # Where w is 0 an infinite loss counts 0, to the target as well.
    log_loss = jnp.where((pos_weight == 0) & jnp.isposinf(log_loss), 0, log_loss)
    positive = weighted(pos_weight, weighted(target, log_loss, sound), sound)
    return positive + weighted(1 - target, jax.nn.softplus(x), sound)


@implementation(
    op="sigmoid_cross_entropy",
    framework="jax",
    name="jax.nn.softplus.minus_xz",
    variant="composition",
    url=f"{_JAX}jax.nn.softplus.html",
    without=("pos_weight",),
)
def sigmoid_cross_entropy_unweighted(x: Any, target: Any) -> Any:
    """softplus(x) - x z."""
    import jax

    return jax.nn.softplus(x) - x * target
