"""docs/findings.md: its cases and entries exist, and its exact answers are the oracle's."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from conformance import deviations
from reference import cases, oracle, situations
from reference.formats import FORMATS

TEXT = (Path(__file__).parents[1] / "docs" / "findings.md").read_text(encoding="utf-8")
IDS = re.findall(r"`([a-z_]+-(?:float|bfloat)\d+-\S+-[0-9a-f]{6})`", TEXT)
ENTRIES = re.findall(r"`((?:torch|tensorflow|keras|jax|optax)-[a-z0-9-]+)`", TEXT)


@pytest.mark.parametrize("case_id", IDS)
def test_a_case_is_recreated_from_its_id(case_id: str) -> None:
    found = situations if situations.is_id(case_id) else cases
    assert found.by_id(case_id).case_id == case_id


def test_every_finding_names_a_case_and_an_entry_that_exists() -> None:
    findings = re.findall(r"^\*\*", TEXT, re.MULTILINE)
    assert len(findings) <= len(IDS)
    assert len(findings) <= len(ENTRIES)
    assert set(ENTRIES) <= {d.id for d in deviations.load().entries}


@pytest.mark.parametrize(
    ("case_id", "derivative", "argument", "element", "figure"),
    [
        ("sigmoid_cross_entropy-float32-w.weighted_at_zero-59601b", "vjp", "x", 0, 0.125),
        ("kl_divergence-float32-realistic1-n32-s0-r13-359506", "vjp", "y", 10,
         -0.13429760719638697),
        ("softmax-float16-w.equal_1000_all_ones-107f48", "vjp", "x", 0, 0.0),
        ("logsumexp-float16-masks1-n300-s0-r15-31bf9e", "hvp", "x.x", 0, 0.0),
        ("softplus-float64-w.softplus_beyond_20-4d1237", "value", "-", 0, 20.50000000125015286),
        ("softmax-float32-w.gap_87_2-5b4921", "value", "-", 1, 1.347480544572345e-38),
        ("logaddexp-float64-gap_ladder1-n2-s0-r62-5bd7a0", "hvp", "x.x", 1,
         -2.563055938362646e-310),
    ],
)  # fmt: skip
def test_exact_answers_are_those_of_the_oracle(
    case_id: str, derivative: str, argument: str, element: int, figure: float
) -> None:
    assert case_id in IDS
    case = cases.by_id(case_id)
    inputs = {name: array[None] for name, array in case.inputs.items()}
    refs = oracle.evaluate(case.op, derivative, argument, inputs, FORMATS[case.format])
    assert float(refs.approximate()[0, element]) == pytest.approx(figure, rel=1e-14, abs=0)
