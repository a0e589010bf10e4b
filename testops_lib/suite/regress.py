"""Random cases that found a fault -> members that stay when the random cases become others."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime

from testops_lib.model import Case, Finding
from testops_lib.suite.evolve import Evolved, member_id
from testops_lib.suite.member import REGRESSION, Member

SOURCE = "property"


def regression_key(finding: Finding) -> str:
    """One for each finding, however often it is found."""
    return f"{REGRESSION}{finding.check} {finding.fingerprint}"


def regressions(
    findings: Iterable[Finding], cases: Mapping[str, Case], known: Collection[str], *, suite: str, at: datetime
) -> Evolved:
    """A member for each finding that a random case shows and a person must look at, unless it has one.

    Args:
        findings: of one run.
        cases: their examples, by id; those of other sources change nothing.
        known: keys of the suite's members of the source.
    """
    members: list[Member] = []
    for finding in findings:
        case, key = cases.get(finding.example.case), regression_key(finding)
        if finding.advisory or finding.state == "fixed" or case is None or case.origin.source != SOURCE:
            continue
        if key not in known:
            members.append(
                Member(
                    id=member_id(suite, case.operation, SOURCE, key),
                    suite=suite,
                    operation=case.operation,
                    source=SOURCE,
                    key=key,
                    position=len(known) + len(members),
                    generated=case.id,
                    current=case.id,
                    status="active",
                    why=f"it found: {finding.message}"[:2000],
                    changed=at,
                )
            )
    return Evolved(members=tuple(members))
