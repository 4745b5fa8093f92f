"""JAX: compositions that people write and that are known to be unsound."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from conformance.implementations.common import CLIP, antipatterns
from conformance.registry import implementation

__all__: list[str] = []

Function = Callable[..., Any]


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


def _antipattern(op: str, what: str, **options: Any) -> Callable[[Function], Function]:
    return implementation(
        op=op,
        framework="jax",
        name=f"antipattern.jax.{what}",
        role="antipattern",
        variant="composition",
        **options,
    )


@_antipattern("log_softmax", "log_of_softmax_values")
def log_of_softmax_values(x: Any, *, axis: int = -1) -> Any:
    """The logarithm of a probability that has underflowed to 0."""
    import jax
    import jax.numpy as jnp

    return jnp.log(jax.nn.softmax(x, axis=axis))


@_antipattern("log_softmax", "x_minus_logsumexp")
def x_minus_logsumexp(x: Any, *, axis: int = -1) -> Any:
    """Not shift-invariant: both are rounded at the size of the logits."""
    import jax

    return x - jax.nn.logsumexp(x, axis=axis, keepdims=True)


@_antipattern("log_sigmoid", "log_of_sigmoid")
def log_of_sigmoid(x: Any) -> Any:
    """-inf as soon as the sigmoid underflows, and 0 for every x beyond -log u."""
    import jax
    import jax.numpy as jnp

    return jnp.log(jax.nn.sigmoid(x))


@_antipattern("softplus", "log_of_one_plus_exp")
def log_of_one_plus_exp(x: Any) -> Any:
    """Overflows beyond log(max), and is 0 below log u."""
    import jax.numpy as jnp

    return jnp.log(1 + jnp.exp(x))


@_antipattern("sigmoid_cross_entropy", "max_abs_bce", without=("pos_weight",))
def max_abs_bce(x: Any, target: Any) -> Any:
    """Right values; at x = 0 its derivative depends on what max and abs are given there."""
    import jax.numpy as jnp

    return jnp.maximum(x, 0) - x * target + jnp.log1p(jnp.exp(-jnp.abs(x)))


@_antipattern("masked_softmax", "masked_by_minus_1e9")
def masked_by_minus_1e9(x: Any, mask: Any, *, axis: int = -1) -> Any:
    """Uniform where nothing is kept, wrong where a kept logit is lower, -inf in float16."""
    import jax
    import jax.numpy as jnp

    return jax.nn.softmax(jnp.where(mask, x, -1e9), axis=axis)


@_antipattern("logsumexp", "unshifted_logsumexp")
def unshifted_logsumexp(x: Any, *, axis: int = -1) -> Any:
    """Overflows as soon as a logit passes log(max)."""
    import jax.numpy as jnp

    return jnp.log(jnp.sum(jnp.exp(x), axis=axis))


@_antipattern("categorical_entropy", "p_log_p_entropy")
def p_log_p_entropy(x: Any, *, axis: int = -1) -> Any:
    """0 times -inf as soon as a probability underflows."""
    import jax
    import jax.numpy as jnp

    p = jax.nn.softmax(x, axis=axis)
    return -jnp.sum(p * jnp.log(p), axis=axis)
