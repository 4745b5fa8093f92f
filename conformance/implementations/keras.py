"""Keras on TensorFlow: ``keras.ops``, its losses with ``from_logits=True`` and masked softmax."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from conformance.registry import implementation

__all__: list[str] = []

_DOCS = "https://www.tensorflow.org/api_docs/python/tf/keras/"


def _subject(
    op: str, name: str, without: tuple[str, ...] = (), **options: Any
) -> Callable[[Any], Any]:
    return implementation(
        op=op,
        framework="tensorflow",
        name=f"keras.{name}",
        url=_DOCS + name.replace(".", "/"),
        requires=("keras",),
        without=without,
        **options,
    )


def _antipattern(op: str, name: str, without: tuple[str, ...] = ()) -> Callable[[Any], Any]:
    return implementation(
        op=op,
        framework="tensorflow",
        name=f"antipattern.keras.{name}",
        role="antipattern",
        variant="composition",
        url=_DOCS + name.replace(".", "/"),
        requires=("keras",),
        without=without,
    )


def _classes_last(x: Any, axis: int) -> Any:
    """Keras's sparse losses take no other axis."""
    import keras

    return keras.ops.moveaxis(x, axis, -1)


# --- keras.ops ------------------------------------------------------------------------------


@_subject("softmax", "ops.softmax")
def softmax(x: Any, *, axis: int = -1) -> Any:
    """The op."""
    import keras

    return keras.ops.softmax(x, axis=axis)


@_subject("log_softmax", "ops.log_softmax")
def log_softmax(x: Any, *, axis: int = -1) -> Any:
    """The op."""
    import keras

    return keras.ops.log_softmax(x, axis=axis)


@_subject("logsumexp", "ops.logsumexp")
def logsumexp(x: Any, *, axis: int = -1) -> Any:
    """The op."""
    import keras

    return keras.ops.logsumexp(x, axis=axis)


@_subject("sigmoid", "ops.sigmoid")
def sigmoid(x: Any) -> Any:
    """The op."""
    import keras

    return keras.ops.sigmoid(x)


@_subject("log_sigmoid", "ops.log_sigmoid")
def log_sigmoid(x: Any) -> Any:
    """The op."""
    import keras

    return keras.ops.log_sigmoid(x)


@_subject("softplus", "ops.softplus")
def softplus(x: Any) -> Any:
    """The op."""
    import keras

    return keras.ops.softplus(x)


@_subject("logaddexp", "ops.logaddexp")
def logaddexp(x: Any, y: Any) -> Any:
    """The op."""
    import keras

    return keras.ops.logaddexp(x, y)


@_subject("softmax_cross_entropy", "ops.categorical_crossentropy")
def categorical_crossentropy(x: Any, target: Any, *, axis: int = -1) -> Any:
    """The op, of logits."""
    import keras

    return keras.ops.categorical_crossentropy(target, x, from_logits=True, axis=axis)


@_subject("sparse_softmax_cross_entropy", "ops.sparse_categorical_crossentropy")
def sparse_categorical_crossentropy(x: Any, label: Any, *, axis: int = -1) -> Any:
    """The op, of logits."""
    import keras

    return keras.ops.sparse_categorical_crossentropy(
        label, _classes_last(x, axis), from_logits=True
    )


@_subject("sigmoid_cross_entropy", "ops.binary_crossentropy", without=("pos_weight",))
def binary_crossentropy(x: Any, target: Any) -> Any:
    """The op, of logits."""
    import keras

    return keras.ops.binary_crossentropy(target, x, from_logits=True)


# --- keras.losses and keras.layers ----------------------------------------------------------
# A loss casts both of its inputs to its own dtype, which is Keras's default float32 unless it is
# given: here that of the logits.


@_subject("softmax_cross_entropy", "losses.CategoricalCrossentropy",
          parameters=("reduction", "label_smoothing"))  # fmt: skip
def categorical_loss(
    x: Any,
    target: Any,
    *,
    label_smoothing: float = 0.0,
    reduction: str = "none",
    axis: int = -1,
) -> Any:
    """The loss of each row, or what it makes of them."""
    import keras

    loss = keras.losses.CategoricalCrossentropy(
        from_logits=True,
        label_smoothing=label_smoothing,
        axis=axis,
        reduction=reduction,
        dtype=x.dtype.name,
    )
    return loss(target, x)


