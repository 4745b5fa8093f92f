"""The child of an executor: a script that any Python with the framework and NumPy can run.

Started as ``python child.py FRAMEWORK CONTEXT FOLDER PARENT REQUESTS ANSWERS SHARED_IN
SHARED_OUT PLUGIN...``: its temporary folder, the parent's process id and four inherited file
descriptors (-1 where there is no shared memory). It puts the ``conformance`` package it lies in on
the way, and nothing else of that package's environment, and leaves a guard between itself and the
parent.
"""

from __future__ import annotations

import faulthandler
import importlib.util
import os
import signal
import sys
from pathlib import Path


def leave_no_core() -> None:
    """A segfault of an implementation is an answer, and needs no core file."""
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    except (ImportError, ValueError, OSError):
        pass


def report_faults() -> None:
    """Python stacks to what the parent captures: at a fatal signal, and when it asks (SIGUSR1).

    Through a descriptor of its own, so that an implementation which closes stderr does not
    silence it. faulthandler works from the signal handler, with the GIL held by anyone.
    """
    stream = os.dup(2)
    faulthandler.enable(file=stream, all_threads=False)
    if hasattr(signal, "SIGUSR1"):
        faulthandler.register(signal.SIGUSR1, file=stream, all_threads=True, chain=False)


def find_package() -> None:
    """Make ``import conformance`` mean the package of this file, wherever this Python comes from.

    Python has put the file's own folder first on the path, where its modules would pass for
    top-level ones; it goes.
    """
    here = Path(__file__).resolve().parent
    sys.path[:] = [entry for entry in sys.path if not entry or Path(entry).resolve() != here]
    top = here.parent
    spec = importlib.util.spec_from_file_location(
        "conformance", top / "__init__.py", submodule_search_locations=[str(top)]
    )
    if spec is None or spec.loader is None:
        raise ImportError(f"there is no package in {top}")
    package = importlib.util.module_from_spec(spec)
    sys.modules["conformance"] = package
    spec.loader.exec_module(package)


def main(arguments: list[str]) -> None:
    """Serve requests until the parent closes the pipe."""
    framework_name, context, folder = arguments[:3]
    parent, requests, answers, shared_in, shared_out = (int(text) for text in arguments[3:8])
    plugins = arguments[8:]
    fds = [fd for fd in (requests, answers, shared_in, shared_out) if fd >= 0]
    for fd in fds:
        os.set_inheritable(fd, False)  # a grandchild must not keep the pipes open
    leave_no_core()
    find_package()

    from conformance.execution.guard import fork_guarded

    fork_guarded(parent, folder, fds)
    report_faults()

    from conformance.execution.service import Service
    from conformance.execution.wire import SharedMemory

    service = Service(
        requests,
        answers,
        SharedMemory(shared_in) if shared_in >= 0 else None,
        SharedMemory(shared_out) if shared_out >= 0 else None,
    )
    service.serve(framework_name, context, plugins)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    finally:
        # Frameworks can hang or crash in their exit handlers; nobody is waiting for those.
        os._exit(0)
