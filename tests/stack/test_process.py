"""Processes end with their owner, and only ours are ever signalled."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from stack.process import Processes, entries, family, owner, started_at, sweep
from testops_lib.errors import StackError

SLEEP = [sys.executable, "-I", "-S", "-c", "import time; time.sleep(600)"]

# A server that ignores SIGTERM and starts a child of its own in another session.
STUBBORN = [
    *(sys.executable, "-I", "-S", "-c"),
    "import signal, subprocess, sys, time\n"
    "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    "child = subprocess.Popen([sys.executable, '-I', '-S', '-c', 'import time; time.sleep(600)'],"
    " start_new_session=True)\n"
    "print(child.pid, flush=True)\n"
    "time.sleep(600)\n",
]

# An owner that starts a server and waits; what PR_SET_PDEATHSIG would do is switched off where asked.
OWNER = """
import signal, sys, time
from pathlib import Path
from stack.process import Processes
processes = Processes(Path(sys.argv[1]))
child = processes.start("sleeper", sys.argv[3:], death_signal=int(sys.argv[2]))
print(child.pid, flush=True)
time.sleep(600)
"""


pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


def wait_until(holds, patience=10):
    deadline = time.monotonic() + patience
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def start_owner(state: Path, death_signal: int, command: list[str]) -> tuple[subprocess.Popen[str], int]:
    process = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(state), str(death_signal), *command], stdout=subprocess.PIPE, text=True
    )
    pid = int(process.stdout.readline())
    # Past the launcher, which ends by itself when its parent is gone before the exec.
    wait_until(lambda: "tied.py" not in Path(f"/proc/{pid}/cmdline").read_text())
    return process, pid


def kill(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_server_dies_with_its_owner_killed_by_9(tmp_path):
    process, pid = start_owner(tmp_path, signal.SIGTERM, SLEEP)
    assert started_at(pid)
    kill(process)
    wait_until(lambda: not started_at(pid))


# A server whose children outlive it, as those of a killed parent of services do.
PARENT = [
    *(sys.executable, "-I", "-S", "-c"),
    "import os, time\nprint(os.fork() or os.getpid(), flush=True)\ntime.sleep(600)\n",
]


def test_what_a_killed_server_left_ends_before_it_is_started_again_and_at_the_stop(tmp_path):
    processes = Processes(tmp_path)
    first = processes.start("services", PARENT)
    wait_until(lambda: len(family(first.entry)) == 2)
    orphan = next(pid for pid in family(first.entry) if pid != first.pid)
    os.kill(first.pid, signal.SIGKILL)
    first.wait(10)
    assert started_at(orphan)
    second = processes.start("services", PARENT)
    assert not started_at(orphan)
    wait_until(lambda: len(family(second.entry)) == 2)
    members = family(second.entry)
    os.kill(second.pid, signal.SIGKILL)
    second.wait(10)
    second.stop()
    assert not [pid for pid in members if started_at(pid)]
    processes.release()


def test_leftovers_of_a_killed_owner_end_at_the_next_start(tmp_path):
    # 0: no signal from the kernel, as on other systems than Linux.
    process, pid = start_owner(tmp_path, 0, SLEEP)
    kill(process)
    time.sleep(0.1)
    assert started_at(pid), "nobody else may have ended it"
    processes = Processes(tmp_path)
    assert processes.claim() == ["sleeper"]
    assert not started_at(pid)
    processes.release()


def test_descendants_in_other_sessions_end_as_well(tmp_path):
    processes = Processes(tmp_path)
    child = processes.start("stubborn", STUBBORN)
    wait_until(lambda: child.log.read_text().strip())
    grandchild = int(child.log.read_text())
    assert started_at(grandchild)
    begun = time.monotonic()
    child.stop(patience=0.3)
    assert time.monotonic() - begun < 5
    assert not started_at(child.pid)
    wait_until(lambda: not started_at(grandchild))
    processes.release()


def test_a_recycled_pid_is_not_signalled(tmp_path):
    processes = Processes(tmp_path)
    processes.start("sleeper", SLEEP).stop()
    processes.release()
    with subprocess.Popen(SLEEP, start_new_session=True) as stranger:
        time.sleep(0.05)  # The kernel counts start times in hundredths of a second.
        child = Processes(tmp_path / "other").start("x", SLEEP)
        # The book says: pid of the stranger, but another start time.
        book = tmp_path / "processes" / "sleeper.json"
        book.write_text(json.dumps(asdict(replace(child.entry, name="sleeper", pid=stranger.pid, mark="0" * 16))))
        assert sweep(tmp_path) == []
        assert started_at(stranger.pid)
        assert not book.exists()
        child.stop()
        stranger.kill()


def test_a_directory_has_one_owner_at_a_time(tmp_path):
    process, _ = start_owner(tmp_path, signal.SIGTERM, SLEEP)
    assert owner(tmp_path) == process.pid
    with pytest.raises(StackError, match=f"in use by process {process.pid}"):
        Processes(tmp_path).claim()
    kill(process)
    assert owner(tmp_path) == 0
    Processes(tmp_path).claim()


def test_an_ended_server_is_told_with_the_end_of_its_log(tmp_path):
    processes = Processes(tmp_path)
    child = processes.start("broken", [sys.executable, "-c", "raise SystemExit('no such port')"])
    assert child.wait(10) == 1
    with pytest.raises(StackError, match=r"broken: ended with code 1 while starting\n  no such port\n"):
        child.require("starting")
    child.stop()


def test_the_log_of_the_start_before_is_kept(tmp_path):
    processes = Processes(tmp_path)
    for word in ("first", "second"):
        child = processes.start("echo", ["/bin/echo", word])
        child.wait(10)
        child.stop()
    assert child.log.read_text() == "second\n"
    assert child.log.with_name("echo.log.1").read_text() == "first\n"


def test_nothing_starts_any_more_once_forbidden(tmp_path):
    processes = Processes(tmp_path)
    processes.forbid()
    with pytest.raises(StackError, match="being stopped"):
        processes.start("sleeper", SLEEP)


def test_children_start_with_default_signals_though_ours_are_ignored(tmp_path):
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        child = Processes(tmp_path).start("sleeper", ["/bin/sleep", "600"], stop_signal=signal.SIGINT)
        wait_until(lambda: "sleep" in Path(f"/proc/{child.pid}/cmdline").read_text().split("\0")[0])
        os.kill(child.pid, signal.SIGINT)
        assert child.wait(5) == -signal.SIGINT
        child.stop()
    finally:
        signal.signal(signal.SIGINT, before)


def test_an_unreadable_book_is_left_out(tmp_path):
    (tmp_path / "processes").mkdir()
    (tmp_path / "processes" / "torn.json").write_text('{"name": "to')
    assert list(entries(tmp_path)) == []
    assert sweep(tmp_path) == []


def test_our_own_process_is_never_family(tmp_path):
    child = Processes(tmp_path).start("sleeper", SLEEP)
    assert family(child.entry) == [child.pid]
    os.environ["TESTOPS_STACK_MARK"] = child.entry.mark
    try:
        assert os.getpid() not in family(child.entry)
    finally:
        del os.environ["TESTOPS_STACK_MARK"]
        child.stop()
