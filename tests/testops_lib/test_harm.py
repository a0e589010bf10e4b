"""The system under test is not harmed: things of others stay as they are, what a run makes goes again, and nobody is
locked out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pytest

from testops_lib import spec as specs
from testops_lib.execute import Engine, run
from testops_lib.execute.created import values
from testops_lib.generate.rules.own_account import account_change
from testops_lib.generate.sources import GenerationRequest, make_all
from testops_lib.model import (
    Capture,
    Case,
    Creation,
    Identity,
    Invented,
    JsonBody,
    Login,
    Policy,
    Provenance,
    Report,
    Request,
    Result,
    Step,
    TokenUse,
    make_case,
)
from testops_lib.report.html import render_html
from testops_lib.report.terminal import terminal_text
from testops_lib.run.report import build_report
from testops_lib.run.scope import arrange, documented, in_scope, make_contracts, make_plan, not_tested
from testops_lib.settings import Settings
from testops_lib.spec.operation import Operation
from testops_lib.target import Generate, PropertyBased, Target
from testops_lib.unused_ids import UUID, is_unused
from tests import office_server

CLERK = Identity(name="clerk", headers=(("Authorization", f"Bearer {office_server.TOKEN}"),))


def run_of(
    url: str,
    *,
    sources: Sequence[str] = ("rules",),
    more: Iterable[Case] = (),
    identities: Sequence[Identity] = (CLERK,),
    most: int = 0,
    values: Any = None,
    **policy: Any,
) -> tuple[Report, list[Result]]:
    """A whole run of what the sources make, and further cases."""
    policy.setdefault("allow_private", True)
    target = Target(
        name="office",
        spec=f"{url}/openapi.json",
        base_url=url,
        identities=tuple(identities),
        policy=Policy(**policy),
        generate=Generate(sources=tuple(sources), property=PropertyBased(examples=4)),
        values=values or {},
    )
    spec = specs.load(target.spec, allow_private=True)
    operations = in_scope(spec, target)
    made = make_all(GenerationRequest(spec=spec, operations=operations, target=target, settings=Settings()))
    cases = arrange((case for source in made for case in source.cases), spec, target)
    results: list[Result] = []
    engine = Engine(make_plan(spec, target), make_contracts(spec, target), run="r", max_requests=most)
    more = tuple(more)
    run(engine, [*cases, *more], results.append)
    report = build_report(
        results,
        target,
        run="r",
        operations=documented(operations),
        not_tested=not_tested(spec, target),
    )
    place = {case.id: index for index, case in enumerate((*cases, *more))}
    return report, sorted(results, key=lambda result: place[result.case])


def step(operation: str, path: str = "", body: Any = None, *captures: Capture, **more: Any) -> Step:
    method, _, template = operation.partition(" ")
    request = Request(method=method, path=path or template, body=JsonBody(value=body) if body is not None else None)
    return Step(operation=operation, request=request, captures=captures, **more)


def hostile(*steps: Step, cleanup: Sequence[Step] = (), last: bool = False) -> Case:
    return make_case(
        name="hostile",
        intent="positive",
        operation=steps[0].operation,
        steps=steps,
        cleanup=tuple(cleanup),
        origin=Provenance(source="gemini"),
        last=last,
    )


_FIRST = Capture(name="found", path="$[0].id")
_MADE = Capture(name="made", path="$.id")
_NAME = {"name": "mine {unique}"}
_READ_ALL = step("GET /clients", "", None, _FIRST)
_MAKE = step("POST /clients", "", _NAME, _MADE)
HOSTILE = {
    "a literal id": hostile(step("DELETE /clients/{client_id}", "/clients/1")),
    "an id of a list": hostile(_READ_ALL, step("PUT /clients/{client_id}", "/clients/{found}", _NAME)),
    "in the cleanup": hostile(_READ_ALL, cleanup=[step("DELETE /clients/{client_id}", "/clients/{found}")]),
    "an own id in another collection": hostile(
        step("POST /rooms", "", _NAME, _MADE),
        # rooms are numbered from 6 on, as clients are: one that is there
        step("DELETE /archive/rooms/{room_id}", "/archive/rooms/1"),
        step("DELETE /clients/{client_id}", "/clients/{made}"),
    ),
    "a status as an id": hostile(
        step("GET /clients", "", None, Capture(name="one", path="$[0].id", optional=True)),
        step("PATCH /rooms/{room_id}", "/rooms/{one}", _NAME),
    ),
    "a number before the token": hostile(step("DELETE /rooms/{room_id}", "/rooms/4{unique}")),
    "a number before other text": hostile(step("DELETE /rooms/{room_id}", "/rooms/4%3B{unique}")),
    "a path within the path": hostile(step("DELETE /rooms/{room_id}", "/rooms/{unique}%2F..%2F4")),
    "dots": hostile(step("DELETE /rooms/{room_id}", "/rooms/x/../4")),
    "an action": hostile(step("POST /clients/{client_id}/deactivate", "/clients/2/deactivate")),
    "a list in the body": hostile(step("POST /tags/remove", "", {"ids": [1, 2, 3]})),
    "an id in the body": hostile(step("PUT /tags", "", {"id": 2, "name": "x"})),
    "everything": hostile(step("DELETE /tags")),
    "below an own thing": hostile(
        _MAKE, step("DELETE /clients/{client_id}/notes/{note_id}", "/clients/{made}/notes/1")
    ),
    "an own thing below a foreign one": hostile(step("POST /clients/{client_id}/notes", "/clients/3/notes", _NAME)),
    "a name": hostile(step("DELETE /tags/{tag}", "/tags/work")),
    "the password": hostile(step("POST /current/user/password", "", {"password": "x"})),
    "the password at the end": hostile(step("POST /current/user/password", "", {"password": "x"}), last=True),
    "the token": hostile(step("DELETE /current/user/token")),
    "the account": hostile(step("PUT /current/user", "", {"name": "x"})),
    "a password in other words": hostile(step("POST /change-secret-word", "", {"new_password": "x"})),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_case_changes_nothing_that_it_did_not_make(name: str) -> None:
    with office_server.serving() as (url, office):
        report, (result,) = run_of(url, sources=(), more=[HOSTILE[name]])
    assert office.harm() == []
    assert result.withheld
    assert report.totals.withheld == result.withheld


def test_a_whole_run_leaves_everything_as_it_was() -> None:
    with office_server.serving() as (url, office):
        report, _ = run_of(url, sources=("rules", "property"), more=HOSTILE.values())
    assert office.harm() == []
    assert office.writes  # it did change and delete things
    reached = {key for key, one in report.operations.items() if one.success_seen}
    assert {f"{method} /clients/{{client_id}}" for method in ("GET", "PUT", "PATCH", "DELETE")} <= reached
    assert {"POST /clients/{client_id}/deactivate", "DELETE /clients/{client_id}/notes/{note_id}"} <= reached


def test_what_a_run_makes_is_deleted_and_what_stays_is_counted_by_operation() -> None:
    unclean = [hostile(_MAKE), hostile(step("POST /invoices", "", _NAME))]
    with office_server.serving() as (url, office):
        report, _ = run_of(url, more=unclean)
    assert office.harm() == []
    assert report.totals.left_behind == office.left() == 0
    with office_server.serving(undeletable=True) as (url, office):
        report, _ = run_of(url, sources=(), more=unclean)
    assert [(left.operation, left.why) for left in report.left_behind] == [("POST /invoices", "no DELETE documented")]
    assert report.left_behind[0].count == report.totals.left_behind == office.left() > 0
    assert f"left behind: {office.left()} by POST /invoices (no DELETE documented)" in terminal_text(report)
    assert f"left behind: {office.left()} by POST /invoices (no DELETE documented)" in render_html(report)


def test_an_invalid_thing_that_was_accepted_is_deleted_as_well() -> None:
    with office_server.serving() as (url, office):
        _, results = run_of(url, sources=(), more=[hostile(step("POST /rooms", "", {"name": "n" * 61, "more": {}}))])
    assert office.left() == 0
    assert results[-1].steps[-1].operation == "DELETE /rooms/{room_id}"


def test_what_was_made_is_deleted_where_only_the_answer_tells_its_id() -> None:
    with office_server.serving(silent=True) as (url, office):
        report, _ = run_of(url, sources=(), more=[hostile(step("POST /rooms", "", _NAME))])
    assert (office.left(), report.left_behind) == (0, ())
    assert any(write.startswith("DELETE /rooms/6") for write in office.writes)


@pytest.mark.parametrize(
    ("foreign", "harmed", "read"), [("never", False, False), ("read", False, True), ("write", True, True)]
)
def test_the_policy_says_what_may_be_done_to_what_others_made(foreign: str, harmed: bool, read: bool) -> None:
    look = hostile(_READ_ALL, step("GET /clients/{client_id}", "/clients/{found}"))
    change = hostile(step("DELETE /clients/{client_id}", "/clients/1"))
    with office_server.serving() as (url, office):
        _, (looked, changed) = run_of(url, sources=(), more=[look, change], foreign=foreign)
    assert (office.harm() != []) is harmed
    assert (looked.withheld == 0) is read
    assert (changed.withheld == 0) is harmed


def test_things_may_be_made_below_what_the_target_file_states_and_it_stays_itself() -> None:
    below = hostile(step("POST /clients/{client_id}/notes", "/clients/3/notes", _NAME))
    itself = hostile(step("DELETE /clients/{client_id}", "/clients/3"))
    with office_server.serving() as (url, office):
        _, (made, deleted) = run_of(url, sources=(), more=[below, itself], values={"client_id": [3]})
    assert (made.withheld, deleted.withheld, office.harm()) == (0, 1, [])


def test_operations_that_lock_the_caller_out_are_named_as_not_tested() -> None:
    with office_server.serving() as (url, office):
        report, _ = run_of(url)
    assert office.harm() == []
    not_tested = {key for key, one in report.operations.items() if "who" in one.not_tested}
    assert not_tested == {
        "PUT /current/user",
        "POST /current/user/password",
        "DELETE /current/user/token",
        "POST /change-secret-word",
    }


def test_credentials_that_stop_working_are_noticed_with_the_request_after_which() -> None:
    with office_server.serving(trap=True) as (url, office):
        report, results = run_of(url, concurrency=4)
    locked = [result for result in results if result.reason.startswith("locked out")]
    assert {result.verdict for result in locked} == {"errored"}
    (reason,) = {result.reason for result in locked}
    assert reason.startswith("locked out: the credentials of clerk worked and stopped working, after ")
    assert "POST /badges answered 201" in reason
    assert report.errors[reason] >= len(locked) > 100
    assert sum(result.requests for result in locked) < 20
    security = sum(1 for result in results if result.intent == "security")
    assert office.refused - security < 20  # those without credentials go on
    assert not [finding for finding in report.findings if "401" in finding.message]
    assert report.gate is not None and not report.gate.passed
    assert not any("credentials given" in reason for reason in (*report.errors, *report.gate.reasons))


def test_one_request_at_a_time_names_the_request_that_locked_the_run_out() -> None:
    cases = [hostile(_READ_ALL), hostile(_MAKE), hostile(step("POST /badges", "", _NAME)), hostile(_READ_ALL, _MAKE)]
    with office_server.serving(trap=True) as (url, _):
        _, results = run_of(url, sources=(), more=cases, concurrency=1)
    reason = "locked out: the credentials of clerk worked and stopped working, after POST /badges answered 201"
    assert [result.reason for result in results] == ["", "", "", reason]
    assert results[-1].verdict == "errored"


def test_an_operation_that_answers_401_by_itself_stops_nothing() -> None:
    with office_server.serving() as (url, _):
        picky = hostile(step("GET /rooms/{room_id}", "/rooms/401"))
        report, results = run_of(url, more=[picky])
    assert not [result for result in results if result.reason.startswith("locked out")]
    assert report.operations["GET /clients"].success_seen


def test_what_changes_the_caller_s_account_runs_last_as_a_user_made_for_it() -> None:
    payload = '{"name": "NAME", "password": "PASSWORD"}'
    newcomer = Identity(
        name="newcomer",
        login=Login(
            url="/login",
            payload=payload,
            token=TokenUse(
                extract_from="body",
                selector="/token",
                send_in="header",
                send_name="Authorization",
                send_template="Bearer {token}",
            ),
        ),
        create=Creation(
            url="/signup",
            payload=payload,
            invented=(
                Invented(place_holder="NAME"),
                Invented(place_holder="PASSWORD"),
            ),
        ),
    )
    with office_server.serving() as (url, office):
        report, results = run_of(url, identities=(CLERK, newcomer))
    assert office.harm() == []
    reached = {key for key, one in report.operations.items() if one.success_seen}
    own = {"PUT /current/user", "POST /current/user/password", "DELETE /current/user/token", "POST /change-secret-word"}
    assert own <= reached
    assert len(office.lost) >= len(own)  # each as somebody else
    assert not [result for result in results if result.reason.startswith("locked out")]


CHANGES = [
    ("POST", "/current/user/password", ("password",), "account"),
    ("POST", "/user/change-password", ("old", "new"), "account"),
    ("PUT", "/users/me", (), "account"),
    ("PATCH", "/api/v1/profile", (), "account"),
    ("POST", "/settings", ("new_password",), "account"),
    ("DELETE", "/my/mfa", (), "account"),
    ("POST", "/2fa/disable", (), "account"),
    ("POST", "/api-token/regenerate", (), "account"),
    ("POST", "/tokens/revoke", (), "account"),
    ("POST", "/account/deactivate", (), "account"),
    ("PUT", "/self/email", ("email",), "account"),
    ("DELETE", "/session", (), "session"),
    ("POST", "/auth/logout", (), "session"),
    ("GET", "/current/user", (), ""),
    ("POST", "/me/orders", ("item",), ""),
    ("POST", "/users", ("username", "password"), ""),
    ("POST", "/login", ("email", "password"), ""),
    ("POST", "/session", ("user", "password"), ""),
    ("PUT", "/users/{id}", ("password",), ""),
    ("POST", "/users/{id}/password", ("password",), ""),
    ("POST", "/forgot-password", ("email",), ""),
    ("GET", "/profile", (), ""),
    ("POST", "/my/tokens", ("name",), ""),
    ("PUT", "/maintenance", (), ""),
    ("POST", "/wifi", ("ssid", "password"), ""),
    ("POST", "/profiles", ("name",), ""),
]


@pytest.mark.parametrize(("method", "path", "required", "change"), CHANGES)
def test_what_changes_the_caller_s_account_is_recognised(
    method: str, path: str, required: tuple[str, ...], change: str
) -> None:
    operation = Operation(key=f"{method} {path}", method=method, path=path)
    assert account_change(operation, required) == change


@pytest.mark.parametrize(
    ("value", "unused"),
    [
        ("ta1b2c3d4e5f6", True),
        ("a1b2c3d4e5f6", True),
        ("room a1b2c3d4e5f6", True),
        ("2000000011", True),
        ("00000000-0000-4000-8000-a1b2c3d4e5f6", True),
        (UUID, True),
        ("ta1b2c3d4e5f6'\"%<b>", True),
        ("1", False),
        ("999999", False),
        ("room", False),
        ("5a1b2c3d4e5f6", False),
        (" 5a1b2c3d4e5f6", False),
        ("-1a1b2c3d4e5f6", False),
        ("ta1b2c3d4e5f6/../1", False),
        ("1;a1b2c3d4e5f6", False),
        ("", False),
        ("a/a1b2c3d4e5f6", False),
        ("0002000000011", False),
        ("2147483648", False),
        ("4294967297", False),
    ],
)
def test_only_ids_that_no_resource_can_have_count_as_unused(value: str, unused: bool) -> None:
    assert is_unused(value, "a1b2c3d4e5f6") is unused


@pytest.mark.parametrize(
    ("template", "path", "found"),
    [
        ("/things/{id}", "/things/7", {"id": "7"}),
        ("/thi\u00f1gs/{id}", "/thi%C3%B1gs/a%20b", {"id": "a b"}),
        ("/things?kind=a", "/things", {}),
        ("/my things", "/my%20things", {}),
        ("/{a}-{b}", "/1-2", {"a": "1", "b": "2"}),
        ("/files/{path}", "/files/a/b", {"path": "a/b"}),
        ("/things/{id}/parts", "/things/7/8/parts", None),
        ("/things/{id}", "/others/7", None),
        ("/things", "/things/", None),
    ],
)
def test_ids_are_read_from_a_path_as_it_is_sent(template: str, path: str, found: dict[str, str] | None) -> None:
    assert values(template, path) == found


def test_an_id_in_the_body_is_that_of_a_thing_which_the_case_made() -> None:
    with office_server.serving(in_body=True) as (url, office):
        report, results = run_of(url)
    assert office.harm() == []
    assert report.operations["PUT /tags"].success_seen
    assert report.operations["POST /tags/remove"].success_seen
    assert sum(result.withheld for result in results) < 12  # the edges of ids alone
