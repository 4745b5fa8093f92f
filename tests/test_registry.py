"""The registry takes what is right, refuses the rest loudly, and loads plug-ins."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import conformance
from conformance import declarations, implementation
from conformance.frameworks import get_framework, installed_version
from conformance.registry import (
    FRAMEWORKS,
    OPS,
    PluginError,
    RegistrationError,
    isolated_registry,
    load_builtin,
    load_plugin,
    registered,
)

ROOT = Path(conformance.__file__).resolve().parent.parent
PLUGIN = """
from conformance import implementation

@implementation(op="softmax", framework="numpy", name="{name}")
def softmax(x, *, axis):
    return x
"""


@pytest.fixture(autouse=True)
def _isolated() -> Iterator[None]:
    with isolated_registry():
        yield


def identity(x: Any, *, axis: int) -> Any:
    """A function to register."""
    return x


def test_the_decorator_returns_the_function_unchanged() -> None:
    decorate = implementation(op="softmax", framework="numpy", name="mine.softmax")
    assert decorate(identity) is identity
    entry = registered()["mine.softmax"]
    assert entry.function is identity
    assert (entry.role, entry.variant, entry.dtypes) == ("subject", "builtin", None)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"op": "sofmax"}, "unknown op 'sofmax'"),
        ({"framework": "pytorch"}, "unknown framework 'pytorch'"),
        ({"role": "hero"}, "unknown role 'hero'"),
        ({"variant": "handmade"}, "unknown variant 'handmade'"),
        ({"name": "with/slash"}, "letters, digits"),
        ({"name": ""}, "letters, digits"),
        ({"name": 7}, "letters, digits"),
        ({"dtypes": "float32"}, "tuple of strings"),
        ({"modes": (1,)}, "tuple of strings"),
        ({"derivatives": ("gradient",)}, "unknown derivative 'gradient'"),
        ({"framework": "torch", "vjp": identity}, "vjp= is for NumPy"),
        ({"role": "mutant"}, "caught_by="),
        ({"caught_by": {"concern": "accuracy"}}, "caught_by="),
        ({"role": "mutant", "caught_by": {"concern": "accuracy"}}, "exactly"),
    ],
)
def test_what_cannot_be_right_is_refused_at_registration(
    options: dict[str, Any], text: str
) -> None:
    good: dict[str, Any] = {"op": "softmax", "framework": "numpy", "name": "mine.softmax"}
    before = dict(registered())
    with pytest.raises(RegistrationError, match=text):
        implementation(**{**good, **options})(identity)
    assert dict(registered()) == before


def test_a_name_is_taken_once() -> None:
    implementation(op="softmax", framework="numpy", name="mine.softmax")(identity)
    with pytest.raises(RegistrationError, match="declared twice"):
        implementation(op="softmax", framework="torch", name="mine.softmax")(identity)


def test_the_built_in_implementations_are_complete() -> None:
    entries = load_builtin()
    assert load_builtin() == entries
    for framework in FRAMEWORKS:
        mine = [entry for entry in entries.values() if entry.framework == framework]
        for op in OPS:
            roles = {entry.role for entry in mine if entry.op == op}
            assert {"subject", "control"} <= roles, (framework, op)
        assert sum(entry.role == "mutant" for entry in mine) == 5
    for entry in entries.values():
        if entry.role == "subject":
            assert entry.url.startswith("https://")
        if entry.caught_by is not None:
            framework_class = get_framework(entry.framework)
            reason = framework_class.unsupported_reason(
                entry, *(entry.caught_by[k] for k in ("derivative", "argument", "dtype", "mode"))
            )
            assert reason is None


def test_a_plugin_is_loaded_by_path_under_a_name_of_its_own(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "numpy.py").write_text(PLUGIN.format(name=f"mine.{folder}"))
        assert list(load_plugin(str(tmp_path / folder / "numpy.py"))) == [f"mine.{folder}"]
    assert "numpy" not in str(sys.modules["numpy"].__file__).split("/")[-1]
    assert list(load_plugin(str(tmp_path / "a" / "numpy.py"))) == ["mine.a"]


def test_a_plugin_is_loaded_by_module_name_from_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "plugin_by_name.py").write_text(PLUGIN.format(name="mine.by_name"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    assert list(load_plugin("plugin_by_name")) == ["mine.by_name"]
    assert list(load_plugin("plugin_by_name")) == ["mine.by_name"]


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("x = 1\n", "registers no implementation"),
        ("import no_such_thing_at_all\n", "no_such_thing_at_all"),
        ("raise SystemExit(3)\n", "SystemExit"),
        ("def broken(:\n", "SyntaxError"),
        (PLUGIN.format(name="mine.half") + "1 / 0\n", "ZeroDivisionError"),
        (PLUGIN.format(name="mine.x").replace("softmax", "sofmax"), "unknown op"),
    ],
)
def test_a_broken_plugin_is_one_error_and_registers_nothing(
    tmp_path: Path, source: str, text: str
) -> None:
    path = tmp_path / "broken.py"
    path.write_text(source)
    before = dict(registered())
    with pytest.raises(PluginError, match=text):
        load_plugin(str(path))
    assert dict(registered()) == before


@pytest.mark.parametrize("name", ["no.such.module", "no_such_module", "./no/such/file.py"])
def test_a_plugin_that_does_not_exist_is_said_to(name: str) -> None:
    with pytest.raises(PluginError, match="there is no"):
        load_plugin(name)


def test_importing_the_package_stays_light() -> None:
    heavy = ["numpy", "click", "rich", "pytest", "mpmath", *FRAMEWORKS[1:]]
    code = (
        "import sys, conformance, conformance.registry\n"
        f"print([name for name in {heavy!r} if name in sys.modules])"
    )
    output = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert output.strip() == "[]"


def test_capabilities_and_versions_are_known_without_importing_a_framework() -> None:
    code = (
        "import sys\n"
        "from conformance.registry import load_builtin, FRAMEWORKS\n"
        "from conformance.frameworks import get_framework, installed_version\n"
        "load_builtin()\n"
        "for name in FRAMEWORKS: get_framework(name).environment('default')\n"
        "versions = [installed_version(name) for name in FRAMEWORKS]\n"
        "print([name for name in FRAMEWORKS[1:] if name in sys.modules])"
    )
    output = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert output.strip() == "[]"


def test_a_missing_framework_has_no_version(monkeypatch: pytest.MonkeyPatch) -> None:
    assert installed_version("numpy") is not None
    monkeypatch.setattr(get_framework("jax"), "module", "no_such_framework")
    assert installed_version("jax") is None


def test_a_missing_requirement_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = load_builtin()["optax.losses.softmax_cross_entropy"]
    monkeypatch.setattr(declarations, "distribution_version", lambda name: None)
    assert entry.missing_requirements() == ("optax",)


def test_what_cannot_work_is_known_beforehand() -> None:
    entries = load_builtin()
    numpy, softmax = get_framework("numpy"), entries["conformance.numpy.softmax"]
    assert numpy.unsupported_reason(softmax, "vjp", "x", "float32", "eager") is None
    for asked, text in (
        (("vjp", "target", "float32", "eager"), "target"),
        (("jvp", "y", "float32", "eager"), "respect to y"),
        (("hvp", "x", "float32", "eager"), "pair of arguments"),
        (("value", "-", "float8_e5m2", "eager"), "float8_e5m2"),
        (("value", "-", "float32", "compiled"), "compiled"),
    ):
        assert text in (numpy.unsupported_reason(softmax, *asked) or "")
    reason = numpy.unsupported_reason(entries["numpy.logaddexp"], "hvp", "x.x", "float32", "eager")
    assert reason == "numpy.logaddexp brings no hvp, and numpy cannot take one"
