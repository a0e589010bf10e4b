"""Python with modules imported already, forked for every piece of code: a test does not pay for their import again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

from tests.paths import ROOT

_SERVER = """
import json, os, sys, traceback
exec(sys.argv[1], {})
import gc
gc.freeze()
print("ready", flush=True)
for line in sys.stdin:
    order = json.loads(line)
    child = os.fork()
    if child:
        print(child, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
        continue
    code = 1
    try:
        os.setsid()
        for number, path in enumerate(("/dev/null", *order["files"])):
            file = os.open(path, os.O_RDWR)
            os.dup2(file, number)
            os.close(file)
        os.chdir(order["cwd"])
        os.environ.clear()
        os.environ.update(order["environment"])
        sys.argv = ["-c", *order["arguments"]]
        exec(compile(order["code"], "<test>", "exec"), {"__name__": "__main__"})
        code = 0
    except SystemExit as ending:
        code = ending.code if isinstance(ending.code, int) else int(ending.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
"""


class WarmPython:
    """A process that has executed `imports`, in an environment of its own. One piece of code runs at a time."""

    def __init__(self, imports: str, *, environment: Mapping[str, str]) -> None:
        self._environment = dict(environment)
        self._log = tempfile.TemporaryFile("w+")
        self._server = subprocess.Popen(
            [sys.executable, "-c", _SERVER, imports],
            env=self._environment,
            cwd=ROOT,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
        )
        self._is_ready = False

    def __enter__(self) -> WarmPython:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.communicate(timeout=20)
        self._log.close()

    def run(
        self,
        code: str,
        arguments: Sequence[str] = (),
        *,
        variables: Mapping[str, str] | None = None,
        cwd: Path = ROOT,
        timeout_s: float = 300,
    ) -> subprocess.CompletedProcess[str]:
        """What `python -c code arguments…` gives in a process of its own, without the time of the imports.

        `variables` are added to the environment; modules that read it at their import have not seen them.
        A process that is not over after `timeout_s` is killed with all that it started.
        """
        while not self._is_ready:
            self._is_ready = self._line() == "ready"
        with tempfile.NamedTemporaryFile("w+") as out, tempfile.NamedTemporaryFile("w+") as err:
            order = {
                "code": code,
                "arguments": list(arguments),
                "environment": {**self._environment, **(variables or {})},
                "cwd": str(cwd),
                "files": [out.name, err.name],
            }
            assert self._server.stdin is not None
            print(json.dumps(order), file=self._server.stdin, flush=True)
            child = int(self._line())
            timer = threading.Timer(timeout_s, os.killpg, (child, signal.SIGKILL))
            timer.start()
            code_of_exit = int(self._line())
            timer.cancel()
            return subprocess.CompletedProcess(
                ["python", "-c", code, *arguments], code_of_exit, Path(out.name).read_text(), Path(err.name).read_text()
            )

    def _line(self) -> str:
        """The next line of the server; what the imports print is none of its own."""
        assert self._server.stdout is not None
        line = self._server.stdout.readline()
        if not line:
            self._server.wait(20)
            self._log.seek(0)
            raise AssertionError(self._log.read()[-3000:])
        return line.strip()
