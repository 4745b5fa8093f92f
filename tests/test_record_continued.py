"""Records that are reopened, superseded and compacted; disks that are full and folders that go."""

from __future__ import annotations

import errno
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import synthetic

from conformance import columns, record
from conformance.record import RecordWriter, check_parquet, read_record

FAMILIES = ("masks", "near_ties", "subnormals", "gap_ladder")


def row(family: str, **given: Any) -> dict[str, Any]:
    return synthetic.measurement(family=family, **given)


def begun(folder: Path, count: int = 2, **run: Any) -> Path:
    """A record that was interrupted after `count` cells."""
    with RecordWriter(folder, run) as writer:
        for family in FAMILIES[:count]:
            writer.append(row(family))
    return folder


def finished(folder: Path) -> Path:
    with RecordWriter(folder, {}) as writer:
        for family in FAMILIES:
            writer.append(row(family))
        writer.finish(exit_code=0)
    return folder


def jsonl(folder: Path) -> Path:
    return folder / record.MEASUREMENTS_FILE


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


# --- going on -------------------------------------------------------------------------------------


def test_a_reopened_record_ends_as_an_uninterrupted_one(tmp_path: Path) -> None:
    folder = begun(tmp_path / "run", seed=7)
    with RecordWriter.reopen(folder) as writer:
        assert len(writer.found.measurements) == 2
        assert writer.found.run["seed"] == 7
        writer.resume()
        for family in FAMILIES[2:]:
            writer.append(row(family))
        writer.finish(exit_code=0)
    found = read_record(folder)
    assert found.measurements == read_record(finished(tmp_path / "other")).measurements
    assert not found.partial
    assert found.run["seed"] == 7
    assert len(found.run["resumed"]) == 1
    assert found.superseded == []


def test_an_unfinished_last_line_is_dropped_and_written_over(tmp_path: Path) -> None:
    folder = begun(tmp_path / "run", 3)
    whole = jsonl(folder).read_bytes()
    for cut in (1, 700):
        jsonl(folder).write_bytes(whole[:-cut])
        with RecordWriter.reopen(folder) as writer:
            writer.resume()
            for family in FAMILIES:
                key = row(family)["key"]
                if key not in writer.keys:
                    writer.append(row(family))
        assert {r["family"] for r in read_record(folder).measurements} == set(FAMILIES)


def test_reopening_changes_nothing_until_it_is_resumed(tmp_path: Path) -> None:
    folder = finished(tmp_path / "run")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with RecordWriter.reopen(folder) as writer:
        assert not writer.found.partial
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_record_of_which_only_run_json_was_written_can_go_on(tmp_path: Path) -> None:
    folder = begun(tmp_path / "run", 0)
    for content in (b"", b'{"line":1,"head'):
        jsonl(folder).write_bytes(content)
        with RecordWriter.reopen(folder) as writer:
            writer.resume()
            writer.append(row("masks"))
        assert len(read_record(folder).measurements) == 1
    jsonl(folder).unlink()
    with RecordWriter.reopen(folder) as writer:
        writer.resume()
    assert read_record(folder).measurements == []


