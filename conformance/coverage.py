"""How much ran: counts that add up, what is never asked and why, and the least that must run.

For each framework, op, derivative, dtype, mode and role of a plan::

    planned = run + unsupported + not_installed + not_run

where `unsupported` was found when it was tried. What a framework or an implementation declares that
it cannot do is not planned at all: `declared` names it with the reason, so that no derivative
vanishes in silence.

The *floor* (``floor.toml``) says for each profile how many cells of each framework have to run, and
in which derivatives each op has to have a subject that runs. ``python -m conformance.coverage RUN``
prints it from the records of whole runs.
"""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from conformance.cells import Cell, applies
from conformance.frameworks import get_framework
from conformance.plan import Plan
from conformance.registry import DERIVATIVES, FRAMEWORKS, OPS, Implementation
from conformance.selection import Selection
from reference import ops

GROUP = ("framework", "op", "derivative", "dtype", "mode", "role")
COUNTS = ("planned", "run", "unsupported", "not_installed", "not_run", "deviating", "failed")
"""Cells; `deviating` and `failed` are among those that ran."""

NOT_RUN = {"unsupported": "unsupported", "not installed": "not_installed", "not run": "not_run"}
"""By verdict, what the cells are counted as in which the implementation did not run."""
_FAILED = frozenset({"fail", "error", "crash", "timeout"})

Item = dict[str, Any]


def planned(plan: Plan) -> list[Item]:
    """A plan's cells by group, none of them run."""
    counts: dict[tuple[str, ...], int] = {}
    for cell in plan.cells:
        entry = plan.entry(cell)
        group = (entry.framework, entry.op, cell.derivative, cell.dtype, cell.mode, entry.role)
        counts[group] = counts.get(group, 0) + 1
    return table((_item(group, count) for group, count in counts.items()), ())


def table(items: Iterable[Mapping[str, Any]], rows: Iterable[Mapping[str, Any]]) -> list[Item]:
    """The counts of a run.

    Parameters
    ----------
    items : iterable of mappings
        Of one plan or several parts of one; of each the group and ``planned`` count.
    rows : iterable of measurements
        A group that was not planned is as large as what ran of it.
    """
    made: dict[tuple[str, ...], Item] = {}
    for item in items:
        group = tuple(str(item[name]) for name in GROUP)
        made.setdefault(group, _item(group, 0))["planned"] += item["planned"]
    for row in rows:
        group = tuple(row[name] for name in GROUP)
        _count(made.setdefault(group, _item(group, 0)), row["verdict"])
    for item in made.values():
        done = item["run"] + item["unsupported"] + item["not_installed"] + item["not_run"]
        item["planned"] = max(item["planned"], done)
        item["not_run"] += item["planned"] - done
    return sorted(made.values(), key=_place)


def _count(item: Item, verdict: str) -> None:
    item[NOT_RUN.get(verdict, "run")] += 1
    item["deviating"] += verdict == "deviation"
    item["failed"] += verdict in _FAILED


def _item(group: tuple[str, ...], count: int) -> Item:
    return {**dict(zip(GROUP, group, strict=True)), **dict.fromkeys(COUNTS, 0), "planned": count}


def _place(item: Mapping[str, Any]) -> tuple[Any, ...]:
    order = (FRAMEWORKS, tuple(OPS), DERIVATIVES)
    known = [
        (names.index(item[of]) if item[of] in names else len(names), item[of])
        for of, names in zip(GROUP, order, strict=False)
    ]
    return (*known, item["dtype"], item["mode"], item["role"])


# ---------------------------------------------------------------- never planned


def declared(plan: Plan) -> list[Item]:
    """What subjects declare that they cannot do and the profile would have asked, with the reason.

    One item for each implementation, derivative and reason, with the arguments, dtypes and modes.
    """
    found: dict[tuple[str, ...], dict[str, list[str]]] = {}
    for entry in plan.registry.values():
        if entry.role != "subject":
            continue
        for argument, values in _asked(plan, entry):
            derivative, dtype, mode, reason = values
            key = (entry.framework, entry.op, entry.name, derivative, reason)
            lists = found.setdefault(key, {"arguments": [], "dtypes": [], "modes": []})
            for name, value in (("arguments", argument), ("dtypes", dtype), ("modes", mode)):
                if value not in lists[name]:
                    lists[name].append(value)
    names = ("framework", "op", "implementation", "derivative", "reason")
    items = [{**dict(zip(names, key, strict=True)), **lists} for key, lists in found.items()]
    order = tuple(OPS)
    return sorted(
        items,
        key=lambda i: (
            FRAMEWORKS.index(i["framework"]),
            order.index(i["op"]),
            i["implementation"],
            DERIVATIVES.index(i["derivative"]),
            i["reason"],
        ),
    )


