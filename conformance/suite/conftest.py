"""Collection of the suite: a test per cell of the plan, framework first.

The files of this folder are collected by rules of their own, so that a user's pytest.ini (other
file patterns, ``-k``, ``-x``, warnings as errors) changes nothing about the verdicts. What is
given on pytest's command line counts as usual.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import cast

import pytest

from conformance import shelf
from conformance.answers import Answers
from conformance.bench import Bench
from conformance.cells import Cell
from conformance.execution.guard import die_with
from conformance.plan import Plan
from conformance.settings import Settings

_HERE = Path(__file__).parent


@cache
def _settings() -> Settings:
    return Settings.from_environment()


@cache
def _plan() -> Plan:
    return _settings().plan()


def pytest_configure(config: pytest.Config) -> None:
    """A worker of pytest-xdist ends with the process that started it, however that ends."""
    if hasattr(config, "workerinput"):
        die_with(os.getppid())


class SuiteModule(pytest.Module):
    """A file of the suite: its ``test_`` functions are tests whatever ``python_functions`` says."""

    def funcnamefilter(self, name: str) -> bool:
        """Take ``test_`` functions."""
        return name.startswith("test_")


def pytest_pycollect_makemodule(
    module_path: Path, parent: pytest.Collector
) -> pytest.Module | None:
    """Collect the files of this folder by its own rules."""
    if module_path.parent == _HERE:
        module: pytest.Module = SuiteModule.from_parent(parent, path=module_path)
        return module
    return None


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    """Collect test files that ``python_files`` does not match; the others come by themselves."""
    if file_path.parent != _HERE or not file_path.match("test_*.py"):
        return None
    named = parent.session.isinitpath(file_path)
    if named or any(file_path.match(p) for p in parent.config.getini("python_files")):
        return None
    module: pytest.Module = SuiteModule.from_parent(parent, path=file_path)
    return module


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make a test of every cell of the plan that asks this file's concern."""
    if "cell" in metafunc.fixturenames:
        concern = metafunc.module.CONCERN
        chosen = _settings().cells(_plan())
        cells = [cell for cell in chosen if cell.concern == concern]
        metafunc.parametrize("cell", cells, ids=[cell.key for cell in cells])


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Framework first, and no deselection that the command line did not ask for."""
    order = {cell: k for k, cell in enumerate(_plan().cells)}

    def cell_of(item: pytest.Item) -> object:
        callspec = getattr(item, "callspec", None)
        return callspec.params.get("cell") if item.path.parent == _HERE and callspec else None

    ours = [item for item in items if cell_of(item) in order]
    ours.sort(key=lambda item: order[cast(Cell, cell_of(item))])
    # A concern without a selected cell leaves a placeholder of pytest's behind: it goes too.
    items[:] = ours + [item for item in items if item.path.parent != _HERE]
    _ignore_ini_options(config)


def _ignore_ini_options(config: pytest.Config) -> None:
    """Undo what an ini file's addopts would do to the suite's verdicts."""
    given = [str(arg) for arg in config.invocation_params.args]
    for option, flags, neutral in (
        ("keyword", ("-k",), ""),
        ("markexpr", ("-m",), ""),
        ("deselect", ("--deselect",), None),
        ("maxfail", ("-x", "--exitfirst", "--maxfail"), 0),
        ("runxfail", ("--runxfail",), False),
        ("collectonly", ("--co", "--collect-only"), False),
    ):
        asked = any(a == f or a.startswith((f"{f}=", f if len(f) == 2 else f"{f}="))
                    for a in given for f in flags)  # fmt: skip
        if not asked and hasattr(config.option, option):
            setattr(config.option, option, neutral)


@pytest.fixture(autouse=True)
def _own_warnings() -> Iterator[None]:
    """Warnings of the instrument are shown, and never turned into errors by an ini file."""
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        yield


@pytest.fixture(scope="session")
def bench() -> Iterator[Bench]:
    """The bench of this process, with its executors."""
    settings = _settings()
    made = Bench(
        _plan(),
        plugins=settings.loaded,
        deadline=settings.deadline,
        memory_limit=settings.memory_limit,
        answers=Answers(shared=shelf.of_run()),
    )
    yield made
    made.close()
