"""How fast the oracle is: ``python -m reference.benchmark [--json]``.

Every figure is a ratio taken within this process, because the machines are shared: elements per
second of :func:`reference.oracle.evaluate` (everything included: settling, evaluation, deciding)
over those of three loops in Python,

exp
    ``mpmath.mp.exp`` at 113 bits, one call for each element, mpmath in pure Python;
definition
    the op's textbook definition in the same arithmetic (no error bound, wrong where it cancels);
arb
    the same definition in python-flint's Arb balls at 113 bits, nothing decided. Only where
    python-flint is installed.

The loops are timed on some thousand elements, the oracle on some hundred thousand, in rounds that
take turns; the fastest round of each counts.
"""

from __future__ import annotations

import os

os.environ["MPMATH_NOGMPY"] = "1"  # before mpmath is imported: it looks once

import json
import sys
import time
import tracemalloc
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from typing import Any

import click
import mpmath
import numpy as np
from numpy.typing import NDArray

from . import formats, ops, oracle
from .formats import Format
from .ops.base import Op
from .references import BINARY64, DOUBLE_DOUBLE, MULTIPRECISION, SETTLED

BITS = 113
LENGTHS = (10, 1000, 128_000)
ELEMENTWISE = 1_000_000
ROUNDS = 5
_ELEMENTS = 400_000  # of the oracle's batch, at least
_NAIVE = 2_000  # of the loops
_LONG = 1_000_000

FLOORS: Mapping[tuple[str, str, int], float] = {
    ("softmax", "float32", 10): 120,
    ("softmax", "float32", 1000): 180,
    ("softmax", "float32", 128_000): 300,
    ("softmax", "float64", 10): 35,
    ("softmax", "float64", 1000): 40,
    ("softmax", "float64", 128_000): 60,
}
"""(op, format, n) -> the least ratio to the definition that ``--check`` accepts; any op's value for
float32, at 1000 classes or elementwise, has ``FLOOR``."""
FLOOR = 25.0

Inputs = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Figure:
    """One line: a map of an op, a format and a row length.

    Attributes
    ----------
    op, derivative, argument, format : str
    n, rows : int
        An elementwise op has one row of n elements.
    over_exp, over_definition, over_arb : float
        Throughput as a multiple of each loop's; NaN without python-flint.
    tiers : mapping of str to float
        The share of elements that each tier decided.
    """

    op: str
    derivative: str
    argument: str
    format: str
    n: int
    rows: int
    over_exp: float
    over_definition: float
    over_arb: float
    tiers: Mapping[str, float]

    @property
    def floor(self) -> float | None:
        """The least ``over_definition`` that is accepted."""
        if self.derivative != "value":
            return None
        every = FLOOR if self.format == "float32" and self.n in (1000, ELEMENTWISE) else None
        return FLOORS.get((self.op, self.format, self.n), every)

    @property
    def holds(self) -> bool:
        """Not below the floor, and not slower than Arb."""
        if self.derivative != "value":
            return True
        return not (self.over_arb < 1) and self.over_definition >= (self.floor or 0)


class _ArbContext:
    """As much of mpmath's context as definitions use, over Arb balls."""

    def __init__(self) -> None:
        from flint import arb

        self.mpf, self.zero = arb, arb(0)

    def fsum(self, values: Any) -> Any:
        return sum(values, self.zero)

    def fprod(self, values: Any) -> Any:
        product = self.mpf(1)
        for value in values:
            product *= value
        return product

    @staticmethod
    def exp(value: Any) -> Any:
        return value.exp()

    @staticmethod
    def log(value: Any) -> Any:
        return value.log()

    @staticmethod
    def isfinite(value: Any) -> bool:
        return bool(value.is_finite())


