"""Records that were changed: each change is named or harmless, and nothing else is raised."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import synthetic

from conformance import columns, record
from conformance.record import RecordWriter, check_parquet, lines, read_record

FLIPS = 10_000
HOSTILE = "<script>alert(1)</script>\x1b[31m\x00\u202e\n../../../etc/passwd"
FAMILIES = ("masks", "near_ties", "subnormals")


def write(folder: Path, *, finish: bool = True, **run: Any) -> Path:
    with RecordWriter(folder, {**synthetic.run(3), **run}) as writer:
        for family in FAMILIES:
            writer.append(synthetic.measurement(family=family))
        writer.append(synthetic.measurement(family=FAMILIES[0], max_ulp=1.5), again=True)
        if finish:
            writer.finish()
    return folder


def jsonl(folder: Path) -> Path:
    return folder / record.MEASUREMENTS_FILE


def edit(folder: Path, number: int, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the content of a line, and seal it as if it had been written so."""
    whole = jsonl(folder).read_text("ascii").splitlines(keepends=True)
    content = lines.unsealed(whole[number - 1].rstrip("\n"))
    change(content)
    whole[number - 1] = lines.sealed(content)
    jsonl(folder).write_text("".join(whole), "ascii")


def edit_run(folder: Path, **entries: Any) -> None:
    """Change entries of run.json, and seal it."""
    path = folder / record.RUN_FILE
    run = json.loads(path.read_text("utf-8")) | entries
    run.pop("crc32")
    path.write_text(json.dumps({**run, "crc32": lines.crc(lines.canonical(run))}), "utf-8")


# --- random damage --------------------------------------------------------------------------------


