"""Questions that no document answers, on an API that keeps its document and breaks the rest where it is told to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from testops_lib import spec as specs
from testops_lib.execute import Engine, run
from testops_lib.generate import rules
from testops_lib.generate.sources import GenerationRequest, make_all
from testops_lib.model import Identity, Policy, Report, Result
from testops_lib.run.report import build_report
from testops_lib.run.scope import arrange, documented, in_scope, make_contracts, make_plan
from testops_lib.settings import Settings
from testops_lib.target import Generate, Target
from tests import oracle_server

USERS = tuple(Identity(name=name, headers=(("Authorization", f"Bearer {name}-token"),)) for name in ("ann", "bob"))


def report(url: str, users: Any = "unknown", identities: Sequence[Identity] = USERS) -> Report:
    target = Target(
        name="notes",
        spec=f"{url}/openapi.json",
        base_url=url,
        identities=tuple(identities),
        policy=Policy(allow_private=True),
        generate=Generate(users=users),
    )
    spec = specs.load(target.spec)
    operations = in_scope(spec, target)
    made = make_all(GenerationRequest(spec=spec, operations=operations, target=target, settings=Settings()))
    results: list[Result] = []
    engine = Engine(make_plan(spec, target), make_contracts(spec, target), run="r")
    run(engine, arrange((case for each in made for case in each.cases), spec, target), results.append)
    return build_report(results, target, run="r", operations=documented(operations))


def found(told: Report) -> set[tuple[str, str]]:
    return {(operation, finding.check) for finding in told.findings for operation in finding.operations}


def test_an_api_that_breaks_nothing_has_no_finding() -> None:
    with oracle_server.serving() as url:
        told = report(url, "separate")
    assert found(told) == set()
    assert told.totals.operations_with_2xx == told.totals.operations


WANTED = {
    "idempotency": {("GET /notes/{note_id}", "idempotency")},
    "pages": {("GET /notes", "pagination_consistency")},
    "filter": {("GET /notes", "filter_honoured")},
    "head": {(f"GET {path}", "method_agreement") for path in ("/notes", "/notes/{note_id}", "/greeting")},
    "allow": {(f"GET {path}", "method_agreement") for path in ("/notes", "/notes/{note_id}")},
    "reflection": {("GET /greeting", "no_reflection")},
}


@pytest.mark.parametrize("fault", WANTED)
def test_each_fault_is_found_and_nothing_else_is(fault: str) -> None:
    with oracle_server.serving(fault) as url:
        told = report(url)
    assert found(told) == WANTED[fault]
    assert all(finding.advisory for finding in told.findings), "no document promises it"
    assert told.gate is not None and told.gate.passed


def test_another_users_things_are_a_finding_when_the_target_says_that_they_are_hidden() -> None:
    with oracle_server.serving("bola") as url:
        separate, unknown, shared = report(url, "separate"), report(url, "unknown"), report(url, "shared")
        alone = report(url, "separate", USERS[:1])
    reached = {(f"{method} /notes/{{note_id}}", "object_level_authorization") for method in ("GET", "DELETE")}
    assert found(separate) == reached
    assert not any(finding.advisory for finding in separate.findings)
    assert {finding.wfc_code for finding in separate.findings} == {206}
    assert found(unknown) == {("GET /notes/{note_id}", "object_level_authorization")}, "nothing is changed on suspicion"
    assert all(finding.advisory for finding in unknown.findings)
    assert found(shared) == found(alone) == set()


def test_no_probe_deletes_and_none_changes_what_a_query_means() -> None:
    with oracle_server.serving() as url:
        spec = specs.load(f"{url}/openapi.json")
    probes = [case for case in rules.generate(spec, policy=Policy()).cases if "injection" in case.tags]
    assert {case.operation for case in probes} == {"POST /notes", "GET /greeting"}
    for case in probes:
        assert case.steps[-1].request.method != "DELETE"
        assert " or " not in repr(case.steps[-1].request).lower() and "--" not in repr(case.steps[-1].request)
