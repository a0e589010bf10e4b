"""Become another program that dies with its parent: `python -I -S tied.py UID GID SIGNAL PARENT -- command…`.

Standard library alone, and run by path: it stands between `fork` and `exec` of every server, where a
`preexec_fn` would not be safe in a program with threads. UID and GID -1: stay who we are.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Sequence

PR_SET_PDEATHSIG = 1


def tied(command: Sequence[str], *, number: int = signal.SIGTERM, uid: int = -1, gid: int = -1) -> list[str]:
    """The command line that runs `command` and has it get the signal `number` when the calling thread ends."""
    arguments = (str(uid), str(gid), str(int(number)), str(os.getpid()))
    return [sys.executable, "-I", "-S", __file__, *arguments, "--", *command]


def _prctl() -> Callable[[int, int], int] | None:
    if sys.platform != "linux":
        return None
    import ctypes

    prctl: Callable[[int, int], int] = ctypes.CDLL(None).prctl
    return prctl


def main(argv: list[str]) -> None:
    """Change the user, ask the kernel for SIGNAL at the parent's death, and exec; returns only by raising."""
    uid, gid, number, parent = (int(word) for word in argv[:4])
    command = argv[5:]
    # Before the change of user, who may not be able to read our Python.
    prctl = _prctl()
    if gid >= 0:
        os.setgroups([])
        os.setgid(gid)
    if uid >= 0:
        os.setuid(uid)
    if prctl:
        # After setuid: a change of credentials clears the setting.
        prctl(PR_SET_PDEATHSIG, number)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)
    # The parent may run with signals blocked or ignored (nohup, a thread's mask); a server starts afresh.
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for reset in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(reset, signal.SIG_DFL)
    os.execvp(command[0], command)


if __name__ == "__main__":
    main(sys.argv[1:])
