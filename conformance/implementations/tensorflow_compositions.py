"""TensorFlow: compositions that are claimed to be sound, and others that are known not to be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from conformance.registry import implementation

__all__: list[str] = []

_DOCS = "https://www.tensorflow.org/api_docs/python/tf/"


def _classes_last(x: Any, axis: int) -> Any:
    import tensorflow as tf

    rank = len(x.shape)
    axis %= rank
    if axis == rank - 1:
        return x
    return tf.transpose(x, [*range(axis), *range(axis + 1, rank), axis])


# --- sound ones -----------------------------------------------------------------------------


@implementation(
    op="masked_softmax",
    framework="tensorflow",
    name="tensorflow.nn.softmax.where",
    variant="composition",
    url=f"{_DOCS}nn/softmax",
)
def masked_softmax(x: Any, mask: Any, *, axis: int = -1) -> Any:
    """softmax(where(mask, x, -inf)); the outer ``where`` is for rows in which nothing is kept."""
    import tensorflow as tf

    kept = tf.where(mask, x, tf.constant(float("-inf"), x.dtype))
    return tf.where(mask, tf.nn.softmax(kept, axis=axis), tf.zeros([], x.dtype))


@implementation(
    op="softmax_cross_entropy",
    framework="tensorflow",
    name="tensorflow.nn.log_softmax.weighted_sum",
    variant="composition",
    url=f"{_DOCS}nn/log_softmax",
    parameters=("reduction",),
)
def softmax_cross_entropy(x: Any, target: Any, *, reduction: str = "none", axis: int = -1) -> Any:
    """-sum t log_softmax(x), differentiated as it is written."""
    import tensorflow as tf

    losses = -tf.reduce_sum(target * tf.nn.log_softmax(x, axis=axis), axis=axis)
    if reduction == "none":
        return losses
    return tf.reduce_mean(losses) if reduction == "mean" else tf.reduce_sum(losses)


@implementation(
    op="sparse_softmax_cross_entropy",
    framework="tensorflow",
    name="tensorflow.nn.log_softmax.gather",
    variant="composition",
    url=f"{_DOCS}gather",
    parameters=("reduction", "weight", "ignore_index", "label_smoothing"),
    label_dtypes=("int32", "int64"),
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
    import tensorflow as tf

    x = _classes_last(x, axis)
    zero, counts = tf.zeros([], x.dtype), tf.ones_like(label, tf.bool)
    if ignore_index is not None:
        counts = label != ignore_index
        x = tf.where(counts[..., None], x, zero)
        label = tf.where(counts, label, tf.zeros([], label.dtype))
    log_p = tf.nn.log_softmax(x)
    losses = -tf.gather(log_p, label, axis=-1, batch_dims=len(x.shape) - 1)
    of_label = tf.ones_like(losses) if weight is None else tf.gather(weight, label)
    losses = losses if weight is None else of_label * losses
    if label_smoothing:
        # A class of weight 0 contributes 0, also at -inf.
        every = log_p if weight is None else tf.math.multiply_no_nan(log_p, weight)
        share = label_smoothing / x.shape[-1]
        losses = (1 - label_smoothing) * losses - share * tf.reduce_sum(every, axis=-1)
    if reduction == "none":
        return tf.where(counts, losses, zero)
    total = tf.reduce_sum(tf.where(counts, losses, zero))
    if reduction == "sum":
        return total
    return total / tf.reduce_sum(tf.where(counts, of_label, zero))


@implementation(
    op="categorical_entropy",
    framework="tensorflow",
    name="tensorflow.nn.log_softmax.entropy",
    variant="composition",
    url=f"{_DOCS}nn/log_softmax",
)
def categorical_entropy(x: Any, *, axis: int = -1) -> Any:
    """-sum exp(l) l, without the classes whose probability is 0: there l may be infinite."""
    import tensorflow as tf

    log_p = tf.nn.log_softmax(x, axis=axis)
    p = tf.exp(log_p)
    return -tf.reduce_sum(p * tf.where(tf.equal(p, 0), tf.zeros([], x.dtype), log_p), axis=axis)


@implementation(
    op="kl_divergence",
    framework="tensorflow",
    name="tensorflow.nn.log_softmax.kl_divergence",
    variant="composition",
    url=f"{_DOCS}nn/log_softmax",
)
def kl_divergence(x: Any, y: Any, *, axis: int = -1) -> Any:
    """sum exp(l(x)) (l(x) - l(y)), without the classes whose probability is 0.

    One that has underflowed stays in where y lacks it: the divergence is infinite there, not 0.
    """
    import tensorflow as tf

    log_p = tf.nn.log_softmax(x, axis=axis)
    p, difference = tf.exp(log_p), log_p - tf.nn.log_softmax(y, axis=axis)
    absent = tf.equal(p, 0) & tf.not_equal(difference, float("inf"))
    return tf.reduce_sum(p * tf.where(absent, tf.zeros([], x.dtype), difference), axis=axis)


@implementation(
    op="sigmoid_cross_entropy",
    framework="tensorflow",
    name="tensorflow.math.softplus.minus_xz",
    variant="composition",
    url=f"{_DOCS}math/softplus",
    without=("pos_weight",),
)
def sigmoid_cross_entropy(x: Any, target: Any) -> Any:
    """softplus(x) - x z."""
    import tensorflow as tf

    return tf.math.softplus(x) - x * target


@implementation(
    op="sigmoid_cross_entropy",
    framework="tensorflow",
    name="tensorflow.math.softplus.weighted",
    variant="composition",
    url=f"{_DOCS}math/softplus",
)
def weighted_cross_entropy(x: Any, target: Any, pos_weight: Any) -> Any:
    """w z softplus(-x) + (1 - z) softplus(x)."""
    import tensorflow as tf

    return pos_weight * target * tf.math.softplus(-x) + (1 - target) * tf.math.softplus(x)


@implementation(
    op="logaddexp",
    framework="tensorflow",
    name="tensorflow.math.reduce_logsumexp.of_two",
    variant="composition",
    url=f"{_DOCS}math/reduce_logsumexp",
)
def logaddexp(x: Any, y: Any) -> Any:
    """reduce_logsumexp of the stack of both; TensorFlow has no logaddexp."""
    import tensorflow as tf

    return tf.math.reduce_logsumexp(tf.stack([x, y]), axis=0)


# --- antipatterns ---------------------------------------------------------------------------


def _antipattern(op: str, what: str, without: tuple[str, ...] = ()) -> Callable[[Any], Any]:
    return implementation(
        op=op,
        framework="tensorflow",
        name=f"antipattern.tensorflow.{what}",
        role="antipattern",
        variant="composition",
        without=without,
    )


@_antipattern("log_softmax", "log_of_softmax_values")
def log_of_softmax_values(x: Any, *, axis: int = -1) -> Any:
    """The logarithm of a probability that has underflowed to 0 is -inf."""
    import tensorflow as tf

    return tf.math.log(tf.nn.softmax(x, axis=axis))


@_antipattern("log_softmax", "x_minus_logsumexp")
def x_minus_logsumexp(x: Any, *, axis: int = -1) -> Any:
    """The digits of log S are lost in a sum that is as large as the logits."""
    import tensorflow as tf

    return x - tf.math.reduce_logsumexp(x, axis=axis, keepdims=True)


@_antipattern("log_sigmoid", "log_of_sigmoid")
def log_of_sigmoid(x: Any) -> Any:
    """-inf where the sigmoid has underflowed."""
    import tensorflow as tf

    return tf.math.log(tf.math.sigmoid(x))


@_antipattern("softplus", "log_of_one_plus_exp")
def log_of_one_plus_exp(x: Any) -> Any:
    """Overflows for large x, and is 0 where 1 + exp(x) rounds to 1."""
    import tensorflow as tf

    return tf.math.log(1 + tf.exp(x))


@_antipattern("sigmoid_cross_entropy", "max_abs_bce", without=("pos_weight",))
def max_abs_bce(x: Any, target: Any) -> Any:
    """Sound as a value; at x = 0 the derivatives of max and abs are not those of their sum."""
    import tensorflow as tf

    return tf.nn.relu(x) - x * target + tf.math.log1p(tf.exp(-tf.abs(x)))


@_antipattern("masked_softmax", "masked_by_minus_1e9")
def masked_by_minus_1e9(x: Any, mask: Any, *, axis: int = -1) -> Any:
    """A finite mask: uniform where nothing is kept, and -inf in float16."""
    import tensorflow as tf

    return tf.nn.softmax(x + tf.cast(tf.logical_not(mask), x.dtype) * -1e9, axis=axis)


@_antipattern("logsumexp", "unshifted_logsumexp")
def unshifted_logsumexp(x: Any, *, axis: int = -1) -> Any:
    """Overflows as soon as a logit passes log(max)."""
    import tensorflow as tf

    return tf.math.log(tf.reduce_sum(tf.exp(x), axis=axis))


@_antipattern("categorical_entropy", "p_log_p_entropy")
def p_log_p_entropy(x: Any, *, axis: int = -1) -> Any:
    """0 * -inf where a probability has underflowed."""
    import tensorflow as tf

    p = tf.nn.softmax(x, axis=axis)
    return -tf.reduce_sum(p * tf.math.log(p), axis=axis)
