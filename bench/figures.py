"""Figures: measured, put into a table, written as JSON."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / ".testops" / "bench"


class Figures:
    """Rows of one benchmark: what, figure, unit, and the goal where there is one."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.notes: list[str] = []
        self._load = os.getloadavg()[0]

    def add(self, what: str, figure: float, unit: str, *, goal: str = "", more: str = "") -> None:
        """A row of the table."""
        self.rows.append({"what": what, "figure": float(f"{figure:.4g}"), "unit": unit, "goal": goal, "more": more})

    def note(self, text: str) -> None:
        """A line below the table."""
        self.notes.append(text)

    def publish(self, name: str, title: str, folder: Path) -> None:
        """Prints the table and writes the file."""
        print(f"\n## {name}: {title}\n")
        table = [("what", "figure", "goal", "")]
        table += [(r["what"], f"{_short(r['figure'])} {r['unit']}", r["goal"], r["more"]) for r in self.rows]
        widths = [max(len(row[column]) for row in table) for column in range(4)]
        for number, row in enumerate(table):
            print("| " + " | ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)) + " |")
            if number == 0:
                print("|" + "|".join("-" * (width + 2) for width in widths) + "|")
        for note in self.notes:
            print(f"\n{note}")
        folder.mkdir(parents=True, exist_ok=True)
        about = {"name": name, "title": title, **machine(self._load), "rows": self.rows, "notes": self.notes}
        (folder / f"{name}.json").write_text(json.dumps(about, indent=2) + "\n", "utf-8")


def _short(figure: float) -> str:
    return f"{figure:,.0f}" if abs(figure) >= 100 else f"{figure:g}"


def machine(load_before: float) -> dict[str, Any]:
    """When, on what, and beside what load."""
    model = ""
    if (info := Path("/proc/cpuinfo")).exists():
        model = next(
            (line.partition(":")[2].strip() for line in info.read_text().splitlines() if "model name" in line), ""
        )
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": model,
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "load_before": round(load_before, 1),
        "load_after": round(os.getloadavg()[0], 1),
    }


class Ended:
    """What a process was: exit code, seconds on the wall, CPU seconds (user and system), peak resident MB, output."""

    def __init__(self, code: int, wall_s: float, cpu_s: float, peak_mb: float, out: str) -> None:
        self.code, self.wall_s, self.cpu_s, self.peak_mb, self.out = code, wall_s, cpu_s, peak_mb, out


class Started:
    """A child whose resources are known when it has ended."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        environ: Mapping[str, str] | None = None,
        core: int | None = None,
        folder: Path = ROOT,
    ) -> None:
        self.begun = time.monotonic()
        self._command = command
        self._out = (FOLDER / "out").with_suffix(f".{os.getpid()}.{id(self)}")
        self._out.parent.mkdir(parents=True, exist_ok=True)
        environment = {**os.environ, "PYTHONPATH": str(ROOT), **(environ or {})}
        with self._out.open("w") as out:
            self.child = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=environment, cwd=folder)
        if core is not None:
            os.sched_setaffinity(self.child.pid, {core % (os.cpu_count() or 1)})
        # Not the kernel's `ru_maxrss`: that begins with the size of whoever forked.
        self._peak_mb = 0.0
        self._ended = threading.Event()
        self._watch = threading.Thread(target=self._sample, daemon=True)
        self._watch.start()

    def _sample(self) -> None:
        while not self._ended.wait(0.02):
            self._peak_mb = max(self._peak_mb, peak_mb(self.child.pid))

    def end(self, *, expected: Collection[int] | None = (0,)) -> Ended:
        """Waits for it.

        Raises:
            SystemExit: it ended with another code than `expected` (None: any will do); with its output.
        """
        _, status, used = os.wait4(self.child.pid, 0)
        self.child.returncode = os.waitstatus_to_exitcode(status)
        wall_s = time.monotonic() - self.begun
        self._ended.set()
        self._watch.join()
        out = self._out.read_text("utf-8", "replace")
        self._out.unlink()
        if expected is not None and self.child.returncode not in expected:
            raise SystemExit(f"{' '.join(self._command)} ended with {self.child.returncode}:\n{out[-3000:]}")
        return Ended(self.child.returncode, wall_s, used.ru_utime + used.ru_stime, self._peak_mb, out)


def peak_mb(pid: int) -> float:
    """The highest resident size so far of a process and its children, together."""
    total = 0.0
    for process in (pid, *_children(pid)):
        try:
            lines = Path(f"/proc/{process}/status").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))
    return total


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []
