"""Measurements as a reader meets them: their order, their figures in few digits, their commands.

A *failing* verdict is one that makes a run exit with 1. Every function is pure.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from conformance.columns import GRADES

Measurement = Mapping[str, Any]

FAILING = frozenset({"fail", "error", "crash", "timeout"})
# Verdicts of cells in which the implementation ran.
MEASURED = FAILING | {"pass", "deviation"}

# The order of the contract; what is not named here follows in the order of the alphabet.
OPS = (
    "softmax",
    "log_softmax",
    "logsumexp",
    "masked_softmax",
    "softmax_cross_entropy",
    "sparse_softmax_cross_entropy",
)
DERIVATIVES = ("value", "vjp", "jvp", "hvp")
FRAMEWORKS = ("numpy", "torch", "tensorflow", "jax")
DTYPES = ("float64", "float32", "bfloat16", "float16", "float8_e4m3fn", "float8_e5m2")
MODES = ("eager", "compiled", "graph", "xla", "session")

SHORT_DTYPES = {
    "float64": "f64",
    "float32": "f32",
    "bfloat16": "bf16",
    "float16": "f16",
    "float8_e4m3fn": "f8e4",
    "float8_e5m2": "f8e5",
}


def rank(known: Sequence[str], word: str) -> tuple[int, str]:
    """Return the sort key of a word: known ones in their order, then the others by name."""
    return (known.index(word) if word in known else len(known), word)


def framework_rank(name: str) -> tuple[int, str]:
    """Return the sort key of a framework."""
    return rank(FRAMEWORKS, name)


def sort_key(row: Measurement) -> tuple[Any, ...]:
    """Return the sort key of a measurement: op first, then derivative, framework, dtype, mode."""
    return (
        rank(OPS, row["op"]),
        rank(DERIVATIVES, row["derivative"]),
        row["argument"],
        framework_rank(row["framework"]),
        row["role"] != "subject",
        row["implementation"],
        rank(DTYPES, row["dtype"]),
        rank(MODES, row["mode"]),
        row["context"],
        row["concern"],
        row["family"],
    )


def figure(value: float | None) -> str:
    """Return a figure in at most six characters: three digits are what such a figure is worth."""
    if value is None:
        return "–"
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    size = abs(value)
    if size == 0:
        return "0"
    if 0.01 <= size < 10:
        return f"{value:.2f}"
    if 10 <= size < 100:
        return f"{value:.1f}"
    if 100 <= size < 9999.5:
        return f"{value:.0f}"
    mantissa, exponent = f"{value:.1e}".split("e")
    if abs(int(exponent)) > 99:
        mantissa, exponent = f"{value:.0e}".split("e")
    return f"{mantissa}e{int(exponent)}"


def explain_command(row: Measurement) -> str | None:
    """Return the command that recreates a measurement's worst case."""
    case = row["worst_case"]
    if not case:
        return None
    mode = "" if row["mode"] == "eager" else f" --mode {shlex.quote(row['mode'])}"
    return f"conformance explain {shlex.quote(case)}{mode}"


def run_options(run: Mapping[str, Any]) -> str:
    """Return the options that a run's cells depend on, where they are not the defaults."""
    profile, seed = run.get("profile"), run.get("seed")
    parts = []
    if isinstance(profile, str) and profile not in ("", "quick"):
        parts.append(f" --profile {shlex.quote(profile)}")
    if isinstance(seed, int) and seed:
        parts.append(f" --seed {seed}")
    return "".join(parts)


def cell_command(row: Measurement, options: str = "") -> str:
    """Return the command that measures the cell again, with the `run_options` of its run."""
    return f"conformance run --cell {shlex.quote(row['key'])}{options}"


def worst_grade(grades: Iterable[str | None]) -> str | None:
    """Return the worst of the grades that were given; None where none was."""
    given = [g for g in grades if g is not None]
    return max(given, key=GRADES.index) if given else None


def largest(values: Iterable[float | None]) -> float | None:
    """Return the largest figure; NaN, which no figure should be, is worse than any number."""
    given = [v for v in values if v is not None]
    if not given:
        return None
    return math.nan if any(math.isnan(v) for v in given) else max(given)


def describe(row: Measurement) -> str:
    """Return what a row is about in words: implementation, derivative, dtype, mode, family."""
    derivative = row["derivative"]
    if derivative != "value":
        derivative += f" to {row['argument']}"
    context = "" if row["context"] in ("default", "x64=on") else f" [{row['context']}]"
    return (
        f"{row['implementation']} {derivative}, {row['dtype']} {row['mode']}{context}, "
        f"{row['concern']} on {row['family']}"
    )


def reason(row: Measurement) -> str:
    """Return in a few words why a row has its verdict."""
    breaches = [str(b.get("detail") or b.get("kind") or "breach") for b in row["breaches"]]
    parts = breaches[:2]
    if len(breaches) > 2:
        parts.append(f"{len(breaches) - 2} more breaches" if len(breaches) > 3 else breaches[2])
    if row["message"] and row["message"] not in parts:
        parts.append(row["message"])
    if row["max_ulp"] is not None:
        parts.append(f"worst {figure(row['max_ulp'])} ULP")
    if row["ratio_weak"] is not None:
        parts.append(f"test ratio {figure(row['ratio_weak'])}")
    return "; ".join(parts)


def framework_version(rows: Iterable[Measurement]) -> str:
    """Return the version that measured rows name; empty where nothing ran."""
    return next((str(r["framework_version"]) for r in rows if r["framework_version"]), "")


def dtypes_of(measurements: Iterable[Measurement]) -> list[str]:
    """Return the dtypes that occur, widest first."""
    return sorted({r["dtype"] for r in measurements}, key=lambda d: rank(DTYPES, d))


def missing_frameworks(measurements: Iterable[Measurement]) -> list[str]:
    """Return the frameworks of which every cell is `not installed`."""
    seen: dict[str, bool] = {}
    for row in measurements:
        here = row["verdict"] != "not installed"
        seen[row["framework"]] = seen.get(row["framework"], False) or here
    return sorted((f for f, here in seen.items() if not here), key=framework_rank)


def grouped(
    rows: Iterable[Measurement], by: Callable[[Measurement], tuple[str, ...]]
) -> dict[tuple[str, ...], list[Measurement]]:
    """Return rows by group; groups and rows keep the order in which they come."""
    groups: dict[tuple[str, ...], list[Measurement]] = {}
    for row in rows:
        groups.setdefault(by(row), []).append(row)
    return groups


def https(text: object) -> str:
    """Return `text` if it may become a link; a record never chooses another scheme."""
    if not isinstance(text, str) or not text.startswith("https://") or len(text) > 500:
        return ""
    return (
        text if all(c.isascii() and c.isprintable() and c not in " \"'<>`\\" for c in text) else ""
    )


def slug(*words: str) -> str:
    """Return words as an anchor; what is not a plain letter or digit becomes a hyphen."""
    return "-".join("".join(c if c.isascii() and c.isalnum() else "-" for c in w) for w in words)
