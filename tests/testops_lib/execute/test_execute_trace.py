"""Headers by which a target's logs tell the runs and cases of its requests."""

from __future__ import annotations

import msgspec
import pytest

from testops_lib.model import Identity, Login, Policy, TokenUse, Trace
from tests.testops_lib.execute.engine_server import Serve, answer, case, plan, run_one, step

TOKEN = TokenUse(extract_from="body", selector="/token", send_in="header", send_name="X-Token")
USER = Identity(name="u", login=Login(url="/login", payload="{}", token=TOKEN))


def test_requests_say_which_run_and_case_they_belong_to_if_the_policy_asks(serve: Serve) -> None:
    server = serve(lambda c, s: answer(body='{"token": "t"}'))
    the_case = case(step("GET", "/a"), step("POST", "/b"), cleanup=(step("DELETE", "/a"),))
    result = run_one(plan(server.url, trace=True, identities=(USER,)), the_case, run="nightly 2026-03-14\r\nX: é")
    assert result.verdict == "passed"
    assert server.targets() == ["POST /login", "GET /a", "POST /b", "DELETE /a"]
    assert {seen.header("X-TestOps-Case") for seen in server.seen} == {the_case.id}
    assert {seen.header("X-TestOps-Run") for seen in server.seen} == {"nightly 2026-03-14%0D%0AX: %C3%A9"}


def test_without_the_policy_nothing_is_said(serve: Serve) -> None:
    server = serve()
    run_one(plan(server.url), case(step()))
    assert not [line for line in server.seen[0].header_lines if "testops-" in line.lower().partition(":")[0]]


def test_names_are_the_targets_choice_and_a_cases_own_header_stays(serve: Serve) -> None:
    server = serve()
    policy = {"trace": Trace(run="Traceparent-Run", case="")}
    run_one(plan(server.url, **policy), case(step("GET", "/"), step("GET", "/", headers=(("traceparent-run", "own"),))))
    assert [seen.header("Traceparent-Run") for seen in server.seen] == ["r1", "own"]
    assert server.seen[0].header("X-TestOps-Case") is None


def test_the_headers_go_to_the_target_alone_and_into_no_evidence(serve: Serve) -> None:
    other = serve()
    server = serve(lambda c, s: answer(302, "", f"Location: {other.url}/there"))
    result = run_one(
        plan(server.url, trace=True, follow_redirects=1, hosts=(f"127.0.0.1:{other.port}",)),
        case(step("GET", "/go", expect=404)),
    )
    assert server.seen[0].header("X-TestOps-Run") == "r1" and other.seen[0].header("X-TestOps-Run") is None
    request = result.steps[0].request
    assert request is not None and not [name for name, _ in request.headers if name.startswith("X-TestOps")]


@pytest.mark.parametrize("name", ["Host", "content-length", "Authorization", "COOKIE", "a b", "x\r\n", "Content-Type"])
def test_headers_that_mean_something_cannot_be_named(name: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"trace": {"run": name}}, Policy)
    assert msgspec.convert({"trace": {"case": "X-Case"}}, Policy).trace == Trace(case="X-Case")
    assert msgspec.convert({"trace": True}, Policy).trace is True
