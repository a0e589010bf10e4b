"""What a person sees while `make run` works: a live table on a terminal, plain lines everywhere else."""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Protocol

from stack.local import Span
from testops_lib.airflow_api import TaskState
from testops_lib.model import Value
from testops_lib.text import printable

if TYPE_CHECKING:
    from rich.console import RenderableType

SIGNS = {"starting": "…", "ready": "✓", "running": "…", "success": "✓", "failed": "✗", "upstream_failed": "-"}
SIGNS |= {"skipped": "-", "up_for_retry": "↻", "queued": "·", "scheduled": "·", "": "·"}
STYLES = {"✓": "green", "✗": "bold red", "…": "cyan", "↻": "yellow"}


class Row(Value, frozen=True, kw_only=True):
    """A stage: a server that starts, or a task of the run with all its mapped instances."""

    name: str
    state: str
    detail: str = ""
    elapsed_s: float = 0


class Display(Protocol):
    """What is told to the person."""

    def row(self, row: Row) -> None:
        """The stage `row.name` is now like this."""

    def say(self, text: str) -> None:
        """A line that stays."""

    def cases(self, done: int, published: int, failed: int) -> None:
        """How far the cases are."""

    def close(self) -> None:
        """Nothing moves from here on; may be called again."""


class Plain:
    """A line whenever something has changed, with the seconds since the start."""

    def __init__(self, begun: float) -> None:
        self._begun = begun
        self._seen: dict[str, tuple[str, str]] = {}
        self._last_line_at = 0.0
        self._last = (0, 0, 0)
        self._lock = threading.Lock()

    def row(self, row: Row) -> None:
        with self._lock:
            if self._seen.get(row.name) != (row.state, row.detail):
                self._seen[row.name] = (row.state, row.detail)
                self._line(f"{row.name}: {row.state or 'waiting'}{f' ({row.detail})' if row.detail else ''}")

    def say(self, text: str) -> None:
        self._line(text)

    def cases(self, done: int, published: int, failed: int) -> None:
        counts = (done, published, failed)
        if published and counts != self._last and (done == published or time.monotonic() - self._last_line_at > 5):
            self._last_line_at, self._last = time.monotonic(), counts
            self._line(f"cases: {done} of {published} done, {failed} failed")

    def close(self) -> None:
        sys.stdout.flush()

    def _line(self, text: str) -> None:
        print(f"{time.monotonic() - self._begun:6.1f} s  {printable(text)}", flush=True)


class Live:
    """A table that redraws itself, with a bar of the cases; lines said stand above it."""

    def __init__(self, begun: float) -> None:
        from rich.console import Console
        from rich.live import Live as RichLive

        self._begun = begun
        self._rows: dict[str, tuple[Row, float]] = {}
        self._cases = (0, 0, 0)
        self._console = Console(highlight=False)
        self._live = RichLive(console=self._console, get_renderable=self._draw, refresh_per_second=4, transient=True)
        self._live.start()

    def row(self, row: Row) -> None:
        before = self._rows.get(row.name)
        since = before[1] if before and before[0].state == row.state else time.monotonic()
        if before and not row.elapsed_s and row.state in ("ready", "failed"):
            row = Row(name=row.name, state=row.state, detail=row.detail, elapsed_s=time.monotonic() - before[1])
        self._rows[row.name] = (row, since)

    def say(self, text: str) -> None:
        from rich.markup import escape

        self._console.print(escape(printable(text)))

    def cases(self, done: int, published: int, failed: int) -> None:
        self._cases = (done, published, failed)

    def close(self) -> None:
        self._live.stop()

    def _draw(self) -> RenderableType:
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        table = Table.grid(padding=(0, 2))
        for row, since in list(self._rows.values()):
            sign = SIGNS.get(row.state, "·")
            moving = row.state in ("starting", "running")
            seconds = time.monotonic() - since if moving else row.elapsed_s
            took = f"{seconds:.1f} s" if seconds else ""
            table.add_row(Text(sign, STYLES.get(sign, "dim")), row.name, Text(took, "dim", justify="right"), row.detail)
        done, published, failed = self._cases
        parts: list[RenderableType] = [table]
        if published:
            bar = Table.grid(padding=(0, 2))
            text = f"{done} of {published} cases"
            bar.add_row(ProgressBar(total=published, completed=done, width=40), text, Text(f"{failed} failed", "red"))
            parts.append(bar)
        parts.append(Text(f"{time.monotonic() - self._begun:.0f} s", "dim"))
        return Group(*parts)


def display(begun: float) -> Display:
    """The display for a terminal, or for a file or pipe."""
    return Live(begun) if sys.stdout.isatty() else Plain(begun)


def stages(tasks: Iterable[TaskState]) -> list[Row]:
    """A row for each task, with its mapped instances together, in the order in which they began; the others last."""
    groups: dict[str, list[TaskState]] = {}
    for task in tasks:
        groups.setdefault(task.task, []).append(task)

    def begun(group: list[TaskState]) -> float:
        return min((task.started.timestamp() for task in group if task.started), default=float("inf"))

    return [_stage(name, group) for name, group in sorted(groups.items(), key=lambda item: begun(item[1]))]


def _stage(name: str, group: list[TaskState]) -> Row:
    states = Counter(task.state for task in group)
    order = ("failed", "up_for_retry", "running", "queued", "scheduled", "", "upstream_failed")
    state = next((name for name in order if states[name]), states.most_common(1)[0][0])
    if state in ("queued", "scheduled", "") and states["success"]:
        state = "running"
    first = [task.started for task in group if task.started]
    last = [task.ended for task in group if task.ended]
    finished = len(last) == len(group) and first
    elapsed = (max(last) - min(first)).total_seconds() if finished else 0
    detail = f"{states['success']} of {len(group)}" if len(group) > 1 else ""
    return Row(name=name, state=state, detail=detail, elapsed_s=max(0, elapsed))


def where_time_went(spans: Iterable[Span], begun: float) -> list[tuple[str, float, float]]:
    """(name, seconds after `begun`, seconds taken) in the order of the beginnings; spans may overlap."""
    return [(s.name, s.begin - begun, s.end - s.begin) for s in sorted(spans, key=lambda span: span.begin)]
