"""Cases: the same everywhere, by name, and hitting what they are for."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reference import cases, formats, ops, oracle
from reference.cases import CaseError
from reference.formats import FORMATS

ROOT = Path(__file__).parent.parent
ALL = [(f, op, fmt) for f in cases.FAMILIES for op in ops.OPS for fmt in FORMATS]

PROGRAM = """
import json
from reference import cases, ops
from reference.formats import FORMATS
print(json.dumps([
    c.case_id
    for family in cases.FAMILIES for op in ops.OPS for fmt in FORMATS for n in (1, 3, 17)
    for c in cases.make(family, op, fmt, n, seed=9, limit=6)
]))
"""


def test_every_process_makes_the_same_rows_whatever_its_hash_seed() -> None:
    runs = [
        subprocess.run(
            [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": seed}, timeout=120,
        ).stdout
        for seed in ("0", "4711")
    ]  # fmt: skip
    assert runs[0] == runs[1]
    ids = json.loads(runs[0])
    assert len(ids) > 1000
    here = [c.case_id for c in cases.make("masks", "softmax", "float16", 17, seed=9, limit=6)]
    assert set(here) <= set(ids)


def test_a_few_digests_are_as_they_were() -> None:
    """Rows that records and deviations name: a change of a family has to raise its version."""
    pinned = [
        ("realistic", "softmax", "float32", 7, 0),
        ("gap_ladder", "log_softmax", "bfloat16", 2, 0),
        ("masks", "softmax_cross_entropy", "float16", 17, 3),
        ("near_ties", "logsumexp", "float64", 3, 0),
        ("subnormals", "sparse_softmax_cross_entropy", "float8_e5m2", 3, 1),
    ]
    made = [cases.make(f, op, fmt, n, seed=s)[1].case_id for f, op, fmt, n, s in pinned]
    assert made == PINNED


PINNED = [
    "softmax-float32-realistic1-n7-s0-r1-0195b2",
    "log_softmax-bfloat16-gap_ladder1-n2-s0-r1-c892ed",
    "softmax_cross_entropy-float16-masks1-n17-s3-r1-2a62bb",
    "logsumexp-float64-near_ties1-n3-s0-r1-fc99e5",
    "sparse_softmax_cross_entropy-float8_e5m2-subnormals1-n3-s1-r1-9fac73",
]


@pytest.mark.parametrize(("family", "op", "format_name"), ALL)
def test_rows_are_of_their_format_and_come_back_by_their_ids(
    family: str, op: str, format_name: str
) -> None:
    fmt = FORMATS[format_name]
    for n in (1, 2, 7, 33):
        made = cases.make(family, op, format_name, n, seed=1)
        assert made
        assert len({c.case_id for c in made}) == len(made)
        for case in made:
            for name, array in case.inputs.items():
                if name == "label":
                    assert array.dtype == np.int64
                    assert 0 <= array < n
                else:
                    assert fmt.holds(np.asarray(array)).all(), (case.case_id, name)
            k = 1 if ops.get(op).per_row else n
            assert case.inputs["g"].shape == (() if k == 1 and ops.get(op).per_row else (n,))
            assert (k * np.abs(case.inputs["g"]) <= fmt.max_finite / 8).all()
            assert case.n == n
            assert (case.op, case.format, case.family) == (op, format_name, family)
            if "target" in case.inputs:
                assert np.isfinite(case.inputs["target"]).all()
        for case in made[:: max(1, len(made) // 4)]:
            again = cases.by_id(case.case_id)
            assert again.case_id == case.case_id
            for name in case.inputs:
                np.testing.assert_array_equal(again.inputs[name], case.inputs[name])


@pytest.mark.parametrize("op", ops.OPS)
def test_witnesses_come_back_by_their_ids(op: str) -> None:
    for format_name in FORMATS:
        for case in cases.witnesses(op, format_name):
            again = cases.by_id(case.case_id)
            assert again.case_id == case.case_id
            np.testing.assert_array_equal(again.inputs["x"], case.inputs["x"])
            assert in_family(case)


def in_family(case: Any) -> bool:
    named = [c.case_id for c in cases.witnesses(case.op, case.format, case.family)]
    return case.case_id in named


GOOD = cases.make("realistic", "softmax", "float32", 4)[2].case_id


@pytest.mark.parametrize(
    ("case_id", "reason"),
    [
        (GOOD[:-6] + ("000000" if GOOD[-6:] != "000000" else "111111"), "digest does not fit"),
        (GOOD.replace("softmax", "sofmax", 1), "no op 'sofmax'; did you mean softmax"),
        (GOOD.replace("float32", "float31"), "no format 'float31'; did you mean float32"),
        (GOOD.replace("realistic", "realstic"), "no family 'realstic'; did you mean realistic"),
        (GOOD.replace("realistic1", "realistic7"), "is at version 1, not 7"),
        (GOOD.replace("-r2-", "-r99999-"), "has no row 99999"),
        (GOOD.replace("-n4-", "-n0-"), "row length of the id is out of range"),
        (GOOD.replace("-n4-", "-n99999999999-"), "row length of the id is out of range"),
        (GOOD.replace("-s0-", "-s" + "9" * 30 + "-"), "out of range"),
        ("softmax-float16-w.nothing-000000", "no witness 'nothing' for softmax in float16"),
        ("softmax-float16-w.equal_70000-000000", "digest does not fit"),
        ("", "not a case id"),
        ("x" * 1000, "not a case id"),
        (GOOD + "\n", "not a case id"),
        ("../../etc/passwd", "not a case id"),
    ],
)
def test_ids_that_name_nothing_say_so_in_one_line(case_id: str, reason: str) -> None:
    with pytest.raises(CaseError, match=reason) as caught:
        cases.by_id(case_id)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 200


def test_another_seed_or_length_makes_other_rows() -> None:
    first = cases.make("realistic", "softmax", "float32", 4, seed=0)
    second = cases.make("realistic", "softmax", "float32", 4, seed=1)
    assert {c.case_id[-6:] for c in first}.isdisjoint(c.case_id[-6:] for c in second)


@pytest.mark.parametrize("limit", [1, 2, 5, 10_000])
def test_thinning_keeps_both_ends(limit: int) -> None:
    everything = cases.make("gap_ladder", "softmax", "float32", 2)
    some = cases.make("gap_ladder", "softmax", "float32", 2, limit=limit)
    assert len(some) == min(limit, len(everything))
    assert some[0].case_id == everything[0].case_id
    assert limit == 1 or some[-1].case_id == everything[-1].case_id


# ---------------------------------------------------------------- what families are for


@pytest.mark.parametrize("format_name", FORMATS)
def test_subnormals_have_subnormal_results_and_inputs(format_name: str) -> None:
    fmt = FORMATS[format_name]
    for n in (2, 7):
        made = cases.stack(cases.make("subnormals", "softmax", format_name, n))
        values = oracle.evaluate("softmax", "value", "-", made, fmt).rounded()
        inside = (values > 0) & (values < fmt.smallest_normal)
        assert inside.sum() >= 3
        x = made["x"]
        assert ((x != 0) & (np.abs(x) < fmt.smallest_normal)).any()
        assert ((x == 0) & np.signbit(x)).any()
    logs = cases.stack(cases.make("subnormals", "log_softmax", format_name, 2))
    refs = oracle.evaluate("log_softmax", "value", "-", logs, fmt)
    small = refs.rounded()
    assert ((small == 0) & np.signbit(small) & (refs.hi < 0)).any() or (
        (small < 0) & (small > -fmt.smallest_normal)).any()  # fmt: skip


@pytest.mark.parametrize("format_name", FORMATS)
def test_masks_reach_every_position(format_name: str) -> None:
    fmt = FORMATS[format_name]
    lowest = -math.inf if fmt.has_infinity else -fmt.max_finite
    labels_on_masked = []
    for n in (2, 3, 9):
        made = cases.make("masks", "sparse_softmax_cross_entropy", format_name, n)
        x = np.stack([c.inputs["x"] for c in made])
        masked = x == lowest
        assert masked.any(axis=0).all()
        assert (~masked).any(axis=0).all()
        assert masked.all(axis=1).any()
        assert (masked.sum(axis=1) == n - 1).any()
        labels = np.array([c.inputs["label"] for c in made])
        on_masked = masked[np.arange(len(made)), labels] & ~masked.all(axis=1)
        labels_on_masked.append(on_masked.sum())
        assert (~masked[np.arange(len(made)), labels]).any()
    assert sum(labels_on_masked) >= 1


@pytest.mark.parametrize("format_name", FORMATS)
def test_the_gap_ladder_has_steps_around_every_threshold(format_name: str) -> None:
    fmt = FORMATS[format_name]
    made = cases.make("gap_ladder", "softmax", format_name, 2)
    gaps = np.array([np.ptp(c.inputs["x"]) for c in made])
    step = max(0.13, float(formats.ulp(fmt, np.array((fmt.precision - fmt.emin) * math.log(2)))))
    for threshold in (
        fmt.precision * math.log(2),
        -fmt.emin * math.log(2),
        (fmt.precision - fmt.emin) * math.log(2),
    ):
        assert ((gaps >= threshold - step) & (gaps <= threshold)).any()
        assert ((gaps >= threshold) & (gaps <= threshold + step)).any()
    assert gaps.max() >= fmt.max_finite / 33
    probabilities = oracle.evaluate("softmax", "value", "-", cases.stack(made), fmt).rounded()
    assert ((probabilities > 0) & (probabilities < fmt.smallest_normal)).any()
    assert (probabilities == 0).any()
    assert (probabilities == 1).any()


@pytest.mark.parametrize("format_name", FORMATS)
def test_the_shift_ladder_reaches_the_formats_range(format_name: str) -> None:
    fmt = FORMATS[format_name]
    made = cases.stack(cases.make("shift_ladder", "softmax", format_name, 5))["x"]
    assert made.max() >= fmt.max_finite / 2.5
    assert made.min() <= -fmt.max_finite / 2.5
    assert (np.abs(made).max(axis=1) < 32).any()


@pytest.mark.parametrize("format_name", FORMATS)
def test_near_ties_hold_equal_rows_and_rows_an_ulp_apart(format_name: str) -> None:
    fmt = FORMATS[format_name]
    x = cases.stack(cases.make("near_ties", "softmax", format_name, 16))["x"]
    spread = np.ptp(x, axis=1)
    assert (spread == 0).sum() >= 4
    assert ((spread > 0) & (spread <= 2 * formats.ulp(fmt, x.max(axis=1)))).any()


@pytest.mark.parametrize("format_name", FORMATS)
def test_the_lattice_holds_every_pattern_of_three(format_name: str) -> None:
    fmt = FORMATS[format_name]
    x = cases.stack(cases.make("infinity_lattice", "softmax", format_name, 3))["x"]
    special = [math.nan, fmt.max_finite, -fmt.max_finite]
    special += [math.inf, -math.inf] if fmt.has_infinity else []
    kinds = {tuple(_kind(v, special) for v in row) for row in x}
    assert len(kinds) == (len(special) + 1) ** 3
    longer = cases.stack(cases.make("infinity_lattice", "softmax", format_name, 9))["x"]
    for position in (0, 4, 8):
        assert np.isnan(longer[:, position]).any()
        assert not fmt.has_infinity or (longer[:, position] == math.inf).any()


def _kind(value: float, special: list[float]) -> str:
    for s in special:
        if value == s or (math.isnan(value) and math.isnan(s)):
            return str(s)
    return "finite"


@pytest.mark.parametrize("family", ["masks", "realistic"])
def test_rows_as_long_as_a_vocabulary_fit_into_memory(family: str) -> None:
    first, last = cases.make(family, "softmax_cross_entropy", "bfloat16", 65536, limit=2)
    assert first.n == last.n == 65536
    assert first.inputs["target"].sum() > 0


def test_soft_targets_take_all_their_turns() -> None:
    made = cases.make("realistic", "softmax_cross_entropy", "float32", 9)
    totals = np.array([c.inputs["target"].sum() for c in made])
    for total in (0.5, 1.0, 2.0):
        assert (np.abs(totals - total) < 1e-3).any()
    assert any((c.inputs["target"] == 0).any() for c in made)
