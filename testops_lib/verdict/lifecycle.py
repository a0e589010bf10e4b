"""A finding from run to run: when it was first seen, whether it is muted, and when it counts as fixed."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import msgspec
from msgspec import Struct

from testops_lib.model import Finding, FindingState, OperationReport


class Lifecycle(Struct, frozen=True, kw_only=True):
    """What earlier runs and people know of findings, by fingerprint."""

    run: str
    """The run at hand."""
    first_seen: Mapping[str, str] = {}
    """Fingerprint -> run in which it was first seen."""
    muted: Collection[str] = ()

    def first_seen_run(self, fingerprint: str) -> str:
        return self.first_seen.get(fingerprint, self.run)

    def state(self, fingerprint: str) -> FindingState:
        """Of a finding that this run shows."""
        if fingerprint in self.muted:
            return "muted"
        return "new" if self.first_seen_run(fingerprint) == self.run else "known"


def fixed(
    previous: Collection[Finding], shown: Collection[str], operations: Mapping[str, OperationReport]
) -> list[Finding]:
    """Open findings of the run before that this run had every chance to show again, and did not.

    One of many operations is fixed when all of them that are still in scope have answered and were judged.

    Args:
        shown: fingerprints that this run shows.
    """
    gone = []
    for finding in previous:
        in_scope = [operations[key] for key in finding.operations or (finding.operation,) if key in operations]
        if finding.state not in ("new", "known") or finding.fingerprint in shown or not in_scope:
            continue
        if all(map(_judged, in_scope)):
            gone.append(msgspec.structs.replace(finding, state="fixed", count=0))
    return gone


def _judged(report: OperationReport) -> bool:
    """Whether the operation answered, and a case about it was executed to a verdict."""
    answered = any(status != "none" for status in report.statuses)
    return answered and report.results.get("passed", 0) + report.results.get("failed", 0) > 0
