"""Curves: every element in exactly one bin, and the largest error where it occurred."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import synthetic

from conformance import columns, judge
from conformance.curves import LOWEST, Measured, curves, half_octaves
from conformance.judge import Answered
from conformance.record import RecordWriter, read_record
from reference import bounds, cases, formats, oracle
from reference.cases import Case
from reference.metrics import Underflow

GRADUAL = Underflow("gradual", 0.0, 0.0)
F32 = formats.get("float32")


def made(op: str, ulp: Any, ratio: Any = None, **inputs: Any) -> dict[str, dict[str, Any]]:
    """The curves of rows with these errors."""
    errors = np.atleast_2d(np.asarray(ulp, float))
    rows = [
        Case(f"c{r}", op, "float32", "made", {k: np.asarray(v)[r] for k, v in inputs.items()})
        for r in range(len(errors))
    ]
    second = errors if ratio is None else np.atleast_2d(np.asarray(ratio, float))
    return curves([Measured(rows, errors, second)])


def judged(op: str, family: str, result: Any = None) -> judge.Judgement:
    """Correctly rounded answers to a family, or others."""
    rows = cases.make(family, op, "float32", 17, limit=16)
    inputs = cases.stack(rows)
    refs = oracle.evaluate(op, "value", "-", inputs, F32)
    limits = bounds.evaluate(op, "value", "-", inputs, F32)
    answers = refs.rounded() if result is None else result(refs.rounded())
    return judge.judge(F32, [Answered(rows, refs, limits, answers)], GRADUAL)


@pytest.mark.parametrize("k", range(LOWEST, 60))
def test_a_half_octave_begins_at_its_power_and_ends_before_the_next(k: int) -> None:
    low, high = 2.0 ** (k / 2), 2.0 ** ((k + 1) / 2)
    assert half_octaves(np.array([low * 1.000001, high * 0.999999])).tolist() == [k, k]
    if k % 2 == 0:  # exact
        assert half_octaves(np.array([low])).tolist() == [k]


def test_zero_infinity_and_what_no_reference_can_tell_have_bins_of_their_own() -> None:
    found = made("softmax", [[0.0, math.inf, 1e-300, 1.0]], x=[[0.0, 1.0, 2.0, 3.0]])
    assert found["ulp"] == {"zero": 1, str(LOWEST): 1, "0": 1, "inf": 1}
    assert list(found["ulp"]) == ["zero", str(LOWEST), "0", "inf"]


def test_ulp_and_test_ratio_are_counted_apart() -> None:
    found = made("softmax", [[1.0, 4.0]], [[0.5, 0.0]], x=[[0.0, 1.0]])
    assert (found["ulp"], found["ratio"]) == ({"0": 1, "4": 1}, {"zero": 1, "-2": 1})


def test_the_gap_of_an_element_is_from_the_largest_logit() -> None:
    found = made("softmax", [[1.0, 2.0, 3.0, 5.0]], x=[[4.0, 0.0, -1.5, -math.inf]])
    assert found["gap"] == {"zero": 1.0, "2": 3.0, "inf": 5.0}


def test_rows_of_several_lengths_share_their_bins() -> None:
    one = Case("a", "softmax", "float32", "made", {"x": np.array([0.0, -4.0])})
    two = Case("b", "softmax", "float32", "made", {"x": np.array([1.0, -4.0, -5.0])})
    found = curves(
        [Measured([c], np.full((1, c.n), u), np.zeros((1, c.n))) for c, u in ((one, 2), (two, 9))]
    )
    assert found["gap"] == {"zero": 9.0, "2": 9.0}
    assert found["ulp"] == {"2": 2, "6": 3}


def test_a_masked_entry_has_no_gap_and_counts_nevertheless() -> None:
    found = made("masked_softmax", [[1.0, 2.0, 0.0]], x=[[0.0, -1.0, 1e6]], mask=[[1, 1, 0]])
    assert found["gap"] == {"zero": 1.0, "0": 2.0}
    assert sum(found["ulp"].values()) == 3


def test_a_row_with_one_result_has_the_gap_between_the_two_largest() -> None:
    found = made("logsumexp", [[1.0], [7.0]], x=[[0.0, -3.0, -9.0], [5.0, 5.0, 0.0]])
    assert found["gap"] == {"zero": 7.0, "1": 1.0}


def test_elementwise_ops_have_their_argument_on_either_side_of_zero() -> None:
    found = made("sigmoid", [[1.0, 2.0, 3.0, 4.0]], x=[[0.75, -0.75, -0.0, math.inf]])
    assert found["positive"] == {"-1": 1.0, "inf": 4.0}
    assert found["negative"] == {"zero": 3.0, "-1": 2.0}
    assert "gap" not in found


def test_logaddexp_is_the_log_sum_exp_of_two() -> None:
    found = made("logaddexp", [[1.0, 2.0]], x=[[1e308, 5.0]], y=[[-1e308, 5.0]])
    assert found["gap"] == {"zero": 2.0, "1024": 1.0}


def test_a_gap_that_is_none_is_left_out() -> None:
    found = made("softmax", [[math.inf, math.inf]], x=[[math.nan, 1.0]])
    assert found["gap"] == {}
    assert found["ulp"] == {"inf": 2}


@pytest.mark.parametrize("family", ["realistic", "infinity_lattice"])
@pytest.mark.parametrize("op", ["softmax", "logsumexp", "sigmoid"])
def test_the_counts_of_a_cell_add_up_to_its_elements(op: str, family: str) -> None:
    for result in (None, lambda y: y * (1 + 2.0**-20), lambda y: np.full_like(y, np.nan)):
        figures = judged(op, family, result).figures
        for name in ("ulp", "ratio"):
            assert sum(figures["curves"][name].values()) == figures["elements"]


def test_curves_tell_what_the_figures_tell() -> None:
    right = judged("softmax", "realistic").figures
    assert max(int(k) for k in right["curves"]["ulp"] if k not in ("zero", "inf")) < 0
    wrong = judged("softmax", "realistic", lambda y: y * (1 + 2.0**-18)).figures
    largest = max(v for v in wrong["curves"]["gap"].values())
    assert largest == pytest.approx(wrong["max_ulp"], rel=1e-3)
    top = max(int(k) for k in wrong["curves"]["ulp"] if k not in ("zero", "inf"))
    assert 2 ** (top / 2) <= wrong["max_ulp"] < 2 ** ((top + 1) / 2)
    none = judged("softmax", "realistic", lambda y: np.full_like(y, np.nan)).figures
    assert none["curves"]["ulp"] == {"inf": none["elements"]}
    assert none["curves"]["ulp"]["inf"] == none["nan_mismatches"]


# --- in the record --------------------------------------------------------------------------------

CURVES = {"ulp": {"zero": 3, "-2": 1}, "ratio": {"inf": 4}, "gap": {"zero": 0.5, "-1": math.inf}}


def write(folder: Path, **entries: Any) -> Path:
    with RecordWriter(folder, {}) as writer:
        writer.append(synthetic.measurement(**entries))
        writer.finish()
    return folder


def test_curves_come_back_from_lines_and_table(tmp_path: Path) -> None:
    folder = write(tmp_path / "run", curves=CURVES)
    (row,) = read_record(folder).measurements
    assert row["curves"] == CURVES
    table = pytest.importorskip("pyarrow.parquet").read_table(folder / "measurements.parquet")
    assert json.loads(table.to_pylist()[0]["curves"]) == columns.plain(CURVES)


def test_a_row_without_curves_reads_as_none(tmp_path: Path) -> None:
    (row,) = read_record(write(tmp_path / "run")).measurements
    assert row["curves"] is None
    old = read_record(Path(__file__).parent / "data" / "record-schema-1")
    assert {r["curves"] for r in old.measurements} == {None}


@pytest.mark.parametrize(
    "value", [3, [], {"ulp": 3}, {"ulp": {"zero": "many"}}, {"ulp": {"1.5": 1}}, {"ulp": {"": 1}}]
)
def test_what_is_no_curve_is_refused_by_reader_and_schema(value: Any) -> None:
    row = columns.plain(synthetic.measurement(curves=value))
    with pytest.raises(ValueError, match="column curves"):
        columns.decoded(row)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(row, columns.schema())


def test_curves_fit_the_schema() -> None:
    jsonschema.validate(columns.plain(synthetic.measurement(curves=CURVES)), columns.schema())
