from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import jsonschema_rs
import pytest

from testops_lib.errors import GenerateError
from testops_lib.generate.llm.answer import schema
from testops_lib.generate.llm.openai import OpenAISettings, provider
from testops_lib.generate.llm.propose import generate
from testops_lib.generate.llm.provider import ModelLimits
from testops_lib.model import Policy
from tests import llm_server as server
from tests.asking import KEY, Asking, asked, many
from tests.generation_specs import case, pets, step
from tests.llm_server import Received, Reply

RIGHT = case("positive", step("GET /pets", query={"limit": "1"}))


@pytest.fixture
def openai() -> Asking:
    return Asking("openai")


def test_what_is_sent_is_the_documented_protocol_with_the_key_in_its_header_alone(openai: Asking) -> None:
    _, heard = openai([server.cases()], "GET /pets")
    request = heard.received[0]
    assert request.path == "/v1/chat/completions" and request.headers["authorization"] == f"Bearer {KEY}"
    assert [message["role"] for message in request.body["messages"]] == ["system", "user"]
    assert (request.body["model"], request.body["stream"]) == ("gpt-5-mini", False)
    form = request.body["response_format"]
    assert form["type"] == "json_schema" and form["json_schema"]["strict"] is False
    assert form["json_schema"]["schema"] == schema(
        ["GET /pets", "POST /pets", "GET /pets/{id}", "DELETE /pets/{id}"], ("bob",), cases=6
    )
    assert KEY not in str(request.body)


def test_a_strict_schema_names_every_field_and_takes_what_our_own_takes(openai: Asking) -> None:
    _, heard = openai([server.cases()], "GET /pets", "POST /pets", strict=True)
    sent = heard.received[0].body["response_format"]["json_schema"]["schema"]
    strict: list[dict[str, Any]] = [sent]
    for part in strict:
        strict += [property_schema for property_schema in part.get("properties", {}).values()]
        strict += [part["items"]] if "items" in part else []
        if "properties" in part:
            assert part["additionalProperties"] is False and part["required"] == list(part["properties"])
    empty = {name: None for name in sent["properties"]["cases"]["items"]["properties"]["steps"]["items"]["properties"]}
    proposed = RIGHT | {"steps": [empty | RIGHT["steps"][0]], "cleanup": None}
    assert jsonschema_rs.validator_for(sent).is_valid({"cases": [proposed]})
    made, _ = openai([server.cases(proposed)], "GET /pets")
    assert len(made.cases) == 1


def test_a_local_server_needs_no_key(openai: Asking) -> None:
    made, heard = openai([server.cases(RIGHT)], "GET /pets", api_key="")
    assert len(made.cases) == 1 and "authorization" not in heard.received[0].headers


# --------------------------------------------------------------------------- what servers do not take


def strict_about(*refused: str, words: str = "{} is not supported") -> Callable[[Received], Reply]:
    """A server that takes none of these members of a request, nor these types of response_format."""

    def script(request: Received) -> Reply:
        form = request.body.get("response_format", {}).get("type", "")
        for name in refused:
            if name in request.body or name == form:
                what = f"response_format {form}" if name == form else name
                return server.error(400, "invalid_request_error", words.format(what), parameter=what)
        return server.cases(*(case("positive", step(key)) for key in asked(request)))

    return script


@pytest.mark.parametrize(
    ("refused", "forms"),
    [
        (("json_schema",), ["json_schema", "json_object", "json_object"]),
        (("json_schema", "json_object"), ["json_schema", "json_object", "text", "text"]),
        (("response_format",), ["json_schema", "json_object", "text", "text"]),
    ],
)
def test_a_form_that_is_refused_is_left_once_and_for_all(
    openai: Asking, refused: tuple[str, ...], forms: list[str]
) -> None:
    made, heard = openai(strict_about(*refused), spec=many(2), operations_per_call=1, concurrency=1)
    sent = [request.body.get("response_format", {}).get("type", "text") for request in heard.received]
    assert sent == forms and len(made.cases) == 2
    system = heard.received[-1].system
    assert "fits this JSON Schema" in system and '"maxItems":6' in system
    assert "fits this JSON Schema" not in heard.received[0].system


