from __future__ import annotations

import os
import subprocess
import sys

import pytest

from testops_lib.generate.llm.answer import schema
from testops_lib.generate.llm.gemini import GeminiSettings, provider
from testops_lib.generate.llm.price import Price
from testops_lib.generate.llm.propose import generate
from testops_lib.generate.llm.provider import ModelLimits
from testops_lib.model import Policy
from tests import llm_server as server
from tests.asking import KEY, Asking, asked, one_resource
from tests.generation_specs import case, pets, step
from tests.llm_server import Received, Reply

RIGHT = case("positive", step("GET /pets", query={"limit": "1"}))


@pytest.fixture
def gemini() -> Asking:
    return Asking("gemini")


def test_what_is_sent_is_the_documented_protocol_with_the_key_in_its_header_alone(gemini: Asking) -> None:
    _, heard = gemini([server.cases()], "GET /pets", thinking_budget=0)
    request = heard.received[0]
    assert request.path == "/v1/models/gemini-2.5-flash:generateContent"
    assert request.headers["x-goog-api-key"] == KEY
    assert request.config["responseMimeType"] == "application/json"
    assert request.config["responseJsonSchema"] == schema(
        ["GET /pets", "POST /pets", "GET /pets/{id}", "DELETE /pets/{id}"], ("bob",), cases=6
    )
    assert KEY not in str(request.body)


@pytest.mark.parametrize(("budget", "sent"), [(None, []), (0, [0]), (512, [512])])
def test_the_thinking_budget_is_sent_when_it_is_set(gemini: Asking, budget: int | None, sent: list[int]) -> None:
    _, heard = gemini([server.cases()], "GET /pets", thinking_budget=budget)
    assert list(heard.received[0].config.get("thinkingConfig", {}).values()) == sent


def test_a_reason_that_the_sdk_does_not_know_yet_costs_no_case(gemini: Asking) -> None:
    with pytest.warns(UserWarning, match="BRAND_NEW"):
        made, _ = gemini([server.cases(RIGHT, finish="BRAND_NEW")], "GET /pets")
    assert len(made.cases) == 1


# --------------------------------------------------------------------------- cached content


def read(request: Received) -> Reply:
    """One good case for each operation, whether or not the rest of the prompt lies in a cache."""
    return server.cases(*(case("positive", step(key, path_params={"id": "7"})) for key in asked(request) if "r" in key))


def test_what_calls_about_a_resource_share_is_cached_once_and_deleted_at_the_end(gemini: Asking) -> None:
    made, heard = gemini(read, spec=one_resource(9), cache_from_tokens=1, concurrency=3)
    assert len(heard.received) >= 3 and len(made.cases) == 9
    created = [request for request in heard.asked_for_caches if request.method == "POST"]
    deleted = [request for request in heard.asked_for_caches if request.method == "DELETE"]
    assert (len(created), len(deleted), heard.caches) == (1, 1, {})
    assert created[0].body["ttl"] == "600s" and "You design test cases" in created[0].system
    assert "NewPet" in created[0].user
    users = [request for request in heard.received if request.body.get("cachedContent")]
    assert len(users) >= 3 and all(request.body["cachedContent"] == "cachedContents/c1" for request in users)
    assert all("systemInstruction" not in request.body and '"NewPet":{' not in request.user for request in users)


def test_a_cache_is_paid_for_and_counted(gemini: Asking) -> None:
    price = Price(input=1, output=10, cached=0.1, storage=6)
    made, heard = gemini(read, spec=one_resource(9), cache_from_tokens=1, price=price, concurrency=1)
    calls = len(heard.received)
    assert made.generation.input_tokens == calls * 1000 + 3000
    stored = 3000 / 6 * 6 / 1e6
    tokens = calls * (600 * 1 + 400 * 0.1 + 230 * 10) + 3000
    assert made.generation.money == pytest.approx(tokens / 1e6 + stored)


def test_a_single_call_or_a_small_prompt_makes_no_cache(gemini: Asking) -> None:
    _, heard = gemini([server.cases()], "GET /pets", cache_from_tokens=1)
    assert heard.asked_for_caches == []
    _, heard = gemini(read, spec=one_resource(9), cache_from_tokens=100_000)
    assert heard.asked_for_caches == [] and all("NewPet" in request.user for request in heard.received[:2])
    _, heard = gemini(read, spec=one_resource(9), cache_from_tokens=0)
    assert heard.asked_for_caches == []


@pytest.mark.parametrize(
    "reply",
    [
        server.error(400, "INVALID_ARGUMENT", "Cached content is too small. min_total_token_count=4096"),
        server.error(403, "PERMISSION_DENIED", "no caches for you"),
        server.error(404, "NOT_FOUND", "no such method"),
        server.error(429, "RESOURCE_EXHAUSTED", "TotalCachedContentStorageTokensPerModelFreeTier limit exceeded"),
        server.error(500, "INTERNAL", "x"),
        Reply(body=b"{}"),
        Reply(body=b"no JSON"),
    ],
)
def test_a_service_that_refuses_caches_is_asked_once_and_does_without(gemini: Asking, reply: Reply) -> None:
    made, heard = gemini(read, spec=one_resource(9), cache_from_tokens=1, cache_reply=reply)
    assert len(made.cases) == 9 and len(heard.asked_for_caches) == 1
    assert all("systemInstruction" in request.body for request in heard.received)


def test_a_cache_that_ends_early_is_done_without(gemini: Asking) -> None:
    def script(request: Received) -> Reply:
        if "cachedContent" in request.body:
            return server.error(403, "PERMISSION_DENIED", "CachedContent not found (or permission denied)")
        return read(request)

    made, heard = gemini(script, spec=one_resource(9), cache_from_tokens=1)
    assert len(made.cases) == 9 and len(heard.received) > 3


def test_a_cap_leaves_room_for_the_cache(gemini: Asking) -> None:
    made, _ = gemini(read, spec=one_resource(9), cache_from_tokens=1, max_tokens=60_000)
    assert 0 < made.generation.input_tokens + made.generation.output_tokens <= 60_000


# --------------------------------------------------------------------------- the rest


def test_importing_the_generator_does_not_import_the_sdk() -> None:
    code = "import sys, testops_lib.generate.llm.gemini; print('google.genai' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.skipif(
    not (os.environ.get("GEMINI_API_KEY") and os.environ.get("TESTOPS_LIVE_GEMINI") == "1"),
    reason="asks the real Gemini: set GEMINI_API_KEY and TESTOPS_LIVE_GEMINI=1",
)
def test_the_real_service_obeys_the_contract() -> None:
    spec = pets()
    made = generate(
        provider(
            GeminiSettings(api_key=os.environ["GEMINI_API_KEY"], limits=ModelLimits(cases_per_operation=2, max_calls=4))
        ),
        spec,
        spec.operations[:4],
        policy=Policy(),
    )
    assert made.cases and made.generation.input_tokens > 0 and made.generation.output_tokens > 0
    assert "answer is no JSON" not in made.generation.dropped
