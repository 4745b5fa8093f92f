"""What a profile plans, and what a selection adds to it."""

from __future__ import annotations

import pytest

from conformance.cells import SelectionError
from conformance.frameworks import get_framework
from conformance.plan import Plan, make_plan
from conformance.profiles import LENGTHS, PROFILES
from conformance.registry import DERIVATIVES, OPS, load_builtin
from conformance.selection import Selection
from reference import ops


def planned(profile: str = "quick", **selected: tuple[str, ...]) -> Plan:
    return make_plan(load_builtin(), profile=profile, selection=Selection(**selected))


def test_what_is_asked_for_by_name_runs_in_every_profile() -> None:
    usual = planned(framework=("numpy",), op=("softmax",))
    assert {c.family for c in usual.cells}.isdisjoint({"near_ties"})
    assert {c.derivative for c in usual.cells} == {"value", "vjp"}
    named = planned(framework=("numpy",), op=("softmax",), family=("near_ties",),
                    derivative=("hvp",))  # fmt: skip
    subjects = [c for c in named.cells if named.entry(c).role == "subject"]
    assert {(c.family, c.derivative) for c in subjects} == {("near_ties", "hvp")}
    assert {c.dtype for c in subjects} == set(get_framework("numpy").dtypes)


@pytest.mark.parametrize("asked", [{"family": ("near_ties",)}, {"derivative": ("value",)}])
def test_whatever_is_asked_for_controls_and_mutants_stay(asked: dict[str, tuple[str, ...]]) -> None:
    whole = planned(framework=("numpy",), op=("softmax",))
    part = planned(framework=("numpy",), op=("softmax",), **asked)

    def proofs(plan: Plan) -> set[str]:
        return {c.key for c in plan.cells if plan.entry(c).role in ("control", "mutant")}

    assert proofs(part) >= proofs(whole) != set()


def test_a_family_of_another_concern_is_not_forced_on_it() -> None:
    with pytest.raises(SelectionError, match="matches no cell"):
        planned(family=("near_ties",), concern=("underflow",))


def test_standard_has_every_derivative_of_every_op_in_eager_mode() -> None:
    plan = planned("standard")
    for framework in ("numpy", "torch", "tensorflow", "jax"):
        found = {
            (plan.entry(c).op, c.derivative, c.argument)
            for c in plan.cells
            if plan.entry(c).framework == framework
            and plan.entry(c).role == "subject"
            and c.mode == "eager"
        }
        expected = {(op, *key) for op in OPS for key in ops.get(op).maps}
        assert expected <= found, framework


def test_controls_run_in_every_op_derivative_and_dtype_of_standard() -> None:
    plan = planned("standard")
    controls = {
        (plan.entry(c).op, c.derivative, c.argument, c.dtype)
        for c in plan.cells
        if plan.entry(c).role == "control" and plan.entry(c).framework == "torch"
    }
    dtypes = get_framework("torch").dtypes
    assert controls == {(op, *k, d) for op in OPS for k in ops.get(op).maps for d in dtypes}
    assert {d for _, d, _, _ in controls} == set(DERIVATIVES)


def test_switched_contexts_ask_built_ins_for_their_value() -> None:
    plan = planned("standard")
    inside = [c for c in plan.cells if c.context in get_framework("torch").switched]
    assert {c.context for c in inside} >= {"threads=2", "onednn=off", "scaled_inputs"}
    assert {(c.derivative, c.dtype, plan.entry(c).variant) for c in inside} == {
        ("value", "float32", "builtin")
    }
    assert all(get_framework(plan.entry(c).framework).runs_in(c.context, c.dtype, c.mode)
               for c in inside)  # fmt: skip


def test_lengths_are_many_where_a_new_shape_costs_nothing() -> None:
    registry, standard = load_builtin(), PROFILES["standard"]
    numpy, jax = registry["conformance.numpy.softmax"], registry["jax.nn.softmax"]
    many = standard.lengths_for(numpy, "eager", "vjp")
    assert set(many) == {n for n in LENGTHS if n < 5000} - {8, 16, 32}
    eager = standard.lengths_for(jax, "eager", "vjp")
    assert set(eager) < set(many)
    composed = standard.lengths_for(registry["jax.nn.log_softmax.where_exp"], "eager", "vjp")
    assert set(composed) < set(eager)
    assert standard.lengths_for(jax, "eager", "hvp") == composed
    assert set(composed) < set(standard.lengths_for(numpy, "eager", "hvp")) < set(many)


@pytest.mark.parametrize("name", ["jax.nn.log_softmax.gather", "jax.nn.softmax"])
def test_eager_jax_answers_witnesses_of_its_own_lengths_only(name: str) -> None:
    registry, standard = load_builtin(), PROFILES["standard"]
    own = standard.lengths_for(registry[name], "eager", "vjp")
    assert {n for n in LENGTHS if standard.answers(registry[name], "vjp", n)} == set(own)
    assert all(standard.answers(registry["conformance.numpy.softmax"], "vjp", n) for n in LENGTHS)
