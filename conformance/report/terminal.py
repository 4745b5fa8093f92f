"""The table at the end of a run, for a terminal of 80 columns.

Everything from a measurement passes `printable` and reaches rich as text, never as markup.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from conformance.report import counts, matrix, outcomes, rows
from conformance.text import printable

_GRADE_STYLES = {
    "A+": "bold green",
    "A": "green",
    "B": "cyan",
    "C": "yellow",
    "F": "bold red",
}
# More failures than a person reads; the report has them all.
_MOST = 20


def summary_table(
    measurements: Sequence[rows.Measurement],
    coverage: Mapping[str, Any] | None = None,
    run: Mapping[str, Any] | None = None,
) -> RenderableType:
    """Return what a run found: a row per op and framework, what failed, and how much ran.

    Grades, worst ULP and test ratio speak for the framework's built-ins (for its compositions where
    it has no built-in); the counts for all its subjects.

    Parameters
    ----------
    measurements
        Rows of a record.
    coverage
        What was planned: `planned`, the number of cells, and `left_out`, texts. Without it, the
        measured cells are taken for the plan.
    run
        What its commands depend on: `profile` and `seed`.

    Returns
    -------
    RenderableType
        For a console of at least 80 columns; `print_summary` prints it.
    """
    parts: list[RenderableType] = []
    if measurements:
        parts.append(_figures(measurements))
    for framework in rows.missing_frameworks(measurements):
        parts.append(Text(f"{printable(framework, 40)}: not installed", style="yellow"))
    parts += _failures(outcomes.failures(measurements), rows.run_options(run or {}))
    parts += _instrument(outcomes.instruments(measurements))
    parts += _counts(measurements, coverage)
    return Group(*parts)


def print_summary(
    console: Console,
    measurements: Sequence[rows.Measurement],
    coverage: Mapping[str, Any] | None = None,
    run: Mapping[str, Any] | None = None,
) -> None:
    """Print `summary_table`; commands stay whole however narrow the terminal is."""
    console.print(summary_table(measurements, coverage, run), crop=False)


def _figures(measurements: Sequence[rows.Measurement]) -> Table:
    dtypes = rows.dtypes_of(r for r in measurements if r["role"] == "subject")
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("worst of each", no_wrap=True, overflow="ellipsis", max_width=28)
    for dtype in dtypes:
        table.add_column(rows.SHORT_DTYPES.get(dtype, printable(dtype, 8)), no_wrap=True)
    for title in ("ULP", "ratio", "fail", "deviate"):
        table.add_column(title, justify="right", no_wrap=True)
    op = None
    for line in matrix.summaries(measurements):
        if not line.installed:
            continue
        if line.op != op:
            op = line.op
            table.add_row(Text(printable(op, 40), style="bold"))
        name = f"  {printable(line.framework, 16)} {printable(line.version, 12)}"
        table.add_row(
            Text(name),
            *(_grade(line.grades[d]) if d in line.grades else Text("") for d in dtypes),
            Text(rows.figure(line.max_ulp)),
            Text(rows.figure(line.ratio_weak)),
            _count(line.failing, "bold red"),
            _count(line.deviating, "yellow"),
        )
    return table


def _grade(grade: str | None) -> Text:
    return Text(grade or "–", style=_GRADE_STYLES.get(grade or "", "dim"))


def _count(count: int, style: str) -> Text:
    return Text(str(count), style=style if count else "dim")


def _failures(failing: Sequence[rows.Measurement], options: str) -> list[RenderableType]:
    if not failing:
        return []
    lines: list[RenderableType] = [Text("")]
    for row in failing[:_MOST]:
        # Never broken: what a subject wrote must not come to stand at the beginning of a line,
        # where a CI service may read it as a command.
        line = Text(no_wrap=True, overflow="ignore")
        line.append(f"{printable(row['verdict'], 20)} ", style="bold red")
        line.append(printable(f"{rows.describe(row)}: {rows.reason(row)}", 200))
        lines.append(line)
        command = rows.explain_command(row) or rows.cell_command(row, options)
        # Never cut: it is there to be copied.
        lines.append(
            Text(f"     {printable(command, 1000)}", style="dim", no_wrap=True, overflow="ignore")
        )
    if len(failing) > _MOST:
        lines.append(Text(f"and {len(failing) - _MOST} more, all of them in the report"))
    return lines


def _instrument(proofs: Sequence[outcomes.Instrument]) -> list[RenderableType]:
    """Return a line for each control or mutant that did not do what it must."""
    lines: list[RenderableType] = []
    for proof in proofs:
        if proof.proven:
            continue
        what = "is not bit-equal" if proof.role == "control" else "was not caught"
        lines.append(
            Text(
                f"broken instrument: {proof.role} {printable(proof.name, 60)} {what}, "
                f"{printable(proof.where, 200)}",
                style="bold red",
                no_wrap=True,
                overflow="ignore",
            )
        )
    return lines


def _counts(
    measurements: Sequence[rows.Measurement], coverage: Mapping[str, Any] | None
) -> list[RenderableType]:
    planned = counts.planned_cells(coverage, len(measurements))
    parts = counts.tallies(measurements, planned)
    subjects = [t for t in parts if t.name not in counts.OTHERS]
    found = counts.total(subjects).counts
    lines: list[RenderableType] = [Text("")]
    told = [f"{found[v]} {v}" for v in found if found[v] or v == "pass"]
    told += [f"{t.planned} of {t.name}" for t in parts if t.name in counts.OTHERS]
    lines.append(Text(f"{planned} cells planned: {', '.join(told)}"))
    left_out = (coverage or {}).get("left_out")
    if isinstance(left_out, list) and left_out:
        texts = "; ".join(printable(t, 100) for t in left_out)
        lines.append(Text(f"left out: {texts}", style="dim"))
    floor = (coverage or {}).get("floor")
    why = floor.get("unchecked") if isinstance(floor, Mapping) else None
    if why:
        lines.append(Text(f"not held to the floor: {printable(why, 200)}", style="dim"))
    return lines
