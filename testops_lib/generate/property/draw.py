"""JSON Schema -> random values, by Schemathesis and hypothesis, in a process of its own.

One request a line on standard input, one answer a line on standard output, both JSON; see `draws`. Run as a script, so
that nothing of this project is imported: what hypothesis draws depends on the modules around it.
"""

from __future__ import annotations

import base64
import json
import resource
import signal
import sys
import time
from typing import Any

MOST_BYTES = 64 * 1024
"""Of one value as JSON."""

MOST_MEMORY = 3 * 1024**3


class _Late(BaseException):
    """The time for one request is over."""


def _offline(event: str, _: tuple[Any, ...]) -> None:
    if event in ("socket.connect", "socket.getaddrinfo", "subprocess.Popen", "os.exec", "os.posix_spawn"):
        raise PermissionError(f"{event}: values are made offline")


def _kept(value: Any) -> dict[str, Any] | None:
    """The value as it is answered; None when no JSON text can hold it."""
    if isinstance(value, bytes):
        return {"bytes": base64.b64encode(value).decode()} if len(value) <= MOST_BYTES else None
    try:
        written = json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError):
        return None
    return {"json": value} if len(written) <= MOST_BYTES else None


def draw(schema: Any, *, valid: bool, count: int, number: int, seconds: float) -> list[dict[str, Any]]:
    """At most `count` different values that fit the schema or, without `valid`, probably do not; the simplest first."""
    import schemathesis
    from hypothesis import HealthCheck, Phase, given, seed, settings
    from schemathesis.config import SchemathesisConfig

    definitions = schema.pop("$defs", {}) if isinstance(schema, dict) else {}
    body = {"required": True, "content": {"application/json": {"schema": schema}}}
    document = {
        "openapi": "3.1.0",
        "info": {"title": "one body", "version": "1"},
        "$defs": definitions,
        "paths": {"/": {"post": {"requestBody": body, "responses": {"200": {"description": ""}}}}},
    }
    mode = schemathesis.GenerationMode.POSITIVE if valid else schemathesis.GenerationMode.NEGATIVE
    # An explicit configuration, or one is looked for in every directory above.
    loaded = schemathesis.openapi.from_dict(document, config=SchemathesisConfig())
    strategy = loaded["/"]["POST"].as_strategy(generation_mode=mode)
    until = time.process_time() + seconds
    found: dict[str, dict[str, Any]] = {}

    @seed(number)
    @settings(
        max_examples=2 * count,  # hypothesis repeats itself
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def keep(case: Any) -> None:
        if time.process_time() > until:
            raise _Late
        kept = _kept(case.body)
        if kept is not None:
            found.setdefault(json.dumps(kept, sort_keys=True), kept)

    keep()
    return list(found.values())[:count]


def main() -> None:
    try:
        resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
    except (ValueError, OSError):
        pass  # not every system has this limit
    answers = sys.stdout.buffer
    sys.stdout = sys.stderr
    import schemathesis
    import schemathesis.openapi

    del globals()["__file__"]  # or hypothesis draws this script's own words, wherever it takes the path for a local one
    sys.addaudithook(_offline)
    for valid in (True, False):  # hypothesis's tables of characters: seconds, once
        draw({"type": "object", "properties": {"a": {"type": "string"}}}, valid=valid, count=5, number=0, seconds=60)

    def answer(told: dict[str, Any]) -> None:
        answers.write(json.dumps(told).encode() + b"\n")
        answers.flush()

    answer({"ready": schemathesis.__version__})
    for line in sys.stdin.buffer:
        wish = json.loads(line)
        # Ends the process wherever it is. Processor time: how busy the machine is must not decide what is drawn.
        signal.setitimer(signal.ITIMER_PROF, wish["seconds"] + 2)
        try:
            answer({"values": draw(**wish)})
        except _Late:
            answer({"error": f"no {wish['count']} values within {wish['seconds']:g} s"})
        except Exception as error:
            answer({"error": f"{type(error).__name__}: {error}"[:200]})


if __name__ == "__main__":
    main()
