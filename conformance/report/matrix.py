"""Ops against frameworks: the worst of each figure, for pages and for the terminal.

A square of the matrix speaks for several measurements and shows the worst of each figure, which
need not be one measurement's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from conformance.record import Record
from conformance.report.rows import (
    DERIVATIVES,
    DTYPES,
    FAILING,
    MODES,
    OPS,
    Measurement,
    framework_rank,
    framework_version,
    largest,
    rank,
    slug,
    worst_grade,
)


@dataclass(frozen=True)
class Column:
    """A framework in one run."""

    framework: str
    version: str
    run: str
    installed: bool

    @property
    def title(self) -> str:
        """Name and version."""
        return f"{self.framework} {self.version}".strip()


@dataclass(frozen=True)
class Chip:
    """The worst of what one op's derivative showed in a framework, in one dtype and mode."""

    dtype: str
    mode: str
    grade: str | None
    max_ulp: float | None
    ratio_weak: float | None
    ratio_strong: float | None
    cells: int
    failing: int
    deviating: int
    unsupported: int
    flags: tuple[str, ...]

    @property
    def state(self) -> str:
        """One word for the whole: fail, deviation, pass, unsupported or none."""
        if self.failing:
            return "fail"
        if self.deviating:
            return "deviation"
        if self.grade is not None:
            return "pass"
        return "unsupported" if self.unsupported else "none"


@dataclass(frozen=True)
class Square:
    """Where a row and a column of the matrix meet.

    Attributes
    ----------
    variant
        "builtin" where the framework has the op; "composition" where only compositions stand for
        it; empty where nothing does.
    implementations
        Names of those that the chips speak for.
    chips
        By mode and dtype.
    flags
        Each flag with the dtypes that show it.
    """

    variant: str
    implementations: tuple[str, ...]
    chips: Mapping[tuple[str, str], Chip]
    flags: tuple[tuple[str, tuple[str, ...]], ...]

    @property
    def modes(self) -> list[str]:
        """The modes that were measured, in order."""
        return sorted({mode for mode, _ in self.chips}, key=lambda m: rank(MODES, m))


@dataclass(frozen=True)
class Line:
    """A row of the matrix: one derivative of one op."""

    op: str
    derivative: str
    argument: str
    squares: tuple[Square, ...]

    @property
    def slug(self) -> str:
        """The anchor of its rows in the full table."""
        return slug(self.op, self.derivative, self.argument)


@dataclass(frozen=True)
class Matrix:
    """Ops and derivatives against frameworks."""

    columns: tuple[Column, ...]
    dtypes: tuple[str, ...]
    lines: tuple[Line, ...]


def run_names(count: int) -> list[str]:
    """Return what the runs of a report are called: A, B, C, ..., or nothing for a single one."""
    if count == 1:
        return [""]
    return [chr(ord("A") + i) if i < 26 else f"run {i + 1}" for i in range(count)]


def matrix(records: Sequence[Record]) -> Matrix:
    """Return the matrix of one or several records: a column per framework and run."""
    columns: list[tuple[Column, Sequence[Measurement]]] = []
    for name, record in zip(run_names(len(records)), records, strict=True):
        subjects = [r for r in record.measurements if r["role"] == "subject"]
        for framework in {r["framework"] for r in subjects}:
            rows = [r for r in subjects if r["framework"] == framework]
            installed = any(r["verdict"] != "not installed" for r in rows)
            columns.append((Column(framework, framework_version(rows), name, installed), rows))
    columns.sort(key=lambda c: (framework_rank(c[0].framework), c[0].run))

    every = [row for _, rows in columns for row in rows]
    groups = {(r["op"], r["derivative"], r["argument"]) for r in every}
    ordered = sorted(groups, key=lambda g: (rank(OPS, g[0]), rank(DERIVATIVES, g[1]), g[2]))
    lines = [
        Line(
            op,
            derivative,
            argument,
            tuple(
                _square(
                    [
                        r
                        for r in rows
                        if (r["op"], r["derivative"], r["argument"]) == (op, derivative, argument)
                    ]
                )
                for _, rows in columns
            ),
        )
        for op, derivative, argument in ordered
    ]
    dtypes = sorted({r["dtype"] for r in every}, key=lambda d: rank(DTYPES, d))
    return Matrix(tuple(c for c, _ in columns), tuple(dtypes), tuple(lines))


