"""Nobody is accused for a sound softmax, log_softmax or cross-entropy, whatever form it has.

The forms of `sound_forms` are run like anybody's implementation. They get B or better everywhere,
and of flags only what is true of them. Left out are derivatives on rows with +inf: there a form is
a `where` between the row and its limit, and automatic differentiation of that is not the limit of
the derivative.

With ``FORMS_LONG`` (``tox run -e forms``) profile standard, otherwise quick.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import sound_forms
from commandline import conformance

from conformance.record import read_record

PROFILE = "standard" if os.environ.get("FORMS_LONG") else "quick"
PLUGIN = str(Path(sound_forms.__file__))
INFINITIES = ("infinity_lattice", "limit_table")
FLAGS = {
    "answers_undefined",
    # sums depend on the order in which somebody takes them
    "batch_variant", "lane_variant", "layout_variant", "mode_variant", "permutation_variant",
    "position_variant", "shift_variant",
}  # fmt: skip
OF = {
    "tensorflow": {"flush", "raises_on_labels"},
    "jax": {"flush"},
}
"""What is true of a framework: it flushes subnormal numbers, or looks labels up in no table."""


@pytest.mark.parametrize("framework", sound_forms.FRAMEWORKS)
def test_no_sound_form_is_accused(framework: str, tmp_path: Path) -> None:
    result = conformance(
        *("run", "--profile", PROFILE, "--framework", framework, "--implementation", "sound.*"),
        *("--plugin", PLUGIN, "--workers", "1", "--out", str(tmp_path / "run"), "--exit-zero"),
        seconds=3600,
    )
    assert result.returncode == 0, result.stderr
    judged = [
        row
        for row in read_record(tmp_path / "run").measurements
        if row["role"] == "subject"
        and (row["derivative"] == "value" or row["family"] not in INFINITIES)
    ]
    assert {row["implementation"].split(".")[2] for row in judged} == set(sound_forms.FORMS)
    assert {row["concern"] for row in judged} >= {
        "accuracy", "special_values", "underflow", "invariance",
    }  # fmt: skip
    accused = [
        (row["key"], row["verdict"], row["grade"], row["message"])
        for row in judged
        if row["verdict"] not in ("pass", "unsupported") or row["grade"] in ("C", "F")
    ]
    assert not accused
    assert {flag for row in judged for flag in row["flags"]} <= FLAGS | OF.get(framework, set())
