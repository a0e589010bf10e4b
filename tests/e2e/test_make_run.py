"""`make run ONCE=1` as a person starts it, while its servers die."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from stack.clean import clean
from stack.process import entries, started_at
from tests.paths import ROOT

pytestmark = [pytest.mark.integration, pytest.mark.airflow, pytest.mark.chaos, pytest.mark.timeout(900)]

RUN = """
import sys
from pathlib import Path
from stack.run import run
sys.exit(run("shop", once=True, conf={"operations": ["GET /categories*", "GET /products*"]}, state=Path(sys.argv[1])))
"""


@pytest.fixture
def state() -> Iterator[Path]:
    folder = Path(f"/tmp/testops-make-run-{os.getpid()}")
    yield folder
    clean(folder)
    shutil.rmtree(folder, ignore_errors=True)


def pid_of(folder: Path, name: str) -> int:
    return next(entry.pid for _, entry in entries(folder) if entry.name == name)


def test_a_killed_database_is_started_again_and_the_run_comes_to_its_verdict(state: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", RUN, str(state)],
        env={**os.environ, "SHOP_DEFECTS": "none"},
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    timer = threading.Timer(800, process.kill)
    timer.start()
    lines, killed = [], 0
    try:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            if not killed and "generate: running" in line:
                killed = pid_of(state / "postgres", "postgres")
                os.kill(killed, signal.SIGKILL)
        code = process.wait()
    finally:
        timer.cancel()
        process.kill()
        process.wait()
        if process.stdout:
            process.stdout.close()
    output = "".join(lines)
    assert killed and "PostgreSQL had died and was started again" in output, output
    assert code == 0, output
    assert not started_at(killed)
    assert not [name for folder in state.iterdir() for _, name in entries(folder)], "nothing is left running"