@_subject("sparse_softmax_cross_entropy", "losses.SparseCategoricalCrossentropy",
          parameters=("reduction", "weight", "ignore_index"))  # fmt: skip
def sparse_categorical_loss(
    x: Any,
    label: Any,
    *,
    weight: Any = None,
    ignore_index: int | None = None,
    reduction: str = "none",
    axis: int = -1,
) -> Any:
    """The loss of each row, or what it makes of them; class weights as weights of the samples."""
    import keras

    by_weight = reduction == "mean" and weight is not None
    loss = keras.losses.SparseCategoricalCrossentropy(
        from_logits=True,
        ignore_class=ignore_index,
        reduction="mean_with_sample_weight" if by_weight else reduction,
        dtype=x.dtype.name,
    )
    of_label = None
    if weight is not None:
        # An ignored label need not be one of a class; what its sample weighs does not count.
        k = label if ignore_index is None else keras.ops.where(label == ignore_index, 0, label)
        of_label = keras.ops.take(weight, k)
    return loss(label, _classes_last(x, axis), sample_weight=of_label)


@_subject("sigmoid_cross_entropy", "losses.BinaryCrossentropy", without=("pos_weight",))
def binary_loss(x: Any, target: Any) -> Any:
    """The loss of each element: the mean that it takes over the last axis is of one number."""
    import keras

    loss = keras.losses.BinaryCrossentropy(from_logits=True, reduction=None, dtype=x.dtype.name)
    return loss(target[..., None], x[..., None])


@functools.cache
def _softmax_layer(axis: int, dtype: str) -> Any:
    import keras

    return keras.layers.Softmax(axis=axis, dtype=dtype)


@_subject("masked_softmax", "layers.Softmax")
def masked_softmax(x: Any, mask: Any, *, axis: int = -1) -> Any:
    """The layer with a mask."""
    return _softmax_layer(axis, x.dtype.name)(x, mask=mask)


# --- losses of probabilities ----------------------------------------------------------------
# They clip to [1e-7, 1 - 1e-7]. After Keras's own activation they find the logits again and are
# as good as the above; after anything else, such as tf.nn.softmax, they do not.


@_antipattern("softmax_cross_entropy", "losses.categorical_crossentropy")
def categorical_crossentropy_of_probabilities(x: Any, target: Any, *, axis: int = -1) -> Any:
    """Of tf.nn.softmax: off by the clip, beyond which its gradient is 0."""
    import keras
    import tensorflow as tf

    p = tf.nn.softmax(x, axis=axis)
    return keras.losses.categorical_crossentropy(target, p, axis=axis)


@_antipattern("sparse_softmax_cross_entropy", "losses.sparse_categorical_crossentropy")
def sparse_categorical_crossentropy_of_probabilities(x: Any, label: Any, *, axis: int = -1) -> Any:
    """Of tf.nn.softmax: as above, and the clipped logarithms are normalised once more."""
    import keras
    import tensorflow as tf

    p = tf.nn.softmax(_classes_last(x, axis))
    return keras.losses.sparse_categorical_crossentropy(label, p)


@_antipattern("sigmoid_cross_entropy", "losses.binary_crossentropy", without=("pos_weight",))
def binary_crossentropy_of_probabilities(x: Any, target: Any) -> Any:
    """Of tf.math.sigmoid: constant beyond a logit of about 16."""
    import keras
    import tensorflow as tf

    p = tf.math.sigmoid(x)
    return keras.losses.binary_crossentropy(target[..., None], p[..., None])


@_antipattern("kl_divergence", "losses.kl_divergence")
def kl_divergence_of_probabilities(x: Any, y: Any, *, axis: int = -1) -> Any:
    """Of tf.nn.softmax: both sides clipped from below."""
    import keras
    import tensorflow as tf

    p, q = (tf.nn.softmax(_classes_last(a, axis)) for a in (x, y))
    return keras.losses.kl_divergence(p, q)
