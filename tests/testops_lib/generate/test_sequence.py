"""The order of cases: every prefix is the best use of that many requests."""

from __future__ import annotations

from testops_lib.generate import Generated
from testops_lib.generate.sequence import order
from testops_lib.model import (
    Basis,
    Case,
    Intent,
    MethodAgreement,
    PositiveDataAcceptance,
    Provenance,
    Request,
    Step,
    make_case,
)
from testops_lib.spec import Spec


def test_order_sees_every_operation_before_it_looks_twice(shop: Spec, made: Generated) -> None:
    cases = order(made.cases, shop)
    assert sorted(case.id for case in cases) == sorted(case.id for case in made.cases)
    operations = {case.operation for case in made.cases if not case.last}
    lead = [case for case in cases if case.intent == "positive"][: len(operations)]
    assert {case.operation for case in lead} == operations
    requests = [len(case.steps) + len(case.cleanup) for case in lead]
    assert requests == sorted(requests)
    among = cases[: cases.index(lead[-1])]
    others = [case for case in among if case.intent != "positive"]
    assert {(len(case.steps), len(case.cleanup)) for case in others} == {(1, 0)}
    broken = [case for case in others if "alone" not in case.tags]
    standalone = [case for case in others if "alone" in case.tags]
    for cases_of_a_sort in (broken, standalone):
        named = {case.operation for case in cases_of_a_sort}
        assert len(named) == len(cases_of_a_sort) > len(operations) / 4, "one for an operation"
    assert [case.last for case in cases] == sorted(case.last for case in cases)


def test_order_looks_again_at_once_where_the_first_look_may_be_refused(shop: Spec, made: Generated) -> None:
    sure, unsure = (PositiveDataAcceptance(basis=basis) for basis in ("spec", "guess"))

    def valid(operation: str, path: str, check: PositiveDataAcceptance) -> Case:
        step = Step(operation=operation, request=Request(method="GET", path=path), checks=(check,))
        return make_case(
            name=path, intent="positive", operation=operation, steps=(step,), origin=Provenance(source="rules")
        )

    first, second = shop.operations[0].key, shop.operations[1].key
    cases = [valid(first, "/a1", sure), valid(first, "/a2", sure)]
    cases += [valid(second, f"/b{n}", unsure) for n in range(1, 6)]
    names = [case.name for case in order(cases, shop)]
    assert names[:4] == ["/a1", "/b1", "/b2", "/b3"]


def test_order_has_what_can_only_be_advisory_after_what_can_count(shop: Spec) -> None:
    key = shop.operations[0].key

    def about(path: str, intent: Intent, basis: Basis) -> Case:
        check = MethodAgreement(status="200", basis=basis)
        step = Step(operation=key, request=Request(method="GET", path=path), checks=(check,))
        return make_case(name=path, intent=intent, operation=key, steps=(step,), origin=Provenance(source="rules"))

    cases = [about("/first", "positive", "spec"), about("/guess", "stateful", "guess")]
    cases += [
        about("/firm", "stateful", "spec"),
        about("/valid", "positive", "guess"),
        about("/edge", "boundary", "spec"),
    ]
    assert [case.name for case in order(cases, shop)] == ["/first", "/valid", "/firm", "/edge", "/guess"]


def test_order_breaks_each_rule_once_before_one_twice(shop: Spec, made: Generated) -> None:
    about = [
        case for case in order(made.cases, shop) if case.operation == "POST /products" and case.intent == "negative"
    ]
    rules = [case.tags[1] for case in about]
    seen = [(rules[:index].count(rule), rule) for index, rule in enumerate(rules)]
    turns = [count for count, rule in seen if rule not in ("required", "type")]  # these come two at a time
    assert turns == sorted(turns) and turns[-1] > 0


def test_what_ends_the_service_comes_after_what_ends_the_session_and_the_account(shop: Spec) -> None:
    paths = ("/shutdown", "/sessions/current", "/accounts", "/buckets")
    cases = []
    for path in paths:
        step = Step(operation=f"DELETE {path}", request=Request(method="DELETE", path=path))
        told = {"operation": step.operation, "steps": (step,), "origin": Provenance(source="rules"), "last": True}
        cases += [make_case(name=f"{path} 1", intent="positive", **told)]
        cases += [make_case(name=f"{path} 2", intent="security", **told)]
    ordered = [case.name.split()[0] for case in order(cases, shop)]
    assert ordered == [path for path in reversed(paths) for _ in range(2)]
