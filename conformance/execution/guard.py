"""The guard of an executor's child: sees to it that nothing of the child outlives it.

The guard is the child's parent and runs no code of anybody else. It adopts every orphan below it
(PR_SET_CHILD_SUBREAPER), so what an implementation starts stays below the guard, in whatever
session and under whatever name. When the child has ended, however it did, or when the executor's
process has, even by SIGKILL, the guard kills what is left, removes the child's temporary folder,
and ends as the child did.

Linux only; elsewhere there is no guard. Needs the standard library only.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import stat
import sys
from collections.abc import Iterable, Sequence
from types import FrameType
from typing import Any, NoReturn

from conformance.execution import processes

__all__ = ["MARK", "die_with", "fork_guarded", "remove_folder"]

MARK = "CONFORMANCE_EXECUTOR"
"""The environment variable that names an executor's child; what it starts inherits it."""

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_FIRST_TO_GO = b"800"
"""Out of 1000: when the machine is out of memory, the kernel ends a child before anything else."""


def fork_guarded(parent: int, folder: str, fds: Sequence[int]) -> None:
    """Go on in a child of this process, which becomes its guard and never returns.

    Parameters
    ----------
    parent : int
        The process that this one must not outlive.
    folder : str
        The child's temporary folder, empty for none.
    fds : sequence of int
        Descriptors that are the child's alone.
    """
    if not sys.platform.startswith("linux"):
        if os.getppid() != parent:
            os._exit(0)
        return
    guard = _Guard(folder)
    asked = {
        signal.SIGTERM: guard.parent_has_ended,
        signal.SIGUSR1: guard.pass_on,
    }
    for number, handler in asked.items():
        signal.signal(number, handler)
    _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it died before that took effect
        guard.finish()
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    signal.pthread_sigmask(signal.SIG_BLOCK, asked)  # neither may come in the middle of a fork
    me = os.getpid()
    guard.child = os.fork()
    if guard.child:
        guard.watch(fds, asked)
    for number in asked:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, asked)
    os.setsid()
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # by the kernel, also while the GIL is held
    if os.getppid() != me:
        os._exit(0)
    # Orphans of its own come back to it as long as it lives: that is how it sees them.
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "wb") as file:
        file.write(_FIRST_TO_GO)


class _Guard:
    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.child = 0

    def watch(self, fds: Sequence[int], blocked: Iterable[signal.Signals]) -> NoReturn:
        """Wait for the child's end, and finish."""
        try:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, blocked)
            # A pipe ends for its reader when the last holder of the other end is gone.
            for fd in fds:
                os.close(fd)
            nowhere = os.open(os.devnull, os.O_RDWR)
            for fd in (0, 1, 2):
                os.dup2(nowhere, fd)
            self.finish(self._ended())
        finally:
            self.finish()

    def _ended(self) -> Any:
        """How the child ended; it stays unreaped, so its number stays its own."""
        while True:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
            assert ended is not None
            if ended.si_pid == self.child:
                return ended
            os.waitpid(ended.si_pid, 0)  # an orphan that it adopted

    def parent_has_ended(self, number: int, frame: FrameType | None) -> None:
        """SIGTERM: the kernel sends it when the parent is gone."""
        self.finish()

    def pass_on(self, number: int, frame: FrameType | None) -> None:
        """SIGUSR1: the parent wants to know the Python stack that the child is in."""
        if self.child:
            os.kill(self.child, number)

    def finish(self, ended: Any = None) -> NoReturn:
        """Leave nothing, and end as the child did."""
        try:
            processes.end_descendants(os.getpid())
            remove_folder(self.folder)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(self.child, os.WNOHANG)  # so that its seconds are the parent's to see
            if ended is None:
                os._exit(0)
            if ended.si_code == os.CLD_EXITED:
                os._exit(ended.si_status)
            _die_by(ended.si_status)
        finally:
            os._exit(1)


def die_with(parent: int) -> None:
    """Have the kernel kill this process when its parent dies, also while the GIL is held (Linux).

    Parameters
    ----------
    parent : int
        Its process id; where it is gone already, this process ends at once.
    """
    if sys.platform.startswith("linux"):
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before that took effect
        os._exit(0)


def _die_by(number: int) -> None:
    """End by the signal that ended the child."""
    with contextlib.suppress(OSError, ValueError):  # SIGKILL has no handler to reset
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
    os.kill(os.getpid(), number)


def _prctl(option: int, value: int) -> None:
    ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def remove_folder(folder: str) -> None:
    """Remove a temporary folder with everything in it, also what was made unwritable."""
    if not folder:
        return
    shutil.rmtree(folder, ignore_errors=True)
    if not os.path.isdir(folder):
        return
    with contextlib.suppress(OSError):
        os.chmod(folder, stat.S_IRWXU)
    for place, names, _ in os.walk(folder):  # goes down after this, into what can be read by then
        for path in (os.path.join(place, name) for name in names):
            with contextlib.suppress(OSError):
                if not os.path.islink(path):
                    os.chmod(path, stat.S_IRWXU)
    shutil.rmtree(folder, ignore_errors=True)