def test_calls_at_once_learn_the_same_and_give_up_no_more_than_was_refused(openai: Asking) -> None:
    made, heard = openai(strict_about("json_schema"), spec=many(12), operations_per_call=1, concurrency=4)
    assert len(made.cases) == 12
    assert {request.body.get("response_format", {}).get("type") for request in heard.received} == {
        "json_schema",
        "json_object",
    }


def test_a_server_that_knows_only_the_other_name_of_the_limit_is_obeyed(openai: Asking) -> None:
    words = "Unsupported parameter: '{}' is not supported with this model. Use 'max_completion_tokens' instead."
    made, heard = openai(strict_about("max_tokens", words=words), spec=many(2), operations_per_call=1, concurrency=1)
    assert len(made.cases) == 2 and [("max_tokens" in request.body) for request in heard.received] == [
        True,
        False,
        False,
    ]


def test_sampling_that_a_reasoning_model_refuses_is_left_out(openai: Asking) -> None:
    made, heard = openai(strict_about("temperature", "seed"), "GET /pets")
    assert len(made.cases) == 1 and len(heard.received) == 3
    assert not {"temperature", "seed"} & set(heard.received[-1].body)


def test_a_limit_beyond_the_model_is_halved_until_it_fits(openai: Asking) -> None:
    def script(request: Received) -> Reply:
        if request.most_output > 5000:
            return server.error(
                400, "invalid_request_error", "max_tokens is too large: the model supports at most 5000"
            )
        return server.cases(RIGHT)

    made, heard = openai(script, "GET /pets")
    assert len(made.cases) == 1
    assert [request.most_output for request in heard.received] == [32_768, 16_384, 8192, 4096]


def test_a_prompt_beyond_the_model_ends_with_what_to_do(openai: Asking) -> None:
    reply = server.error(400, "context_length_exceeded", "This model's maximum context length is 512 tokens")
    with pytest.raises(GenerateError, match="maximum context length") as raised:
        openai(lambda r: reply, "GET /pets")
    assert "TESTOPS_MODEL_OPERATIONS_PER_CALL" in raised.value.next_step


# --------------------------------------------------------------------------- answers and errors of several dialects


@pytest.mark.parametrize(
    "message",
    [
        {"content": json.dumps({"cases": [RIGHT]}), "reasoning_content": '{"cases": []}'},
        {"content": f'<think>{{"cases": []}} hm</think>\n{json.dumps({"cases": [RIGHT]})}'},
        {"content": [{"type": "text", "text": json.dumps({"cases": [RIGHT]})}]},
    ],
)
def test_thoughts_are_left_out_and_parts_are_put_together(openai: Asking, message: dict[str, Any]) -> None:
    choice = {"message": {"role": "assistant", **message}, "finish_reason": "stop"}
    body = {"choices": [choice], "usage": {"prompt_tokens": 5, "completion_tokens": 6}}
    made, _ = openai([Reply(body=json.dumps(body).encode())], "GET /pets")
    assert len(made.cases) == 1 and made.generation.input_tokens == 5


@pytest.mark.parametrize(
    "usage",
    [{"prompt_tokens": -5}, {"prompt_tokens": True}, {"prompt_tokens": "9"}, {"prompt_tokens": 10**12}, [], "x", None],
)
def test_a_senseless_count_of_tokens_is_not_believed(openai: Asking, usage: Any) -> None:
    choice = {"message": {"content": json.dumps({"cases": [RIGHT]})}, "finish_reason": "stop"}
    made, _ = openai([Reply(body=json.dumps({"choices": [choice], "usage": usage}).encode())], "GET /pets")
    assert len(made.cases) == 1 and 1000 < made.generation.input_tokens < 100_000


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{}", b'{"choices": {}}', b"<html>", b'{"choices": [' * 20_000, b"\xff\xfe", b'{"choices": null}'],
)
def test_an_answer_that_is_no_completion_is_asked_for_again(openai: Asking, body: bytes) -> None:
    made, heard = openai([Reply(body=body), server.cases(RIGHT)], "GET /pets")
    assert len(made.cases) == 1 and len(heard.received) == 2


@pytest.mark.parametrize("choices", [[], [None], [{}], [{"message": None}], ["x"], [{"message": {"content": {}}}]])
def test_a_completion_without_text_is_counted_as_blocked(openai: Asking, choices: Any) -> None:
    body = json.dumps({"choices": choices, "usage": {"prompt_tokens": 5, "completion_tokens": 6}}).encode()
    made, _ = openai([Reply(body=body)], "GET /pets")
    assert made.cases == () and sum(made.generation.dropped.values()) == 1


