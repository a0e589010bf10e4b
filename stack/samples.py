"""The APIs under test that come with the project: the shop with its seeded defects, and httpbin."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from stack import HOST, PROJECT, ports
from stack.environment import environment
from stack.process import Child, Processes
from stack.secret import stored_secret
from testops_lib.errors import StackError
from testops_lib.http.session import open_session

READY = {"shop": "/openapi.json", "httpbin": "/spec.json"}
"""Name -> the path of its OpenAPI document, which answers 200 as soon as the sample is ready."""

AIRFLOW = "airflow"
"""The sample without a server of its own: DAGs and data in the local Airflow (`seed`)."""


class Sample:
    """One sample server. `defects` (`all`, `none`, or ids separated by commas) is for the shop alone.

    `port` is the preferred one, 0 any. Its tokens are created once and stored in `state`.
    """

    def __init__(self, name: str, state: Path, *, port: int = 0, defects: str = "all") -> None:
        if name not in READY:
            raise StackError(f"there is no sample {name!r}", next_step=f"there are: {', '.join(READY)}")
        self.name, self.state, self.defects = name, state.absolute(), defects
        self._wanted = port
        self._port = 0
        self.processes = Processes(self.state)
        self._child: Child | None = None

    @property
    def url(self) -> str:
        """The base URL, after `prepare`."""
        return f"http://{HOST}:{self._port}"

    def prepare(self) -> str:
        """The base URL, settled before the start."""
        self.processes.claim()
        if not self._port:
            self._port = ports.settle(self.state / "ports.json", {self.name: self._wanted})[self.name]
        return self.url

    def variables(self) -> dict[str, str]:
        """The variables that this sample's target file refers to: `TESTOPS_SHOP_URL`, `TESTOPS_SHOP_TOKEN`, …"""
        prefix = f"TESTOPS_{self.name.upper()}"
        variables = {f"{prefix}_URL": self.prepare()}
        if self.name == "shop":
            variables |= {
                f"{prefix}_TOKEN": stored_secret(self.state / "token"),
                f"{prefix}_ADMIN_TOKEN": stored_secret(self.state / "admin-token"),
            }
        return variables

    def start(self, *, patience: float = 60) -> str:
        """The base URL, when it answers; starts it again if it has ended.

        Raises:
            StackError: it ended, did not answer in time, or could not be installed; with the end of what was said.
        """
        self.prepare()
        if self._child and self._child.returncode is None:
            return self.url
        child = self._child = self.processes.start(self.name, self._command(), env=self._environment(), cwd=PROJECT)
        deadline = time.monotonic() + patience
        while not _answers(self.url + READY[self.name]):
            child.require("starting")
            if time.monotonic() > deadline:
                raise child.failure(f"no answer within {patience:.0f} s")
            time.sleep(0.05)
        return self.url

    @property
    def is_running(self) -> bool:
        return self._child is not None and self._child.returncode is None

    def stop(self) -> None:
        """End it; the directory is free for the next owner."""
        if self._child:
            self._child.stop(patience=3)
            self._child = None
        ports.release(self.state / "ports.json")
        self.processes.release()

    def _command(self) -> list[str]:
        if self.name == "shop":
            return [
                *(sys.executable, "-m", "uvicorn", "examples.shop.app:app", "--host", HOST, "--port", str(self._port)),
                *("--log-level", "warning", "--no-access-log", "--timeout-graceful-shutdown", "1"),
            ]
        # gunicorn: httpbin answers chunked requests with 501 under any other server. Threads rather than gevent: its
        # slow endpoints sleep, and nothing has to be patched.
        python = str(
            environment(PROJECT / ".testops" / "samples" / self.name, PROJECT / "examples/httpbin/requirements.txt")
        )
        return [
            *(python, "-m", "gunicorn", "httpbin:app", "--bind", f"{HOST}:{self._port}", "--workers", "1"),
            *("--worker-class", "gthread", "--threads", "32", "--timeout", "120", "--graceful-timeout", "1"),
            *("--log-level", "warning"),
        ]

    def _environment(self) -> Mapping[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
        if self.name == "shop":
            kept |= {"SHOP_DEFECTS": self.defects, "SHOP_TOKEN": stored_secret(self.state / "token")}
            kept |= {"SHOP_ADMIN_TOKEN": stored_secret(self.state / "admin-token")}
        return kept


def _answers(url: str) -> bool:
    with open_session(host=HOST) as session:
        try:
            return session.get(url, timeout=10).status_code == 200
        except OSError:
            return False
