"""The file of witnesses: what was written is read, and whatever became of it since is named."""

from __future__ import annotations

import math
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import synthetic

from conformance import columns, record
from conformance.record import (
    WITNESSES_FILE,
    RecordWriter,
    lines,
    read_record,
    read_witnesses,
)

HERE = Path(__file__).parent

WITNESS: dict[str, Any] = {
    "op": "softmax", "derivative": "value", "argument": "-", "dtype": "float32",
    "family": "masks", "case_id": "softmax-float32-w.x-000000", "n": 2, "ratio": math.inf,
    "ulp": 2.5, "worst_of": ["a/b"], "inputs": {"x": [0.0, -math.inf], "label": 1},
    "rounded": [1.0, 0.0], "exact": {"0": "1.0"},
    "answers": [
        {"implementation": "i", "framework": "numpy", "framework_version": "2", "role": "subject",
         "result": {"0": 1.0, "1": math.inf}, "worst": 0, "ulp": 1.0, "ratio": 0.5},
        {"implementation": "j", "framework": "numpy", "framework_version": "2", "role": "subject",
         "result": None, "message": "crashed"},
    ],
}  # fmt: skip


def written(folder: Path, *found: dict[str, Any]) -> Path:
    with RecordWriter(folder, {}) as writer:
        writer.append(synthetic.measurement())
        writer.witness(found or (WITNESS, {**WITNESS, "case_id": "other"}))
        writer.finish()
    return folder


def edit(folder: Path, number: int, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change a line and seal it as if it had been written so."""
    path = folder / WITNESSES_FILE
    whole = path.read_text("ascii").splitlines(keepends=True)
    content = lines.unsealed(whole[number - 1].rstrip("\n"))
    change(content)
    whole[number - 1] = lines.sealed(content)
    path.write_text("".join(whole), "ascii")


def test_a_witness_fits_its_schema_and_nothing_else_does() -> None:
    schema = record.witnesses.schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(columns.plain(WITNESS), schema)
    for wrong in ({"n": -1}, {"answers": 3}, {"ratio": "big"}, {"inputs": {"x": "<script>"}}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(columns.plain({**WITNESS, **wrong}), schema)


def test_what_was_written_is_read(tmp_path: Path) -> None:
    told = read_record(written(tmp_path / "run"))
    assert read_witnesses(told) == [WITNESS, {**WITNESS, "case_id": "other"}]
    assert (told.run["witnesses"]["count"], told.run["witnesses"]["answers"]) == (2, 4)


def test_no_witnesses_are_none_and_no_damage(tmp_path: Path) -> None:
    with RecordWriter(tmp_path / "run", {}) as writer:
        writer.witness([])
        writer.finish()
    assert read_witnesses(read_record(tmp_path / "run")) == []


def test_a_record_without_witnesses_is_readable() -> None:
    old = read_record(HERE / "data" / "record-schema-1")
    assert old.measurements
    assert read_witnesses(old) == []


def test_every_truncation_is_named(tmp_path: Path) -> None:
    folder = written(tmp_path / "run")
    path = folder / WITNESSES_FILE
    data = path.read_bytes()
    right = read_record(folder)
    for length in range(len(data)):
        path.write_bytes(data[:length])
        with pytest.raises(record.RecordError, match=WITNESSES_FILE):
            read_witnesses(right)


def test_every_flipped_byte_is_named(tmp_path: Path) -> None:
    folder = written(tmp_path / "run")
    path = folder / WITNESSES_FILE
    data = path.read_bytes()
    right = read_record(folder)
    draw = random.Random(3)
    for place in range(len(data)):
        changed = bytearray(data)
        changed[place] ^= 1 << draw.randrange(8)
        path.write_bytes(changed)
        with pytest.raises(record.RecordError, match=WITNESSES_FILE):
            read_witnesses(right)


@pytest.mark.parametrize("number", [1, 2, 3, 4])
@pytest.mark.parametrize("what", ["lost", "twice"])
def test_a_line_that_is_lost_or_twice_is_named(tmp_path: Path, number: int, what: str) -> None:
    folder = written(tmp_path / "run")
    path = folder / WITNESSES_FILE
    whole = path.read_bytes().splitlines(keepends=True)
    copies = 0 if what == "lost" else 2
    whole[number - 1 : number] = [whole[number - 1]] * copies
    path.write_bytes(b"".join(whole))
    with pytest.raises(record.MisplacedLine, match=rf"line|footer.*{WITNESSES_FILE}|{number}"):
        read_witnesses(read_record(folder))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda w: w.update(ratio="big"), "ratio holds"),
        (lambda w: w.update(n=-1), "n holds"),
        (lambda w: w.pop("op"), "op holds"),
        (lambda w: w.update(answers={}), "answers holds"),
        (lambda w: w["answers"][0].update(result="<script>"), "result holds"),
        (lambda w: w["answers"][0].update(result={"-1": 1}), "entry -1"),
        (lambda w: w["answers"].append(3), "no answer"),
        (lambda w: w.update(inputs=[]), "inputs holds"),
        (lambda w: w.update(exact={"0": 1}), "exact holds"),
        (lambda w: w.update(worst_of=[1]), "worst_of holds"),
    ],
)
def test_what_a_witness_cannot_hold_is_named_with_its_line(
    tmp_path: Path, change: Callable[[dict[str, Any]], Any], words: str
) -> None:
    folder = written(tmp_path / "run")
    edit(folder, 3, lambda line: change(line["witness"]))
    with pytest.raises(record.BadValue, match=f"line 3 of .*{words}"):
        read_witnesses(read_record(folder))


def test_a_line_that_was_edited_and_sealed_again_is_found_by_the_digest(tmp_path: Path) -> None:
    folder = written(tmp_path / "run")
    edit(folder, 2, lambda line: line["witness"].update(ulp=0.1))
    with pytest.raises(record.DamagedLine, match=r"line 4 of .*digest"):
        read_witnesses(read_record(folder))
    edit(folder, 4, lambda line: line["footer"].update(count=9))
    with pytest.raises(record.MisplacedLine, match="counts 9 witnesses, there are 2"):
        read_witnesses(read_record(folder))


def test_files_of_other_runs_and_newer_ones_are_refused(tmp_path: Path) -> None:
    one, two = written(tmp_path / "one"), written(tmp_path / "two")
    shutil.copy(one / WITNESSES_FILE, two / WITNESSES_FILE)
    with pytest.raises(record.MixedRecord, match=r"line 1 of .*another run"):
        read_witnesses(read_record(two))
    edit(one, 1, lambda line: line["header"].update(schema=99))
    with pytest.raises(record.NewerSchema, match="schema 99"):
        read_witnesses(read_record(one))
    (two / WITNESSES_FILE).unlink()
    with pytest.raises(record.MisplacedLine, match=r"is missing, and run.json counts 2"):
        read_witnesses(read_record(two))


def test_a_file_that_run_json_does_not_name_is_not_read(tmp_path: Path) -> None:
    folder = written(tmp_path / "run")
    with RecordWriter(tmp_path / "partial", {}) as writer:
        writer.append(synthetic.measurement())
    shutil.copy(folder / WITNESSES_FILE, tmp_path / "partial" / WITNESSES_FILE)
    assert read_witnesses(read_record(tmp_path / "partial")) == []


def test_what_cannot_be_written_leaves_no_file(tmp_path: Path) -> None:
    with (
        RecordWriter(tmp_path / "run", {}) as writer,
        pytest.raises(record.BadValue, match="ratio holds"),
    ):
        writer.witness([{**WITNESS, "ratio": None}])
    assert not (tmp_path / "run" / WITNESSES_FILE).exists()
