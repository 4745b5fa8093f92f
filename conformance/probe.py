"""What a plug-in declares, found out without importing it here.

A plug-in is a stranger's module: its import may crash, never end, print, start threads, or leave
this process with another warnings filter, error mode or flush-to-zero. So it is imported in an
executor's child, which tells what was declared and ends; the functions stay there, for the
executors that run them.
"""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path

from conformance.declarations import Implementation, describe
from conformance.execution.executor import STARTUP_DEADLINE, default_memory_limit
from conformance.execution.process import Child
from conformance.execution.protocol import Crashed, Hello, Raised, TimedOut
from conformance.execution.service import NO_FRAMEWORK
from conformance.frameworks.base import Framework
from conformance.registry import PluginError, RegistrationError

__all__ = ["declared"]


def declared(module_or_path: str) -> dict[str, Implementation]:
    """The implementations of a plug-in, by name, without their functions.

    Parameters
    ----------
    module_or_path : str
        The dotted name of a module, or the path of a ``.py`` file.

    Raises
    ------
    PluginError
        If it does not exist, fails or ends its process while it is imported, or registers nothing.
    """
    return dict(_declared(module_or_path, str(Path.cwd())))


@cache
def _declared(module_or_path: str, directory: str) -> dict[str, Implementation]:
    child = Child(sys.executable, NO_FRAMEWORK, "default", (module_or_path,), Framework.variables())
    try:
        answer = child.exchange(None, STARTUP_DEADLINE, default_memory_limit(), "start")
    finally:
        child.kill()
    match answer:
        case Hello():
            entries = [describe(entry) for entry in answer.declared]
            return {entry.name: entry for entry in entries}
        case Raised(type="PluginError"):
            raise PluginError(answer.text)
        case Raised(kind="harness"):
            raise RegistrationError(answer.text)
        case Raised():
            what = f"failed while it was being imported: {answer.type}: {answer.text}"
        case TimedOut():
            what = f"its import did not end within {answer.seconds:g} s"
        case Crashed():
            what = f"ended the process that imported it ({answer.text})"
        case _:
            what = "answered before it was asked"
    raise PluginError(f"plug-in {module_or_path} {what}")
