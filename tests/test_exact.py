"""``conformance exact``: every map of every op, as people ask for it and as machines read it."""

from __future__ import annotations

import json
import math
from typing import Any

import mpmath
import numpy as np
import pytest

from conformance.cli import call
from reference import ops, oracle
from reference.formats import FORMATS

MAPS = [(op, *key) for op, definition in ops.OPS.items() for key in definition.maps]
TYPED = {"x": "[0.25, -1.5, 0x1.8p0]", "y": "[1, 0.5, -0.25]", "mask": "[true, 0, 1]",
         "target": "[0.5, 0.125, 1]", "label": "2", "pos_weight": "[1, 2, 0.5]"}  # fmt: skip
ROWS = {
    "x": [0.25, -1.5, 1.5], "y": [1.0, 0.5, -0.25], "mask": [True, False, True],
    "target": [0.5, 0.125, 1.0], "label": 2, "pos_weight": [1.0, 2.0, 0.5],
}  # fmt: skip


class Asked:
    """What the command printed."""

    def __init__(self, capsys: pytest.CaptureFixture[str], *arguments: str) -> None:
        self.code = call(["exact", *arguments])
        self.out, self.err = capsys.readouterr()

    @property
    def json(self) -> Any:
        assert self.code == 0, self.err
        assert self.err == ""
        return json.loads(self.out)


def typed(op: str) -> list[str]:
    return [op, *(TYPED[name] for name in ops.get(op).inputs)]


