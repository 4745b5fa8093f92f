from __future__ import annotations

import errno
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import synthetic

from conformance import columns, environment, record
from conformance.record import RecordWriter, read_record
from conformance.text import printable


def write(folder: Path, rows: list[dict[str, Any]], *, finish: bool = True, **run: Any) -> Path:
    with RecordWriter(folder, run) as writer:
        for row in rows:
            writer.append(row)
        if finish:
            writer.finish()
    return folder


def three() -> list[dict[str, Any]]:
    return [synthetic.measurement(family=f) for f in ("masks", "near_ties", "subnormals")]


def lines(folder: Path) -> list[bytes]:
    return (folder / record.MEASUREMENTS_FILE).read_bytes().splitlines(keepends=True)


def overwrite(folder: Path, changed: list[bytes]) -> None:
    (folder / record.MEASUREMENTS_FILE).write_bytes(b"".join(changed))


# --- writing and reading --------------------------------------------------------------------------


def test_what_was_written_is_read(tmp_path: Path) -> None:
    rows = synthetic.measurements()
    found = read_record(write(tmp_path / "run", rows, seed=7))
    assert found.measurements == rows
    assert not found.partial
    assert found.run["seed"] == 7
    assert found.run["ended"] >= found.run["started"]


def test_numbers_that_json_lacks_come_back_as_floats(tmp_path: Path) -> None:
    row = synthetic.measurement(
        max_ulp=math.inf,
        last_nonzero=-math.inf,
        mean_ulp=math.nan,
        constants={"H": math.inf},
        breaches=[{"kind": "accuracy", "case_id": "c", "detail": "inf", "figure": math.inf}],
        worst={"result": math.nan, "exact": "-inf", "rounded": -math.inf, "ulp": math.inf},
    )
    folder = write(tmp_path / "run", [row])
    assert b'"max_ulp":"inf"' in lines(folder)[1]
    (found,) = read_record(folder).measurements
    assert found["max_ulp"] == math.inf
    assert found["last_nonzero"] == -math.inf
    assert math.isnan(found["mean_ulp"])
    assert found["constants"] == {"H": math.inf}
    assert found["breaches"][0]["figure"] == math.inf
    assert found["breaches"][0]["detail"] == "inf"
    assert math.isnan(found["worst"]["result"])
    assert found["worst"]["exact"] == "-inf"


def test_a_text_that_looks_like_a_number_stays_a_text(tmp_path: Path) -> None:
    (found,) = read_record(
        write(tmp_path / "r", [synthetic.measurement(message="nan")])
    ).measurements
    assert found["message"] == "nan"


def test_numpy_scalars_are_numbers(tmp_path: Path) -> None:
    row = synthetic.measurement(
        max_ulp=np.float32(np.inf), cases=np.int64(3), mean_ulp=np.float64(0.5)
    )
    (found,) = read_record(write(tmp_path / "run", [row])).measurements
    assert (found["max_ulp"], found["cases"], found["mean_ulp"]) == (math.inf, 3, 0.5)


def test_every_line_is_json(tmp_path: Path) -> None:
    folder = write(
        tmp_path / "run", [synthetic.measurement(message='"\n\\ \u2028 é', max_ulp=math.inf)]
    )
    parsed = [json.loads(line) for line in lines(folder)]
    assert [next(k for k in p if k not in ("line", "crc32")) for p in parsed] == [
        "header",
        "measurement",
        "footer",
    ]


