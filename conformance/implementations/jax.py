"""JAX: its built-ins, Optax's losses, a composition, antipatterns, a control and mutants."""

from __future__ import annotations

import functools
from typing import Any

from conformance.implementations.common import CLIP, antipatterns, control, mutants
from conformance.registry import implementation

__all__: list[str] = []

_JAX = "https://docs.jax.dev/en/latest/_autosummary/"
_OPTAX = "https://optax.readthedocs.io/en/latest/api/losses.html"


@implementation(
    op="softmax", framework="jax", name="jax.nn.softmax", url=f"{_JAX}jax.nn.softmax.html"
)
def softmax(x: Any, *, axis: int = -1) -> Any:
    """The built-in."""
    import jax

    return jax.nn.softmax(x, axis=axis)


@implementation(
    op="log_softmax",
    framework="jax",
    name="jax.nn.log_softmax",
    url=f"{_JAX}jax.nn.log_softmax.html",
)
def log_softmax(x: Any, *, axis: int = -1) -> Any:
    """The built-in."""
    import jax

    return jax.nn.log_softmax(x, axis=axis)


@implementation(
    op="logsumexp",
    framework="jax",
    name="jax.nn.logsumexp",
    url=f"{_JAX}jax.nn.logsumexp.html",
)
def logsumexp(x: Any, *, axis: int = -1) -> Any:
    """The built-in; ``jax.scipy.special.logsumexp`` is the same function."""
    import jax

    return jax.nn.logsumexp(x, axis=axis)


@implementation(
    op="softmax_cross_entropy",
    framework="jax",
    name="optax.losses.softmax_cross_entropy",
    url=f"{_OPTAX}#optax.losses.softmax_cross_entropy",
    requires=("optax",),
)
def softmax_cross_entropy(x: Any, target: Any, *, axis: int = -1) -> Any:
    """Optax's; JAX itself has no cross-entropy."""
    import optax

    return optax.losses.softmax_cross_entropy(x, target, axis=axis)


@implementation(
    op="sparse_softmax_cross_entropy",
    framework="jax",
    name="optax.losses.softmax_cross_entropy_with_integer_labels",
    url=f"{_OPTAX}#optax.losses.softmax_cross_entropy_with_integer_labels",
    requires=("optax",),
)
def sparse_softmax_cross_entropy(x: Any, label: Any, *, axis: int = -1) -> Any:
    """Optax's; JAX itself has no cross-entropy."""
    import optax

    return optax.losses.softmax_cross_entropy_with_integer_labels(x, label, axis=axis)


@functools.cache
def _weighted() -> Any:
    """t l with 0 where t is 0 in a row without a NaN, and the derivatives that belong to it.

    A plain ``where`` has the right value, but its derivative to t is 0 there instead of l.
    """
    import jax
    import jax.numpy as jnp

    def product(t: Any, l: Any, sound: Any) -> Any:  # noqa: E741 - the contract's name for it
        return jnp.where((t == 0) & sound, 0, t * l)

    def derivative(primals: Any, tangents: Any) -> Any:
        t, l, _ = primals  # noqa: E741
        t_dot, l_dot, _ = tangents
        return product(*primals), l * t_dot + t * l_dot

    weighted = jax.custom_jvp(product)
    weighted.defjvp(derivative)
    return weighted


@implementation(
    op="softmax_cross_entropy",
    framework="jax",
    name="jax.nn.log_softmax.weighted_sum",
    variant="composition",
    url=f"{_JAX}jax.nn.log_softmax.html",
)
def softmax_cross_entropy_composition(x: Any, target: Any, *, axis: int = -1) -> Any:
    """-sum t log_softmax(x), where t = 0 contributes 0 whatever l is, but hides no NaN in x."""
    import jax
    import jax.numpy as jnp

    sound = ~jnp.any(jnp.isnan(x), axis=axis, keepdims=True)
    terms = _weighted()(target, jax.nn.log_softmax(x, axis=axis), sound)
    return -jnp.sum(terms, axis=axis)


@implementation(
    op="sparse_softmax_cross_entropy",
    framework="jax",
    name="jax.nn.log_softmax.gather",
    variant="composition",
    url=f"{_JAX}jax.nn.log_softmax.html",
)
def sparse_softmax_cross_entropy_composition(x: Any, label: Any, *, axis: int = -1) -> Any:
    """-log_softmax(x) at the label."""
    import jax
    import jax.numpy as jnp

    l = jax.nn.log_softmax(x, axis=axis)  # noqa: E741 - the contract's name for it
    picked = jnp.take_along_axis(l, jnp.expand_dims(label, axis), axis=axis)
    return -jnp.squeeze(picked, axis=axis)


# --- hand-written cross-entropies -----------------------------------------------------------


def _log_of_softmax(x: Any, target: Any, *, axis: int = -1) -> Any:
    import jax
    import jax.numpy as jnp

    p = jax.nn.softmax(x, axis=axis)
    return -jnp.sum(target * jnp.log(p), axis=axis)


def _clipped_log_of_softmax(x: Any, target: Any, *, axis: int = -1) -> Any:
    import jax
    import jax.numpy as jnp

    p = jax.nn.softmax(x, axis=axis)
    return -jnp.sum(target * jnp.log(jnp.clip(p, CLIP, 1.0)), axis=axis)


antipatterns(
    "jax",
    log_of_softmax=_log_of_softmax,
    clipped_log_of_softmax=_clipped_log_of_softmax,
)


# --- control and mutants --------------------------------------------------------------------


def _answer(answer: Any, *, axis: int = -1) -> Any:
    return answer


control("jax", _answer)


def _unshifted_softmax(x: Any, *, axis: int = -1) -> Any:
    import jax.numpy as jnp

    e = jnp.exp(x)
    return e / jnp.sum(e, axis=axis, keepdims=True)


@functools.cache
def _minus_target(axis: int) -> Any:
    import jax
    import jax.numpy as jnp

    def value(x: Any, target: Any) -> Any:
        return -jnp.sum(target * jax.nn.log_softmax(x, axis=axis), axis=axis)

    def forward(x: Any, target: Any) -> Any:
        return value(x, target), (jax.nn.log_softmax(x, axis=axis), target)

    def backward(kept: Any, g: Any) -> Any:
        l, target = kept  # noqa: E741 - the contract's name for it
        g = jnp.expand_dims(g, axis)
        return g * (jnp.exp(l) - target), -g * l

    loss = jax.custom_vjp(value)
    loss.defvjp(forward, backward)
    return loss


def _softmax_minus_target(x: Any, target: Any, *, axis: int = -1) -> Any:
    return _minus_target(axis)(x, target)


mutants(
    "jax",
    unshifted_softmax=_unshifted_softmax,
    softmax_minus_target=_softmax_minus_target,
)
