"""A plan dealt out to several runs.

What shares a compiled function (the families of an implementation in a derivative, dtype and mode)
stays together: it compiles once, and a shard's figures cannot depend on the split. These groups are
dealt out one framework and mode after the other, each to the shard that has the least of them, so
that every shard gets about the same share of each. Every cell belongs to exactly one shard:
controls and mutants too, so a shard proves what it holds of them, and the merged record proves the
whole instrument.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from conformance.cells import Cell, SelectionError
from conformance.registry import Implementation

_MOST = 10_000


@dataclass(frozen=True)
class Shard:
    """One of several parts of a plan: number ``index`` of ``count``, counted from 1."""

    index: int
    count: int

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


def parse(text: str) -> Shard:
    """Read ``2/4``.

    Raises
    ------
    SelectionError
        For anything else.
    """
    found = re.fullmatch(r"([0-9]{1,5})/([0-9]{1,5})", text)
    if found is None:
        raise SelectionError(f"a shard is written K/N, such as 2/4; not {text!r}")
    shard = Shard(int(found[1]), int(found[2]))
    if not 1 <= shard.index <= shard.count <= _MOST:
        raise SelectionError(f"the shards of {shard.count} are 1/{shard.count} to "
                             f"{shard.count}/{shard.count}; {text!r} is none of them")  # fmt: skip
    return shard


def part(
    cells: Sequence[Cell], registry: Mapping[str, Implementation], shard: Shard
) -> tuple[Cell, ...]:
    """The cells of one shard, in the order of the plan.

    Raises
    ------
    SelectionError
        If there are so few cells that nothing is left for it.
    """
    whole = [0] * shard.count
    here: dict[tuple[str, str], list[int]] = {}
    owner: dict[tuple[str, ...], int] = {}
    groups: dict[tuple[str, ...], int] = {}
    for cell in cells:
        groups[_group(cell)] = groups.get(_group(cell), 0) + 1
    for cell in cells:
        group = _group(cell)
        if group in owner:
            continue
        stratum = registry[cell.implementation].framework, cell.mode
        counts = here.setdefault(stratum, [0] * shard.count)
        chosen = min(range(shard.count), key=lambda k: (counts[k], whole[k], k))
        owner[group] = chosen
        counts[chosen] += groups[group]
        whole[chosen] += groups[group]
    found = tuple(cell for cell in cells if owner[_group(cell)] == shard.index - 1)
    if not found:
        raise SelectionError(
            f"the {len(cells)} cells that are selected leave none for shard {shard}; "
            "take fewer shards"
        )
    return found


def _group(cell: Cell) -> tuple[str, ...]:
    return (cell.implementation, cell.derivative, cell.argument, cell.dtype, cell.mode,
            cell.device, cell.context)  # fmt: skip
