"""Files of ours, a document a line: cases with what a runner must know, or results."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import IO

import msgspec

from testops_lib.errors import CaseError
from testops_lib.model import Case, Contract, Generation, Plan, Result, Value


class About(Value, frozen=True, kw_only=True):
    """Head of a results file: what the results are of."""

    run: str
    target: str
    title: str = ""
    base_url: str = ""
    started: datetime | None = None
    operations: dict[str, tuple[str, ...]] = msgspec.field(default_factory=dict)
    """In scope, with their documented statuses."""
    not_tested: dict[str, str] = msgspec.field(default_factory=dict)
    """In scope, and the document describes them beyond use -> why."""
    generations: tuple[Generation, ...] = ()
    concurrency: int = 1
    """Cases that were executed at once."""


class Line(Value, frozen=True, kw_only=True):
    """One line of a `.jsonl` file of ours: exactly one member is given."""

    about: About | None = None
    plan: Plan | None = None
    contract: Contract | None = None
    case: Case | None = None
    result: Result | None = None


def write(file: IO[bytes], line: Line) -> None:
    file.write(msgspec.json.encode(line) + b"\n")


def read(path: Path) -> Iterator[Line]:
    decoder = msgspec.json.Decoder(Line)
    with path.open("rb") as file:
        for number, text in enumerate(file, 1):
            if not text.strip():
                continue
            try:
                yield decoder.decode(text)
            except msgspec.DecodeError as error:
                raise CaseError(
                    str(error), where=f"{path}:{number}", next_step="one document a line: docs/case.schema.json"
                ) from error
