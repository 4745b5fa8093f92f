"""Cases: the same everywhere, by name, and hitting what they are for."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conformance.profiles import PROFILES
from conformance.registry import load_builtin
from reference import cases, formats, ops, oracle
from reference.cases import FAMILIES, CaseError, base
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


PINNED = [line for line in (Path(__file__).parent / "case_ids.txt").read_text().splitlines()
          if not line.startswith("#")]  # fmt: skip


@pytest.mark.parametrize("case_id", PINNED)
def test_ids_stay_as_they_were(case_id: str) -> None:
    """Rows that records and deviations name: a change of a family has to raise its version."""
    assert cases.by_id(case_id).case_id == case_id


def test_what_is_no_part_of_an_id_stays_as_it_was() -> None:
    """Tangents: an id names its row whether or not anybody takes forward derivatives there."""
    h = hashlib.sha256()
    for case_id in PINNED:
        for name, values in sorted(cases.by_id(case_id).inputs.items()):
            if name.startswith("v_"):
                h.update(name.encode() + values.astype("<f8").tobytes())
    assert h.hexdigest()[:16] == TANGENTS
    case = cases.by_id(GOOD)
    other = {**case.inputs, "v_x": 2 * case.inputs["v_x"]}
    assert base.digest(other) == base.digest(case.inputs) == GOOD[-6:]
    assert base.digest({**case.inputs, "x": 2 * case.inputs["x"]}) != GOOD[-6:]


TANGENTS = "e009d0bdf66774a7"


@pytest.mark.parametrize(("family", "op", "format_name"), ALL)
def test_rows_are_of_their_format_and_come_back_by_their_ids(
    family: str, op: str, format_name: str
) -> None:
    fmt, definition = FORMATS[format_name], ops.get(op)
    tangents = {f"v_{name}" for name in definition.differentiable}
    for n in (1, 2, 7, 33):
        made = cases.make(family, op, format_name, n, seed=1)
        assert made
        assert set(made[0].inputs) == {*definition.inputs, "g", *tangents}
        assert len({c.case_id for c in made}) == len(made)
        for case in made:
            for name, array in case.inputs.items():
                if name == "label":
                    assert array.dtype == np.int64
                    assert array.shape == ()
                    assert 0 <= array < n
                    continue
                shape = () if name == "g" and definition.per_row else (n,)
                assert array.shape == shape, (case.case_id, name)
                assert array.dtype == (bool if name == "mask" else np.float64)
                assert fmt.holds(np.asarray(array, np.float64)).all(), (case.case_id, name)
                if name == "g" or name.startswith("v_"):
                    assert (np.size(array) * np.abs(array) <= fmt.max_finite / 8).all()
            assert case.n == n
            assert (case.op, case.format, case.family) == (op, format_name, family)
            for name in ("target", "pos_weight"):
                assert np.isfinite(case.inputs.get(name, 0.0)).all()
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
            for name in case.inputs:
                np.testing.assert_array_equal(again.inputs[name], case.inputs[name])
            assert in_family(case)
            for key in ops.get(op).maps if case.n < 100 and format_name == "float32" else ():
                refs = oracle.evaluate(op, *key, cases.stack([case]), FORMATS[format_name])
                assert refs.shape[0] == 1


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


@pytest.mark.parametrize("n", FAMILIES["limit_table"].lengths)
@pytest.mark.parametrize("format_name", ["float64", "float32", "bfloat16", "float16"])
def test_the_limit_table_has_every_row_at_every_place(format_name: str, n: int) -> None:
    rows = cases.stack(cases.make("limit_table", "softmax", format_name, n))["x"]
    kinds = {(tuple(np.flatnonzero(row == math.inf)), tuple(np.flatnonzero(np.isnan(row))),
              int((row == -math.inf).sum())) for row in rows}  # fmt: skip
    places = sorted({0, n // 2, n - 1})
    expected = {((), (), n)}
    for k in places:
        expected |= {
            ((), (), 1),
            ((k,), (), 0),
            ((), (k,), 0),
            ((k,), (), n - 1),
            ((), (k,), n - 1),
        }
    expected |= {(pair, (), 0) for pair in itertools.combinations(places, 2)}
    assert kinds == expected
    alone = [int(np.argmin(row)) for row in rows if (row == -math.inf).sum() == 1 and n > 2]
    assert n == 2 or alone == places


@pytest.mark.parametrize("n", FAMILIES["limit_table"].lengths)
def test_losses_have_the_label_on_a_special_entry_and_beside_it(n: int) -> None:
    made = cases.stack(cases.make("limit_table", "sparse_softmax_cross_entropy", "float32", n))
    x, label = made["x"], made["label"]
    special = ~np.isfinite(x[np.arange(len(x)), label])
    half = len(x) // 2
    assert special[:half].all()
    finite = (~np.isfinite(x)).sum(axis=1) == 1
    assert not special[half:][finite[half:]].any()
    soft = cases.stack(cases.make("limit_table", "softmax_cross_entropy", "float32", n))["target"]
    assert (soft[:half][:-1].sum(axis=1) == 1).all()
    assert (soft[half - 1] == 0).all()
    assert (soft[half:] > 0).all()


def test_the_limit_table_is_asked_whole_wherever_it_is_asked() -> None:
    registry = load_builtin()
    for name in ("conformance.numpy.softmax", "jax.nn.softmax", "jax.nn.softplus"):
        for mode in ("eager", "compiled"):
            for derivative in ("value", "hvp"):
                asked = PROFILES["standard"].asked(registry[name], mode, derivative, "limit_table")
                assert asked == [(2, None), (9, None), (300, None)]


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


# ---------------------------------------------------------------- the other inputs


@pytest.mark.parametrize("op", ops.OPS)
def test_every_map_has_an_answer_on_every_family(op: str) -> None:
    """One format for each family and length, in turn: nothing is missing and nothing is open."""
    names = list(FORMATS)
    for k, family in enumerate(cases.FAMILIES):
        for n in (1, 3, 8):
            fmt = FORMATS[names[(k + n) % len(names)]]
            rows = cases.stack(cases.make(family, op, fmt.name, n, seed=4, limit=12))
            for derivative, argument in ops.get(op).maps:
                needed = ops.get(op).needs(derivative, argument)
                given = {name: rows[name] for name in needed}
                refs = oracle.evaluate(op, derivative, argument, given, fmt)
                assert refs.shape[0] == len(rows["x"])


def stacked(op: str, fmt: str, n: int, family: str = "realistic") -> Any:
    """Rows of several seeds, so that every kind of input has come up."""
    return cases.stack([c for s in range(4) for c in cases.make(family, op, fmt, n, seed=s)])


@pytest.mark.parametrize("format_name", FORMATS)
def test_second_logits_are_near_far_equal_and_cut(format_name: str) -> None:
    fmt, n = FORMATS[format_name], 9
    for op in ("kl_divergence", "logaddexp"):
        rows = stacked(op, format_name, n)
        x, y = rows["x"], rows["y"]
        d = np.where(np.isfinite(y), y - x, np.inf)
        ulp = formats.ulp(fmt, np.maximum(np.abs(x), np.abs(y)))
        constant = np.ptp(d, axis=1) == 0
        assert (constant & (d[:, 0] == 0)).any()
        moved = np.ptp(d, axis=1) <= ulp.max(axis=1)  # but for the rounding of y
        assert (moved & (np.abs(d) > 2 * ulp).all(axis=1)).any()
        ulps = np.abs(d) / formats.ulp(fmt, x)
        assert ((ulps <= 4).all(axis=1) & ~constant).any()
        assert ((np.sort(x) == np.sort(y)).all(axis=1) & ~(x == y).all(axis=1)).any()
        assert (y == -x).all(axis=1).any()
        lowest = -math.inf if fmt.has_infinity else -fmt.max_finite
        cut = (y == lowest) & (x != lowest)
        assert (cut.any(axis=1) & ~cut.all(axis=1)).sum() >= 2
        assert (np.abs(d) > 16 * formats.ulp(fmt, x)).all(axis=1).any()
    rows = stacked("kl_divergence", format_name, 3)
    values = oracle.evaluate("kl_divergence", "value", "-", rows, fmt).rounded()
    assert (values == 0).any()
    assert (values > 0).any()
    assert (values == math.inf).any() or not fmt.has_infinity


def test_masks_keep_everything_nothing_one_and_leave_out_the_largest() -> None:
    rows = stacked("masked_softmax", "float32", 9)
    x, mask = rows["x"], rows["mask"]
    kept = mask.sum(axis=1)
    assert {0, 1, 8, 9} <= set(kept.tolist())
    largest = x == x.max(axis=1, keepdims=True)
    assert (mask == ~largest).all(axis=1).any()
    assert len(set(kept.tolist())) >= 7
    special = stacked("masked_softmax", "float32", 9, "infinity_lattice")
    x, mask = special["x"], special["mask"]
    hidden = (mask == np.isfinite(x)).all(axis=1) & np.isnan(x).any(axis=1)
    assert hidden.any()
    value = oracle.evaluate("masked_softmax", "value", "-", special, FORMATS["float32"])
    assert not value.nan[hidden].any()
    assert value.nan.any()


@pytest.mark.parametrize("format_name", FORMATS)
def test_binary_targets_and_weights_take_their_turns(format_name: str) -> None:
    fmt = FORMATS[format_name]
    rows = stacked("sigmoid_cross_entropy", format_name, 9)
    z, w = rows["target"], rows["pos_weight"]
    for value in (0, 1):
        assert (z == value).all(axis=1).any()
        assert (w == value).all(axis=1).any()
    labels = np.isin(z, (0, 1)).all(axis=1)
    assert (labels & (np.ptp(z, axis=1) == 1)).any()
    assert ((z > 0) & (z < 1)).all(axis=1).any()
    outside = (z < 0) | (z > 1)
    assert 0 < outside.any(axis=1).mean() < 0.3
    assert (w >= 0).all()
    assert (w > min(1000, fmt.max_finite / 8)).any()
    assert ((w > 0) & (w < 0.05)).any()
    assert ((w == 0).any(axis=1) & (w == 1).any(axis=1) & (w > 1).any(axis=1)).any()


@pytest.mark.parametrize("argument", ["x", "target"])
def test_tangents_take_their_turns(argument: str) -> None:
    v = stacked("softmax_cross_entropy", "float32", 9)[f"v_{argument}"]
    assert ((v == 1).sum(axis=1) + (v == 0).sum(axis=1) == 9).any()
    assert (np.ptp(v, axis=1) == 0).any()
    size = np.abs(v).max(axis=1) / np.abs(v).min(axis=1, where=v != 0, initial=np.inf)
    assert (size > 1000).any()
    x = stacked("softmax_cross_entropy", "float32", 9)
    assert not np.array_equal(x["v_x"], x["v_target"])
