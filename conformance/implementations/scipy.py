"""SciPy: what `scipy.special` has of these ops, and what is put together from its functions.

Values only: SciPy has no derivatives. Its ufuncs are compiled for float32 and float64 and promote
float16 to float32 or float64, as their documentation's type tables say; the functions in Python
(softmax, log_softmax, logsumexp, softplus) compute in the dtype that they are given. None is made
for bfloat16.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from conformance.implementations.numpy.arrays import Array, Function, quiet
from conformance.registry import implementation

__all__: list[str] = []

_WIDE = ("float64", "float32")
_ALL = (*_WIDE, "float16")
_DOCS = "https://docs.scipy.org/doc/scipy/reference/generated/scipy.special."


def _scipy(
    op: str,
    what: str,
    documented: str = "",
    *,
    dtypes: tuple[str, ...] = _WIDE,
    variant: str = "builtin",
    role: str = "subject",
    without: tuple[str, ...] = (),
) -> Callable[[Function], Function]:
    def register(function: Function) -> Function:
        implementation(
            op=op,
            framework="numpy",
            name=f"scipy.{what}" if role == "subject" else f"antipattern.numpy.{what}",
            role=role,
            variant=variant,
            url=f"{_DOCS}{documented or what}.html",
            dtypes=dtypes,
            derivatives=("value",),
            without=without,
            requires=("scipy",),
        )(quiet(function))
        return function

    return register


@_scipy("softmax", "softmax", dtypes=_ALL)
def softmax(x: Array, *, axis: int = -1) -> Array:
    """exp(x - max x) / sum."""
    from scipy import special

    return np.asarray(special.softmax(x, axis=axis))


@_scipy("log_softmax", "log_softmax", dtypes=_ALL)
def log_softmax(x: Array, *, axis: int = -1) -> Array:
    """x - max x - log(sum): log(sum) is 0 where one class dominates."""
    from scipy import special

    return np.asarray(special.log_softmax(x, axis=axis))


@_scipy("logsumexp", "logsumexp", dtypes=_ALL)
def logsumexp(x: Array, *, axis: int = -1) -> Array:
    """log1p of the sum without the maximum, since SciPy 1.15."""
    from scipy import special

    return np.asarray(special.logsumexp(x, axis=axis))


@_scipy("sigmoid", "expit")
def expit(x: Array) -> Array:
    """1 / (1 + exp(-x))."""
    from scipy import special

    return np.asarray(special.expit(x))


@_scipy("log_sigmoid", "log_expit")
def log_expit(x: Array) -> Array:
    """x - log1p(exp(x)) below 0, -log1p(exp(-x)) above."""
    from scipy import special

    return np.asarray(special.log_expit(x))


@_scipy("softplus", "softplus", dtypes=_ALL)
def softplus(x: Array) -> Array:
    """logaddexp(0, x), NumPy's; in SciPy since 1.17."""
    from scipy import special

    return np.asarray(special.softplus(x))


@_scipy("categorical_entropy", "entropy_by_entr", "entr", variant="composition")
def entropy_by_entr(x: Array, *, axis: int = -1) -> Array:
    """sum entr(softmax(x))."""
    from scipy import special

    p = special.softmax(x, axis=axis)
    return np.asarray(np.sum(special.entr(p), axis=axis))


@_scipy("kl_divergence", "kl_by_rel_entr", "rel_entr", variant="composition", role="antipattern")
def kl_by_rel_entr(x: Array, y: Array, *, axis: int = -1) -> Array:
    """sum rel_entr(softmax(x), softmax(y)): +inf where softmax(y) underflows, 0 where softmax(x)
    does, and nothing of a small divergence is left."""
    from scipy import special

    p, q = special.softmax(x, axis=axis), special.softmax(y, axis=axis)
    return np.asarray(np.sum(special.rel_entr(p, q), axis=axis))


@_scipy(
    "sigmoid_cross_entropy",
    "bce_by_log_expit",
    "log_expit",
    variant="composition",
)
def bce_by_log_expit(x: Array, target: Array, pos_weight: Array) -> Array:
    """-(w z log_expit(x) + (1 - z) log_expit(-x))."""
    from scipy import special

    positive = pos_weight * target * special.log_expit(x)
    return np.asarray(-(positive + (1 - target) * special.log_expit(-x)))


@_scipy(
    "sigmoid_cross_entropy",
    "bce_by_xlogy",
    "xlogy",
    variant="composition",
    role="antipattern",
    without=("pos_weight",),
)
def bce_by_xlogy(x: Array, target: Array) -> Array:
    """-(z log p + (1 - z) log(1 - p)), p = expit(x): +inf as soon as p rounds to 1."""
    from scipy import special

    p = special.expit(x)
    return np.asarray(-(special.xlogy(target, p) + special.xlog1py(1 - target, -p)))
