"""Files of ours, a document a line: cases with what a runner must know, or results."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import IO

import msgspec
from msgspec import structs

from testops_lib.errors import CaseError
from testops_lib.export import public
from testops_lib.model import Case, Contract, Finding, Generation, Plan, Result, Value, case_id


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
    finding: Finding | None = None


def write_evidence(
    file: IO[bytes], about: About, plan: Plan, contracts: Mapping[str, Contract], cases: Iterable[Case]
) -> None:
    """The head of a file that `testops reproduce` takes: what results are of, and the cases that failed; no secret."""
    _write_head(file, about, structs.replace(plan, identities=public(plan.identities)), contracts, cases)


def write_cases(path: Path, about: About, plan: Plan, contracts: Mapping[str, Contract], cases: Iterable[Case]) -> None:
    """A file that `testops execute` takes."""
    with path.open("wb") as file:
        _write_head(file, about, plan, contracts, cases)


def _write_head(
    file: IO[bytes], about: About, plan: Plan, contracts: Mapping[str, Contract], cases: Iterable[Case]
) -> None:
    written = list(cases)
    called = {step.operation for case in written for step in (*case.steps, *case.cleanup)}
    write(file, Line(about=about))
    write(file, Line(plan=plan))
    for key in sorted(contracts.keys() & called):
        write(file, Line(contract=contracts[key]))
    for case in written:
        write(file, Line(case=case))


def write(file: IO[bytes], line: Line) -> None:
    file.write(msgspec.json.encode(line) + b"\n")


def write_results(
    path: Path,
    about: About,
    plan: Plan,
    contracts: Mapping[str, Contract],
    cases: Iterable[Case],
    results: Sequence[Result],
) -> None:
    """A file that `report`, `export`, `diff` and `shrink` take; of the cases it holds those that failed."""
    failing = {result.case for result in results if result.verdict == "failed"}
    with path.open("wb") as file:
        write_evidence(file, about, plan, contracts, (case for case in cases if case.id in failing))
        for result in results:
            write(file, Line(result=result))


def read(path: Path) -> Iterator[Line]:
    decoder = msgspec.json.Decoder(Line)
    with path.open("rb") as file:
        for number, text in enumerate(file, 1):
            if not text.strip():
                continue
            try:
                line = decoder.decode(text)
            except msgspec.DecodeError as error:
                raise CaseError(
                    str(error), where=f"{path}:{number}", next_step="one document a line: docs/case.schema.json"
                ) from error
            if line.case is not None:
                _require_own_id(line.case, f"{path}:{number}")
            yield line


def _require_own_id(case: Case, where: str) -> None:
    """An edited case that keeps its id would stand for the original in every report."""
    expected = case_id(case.intent, case.operation, case.steps, case.cleanup, case.last)
    if case.id != expected:
        raise CaseError(
            f"the case {case.name!r} was changed and kept its id {case.id!r}",
            where=where,
            next_step=f'a changed case is another case: write "id": "{expected}"',
        )
