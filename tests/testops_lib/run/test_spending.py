"""What language models may take, from the target's file to the store."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from testops_lib.model import Generation
from testops_lib.run.generate import generate
from testops_lib.run.start import load_spec, open_run
from testops_lib.settings import Settings
from testops_lib.store import Store
from testops_lib.target import RunConf
from tests import llm_server as server
from tests.asking import asked
from tests.generation_specs import case, step
from tests.llm_server import ModelServer, Received, Reply, Usage

pytestmark = pytest.mark.integration

COUNT = 50
PRICES = "currency: USD\nmodels: {m: {input: 1, output: 10}}\n"
ONE_CALL = (2000 * 1 + 300 * 10) / 1e6


@pytest.fixture
def settings(tmp_path: Path, postgres: str, store: Store) -> Settings:
    paths = {f"/r{n}": {"get": {"responses": {"200": {"description": "ok"}}}} for n in range(COUNT)}
    document = {"openapi": "3.0.3", "info": {"title": "many", "version": "1"}, "paths": paths}
    (tmp_path / "many.json").write_text(json.dumps(document))
    (tmp_path / "prices.yaml").write_text(PRICES)
    return Settings(
        dsn=postgres, targets_dir=tmp_path, specs_dir=tmp_path, openai_model="m", prices_file=tmp_path / "prices.yaml"
    )


def target(settings: Settings, **wishes: float) -> None:
    lines = "".join(f", {name}: {value}" for name, value in wishes.items())
    text = f"spec: many.json\nbase_url: http://127.0.0.1:9\ngenerate: {{sources: [openai]{lines}}}\n"
    (settings.targets_dir / "many.yaml").write_text(text)


def answer(request: Received) -> Reply:
    usage = Usage(input=2000, output=min(300, request.most_output), cached=0)
    return server.cases(*(case("positive", step(key)) for key in asked(request)), usage=usage)


def generated(run: str, settings: Settings, order: RunConf, *, groups: int = 2) -> list[Generation]:
    """Of each group of the run's operations."""
    with ModelServer(answer, "openai") as model:
        reached = Settings(
            **{name: getattr(settings, name) for name in settings.__struct_fields__}
            | {"openai_base_url": f"{model.url}/v1"}
        )
        open_run(run, order, reached)
        found = load_spec(run, reached)
        assert len(found) == groups
        for group in found:
            generate(run, group, reached)
    with Store(settings.need_dsn()) as store:
        return store.generations(run)


def test_the_groups_of_a_run_together_stay_below_its_cap(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    target(settings, max_money=20 * ONE_CALL)
    caplog.set_level("INFO")
    made = generated("r1", settings, RunConf(target="many", max_money=8 * ONE_CALL))
    money = [each.money or 0 for each in made]
    assert 0 < sum(money) <= 8 * ONE_CALL and money[0] <= 8 * ONE_CALL * 40 / COUNT
    assert all(each.notes[0].startswith("stopped at max_money=") for each in made)
    said = caplog.text
    assert "call 1: 2,000 tokens in (0 cached), 300 out, 0.005 USD: GET /r0 and 3 more" in said
    assert "openai (m): " in said and "many: other runs of this month took 0 tokens, 0.00 USD" in said


def test_the_runs_of_a_month_together_stay_below_the_targets_cap(settings: Settings) -> None:
    order, runs = RunConf(target="many"), []
    for number in range(3):
        # Asked otherwise, or the suite of the first run would be taken as it is.
        target(settings, max_tokens_per_month=90_000, max_cases_per_operation=number + 1)
        runs.append(generated(f"r{number}", settings, order))
    tokens = [sum(each.input_tokens + each.output_tokens for each in made) for made in runs]
    assert sum(tokens) <= 90_000 and tokens[0] >= tokens[1] > tokens[2] > 0
    assert any("stopped at max_tokens=" in note for made in runs for each in made for note in each.notes)


def test_another_targets_runs_take_nothing_of_it(settings: Settings) -> None:
    target(settings, max_tokens_per_month=90_000)
    (settings.targets_dir / "other.yaml").write_text((settings.targets_dir / "many.yaml").read_text())
    first, *_, last = [generated(f"r{number}", settings, RunConf(target="many")) for number in range(3)]
    other = generated("o", settings, RunConf(target="other"))
    calls = [sum(each.calls for each in made) for made in (first, last, other)]
    assert calls[0] == calls[2] > calls[1]
