"""Holding the oracle against Arb: every rounding, and every enclosure of every arithmetic."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import arb as numbers
import arb_elementwise
import arb_rows
import enclosures
import numpy as np
from flint import arb, ctx

from reference import ops, oracle
from reference.formats import Format
from reference.ops.base import EXACT, FORMULA, NEG_INF, POS_INF, ZERO, Batch
from reference.references import SETTLED, References

Key = tuple[str, str, str]
MAPS: list[Key] = [(op, *key) for op, definition in ops.OPS.items() for key in definition.maps]
PRECISIONS = (160, 640, 2560, 5120)
_NARROW = 60  # bits below an ulp that a ball around a settled result must reach


def same(a: Any, b: Any) -> bool:
    """Equal, or both NaN."""
    return bool(a == b or (a != a and b != b))


def needed(key: Key) -> list[str]:
    """The inputs of a map."""
    op, derivative, argument = key
    names = list(ops.get(op).inputs)
    if derivative in ("vjp", "hvp"):
        names.append("g")
    if derivative in ("jvp", "hvp"):
        names.append("v_" + argument.rsplit(".", maxsplit=1)[-1])
    return names


def balls(key: Key, row: Mapping[str, Any]) -> list[Any | None]:
    """The results of a row at the precision of the context; None for one that is infinite."""
    module = arb_elementwise if ops.get(key[0]).elementwise else arb_rows
    return module.balls(key, {name: row[name] for name in needed(key) if name in row})


def rounded(
    key: Key, row: Mapping[str, Any], format_name: str
) -> tuple[list[float | None], list[tuple[float, ...] | None]]:
    """As :func:`arb.rounded`: results, and two candidates where the last precision leaves it open.

    Rows of the formulas' own domain: logits that are finite or -inf.
    """
    return numbers.rounded(lambda bits: balls(key, row), format_name)


def covered(row: Mapping[str, Any]) -> bool:
    """Is a row in the domain of the formulas? The limits at infinity are other tests' business."""
    for name in ("x", "y"):
        if name in row:
            taking = row[name][np.asarray(row["mask"]) != 0] if "mask" in row else row[name]
            if np.isnan(taking).any() or (taking == np.inf).any():
                return False
            if taking.size and (taking == -np.inf).all():
                return False
    return True


# ---------------------------------------------------------------- counting


@dataclass
class Tally:
    """What became of the elements of a map.

    Attributes
    ----------
    confirmed : Counter
        Elements whose rounding Arb confirms, by the tier that decided them.
    left_open : int
        Elements within a rounding boundary's reach of Arb's last precision.
    enclosures : int
        Enclosures and claims that certainly hold the truth.
    touching : Counter
        Those whose end Arb cannot tell from the truth, by name.
    wrong, missed : list
        Wrong roundings; enclosures and claims that certainly do not hold the truth.
    """

    confirmed: Counter[int] = field(default_factory=Counter)
    left_open: int = 0
    enclosures: int = 0
    touching: Counter[str] = field(default_factory=Counter)
    wrong: list[Any] = field(default_factory=list)
    missed: list[Any] = field(default_factory=list)

    @property
    def compared(self) -> int:
        return self.confirmed.total()

    def __iadd__(self, other: Tally) -> Tally:
        self.confirmed += other.confirmed
        self.left_open += other.left_open
        self.enclosures += other.enclosures
        self.touching += other.touching
        self.wrong += other.wrong
        self.missed += other.missed
        return self


# ---------------------------------------------------------------- comparing