def test_absent_columns_are_null_and_lists_empty(tmp_path: Path) -> None:
    row = {c: synthetic.measurement()[c] for c in columns.REQUIRED} | {"verdict": "not installed"}
    (found,) = read_record(write(tmp_path / "run", [row])).measurements
    assert set(found) == set(columns.COLUMNS)
    assert found["grade"] is None
    assert found["flags"] == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"verdict": "fine"}, "verdict holds 'fine'"),
        ({"grade": "D"}, "grade"),
        ({"role": "hero"}, "role"),
        ({"cases": 1.5}, "whole number"),
        ({"max_ulp": "big"}, "a number is expected"),
        ({"max_ulp": True}, "a number is expected"),
        ({"flags": ["a", 1]}, "flags"),
        ({"worst": [1]}, "worst"),
        ({"op": None}, "op is missing"),
        ({"flag": []}, "unknown column flag"),
        ({"message": object()}, "object cannot be written"),
    ],
)
def test_a_wrong_value_is_refused_by_column(
    tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    with (
        RecordWriter(tmp_path / "run", {}) as writer,
        pytest.raises(record.BadValue, match=words),
    ):
        writer.append(synthetic.measurement(key="the/key") | change)


def test_a_cell_is_recorded_once(tmp_path: Path) -> None:
    with RecordWriter(tmp_path / "run", {}) as writer:
        writer.append(synthetic.measurement())
        with pytest.raises(record.DuplicateCell, match="measured twice"):
            writer.append(synthetic.measurement())
        assert len(writer.keys) == 1


def test_synthetic_rows_meet_the_published_schema() -> None:
    schema = columns.schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    for row in synthetic.measurements(missing=("jax",)):
        validator.validate(columns.plain(row))
    with pytest.raises(jsonschema.ValidationError):
        validator.validate(columns.plain(synthetic.measurement(grade="D")))


# --- interruptions --------------------------------------------------------------------------------


def test_a_run_that_did_not_finish_is_partial(tmp_path: Path) -> None:
    found = read_record(write(tmp_path / "run", three(), finish=False))
    assert found.partial
    assert len(found.measurements) == 3
    assert found.run["ended"] is None


def test_an_unfinished_last_line_is_dropped(tmp_path: Path) -> None:
    folder = write(tmp_path / "run", three(), finish=False)
    whole = lines(folder)
    for length in (1, 100, len(whole[-1]) - 1):
        overwrite(folder, [*whole[:-1], whole[-1][:length]])
        found = read_record(folder)
        assert found.partial
        assert len(found.measurements) == 2


def test_a_killed_run_keeps_what_it_measured(tmp_path: Path) -> None:
    program = (
        "import os, signal, sys\n"
        "sys.path.insert(0, sys.argv[2])\n"
        "import synthetic\n"
        "from conformance.record import RecordWriter\n"
        "with RecordWriter(sys.argv[1], {}) as writer:\n"
        "    for family in ('masks', 'near_ties'):\n"
        "        writer.append(synthetic.measurement(family=family))\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    here = Path(__file__).parent
    ended = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "run"), str(here)],
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert ended.returncode < 0
    found = read_record(tmp_path / "run")
    assert found.partial
    assert len(found.measurements) == 2


def test_an_error_inside_leaves_a_readable_record(tmp_path: Path) -> None:
    def interrupted() -> None:
        with RecordWriter(tmp_path / "run", {}) as writer:
            writer.append(synthetic.measurement())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert read_record(tmp_path / "run").partial


def test_update_reaches_an_unfinished_run(tmp_path: Path) -> None:
    with RecordWriter(tmp_path / "run", {"seed": 1}) as writer:
        writer.update(interrupted=True)
    assert read_record(tmp_path / "run").run["interrupted"] is True


# --- folders --------------------------------------------------------------------------------------


def test_a_second_run_does_not_write_into_a_record(tmp_path: Path) -> None:
    folder = write(tmp_path / "run", three())
    before = lines(folder)
    with (
        pytest.raises(record.RecordExists, match="already holds a record"),
        RecordWriter(folder, {}),
    ):
        pass
    assert lines(folder) == before


def test_a_run_at_work_locks_its_folder(tmp_path: Path) -> None:
    with (
        RecordWriter(tmp_path / "run", {}) as writer,
        pytest.raises(record.RecordLocked, match="another run"),
        RecordWriter(tmp_path / "run", {}),
    ):
        pass
    assert writer.keys == frozenset()


def test_other_files_in_the_folder_are_not_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    assert not read_record(write(tmp_path, three())).partial


def test_a_file_is_not_a_folder(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file")
    with (
        pytest.raises(record.CannotWrite, match="is not a folder"),
        RecordWriter(tmp_path / "run", {}),
    ):
        pass
    with (
        pytest.raises(record.CannotWrite, match="Not a directory"),
        RecordWriter(tmp_path / "run" / "below", {}),
    ):
        pass


def test_a_folder_that_cannot_be_written_is_one_clear_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "no")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with (
        pytest.raises(record.CannotWrite, match="Permission denied") as caught,
        RecordWriter(tmp_path / "run", {}),
    ):
        pass
    assert "\n" not in str(caught.value)


def test_a_full_disk_leaves_whole_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "full")

    with RecordWriter(tmp_path / "run", {}) as writer:
        writer.append(three()[0])
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            with pytest.raises(record.CannotWrite, match="No space left"):
                writer.append(three()[1])
        with pytest.raises(record.CannotWrite, match="closed"):
            writer.append(three()[2])
    found = read_record(tmp_path / "run")
    assert found.partial
    assert len(found.measurements) == 1


def test_a_run_that_cannot_begin_leaves_nothing_in_the_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "full")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(record.CannotWrite), RecordWriter(tmp_path / "run", {}):
            pass
    assert list((tmp_path / "run").iterdir()) == []


def test_a_removed_file_is_noticed(tmp_path: Path) -> None:
    with RecordWriter(tmp_path / "run", {}) as writer:
        (tmp_path / "run" / record.MEASUREMENTS_FILE).unlink()
        with pytest.raises(record.CannotWrite, match="was removed"):
            writer.append(synthetic.measurement())


# --- damage ---------------------------------------------------------------------------------------


