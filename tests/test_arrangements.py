"""Arrangements: recreated from their ids, tame, and put into shape and back without loss."""

from __future__ import annotations

import numpy as np
import pytest

from reference import arrangements, cases, formats, ops, situations
from reference.arrangements import FAMILIES, Arrangement, by_id, is_id, make
from reference.cases import CaseError

EVERY = [
    (family, op, fmt)
    for family in FAMILIES
    for op in ops.OPS
    for fmt in ("float64", "float32", "bfloat16", "float16")
]


@pytest.mark.parametrize(("family", "op", "fmt"), EVERY)
def test_arrangements_are_recreated_from_their_ids(family: str, op: str, fmt: str) -> None:
    made = make(family, op, fmt)
    assert len({a.case_id for a in made}) == len(made)
    for each in made:
        assert is_id(each.case_id)
        assert not situations.is_id(each.case_id)
        again = by_id(each.case_id)
        assert again.case_id == each.case_id
        assert all(np.array_equal(again.inputs[k], v) for k, v in each.inputs.items())


def test_an_optional_input_can_be_left_out() -> None:
    (first, *_) = make("axes", "sigmoid_cross_entropy", "float32", without="pos_weight")
    assert first.arguments == {"x", "target"}
    assert "v_pos_weight" not in first.inputs
    assert by_id(first.case_id).arguments == first.arguments


@pytest.mark.parametrize(
    ("old", "new"),
    [("axes1", "axes9"), ("softmax-", "softmin-"), ("-s0-", "-s1-"), ("7.-1", "8.-1")],
)
def test_an_id_that_names_nothing_is_refused(old: str, new: str) -> None:
    case_id = make("axes", "softmax", "float32")[0].case_id
    with pytest.raises(CaseError):
        by_id(case_id.replace(old, new))


def test_ids_of_rows_are_not_ids_of_arrangements() -> None:
    assert not is_id(cases.make("realistic", "softmax", "float32", 2)[0].case_id)
    assert not is_id("softmax-float32-w.one_plus_inf-7d53c4")


@pytest.mark.parametrize(("family", "op", "fmt"), EVERY)
def test_inputs_are_exact_and_tame(family: str, op: str, fmt: str) -> None:
    for each in make(family, op, fmt):
        for name, array in each.inputs.items():
            if name not in ("label", "mask"):
                assert formats.get(fmt).holds(np.asarray(array, np.float64)).all()
        x = each.inputs["x"]
        assert (np.abs(x) <= 4).all()
        if "y" in each.inputs:
            assert (x != each.inputs["y"]).all()
        if "target" in each.inputs and not ops.get(op).elementwise and each.rows:
            assert (each.inputs["target"].sum(axis=1) == 1).all()


def test_what_is_arranged_comes_back_in_the_order_of_the_rows() -> None:
    for each in make("axes", "softmax", "float32"):
        x = each.inputs["x"]
        arranged = each.arranged(x)
        assert arranged.shape == each.shape(per_row=False) == each.form.shape
        assert np.array_equal(each.flat(arranged, per_row=False), x)
        total = arranged.sum(axis=each.form.axis)
        assert total.shape == each.shape(per_row=True)
        assert np.array_equal(each.flat(total, per_row=True)[:, 0], x.sum(axis=1))


def test_every_rank_and_every_place_of_the_axis_is_asked() -> None:
    forms = [a.form for a in make("axes", "logsumexp", "float32")]
    assert {len(f.shape) for f in forms} == {1, 2, 3, 4}
    for rank in (2, 3, 4):
        places = {f.axis % rank for f in forms if len(f.shape) == rank}
        assert places == set(range(rank))
    assert {f.axis < 0 for f in forms} == {True, False}
    assert {len(a.form.shape) for a in make("axes", "sigmoid", "float32")} == {1, 2, 3, 4}


def test_no_classes_are_asked_only_where_the_contract_says_what_comes_of_them() -> None:
    def without_classes(op: str) -> list[Arrangement]:
        return [a for a in make("empty", op, "float32") if a.n == 0 and a.rows]

    assert len(without_classes("logsumexp")) == 3
    assert not without_classes("softmax_cross_entropy")
    assert all(a.rows == 0 for a in make("empty", "kl_divergence", "float32"))


def test_rows_are_cases() -> None:
    for each in arrangements.make("axes", "kl_divergence", "float32")[:3]:
        assert len(each.cases) == each.rows
        assert {c.n for c in each.cases} == {each.n}
        assert np.array_equal(cases.stack(list(each.cases))["y"], each.inputs["y"])
