"""Random values for schemas: the seam to Schemathesis and hypothesis, which run in a process of their own.

A schema that would keep them busy for ever, or fill the memory, costs that process its life and nothing else. It has an
empty directory, no network and a fixed hash seed: equal schema, mode, count and seed, equal values.
"""

from __future__ import annotations

import base64
import importlib.util
import json
import os
import select
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from testops_lib.errors import GenerateError

SECONDS: Final = 10.0
"""Of processor time for the values of one schema; usual ones take a fifth of a second."""

MOST_LOST: Final = 4
"""Processes that may be lost in a row to schemas before no further one is started."""

_START_S: Final = 300.0
_WALL: Final = 20.0
"""Times its processor time that an answer may take on a busy machine before the process is killed."""
_MOST_SCHEMA: Final = 500_000
_MOST_ANSWER: Final = 64_000_000
_SCRIPT: Final = Path(__file__).with_name("draw.py")


class Undrawable(Exception):
    """There are no values for this schema; the message says why."""


class Draws:
    """Draws values; a context manager. The process starts with the first wish."""

    def __init__(self, *, seconds: float = SECONDS) -> None:
        self._seconds = seconds
        self._child: subprocess.Popen[bytes] | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._rest = b""
        self._lost = 0

    def __enter__(self) -> Draws:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()
        if self._folder is not None:
            self._folder.cleanup()

    def values(self, schema: Any, *, valid: bool, count: int, seed: int) -> list[Any]:
        """At most `count` different values, the simplest first: JSON, or bytes that are no JSON (without `valid`).

        `schema` is self-contained. Values without `valid` break it in all likelihood: judge them.

        Raises:
            Undrawable: none could be made within the limits.
            GenerateError: Schemathesis is not installed or does not start.
        """
        wish = {"schema": schema, "valid": valid, "count": count, "number": seed, "seconds": self._seconds}
        line = json.dumps(wish).encode() + b"\n"
        if len(line) > _MOST_SCHEMA:
            raise Undrawable("its schema is too large")
        if self._lost >= MOST_LOST:
            raise Undrawable("too many schemas before it came to nothing")
        child = self._child or self._start()
        try:
            assert child.stdin is not None
            child.stdin.write(line)
            child.stdin.flush()
            told = self._answer(child, max(1.0, self._seconds) * _WALL)
        except (OSError, ValueError, TimeoutError) as error:
            self._end()
            self._lost += 1
            raise Undrawable("its schema takes too long or too much memory") from error
        self._lost = 0
        if "error" in told:
            raise Undrawable(" ".join(str(told["error"]).split())[:160])
        return [base64.b64decode(one["bytes"]) if "bytes" in one else one["json"] for one in told["values"]]

    def _start(self) -> subprocess.Popen[bytes]:
        if importlib.util.find_spec("schemathesis") is None:
            raise GenerateError(
                "needs Schemathesis", where="source property", next_step="pip install 'ai-testops[property]'"
            )
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="testops-property-")
        kept = {key: value for key, value in os.environ.items() if key in ("PATH", "LANG", "HOME", "LD_LIBRARY_PATH")}
        self._rest = b""
        self._child = subprocess.Popen(
            [sys.executable, "-P", "-X", "utf8", str(_SCRIPT)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=self._folder.name,
            env={**kept, "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"},
        )
        try:
            self._answer(self._child, _START_S)
        except (OSError, ValueError, TimeoutError) as error:
            self._end()
            raise GenerateError(
                "Schemathesis does not start",
                where="source property",
                next_step=f"see what `{sys.executable} -c 'import schemathesis'` says",
            ) from error
        return self._child

    def _answer(self, child: subprocess.Popen[bytes], seconds: float) -> dict[str, Any]:
        assert child.stdout is not None
        until = time.monotonic() + seconds
        parts, size = [self._rest], len(self._rest)
        while b"\n" not in parts[-1]:
            ready, _, _ = select.select([child.stdout], [], [], max(0.0, until - time.monotonic()))
            if not ready:
                raise TimeoutError
            part = os.read(child.stdout.fileno(), 1 << 16)
            size += len(part)
            if not part or size > _MOST_ANSWER:
                raise ValueError("the process ended" if not part else "too much was answered")
            parts.append(part)
        line, _, self._rest = b"".join(parts).partition(b"\n")
        told = json.loads(line)
        if not isinstance(told, dict):
            raise ValueError("no object")
        return told

    def _end(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.kill()
            child.communicate()
