"""TensorFlow: its built-ins, two antipatterns, a control and mutants."""

from __future__ import annotations

from typing import Any

from conformance.implementations.common import CLIP, antipatterns, control, mutants
from conformance.registry import implementation

__all__: list[str] = []

_DOCS = "https://www.tensorflow.org/api_docs/python/tf/"


@implementation(
    op="softmax", framework="tensorflow", name="tensorflow.nn.softmax", url=f"{_DOCS}nn/softmax"
)
def softmax(x: Any, *, axis: int = -1) -> Any:
    """The built-in."""
    import tensorflow as tf

    return tf.nn.softmax(x, axis=axis)


@implementation(
    op="log_softmax",
    framework="tensorflow",
    name="tensorflow.nn.log_softmax",
    url=f"{_DOCS}nn/log_softmax",
)
def log_softmax(x: Any, *, axis: int = -1) -> Any:
    """The built-in."""
    import tensorflow as tf

    return tf.nn.log_softmax(x, axis=axis)


@implementation(
    op="logsumexp",
    framework="tensorflow",
    name="tensorflow.math.reduce_logsumexp",
    url=f"{_DOCS}math/reduce_logsumexp",
)
def logsumexp(x: Any, *, axis: int = -1) -> Any:
    """The built-in."""
    import tensorflow as tf

    return tf.math.reduce_logsumexp(x, axis=axis)


@implementation(
    op="softmax_cross_entropy",
    framework="tensorflow",
    name="tensorflow.nn.softmax_cross_entropy_with_logits",
    url=f"{_DOCS}nn/softmax_cross_entropy_with_logits",
)
def softmax_cross_entropy(x: Any, target: Any, *, axis: int = -1) -> Any:
    """The built-in."""
    import tensorflow as tf

    return tf.nn.softmax_cross_entropy_with_logits(labels=target, logits=x, axis=axis)


@implementation(
    op="sparse_softmax_cross_entropy",
    framework="tensorflow",
    name="tensorflow.nn.sparse_softmax_cross_entropy_with_logits",
    url=f"{_DOCS}nn/sparse_softmax_cross_entropy_with_logits",
    label_dtypes=("int32", "int64"),
)
def sparse_softmax_cross_entropy(x: Any, label: Any, *, axis: int = -1) -> Any:
    """The built-in, which wants the classes last."""
    import tensorflow as tf

    rank = len(x.shape)
    axis %= rank
    if axis != rank - 1:
        x = tf.transpose(x, [*range(axis), *range(axis + 1, rank), axis])
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=label, logits=x)


@implementation(
    op="sigmoid",
    framework="tensorflow",
    name="tensorflow.math.sigmoid",
    url=f"{_DOCS}math/sigmoid",
)
def sigmoid(x: Any) -> Any:
    """The built-in."""
    import tensorflow as tf

    return tf.math.sigmoid(x)


@implementation(
    op="log_sigmoid",
    framework="tensorflow",
    name="tensorflow.math.log_sigmoid",
    url=f"{_DOCS}math/log_sigmoid",
)
def log_sigmoid(x: Any) -> Any:
    """The built-in, -softplus(-x)."""
    import tensorflow as tf

    return tf.math.log_sigmoid(x)


@implementation(
    op="softplus",
    framework="tensorflow",
    name="tensorflow.math.softplus",
    url=f"{_DOCS}math/softplus",
)
def softplus(x: Any) -> Any:
    """The built-in."""
    import tensorflow as tf

    return tf.math.softplus(x)


@implementation(
    op="sigmoid_cross_entropy",
    framework="tensorflow",
    name="tensorflow.nn.sigmoid_cross_entropy_with_logits",
    url=f"{_DOCS}nn/sigmoid_cross_entropy_with_logits",
    without=("pos_weight",),
)
def sigmoid_cross_entropy(x: Any, target: Any) -> Any:
    """The built-in."""
    import tensorflow as tf

    return tf.nn.sigmoid_cross_entropy_with_logits(labels=target, logits=x)


@implementation(
    op="sigmoid_cross_entropy",
    framework="tensorflow",
    name="tensorflow.nn.weighted_cross_entropy_with_logits",
    url=f"{_DOCS}nn/weighted_cross_entropy_with_logits",
)
def weighted_cross_entropy(x: Any, target: Any, pos_weight: Any) -> Any:
    """The built-in."""
    import tensorflow as tf

    return tf.nn.weighted_cross_entropy_with_logits(target, x, pos_weight)


# --- hand-written cross-entropies -----------------------------------------------------------


def _log_of_softmax(x: Any, target: Any, *, axis: int = -1) -> Any:
    import tensorflow as tf

    p = tf.nn.softmax(x, axis=axis)
    return -tf.reduce_sum(target * tf.math.log(p), axis=axis)


def _clipped_log_of_softmax(x: Any, target: Any, *, axis: int = -1) -> Any:
    import tensorflow as tf

    p = tf.nn.softmax(x, axis=axis)
    return -tf.reduce_sum(target * tf.math.log(tf.clip_by_value(p, CLIP, 1.0)), axis=axis)


antipatterns(
    "tensorflow",
    log_of_softmax=_log_of_softmax,
    clipped_log_of_softmax=_clipped_log_of_softmax,
)


# --- control and mutants --------------------------------------------------------------------


def _answer(answer: Any, *, axis: int = -1) -> Any:
    import tensorflow as tf

    return tf.identity(answer)


control("tensorflow", _answer)


def _unshifted_softmax(x: Any, *, axis: int = -1) -> Any:
    import tensorflow as tf

    e = tf.exp(x)
    return e / tf.reduce_sum(e, axis=axis, keepdims=True)


def _softmax_minus_target(x: Any, target: Any, *, axis: int = -1) -> Any:
    import tensorflow as tf

    def loss(x: Any, target: Any) -> Any:
        l = tf.nn.log_softmax(x, axis=axis)  # noqa: E741 - the contract's name for it

        def gradient(g: Any) -> Any:
            g = tf.expand_dims(g, axis)
            return g * (tf.exp(l) - target), -g * l

        return -tf.reduce_sum(target * l, axis=axis), gradient

    return tf.custom_gradient(loss)(x, target)


def _mean_of_all(
    x: Any, label: Any, *, ignore_index: int | None = None, reduction: str = "none", axis: int = -1
) -> Any:
    import tensorflow as tf

    counts = tf.ones_like(label, tf.bool) if ignore_index is None else label != ignore_index
    zero = tf.zeros([], x.dtype)
    losses = sparse_softmax_cross_entropy(
        tf.where(counts[..., None], x, zero), tf.where(counts, label, tf.zeros([], label.dtype)),
        axis=axis,
    )  # fmt: skip
    losses = tf.where(counts, losses, zero)
    reduce = {"none": tf.identity, "sum": tf.reduce_sum, "mean": tf.reduce_mean}[reduction]
    return reduce(losses)


def _last_axis_softmax(x: Any, *, axis: int = -1) -> Any:
    return softmax(x, axis=axis if len(x.shape) <= 2 else -1)


def _shared_maximum_softmax(x: Any, *, axis: int = -1) -> Any:
    import tensorflow as tf

    return _unshifted_softmax(x - tf.reduce_max(x), axis=axis)


mutants(
    "tensorflow",
    unshifted_softmax=_unshifted_softmax,
    softmax_minus_target=_softmax_minus_target,
    mean_of_all=_mean_of_all,
    last_axis_softmax=_last_axis_softmax,
    shared_maximum_softmax=_shared_maximum_softmax,
)
