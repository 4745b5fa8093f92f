"""The benchmark runs, on every op, and says what it should. Speed itself is not tested here."""

from __future__ import annotations

import json
import math
import subprocess
import sys

import pytest

from reference import formats, ops

KEYS = [(op, *key) for op in ops.OPS for key in ops.get(op).maps]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "reference.benchmark", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("key", KEYS, ids="-".join)
def test_every_map_has_inputs_and_loops(key: tuple[str, str, str]) -> None:
    from reference import benchmark

    op, *rest = key
    figure = benchmark.measure(ops.get(op), (rest[0], rest[1]), formats.get("bfloat16"), 40, 1)
    assert figure.n == 40
    assert all(v > 0 for v in (figure.over_exp, figure.over_definition, figure.over_arb))
    assert math.isclose(sum(figure.tiers.values()), 1)


def test_json_is_one_document_with_all_lengths_and_the_memory() -> None:
    done = run("--op", "softmax", "--format", "float32", "--rounds", "1", "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert [item["n"] for item in document["items"]] == [10, 1000, 128_000]
    assert all(item["tiers"]["mpmath"] == 0 for item in document["items"])
    assert 1 < document["memory"]["float32"]["float64_per_element"] < 40


def test_a_mistake_is_one_line_and_2() -> None:
    done = run("--op", "softmix")
    assert done.returncode == 2
    assert "softmix" in done.stderr
