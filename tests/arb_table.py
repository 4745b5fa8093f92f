"""The table that ends a comparison with Arb: one line for each map, from the reports of its items.

An item keeps its figures as the property ``NAME`` of its report, which reaches the terminal of a
distributed run too.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import against_arb

from reference.formats import FORMATS
from reference.references import BINARY64, DOUBLE_DOUBLE, MULTIPRECISION, SETTLED

NAME = "against_arb"
LEAST = 100_000
"""Elements of a map, over all formats, that the long version must compare."""

_TIERS = {SETTLED: "settled", BINARY64: "binary64", DOUBLE_DOUBLE: "dd", MULTIPRECISION: "mpmath"}


def figures(
    key: against_arb.Key, format_name: str, tally: against_arb.Tally, seconds: float
) -> dict[str, Any]:
    """What an item's report carries: plain values."""
    return {
        "map": "-".join(key),
        "format": format_name,
        "confirmed": dict(tally.confirmed),
        "enclosures": tally.enclosures,
        "open": tally.left_open,
        "touching": tally.touching.total(),
        "wrong": len(tally.wrong),
        "missed": len(tally.missed),
        "seconds": seconds,
    }


@dataclass
class Line:
    """The sum of a map's formats."""

    formats: set[str] = field(default_factory=set)
    confirmed: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    sums: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    def add(self, found: dict[str, Any]) -> None:
        self.formats.add(found["format"])
        for tier, count in found["confirmed"].items():
            self.confirmed[int(tier)] += count
        for name in ("enclosures", "open", "touching", "wrong", "missed", "seconds"):
            self.sums[name] += found[name]

    @property
    def compared(self) -> int:
        return sum(self.confirmed.values())

    @property
    def too_few(self) -> bool:
        """Were all formats asked, and too few elements compared?"""
        return self.formats == set(FORMATS) and self.compared < LEAST


def collect(reports: Iterable[Any]) -> dict[str, Line]:
    """The lines of all maps that some reports have figures of."""
    lines: dict[str, Line] = defaultdict(Line)
    for report in reports:
        for name, found in getattr(report, "user_properties", ()):
            if name == NAME:
                lines[found["map"]].add(found)
    return dict(sorted(lines.items()))


def text(lines: dict[str, Line]) -> list[str]:
    """The table."""
    width = max(map(len, lines), default=0)
    names = ("settled", "binary64", "dd", "mpmath")
    head = f"{'map':{width}}  compared" + "".join(f"{n:>9}" for n in names)
    out = [head + "  enclosures   open  touching  wrong  missed  seconds"]
    whole = Line()
    for name, line in lines.items():
        out.append(_row(name, width, line))
        for tier, count in line.confirmed.items():
            whole.confirmed[tier] += count
        for figure, value in line.sums.items():
            whole.sums[figure] += value
    out.append(_row("all", width, whole))
    out += [f"{name}: only {line.compared} of at least {LEAST} elements compared"
            for name, line in lines.items() if line.too_few]  # fmt: skip
    return out


def _row(name: str, width: int, line: Line) -> str:
    shares = "".join(f"{line.confirmed[t] / max(line.compared, 1):9.1%}" for t in _TIERS)
    s = line.sums
    return (
        f"{name:{width}} {line.compared:9d}{shares} {s['enclosures']:11.0f} {s['open']:6.0f} "
        f"{s['touching']:9.0f} {s['wrong']:6.0f} {s['missed']:7.0f} {s['seconds']:8.1f}"
    )
