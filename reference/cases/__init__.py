"""Adversarial cases: one file per family, deterministic from a seed, and the rows kept by name.

A file that defines ``FAMILY`` is a family; adding one means adding a file.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np

from .. import formats, ops
from ..discovery import offered
from ..formats import Format
from .base import Case, CaseError, Family, generate, named, spread, stack
from .inputs import TANGENT

__all__ = ["FAMILIES", "Case", "CaseError", "Family", "by_id", "make", "stack", "witnesses"]


FAMILIES: dict[str, Family] = {
    family.name: family for family in offered(__name__, __path__, "FAMILY")
}


def make(
    family: str,
    op: str,
    format_name: str,
    n: int,
    *,
    seed: int = 0,
    limit: int | None = None,
    without: str = "",
) -> list[Case]:
    """The cases of a family for an op, a format and a row length, evenly thinned to ``limit``.

    Parameters
    ----------
    without : str, optional
        An optional input of the op that the cases are to lack: ``pos_weight``, for implementations
        that do not take it.
    """
    cases = generate(FAMILIES[family], op, formats.get(format_name), n, seed, without=without)
    return spread(cases, limit)


# ---------------------------------------------------------------- rows with names


@cache
def _named_rows() -> dict[str, dict[str, Any]]:
    text = (files(__name__) / "witnesses.toml").read_text(encoding="utf-8")
    rows = tomllib.loads(text)["row"]
    named = {row["name"]: row for row in rows}
    if len(named) != len(rows):
        raise CaseError("two rows of witnesses.toml have the same name")
    return named


def witnesses(
    op: str, format_name: str, family: str | None = None, *, without: str = ""
) -> list[Case]:
    """The named rows of an op and format, in the order of the file."""
    return [
        _named_case(row, op, formats.get(format_name), without)
        for row in _named_rows().values()
        if op in row["ops"] and format_name in row["formats"] and family in (None, row["family"])
    ]


def _named_case(row: dict[str, Any], op: str, fmt: Format, without: str = "") -> Case:
    definition = ops.get(op)
    x = _numbers(row["x"])
    top = int(np.argmax(np.where(np.isnan(x), -np.inf, x)))
    one_hot = (np.arange(x.size) == top).astype(np.float64)
    ones = np.ones(x.size)
    defaults = {"label": np.int64(top), "y": 0 * ones, "mask": ones, "pos_weight": ones,
                "g": np.float64(1.0) if definition.per_row else one_hot}  # fmt: skip
    tangents = [TANGENT + argument for argument in definition.differentiable]
    inputs: dict[str, Any] = {"x": x}
    for name in (*definition.inputs[1:], "g", *tangents):
        values = defaults.get(name, one_hot)
        if name in row:
            values = np.int64(row[name]) if name == "label" else _numbers(row[name])
        inputs[name] = np.reshape(values, np.shape(defaults.get(name, one_hot)))
    for name, array in inputs.items():
        # A label is an index, whatever format the logits have.
        if name != "label" and not fmt.holds(np.asarray(array, np.float64)).all():
            raise CaseError(f"witness {row['name']}: {name} is not representable in {fmt.name}")
    if "mask" in inputs:
        inputs["mask"] = inputs["mask"] != 0
    return named(f"{op}-{fmt.name}-w.{row['name']}", op, fmt, row["family"], inputs, without)


def _numbers(entry: Any) -> Any:
    if isinstance(entry, dict):
        return np.full(int(entry["count"]), _number(entry["value"]))
    return np.array([_number(v) for v in entry], np.float64)


def _number(value: Any) -> float:
    if isinstance(value, str) and "0x" in value.lower():
        return float.fromhex(value)
    return float(value)


# ---------------------------------------------------------------- back from the id

_GENERATED = re.compile(
    r"(?P<op>\w+)-(?P<format>\w+)-(?P<family>[a-z_]+)(?P<version>\d+)"
    r"-n(?P<n>\d+)-s(?P<seed>\d+)-r(?P<row>\d+)(-no\.(?P<without>\w+))?-(?P<digest>[0-9a-f]{6})"
)
_NAMED = re.compile(
    r"(?P<op>\w+)-(?P<format>\w+)-w\.(?P<name>\w+)(-no\.(?P<without>\w+))?"
    r"-(?P<digest>[0-9a-f]{6})"
)

_LARGEST_N = 1 << 18


def by_id(case_id: str) -> Case:
    """Recreate a case from its id.

    Raises
    ------
    CaseError
        If the id is malformed, names nothing, or its digest does not fit what is made today.
    """
    if found := _NAMED.fullmatch(case_id):
        op, fmt = _op_and_format(found["op"], found["format"])
        row = _named_rows().get(found["name"])
        if row is None or op not in row["ops"] or fmt.name not in row["formats"]:
            raise CaseError(f"no witness {found['name']!r} for {op} in {fmt.name}"
                            + _nearest(found["name"], _named_rows()))  # fmt: skip
        case = _named_case(row, op, fmt, _optional(found["without"], op))
    elif made := _GENERATED.fullmatch(case_id):
        op, fmt = _op_and_format(made["op"], made["format"])
        case = _generated_case(made, op, fmt)
    else:
        raise CaseError(
            f"not a case id: {case_id[:80]!r}; an id looks like "
            "softmax-float32-gap_ladder1-n17-s0-r12-3fa9c1"
        )
    if case.case_id != case_id:
        raise CaseError(f"the digest does not fit: today this row is {case.case_id}")
    return case


def _generated_case(made: re.Match[str], op: str, fmt: Format) -> Case:
    family = FAMILIES.get(made["family"])
    if family is None:
        raise CaseError(f"no family {made['family']!r}" + _nearest(made["family"], FAMILIES))
    if int(made["version"]) != family.version:
        raise CaseError(
            f"family {family.name} is at version {family.version}, not {made['version']}"
        )
    if len(made["n"]) > 8 or not 1 <= int(made["n"]) <= _LARGEST_N or len(made["seed"]) > 20:
        raise CaseError("the row length of the id is out of range")
    without = _optional(made["without"], op)
    found = generate(
        family, op, fmt, int(made["n"]), int(made["seed"]), [int(made["row"])], without
    )
    if not found:
        raise CaseError(f"family {family.name} has no row {made['row']} at n = {made['n']}")
    return found[0]


def _optional(name: str | None, op: str) -> str:
    """The input that a case lacks; CaseError if the op cannot do without it."""
    if name is None or name in ops.get(op).optional:
        return name or ""
    raise CaseError(f"{op} has no optional input {name!r}")


def _op_and_format(op: str, format_name: str) -> tuple[str, Format]:
    if op not in ops.OPS:
        raise CaseError(f"no op {op!r}" + _nearest(op, ops.OPS))
    if format_name not in formats.FORMATS:
        raise CaseError(f"no format {format_name!r}" + _nearest(format_name, formats.FORMATS))
    return op, formats.get(format_name)


def _nearest(word: str, known: Any) -> str:
    close = difflib.get_close_matches(word, list(known), 1)
    return f"; did you mean {close[0]}?" if close else ""