def inputs_of(op: Op, names: tuple[str, ...], fmt: Format, rows: int, n: int) -> Inputs:
    """Ordinary rows: logits of spread 4, distributions as targets, a tenth masked."""
    rng = np.random.default_rng([rows, n])
    made: Inputs = {}
    for name in names:
        values: NDArray[Any] = rng.standard_normal((rows, n))
        if name in ("x", "y"):
            values = 4 * values
        elif name == "label":
            made[name] = rng.integers(0, n, rows)
            continue
        elif name == "mask":
            made[name] = rng.random((rows, n)) < 0.9
            made[name][:, 0] = True
            continue
        elif name == "pos_weight":
            values = np.abs(values)
        elif name in ("target", "z"):
            values = rng.random((rows, n))
            values = values if op.elementwise else values / values.sum(axis=1, keepdims=True)
        elif name == "g" and op.per_row:
            values = values[:, 0]
        made[name] = formats.nearest(fmt, values)
    return made


def _timed(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def measure(op: Op, key: tuple[str, str], fmt: Format, n: int, rounds: int = ROUNDS) -> Figure:
    """Time one map of an op against the loops.

    Raises
    ------
    reference.oracle.Undecided
        If anything stays undecided.
    """
    derivative, argument = key
    rows = 1 if op.elementwise else max(1, _ELEMENTS // n)
    inputs = inputs_of(op, op.needs(derivative, argument), fmt, rows, n)
    some = _few(op, inputs, n)
    loops: dict[str, Callable[[], Any]] = {
        "exp": lambda: [mpmath.mp.exp(mpmath.mp.mpf(v)) for v in np.ravel(some["x"]).tolist()],
        "definition": lambda: _define(op, key, mpmath.mp, some),
    }
    if find_spec("flint") is not None:
        loops["arb"] = lambda: _define(op, key, _ArbContext(), some)
    best = dict.fromkeys([*loops, "oracle"], np.inf)
    refs = oracle.evaluate(op.name, *key, inputs, fmt)
    with mpmath.workprec(BITS), _arb_precision():
        for _ in range(rounds):
            for name, loop in loops.items():
                best[name] = min(best[name], _timed(loop))
            seconds = _timed(lambda: oracle.evaluate(op.name, *key, inputs, fmt))
            best["oracle"] = min(best["oracle"], seconds)
    per_element = {name: best[name] / some["x"].size for name in loops}
    ratio = {name: t / (best["oracle"] / (rows * n)) for name, t in per_element.items()}
    shares = {
        name: float(np.mean(refs.tier == tier))
        for name, tier in (
            ("settled", SETTLED), ("binary64", BINARY64), ("double-double", DOUBLE_DOUBLE),
            ("mpmath", MULTIPRECISION),
        )
    }  # fmt: skip
    return Figure(
        op.name, derivative, argument, fmt.name, n, rows,
        ratio["exp"], ratio["definition"], ratio.get("arb", float("nan")), shares,
    )  # fmt: skip


def _few(op: Op, inputs: Inputs, n: int) -> Inputs:
    """What the loops are timed on: whole rows, or the beginning of a long one."""
    rows, width = max(1, _NAIVE // n), min(n, _NAIVE)
    some = {k: a[:rows, :width] if a.ndim == 2 else a[:rows] for k, a in inputs.items()}
    if "label" in some:
        some["label"] = some["label"] % width
    return some


def _define(op: Op, key: tuple[str, str], context: Any, inputs: Inputs) -> None:
    define = op.maps[key].definition
    rows = op.rows_of(inputs)
    for r in range(len(rows["x"])):
        define(context, {name: array[r] for name, array in rows.items()})


class _arb_precision:
    """Arb at ``BITS``, where it is installed."""

    def __enter__(self) -> None:
        if find_spec("flint") is not None:
            from flint import ctx

            self.before, ctx.prec = ctx.prec, BITS

    def __exit__(self, *_: object) -> None:
        if find_spec("flint") is not None:
            from flint import ctx

            ctx.prec = self.before


def peak_memory(fmt: Format, n: int = _LONG) -> dict[str, float]:
    """The most memory that one row of softmax takes on top of its input (NumPy's allocations).

    Returns
    -------
    dict
        ``mebibytes``, and ``float64_per_element``: as a multiple of the row's own 8 n bytes.
    """
    x = inputs_of(ops.get("softmax"), ("x",), fmt, 1, n)
    tracemalloc.start()
    try:
        oracle.evaluate("softmax", "value", "-", x, fmt)
        added = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    return {"n": n, "mebibytes": added / 2**20, "float64_per_element": added / 8 / n}


# ---------------------------------------------------------------- the command


def _cells(
    names: tuple[str, ...], format_names: tuple[str, ...], derivatives: tuple[str, ...]
) -> list[tuple[Op, tuple[str, str], Format, int]]:
    return [
        (op, key, formats.get(name), n)
        for op in map(ops.get, names or tuple(ops.OPS))
        for key in op.maps
        if key[0] in derivatives
        for name in format_names
        for n in ((ELEMENTWISE,) if op.elementwise else LENGTHS)
    ]


def _line(f: Figure) -> str:
    name = f.op if f.derivative == "value" else f"{f.op} {f.derivative} {f.argument}"
    shares = " ".join(f"{k} {100 * v:.4g} %" for k, v in f.tiers.items() if v)
    arb = "    -" if np.isnan(f.over_arb) else f"{f.over_arb:5.1f}"
    mark = "" if f.holds else f"  BELOW {f.floor or 1:g}"
    return (f"{name:<36} {f.format:<9} {f.n:>7} {f.over_exp:6.0f} {f.over_definition:6.0f} {arb}"
            f"  {shares}{mark}")  # fmt: skip


@click.command()
@click.option("--op", "names", multiple=True, type=click.Choice(sorted(ops.OPS)),
              metavar="OP", help="Only this op; may be repeated.")  # fmt: skip
@click.option("--format", "format_names", multiple=True, type=click.Choice(list(formats.FORMATS)),
              metavar="F", default=("float32", "float64", "bfloat16"), show_default=True,
              help="Formats to decide roundings for; may be repeated.")  # fmt: skip
@click.option("--derivative", "derivatives", multiple=True,
              type=click.Choice(["value", "vjp", "jvp", "hvp"]), default=("value",),
              show_default=True, help="May be repeated.")  # fmt: skip
@click.option("--rounds", type=click.IntRange(1), default=ROUNDS, show_default=True,
              help="The fastest of so many rounds counts.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
@click.option("--check", is_flag=True, help="Exit with 1 where a figure is below its floor.")
def main(
    names: tuple[str, ...],
    format_names: tuple[str, ...],
    derivatives: tuple[str, ...],
    rounds: int,
    as_json: bool,
    check: bool,
) -> None:
    """Measure the oracle's throughput, as ratios to loops in mpmath and Arb.

    \b
    python -m reference.benchmark --op softmax
    python -m reference.benchmark --derivative vjp --format float32 --json
    """
    if mpmath.libmp.BACKEND != "python":
        raise click.ClickException("mpmath was imported before this module and is not pure Python")
    figures = []
    if not as_json:
        click.echo(
            "throughput as a multiple of a loop of: mp.exp, the definition in mpmath, in Arb"
        )
        click.echo(f"{'op':<36} {'format':<9} {'n':>7} {'exp':>6} {'defin.':>6} {'arb':>5}  tiers")
    for op, key, fmt, n in _cells(names, format_names, derivatives):
        figures.append(measure(op, key, fmt, n, rounds))
        click.echo(_line(figures[-1]), err=as_json)
    memory = {name: peak_memory(formats.get(name)) for name in format_names}
    if as_json:
        items = [{k: _plain(v) for k, v in asdict(f).items()} for f in figures]
        click.echo(json.dumps({"schema": 1, "bits": BITS, "items": items, "memory": memory}))
    else:
        for name, m in memory.items():
            click.echo(f"softmax of one row of {m['n']:,} for {name}: {m['mebibytes']:.0f} MiB, "
                       f"{m['float64_per_element']:.1f} float64 per element")  # fmt: skip
    if check and not all(f.holds for f in figures):
        sys.exit(1)


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and np.isnan(value) else value


if __name__ == "__main__":
    main()
