"""Measurements as a run would leave them, made up: for tests of the record and of the reports.

The verdicts are those that real frameworks give (a gradient lost under a shift, a softmax of equal
float16 logits that is all zeros); the figures are drawn from a fixed seed.
"""

from __future__ import annotations

import math
import random
from typing import Any

VERSIONS = {"numpy": "2.4.6", "torch": "2.13.0", "tensorflow": "2.21.0", "jax": "0.10.2"}
DTYPES = ("float64", "float32", "bfloat16", "float16")
MODES = {
    "numpy": ("eager",),
    "torch": ("eager", "compiled"),
    "tensorflow": ("eager", "graph", "xla"),
    "jax": ("eager", "compiled"),
}
FAMILIES = ("realistic", "gap_ladder", "shift_ladder", "near_ties", "masks", "subnormals")
OPS = {
    "softmax": ("-", "x"),
    "log_softmax": ("-", "x"),
    "logsumexp": ("-", "x"),
    "softmax_cross_entropy": ("-", "x", "target"),
    "sparse_softmax_cross_entropy": ("-", "x"),
}
NAMES = {
    "numpy": "numpy.shifted.{}",
    "torch": "torch.{}",
    "tensorflow": "tf.nn.{}",
    "jax": "jax.nn.{}",
}


def measurement(**given: Any) -> dict[str, Any]:
    """One row: a softmax that passes, but for what is given."""
    row: dict[str, Any] = {
        "concern": "accuracy",
        "framework": "torch",
        "framework_version": "2.13.0",
        "implementation": "torch.softmax",
        "op": "softmax",
        "role": "subject",
        "variant": "builtin",
        "derivative": "value",
        "argument": "-",
        "dtype": "float32",
        "mode": "eager",
        "device": "cpu",
        "context": "default",
        "family": "gap_ladder",
        "cases": 96,
        "elements": 9600,
        "verdict": "pass",
        "grade": "A",
        "max_ulp": 1.25,
        "p99_ulp": 0.9,
        "mean_ulp": 0.21,
        "correctly_rounded": 0.93,
        "normwise": 3e-8,
        "ratio_weak": 0.31,
        "ratio_pairwise": 0.42,
        "ratio_strong": 0.66,
        "constants": {"P": 4, "L": 5, "H": 16},
        "nan_mismatches": 0,
        "inf_mismatches": 0,
        "sign_mismatches": 0,
        "zero_sign_mismatches": 0,
        "flushed": 0,
        "lost": 0,
        "underflow_policy": "gradual",
        "last_nonzero": 1.4e-45,
        "curves": None,
        "flags": [],
        "breaches": [],
        "deviation": None,
        "witnesses": None,
        "must_catch": None,
        "worst_case": "softmax-float32-gap_ladder1-n17-s0-r12-3fa9c1",
        "worst_index": 3,
        "worst": {
            "result": 0.25,
            "exact": "0.25000003725290298462",
            "rounded": 0.25000003,
            "ulp": 1.25,
        },
        "message": None,
        "seconds_framework": 0.004,
        "seconds_oracle": 0.03,
        "seconds_compile": 0.0,
    }
    row.update(given)
    if "key" not in given:
        parts = ("concern", "implementation", "derivative", "argument", "dtype", "mode")
        row["key"] = "/".join(str(row[p]) for p in (*parts, "device", "context", "family"))
    return row