def test_nothing_there_is_not_a_record(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(record.NotARecord, match="holds no record"):
            read_record(path)


def test_a_changed_figure_is_named_by_line(tmp_path: Path) -> None:
    folder = write(tmp_path / "run", three())
    changed = lines(folder)
    changed[2] = changed[2].replace(b'"max_ulp":1.25', b'"max_ulp":0.25')
    overwrite(folder, changed)
    with pytest.raises(record.DamagedLine, match=r"line 3 of .*its checksum does not match"):
        read_record(folder)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda whole: [*whole[:2], *whole[3:]], id="a line is missing"),
        pytest.param(lambda whole: [whole[0], whole[2], whole[1], *whole[3:]], id="reordered"),
        pytest.param(lambda whole: [*whole[:2], whole[1], *whole[2:]], id="repeated"),
        pytest.param(lambda whole: [*whole, whole[-1]], id="after the footer"),
        pytest.param(lambda whole: whole[1:], id="no header"),
        pytest.param(lambda whole: whole[:-1], id="no footer, though the run ended"),
        pytest.param(lambda whole: [], id="empty, though the run ended"),
    ],
)
def test_a_line_out_of_place_is_named(tmp_path: Path, change: Any) -> None:
    folder = write(tmp_path / "run", three())
    overwrite(folder, change(lines(folder)))
    with pytest.raises(record.MisplacedLine):
        read_record(folder)


def test_measurements_of_another_run_are_refused(tmp_path: Path) -> None:
    first, second = write(tmp_path / "a", three()), write(tmp_path / "b", three())
    overwrite(first, lines(second))
    with pytest.raises(record.MixedRecord):
        read_record(first)


def test_an_edited_run_json_is_refused(tmp_path: Path) -> None:
    folder = write(tmp_path / "run", three(), seed=1)
    path = folder / record.RUN_FILE
    path.write_text(path.read_text().replace('"seed": 1', '"seed": 2'))
    with pytest.raises(record.DamagedRun, match="checksum"):
        read_record(folder)
    path.write_text("[1, 2")
    with pytest.raises(record.DamagedRun, match="not JSON"):
        read_record(folder)


def test_a_newer_schema_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(record.lines, "SCHEMA", record.SCHEMA + 1)
        folder = write(tmp_path / "run", three())
    with pytest.raises(record.NewerSchema, match="update logit-conformance"):
        read_record(folder)


@pytest.mark.parametrize("bad", [b"\x00" * 40, b"[" * 5000, b"{}", b"\xff\xfe", b"NaN"])
def test_junk_in_a_line_is_an_error_not_a_traceback(tmp_path: Path, bad: bytes) -> None:
    folder = write(tmp_path / "run", three())
    whole = lines(folder)
    overwrite(folder, [*whole[:2], bad + b"\n", *whole[2:]])
    with pytest.raises(record.DamagedLine, match="line 3"):
        read_record(folder)


def test_every_error_says_what_to_do() -> None:
    kinds = record.RecordError.__subclasses__()
    assert len(kinds) >= 10
    assert all(k.hint and k.__doc__ for k in kinds)


# --- environment and text -------------------------------------------------------------------------


def test_the_environment_can_be_recorded(tmp_path: Path) -> None:
    facts = environment.environment(3, {"torch": {"torch": "2.13.0", "cpu": "AVX2"}, "jax": None})
    folder = write(tmp_path / "run", three(), environment=facts)
    found = read_record(folder).run["environment"]
    assert found["policy_version"] == 3
    assert found["frameworks"] == {"torch": {"torch": "2.13.0", "cpu": "AVX2"}, "jax": None}
    assert found["cpu"]["model"]
    assert found["python"] == ".".join(str(v) for v in sys.version_info[:3])


def test_only_variables_of_the_libraries_are_recorded() -> None:
    found = environment.variables(
        {
            "OMP_NUM_THREADS": "1",
            "XLA_FLAGS": "x",
            "TF_VAR_password": "s",
            "AWS_SECRET": "s",
            "HOME": "h",
        }
    )
    assert found == {"OMP_NUM_THREADS": "1", "XLA_FLAGS": "x"}


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("plain", "plain"),
        ("two\nlines\tand\r\nmore", "two lines and more"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07text", "text"),
        ("\x1b]8;;https://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("a\x00b\x07c\x9b2Jd", "abcd"),
        ("\u202eevil\u202c \u2066x\u2069", "evil x"),
        ("line\u2028two", "line two"),
        ("lone \ud800 surrogate", "lone surrogate"),
        ("é ∞ 漢", "é ∞ 漢"),
        ("x" * 500, "x" * 299 + "…"),
        (7, "7"),
    ],
)
def test_untrusted_text_is_one_visible_line(raw: object, clean: str) -> None:
    assert printable(raw) == clean


def test_a_megabyte_of_text_is_cut() -> None:
    assert len(printable("\x1b[31m" * 200_000, 100)) <= 100
    assert printable("\x00" * 10**6, 10) == "…"
