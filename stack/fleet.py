"""A fleet of runners on this machine."""

from __future__ import annotations

import os
import re
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path

from stack import HOST, PROJECT
from stack.process import Child, Processes
from testops_lib.launch.fleet import GROUP

_ADDRESS = re.compile(r"http://[^/]+:(\d+)/live")


class FleetRunner:
    """One runner: its process, and what it says of itself."""

    def __init__(self, child: Child) -> None:
        self.child = child
        self._port = 0

    @property
    def is_running(self) -> bool:
        return self.child.returncode is None

    def get(self, path: str) -> tuple[int, str]:
        """Status and body of `/live`, `/ready` or `/metrics`; status 0: no answer."""
        if not self._port and (match := _ADDRESS.search(self.child.log.read_text("utf-8", "replace"))):
            self._port = int(match[1])
        if not self._port:
            return 0, ""
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(f"http://{HOST}:{self._port}{path}", timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as refused:
            with refused:
                return refused.code, refused.read().decode()
        except OSError:
            return 0, ""

    def wait_ready(self, ready: bool = True, *, patience: float = 60) -> None:
        """Returns when it is in its group (or, with `ready=False`, is not).

        Raises:
            StackError: it ended, or that did not happen in time; with the end of its log.
        """
        deadline = time.monotonic() + patience
        while self.get("/ready")[0] != (200 if ready else 503):
            self.child.require("joining its group")
            if time.monotonic() > deadline:
                raise self.child.failure(f"not {'ready' if ready else 'unready'} within {patience:.0f} s")
            time.sleep(0.1)


class Fleet:
    """Runners of one group, with their logs in `state`. `variables` are added to their environment."""

    def __init__(self, state: Path, variables: Mapping[str, str], *, group: str = GROUP) -> None:
        self.group = group
        self.processes = Processes(state)
        self.runners: list[FleetRunner] = []
        self._variables = dict(variables)
        self._started = 0

    def add(self, count: int = 1) -> list[FleetRunner]:
        """Starts further runners and does not wait for them."""
        added = []
        for _ in range(count):
            self._started += 1
            child = self.processes.start(
                f"runner-{self._started}",
                [sys.executable, "-m", "runner", "--group", self.group, "--port", "0"],
                env={**os.environ, **self._variables},
                cwd=PROJECT,
            )
            added.append(FleetRunner(child))
        self.runners += added
        return added

    def kill(self, runner: FleetRunner) -> None:
        """Ends a runner by SIGKILL and forgets it."""
        self.runners.remove(runner)
        runner.child.stop(brutal=True)

    def mend(self) -> bool:
        """Starts a runner for each that has died; whether there was any."""
        dead = [runner for runner in self.runners if not runner.is_running]
        for runner in dead:
            self.runners.remove(runner)
            self.add()
        return bool(dead)

    def stop(self, *, patience: float = 15) -> None:
        """Ends all runners at once; each ends what is in flight first."""
        for runner in self.runners:
            if runner.is_running:
                runner.child.send(runner.child.entry.stop_signal)
        for runner in self.runners:
            runner.child.stop(patience=patience)
        self.runners.clear()
        self.processes.release()
