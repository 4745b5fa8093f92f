"""The oracle against Arb: every op, map and format, over all families and random bits.

A map's results must be the correct rounding of Arb's, and every enclosure of every arithmetic must
hold what Arb's ball holds (see :mod:`enclosures`). REFERENCE_LONG=1 asks for 100,000 elements of
each map and more, and ends with a table: ``python3 -m tox run -e oracle``.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import against_arb
import arb
import arb_inputs
import arb_table
import mpmath
import numpy as np
import pytest
from against_arb import MAPS, Key, Tally
from flint import ctx

from reference import ops
from reference.formats import FORMATS, Format

LONG = bool(os.environ.get("REFERENCE_LONG"))

# Elements of each format. float8 has few inputs: 256 of what takes one number.
QUOTA = {"float64": 30_000, "float32": 30_000, "bfloat16": 22_000, "float16": 22_000,
         "float8_e4m3fn": 4_000, "float8_e5m2": 4_000}  # fmt: skip
ELEMENTS = 2000 if LONG else 150
# Row length -> rows of every source in a round, for ops with one result per class, and per row.
PER_CLASS = {1: 1, 2: 12, 3: 10, 7: 5, 17: 3, 100: 1} if LONG else {1: 1, 2: 2, 3: 2, 7: 1, 17: 1}
PER_ROW = {1: 1, 2: 24, 3: 20, 7: 8, 17: 2, 100: 1} if LONG else {1: 1, 2: 4, 3: 4, 7: 2, 17: 1}
LONGEST = 1000


def rounds(key: Key, fmt: Format) -> Iterator[list[dict[str, Any]]]:
    """Batches of all row lengths, round after round without repetition, until nothing new comes."""
    seen: set[bytes] = set()
    if LONG and not ops.get(key[0]).elementwise:
        k = 2 * list(FORMATS).index(fmt.name)
        sources = [arb_inputs.SOURCES[i % len(arb_inputs.SOURCES)] for i in (k, k + 1)]
        yield [arb_inputs.rows(key, fmt, LONGEST, 1, 0, sources)]
    per_row = ops.get(key[0]).per_row and key[1] in ("value", "jvp")
    number = idle = 0
    while idle < 3:
        before, made = len(seen), []
        lengths = dict(PER_ROW if per_row else PER_CLASS)
        if per_row and number % 4:
            lengths.pop(100, None)  # 100 logits for one result
        for inputs in arb_inputs.batches(key, fmt, lengths, ELEMENTS, number):
            given = against_arb.rows_of(key, inputs)
            fresh = [r for r in range(len(given["x"])) if _is_new(given, r, seen)]
            made.append({name: a[fresh] for name, a in given.items()})
        yield made
        number, idle = number + 1, 0 if len(seen) > before else idle + 1


def _is_new(given: dict[str, Any], r: int, seen: set[bytes]) -> bool:
    row = b"".join(a[r].tobytes() for a in given.values())
    known = row in seen
    seen.add(row)
    return not known


@pytest.mark.parametrize("format_name", FORMATS)
@pytest.mark.parametrize("key", MAPS, ids="-".join)
def test_every_rounding_is_arbs_and_every_enclosure_holds_its_ball(
    key: Key, format_name: str, record_property: Callable[[str, Any], None]
) -> None:
    start, tally = time.perf_counter(), Tally()
    for batches in rounds(key, FORMATS[format_name]):
        for inputs in batches:
            tally += against_arb.compare(key, inputs, FORMATS[format_name])
        if tally.compared >= (QUOTA[format_name] if LONG else 1):
            break
    seconds = time.perf_counter() - start
    record_property(arb_table.NAME, arb_table.figures(key, format_name, tally, seconds))
    assert tally.wrong == []
    assert tally.missed == []
    assert tally.compared >= 40
    assert tally.left_open <= 0.02 * tally.compared


def test_every_map_of_every_op_is_compared() -> None:
    assert {(op, *key) for op, made in ops.OPS.items() for key in made.maps} == set(MAPS)
    assert sum(QUOTA.values()) - QUOTA["float8_e4m3fn"] - QUOTA["float8_e5m2"] >= arb_table.LEAST


@pytest.mark.parametrize("key", MAPS, ids="-".join)
def test_arb_and_the_textbook_say_the_same(key: Key) -> None:
    """The two independent oracles, of a row without any difficulty."""
    row = {"x": [0.5, -1.25, 2.0], "y": [1.0, 0.25, -0.5], "target": [0.5, 0.25, 2.0], "label": 1,
           "mask": [1, 0, 1], "pos_weight": [0.5, 3.0, 1.5], "v_x": [1.0, -3.0, 0.5],
           "v_y": [2.0, 1.0, -1.0], "v_target": [0.5, 4.0, 1.0], "v_pos_weight": [1.0, 2.0, 0.5],
           "g": 1.5 if ops.get(key[0]).per_row else [1.0, -2.0, 4.0]}  # fmt: skip
    made = {name: np.asarray(row[name]) for name in against_arb.needed(key)}
    with mpmath.workprec(300):
        truths = ops.get(key[0]).maps[key[1:]].definition(mpmath.mp, made)
    before, ctx.prec = ctx.prec, 250
    try:
        for ball, truth in zip(against_arb.balls(key, made), truths, strict=True):
            assert abs(ball - arb.exactly(truth._mpf_)) < 2.0**-200
    finally:
        ctx.prec = before
