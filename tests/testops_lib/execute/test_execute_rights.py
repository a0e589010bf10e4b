"""Cases of somebody who may not make things: what exists already is taken, and nothing that exists is changed."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator

import pytest
from msgspec import structs

from testops_lib.execute import Engine
from testops_lib.execute.rights import Rights, around, in_words
from testops_lib.model import (
    AnyCheck,
    Capture,
    Case,
    Contract,
    EnsureResourceAvailability,
    Existing,
    JsonBody,
    JsonPathIs,
    NotAServerError,
    PositiveDataAcceptance,
    Request,
    Step,
)
from tests.testops_lib.execute.engine_server import Handler, Seen, Serve, answer, case, execute, plan

LIST = Existing(
    operation="GET /shelves", beside=True, places={"$.id": "$[0].id"}, request=Request(method="GET", path="/shelves")
)
STATED = Existing(values={"$.id": 7})
MAKE = Step(
    operation="POST /shelves",
    request=Request(method="POST", path="/shelves"),
    setup=True,
    captures=(Capture(name="shelf_id", path="$.id"),),
)


def about(method: str, path: str, *checks: AnyCheck, body: object = None, setup: bool = False) -> Step:
    sent = JsonBody(value=body) if body is not None else None
    return Step(
        operation=f"{method} {path}",
        request=Request(method=method, path=path, body=sent),
        setup=setup,
        checks=checks or (NotAServerError(),),
    )


READ = about("GET", "/shelves/{shelf_id}", NotAServerError(), EnsureResourceAvailability())


def refuse(*operations: str) -> Callable[[Step], str]:
    return lambda step: "no right" if step.setup and step.operation in operations else ""


def ways(*given: Existing) -> Callable[[Step], Iterator[Existing]]:
    return lambda step: iter(given)


# --------------------------------------------------------------------------- the decision


def test_what_exists_stands_for_what_may_not_be_made() -> None:
    detour = around((MAKE, READ), refuse("POST /shelves"), ways(LIST, STATED), may_write=False)
    assert [step.operation for step in detour.steps] == ["GET /shelves", READ.operation]
    assert detour.steps[0].captures == (Capture(name="shelf_id", path="$[0].id"),)
    assert detour.foreign == {"shelf_id"}


def test_without_a_list_the_stated_value_is_taken() -> None:
    detour = around((MAKE, READ), refuse("POST /shelves"), ways(STATED), may_write=False)
    assert [step.operation for step in detour.steps] == [READ.operation]
    assert detour.captured == {"shelf_id": 7} and detour.foreign == {"shelf_id"}


def test_checks_of_what_the_case_has_made_do_not_hold_for_what_exists() -> None:
    kept = about(
        "GET",
        "/shelves/{shelf_id}",
        NotAServerError(),
        EnsureResourceAvailability(),
        JsonPathIs(path="$.name", op="equals", value="a"),
        PositiveDataAcceptance(),
    )
    listed = around((MAKE, kept), refuse("POST /shelves"), ways(LIST), may_write=False)
    assert [type(check) for check in listed.steps[-1].checks] == [NotAServerError, PositiveDataAcceptance]
    stated = around((MAKE, kept), refuse("POST /shelves"), ways(STATED), may_write=False)
    assert [type(check) for check in stated.steps[-1].checks] == [NotAServerError]


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "POST"])
def test_what_exists_is_not_changed_unless_the_policy_lets_it(method: str) -> None:
    change = about(method, "/shelves/{shelf_id}")
    steps = (MAKE, change)
    assert around(steps, refuse("POST /shelves"), ways(LIST), may_write=False).why == "no right"
    assert not around(steps, refuse("POST /shelves"), ways(LIST), may_write=True).why


def test_a_new_thing_may_point_at_what_exists() -> None:
    order = about("POST", "/orders", PositiveDataAcceptance(), body={"shelf": "{shelf_id}"})
    detour = around((MAKE, order), refuse("POST /shelves"), ways(LIST), may_write=False)
    assert [step.operation for step in detour.steps] == ["GET /shelves", "POST /orders"]
    assert detour.steps[-1].checks == (PositiveDataAcceptance(),)


def test_what_only_prepared_a_refused_step_is_left_out() -> None:
    room = Step(
        operation="POST /rooms",
        request=Request(method="POST", path="/rooms"),
        setup=True,
        captures=(Capture(name="room_id", path="$.id"),),
    )
    inside = structs.replace(MAKE, request=Request(method="POST", path="/shelves", body=JsonBody(value="{room_id}")))
    detour = around((room, inside, READ), refuse("POST /shelves"), ways(LIST), may_write=False)
    assert [step.operation for step in detour.steps] == ["GET /shelves", READ.operation]


def test_a_preparation_that_would_change_what_exists_is_gone_around_as_well() -> None:
    below = Step(
        operation="POST /shelves/{shelf_id}/books",
        request=Request(method="POST", path="/shelves/{shelf_id}/books"),
        setup=True,
        captures=(Capture(name="book_id", path="$.id"),),
    )
    read = about("GET", "/shelves/{shelf_id}/books/{book_id}")
    detour = around((MAKE, below, read), refuse("POST /shelves"), ways(LIST), may_write=False)
    assert [step.request.method for step in detour.steps] == ["GET", "GET", "GET"]
    books = detour.steps[1]
    assert books.captures == (Capture(name="book_id", path="$[0].id"),)


def test_a_needed_step_that_gives_nothing_to_name_cannot_be_replaced() -> None:
    remove = about("DELETE", "/shelves/1", setup=True)
    assert around((remove, READ), refuse("DELETE /shelves/1"), ways(LIST), may_write=True).why == "no right"


@pytest.mark.parametrize("status", [401, 403, 404, 405, 501])
def test_two_refusals_without_a_success_are_enough(status: int) -> None:
    rights = Rights({}, "read")
    rights.note("POST /shelves", status)
    assert not rights.refused(MAKE)
    rights.note("POST /shelves", status)
    assert rights.refused(MAKE)
    rights.note("POST /shelves", 201)
    assert not rights.refused(MAKE)


@pytest.mark.parametrize("status", [400, 409, 422, 500])
def test_answers_about_the_data_refuse_nothing(status: int) -> None:
    rights = Rights({}, "read")
    for _ in range(9):
        rights.note("POST /shelves", status)
    assert not rights.refused(MAKE)


def test_where_nothing_of_others_may_be_read_nothing_stands_for_a_refused_step() -> None:
    rights = Rights({"POST /shelves": Contract(operation="POST /shelves", responses={}, existing=(LIST,))}, "never")
    assert rights.around((MAKE, READ), refuse("POST /shelves")).why


def test_the_reason_says_what_is_not_allowed() -> None:
    assert in_words("POST /v1/shelves", 403) == "no right to create shelves (POST /v1/shelves answered 403)"
    assert in_words("DELETE /shelves/{id}", 405) == "refused: DELETE /shelves/{id} answered 405"


# --------------------------------------------------------------------------- the engine


def reading(number: int) -> Case:
    read = structs.replace(READ, request=Request(method="GET", path="/shelves/{shelf_id}", query=(("n", str(number)),)))
    return case(MAKE, read, cleanup=(about("DELETE", "/shelves/{shelf_id}"),))


def of_a_plain_user(listed: object) -> Handler:
    def handle(connection: socket.socket, seen: Seen) -> bytes:
        if seen.method == "POST":
            return answer(403)
        return answer(200, json.dumps(listed)) if seen.target == "/shelves" else answer(200, '{"id": 3}')

    return handle


CONTRACTS = {"POST /shelves": Contract(operation="POST /shelves", responses={}, existing=(LIST, STATED))}


def test_a_refused_operation_is_asked_twice_and_no_case_is_lost(serve: Serve) -> None:
    server = serve(of_a_plain_user([{"id": 3}]))
    results = execute(Engine(plan(server.url, concurrency=1), CONTRACTS, run="r"), [reading(n) for n in range(6)])
    assert [result.verdict for result in results] == ["passed"] * 6
    assert sum(seen.method == "POST" for seen in server.seen) == 2
    assert sum(seen.target.startswith("/shelves/3") for seen in server.seen) == 6
    assert not [seen for seen in server.seen if seen.method == "DELETE"]


def test_where_the_list_is_empty_the_stated_value_is_taken(serve: Serve) -> None:
    server = serve(of_a_plain_user([]))
    results = execute(Engine(plan(server.url, concurrency=1), CONTRACTS, run="r"), [reading(n) for n in range(4)])
    assert [result.verdict for result in results] == ["passed"] * 4
    assert sum(seen.target == "/shelves" and seen.method == "GET" for seen in server.seen) == 1
    assert sum(seen.target.startswith("/shelves/7") for seen in server.seen) == 4


def test_what_cannot_be_run_has_one_reason_and_costs_no_request(serve: Serve) -> None:
    server = serve(of_a_plain_user([]))
    results = execute(Engine(plan(server.url, concurrency=1), {}, run="r"), [reading(n) for n in range(5)])
    assert [result.verdict for result in results] == ["skipped"] * 5
    assert len(server.seen) == 2
    assert {result.reason for result in results[2:]} == {"no right to create shelves (POST /shelves answered 403)"}


def test_a_way_around_keeps_to_the_budget(serve: Serve) -> None:
    server = serve(of_a_plain_user([{"id": 3}]))
    engine = Engine(plan(server.url, concurrency=1), CONTRACTS, run="r", max_requests=5)
    results = execute(engine, [reading(n) for n in range(4)])
    assert len(server.seen) == sum(result.requests for result in results) <= 5


def test_who_may_not_remove_things_tries_it_twice(serve: Serve) -> None:
    def handle(connection: socket.socket, seen: Seen) -> bytes:
        return answer(403) if seen.method == "DELETE" else answer(201, '{"id": 3}')

    server = serve(handle)
    results = execute(Engine(plan(server.url, concurrency=1), {}, run="r"), [reading(n) for n in range(5)])
    assert [result.verdict for result in results] == ["passed"] * 5
    assert sum(seen.method == "DELETE" for seen in server.seen) == 2


def test_what_an_operation_has_taken_prepares_cases_in_place_of_what_it_refuses(serve: Serve) -> None:
    """The minimal request is refused, the one with all members is not."""

    def handle(connection: socket.socket, seen: Seen) -> bytes:
        if seen.method == "POST":
            return answer(201, '{"id": 3}') if b"colour" in seen.body else answer(422, '{"error": "colour?"}')
        return answer(200, '{"id": 3}')

    server = serve(handle)
    full = case(about("POST", "/shelves", body={"name": "{unique}", "colour": "red"}))
    minimal = structs.replace(MAKE, request=Request(method="POST", path="/shelves", body=JsonBody(value={"name": "a"})))
    reads = [Request(method="GET", path="/shelves/{shelf_id}", query=(("n", number),)) for number in "1234"]
    cases = [case(minimal, structs.replace(READ, request=read)) for read in reads]
    results = execute(Engine(plan(server.url, concurrency=1), {}, run="r"), [cases[0], full, *cases[1:]])
    assert [result.verdict for result in results] == ["skipped", *["passed"] * 4]
    assert sum(seen.method == "POST" for seen in server.seen) == 6  # twice refused, then as it was taken


def test_answers_to_the_case_itself_are_not_tried_again_with_other_data(serve: Serve) -> None:
    server = serve(lambda connection, seen: answer(422 if b"bad" in seen.body else 201))
    good, bad = (case(about("POST", "/shelves", body={"name": name})) for name in ("good", "bad"))
    execute(Engine(plan(server.url, concurrency=1), {}, run="r"), [good, bad, bad])
    assert [b"bad" in seen.body for seen in server.seen] == [False, True, True]