def rows_of(key: Key, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """What a map takes of the inputs, as rows: every element is one in elementwise ops."""
    definition = ops.get(key[0])
    given = {name: inputs[name] for name in needed(key) if name in inputs}
    return {name: np.asarray(a) for name, a in definition.rows_of(given).items()}


def compare(key: Key, inputs: Mapping[str, Any], fmt: Format) -> Tally:
    """Compare a batch, element by element, as far as its rows are covered."""
    given = rows_of(key, inputs)
    keep = [covered({name: a[r] for name, a in given.items()}) for r in range(len(given["x"]))]
    given = {name: a[keep] for name, a in given.items()}
    tally, before = Tally(), ctx.prec
    try:
        if any(keep):
            _compare_rows(key, given, oracle.evaluate(*key, given, fmt), tally)
    finally:
        ctx.prec = before
    return tally


def _compare_rows(key: Key, inputs: Mapping[str, Any], refs: References, tally: Tally) -> None:
    batch, map_ = Batch(inputs), ops.get(key[0]).maps[key[1:]]
    exact = dict(map_.settle(batch).rationals())
    formula = enclosures.of_formula(map_, batch, refs) if (refs.codes == FORMULA).any() else {}
    values, codes = refs.rounded(), refs.codes.tolist()
    for r in range(refs.shape[0]):
        row = _Row(key, {name: a[r] for name, a in inputs.items()}, tally)
        ctx.prec = enclosures.EXACT
        for i, code in enumerate(codes[r]):
            got = float(values[r, i])
            if not same(got, oracle.round_element(refs, r, i)):
                tally.wrong.append((key, row.inputs, i, got, oracle.round_element(refs, r, i)))
            if code == FORMULA:
                for name, interval in enclosures.of_result(refs, r, i, got):
                    row.claim(i, name, interval)
                for name, at in formula.items():
                    row.claim(i, name, at(r, i))
                row.tiers[i] = int(refs.tier[r, i])
            elif code in (ZERO, EXACT):
                row.exact[i] = got, exact.get((r, i), Fraction(0))
            elif code in (POS_INF, NEG_INF):
                row.infinite.add(i)
        row.settle(refs.format.name)


class _Row:
    """What is to be shown of one row."""

    def __init__(self, key: Key, inputs: dict[str, Any], tally: Tally) -> None:
        self.key, self.inputs, self.tally = key, inputs, tally
        self.claims: list[tuple[int, str, Any, Any]] = []
        self.tiers: dict[int, int] = {}
        self.exact: dict[int, tuple[float, Fraction]] = {}
        self.infinite: set[int] = set()

    def claim(self, i: int, name: str, interval: Any) -> None:
        if interval is not None:
            self.claims.append((i, name, *interval))

    def settle(self, format_name: str) -> None:
        """Raise Arb's precision until everything is certain, or the last one is reached."""
        for bits in PRECISIONS:
            ctx.prec = bits
            made = balls(self.key, self.inputs)
            self.claims = [c for c in self.claims if not self._certain(made, *c)]
            for i in list(self.exact):
                if self._confirms(made[i], format_name, *self.exact[i], i):
                    del self.exact[i]
            if not self.claims and not self.exact:
                break
        for i in self.infinite:
            if made[i] is not None:
                self.tally.wrong.append((self.key, self.inputs, i, "infinite", made[i]))
        self.tally.touching.update(name for _, name, *_ in self.claims if name != "rounding")
        open_ = {i for i, name, *_ in self.claims if name == "rounding"}
        self.tally.left_open += len(open_) + len(self.exact)
        self.tally.confirmed.update(t for i, t in self.tiers.items() if i not in open_)

    def _certain(self, made: list[Any], i: int, name: str, lower: Any, upper: Any) -> bool:
        """Is it certain that the truth lies in the interval, or that it does not?"""
        ball = made[i]
        if ball is None or ball < lower or ball > upper:
            found = self.tally.wrong if name == "rounding" else self.tally.missed
            found.append((self.key, self.inputs, i, name, lower, upper, ball))
            if name == "rounding":
                del self.tiers[i]
            return True
        inside = bool(lower <= ball and ball <= upper)
        self.tally.enclosures += inside and name != "rounding"
        return inside

    def _confirms(self, ball: Any, format_name: str, got: float, value: Fraction, i: int) -> bool:
        """Does the ball hold a settled value, and hardly anything else?"""
        if ball is None:  # infinite, but for a factor that is exactly 0
            if value != 0:
                self.tally.wrong.append((self.key, self.inputs, i, got, "infinite"))
            return True
        precision, emin = numbers.FORMATS[format_name][:2]
        leading = max(numbers.floor_log2(value), emin) if value else emin
        if not ball.rad() < numbers.power(leading - precision + 1 - _NARROW):
            return False
        inside = ball.overlaps(arb(value.numerator) / arb(value.denominator))
        if inside and same(got, numbers.nearest(format_name, value)):
            self.tally.confirmed[SETTLED] += 1
        else:
            self.tally.wrong.append((self.key, self.inputs, i, got, value, ball))
        return True