@pytest.mark.parametrize("finish", [True, False], ids=["finished", "partial"])
def test_ten_thousand_flipped_bytes_are_named_or_harmless(tmp_path: Path, finish: bool) -> None:
    folder = write(tmp_path / "run", finish=finish)
    right = read_record(folder)
    files = [folder / record.RUN_FILE, jsonl(folder)]
    contents = [path.read_bytes() for path in files]
    sizes = [len(content) for content in contents]
    draw = random.Random(20)
    named = harmless = 0
    messages = []
    for _ in range(FLIPS // 2):
        chosen = draw.choices((0, 1), sizes)[0]
        place = draw.randrange(sizes[chosen])
        flipped = bytearray(contents[chosen])
        flipped[place] ^= draw.randrange(1, 256)
        files[chosen].write_bytes(flipped)
        try:
            found = read_record(folder)
        except record.RecordError as error:
            named += 1
            messages.append(str(error))
        else:
            harmless += 1
            assert found.run == right.run
            # The line that a partial record ends with may be one that was being written.
            last = not finish and chosen == 1 and place == sizes[1] - 1
            expected = _without_last_line(right) if last else right.measurements
            assert found.measurements == expected
            assert last or chosen == 0, "only the layout of run.json is without meaning"
        files[chosen].write_bytes(contents[chosen])
    print(f"{named} flips named, {harmless} harmless")
    assert named + harmless == FLIPS // 2
    assert named > 0.95 * FLIPS // 2
    assert all(message.isprintable() for message in messages)
    assert read_record(folder).measurements == right.measurements


def _without_last_line(found: record.Record) -> list[dict[str, Any]]:
    """The last line superseded the first row, which comes back."""
    return [found.superseded[0], *found.measurements[1:]]


def test_a_flipped_byte_of_the_parquet_file_is_named(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    folder = write(tmp_path / "run")
    run = read_record(folder).run
    path = folder / record.PARQUET_FILE
    whole = path.read_bytes()
    check_parquet(folder, run)
    draw = random.Random(3)
    for _ in range(300):
        flipped = bytearray(whole)
        flipped[draw.randrange(len(whole))] ^= draw.randrange(1, 256)
        path.write_bytes(flipped)
        with pytest.raises(record.DamagedParquet, match="not the file that was written"):
            check_parquet(folder, run)


def test_a_parquet_file_of_other_lines_is_named(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    one, two = write(tmp_path / "one"), write(tmp_path / "two")
    (one / record.PARQUET_FILE).write_bytes((two / record.PARQUET_FILE).read_bytes())
    with pytest.raises(record.DamagedParquet, match="not the file"):
        check_parquet(one, read_record(one).run)
    # Lines that were changed under a Parquet file which is whole.
    run = read_record(two).run
    with jsonl(two).open("ab") as stream:
        stream.write(b"an unfinished li")
    with pytest.raises(record.DamagedParquet, match="made of other lines"):
        check_parquet(two, run)
    partial = write(tmp_path / "three", finish=False)
    (partial / record.PARQUET_FILE).write_bytes(b"PAR1")
    with pytest.raises(record.DamagedParquet, match="not of this run"):
        check_parquet(partial, read_record(partial).run)


@pytest.mark.parametrize("keep", [0.1, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("name", [record.RUN_FILE, record.MEASUREMENTS_FILE])
def test_a_truncated_file_of_a_finished_record_is_named(
    tmp_path: Path, name: str, keep: float
) -> None:
    folder = write(tmp_path / "run")
    path = folder / name
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole))])
    with pytest.raises((record.DamagedRun, record.MisplacedLine)):
        read_record(folder)


# --- changes by hand ------------------------------------------------------------------------------


def test_an_edited_figure_with_a_mended_checksum_is_found_by_the_footer(tmp_path: Path) -> None:
    folder = write(tmp_path / "run")
    edit(folder, 3, lambda line: line["measurement"].update(max_ulp=0.5))
    with pytest.raises(record.DamagedLine, match=r"line 6 of .*digest does not match the lines"):
        read_record(folder)


@pytest.mark.parametrize(
    ("number", "change", "words"),
    [
        (5, {"supersedes": 3}, "line 3, which does not hold"),
        (5, {"supersedes": 2.5}, "line 2.5, which"),
        (4, {"supersedes": 2}, "line 2, which does not hold"),
        (3, {"line": 4}, "it was line 4"),
        (6, {"footer": {"count": 4}}, "counts 4 cells, there are 3"),
        (6, {"footer": {"count": None}}, "counts None cells"),
    ],
)
def test_a_line_that_contradicts_the_others_is_named(
    tmp_path: Path, number: int, change: dict[str, Any], words: str
) -> None:
    folder = write(tmp_path / "run")
    edit(folder, number, lambda line: line.update(change))
    with pytest.raises(record.MisplacedLine, match=words):
        read_record(folder)


def test_what_was_added_after_the_footer_is_named(tmp_path: Path) -> None:
    folder = write(tmp_path / "run")
    with jsonl(folder).open("ab") as stream:
        stream.write(b'{"line":7')
    with pytest.raises(record.DamagedLine, match="added after the footer"):
        read_record(folder)


def test_a_cell_that_occurs_twice_by_accident_is_named(tmp_path: Path) -> None:
    folder = write(tmp_path / "run")
    edit(folder, 5, lambda line: line.pop("supersedes"))
    with pytest.raises(record.DuplicateCell, match=r"line 5 of .*masks was measured twice"):
        read_record(folder)


@pytest.mark.parametrize(
    "change",
    [
        {"max_ulp": 10**400},
        {"cases": -1},
        {"cases": 2**63},
        {"must_catch": 1},
        {"witnesses": {"d": {"case": 1}}},
        {"witnesses": {"d": {"case": {"ratio": "big"}}}},
        {"breaches": [{"kind": ["a"]}]},
        {"breaches": "none"},
        {"flags": {"a": 1}},
        {"key": None},
        {"message": 7},
    ],
)
def test_a_value_of_a_wrong_kind_is_named_by_its_column(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    folder = write(tmp_path / "run")
    edit(folder, 3, lambda line: line["measurement"].update(change))
    with pytest.raises(record.BadValue, match=f"line 3 of .*column {next(iter(change))}"):
        read_record(folder)


@pytest.mark.parametrize(
    "change",
    [
        {"environment": 5},
        {"coverage": []},
        {"seed": "0"},
        {"seed": True},
        {"shard": "2/4"},
        {"ended": 0},
        {"resumed": "yes"},
        {"harness_errors": HOSTILE},
        {"run_id": None},
    ],
)
def test_an_entry_of_run_json_of_a_wrong_kind_is_named(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    folder = write(tmp_path / "run")
    edit_run(folder, **change)
    with pytest.raises(record.DamagedRun, match=f"{next(iter(change))} holds") as caught:
        read_record(folder)
    assert str(caught.value).isprintable()


def test_what_is_deeply_nested_is_refused_and_not_followed(tmp_path: Path) -> None:
    folder = write(tmp_path / "run")
    path = folder / record.RUN_FILE
    path.write_text('{"a":' * 200_000 + "1" + "}" * 200_000)
    with pytest.raises(record.DamagedRun, match="not JSON"):
        read_record(folder)


@pytest.mark.parametrize("depth", [100, 450, 700, 900])
@pytest.mark.parametrize(("left", "right"), [("[", "]"), ('{"a":', "}")])
def test_what_json_reads_but_nobody_could_walk_is_refused(
    tmp_path: Path, depth: int, left: str, right: str
) -> None:
    """Merging and judging walk run.json with recursion of their own."""
    folder = write(tmp_path / "run")
    deep = left * depth + "1" + right * depth
    run = lines.canonical(read_record(folder).run | {"policy": {"ratio": "HERE"}})
    text = run.replace('"HERE"', deep)
    (folder / record.RUN_FILE).write_text(f'{text[:-1]},"crc32":"{lines.crc(text)}"}}')
    with pytest.raises(record.DamagedRun, match="not JSON"):
        read_record(folder)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
@pytest.mark.parametrize("kind", ["pipe", "device"])
@pytest.mark.parametrize("name", [record.RUN_FILE, record.MEASUREMENTS_FILE])
def test_what_is_no_file_is_not_waited_for(tmp_path: Path, name: str, kind: str) -> None:
    folder = write(tmp_path / "run")
    (folder / name).unlink()
    if kind == "pipe":
        os.mkfifo(folder / name)
    else:
        (folder / name).symlink_to(os.devnull)
    # In a process of its own: without the check it would wait for ever.
    asked = (
        "import sys\n"
        "from conformance.record import CannotRead, RecordExists, RecordWriter, read_record\n"
        "try: read_record(sys.argv[1])\n"
        "except CannotRead as error: print(error)\n"
        "try: RecordWriter(sys.argv[1], {}).__enter__()\n"
        "except RecordExists as error: print(error)\n"
    )
    command = [sys.executable, "-c", asked, str(folder)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert f"{name} (not a regular file)" in result.stdout, result.stderr
    assert "already holds a record" in result.stdout, result.stderr


def test_a_path_that_cannot_be_one_is_a_record_error(tmp_path: Path) -> None:
    for path in ("nul\0byte", "x" * 5000, str(tmp_path / "a" / ".." / "b")):
        with pytest.raises((record.CannotRead, record.NotARecord)) as caught:
            read_record(path)
        assert str(caught.value).isprintable()


# --- untrusted text -------------------------------------------------------------------------------


def test_hostile_text_comes_back_as_it_was_and_harms_no_message(tmp_path: Path) -> None:
    texts = [c for c, kind in columns.COLUMNS.items() if kind == "text"]
    row = synthetic.measurement(**dict.fromkeys(texts, HOSTILE + "x" * 1_000_000))
    folder = tmp_path / "run"
    with RecordWriter(folder, {"profile": HOSTILE}) as writer:
        writer.append(row)
        with pytest.raises(record.DuplicateCell) as caught:
            writer.append(row)
        writer.finish()
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 500
    assert read_record(folder).measurements == [row]
    edit(folder, 2, lambda line: line["measurement"].update(verdict=HOSTILE * 1000))
    with pytest.raises(record.BadValue) as told:
        read_record(folder)
    assert str(told.value).isprintable()
    assert len(str(told.value)) < 700


def test_text_that_utf8_lacks_is_kept_in_the_lines_and_replaced_in_the_table(
    tmp_path: Path,
) -> None:
    table = pytest.importorskip("pyarrow.parquet")
    row = synthetic.measurement(message="lone \ud800 surrogate", flags=["\udfff"])
    with RecordWriter(tmp_path / "run", {}) as writer:
        writer.append(row)
        writer.finish()
    assert read_record(tmp_path / "run").measurements == [row]
    (read,) = table.read_table(tmp_path / "run" / record.PARQUET_FILE).to_pylist()
    assert read["message"] == "lone ? surrogate"
    assert json.loads(read["flags"]) == ["\udfff"]
