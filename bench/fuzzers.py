"""The tools that `faults` compares: each gets a document, a base URL and a budget, and says which faults it found."""

from __future__ import annotations

import json
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bench.apis import environment, run_all
from bench.figures import FOLDER, Ended, Started
from bench.proxy import NUMBER, Counted
from testops_lib.cli.lines import read
from testops_lib.model import WFC_CODES, Failure, Result
from testops_lib.report.wfc import OWN_CODES
from testops_lib.settings import SOURCES
from testops_lib.verdict.fingerprint import fingerprint_of
from testops_lib.verdict.repetition import comes_back, split

PEER = FOLDER / "schemathesis"
PEER_PACKAGE = "schemathesis==4.32.5"

OFFLINE = tuple(source for source in SOURCES if source in ("rules", "property"))
"""Our sources that need nothing but the document."""

_PATIENCE_S = 1500.0
_PEER_CODES = {
    **WFC_CODES,
    **{check: code for check, code in OWN_CODES.items() if check not in WFC_CODES},
    "missing_required_header": 102,
}


class Reported(NamedTuple):
    """One failure that a tool reports."""

    code: int
    """Of Web Fuzzing Commons, or ours where it has none."""
    operation: str
    check: str
    status: int
    """Of the answer that shows it; 0: none."""
    number: int
    """Of the request that shows it, as the proxy counts."""
    message: str


class Outcome(NamedTuple):
    reported: list[Reported]
    cpu_s: float
    note: str = ""


Run = Callable[[Path, str, dict[str, str], Path, Counted], Outcome]
"""Document, base URL, headers, a folder to work in, and the proxy that counts."""


def ours(document: Path, base_url: str, headers: dict[str, str], folder: Path, counted: Counted) -> Outcome:
    """`testops try`. Advisory failures are not reported, nor what does not come back alone: no gate counts them."""
    out = folder / "out"
    sources = [part for source in OFFLINE for part in ("--source", source)]
    credentials = [part for name, value in headers.items() for part in ("-H", f"{name}: {value}")]
    command = [sys.executable, "-m", "testops_lib.cli", "try", str(document), "--base-url", base_url, "--out", str(out)]
    command += [*sources, *credentials, "--max-requests", str(counted.budget)]
    tried = Started(command).end(expected=(0, 1, 2))
    report = json.loads((out / "report.json").read_bytes())
    totals = report["totals"]
    note = f"{totals['cases']} cases, {totals['requests']} requests"
    return Outcome(list(_our_failures(out / "results.jsonl")), tried.cpu_s, note)


def _our_failures(path: Path) -> Iterator[Reported]:
    """Of one answer we report the most telling check of its status alone; that it is undocumented besides is said here,
    as the other tool says it.
    """
    lines = list(read(path))
    documented = {line.contract.operation: set(line.contract.responses) for line in lines if line.contract}
    results = [line.result for line in lines if line.result]
    vanished = _vanished(results)
    latest = 1
    for result in results:
        for failure in result.failures:
            if failure.basis == "guess" or fingerprint_of(failure) in vanished:
                continue
            report = _reported(result, failure, latest)
            latest = max(latest, report.number)
            yield report
            documented_forms = {"default", f"{str(report.status)[:1]}XX", str(report.status)} & documented.get(
                report.operation, {"default"}
            )
            if report.check == "positive_data_acceptance" and not documented_forms:
                yield report._replace(code=101, check="status_code_conformance")


def _vanished(results: Sequence[Result]) -> set[str]:
    """Fingerprints of failures that were repeated alone and did not come back."""
    own, repeated = split(results)
    again: dict[str, list[Result]] = {}
    for repetition in repeated:
        again.setdefault(repetition.case, []).append(repetition)
    seen: dict[str, set[bool | None]] = {}
    for result in own:
        for failure in result.failures:
            answers = {comes_back(failure, repetition) for repetition in again.get(result.case, ())}
            seen.setdefault(fingerprint_of(failure), set()).update(answers)
    return {fingerprint for fingerprint, answers in seen.items() if False in answers and True not in answers}