def speaking(rows: Sequence[Measurement]) -> tuple[str, list[Measurement]]:
    """Return which rows speak for a framework's op: its built-ins, else its compositions."""
    for variant in ("builtin", "composition"):
        found = [r for r in rows if (r["variant"] or "builtin") == variant]
        if found:
            return variant, found
    return "", []


def graded(rows: Sequence[Measurement]) -> Sequence[Measurement]:
    """Return the rows whose grades and errors speak for an op: those of concern accuracy.

    What special values or underflow broke shows in the counts of failures and deviations; taken
    into the grade, one NaN that everybody returns would make all of them alike.
    """
    return [r for r in rows if r["concern"] == "accuracy"] or rows


def _square(rows: Sequence[Measurement]) -> Square:
    variant, rows = speaking([r for r in rows if r["verdict"] not in ("not installed", "not run")])
    by_chip: dict[tuple[str, str], list[Measurement]] = {}
    flags: dict[str, set[str]] = {}
    for row in rows:
        by_chip.setdefault((row["mode"], row["dtype"]), []).append(row)
        for flag in row["flags"]:
            flags.setdefault(flag, set()).add(row["dtype"])
    return Square(
        variant,
        tuple(sorted({r["implementation"] for r in rows})),
        {place: _chip(*place, found) for place, found in by_chip.items()},
        tuple(
            (flag, tuple(sorted(dtypes, key=lambda d: rank(DTYPES, d))))
            for flag, dtypes in sorted(flags.items())
        ),
    )


def _chip(mode: str, dtype: str, rows: Sequence[Measurement]) -> Chip:
    verdicts = Counter(r["verdict"] for r in rows)
    spoken = graded(rows)
    return Chip(
        dtype=dtype,
        mode=mode,
        grade=worst_grade(r["grade"] for r in spoken),
        max_ulp=largest(r["max_ulp"] for r in spoken),
        ratio_weak=largest(r["ratio_weak"] for r in spoken),
        ratio_strong=largest(r["ratio_strong"] for r in spoken),
        cells=len(rows),
        failing=sum(verdicts[v] for v in FAILING),
        deviating=verdicts["deviation"],
        unsupported=verdicts["unsupported"],
        flags=tuple(sorted({f for r in rows for f in r["flags"]})),
    )


@dataclass(frozen=True)
class Summary:
    """One framework's answer to one op, over all derivatives, dtypes and modes."""

    op: str
    framework: str
    version: str
    installed: bool
    variant: str
    grades: Mapping[str, str | None]
    max_ulp: float | None
    ratio_weak: float | None
    failing: int
    deviating: int


def summaries(measurements: Sequence[Measurement]) -> list[Summary]:
    """Return a summary per op and framework: figures of its built-ins, counts of all subjects."""
    subjects = [r for r in measurements if r["role"] == "subject"]
    groups: dict[tuple[str, str], list[Measurement]] = {}
    for row in subjects:
        groups.setdefault((row["op"], row["framework"]), []).append(row)
    answer = []
    for (op, framework), rows in groups.items():
        variant, spoken = speaking(
            [r for r in rows if r["verdict"] not in ("not installed", "not run")]
        )
        spoken = list(graded(spoken))
        dtypes = {r["dtype"] for r in spoken}
        answer.append(
            Summary(
                op=op,
                framework=framework,
                version=framework_version(rows),
                installed=any(r["verdict"] != "not installed" for r in rows),
                variant=variant,
                grades={
                    d: worst_grade(r["grade"] for r in spoken if r["dtype"] == d)
                    for d in sorted(dtypes, key=lambda d: rank(DTYPES, d))
                },
                max_ulp=largest(r["max_ulp"] for r in spoken),
                ratio_weak=largest(r["ratio_weak"] for r in spoken),
                failing=sum(r["verdict"] in FAILING for r in rows),
                deviating=sum(r["verdict"] == "deviation" for r in rows),
            )
        )
    return sorted(answer, key=lambda s: (rank(OPS, s.op), framework_rank(s.framework)))
