"""The other way in which an arrangement of concern `invariance` is asked, by its name.

A variant says what is sent, and what its answer has to do with the plain one: which rows are to be
compared, in what order their classes come, and where the two are not to be equal but related, by
which factor and term.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from reference import formats
from reference.arrangements import Arrangement
from reference.cases.inputs import TANGENT

if TYPE_CHECKING:
    from conformance.cells import Cell

__all__ = ["FLAGS", "Variant", "plain", "variant"]

Inputs = Mapping[str, NDArray[Any]]

_ALONE = 5
_PART = range(5, 8)
_FAR = 256.0
"""What logits of other rows are moved by: exp of the distance of two rows is 0."""
_SHIFT = 8.0


@dataclass(frozen=True, eq=False)
class Variant:
    """What is sent, and how the answer is compared.

    Attributes
    ----------
    flag : str
        Of the cell where bits differ, and the kind of the breach.
    inputs : mapping of str to ndarray
        Rows.
    at, of : sequence of int
        Rows of this answer, and the rows of the plain one that they have to do with.
    classes : ndarray of int, optional
        The plain answer's class for each of this one.
    scale, offset
        This answer is to be ``scale`` times the plain one plus ``offset``, of the compared rows.
    exact : bool
        Whether equal bits can be hoped for.
    same : bool
        Whether the compared rows are rows of the plain inputs.
    layout, mode, context
        Of the call, where they are not the cell's.
    """

    flag: str
    inputs: Inputs = field(repr=False)
    at: Sequence[int]
    of: Sequence[int]
    classes: NDArray[np.int64] | None = None
    scale: float = 1.0
    offset: Any = 0.0
    exact: bool = True
    same: bool = True
    layout: str = ""
    mode: str | None = None
    context: str | None = None


def plain(arrangement: Arrangement) -> Variant:
    """The rows as they are."""
    every = range(arrangement.rows)
    return Variant("", arrangement.inputs, every, every)


def variant(arrangement: Arrangement, cell: Cell) -> Variant | None:
    """The other way to ask; None where one answer is enough."""
    if arrangement.family == "layouts":
        flag = "lane_variant" if arrangement.name.startswith("offset") else "layout_variant"
        return _other_call(arrangement, flag, layout=arrangement.name)
    return _MAKERS[arrangement.name](arrangement, cell)


def _other_call(arrangement: Arrangement, flag: str, **more: Any) -> Variant:
    every = range(arrangement.rows)
    return Variant(flag, arrangement.inputs, every, every, **more)


# ---------------------------------------------------------------- batches


def _picked(inputs: Inputs, rows: Any) -> Inputs:
    return {name: array[rows] for name, array in inputs.items()}


def _repeated(arrangement: Arrangement, cell: Cell) -> Variant:
    return _other_call(arrangement, "repeat_variant")


def _reversed(arrangement: Arrangement, cell: Cell) -> Variant:
    rows = range(arrangement.rows)
    turned = _picked(arrangement.inputs, slice(None, None, -1))
    return Variant("position_variant", turned, rows, rows[::-1])


def _alone(arrangement: Arrangement, cell: Cell) -> Variant:
    inputs = _picked(arrangement.inputs, slice(_ALONE, _ALONE + 1))
    return Variant("batch_variant", inputs, [0], [_ALONE])


def _part(arrangement: Arrangement, cell: Cell) -> Variant:
    inputs = _picked(arrangement.inputs, slice(_PART.start, _PART.stop))
    return Variant("batch_variant", inputs, range(len(_PART)), _PART)


def _beside(arrangement: Arrangement, cell: Cell) -> Variant:
    """Every other row stays, between rows of large logits and one of NaN."""
    x = np.array(arrangement.inputs["x"])
    x[1::2] = formats.nearest(formats.get(arrangement.format), x[1::2] + _FAR)
    x[-1] = np.nan
    rows = range(0, arrangement.rows, 2)
    return Variant("batch_variant", {**arrangement.inputs, "x": x}, rows, rows)


# ---------------------------------------------------------------- symmetries


def _shifted(arrangement: Arrangement, cell: Cell) -> Variant:
    """All logits moved by the same number: only a logarithm of a sum moves with them."""
    moved = {"x": arrangement.inputs["x"] + _SHIFT}
    if arrangement.op == "logaddexp":
        moved["y"] = arrangement.inputs["y"] + _SHIFT
    moves = arrangement.op in ("logsumexp", "logaddexp") and cell.derivative == "value"
    every = range(arrangement.rows)
    return Variant("shift_variant", {**arrangement.inputs, **moved}, every, every, same=False,
                   offset=_SHIFT if moves else 0.0, exact=not moves)  # fmt: skip


def _permuted(arrangement: Arrangement, cell: Cell) -> Variant:
    """The classes of all rows in another order."""
    n, every = arrangement.n, range(arrangement.rows)
    order = np.random.Generator(np.random.PCG64DXSM(n)).permutation(n)
    inputs = {k: a[:, order] if a.ndim == 2 else a for k, a in arrangement.inputs.items()}
    if "label" in inputs:
        inputs["label"] = np.argsort(order)[inputs["label"]]
    return Variant("permutation_variant", inputs, every, every, same=False, classes=order)


def _mirrored(arrangement: Arrangement, cell: Cell) -> Variant:
    """f(-x), and of a binary loss f(-x, 1 - z)."""
    x, every = arrangement.inputs["x"], range(arrangement.rows)
    inputs = {**arrangement.inputs, "x": -x}
    if "target" in inputs:
        inputs["target"] = 1 - inputs["target"]
    scale, offset = _mirror(arrangement, cell.derivative)
    exact = not np.any(offset)
    return Variant("mirror_variant", inputs, every, every, same=False, scale=scale, offset=offset,
                   exact=exact)  # fmt: skip


def _mirror(arrangement: Arrangement, derivative: str) -> tuple[float, Any]:
    """Factor and term: log_sigmoid(-x) = log_sigmoid(x) - x, softplus likewise, and so on."""
    value, x, g = derivative == "value", arrangement.inputs["x"], arrangement.inputs["g"]
    if arrangement.op == "sigmoid":
        return (-1.0, 1.0) if value else (1.0, 0.0)
    if arrangement.op == "sigmoid_cross_entropy":
        return (1.0, 0.0) if value else (-1.0, 0.0)
    return (1.0, -x) if value else (-1.0, g)


def _swapped(arrangement: Arrangement, cell: Cell) -> Variant:
    """The two arguments in the other order."""
    every, given = range(arrangement.rows), arrangement.inputs
    inputs = {**given, "x": given["y"], "y": given["x"]}
    inputs[TANGENT + "x"], inputs[TANGENT + "y"] = given[TANGENT + "y"], given[TANGENT + "x"]
    return Variant("mirror_variant", inputs, every, every, same=False)


_MAKERS: Mapping[str, Callable[[Arrangement, Cell], Variant | None]] = MappingProxyType(
    {
        "repeated": _repeated,
        "reversed": _reversed,
        "alone": _alone,
        "part": _part,
        "beside": _beside,
        "shifted": _shifted,
        "permuted": _permuted,
        "mirrored": _mirrored,
        "swapped": _swapped,
        "ordered": lambda arrangement, cell: None,
        "two": lambda arrangement, cell: _other_call(arrangement, "thread_variant"),
        "eager": lambda arrangement, cell: _other_call(arrangement, "mode_variant"),
    }
)

FLAGS: tuple[str, ...] = (
    "batch_variant", "position_variant", "repeat_variant", "lane_variant", "layout_variant",
    "thread_variant", "mode_variant", "shift_variant", "permutation_variant", "mirror_variant",
    "ties_variant", "order_variant",
)  # fmt: skip
"""Of cells in which bits differ."""
