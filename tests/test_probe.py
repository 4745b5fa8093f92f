"""A plug-in is asked what it declares, in a process that it may do to whatever it likes."""

from __future__ import annotations

import os
import sys
import threading
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from leftovers import nothing_left

from conformance import probe
from conformance.declarations import declaration, describe
from conformance.execution.executor import Executor, Raised, Request, Result
from conformance.registry import PluginError, RegistrationError, isolated_registry, load_plugin
from conformance.settings import Settings

GOOD = """
from conformance import implementation

@implementation(op="softmax", framework="numpy", name="mine.softmax", variant="composition",
                url="https://example.org", dtypes=("float32",), requires=("numpy",),
                vjp=lambda g, x, *, axis: {"x": x})
def softmax(x, *, axis):
    import numpy as np
    assert np.geterr()["over"] == "warn", "the import of a plug-in left its errstate"
    assert len([1]) == 1
    return x

@implementation(op="softmax", framework="numpy", name="mine.mutant", role="mutant",
                caught_by=dict(concern="accuracy", derivative="value", argument="-",
                               dtype="float32", mode="eager", family="realistic"))
def mutant(x, *, axis):
    return x
"""
MISCHIEF = """
import builtins, os, random, threading, time, warnings
import numpy as np

np.seterr(all="raise")
np.random.seed(1)
random.seed(1)
warnings.simplefilter("error")
os.environ["OMP_NUM_THREADS"] = "7"
os.chdir("/")
threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
print("hello")
builtins.len = None
"""


def plugin(folder: Path, text: str, name: str = "plugin.py") -> str:
    path = folder / "plugins" / name  # Python may keep what it compiled beside it
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return str(path)


def test_what_is_declared_comes_across_whole(tmp_path: Path) -> None:
    path = plugin(tmp_path, GOOD)
    told = probe.declared(path)
    with isolated_registry():
        here = load_plugin(path)
    assert list(told) == list(here) == ["mine.softmax", "mine.mutant"]
    for name, entry in here.items():
        assert told[name] == entry
        assert (told[name].vjp is None) == (entry.vjp is None)
        assert describe(declaration(entry)) == entry
    with pytest.raises(RuntimeError, match="executor"):
        told["mine.softmax"].function(np.zeros(1), axis=-1)


def test_asking_leaves_this_process_as_it_was(tmp_path: Path) -> None:
    def state() -> tuple[object, ...]:
        mine = [name for name in sys.modules if "plugin" in name]
        return (np.geterr(), list(warnings.filters), dict(os.environ), os.getcwd(),
                threading.active_count(), len, mine)  # fmt: skip

    path = plugin(tmp_path, GOOD + MISCHIEF)
    before = state()
    with nothing_left(tmp_path):
        assert "mine.softmax" in probe.declared(path)
    assert state() == before


def test_what_an_import_did_is_undone_before_anybody_is_measured(tmp_path: Path) -> None:
    x = np.ones((1, 2), np.float32)
    asked = Request("mine.softmax", "softmax", "value", "-", "float32", "eager", {"x": x})
    with Executor("numpy", plugins=[plugin(tmp_path, GOOD + MISCHIEF)]) as executor:
        answer = executor.call(asked)
        assert isinstance(answer, Result), answer
        assert answer.leaks == ()


FLUSHES = """
import ctypes
libm = ctypes.CDLL("libm.so.6")
environment = (ctypes.c_uint32 * 8)()
libm.fegetenv(environment)
environment[7] |= 0x8040  # MXCSR: flush to zero, denormals are zero
libm.fesetenv(environment)
"""


def test_an_import_that_cannot_be_undone_is_refused(tmp_path: Path) -> None:
    """As of a library that was compiled with -ffast-math."""
    path = plugin(tmp_path, FLUSHES + GOOD)
    with pytest.raises(PluginError, match="subnormals: kept -> flushed to zero"):
        probe.declared(path)
    with Executor("numpy", plugins=[path]) as executor:
        started = executor.start()
    assert isinstance(started, Raised)
    assert started.kind == "harness"
    assert "flushed to zero" in started.text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("import os; os._exit(0)", "ended the process that imported it .exited with code 0"),
        ("import ctypes; ctypes.string_at(0)", "ended the process that imported it .killed by"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("import sys; sys.exit(3)", "SystemExit: 3"),
        ("raise ValueError('broken')", "ValueError: broken"),
        ("x = 1", "registers no implementation"),
        ("import os\nwhile True: pass", "did not end within 1 s"),
    ],
)
def test_an_import_that_fails_is_told(
    text: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "while" in text:
        monkeypatch.setattr(probe, "STARTUP_DEADLINE", 1.0)
    path = plugin(tmp_path, text + "\n")
    with nothing_left(tmp_path), pytest.raises(PluginError, match=words):
        probe.declared(path)


def test_a_name_is_declared_once(tmp_path: Path) -> None:
    first, second = (plugin(tmp_path, GOOD, name) for name in ("one.py", "two.py"))
    settings = Settings(plugins=(first,))
    assert {"mine.softmax", "conformance.numpy.softmax"} <= settings.registry().keys()
    with pytest.raises(RegistrationError, match=r"mine\.softmax.*declared twice"):
        replace(settings, plugins=(first, second)).registry()
