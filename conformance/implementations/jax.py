"""JAX: its built-ins, a control and mutants."""

from __future__ import annotations

import functools
from typing import Any

from conformance.implementations.common import control, mutants
from conformance.implementations.jax_reductions import counting, hard_losses, reduced
from conformance.registry import implementation

__all__: list[str] = []

_JAX = "https://docs.jax.dev/en/latest/_autosummary/"


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
    """The built-in."""
    import jax

    return jax.nn.logsumexp(x, axis=axis)


@implementation(
    op="logsumexp",
    framework="jax",
    name="jax.scipy.special.logsumexp",
    url=f"{_JAX}jax.scipy.special.logsumexp.html",
)
def scipy_logsumexp(x: Any, *, axis: int = -1) -> Any:
    """The same function as ``jax.nn.logsumexp`` by its other public name."""
    import jax

    return jax.scipy.special.logsumexp(x, axis=axis)


@implementation(
    op="masked_softmax",
    framework="jax",
    name="jax.nn.softmax.where",
    url=f"{_JAX}jax.nn.softmax.html",
)
def masked_softmax(x: Any, mask: Any, *, axis: int = -1) -> Any:
    """The built-in's own mask (this version's signature has no ``initial``)."""
    import jax

    return jax.nn.softmax(x, axis=axis, where=mask)


@implementation(
    op="sigmoid", framework="jax", name="jax.nn.sigmoid", url=f"{_JAX}jax.nn.sigmoid.html"
)
def sigmoid(x: Any) -> Any:
    """The built-in."""
    import jax

    return jax.nn.sigmoid(x)


@implementation(
    op="sigmoid",
    framework="jax",
    name="jax.scipy.special.expit",
    url=f"{_JAX}jax.scipy.special.expit.html",
)
def expit(x: Any) -> Any:
    """SciPy's name for it."""
    import jax

    return jax.scipy.special.expit(x)


@implementation(
    op="log_sigmoid",
    framework="jax",
    name="jax.nn.log_sigmoid",
    url=f"{_JAX}jax.nn.log_sigmoid.html",
)
def log_sigmoid(x: Any) -> Any:
    """The built-in, -softplus(-x)."""
    import jax

    return jax.nn.log_sigmoid(x)


@implementation(
    op="softplus", framework="jax", name="jax.nn.softplus", url=f"{_JAX}jax.nn.softplus.html"
)
def softplus(x: Any) -> Any:
    """The built-in, logaddexp(x, 0)."""
    import jax

    return jax.nn.softplus(x)


@implementation(
    op="logaddexp",
    framework="jax",
    name="jax.numpy.logaddexp",
    url=f"{_JAX}jax.numpy.logaddexp.html",
)
def logaddexp(x: Any, y: Any) -> Any:
    """The built-in."""
    import jax.numpy as jnp

    return jnp.logaddexp(x, y)


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
        log_p, target = kept
        g = jnp.expand_dims(g, axis)
        return g * (jnp.exp(log_p) - target), -g * log_p

    loss = jax.custom_vjp(value)
    loss.defvjp(forward, backward)
    return loss


def _softmax_minus_target(x: Any, target: Any, *, axis: int = -1) -> Any:
    return _minus_target(axis)(x, target)


def _mean_of_all(
    x: Any, label: Any, *, ignore_index: int | None = None, reduction: str = "none", axis: int = -1
) -> Any:
    import jax
    import jax.numpy as jnp

    counts = counting(label, ignore_index)
    rows = jnp.where(counts[..., None], jnp.moveaxis(x, axis, -1), 0)
    losses, _ = hard_losses(jax.nn.log_softmax(rows), jnp.where(counts, label, 0), None, 0.0)
    losses = jnp.where(counts, losses, 0)
    return reduced(losses, jnp.ones_like(losses), reduction)


def _last_axis_softmax(x: Any, *, axis: int = -1) -> Any:
    return softmax(x, axis=axis if x.ndim <= 2 else -1)


def _shared_maximum_softmax(x: Any, *, axis: int = -1) -> Any:
    return _unshifted_softmax(x - x.max(), axis=axis)


mutants(
    "jax",
    unshifted_softmax=_unshifted_softmax,
    softmax_minus_target=_softmax_minus_target,
    mean_of_all=_mean_of_all,
    last_axis_softmax=_last_axis_softmax,
    shared_maximum_softmax=_shared_maximum_softmax,
)
