"""Random cases that found a fault -> members that stay when the random cases become others."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime

from testops_lib.model import Case, Finding
from testops_lib.suite.evolve import Evolved, member_id
from testops_lib.suite.member import REGRESSION, Member

SOURCE = "property"


def regression_slot(finding: Finding) -> str:
    """One for each finding, however often it is found."""
    return f"{REGRESSION}{finding.check} {finding.fingerprint}"


def regressions(
    findings: Iterable[Finding], cases: Mapping[str, Case], known: Collection[str], *, suite: str, at: datetime
) -> Evolved:
    """A member for each finding that a random case shows and a person must look at, unless it has one.

    Args:
        findings: of one run.
        cases: their examples, by id; those of other sources change nothing.
        known: slots of the suite's members of the source.
    """
    members: list[Member] = []
    for finding in findings:
        case, slot = cases.get(finding.example.case), regression_slot(finding)
        if finding.advisory or finding.state == "fixed" or case is None or case.origin.source != SOURCE:
            continue
        if slot not in known:
            members.append(
                Member(
                    id=member_id(suite, case.operation, SOURCE, slot),
                    suite=suite,
                    operation=case.operation,
                    source=SOURCE,
                    slot=slot,
                    position=len(known) + len(members),
                    generated=case.id,
                    current=case.id,
                    status="active",
                    why=f"it found: {finding.message}"[:2000],
                    changed=at,
                )
            )
    return Evolved(members=tuple(members))
