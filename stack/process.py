"""Server processes that end with their parent: at once where Linux can, at the next start everywhere else.

A state directory has one owner at a time (a lock that the kernel releases with the owner). Each started process is
recorded with its start time. So the leftovers of a killed owner are found again, and no other process is ever
signalled: processes are not looked up by name, and a recycled pid has another start time.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from testops_lib.errors import StackError
from testops_lib.launch.tied import tied

MARK = "TESTOPS_STACK_MARK"
"""Environment variable with a random word for each server, which its descendants inherit."""

LINUX = Path("/proc/self/stat").exists()

# PR_SET_PDEATHSIG fires when the *thread* that forked ends, so all servers are forked from one thread that lives
# as long as the program.
_FORK_THREAD = ThreadPoolExecutor(1, thread_name_prefix="stack-fork")


@dataclass(frozen=True, kw_only=True)
class User:
    """The user a server runs as; -1: ours."""

    uid: int = -1
    gid: int = -1


@dataclass(frozen=True, kw_only=True)
class Entry:
    """The record of a process that was started."""

    name: str
    pid: int
    started: str
    """The kernel's start time of `pid`; with the pid it names one process since boot."""
    mark: str
    home: str = ""
    """Not empty: processes of the same program that work in this directory belong to this entry as well."""
    stop_signal: int = signal.SIGTERM


