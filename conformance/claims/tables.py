"""A claim's verdicts as a table: a row per framework and modes, a column per dtype."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from conformance.claims.verdicts import Item

__all__ = ["DTYPES", "Text", "example", "further", "rows_of"]

Text = Callable[[Item], str]
DTYPES = ("float64", "float32", "bfloat16", "float16")


def rows_of(items: Sequence[Item], text: Text) -> list[tuple[str, list[str], dict[str, str]]]:
    """A claim's items as rows: framework, the modes with the same cells, and the cells by dtype."""
    by_mode: dict[tuple[str, str], dict[str, str]] = {}
    for item in items:
        by_mode.setdefault((item.framework, item.mode), {})[item.dtype] = text(item)
    rows: list[tuple[str, list[str], dict[str, str]]] = []
    for (framework, mode), cells in by_mode.items():
        for name, modes, known in rows:
            if name == framework and known == cells:
                modes.append(mode)
                break
        else:
            rows.append((framework, [mode], cells))
    return rows


def further(title: str, item: Item) -> str:
    """The cell of one of the further tables."""
    return item.more.get(title, "")


def example(items: Sequence[Item]) -> Item | None:
    """The verdict whose counter-example speaks for all: in float32, where there is one."""
    wanted = ("float32", *DTYPES)
    return next((i for d in wanted for i in items if i.dtype == d and i.counter_example), None)
