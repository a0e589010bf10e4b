from __future__ import annotations

import msgspec
import pytest

from testops_lib.generate import sources
from testops_lib.generate.feedback import Feedback, Gap
from testops_lib.generate.sources import GenerationRequest
from testops_lib.settings import Settings
from testops_lib.target import Generate, PropertyBased, Target
from tests import llm_server as server
from tests.generation_specs import pets
from tests.llm_server import ModelServer, Protocol, Reply

SPEC = pets()
TARGET = Target(name="pets", spec="pets.json", generate=Generate(property=PropertyBased(examples=6)))
ASK = GenerationRequest(spec=SPEC, operations=SPEC.operations, target=TARGET, settings=Settings())


@pytest.mark.long
def test_no_more_random_cases_are_drawn_than_the_requests_can_use() -> None:
    def drawn(most: int) -> int:
        made = sources.make("property", msgspec.structs.replace(ASK, max_requests=most))
        return max(sum(case.operation == operation.key for case in made.cases) for operation in SPEC.operations)

    few = len(SPEC.operations)
    assert drawn(few) == drawn(1) < drawn(3 * few) < drawn(0) == drawn(1000 * few)


def test_what_was_drawn_less_of_has_another_key() -> None:
    first_operation = SPEC.operations[0]
    key = sources.key("property", ASK, first_operation)
    assert key == sources.key(
        "property", msgspec.structs.replace(ASK, max_requests=1000 * len(SPEC.operations)), first_operation
    )
    assert key != sources.key("property", msgspec.structs.replace(ASK, max_requests=1), first_operation)


def test_a_further_round_is_another_question_to_a_model_alone() -> None:
    feedback = Feedback(gaps=(Gap(operation="GET /pets", reached=False),), seen={})
    further, first_operation = msgspec.structs.replace(ASK, feedback=feedback), SPEC.operations[0]
    for source in sources.NAMES:
        assert (
            sources.key(source, ASK, first_operation) != sources.key(source, further, first_operation)
        ) == sources.is_paid(source)


DEEP = "[" * 100_000


@pytest.mark.parametrize("speaks", ["gemini", "openai"])
@pytest.mark.parametrize(
    "reply",
    [
        server.error(503, "UNAVAILABLE", "later", retry_s=999),
        server.error(403, "PERMISSION_DENIED", "no such key"),
        Reply(body=b"<html>"),
        Reply(body=DEEP.encode()),
        Reply(body=b'{"candidates": ' + DEEP.encode()),
    ],
    ids=["away", "refuses", "answers a page", "answers nested lists", "answers nested candidates"],
)
def test_a_model_that_does_not_work_takes_nothing_from_the_other_sources(speaks: Protocol, reply: Reply) -> None:
    with ModelServer(lambda request: reply, speaks) as model:
        settings = Settings(
            gemini_api_key="AIzaTestKey",
            gemini_base_url=model.url,
            openai_api_key="sk-test",
            openai_base_url=f"{model.url}/v1",
            model_timeout_s=5,
        )
        target = msgspec.structs.replace(TARGET, generate=Generate(sources=(speaks, "rules")))
        failed, rules = sources.make_all(msgspec.structs.replace(ASK, target=target, settings=settings))
    assert rules.cases and not rules.generation.failed
    assert not failed.cases and failed.generation.failed
    assert f"{speaks} failed: " in next(sources.summarize(failed.generation))