def _reported(result: Result, failure: Failure, latest: int) -> Reported:
    """`latest`: the number of a request that went before, for one that had no answer to carry its own."""
    numbers = [
        int(next((value for name, value in step.response.headers if name.lower() == NUMBER.lower()), 0))
        if step.response
        else 0
        for step in result.steps
    ]
    step = result.steps[failure.step] if failure.step < len(result.steps) else None
    number = (numbers[failure.step] if failure.step < len(numbers) else 0) or latest
    code = WFC_CODES.get(failure.check) or OWN_CODES.get(failure.check, 999)
    return Reported(
        code,
        failure.operation,
        failure.check,
        step.status if step else 0,
        number,
        failure.message,
    )


# --------------------------------------------------------------------------- Schemathesis


def peer_installed() -> bool:
    return (PEER / "done").exists()


def install_peer() -> str:
    """Puts Schemathesis into an environment of its own; "" or why that failed."""
    if peer_installed():
        return ""
    shutil.rmtree(PEER, ignore_errors=True)
    return run_all(environment(PEER, (PEER_PACKAGE,)), PEER / "done")


def schemathesis(document: Path, base_url: str, headers: dict[str, str], folder: Path, counted: Counted) -> Outcome:
    """`st run` with its default phases, seeded, ended when the proxy's budget is spent."""
    events = folder / "events.ndjson"
    command = [
        str(PEER / "bin" / "st"),
        "run",
        str(document),
        "--url",
        base_url,
        "--seed",
        "1",
        "--report",
        "ndjson",
        "--report-ndjson-path",
        str(events),
        "--suppress-health-check",
        "all",
        "--request-timeout",
        "10",
        *(part for name, value in headers.items() for part in ("-H", f"{name}: {value}")),
    ]
    environ = {"PYTHONPATH": "", "HYPOTHESIS_STORAGE_DIRECTORY": str(folder / "hypothesis")}
    started = Started(command, environ=environ, folder=folder)  # it keeps crashes where it is started
    ended = _until_spent(started, counted)
    return Outcome(list(_peer_failures(events)), ended.cpu_s, "" if ended.code in (0, 1) else "stopped at the budget")


def _until_spent(started: Started, counted: Counted) -> Ended:
    """Interrupts the child when the budget is spent or patience is, then waits for its reports."""
    over = threading.Event()

    def watch() -> None:
        counted.spent.wait(_PATIENCE_S)
        for number in (signal.SIGINT, signal.SIGINT, signal.SIGKILL):
            if over.is_set():
                return
            started.child.send_signal(number)
            over.wait(20)

    threading.Thread(target=watch, daemon=True).start()
    ended = started.end(expected=None)
    over.set()
    counted.spent.set()
    return ended


def _peer_failures(events: Path) -> Iterator[Reported]:
    if not events.exists():
        return
    latest = 0
    with events.open("rb") as lines:
        for line in lines:
            try:
                event: dict[str, Any] = json.loads(line)
            except ValueError:  # the line it was ended in
                return
            if "ScenarioFinished" in event:
                recorder = event["ScenarioFinished"]["recorder"]
                answers = {interaction: _answer(seen) for interaction, seen in recorder.get("interactions", {}).items()}
                latest = max([latest, *(number for number, _ in answers.values())])
                for case, checks in recorder.get("checks", {}).items():
                    number, status = answers.get(case, (0, 0))
                    for check in checks:
                        if check.get("status") != "success" and check["name"] in _PEER_CODES:
                            failure = check.get("failure_info", {}).get("failure", {})
                            yield Reported(
                                _PEER_CODES[check["name"]],
                                failure.get("operation", ""),
                                check["name"],
                                status,
                                number or latest,
                                f"{failure.get('title', '')}: {failure.get('message', '')}",
                            )
            elif "NonFatalError" in event:
                error = event["NonFatalError"]
                kind = error.get("value", {}).get("type", "")
                if kind in ("ChunkedEncodingError", "ConnectionError") and error.get("related_to_operation"):
                    text = f"{kind}: {error['value'].get('message', '')}"
                    yield Reported(OWN_CODES["no_answer"], error["label"], "no_answer", 0, latest + 1, text)


def _answer(interaction: dict[str, Any]) -> tuple[int, int]:
    """Number and status."""
    answer = interaction.get("response") or {}
    named = {name.lower(): values for name, values in answer.get("headers", {}).items()}
    return int(next(iter(named.get(NUMBER.lower(), ["0"])))), answer.get("status_code", 0)
