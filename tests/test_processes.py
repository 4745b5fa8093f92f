"""Processes are found by descent or mark, and only what was found is ever ended."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import replace
from multiprocessing import shared_memory
from pathlib import Path

import leftovers
import pytest

from conformance.execution import processes
from conformance.execution.guard import MARK, remove_folder

SLEEP = "import time; time.sleep(600)"


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", SLEEP])
    yield process
    process.kill()
    process.wait()


def found(pid: int) -> processes.Process:
    process = processes.read(pid)
    assert process is not None
    return process


def test_a_process_is_read_whatever_its_name() -> None:
    code = "open('/proc/self/comm', 'w').write('a) Z 1 (b'); print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as named:
        assert named.stdout is not None
        named.stdout.readline()
        process = found(named.pid)
        assert (process.parent, process.name, process.lives) == (os.getpid(), "a) Z 1 (b", True)
        assert process in processes.descendants(os.getpid())
        assert processes.table()[named.pid] == process
        named.communicate(b"\n")


def test_a_number_that_belongs_to_somebody_else_by_now_is_left_alone(
    sleeper: subprocess.Popen[bytes],
) -> None:
    process = found(sleeper.pid)
    processes.end(replace(process, started=process.started - 1))
    with pytest.raises(subprocess.TimeoutExpired):
        sleeper.wait(0.2)
    processes.end(process)
    assert sleeper.wait(5) == -9
    processes.end(process)  # and once more, when it is gone


def test_only_what_carries_the_mark_is_ended(sleeper: subprocess.Popen[bytes]) -> None:
    mark, longer = uuid.uuid4().hex, uuid.uuid4().hex
    started = {
        value: subprocess.Popen([sys.executable, "-c", SLEEP], env={**os.environ, MARK: value})
        for value in (mark, mark + longer)
    }
    try:
        assert [p.pid for p in processes.marked(MARK, mark)] == [started[mark].pid]
        assert processes.end_marked(MARK, mark)
        assert started[mark].wait(5) == -9
        assert started[mark + longer].poll() is None
        assert sleeper.poll() is None
    finally:
        for process in started.values():
            process.kill()
            process.wait()


def test_everything_below_is_ended_and_nothing_beside(sleeper: subprocess.Popen[bytes]) -> None:
    code = (
        "import subprocess, sys, time\n"
        f"subprocess.Popen([sys.executable, '-c', {SLEEP!r}], start_new_session=True)\n"
        "print('started', flush=True)\ntime.sleep(600)"
    )
    root = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    try:
        assert root.stdout is not None
        assert root.stdout.readline() == b"started\n"
        assert len(processes.descendants(root.pid)) == 1
        assert processes.end_descendants(root.pid)
        assert [p for p in processes.descendants(root.pid) if p.lives] == []
        assert root.poll() is None
        assert sleeper.poll() is None
    finally:
        root.kill()
        root.communicate()


def test_memory_is_counted_and_shared_pages_once() -> None:
    mine = processes.resident([os.getpid()], 1 << 50)
    assert 10 << 20 < mine < 100 << 30
    assert processes.resident([os.getpid()] * 2, 1 << 50) == pytest.approx(2 * mine, rel=0.2)
    assert processes.resident([os.getpid()] * 2, 0) < 2 * mine  # proportional
    assert processes.resident([2**22 + 1], 0) == 0  # nobody's number


def test_a_folder_goes_with_what_was_made_unreadable(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("kept")
    folder = tmp_path / "folder"
    (folder / "closed" / "inner").mkdir(parents=True)
    (folder / "closed" / "inner" / "file").write_text("x")
    (folder / "link").symlink_to(outside)
    for path in (folder / "closed" / "inner", folder / "closed", folder):
        path.chmod(0)
    outside.chmod(0o555)
    remove_folder(str(folder))
    assert not folder.exists()
    assert (outside / "file").read_text() == "kept"
    assert outside.stat().st_mode & 0o777 == 0o555
    remove_folder(str(folder))
    remove_folder("")


# --- the tests' own instrument --------------------------------------------------------------


def test_what_is_left_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leftovers, "_PATIENCE", 0.1)
    word = uuid.uuid4().hex
    daemon = (
        "import subprocess, sys; print(subprocess.Popen("
        f"[sys.executable, '-c', {SLEEP!r}, {word!r}], env={{}}, start_new_session=True,"
        "stdout=subprocess.DEVNULL).pid)"
    )
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = leftovers.snapshot(tmp_path, word)
    orphan = subprocess.run([sys.executable, "-c", daemon], stdout=subprocess.PIPE, check=True)
    child = subprocess.Popen([sys.executable, "-c", SLEEP])
    block = shared_memory.SharedMemory(f"left-{word}", create=True, size=1)
    folder = Path(tempfile.mkdtemp(prefix="left-"))
    told = "\n".join(leftovers.left(before, tmp_path, word))
    number = int(orphan.stdout)
    processes.end(found(number))
    child.kill()
    child.wait()
    block.close()
    block.unlink()
    folder.rmdir()
    for part in (f"process {number}:", f"process {child.pid}:", block.name, folder.name):
        assert part in told


def test_what_is_left_fails_the_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leftovers, "_PATIENCE", 0.1)
    watched = leftovers.nothing_left(tmp_path)
    watched.__enter__()
    folder = tempfile.mkdtemp()
    with pytest.raises(AssertionError, match=Path(folder).name):
        watched.__exit__(None, None, None)


def test_nothing_left_is_nothing_told(tmp_path: Path) -> None:
    with leftovers.nothing_left(tmp_path):
        subprocess.run([sys.executable, "-c", "pass"], check=True)
        Path(tempfile.mkdtemp()).rmdir()
