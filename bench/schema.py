"""JSON Schema validation: the validator the judge uses against the Python package, a small and a large body."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from functools import partial

from bench.figures import Figures
from bench.sample import SCHEMA, customers
from testops_lib.verdict.documented import compile_schema


def measure(*, quick: bool) -> Figures:
    """Best of the passes, decoding apart."""
    import jsonschema

    figures = Figures()
    ours = compile_schema(SCHEMA)
    theirs = jsonschema.Draft202012Validator(SCHEMA, format_checker=jsonschema.FormatChecker())
    for count in (4, 240):
        document = customers(count)
        size = f"{len(json.dumps(document)) / 1000:.0f} KB"
        fast = _best(partial(ours.is_valid, document), 2000 if count < 10 else 200)
        slow = _best(partial(theirs.is_valid, document), 50 if count < 10 else 3)
        figures.add(f"jsonschema-rs, formats asserted, {size}", fast, "CPU-µs")
        figures.add(f"jsonschema (Python), {size}", slow, "CPU-µs")
        figures.add(f"jsonschema-rs ÷ jsonschema, {size}", fast / slow, "×", goal="≤ 0.02")
    figures.add("compiling the schema, once a runner", _best(lambda: compile_schema(SCHEMA), 20), "CPU-µs")
    return figures


def _best(call: Callable[[], object], count: int, passes: int = 5) -> float:
    best = float("inf")
    for _ in range(passes):
        begun = time.process_time()
        for _ in range(count):
            call()
        best = min(best, (time.process_time() - begun) / count)
    return best * 1e6