@pytest.mark.parametrize("key", MAPS, ids="-".join)
def test_every_map_answers_with_its_inputs(
    key: tuple[str, str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    op, derivative, argument = key
    definition = ops.get(op)
    options = ["--derivative", derivative, "--digits", "25"]
    row = {name: np.asarray(ROWS[name])[None] for name in definition.inputs}
    if derivative != "value":
        options += ["--argument", argument]
    if derivative in ("vjp", "hvp"):
        options += ["--cotangent", "-0.5" if definition.per_row else "[-0.5, 1, 2]"]
        row["g"] = np.array([-0.5]) if definition.per_row else np.array([[-0.5, 1.0, 2.0]])
    if derivative in ("jvp", "hvp"):
        options += ["--tangent", "[3, -1, 0.5]"]
        row["v_" + argument.split(".")[-1]] = np.array([[3.0, -1.0, 0.5]])
    document = Asked(capsys, *typed(op), *options, "--json").json
    assert (document["op"], document["derivative"], document["argument"]) == key
    assert list(document["inputs"]) == list(row)
    for name, values in row.items():
        shown = document["inputs"][name]
        np.testing.assert_array_equal(shown["decimal"], values)
        if name in ("label", "mask"):
            assert set(shown) == {"decimal"}
            assert all(type(v) is int for v in np.ravel(np.array(shown["decimal"], object)))
        else:
            hexadecimal = np.vectorize(float.fromhex)(shown["hex"])
            np.testing.assert_array_equal(hexadecimal, values)
    assert document["exact"] == oracle.decimal(*key, row, 25)
    for name in ("float64", "float32"):
        right = oracle.evaluate(*key, row, FORMATS[name]).rounded()
        np.testing.assert_array_equal(document["rounded"][name], right)
    printed = Asked(capsys, *typed(op), *options)
    assert printed.code == 0
    lines = [line.strip() for line in printed.out.splitlines()]
    for i, text in enumerate(document["exact"][0]):
        assert f"[{i}] {text}" in lines
    assert [line.split()[0].rstrip("=") for line in lines if "=" in line] == list(row)


@pytest.mark.parametrize(
    ("arguments", "same"),
    [
        (["softmax", "[1, 2, 4]", "--derivative", "vjp"], ["--cotangent", "1"]),
        (["softmax", "[1, 2, 4]", "--derivative", "jvp"], ["--tangent", "[1, 0, 0]"]),
        (["softmax", "[[1, 2], [3, 5]]", "--derivative", "jvp"], ["--tangent", "[1, 0]"]),
        (["sigmoid", "[1, 2, 4]", "--derivative", "jvp"], ["--tangent", "1"]),
        (["softmax", "[1, 2]", "--derivative", "hvp"],
         ["--argument", "x", "--cotangent", "[1, 1]", "--tangent", "[1, 0]"]),
        (["kl_divergence", "[1, 2]", "[2, 1]", "--derivative", "hvp"],
         ["--argument", "x.x", "--cotangent", "[1]", "--tangent", "[[1, 0]]"]),
        (["kl_divergence", "[1, 2]", "[2, 1]", "--derivative", "vjp"], ["--argument", "x"]),
        (["softmax", "[1, 2]"], ["--argument", "-"]),
    ],
)  # fmt: skip
def test_what_is_left_out_has_a_default(
    arguments: list[str], same: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    without, explicit = (Asked(capsys, *arguments, *more, "--json").json for more in ([], same))
    assert without == explicit


def test_the_defaults_are_in_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["exact", "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "value, vjp, jvp or hvp" in text
    assert "[default: 1 for the first class and 0 for the others" in text
    assert "ones for elementwise ops" in text


def test_a_scalar_and_a_weight_that_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    assert Asked(capsys, "sigmoid", "0", "--json").json["exact"] == [["0.5"]]
    without = Asked(capsys, "sigmoid_cross_entropy", "[1, 2]", "0.5", "--json").json
    weighted = Asked(capsys, "sigmoid_cross_entropy", "[1, 2]", "[0.5, 0.5]", "1", "--json").json
    assert without["exact"] == weighted["exact"]
    assert list(without["inputs"]) == ["x", "target"]
    to_it = Asked(capsys, "sigmoid_cross_entropy", "-100", "1", "--derivative", "vjp",
                  "--argument", "pos_weight", "--digits", "5", "--json").json  # fmt: skip
    assert to_it["exact"] == [["100.00"]]


def test_masked_entries_may_hold_anything(capsys: pytest.CaptureFixture[str]) -> None:
    asked = Asked(capsys, "masked_softmax", "[1, nan, 1]", "[1, 0, 1]", "--json").json
    assert asked["exact"] == [["0.5", "0", "0.5"]]
    assert asked["inputs"]["x"]["decimal"] == [[1.0, "nan", 1.0]]
    assert asked["inputs"]["mask"] == {"decimal": [[1, 0, 1]]}
    assert "mask   = [1, 0]\n" in Asked(capsys, "masked_softmax", "[1, 1]", "[true, FALSE]").out


@pytest.mark.parametrize(
    ("row", "texts"),
    [
        ("[0, -inf]", ["1.0", "0"]),
        ("[0, inf]", ["0", "1.0"]),
        ("[0, nan]", ["nan", "nan"]),
        ("[-inf, -inf]", ["undefined", "undefined"]),
        ("[inf, inf, 0]", ["undefined", "undefined", "0"]),
        ("[1, 1, 1, 1]", ["0.25"] * 4),
        ("[1, 1, 1]", ["0.33333"] * 3),
        ("[0, -1e6]", ["1.0000", "3.2968e-434295"]),
    ],
)
def test_special_and_exact_answers_read_well(
    row: str, texts: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert Asked(capsys, "softmax", row, "--digits", "5", "--json").json["exact"] == [texts]


def test_thousands_of_digits(capsys: pytest.CaptureFixture[str]) -> None:
    for digits in (1000, 6000):  # Python itself refuses to write integers of more than 4300
        made = Asked(capsys, "softmax", "[0, -1e6, 1e-300]", "--digits", str(digits), "--json").json
        low, high, _ = made["exact"][0][1], made["exact"][0][0], made["exact"][0][2]
        assert low.endswith("e-434295")
        assert len(low.partition("e")[0]) == digits + 1
        assert high.startswith("0.49999")
        assert len(high) == digits + 2


def test_inputs_are_rounded_to_the_format_first(capsys: pytest.CaptureFixture[str]) -> None:
    asked = Asked(capsys, "logsumexp", "[0.1]", "--dtype", "bfloat16", "--json").json
    assert asked["inputs"]["x"] == {"decimal": [[0.10009765625]], "hex": [["0x1.9a00000000000p-4"]]}
    assert asked["exact"] == [["0.10009765625"]]
    assert set(asked["rounded"]) == {"bfloat16", "float64", "float32"}
    wide = Asked(capsys, "logsumexp", "[0.1]", "--json").json
    assert set(wide["rounded"]) == {"float64"}


def test_sums_and_means_have_all_their_digits(capsys: pytest.CaptureFixture[str]) -> None:
    rows = ["sparse_softmax_cross_entropy", "[[0, 0], [1, 2], [-1e6, 0]]", "[0, 1, 0]"]
    mean = Asked(capsys, *rows, "--reduction", "mean", "--digits", "40", "--json").json
    total = Asked(capsys, *rows, "--reduction", "sum", "--digits", "40", "--json").json
    each = [float(row[0]) for row in mean["exact"]]
    assert float(total["sum"]) == pytest.approx(math.fsum(each))
    assert float(mean["mean"]) == pytest.approx(math.fsum(each) / 3)
    assert len(mean["mean"]) == len(total["sum"]) == 41
    printed = Asked(capsys, "sigmoid_cross_entropy", "[3, -3]", "[1, 0]", "--reduction", "mean")
    with mpmath.workdps(40):  # both elements are the same loss
        right = mpmath.nstr(mpmath.log1p(mpmath.exp(-3)), 30, strip_zeros=False)
    assert printed.out.splitlines()[-1] == f"mean: {right}"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["softmax", "[1, 2]", "--derivative", "grad"], ("value, vjp, jvp, hvp", "'grad'")),
        (["softmax", "[1, 2]", "--derivative", "jvp", "--argument", "y"],
         ("no jvp to 'y'", "has: x")),
        (["softmax", "[1, 2]", "--derivative", "hvp", "--argument", "x.y"], ("'x.y'", "has: x.x")),
        (["softmax", "[1, 2]", "--argument", "x"], ("the value has none",)),
        (["softmax", "[1, 2]", "--cotangent", "1"], ("a value takes no --cotangent",)),
        (["softmax", "[1, 2]", "--derivative", "vjp", "--tangent", "1"], ("no --tangent",)),
        (["softmax", "[1, 2]", "--derivative", "jvp", "--cotangent", "1"], ("no --cotangent",)),
        (["softmax", "[1, 2]", "--derivative", "jvp", "--tangent", "[1, 2, 3]"],
         ("the tangent has shape (3,)", "(1, 2) is needed")),
        (["kl_divergence", "[1, 2]", "[1, 2]", "--derivative", "vjp", "--cotangent", "[1, 2]"],
         ("the cotangent has shape (2,)", "(1,) is needed")),
        (["kl_divergence", "[1, 2]"], ("takes 2 inputs (x, y); 1 were given",)),
        (["sigmoid", "1", "2"], ("takes 1 input (x); 2 were given",)),
        (["sigmoid_cross_entropy", "1"], ("takes 2 or 3 inputs (x, target, [pos_weight])",)),
        (["masked_softmax", "[1, 2]", "[1, 0.5]"], ("is no mask",)),
        (["masked_softmax", "[1, 2]", "[1, maybe]"], ("'maybe' is not a number",)),
        (["masked_softmax", "[1, 2]", "[1, 1, 1]"], ("mask has shape (3,)",)),
        (["softmax", "[1e300, 0]", "--dtype", "float32"],
         ("1e+300 in x is too large for float32",)),
        (["softmax", "[465, 0]", "--dtype", "float8_e4m3fn"], ("too large for float8_e4m3fn",)),
        (["softmax", "[1, 2]", "--reduction", "sum"], ("--reduction is for",)),
        (["logsumexp", "1", "--derivative", "vjp", "--reduction", "sum"], ("--reduction is for",)),
        (["sparse_softmax_cross_entropy", "[1, 2]", "0.5"], ("whole number from 0 to 1",)),
        (["softmax", "[1, 2]", "--dtype", "float31"], ("did you mean float32?",)),
    ],
)  # fmt: skip
def test_mistakes_are_told_in_one_line(
    arguments: list[str], words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    asked = Asked(capsys, *arguments)
    assert asked.code == 2
    assert asked.out == ""
    assert len(asked.err.strip().splitlines()) == 1
    for word in words:
        assert word in asked.err
