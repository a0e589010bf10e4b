"""What a run reached of each operation: cases, statuses, verdicts, response times."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import get_args

import msgspec

from testops_lib.http.answer import media_type
from testops_lib.model import OperationReport, StepOutcome, VerdictName

VERDICTS: tuple[VerdictName, ...] = get_args(VerdictName)


class OperationTally:
    """What was seen of one operation so far."""

    def __init__(self, documented: tuple[str, ...] = ()) -> None:
        self.documented = tuple(documented)
        self.elapsed_ms = array("d")
        """Times to whole 2xx answers."""
        self.cases = self.requests = 0
        self.statuses: Counter[str] = Counter()
        self.verdicts: Counter[VerdictName] = Counter()
        self.by_global_cause: Counter[tuple[str, VerdictName]] = Counter()
        """By global cause that would explain a result, and its verdict."""
        self.pages = self.other_answers = 0
        """2xx answers that are HTML pages, and those that are not, as far as evidence was kept."""
        self.passed_with_401 = 0
        """Valid requests that passed with a 401, which says something about the credentials only."""

    def add_answer(self, step: StepOutcome) -> None:
        self.statuses[str(step.status) if step.status else "none"] += 1
        if 200 <= step.status < 300:
            if step.response:
                page = media_type(step.response.headers) == "text/html"
                self.pages += page
                self.other_answers += not page
            self.elapsed_ms.append(step.elapsed_ms)

    @property
    def reached(self) -> bool:
        """It has answered a 2xx."""
        return any(status.startswith("2") for status in self.statuses)

    @property
    def shut(self) -> bool:
        """It asks for credentials, and let no request in."""
        return "401" in self.statuses and not self.reached

    def report(self, *, streams: int, unjudged: dict[str, int]) -> OperationReport:
        return OperationReport(
            cases=self.cases,
            requests=self.requests,
            statuses=dict(sorted(self.statuses.items())),
            success_seen=self.reached,
            results={name: self.verdicts[name] for name in VERDICTS if self.verdicts[name]},
            latency_ms=percentiles(self.elapsed_ms),
            streams=streams,
            unjudged=unjudged,
            documented=self.documented,
        )


def with_reasons(
    operations: Mapping[str, OperationReport], not_tested: Mapping[str, str]
) -> dict[str, OperationReport]:
    """The operations; those that were never called with the reason why they could not be tested."""
    return {
        key: msgspec.structs.replace(report, not_tested=not_tested[key])
        if key in not_tested and not report.statuses
        else report
        for key, report in operations.items()
    }


def percentiles(times_ms: Sequence[float]) -> dict[str, float]:
    """Percentiles of the time to a whole 2xx answer, interpolated linearly; empty without one."""
    if not times_ms:
        return {}
    ordered = sorted(times_ms)

    def at(share: float) -> float:
        place = share * (len(ordered) - 1)
        below = int(place)
        above = min(below + 1, len(ordered) - 1)
        return round(ordered[below] + (ordered[above] - ordered[below]) * (place - below), 2)

    return {"p50": at(0.5), "p95": at(0.95), "p99": at(0.99), "max": at(1)}