def measurements(missing: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    """A quick run of four frameworks; those named in `missing` are not installed."""
    draw = random.Random(20)
    rows = []
    for op, arguments in OPS.items():
        for argument in arguments:
            for framework, modes in MODES.items():
                for mode in modes:
                    for dtype in DTYPES if mode == "eager" else ("float32",):
                        for family in FAMILIES:
                            row = _cell(draw, op, argument, framework, mode, dtype, family)
                            if framework in missing:
                                row = _not_installed(row)
                            rows.append(row)
    for framework in MODES:
        rows += [r for r in _instruments(framework) if framework not in missing]
    return rows


def _cell(
    draw: random.Random, op: str, argument: str, framework: str, mode: str, dtype: str, family: str
) -> dict[str, Any]:
    ulp = round(draw.choice((0.5, 0.51, 0.9, 1.6, 3.2, 20.0)) * (1 + draw.random()), 3)
    weak = round(draw.random() * 0.9, 3)
    strong = round(weak * draw.choice((1.05, 1.3, 40.0)), 3)
    flags = []
    if family == "subnormals" and framework in ("tensorflow", "jax"):
        flags.append("flush")
    case = f"{op}-{dtype}-{family}1-n1000-s0-r{draw.randrange(90)}-{draw.randrange(1 << 24):06x}"
    row = measurement(
        framework=framework,
        framework_version=VERSIONS[framework],
        implementation=NAMES[framework].format(op),
        op=op,
        variant="composition" if framework == "numpy" else "builtin",
        derivative="value" if argument == "-" else "vjp",
        argument=argument,
        dtype=dtype,
        mode=mode,
        context="x64=on" if (framework, dtype) == ("jax", "float64") else "default",
        family=family,
        max_ulp=ulp,
        ratio_weak=weak,
        ratio_strong=strong,
        grade="A+" if ulp < 1 else "A" if strong <= 1.01 else "B",
        flags=flags,
        worst_case=case,
    )
    place = (op, argument, framework, dtype, family)
    if op == "softmax" and argument == "-" and dtype == "float16" and family == "near_ties":
        if framework in ("tensorflow", "jax"):
            row |= _deviation("float16-sum-overflows", max_ulp=256.0, ratio_weak=85.2, lost=70000)
    elif place[:3] == ("logsumexp", "x", "torch") and family == "shift_ladder":
        row |= _deviation("torch-logsumexp-gradient-shift", max_ulp=4.2e6, ratio_weak=3.1e5)
    elif place == ("log_softmax", "x", "tensorflow", "bfloat16", "masks"):
        row |= {
            "verdict": "fail",
            "grade": "F",
            "max_ulp": math.inf,
            "ratio_weak": math.inf,
            "ratio_strong": math.inf,
            "nan_mismatches": 12,
            "breaches": [
                {"kind": "nan", "case_id": case, "detail": "12 elements are NaN", "figure": 12.0}
            ],
        }
    elif place == ("softmax_cross_entropy", "target", "tensorflow", dtype, family):
        row |= {
            "verdict": "unsupported",
            "grade": None,
            "max_ulp": None,
            "ratio_weak": None,
            "ratio_strong": None,
            "worst_case": None,
            "message": "LookupError: no gradient to labels",
        }
    elif place == ("logsumexp", "-", "jax", "bfloat16", "realistic"):
        row |= {"grade": "C", "verdict": "fail", "max_ulp": 31.4, "ratio_weak": 1.7}
    return row


def _deviation(name: str, **figures: Any) -> dict[str, Any]:
    return {"verdict": "deviation", "grade": "F", "deviation": name, "ratio_strong": 1e6, **figures}


def _not_installed(row: dict[str, Any]) -> dict[str, Any]:
    kept = ("key", "concern", "framework", "implementation", "op", "role", "variant", "derivative")
    kept += ("argument", "dtype", "mode", "device", "context", "family")
    return {**dict.fromkeys(row), **{k: row[k] for k in kept}, "verdict": "not installed"} | {
        "flags": [],
        "breaches": [],
    }


def _instruments(framework: str) -> list[dict[str, Any]]:
    common = {"framework": framework, "framework_version": VERSIONS[framework]}
    return [
        measurement(
            **common,
            implementation=f"{framework}.control.softmax",
            role="control",
            grade="A+",
            max_ulp=0.5,
        ),
        *(
            measurement(
                **common,
                implementation=f"{framework}.mutant.{name}",
                role="mutant",
                must_catch=True,
                grade="F",
                verdict="fail",
                max_ulp=math.inf,
                nan_mismatches=4,
                family="shift_ladder",
            )
            for name in ("unshifted", "lost_tail")
        ),
    ]


def run(planned: int | None = None) -> dict[str, Any]:
    """What run.json holds of such a run."""
    return {
        "profile": "quick",
        "seed": 0,
        "selection": {},
        "coverage": {
            "planned": planned,
            "left_out": ["derivatives jvp and hvp", "lengths above 1000"],
        },
        "deviations": {
            "float16-sum-overflows": {
                "reason": "upstream-bug",
                "upstream": "https://example.org/issues/1",
                "summary": "The sum of 70000 equal terms overflows in float16.",
            },
            "torch-logsumexp-gradient-shift": {
                "reason": "upstream-bug",
                "upstream": "unreported",
                "summary": "exp(x - logsumexp(x)) loses the digits that the shift costs.",
            },
        },
        "environment": {
            "tool_version": "0.1.0",
            "policy_version": 1,
            "python": "3.11.7",
            "os": "Linux-6.1-x86_64-with-glibc2.36",
            "machine": "x86_64",
            "cpu": {"model": "A processor @ 2.50GHz", "flags": ["avx2", "avx512f"], "logical": 2},
            "variables": {"OMP_NUM_THREADS": "1"},
            "frameworks": dict(VERSIONS),
        },
    }
