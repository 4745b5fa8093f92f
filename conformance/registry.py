"""What is under test: the registry of implementations, and the plug-ins that add to it.

Imports nothing but the standard library: the registry is read by the command line, which must
not import a framework, and by an executor's child, which must not import ``reference/``.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.metadata
import importlib.util
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any, TypeVar

from conformance.declarations import (
    DERIVATIVES,
    FRAMEWORKS,
    OPS,
    ROLES,
    VARIANTS,
    Implementation,
    OpSignature,
    RegistrationError,
    RegistryError,
    describe,
    distribution_version,
)

__all__ = [
    "BUILTIN_MODULES",
    "DERIVATIVES",
    "ENTRY_POINT_GROUP",
    "FRAMEWORKS",
    "OPS",
    "ROLES",
    "VARIANTS",
    "Implementation",
    "OpSignature",
    "PluginError",
    "RegistrationError",
    "RegistryError",
    "distribution_version",
    "entry_point_plugins",
    "implementation",
    "isolated_registry",
    "load_builtin",
    "load_plugin",
    "plugin_digests",
    "registered",
]


class PluginError(RegistryError):
    """A plug-in could not be found or failed while it was being imported."""


ENTRY_POINT_GROUP = "conformance.implementations"
_FOLDER = Path(__file__).parent / "implementations"
BUILTIN_MODULES: tuple[str, ...] = tuple(
    ".".join(("conformance", "implementations", *path.relative_to(_FOLDER).with_suffix("").parts))
    for path in sorted(_FOLDER.rglob("*.py"))
    if path.stem != "__init__"
)
"""Every module below conformance/implementations."""

Function = Callable[..., Any]
F = TypeVar("F", bound=Function)


_registry: dict[str, Implementation] = {}
_loaded: dict[str, dict[str, Implementation]] = {}
"""What each plug-in registered, and the built-in modules under "": Python imports a module once,
so a second load has to remember."""


def implementation(
    *,
    op: str,
    framework: str,
    name: str,
    role: str = "subject",
    variant: str = "builtin",
    url: str = "",
    dtypes: tuple[str, ...] | None = None,
    modes: tuple[str, ...] | None = None,
    derivatives: tuple[str, ...] | None = None,
    vjp: Function | None = None,
    jvp: Function | None = None,
    hvp: Function | None = None,
    without: tuple[str, ...] = (),
    caught_by: Mapping[str, str] | None = None,
    requires: tuple[str, ...] = (),
    parameters: tuple[str, ...] = (),
    label_dtypes: tuple[str, ...] | None = None,
    bitwise: tuple[str, ...] = (),
) -> Callable[[F], F]:
    """Register the decorated function as an implementation of `op`; return it unchanged.

    Parameters
    ----------
    op, framework : str
        Known names, see `OPS` and `FRAMEWORKS`.
    name : str
        Unique; letters, digits and ``_ . : -``.
    role : {"subject", "antipattern", "control", "mutant"}
        See docs/contract.md, Roles.
    variant : {"builtin", "composition"}
        Whether it is the framework's own op or put together from others.
    dtypes, modes, derivatives : tuple of str, optional
        What it supports; None for whatever the framework can.
    vjp : callable, optional
        NumPy only: ``vjp(g, *inputs, axis) -> {argument: array}``.
    jvp, hvp : callable, optional
        NumPy only: ``jvp(v, *inputs, argument, axis)`` and ``hvp(g, v, *inputs, argument, axis)``,
        see docs/contract.md, Derivatives.
    without : tuple of str
        Optional inputs of the op (``pos_weight``) that it does not take.
    caught_by : mapping, required for mutants
        The parts of the key of the cell that must catch it.
    requires : tuple of str
        Distributions needed beside the framework.
    parameters : tuple of str
        Keyword arguments that it takes, of ``reduction``, ``weight``, ``ignore_index`` and
        ``label_smoothing``.
    label_dtypes : tuple of str, optional
        Integer dtypes that its labels may have; None for all.
    bitwise : tuple of str
        What the bits of a row are promised not to depend on, of ``batch``, ``position``,
        ``repeat``, ``lane``, ``layout`` and ``thread``.

    Raises
    ------
    RegistrationError
        If a name is unknown, malformed or taken. Nothing is registered then.
    """
    entry = describe(
        {
            "op": op,
            "framework": framework,
            "name": name,
            "role": role,
            "variant": variant,
            "url": url,
            "dtypes": dtypes,
            "modes": modes,
            "derivatives": derivatives,
            "vjp": vjp,
            "jvp": jvp,
            "hvp": hvp,
            "without": without,
            "caught_by": caught_by,
            "requires": requires,
            "parameters": parameters,
            "label_dtypes": label_dtypes,
            "bitwise": bitwise,
        }
    )
    where = f"implementation {name!r}"

    def register(function: F) -> F:
        if not callable(function):
            raise RegistrationError(f"{where} is not callable")
        if name in _registry:
            raise RegistrationError(
                f"{where} is declared twice: in {_registry[name].module} and in "
                f"{getattr(function, '__module__', '?')}"
            )
        module = str(getattr(function, "__module__", ""))
        _registry[name] = replace(entry, function=function, module=module)
        return function

    return register


def registered() -> Mapping[str, Implementation]:
    """Every implementation registered so far, by name, in order of registration."""
    return MappingProxyType(dict(_registry))


def load_builtin() -> dict[str, Implementation]:
    """Import this project's own implementations (no framework is imported) and return them."""
    if "" not in _loaded:
        before = set(_registry)
        for module in BUILTIN_MODULES:
            importlib.import_module(module)
        _loaded[""] = {
            name: entry
            for name, entry in _registry.items()
            if name not in before or entry.module in BUILTIN_MODULES
        }
    return _again("")