def started_at(pid: int) -> str:
    """When `pid` was started, as text to compare; "" for a zombie or without such a process."""
    if LINUX:
        fields = _stat(pid)
        return "" if not fields or fields[0] in "ZX" else f"{_boot()}-{fields[19]}"
    shown = subprocess.run(["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True).stdout.strip()
    return "" if not shown or shown.startswith("Z") else "-".join(shown.split()[1:])


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()[:8]


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the state on (proc(5) number 3 is index 0)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (OSError, IndexError):
        return []


def family(entry: Entry) -> list[int]:
    """Living pids that belong to `entry`: the process, its session, and all processes with its mark."""
    alive = started_at(entry.pid)
    itself = [entry.pid] if alive and alive == entry.started else []
    if not LINUX:
        return itself
    recycled = bool(alive) and not itself
    needle = f"{MARK}={entry.mark}".encode()
    members = []
    for place in Path("/proc").iterdir():
        if not place.name.isdigit() or int(place.name) == os.getpid():
            continue
        fields = _stat(int(place.name))
        if not fields or fields[0] in "ZX":
            continue
        in_session = not recycled and fields[3] == str(entry.pid)
        if in_session or _carries(place, needle) or (entry.home and _works_in(place, entry.home)):
            members.append(int(place.name))
    return list(dict.fromkeys(itself + members))


def _carries(place: Path, needle: bytes) -> bool:
    try:
        return needle in (place / "environ").read_bytes().split(b"\0")
    except OSError:
        return False


def _works_in(place: Path, home: str) -> bool:
    """Whether the process is a `postgres` that has `home` as its directory (it overwrites its environment)."""
    try:
        return os.readlink(place / "cwd") == home and Path(os.readlink(place / "exe")).name == "postgres"
    except OSError:
        return False


def end(entry: Entry, *, patience: float = 10, brutal: bool = False) -> bool:
    """Ends the whole family of `entry`: by its stop signal, then by SIGKILL after `patience` seconds.

    Returns whether there was anything to end.
    """
    members = family(entry)
    if not members:
        return False
    if not brutal:
        _signal([entry.pid] if entry.pid in members else members, entry.stop_signal)
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline and started_at(entry.pid) == entry.started:
            time.sleep(0.02)
    deadline = time.monotonic() + 10
    while members := family(entry):
        _signal(members, signal.SIGKILL)
        if time.monotonic() > deadline:
            raise StackError(
                f"processes {members} do not end",
                where=entry.name,
                next_step="look at them with ps; a process in state D waits for a device",
            )
        time.sleep(0.05)
    return True


def _signal(pids: Sequence[int], number: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


class Child:
    """A server that we started. Its output goes to `log`."""

    def __init__(self, entry: Entry, popen: subprocess.Popen[bytes], log: Path, book: Path) -> None:
        self.entry, self.log = entry, log
        self._popen, self._book = popen, book

    @property
    def pid(self) -> int:
        return self.entry.pid

    @property
    def returncode(self) -> int | None:
        """None while it runs."""
        return self._popen.poll()

    def wait(self, timeout: float | None = None) -> int:
        """The exit code, when it has ended.

        Raises:
            TimeoutError: it still runs after `timeout` seconds.
        """
        try:
            return self._popen.wait(timeout)
        except subprocess.TimeoutExpired as late:
            raise TimeoutError(f"{self.entry.name} still runs") from late

    def send(self, number: int) -> None:
        """Signal the process alone, not its descendants."""
        self._popen.send_signal(number)

    def stop(self, *, patience: float = 15, brutal: bool = False) -> None:
        """Ends the process with all its descendants and deletes its record; does nothing if it has ended already."""
        if not brutal and self._popen.poll() is None:
            self._popen.send_signal(self.entry.stop_signal)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._popen.wait(patience)
        end(self.entry, brutal=True)
        self._popen.wait()
        self._book.unlink(missing_ok=True)

    def require(self, doing: str) -> None:
        """Raises StackError with the end of the log if the process has ended."""
        if self.returncode is not None:
            raise self.failure(f"ended with code {self.returncode} while {doing}")

    def failure(self, what: str) -> StackError:
        """An error about this server, with the last lines of its log."""
        return StackError(f"{what}\n{self.tail()}", where=self.entry.name, next_step=f"the whole log: {self.log}")

    def tail(self, lines: int = 15) -> str:
        """The last lines of the log, each indented by two spaces."""
        return tail(self.log, lines)


def tail(path: Path, lines: int = 15) -> str:
    """The last lines of a log file, each indented by two spaces; "" when there is none."""
    try:
        with path.open("rb") as log:
            log.seek(0, os.SEEK_END)
            log.seek(max(0, log.tell() - 20_000))
            text = log.read().decode(errors="replace")
    except FileNotFoundError:
        return ""
    return "\n".join(f"  {line}" for line in text.splitlines()[-lines:])


class Processes:
    """The owner of a state directory: starts its servers, and ends what an earlier owner left behind.

    `state/processes/NAME.json` records a server, `state/logs/NAME.log` holds the output of its last start, and
    `NAME.log.1` that of the start before.
    """

    def __init__(self, state: Path) -> None:
        self.state = state.absolute()
        self._lock = -1
        self._forbidden = False

    @property
    def _books(self) -> Path:
        return self.state / "processes"

    def claim(self) -> list[str]:
        """Becomes the owner and ends leftovers; returns their names. Does nothing for the present owner.

        Raises:
            StackError: another living process owns the directory.
        """
        if self._lock >= 0:
            return []
        self.state.mkdir(parents=True, exist_ok=True)
        lock = os.open(self.state / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as locked:
            os.close(lock)
            raise StackError(
                f"already in use by process {owner(self.state) or '?'}",
                where=str(self.state),
                next_step="stop it with Ctrl-C in its terminal, or end it with `make stop`",
            ) from locked
        os.truncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()} {started_at(os.getpid())}\n".encode(), 0)
        self._lock = lock
        return sweep(self.state)

    def forbid(self) -> None:
        """Makes `start` raise from now on, for a stop while other threads are still starting servers."""
        self._forbidden = True

    def release(self) -> None:
        """Frees the directory for another owner; the servers must have been stopped."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def start(
        self,
        name: str,
        command: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        user: User | None = None,
        stop_signal: int = signal.SIGTERM,
        death_signal: int | None = None,
        home: Path | None = None,
    ) -> Child:
        """A running child in a session of its own, recorded in the directory.

        Leftovers of an earlier child of this name (its children may outlive it) are ended first.

        `env` replaces the environment; `death_signal` (default: `stop_signal`; 0: none) comes from the kernel when we
        die.
        """
        if self._forbidden:
            raise StackError("is being stopped", where=name)
        self.claim()
        for _, earlier in [entry for entry in entries(self.state) if entry[1].name == name]:
            end(earlier, brutal=True)
        mark = secrets.token_hex(8)
        user = user or User()
        number = stop_signal if death_signal is None else death_signal
        full = tied(command, number=number, uid=user.uid, gid=user.gid)
        log = self._log(name)
        with log.open("ab") as output:
            popen: subprocess.Popen[bytes] = _FORK_THREAD.submit(
                subprocess.Popen,
                full,
                env={**(os.environ if env is None else env), MARK: mark},
                cwd=cwd or self.state,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            ).result()
        entry = Entry(
            name=name,
            pid=popen.pid,
            started=started_at(popen.pid),
            mark=mark,
            home=str(home or ""),
            stop_signal=int(stop_signal),
        )
        self._books.mkdir(exist_ok=True)
        book = self._books / f"{name}.json"
        part = book.with_suffix(".part")
        part.write_text(json.dumps(asdict(entry)))
        part.rename(book)
        return Child(entry, popen, log, book)

    def _log(self, name: str) -> Path:
        folder = self.state / "logs"
        folder.mkdir(exist_ok=True)
        log = folder / f"{name}.log"
        if log.exists():
            log.replace(folder / f"{name}.log.1")
        return log


def entries(state: Path) -> Iterator[tuple[Path, Entry]]:
    """The records of a state directory: files with their entries, without unreadable ones."""
    for book in sorted((state / "processes").glob("*.json")):
        try:
            fields: dict[str, Any] = json.loads(book.read_text())
            yield book, Entry(**fields)
        except (ValueError, TypeError):
            continue


def sweep(state: Path) -> list[str]:
    """Ends all processes recorded in `state`; returns the names of those that still ran."""
    ended = []
    for book, entry in entries(state):
        if end(entry):
            ended.append(entry.name)
        book.unlink(missing_ok=True)
    return ended


def owner(state: Path) -> int:
    """Pid of the living owner of a state directory; 0: nobody."""
    try:
        pid, started = (state / "lock").read_text().split()
    except (OSError, ValueError):
        return 0
    return int(pid) if started_at(int(pid)) == started else 0
