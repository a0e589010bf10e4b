"""Cases of a local run: executed while more are made, until the budget is used."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from stack.samples import Sample
from testops_lib import spec as specs
from testops_lib.cli.case_stream import CaseStream
from testops_lib.execute import Engine, run
from testops_lib.generate.property.draws import Draws
from testops_lib.model import Policy, Result
from testops_lib.run.scope import make_contracts, make_plan
from testops_lib.target import Generate, PropertyBased, Scope, Target
from tests.command_line import cli
from tests.testops_lib.cli.test_cli import authorization


def test_the_first_cases_are_executed_while_others_are_drawn(sound_shop: Sample) -> None:
    target = Target(
        name="shop",
        spec=f"{sound_shop.url}/openapi.json",
        base_url=sound_shop.url,
        policy=Policy(allow_private=True, breaker_wait_s=0),
        operations=Scope(include=("GET /products*", "GET /orders*")),
        generate=Generate(sources=("property",), property=PropertyBased(examples=20)),
    )
    document = specs.load(target.spec)
    whole: list[int] = []
    stream = CaseStream(document, target, lambda made: whole.append(len(stream.results)))
    engine = Engine(make_plan(document, target), make_contracts(document, target), run="r")

    def on_result(result: Result) -> None:
        stream.results.append(result)

    run(engine, stream.lists(engine), on_result)
    assert whole[0] > 0, "nothing was executed before the plan was whole"
    assert len(stream.results) == len(stream.cases)
    assert {result.case for result in stream.results} == set(stream.cases)


@pytest.mark.long
def test_a_budget_is_used_when_the_cases_of_the_plan_are_spent(sound_shop: Sample, tmp_path: Path) -> None:
    done = cli(
        "try",
        f"{sound_shop.url}/openapi.json",
        "--base-url",
        sound_shop.url,
        "-H",
        authorization(sound_shop),
        "-o",
        "GET /products",
        "-o",
        "POST /carts",
        "--source",
        "property",
        "--examples",
        "10",
        "--max-requests",
        "150",
        "--out",
        str(tmp_path),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    requests = json.loads((tmp_path / "report.json").read_bytes())["totals"]["requests"]
    assert 145 <= requests <= 150
    assert "other random data" in done.stderr


def test_what_is_made_later_gets_its_share_of_a_budget(sound_shop: Sample, tmp_path: Path) -> None:
    done = cli(
        "try",
        f"{sound_shop.url}/openapi.json",
        "--base-url",
        sound_shop.url,
        "-o",
        "GET /products*",
        "--source",
        "rules",
        "--source",
        "property",
        "--max-requests",
        "200",
        "--out",
        str(tmp_path),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [json.loads(line) for line in (tmp_path / "results.jsonl").read_bytes().splitlines()]
    origins = {result["origin"] for line in lines if (result := line.get("result")) and result.get("requests")}
    assert origins == {"rules", "property"}


def test_rounds_go_on_within_a_budget_as_long_as_they_gain(sound_shop: Sample, tmp_path: Path) -> None:
    common = (
        "try",
        f"{sound_shop.url}/openapi.json",
        "--base-url",
        sound_shop.url,
        "-H",
        authorization(sound_shop),
        "-o",
        "GET /coupons*",
        "--max-requests",
        "5000",
        "--out",
        str(tmp_path),
    )
    done = cli(*common)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "round 1:" in done.stderr and "other random data" not in done.stderr


def test_what_random_data_adds_in_another_draw_is_new() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "integer"}}}
    with Draws() as draws:
        first, second = (draws.values(schema, valid=True, count=8, seed=seed) for seed in (1, 2))
    assert {msgspec.json.encode(value) for value in second} - {msgspec.json.encode(value) for value in first}


def test_the_results_of_a_local_run_are_a_file_that_other_commands_take(sound_shop: Sample, tmp_path: Path) -> None:
    done = cli(
        "try",
        f"{sound_shop.url}/openapi.json",
        "--base-url",
        sound_shop.url,
        "-o",
        "GET /currencies/{code}",
        "--out",
        str(tmp_path),
    )
    assert done.returncode == 0, done.stderr
    told = cli("report", str(tmp_path / "results.jsonl"), "--format", "json")
    report = json.loads((tmp_path / "report.json").read_bytes())
    assert json.loads(told.stdout)["totals"] == report["totals"]