def test_an_endless_answer_is_cut_off(openai: Asking) -> None:
    with pytest.raises(GenerateError, match="more than 8,000,000 bytes"):
        openai(lambda r: Reply(body=b" " * 9_000_000), "GET /pets", attempts=1)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"error": "model \'x\' not found"}', "model 'x' not found"),
        (
            b'{"object": "error", "message": "the model is away", "type": "NotFoundError", "code": 404}',
            "the model is away",
        ),
        (b'{"detail": [{"loc": ["body"], "msg": "field required"}]}', "field required"),
        (b"<html>not here</html>", "no reason is given"),
    ],
)
def test_errors_are_read_as_servers_write_them(openai: Asking, body: bytes, words: str) -> None:
    with pytest.raises(GenerateError, match=words):
        openai(lambda r: Reply(status=404, body=body), "GET /pets")


def test_no_credit_left_is_not_waited_for(openai: Asking) -> None:
    reply = server.error(429, "insufficient_quota", "You exceeded your current quota", retry_s=0.01)
    with pytest.raises(GenerateError, match="insufficient_quota") as raised:
        openai([reply, server.cases(RIGHT)], "GET /pets")
    assert "credit" in raised.value.next_step


@pytest.mark.parametrize(
    ("name", "value"),
    [("retry-after-ms", "400"), ("Retry-After", "0.4"), ("Retry-After", "Wed, 21 Oct 2015 07:28:00 GMT")],
)
def test_every_way_to_ask_for_a_wait_is_understood(openai: Asking, name: str, value: str) -> None:
    made, heard = openai([server.error(429, headers=((name, value),)), server.cases(RIGHT)], "GET /pets")
    assert len(made.cases) == 1
    assert heard.received[1].at_s - heard.received[0].at_s >= (0.39 if "4" in value[:3] else 0)


def test_a_redirect_is_not_followed_and_the_key_stays(openai: Asking) -> None:
    with server.ModelServer(lambda r: pytest.fail("followed"), "openai") as other:
        to = ("Location", f"{other.url}/v1/chat/completions")
        for status in (301, 302, 307, 308):
            with pytest.raises(GenerateError, match="redirects"):
                openai(lambda r, s=status: Reply(status=s, headers=(to,)), "GET /pets")  # type: ignore[misc]
        assert other.received == []


@pytest.mark.parametrize(
    "url", ["", "127.0.0.1:8000", "ftp://x/v1", "http://", "http://u:p@h/v1", "http://h:99999/v1", "http://h/v1?key=1"]
)
def test_an_unusable_address_is_said_without_showing_it(openai: Asking, url: str) -> None:
    with pytest.raises(GenerateError, match="OPENAI_BASE_URL") as raised:
        openai(lambda r: pytest.fail("called"), "GET /pets", base_url=url)
    assert "u:p" not in str(raised.value)


def test_importing_the_generator_does_not_import_an_http_client() -> None:
    code = "import sys, testops_lib.generate.llm.openai; print('httpx2' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.skipif(
    not (
        (os.environ.get("OPENAI_API_KEY") or os.environ.get("OPENAI_BASE_URL"))
        and os.environ.get("TESTOPS_LIVE_OPENAI") == "1"
    ),
    reason="asks a real server: set OPENAI_API_KEY or OPENAI_BASE_URL (and OPENAI_MODEL), and TESTOPS_LIVE_OPENAI=1",
)
def test_the_real_service_obeys_the_contract() -> None:
    spec = pets()
    environment = {
        "api_key": os.environ.get("OPENAI_API_KEY", ""),
        "model": os.environ.get("OPENAI_MODEL", ""),
        "base_url": os.environ.get("OPENAI_BASE_URL", ""),
    }
    made = generate(
        provider(
            OpenAISettings(
                **{name: value for name, value in environment.items() if value},
                limits=ModelLimits(cases_per_operation=2, max_calls=4),
            )
        ),
        spec,
        spec.operations[:4],
        policy=Policy(),
    )
    assert made.cases and made.generation.input_tokens > 0 and made.generation.output_tokens > 0
    assert "answer is no JSON" not in made.generation.dropped
