"""Reports, the findings of a target, and its usual response times."""

from __future__ import annotations

import msgspec

from testops_lib.model import SLOWER, OperationReport, Report
from testops_lib.store import rows, statements
from testops_lib.store.database import Database, no_run
from testops_lib.tolerant import TolerantDecoder
from testops_lib.verdict.response_times import medians


class _ReportedFinding(msgspec.Struct, frozen=True, kw_only=True):
    check: str
    operation: str
    state: str = "new"


class _ResponseTimes(msgspec.Struct, frozen=True, kw_only=True):
    """The part of a report that says how fast its operations usually are; the rest is not decoded."""

    operations: dict[str, OperationReport] = msgspec.field(default_factory=dict)
    findings: tuple[_ReportedFinding, ...] = ()

    def usual(self) -> dict[str, float]:
        """The medians of operations, except for those that the report calls slower than usual."""
        slow = {finding.operation for finding in self.findings if finding.check == SLOWER and finding.state != "fixed"}
        return {key: median for key, median in medians(self.operations).items() if key not in slow}


_RESPONSE_TIMES: TolerantDecoder[_ResponseTimes] = TolerantDecoder(_ResponseTimes)
_REPORT: TolerantDecoder[Report] = TolerantDecoder(Report)


class Reports(Database):
    """Reports of finished runs, and what earlier ones say about a target."""

    def response_times(self, target: str, before: str, *, runs: int) -> list[dict[str, float]]:
        """Usual median response times by operation, one dict for each run, the latest first.

        The runs are the target's last finished ones before the run `before`, at the same base URL.
        """
        values = {"target": target, "run": before, "runs": runs}
        with self._transaction() as connection:
            reports = connection.execute(statements.RESPONSE_TIMES, values)
            return [_RESPONSE_TIMES.decode(report).usual() for (report,) in reports]

    def known_fingerprints(self, target: str) -> dict[str, str]:
        """Fingerprint of each finding that the target ever had -> the run that saw it first.

        A run that is analysed again gets its own findings, too: with itself as that run they are new, not known.
        """
        return dict(self._fetch_all(statements.KNOWN_FINGERPRINTS, target))

    def save_report(self, run: str, report: Report, passed: bool) -> None:
        """Finishes the run with its report and its findings; a second call replaces both.

        Raises:
            StoreError: there is no such run.
        """
        fingerprints = [finding.fingerprint for finding in report.findings]
        with self._transaction() as connection, connection.cursor() as cursor:
            document = msgspec.json.encode(report).decode()
            if cursor.execute(statements.FINISH_RUN, (passed, document, run)).rowcount == 0:
                raise no_run(run)
            cursor.execute(statements.FORGET_FINDINGS, (report.target, run, run, fingerprints))
            cursor.executemany(
                statements.PUT_FINDING,
                [
                    {
                        "target": report.target,
                        "fingerprint": finding.fingerprint,
                        "operation": rows.text(finding.operation),
                        "check": finding.check,
                        "message": rows.text(finding.message),
                        "state": finding.state,
                        "run": run,
                    }
                    for finding in sorted(report.findings, key=lambda finding: finding.fingerprint)
                ],
            )

    def report(self, run: str) -> Report | None:
        """The run's report; None before `save_report`."""
        row = self._fetch_one(statements.GET_REPORT, run)
        return _REPORT.decode(row[0]) if row and row[0] else None
