"""Members of the runners' fleet on this machine."""

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


class Member:
    """One of them: a process, and what it says of itself."""

    def __init__(self, child: Child) -> None:
        self.child = child
        self._port = 0

    @property
    def is_running(self) -> bool:
        return self.child.returncode is None

    def get(self, path: str) -> tuple[int, str]:
        """Status and body of `/live`, `/ready` or `/metrics`; status 0: no answer."""
        if not self._port and (found := _ADDRESS.search(self.child.log.read_text("utf-8", "replace"))):
            self._port = int(found[1])
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
    """Members of one group, with their logs in `state`. `variables` are added to the environment of each."""

    def __init__(self, state: Path, variables: Mapping[str, str], *, group: str = GROUP) -> None:
        self.group = group
        self.processes = Processes(state)
        self.members: list[Member] = []
        self._variables = dict(variables)
        self._started = 0

    def add(self, count: int = 1) -> list[Member]:
        """Further members, started and not waited for."""
        added = []
        for _ in range(count):
            self._started += 1
            child = self.processes.start(
                f"member-{self._started}",
                [sys.executable, "-m", "runner", "--group", self.group, "--port", "0"],
                env={**os.environ, **self._variables},
                cwd=PROJECT,
            )
            added.append(Member(child))
        self.members += added
        return added

    def kill(self, member: Member) -> None:
        """Ends one by SIGKILL and forgets it."""
        self.members.remove(member)
        member.child.stop(brutal=True)

    def mend(self) -> bool:
        """Starts one for each that has died; whether there was any."""
        dead = [member for member in self.members if not member.is_running]
        for member in dead:
            self.members.remove(member)
            self.add()
        return bool(dead)

    def stop(self, *, patience: float = 15) -> None:
        """Ends all members at once, each after what is in flight."""
        for member in self.members:
            if member.is_running:
                member.child.send(member.child.entry.stop_signal)
        for member in self.members:
            member.child.stop(patience=patience)
        self.members.clear()
        self.processes.release()
