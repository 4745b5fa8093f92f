"""JAX: compositions that people write and that are known to be unsound."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from conformance.implementations.common import CLIP, antipatterns
from conformance.registry import implementation

__all__: list[str] = []

_JAX = "https://docs.jax.dev/en/latest/_autosummary/"

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


# --- the functions of jax.scipy.special that take probabilities, and logsumexp of two --------


@_antipattern("categorical_entropy", "entr_of_softmax", url=f"{_JAX}jax.scipy.special.entr.html")
def entr_of_softmax(x: Any, *, axis: int = -1) -> Any:
    """Right values; the derivative is 0 times log 0 as soon as a probability underflows."""
    import jax
    import jax.numpy as jnp

    return jnp.sum(jax.scipy.special.entr(jax.nn.softmax(x, axis=axis)), axis=axis)


@_antipattern("kl_divergence", "rel_entr_of_softmax", url=f"{_JAX}jax.scipy.special.rel_entr.html")
def rel_entr_of_softmax(x: Any, y: Any, *, axis: int = -1) -> Any:
    """Infinite as soon as a probability of y underflows and that of x does not."""
    import jax
    import jax.numpy as jnp

    p, q = jax.nn.softmax(x, axis=axis), jax.nn.softmax(y, axis=axis)
    return jnp.sum(jax.scipy.special.rel_entr(p, q), axis=axis)


@_antipattern("kl_divergence", "kl_div_of_softmax", url=f"{_JAX}jax.scipy.special.kl_div.html")
def kl_div_of_softmax(x: Any, y: Any, *, axis: int = -1) -> Any:
    """The same with -p + q in every term, which add up to 0."""
    import jax
    import jax.numpy as jnp

    p, q = jax.nn.softmax(x, axis=axis), jax.nn.softmax(y, axis=axis)
    return jnp.sum(jax.scipy.special.kl_div(p, q), axis=axis)


@_antipattern("logaddexp", "logsumexp_of_two", url=f"{_JAX}jax.nn.logsumexp.html")
def logsumexp_of_two(x: Any, y: Any) -> Any:
    """log(1 + t) where logaddexp has log1p(t): every digit is lost beside a maximum near 0."""
    import jax
    import jax.numpy as jnp

    return jax.nn.logsumexp(jnp.stack([x, y]), axis=0)
