"""`execute`: a file of cases in, a file of results out. Imports nothing of generation, stores or reports."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from testops_lib.cli.exit_codes import COULD_NOT_RUN, FINDINGS, NOTHING_FOUND
from testops_lib.cli.lines import About, read, write_results
from testops_lib.cli.output import say
from testops_lib.cli.sending import (
    execute_all,
    identities,
    new_run_id,
    policy_of,
    proxy_of,
    tls_of,
)
from testops_lib.errors import SettingsError, TestOpsError
from testops_lib.model import Plan
from testops_lib.text import plural
from testops_lib.verdict.repetition import Repetitions, split


def execute_file(file: Path, base_url: str, options: Mapping[str, Any], *, out: Path, observe: bool) -> int:
    """Executes the cases of a file and writes the results; gives the exit code."""
    about, plan, contracts, cases = About(run="", target=file.stem), None, {}, []
    for line in read(file):
        about, plan = line.about or about, line.plan or plan
        if line.contract:
            contracts[line.contract.operation] = line.contract
        if line.case:
            cases.append(line.case)
    base = (base_url or (plan.base_url if plan else "")).rstrip("/")
    if not base:
        raise SettingsError("the file names no base URL", where=str(file), next_step="give --base-url")
    policy = policy_of(options, allow_private=bool(base_url))
    sending = Plan(
        target=about.target,
        base_url=base,
        policy=policy,
        identities=identities(options),
        tls=tls_of(options),
        given=plan.given if plan else {},
        observe=observe,
    )
    run_id, started = new_run_id(), datetime.now(UTC)
    repeating = Repetitions(lambda ids: {case.id: case for case in cases}, limit=options["max_requests"])
    results, stopped = execute_all(
        sending,
        contracts,
        cases,
        total=lambda: len(cases),
        run_id=run_id,
        budget=(options["max_requests"], options["max_time"]),
        repeating=repeating,
        proxy=proxy_of(options, base),
    )
    done = msgspec.structs.replace(about, run=run_id, base_url=base, started=started, concurrency=policy.concurrency)
    write_results(out, done, sending, contracts, cases, results)
    first_executions, repeated = split(results)
    verdicts = Counter(result.verdict for result in first_executions)
    failed = verdicts["failed"]
    others = "".join(f", {verdicts[verdict]} {verdict}" for verdict in ("errored", "skipped") if verdicts[verdict])
    again = f"; {len(repeated)} repetitions of failed ones" if repeated else ""
    say(f"{out}: {plural(len(first_executions), 'result')}, {failed} failed{others}{again}")
    if not stopped and not verdicts["passed"] + failed:
        reason, count = (
            Counter(result.reason for result in first_executions).most_common(1)[0]
            if first_executions
            else ("no case", 0)
        )
        hint = "is it up, and is --base-url right?"
        if reason.startswith("refused:") and not base_url:
            hint = "a private address must be given by --base-url; that the file names it is not enough"
        raise TestOpsError(f"no case could be executed: {count} × {reason}", where=base, next_step=hint)
    say(f"see them: testops report {out}")
    if stopped:
        return COULD_NOT_RUN
    return FINDINGS if failed else NOTHING_FOUND