def _asked(plan: Plan, entry: Implementation) -> Iterable[tuple[str, tuple[str, str, str, str]]]:
    """What the profile and the selection ask of an implementation that it declares it cannot do."""
    framework = get_framework(entry.framework)
    if plan.selection.cell:
        return
    for mode in framework.modes:
        for dtype in framework.dtypes:
            for derivative, argument in ops.get(entry.op).maps:
                if not applies(plan.profile, entry, derivative, dtype, mode):
                    continue
                reason = framework.unsupported_reason(entry, derivative, argument, dtype, mode)
                if reason is not None and _selected(
                    plan.selection, entry, derivative, argument, dtype, mode
                ):
                    yield argument, (derivative, dtype, mode, reason)


def _selected(
    selection: Selection, entry: Implementation, derivative: str, argument: str, dtype: str,
    mode: str,
) -> bool:  # fmt: skip
    """Whether a selection asks for it, whatever the concern, family and context."""
    concern = (*selection.concern, "accuracy")[0]
    family = (*selection.family, "realistic")[0]
    context = (*selection.context, "default")[0]
    cell = Cell(concern, entry.name, derivative, argument, dtype, mode, "cpu", context, family)
    return selection.accepts(cell, entry)


# ---------------------------------------------------------------- the floor


@cache
def floors() -> dict[str, Any]:
    """The committed floor, by profile and framework."""
    text = (files("conformance") / "floor.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


def unchecked(run: Mapping[str, Any], items: Sequence[Mapping[str, Any]]) -> str:
    """Why a run is not held to the floor; empty if it is: one of everything, all installed."""
    if run.get("profile") not in floors():
        return f"profile {run.get('profile')} has no floor"
    return _not_whole(run, items)


def _not_whole(run: Mapping[str, Any], items: Sequence[Mapping[str, Any]]) -> str:
    """Why a run is not one of everything; empty if it is."""
    if any((run.get("selection") or {}).values()):
        return "a selection was run"
    if run.get("shard"):
        return "a shard was run; `conformance merge` holds the whole to it"
    lacking = sorted({i["framework"] for i in items if i["not_installed"]})
    if lacking:
        return f"not all is installed: {', '.join(lacking)}"
    if any(i["not_run"] for i in items):
        return "the record is partial"
    return ""


def below(profile: str, items: Sequence[Mapping[str, Any]]) -> list[str]:
    """Where a whole run falls below the floor, a line each."""
    out = []
    for framework, least in floors()[profile].items():
        mine = [i for i in items if i["framework"] == framework]
        ran = sum(i["run"] for i in mine)
        if ran < least["cells"]:
            out.append(f"{framework}: {ran} cells ran, the floor of {profile} is {least['cells']}")
        there = {(i["op"], i["derivative"]) for i in mine if i["role"] == "subject" and i["run"]}
        for op, derivatives in least["subjects"].items():
            lost = [d for d in derivatives if (op, d) not in there]
            if lost:
                out.append(f"{framework}: no subject of {op} ran in {', '.join(lost)}")
    return out


def floor_text(records: Sequence[tuple[str, Sequence[Mapping[str, Any]]]]) -> str:
    """The floor that runs just meet, as TOML.

    Parameters
    ----------
    records : sequence of (profile, table)
    """
    out = [
        "# The least that a whole run of a profile has to measure, see conformance/coverage.py.",
        "# Made by `python -m conformance.coverage RUN...` from whole runs, one for each profile.",
    ]
    for profile, items in records:
        for framework in FRAMEWORKS:
            mine = [i for i in items if i["framework"] == framework]
            if not mine:
                continue
            out += ["", f"[{profile}.{framework}]", f"cells = {sum(i['run'] for i in mine)}"]
            out += [f"[{profile}.{framework}.subjects]"]
            for op in OPS:
                there = {i["derivative"] for i in mine
                         if i["op"] == op and i["role"] == "subject" and i["run"]}  # fmt: skip
                names = ", ".join(f'"{d}"' for d in DERIVATIVES if d in there)
                if names:
                    out.append(f"{op} = [{names}]")
    return "\n".join(out) + "\n"


def main(arguments: Sequence[str]) -> int:
    """Print the floor of records; those of profiles that none is of stay as they are."""
    from conformance.record import read_record

    measured = {}
    for name in arguments:
        record = read_record(Path(name))
        items = table(record.run["coverage"].get("table", ()), record.measurements)
        why = "the record is partial" if record.partial else _not_whole(record.run, items)
        if why:
            print(f"{name}: {why}", file=sys.stderr)
            return 2
        measured[str(record.run["profile"])] = items
    kept = {profile: _as_table(of) for profile, of in floors().items() if profile not in measured}
    print(floor_text([*kept.items(), *measured.items()]), end="")
    return 0


def _as_table(of: Mapping[str, Any]) -> list[Item]:
    """A floor as the table that just meets it."""
    out = []
    for framework, least in of.items():
        left = least["cells"]
        for op, derivatives in least["subjects"].items():
            for derivative in derivatives:
                out.append(_item((framework, op, derivative, "", "", "subject"), 0) | {"run": 1})
                left -= 1
        out.append(_item((framework, "", "", "", "", ""), 0) | {"run": left})
    return out


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