def test_a_run_that_was_killed_before_it_began_is_not_in_the_way(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    jsonl(folder).touch()
    assert not read_record(finished(folder)).partial
    other = tmp_path / "other"
    other.mkdir()
    jsonl(other).write_bytes(b"somebody's data")
    with pytest.raises(record.RecordExists), RecordWriter(other, {}):
        pass
    assert jsonl(other).read_bytes() == b"somebody's data"


def test_a_footer_without_an_end_in_run_json_can_go_on(tmp_path: Path) -> None:
    """Killed between the two: run.json does not know that the run came to its end."""
    folder = begun(tmp_path / "run", 4)
    before = (folder / record.RUN_FILE).read_bytes()
    with RecordWriter.reopen(folder) as writer:
        writer.resume()
        writer.finish()
    (folder / record.RUN_FILE).write_bytes(before)
    assert not read_record(folder).partial
    with RecordWriter.reopen(folder) as writer:
        assert writer.found.run["ended"] is None
        writer.resume()
        writer.finish(exit_code=0)
    found = read_record(folder)
    assert (len(found.measurements), found.run["exit_code"]) == (4, 0)
    check_parquet(folder, found.run)


def test_what_killed_processes_left_goes(tmp_path: Path) -> None:
    folder = begun(tmp_path / "run")
    for name in (".run.json.123.tmp", ".measurements.parquet.9.tmp", ".run.json.x.tmp", "notes"):
        (folder / name).touch()
    with RecordWriter.reopen(folder) as writer:
        writer.resume()
    assert names(folder) == {"run.json", "measurements.jsonl", ".run.json.x.tmp", "notes"}


def test_a_damaged_or_missing_record_is_not_continued(tmp_path: Path) -> None:
    folder = begun(tmp_path / "run")
    whole = jsonl(folder).read_bytes()
    jsonl(folder).write_bytes(whole.replace(b'"max_ulp":1.25', b'"max_ulp":0.25', 1))
    with pytest.raises(record.DamagedLine, match="line 2"), RecordWriter.reopen(folder):
        pass
    with pytest.raises(record.NotARecord), RecordWriter.reopen(tmp_path / "nowhere"):
        pass
    assert not (tmp_path / "nowhere").exists()


def test_a_link_in_place_of_the_lines_is_not_written_through(tmp_path: Path) -> None:
    """A record that came from elsewhere could name any file of the user's."""
    folder = tmp_path / "run"
    with RecordWriter(folder, {}):
        pass
    (folder / record.MEASUREMENTS_FILE).unlink()
    (folder / record.MEASUREMENTS_FILE).symlink_to(tmp_path / "elsewhere")
    with (
        pytest.raises(record.CannotWrite, match=r"measurements\.jsonl"),
        RecordWriter.reopen(folder) as writer,
    ):
        writer.resume()
    assert not (tmp_path / "elsewhere").exists()


def test_a_record_at_work_is_locked_against_resuming(tmp_path: Path) -> None:
    folder = begun(tmp_path / "run")
    with (
        RecordWriter.reopen(folder),
        pytest.raises(record.RecordLocked, match="another run"),
        RecordWriter.reopen(folder),
    ):
        pass
    with RecordWriter.reopen(folder), pytest.raises(record.RecordLocked), RecordWriter(folder, {}):
        pass
    with RecordWriter.reopen(folder) as writer:  # and free again
        assert len(writer.found.measurements) == 2


# --- measured again -------------------------------------------------------------------------------


def test_a_superseding_row_takes_the_place_and_the_old_line_stays(tmp_path: Path) -> None:
    folder = finished(tmp_path / "run")
    lines = jsonl(folder).read_bytes().splitlines()
    with RecordWriter.reopen(folder) as writer:
        writer.resume()
        assert names(folder) == {"run.json", "measurements.jsonl"}, "the old table is gone"
        writer.append(row("near_ties", verdict="crash"), again=True)
        writer.append(row("near_ties", max_ulp=2.0), again=True)
        with pytest.raises(record.DuplicateCell):
            writer.append(row("masks"))
        writer.finish()
    found = read_record(folder)
    assert [r["family"] for r in found.measurements] == list(FAMILIES)
    assert found.measurements[1]["max_ulp"] == 2.0
    assert [r["verdict"] for r in found.superseded] == ["pass", "crash"]
    now = jsonl(folder).read_bytes().splitlines()
    assert now[:5] == lines[:5]
    assert [json.loads(line).get("supersedes") for line in now[5:]] == [3, 6, None]
    check_parquet(folder, found.run)


def test_an_interrupt_during_a_write_leaves_whole_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(handle: int) -> None:
        raise KeyboardInterrupt

    with RecordWriter(tmp_path / "run", {}) as writer:
        writer.append(row("masks"))
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", interrupt)
            with pytest.raises(KeyboardInterrupt):
                writer.append(row("near_ties"))
        writer.append(row("near_ties"))
        writer.append(row("subnormals"))
    assert [r["family"] for r in read_record(tmp_path / "run").measurements] == list(FAMILIES[:3])


# --- several at once ------------------------------------------------------------------------------


def test_rows_that_are_written_at_once_are_all_there_or_none(tmp_path: Path) -> None:
    rows = [row(family) for family in FAMILIES]
    with RecordWriter(tmp_path / "run", {}) as writer:
        with pytest.raises(record.DuplicateCell):
            writer.extend([*rows, rows[0]])
        assert writer.measurements == []
        writer.extend(rows)
        writer.finish()
    assert read_record(tmp_path / "run").measurements == rows


# --- the table ------------------------------------------------------------------------------------


def test_the_parquet_file_holds_the_same_rows(tmp_path: Path) -> None:
    table = pytest.importorskip("pyarrow.parquet")
    rows = synthetic.measurements(missing=("jax",))
    rows.append(row("nan", mean_ulp=math.nan, last_nonzero=-math.inf, must_catch=False,
                    witnesses={"d": {"case": {"ratio": math.inf, "broken": 1}}}))  # fmt: skip
    with RecordWriter(tmp_path / "run", {}) as writer:
        writer.extend(rows)
        writer.finish()
    folder = tmp_path / "run"
    read = table.read_table(folder / record.PARQUET_FILE)
    assert read.column_names == list(columns.COLUMNS)
    nested = ("constants", "worst", "witnesses", "flags", "breaches")
    found = []
    for plain in read.to_pylist():
        for name in nested:
            plain[name] = None if plain[name] is None else json.loads(plain[name])
        found.append(columns.decoded(plain))
    expected = [columns.decoded(columns.plain(r)) for r in rows]
    assert math.isnan(found[-1].pop("mean_ulp"))
    assert math.isnan(expected[-1].pop("mean_ulp"))
    assert found == expected
    about = json.loads(read.schema.metadata[b"logit-conformance"])
    run = read_record(folder).run
    assert about["run_id"] == run["run_id"]
    assert about["lines_sha256"] == run["parquet"]["lines_sha256"]
    check_parquet(folder, run)


def test_without_pyarrow_there_is_no_table_and_all_else_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    folder = finished(tmp_path / "run")
    assert names(folder) == {"run.json", "measurements.jsonl"}
    found = read_record(folder)
    assert found.run["parquet"] is None
    assert len(found.measurements) == 4


def test_records_are_read_and_written_without_importing_pyarrow(tmp_path: Path) -> None:
    program = (
        "import sys; sys.path.insert(0, sys.argv[2]); import synthetic\n"
        "from conformance.record import RecordWriter, read_record\n"
        "with RecordWriter(sys.argv[1], {}) as writer:\n"
        "    writer.append(synthetic.measurement())\n"
        "read_record(sys.argv[1]); import conformance.run, conformance.report\n"
        "assert 'pyarrow' not in sys.modules\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "run"), str(Path(__file__).parent)],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert ended.returncode == 0, ended.stderr


# --- disks and folders ----------------------------------------------------------------------------


@pytest.mark.parametrize("call", ["write", "fsync", "replace"])
def test_a_disk_that_fills_up_leaves_a_record_that_can_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    folder = tmp_path / "run"
    with RecordWriter(folder, {}) as writer:
        writer.append(row("masks"))
        with monkeypatch.context() as patch:
            if call == "replace":
                patch.setattr(Path, "replace", full)
            elif call == "fsync":
                patch.setattr(os, "fsync", full)
            else:
                patch.setattr(writer, "_stream", _Full(writer._stream))
            act = writer.update if call == "replace" else lambda: writer.append(row("near_ties"))
            with pytest.raises(record.CannotContinue, match=r"No space left.*--resume") as caught:
                act()
    assert "\n" not in str(caught.value)
    assert names(folder) == {"run.json", "measurements.jsonl"}
    with RecordWriter.reopen(folder) as writer:
        assert [r["family"] for r in writer.found.measurements] == ["masks"]
        writer.resume()
        writer.append(row("near_ties"))
        writer.finish()
    assert len(read_record(folder).measurements) == 2


class _Full:
    """A file that takes half of a line and no more."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream

    def write(self, data: Any) -> int:
        if self.stream.write(data[: len(data) // 2]) == len(data) // 2:
            raise OSError(errno.ENOSPC, "full")
        raise AssertionError

    def fileno(self) -> int:
        return int(self.stream.fileno())

    def close(self) -> None:
        self.stream.close()


def test_a_table_that_does_not_fit_any_more_leaves_a_record_that_can_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pyarrow")
    from conformance.record import parquet

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    folder = tmp_path / "run"
    with RecordWriter(folder, {}) as writer:
        writer.append(row("masks"))
        with monkeypatch.context() as patch:
            patch.setattr(parquet, "replace_bytes", full)
            with pytest.raises(record.CannotContinue, match=r"parquet \(No space left"):
                writer.finish()
    assert read_record(folder).run["ended"] is None
    with RecordWriter.reopen(folder) as writer:
        writer.resume()
        writer.finish()
    check_parquet(folder, read_record(folder).run)


@pytest.mark.parametrize("what", ["moved", "removed", "replaced"])
def test_a_folder_that_goes_is_noticed_and_nobody_elses_is_touched(
    tmp_path: Path, what: str
) -> None:
    folder = tmp_path / "run"
    with RecordWriter(folder, {"seed": 1}) as writer:
        writer.append(row("masks"))
        folder.rename(tmp_path / "elsewhere")
        if what == "replaced":
            begun(folder, 1, seed=2)
        if what == "removed":
            for path in (tmp_path / "elsewhere").iterdir():
                path.unlink()
        with pytest.raises(record.RecordGone, match="removed or replaced during the run"):
            writer.append(row("near_ties"))
        with pytest.raises(record.CannotWrite, match="closed"):
            writer.finish()
    if what == "replaced":
        assert read_record(folder).run["seed"] == 2
        assert len(read_record(folder).measurements) == 1
    else:
        assert not folder.exists()
    if what != "removed":
        assert len(read_record(tmp_path / "elsewhere").measurements) == 1
