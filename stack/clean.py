"""End what a `make run` left or still runs. Standard library alone, so that it works without the environment."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from stack import PROJECT, postgres, process

PATIENCE_S = 30


def clean(state: Path = PROJECT / ".testops") -> None:
    """Asks a living `make run` to stop, ends recorded leftovers, and undoes what root changed on the machine.

    Data stays. Harmless to repeat.
    """
    owner = process.owner(state / "run")
    if owner and owner != os.getpid():
        print(f"stopping process {owner}", flush=True)
        os.kill(owner, signal.SIGTERM)
        deadline = time.monotonic() + PATIENCE_S
        while process.owner(state / "run") and time.monotonic() < deadline:
            time.sleep(0.1)
    for group in (state, state / "services"):
        for folder in sorted(path for path in group.glob("*") if (path / "processes").is_dir()):
            for name in process.sweep(folder):
                print(f"ended {name}", flush=True)
        postgres.undo(group / "postgres")


if __name__ == "__main__":
    clean(*map(Path, sys.argv[1:2]))