def load_plugin(module_or_path: str) -> dict[str, Implementation]:
    """Import a plug-in and return the implementations it registered.

    Parameters
    ----------
    module_or_path : str
        The dotted name of a module (looked up on ``sys.path`` and in the working directory), or
        the path of a ``.py`` file, which is loaded under a synthetic name. Loading the same
        plug-in again returns the same implementations.

    Raises
    ------
    PluginError
        If it does not exist, fails while being imported, or registers nothing. What it had
        registered before it failed is forgotten.
    """
    as_path = module_or_path.endswith(".py") or os.sep in module_or_path
    key = str(Path(module_or_path).resolve()) if as_path else module_or_path
    if key not in _loaded:
        before = dict(_registry)
        try:
            with _undisturbed():
                module = _import_path(Path(key)) if as_path else _import_module(module_or_path)
        except BaseException as error:
            _registry.clear()
            _registry.update(before)
            if isinstance(error, PluginError):
                raise
            if isinstance(error, KeyboardInterrupt):
                raise
            raise PluginError(
                f"plug-in {module_or_path} failed while it was being imported: "
                f"{type(error).__name__}: {error}"
            ) from error
        # Declared there, or imported there from elsewhere for the first time.
        entries = {
            name: entry
            for name, entry in _registry.items()
            if name not in before or entry.module == module.__name__
        }
        if not entries:
            raise PluginError(
                f"plug-in {module_or_path} registers no implementation; decorate a function with "
                "@implementation(op=..., framework=..., name=...)"
            )
        _loaded[key] = entries
    return _again(key)


def _again(key: str) -> dict[str, Implementation]:
    for name, entry in _loaded[key].items():
        if _registry.setdefault(name, entry) is not entry:
            raise RegistrationError(
                f"implementation {name!r} is declared twice: in {_registry[name].module} and in "
                f"{entry.module}"
            )
    return dict(_loaded[key])


def entry_point_plugins() -> tuple[str, ...]:
    """Modules that installed distributions offer in the entry-point group, sorted.

    None where the environment variable ``CONFORMANCE_NO_ENTRY_POINTS`` is set.
    """
    if os.environ.get("CONFORMANCE_NO_ENTRY_POINTS"):
        return ()
    found = importlib.metadata.entry_points(group=ENTRY_POINT_GROUP)
    return tuple(sorted({point.module for point in found}))


def plugin_digests(plugins: Iterable[str]) -> dict[str, str]:
    """SHA-256 of the source of each loaded plug-in, by its name without folders.

    Of a package every ``.py`` file in it counts; what a plug-in imports from elsewhere does not.
    """
    found: dict[str, str] = {}
    for plugin in plugins:
        if plugin.endswith(".py"):
            sources, name = [Path(plugin)], Path(plugin).name
        else:
            module, name = sys.modules[plugin], plugin
            sources = [Path(module.__file__)] if module.__file__ else []
            for folder in getattr(module, "__path__", ()):
                sources += sorted(Path(folder).rglob("*.py"))
        content = hashlib.sha256()
        for source in sources:
            content.update(hashlib.sha256(source.read_bytes()).digest())
        key = name
        while key in found:
            key += "'"
        found[key] = content.hexdigest()
    return found


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """What a plug-in does while it is imported leaves this process as it was.

    Its output goes to stderr, so that stdout stays the caller's; the working directory and the
    warnings filters come back.
    """
    here = os.getcwd()
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        os.chdir(here)


class isolated_registry:
    """Context manager that forgets whatever is registered inside it (for tests and checks)."""

    def __enter__(self) -> None:
        self._saved = dict(_registry)

    def __exit__(self, *exc: object) -> None:
        _registry.clear()
        _registry.update(self._saved)


def _import_path(path: Path) -> ModuleType:
    if not path.is_file():
        raise PluginError(f"plug-in {path}: there is no such file")
    # Two plug-ins may have the same file name, and neither may shadow a real module.
    digest = hashlib.sha256(os.fsencode(path)).hexdigest()[:8]
    name = f"_conformance_plugin_{re.sub(r'[^0-9A-Za-z_]', '_', path.stem)}_{digest}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise PluginError(f"plug-in {path}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _import_module(name: str) -> ModuleType:
    here = os.getcwd()
    # A console script has its own folder first on the path, `python -m` the working directory;
    # a plug-in beside the user must be found either way.
    if "" not in sys.path and here not in sys.path:
        sys.path.append(here)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not (name == error.name or name.startswith(error.name + ".")):
            raise
        raise PluginError(
            f"plug-in {name}: there is no module of that name; give a dotted name that Python "
            "can import from here, or the path of a .py file"
        ) from error
